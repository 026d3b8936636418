"""What it costs an engine to be watched, and how late viewers see what happens.

    python benchmarks/monitor.py                all of it
    python benchmarks/monitor.py throughput     … or some of it: throughput, deaf, latency, requests

The server is a process beside the engine's, as that of `treadle run --serve`, or in the engine's own, as in
`treadle serve`; viewers are in a process of their own and read whole messages without looking into them, but
for one, which reads the JSON. *Throughput* is a diagram's time from the moment at which its first node ends
to its last row on disk. Each round runs it three times, in an order of its own: without viewers, with 100 on
that one execution, and without again. A ratio is that of the means of the middle halves: without viewers by
with them, and the interval that holds 90 % of such ratios of rounds drawn again (the bootstrap). The
*control* is the first without by the second: how far it is from 1 says what the machine alone does to such a
ratio. *Computing* is the same of the processor's time that the engine's process takes, all its threads
together; what the server's process and the viewers' take meanwhile stands beside. *Share* is what of its
loop's computing was done for viewers. *Deaf* viewers connect and never read. *Latency* is from `ended_at` of
a node to the message in the viewer's hands, while 1,000 nodes end in a second; *committed*: from the commit
of its row. *Requests* are for an execution that this engine has run: the first one of each kind and the
median of the next, and the longest time for which the loop could do nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import random
import resource
import statistics
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

from engine import Graph, chain, compiled, fan

from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.monitor import Monitor, Settings, serve
from treadle.store.base import Batch

VIEWERS, DEAF, AGAIN = 100, 10, 5
TOKEN = "benchmark"
SETTINGS = Settings(read_token=TOKEN, requests_per_s=1e6, burst=10**6)
SPAWN = multiprocessing.get_context("spawn")
GATE = asyncio.Event()


async def gate() -> int:
    """The first node: it ends when the viewers are there."""
    await GATE.wait()
    return 1


async def same(item: Any) -> Any:
    return item


async def beat(item: Any) -> Any:
    """A node of the steady execution: one of 20 that run side by side, 20 ms each."""
    await asyncio.sleep(0.019)
    return item


# Viewers, in a process of their own


async def _connect(port: int, token: str,
                   execution_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write((f"GET /api/executions/{execution_id}/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                  f"Authorization: Bearer {token}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                  "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                  "Sec-WebSocket-Version: 13\r\n\r\n").encode())
    answer = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in answer, answer
    return reader, writer


async def _message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    while True:
        head = await reader.readexactly(2)
        size = head[1] & 127
        if size > 125:
            size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
        body = await reader.readexactly(size)
        if head[0] & 15 == 1:
            return body
        if head[0] & 15 == 9:
            writer.write(bytes((0x8A, 0x80 | size, 0, 0, 0, 0)) + body)


async def _view(port: int, token: str, execution_id: str, viewers: int, deaf: int, reading: bool,
                ready: Connection) -> dict[str, Any]:
    found: dict[str, Any] = {"messages": 0, "bytes": 0, "late": []}

    async def watch(number: int) -> None:
        reader, writer = connections[number]
        while True:
            message = await _message(reader, writer)
            now = time.time()
            found["messages"] += 1
            found["bytes"] += len(message)
            if number == 0 and reading:
                said = json.loads(message)
                if said["event_type"] == "state_update":
                    found["late"] += [(path, now, view["ended_at"])
                                      for path, view in said["payload"].get("nodes", {}).items()
                                      if view.get("ended_at")]
                over = said["event_type"] == "end"
            else:
                over = message.startswith(b'{"event_type":"end"')
            if over:
                writer.close()
                return

    connections = [await _connect(port, token, execution_id) for _ in range(viewers)]
    for reader, writer in connections:
        await _message(reader, writer)  # the snapshot
    silent = [await _connect(port, token, execution_id) for _ in range(deaf)]
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.add_reader(ready.fileno(), lambda: told.set_result(ready.recv()))
    watching = asyncio.gather(*(watch(number) for number in range(viewers)))
    ready.send("ready")
    if await told == "leave":
        watching.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watching
    for _, writer in (*connections, *silent):
        writer.transport.abort()
    return found


def viewers_of(commands: Connection) -> None:
    while (command := commands.recv()) is not None:
        commands.send(asyncio.run(_view(*command, commands)))


class Viewers:
    """The process with the viewers."""

    def __init__(self) -> None:
        self._here, there = SPAWN.Pipe()
        self._process = SPAWN.Process(target=viewers_of, args=(there,), daemon=True)
        self._process.start()
        self.pid = self._process.pid

    async def come(self, site: Site, execution_id: str, viewers: int, deaf: int = 0,
                   reading: bool = False) -> None:
        self._here.send((site.port, site.token, execution_id, viewers, deaf, reading))
        assert await asyncio.to_thread(self._here.recv) == "ready"

    async def leave(self, *, at_once: bool) -> dict[str, Any]:
        """What they saw until now, or until all of the execution's end was told."""
        self._here.send("leave" if at_once else "stay")
        found: dict[str, Any] = await asyncio.to_thread(self._here.recv)
        return found

    def close(self) -> None:
        self._here.send(None)
        self._process.join()


