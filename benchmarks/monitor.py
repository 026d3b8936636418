"""What it costs an engine to be watched, and how late viewers see what happens.

    python benchmarks/monitor.py                all of it
    python benchmarks/monitor.py throughput     … or some of it: throughput, deaf, latency

The server is in the engine's process; viewers are in a process of their own and read whole messages without
looking into them, but for one, which reads the JSON. *Throughput* is a diagram's time from the moment at
which its first node ends to its last row on disk, without viewers and with 100 on that one execution, by
turns; the ratio is that of the medians. *Share* is what of the loop's computing in that time was done for
viewers. *Deaf* viewers connect and never read. *Latency* is from `ended_at` of a node to the message in the
viewer's hands, while 1,000 nodes end in a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from engine import Graph, chain, compiled, fan

from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.monitor import Monitor, Settings, serve

VIEWERS, DEAF = 100, 10
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


async def _connect(port: int, execution_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    writer.write((f"GET /api/executions/{execution_id}/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
                  f"Authorization: Bearer {TOKEN}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
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


async def _view(port: int, execution_id: str, viewers: int, deaf: int, reading: bool, ready: Connection
                ) -> dict[str, Any]:
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
                    views = said["payload"].get("nodes", {}).values()
                    found["late"] += [now - view["ended_at"] for view in views if view.get("ended_at")]
                over = said["event_type"] == "end"
            else:
                over = message.startswith(b'{"event_type":"end"')
            if over:
                writer.close()
                return

    connections = [await _connect(port, execution_id) for _ in range(viewers)]
    for reader, writer in connections:
        await _message(reader, writer)  # the snapshot
    silent = [await _connect(port, execution_id) for _ in range(deaf)]
    ready.send("ready")
    if viewers:
        await asyncio.gather(*(watch(number) for number in range(viewers)))
    else:
        await asyncio.to_thread(ready.recv)
    for _, writer in silent:
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

    async def come(self, port: int, execution_id: str, viewers: int, deaf: int = 0,
                   reading: bool = False) -> None:
        self._here.send((port, execution_id, viewers, deaf, reading))
        assert await asyncio.to_thread(self._here.recv) == "ready"

    async def left(self, tell: bool = False) -> dict[str, Any]:
        if tell:
            self._here.send("go")
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


async def once(engine: Engine, watching: Monitor, port: int, diagram: ExecutableDiagram, viewers: Viewers,
               count: int, deaf: int = 0) -> tuple[float, float, dict[str, Any]]:
    """Seconds from the gate to the last row, the share of the loop's work that was done for viewers, and what
    they saw."""
    import monitor

    monitor.GATE = asyncio.Event()
    handle = await engine.start(diagram)
    if count or deaf:
        await viewers.come(port, handle.execution_id, count, deaf)
    await asyncio.sleep(0.3)
    begun, worked, spent = time.perf_counter(), time.thread_time(), _spent(watching)
    monitor.GATE.set()
    await handle.wait()
    took = time.perf_counter() - begun
    share = (_spent(watching) - spent) / (time.thread_time() - worked)
    seen = await viewers.left(tell=not count) if count or deaf else {}
    await asyncio.sleep(0.1)
    return took, share, seen


def _spent(watching: Monitor) -> float:
    return 0.0 if watching.live is None else watching.live.spent_s


async def compare(diagrams: dict[str, ExecutableDiagram], rounds: int, count: int, deaf: int) -> None:
    viewers = Viewers()
    try:
        for name, diagram in diagrams.items():
            alone: list[float] = []
            watched: list[float] = []
            shares: list[float] = []
            with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
                async with Engine.open(f"{folder}/runs.db") as engine, Monitor(
                        engine.store, engine=engine) as monitor, serve(monitor, SETTINGS) as served:
                    there = engine, monitor, served.port, diagram, viewers
                    await once(*there, 0)
                    for _ in range(rounds):
                        alone.append((await once(*there, 0))[0])
                        before = _memory()
                        took, share, seen = await once(*there, count, deaf)
                        grown = _memory() - before
                        watched.append(took)
                        shares.append(share)
            bare, full = statistics.median(alone), statistics.median(watched)
            each = max(count, 1)
            print(f"| {name} | {bare * 1e3:.0f} | {full * 1e3:.0f} | {bare / full:.3f} | "
                  f"{statistics.median(shares):.1%} | {seen['messages'] / each:.0f} | "
                  f"{seen['bytes'] / each / 1024:.0f} | {grown / 2**20:.1f} |", flush=True)
    finally:
        viewers.close()


def _memory() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


HEAD = ("| workload | alone, ms | watched, ms | ratio | share | messages each | KB each | grown, MB |\n"
        + "|---" * 8 + "|")


def throughput(rounds: int) -> None:
    print(f"{VIEWERS} viewers\n\n{HEAD}")
    asyncio.run(compare(WORKLOADS(), rounds, VIEWERS, 0))


def deaf(rounds: int) -> None:
    print(f"\n{DEAF} viewers that never read\n\n{HEAD}")
    asyncio.run(compare(WORKLOADS(), rounds, 0, DEAF))


def WORKLOADS() -> dict[str, ExecutableDiagram]:
    return {"fan-out of 10,000": gated(fan(10_000)), "chain of 10,000": gated(chain(10_000)),
            "map of 20,000": mapped(20_000, "monitor:same")}


async def _latency(elsewhere: bool, count: int) -> list[float]:
    viewers = Viewers()
    try:
        with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
            url = f"{folder}/runs.db"
            async with Engine.open(url) as engine:
                diagram = steady()
                import monitor as module

                module.GATE = asyncio.Event()
                if elsewhere:
                    here, there = SPAWN.Pipe()
                    server = SPAWN.Process(target=_serve, args=(url, there), daemon=True)
                    server.start()
                    port = await asyncio.to_thread(here.recv)
                    handle = await engine.start(diagram)
                    await viewers.come(port, handle.execution_id, count, reading=True)
                    module.GATE.set()
                    await handle.wait()
                    seen = await viewers.left()
                    here.send(None)
                    server.join()
                else:
                    async with Monitor(engine.store, engine=engine) as monitor, serve(
                            monitor, SETTINGS) as served:
                        handle = await engine.start(diagram)
                        await viewers.come(served.port, handle.execution_id, count, reading=True)
                        module.GATE.set()
                        await handle.wait()
                        seen = await viewers.left()
            late: list[float] = seen["late"]
            return late
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


def _serve(url: str, done: Connection) -> None:
    async def main() -> None:
        async with Monitor(url) as monitor, serve(monitor, SETTINGS) as served:
            done.send(served.port)
            await asyncio.to_thread(done.recv)

    asyncio.run(main())


def latency() -> None:
    print("\nfrom a node's end to the viewer, ms, 1,000 ends a second\n\n"
          "| server | viewers | p50 | p99 | most |\n" + "|---" * 5 + "|")
    for where, elsewhere in (("in the engine's process", False), ("in another process", True)):
        for count in (1, VIEWERS):
            late = sorted(asyncio.run(_latency(elsewhere, count)))
            middle, most = late[len(late) // 2], late[len(late) * 99 // 100]
            print(f"| {where} | {count} | {middle * 1e3:.0f} | {most * 1e3:.0f} | {late[-1] * 1e3:.0f} |",
                  flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="throughput, deaf, latency")
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "throughput": lambda: throughput(options.rounds), "deaf": lambda: deaf(options.rounds),
        "latency": latency}
    for name in options.parts or parts:
        parts[name]()


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(__file__))
    main()