# Diagrams


def gated(graph: Graph) -> ExecutableDiagram:
    """The graph, its first node held by the gate."""
    drawn = compiled(graph, "noop:body").spec
    first = drawn.nodes[0]
    nodes = (type(first)(first.id, first.type, {"call": "monitor:gate"}), *drawn.nodes[1:])
    return _compiled(DiagramSpec("bench", nodes, drawn.arrows, base=drawn.base))


def mapped(size: int, call: str, concurrency: int | None = None) -> ExecutableDiagram:
    from treadle.diagram.node import Arrow, Node
    from treadle.diagram.policy import Policy
    from treadle.ids import NodeID

    first, each = NodeID("first"), NodeID("each")
    return _compiled(DiagramSpec("bench", (
        Node(first, "code_job", {"call": "monitor:gate"}),
        Node(each, "code_job", {"call": call},
             Policy(for_each=f"{{{{ range({size}) | list }}}}", concurrency=concurrency))),
        (Arrow(first, each),), base=str(Path(__file__).parent)))


def _compiled(spec: DiagramSpec) -> ExecutableDiagram:
    from treadle.diagram.compile import compile_diagram
    from treadle.nodes.registry import default_registry

    return compile_diagram(spec, default_registry())


# Measuring


class Seconds(NamedTuple):
    """Of one run: by the clock; of the computing of the engine's process, of its loop's for viewers, of the
    server's process and of the viewers'."""

    took: float
    computed: float
    shown: float
    served: float
    viewed: float


class Site(NamedTuple):
    """Where viewers come in, how long the engine's loop has worked for them, and the server's process."""

    port: int
    token: str
    spent: Callable[[], float]
    pid: int | None = None


def computed_by(pid: int | None) -> float:
    """Seconds that a process has computed, as Linux counts them: see `clock_getcpuclockid`."""
    return 0.0 if pid is None else time.clock_gettime((~pid << 3) | 2)


@contextlib.asynccontextmanager
async def here(engine: Engine) -> AsyncIterator[Site]:
    """The server in this process."""
    async with Monitor(engine.store, engine=engine) as monitor, serve(monitor, SETTINGS) as served:
        yield Site(served.port, TOKEN, lambda: 0.0 if monitor.live is None else monitor.live.spent_s)


@contextlib.asynccontextmanager
async def beside(engine: Engine) -> AsyncIterator[Site]:
    """The server in a process of its own, as `treadle run --serve` has it."""
    from treadle.cli.serving.apart import Told
    from treadle.cli.serving.page import apart

    told = Told(engine.store.url, engine.config, str(Path(__file__).parent), 4.0)
    async with apart(told, lambda text: print(text, file=sys.stderr)) as page:
        url, _, token = page.link.partition("/?token=")
        yield Site(int(url.rpartition(":")[2]), token, lambda: 0.0, page.pid)


SERVERS = {"beside": beside, "same process": here}


async def once(engine: Engine, site: Site, diagram: ExecutableDiagram, viewers: Viewers, count: int,
               deaf: int = 0) -> tuple[Seconds, dict[str, Any]]:
    """From the gate to the last row; and what viewers saw."""
    import monitor

    monitor.GATE = asyncio.Event()
    handle = await engine.start(diagram)
    if count or deaf:
        await viewers.come(site, handle.execution_id, count, deaf)
    await asyncio.sleep(0.4)

    def now() -> Seconds:
        return Seconds(time.perf_counter(), time.process_time(), site.spent(), computed_by(site.pid),
                       computed_by(viewers.pid))

    begun = now()
    monitor.GATE.set()
    await handle.wait()
    found = Seconds(*(after - before for after, before in zip(now(), begun, strict=True)))
    seen = await viewers.leave(at_once=True) if count or deaf else {}
    await asyncio.sleep(0.2)
    return found, seen


class Round(NamedTuple):
    alone: Seconds
    watched: Seconds
    control: Seconds


async def compare(server: str, diagrams: dict[str, ExecutableDiagram], rounds: int, count: int,
                  deaf: int) -> list[float]:
    """Print a row for each diagram; their ratios by the clock."""
    viewers, order, by_clock = Viewers(), random.Random(1), list[float]()
    try:
        for name, diagram in diagrams.items():
            found: list[Round] = []
            grown: list[int] = []
            seen: dict[str, Any] = {}
            with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
                async with Engine.open(f"{folder}/runs.db") as engine, SERVERS[server](engine) as site:
                    there = engine, site, diagram, viewers
                    await once(*there, 0)
                    await once(*there, count, deaf)
                    for _ in range(rounds):
                        runs: dict[str, Seconds] = {}
                        for which in order.sample(Round._fields, 3):
                            before = _memory()
                            if which == "watched":
                                runs[which], seen = await once(*there, count, deaf)
                                grown.append(_memory() - before)
                            else:
                                runs[which], _ = await once(*there, 0)
                        found.append(Round(**runs))
            alone, watched = (
                Seconds(*map(statistics.median, zip(*runs, strict=True)))
                for runs in ([run for one in found for run in (one.alone, one.control)],
                             [one.watched for one in found]))
            each = max(count, 1)
            print(f"| {server} | {name} | {alone.took * 1e3:.0f} | {watched.took * 1e3:.0f} | "
                  f"{ratios(found, 'took')} | "
                  f"{alone.computed * 1e3:.0f} | {watched.computed * 1e3:.0f} | "
                  f"{ratios(found, 'computed')} | "
                  f"{watched.served * 1e3:.0f} | {watched.viewed * 1e3:.0f} | "
                  f"{watched.shown / watched.computed:.1%} | "
                  f"{seen['messages'] / each:.0f} | {seen['bytes'] / each / 1024:.0f} | "
                  f"{statistics.median(grown) / 2**20:.1f} |", flush=True)
            by_clock.append(middle(found, "took", "alone", "control") / middle(found, "took", "watched"))
    finally:
        viewers.close()
    return by_clock


def ratios(rounds: Sequence[Round], field: str) -> str:
    """Without viewers by with them, and the control, each with its interval."""
    def watched(runs: Sequence[Round]) -> float:
        return middle(runs, field, "alone", "control") / middle(runs, field, "watched")

    def control(runs: Sequence[Round]) -> float:
        return middle(runs, field, "alone") / middle(runs, field, "control")

    draw, told = random.Random(1), []
    for ratio in (watched, control):
        again = sorted(ratio(draw.choices(rounds, k=len(rounds))) for _ in range(2000))
        told.append(f"{ratio(rounds):.2f} ({_at(again, 0.05):.2f} to {_at(again, 0.95):.2f})")
    return " | ".join(told)


def middle(rounds: Sequence[Round], field: str, *which: str) -> float:
    """The mean of the middle half of what these runs took."""
    ranked = sorted(getattr(getattr(one, name), field) for one in rounds for name in which)
    quarter = len(ranked) // 4
    return statistics.fmean(ranked[quarter:len(ranked) - quarter])


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


HEAD = ("| server | workload | alone, ms | watched | ratio | control | computing alone, ms | watched | ratio "
        "| control | server's | viewers' | share | messages each | KB each | grown, MB |\n"
        + "|---" * 16 + "|")


def throughput(rounds: int, servers: Sequence[str]) -> None:
    _table(f"{VIEWERS} viewers", servers, rounds, VIEWERS, 0)


def deaf(rounds: int, servers: Sequence[str]) -> None:
    _table(f"{DEAF} viewers that never read", servers, rounds, 0, DEAF)


def _table(title: str, servers: Sequence[str], rounds: int, count: int, deaf: int) -> None:
    print(f"\n{title}\n\n{HEAD}")
    ratios = [ratio for server in servers
              for ratio in asyncio.run(compare(server, WORKLOADS(), rounds, count, deaf))]
    print(f"\nthe mean of the ratios by the clock: {statistics.fmean(ratios):.3f}", flush=True)


def WORKLOADS() -> dict[str, ExecutableDiagram]:
    return {"fan-out of 40,000": gated(fan(40_000)), "chain of 40,000": gated(chain(40_000)),
            "map of 40,000": mapped(40_000, "monitor:same")}


async def _latency(server: str, count: int) -> tuple[list[float], list[float]]:
    """Seconds from the ends of nodes to the viewer, and those from their commits."""
    import monitor

    viewers, committed = Viewers(), dict[str, float]()
    try:
        with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
            async with Engine.open(f"{folder}/runs.db") as engine, SERVERS[server](engine) as site:
                manager = engine.manager
                assert manager is not None

                def sealed(batch: Batch) -> None:
                    ended = [cell.node_id for cell in batch.cells if cell.ended_at is not None]
                    manager.when_durable(manager.ticket, lambda: committed.update(
                        dict.fromkeys(ended, time.time())))

                monitor.GATE = asyncio.Event()
                handle = await engine.start(steady())
                await viewers.come(site, handle.execution_id, count, reading=True)
                leave = manager.tap(sealed)
                monitor.GATE.set()
                await handle.wait()
                seen = await viewers.leave(at_once=False)
                leave()
            late = [now - ended for _, now, ended in seen["late"]]
            return sorted(late), sorted(now - committed.get(path, now) for path, now, _ in seen["late"])
    finally:
        viewers.close()


def steady() -> ExecutableDiagram:
    """20 chains of 300 nodes, 20 ms a node: 1,000 nodes end in a second."""
    from treadle.diagram.node import Arrow, Node
    from treadle.ids import NodeID

    nodes = [Node(NodeID("first"), "code_job", {"call": "monitor:gate"})]
    arrows = []
    for lane in range(20):
        before = NodeID("first")
        for turn in range(300):
            name = NodeID(f"n_{lane}_{turn}")
            nodes.append(Node(name, "code_job", {"call": "monitor:beat"}))
            arrows.append(Arrow(before, name, input="item"))
            before = name
    return _compiled(DiagramSpec("steady", tuple(nodes), tuple(arrows), base=str(Path(__file__).parent)))


def latency(servers: Sequence[str]) -> None:
    print("\nfrom a node's end to the viewer, ms, 1,000 ends a second\n\n"
          "| server | viewers | p50 | p99 | most | committed: p50 | p99 |\n" + "|---" * 7 + "|")
    for server in servers:
        for count in (1, VIEWERS):
            late, after = asyncio.run(_latency(server, count))
            figures = [_at(late, 0.5), _at(late, 0.99), late[-1], _at(after, 0.5), _at(after, 0.99)]
            print(f"| {server} | {count} | " + " | ".join(f"{one * 1e3:.0f}" for one in figures) + " |",
                  flush=True)


def _at(ranked: list[float], part: float) -> float:
    return ranked[int(len(ranked) * part)]


async def _requests(size: int) -> None:
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        async with Engine.open(f"{folder}/runs.db") as engine:
            handle = await engine.start(compiled(fan(size), "noop:body"))
            await handle.wait()
            async with here(engine) as site:
                for kind in ("", "/diagram", "/nodes?limit=500", "/timeline"):
                    ask = urllib.request.Request(
                        f"http://127.0.0.1:{site.port}/api/executions/{handle.execution_id}{kind}",
                        headers={"Authorization": f"Bearer {TOKEN}"})
                    found = [await _asked(ask) for _ in range(1 + AGAIN)]
                    again = statistics.median(seconds for seconds, _ in found[1:])
                    print(f"| {size:,} | {kind or 'the execution'} | {found[0][0] * 1e3:.0f} | "
                          f"{again * 1e3:.0f} | {found[0][1] * 1e3:.0f} | "
                          f"{max(wait for _, wait in found[1:]) * 1e3:.0f} |", flush=True)


async def _asked(ask: urllib.request.Request) -> tuple[float, float]:
    """Seconds that an answer takes, and the longest for which the loop could not turn."""
    longest = 0.0

    async def turn() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    turning = asyncio.create_task(turn())
    begun = time.perf_counter()
    await asyncio.to_thread(lambda: urllib.request.urlopen(ask).read())
    seconds = time.perf_counter() - begun
    turning.cancel()
    return seconds, longest


def requests() -> None:
    print("\nrequests, ms\n\n| nodes | what | first | again | the loop's longest wait: first | again |\n"
          "|---:|---" + "|---:" * 4 + "|")
    for size in (10_000, 100_000):
        asyncio.run(_requests(size))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="throughput, deaf, latency, requests")
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--server", choices=SERVERS, action="append", help="this one alone")
    options = parser.parse_args()
    servers = options.server or list(SERVERS)
    parts: dict[str, Callable[[], None]] = {
        "throughput": lambda: throughput(options.rounds, servers),
        "deaf": lambda: deaf(options.rounds, servers), "latency": lambda: latency(servers),
        "requests": requests}
    for name in options.parts or parts:
        parts[name]()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
