"""What `strict` costs, and how fast a half-finished execution starts again; ratios measured in the same run.

    python benchmarks/durability.py

- strict chain: a chain of 1,000 no-op nodes, against as many single-row commits with `synchronous=FULL` on
  one bare SQLite connection (one fsync each). Judged only where such a commit costs at least 100 µs.
- a strict batch on the store alone, with and without room in the WAL file (`treadle.store.sqlite.reserve`).
- strict fan-out of 10,000 and 200 concurrent chains: against the same in `batched`.
- resume: a chain of 10,000 nodes is killed half-way; the time from the start of work in a new process (after
  imports) to the first body, and of `treadle --version`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import apsw
from engine import WORKLOADS, compiled

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store.base import Batch
from treadle.store.owner import this_owner
from treadle.store.sqlite.store import SqliteStore

REPEAT = 5


def bare_commits(folder: str, count: int) -> float:
    """Seconds of `count` fsynced single-row commits."""
    path = Path(folder) / "bare.db"
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "full")
    connection.execute("CREATE TABLE t(k, v)")
    begin = time.perf_counter()
    for k in range(count):
        connection.execute("INSERT INTO t VALUES (?, ?)", (k, '{"i":1}'))
    seconds = time.perf_counter() - begin
    connection.close()
    for end in ("", "-wal", "-shm"):
        (path.parent / (path.name + end)).unlink(missing_ok=True)
    return seconds


def store_commits(folder: str, count: int, room: bool) -> float:
    """Seconds of `count` strict batches of two cells, as a chain has them, without the loop; with or without
    room in the WAL file ahead of them."""
    store = SqliteStore(Path(folder) / "commits.db")
    writer = store._writer
    if not room and writer._reserve is not None:
        writer._reserve.close()
        writer._reserve = None
    store.apply(Batch([], created=[(ExecutionCell("x", epoch=1), "")], owner=this_owner()))
    begin = time.perf_counter()
    for k in range(count):
        ended = NodeState("x", f"n{k}", epoch=1, seq=2, status=NodeStatus.COMPLETED, output=b'{"i":1}')
        begun = NodeState("x", f"n{k + 1}", epoch=1, status=NodeStatus.RUNNING)
        store.apply(Batch([ended, begun], sync=True))
    seconds = time.perf_counter() - begin
    store.close()
    Path(store.path).unlink()
    return seconds


def commits() -> None:
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        rows = [[store_commits(folder, 1000, room) for room in (True, False)] for _ in range(REPEAT)]
    ours, without = (statistics.median(column) for column in zip(*rows))
    print(f"a strict batch of two cells, without the loop: {ours * 1000:.0f} µs; without room in the WAL "
          f"file {without * 1000:.0f} µs, {without / ours:.2f} times as long")


async def once(folder: str, diagram: ExecutableDiagram, executions: int, durability: str) -> float:
    path = tempfile.mktemp(dir=folder, suffix=".db")
    async with Engine.open(path, durability=durability) as engine:  # type: ignore[arg-type]
        begin = time.perf_counter()
        handles = await asyncio.gather(*(engine.start(diagram) for _ in range(executions)))
        for handle in handles:
            await handle.result()
        return time.perf_counter() - begin


def strict() -> None:
    print(f"{'workload':24} {'strict µs/node':>15} {'against':>22} {'ratio':>6}")
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        diagram = compiled(WORKLOADS["chain-1000"][0]())
        ours, bare = [], []
        for _ in range(REPEAT):
            bare.append(bare_commits(folder, 1000))
            ours.append(asyncio.run(once(folder, diagram, 1, "strict")))
        a, b = statistics.median(ours), statistics.median(bare)
        judged = "" if b * 1000 >= 100 else "  (a commit costs under 100 µs here: not judged)"
        print(
            f"{'chain-1000':24} {a * 1000:15.1f} {f'bare commit {b * 1000:.0f} µs':>22} {a / b:6.2f}{judged}",
            flush=True)
        for name in ("fan-10000", "executions-200x10"):
            make, _, executions = WORKLOADS[name]
            graph = make()
            diagram = compiled(graph)
            ours, base = [], []
            for _ in range(REPEAT):
                base.append(asyncio.run(once(folder, diagram, executions, "batched")))
                ours.append(asyncio.run(once(folder, diagram, executions, "strict")))
            a, b = statistics.median(ours), statistics.median(base)
            nodes = len(graph) * executions / 1e6
            print(f"{name:24} {a / nodes:15.1f} {f'batched {b / nodes:.1f} µs':>22} {a / b:6.2f}", flush=True)


CHILD = """
import asyncio, sys, time
sys.path.insert(0, {here!r})
import engine as bench
from treadle.engine.engine import Engine
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store.base import Batch
from treadle.store.owner import this_owner
from treadle.store.sqlite.store import SqliteStore
from pathlib import Path
import noop, treadle.nodes.registry, treadle.store.sqlite.store, treadle.diagram.compile

async def main(verb, path):
    begin = time.perf_counter()
    async with Engine.open(path) as engine:
        if verb == "run":
            handle = await engine.start(bench.compiled(bench.chain(10_000), "slow:half"), execution_id="x")
        else:
            handle = await engine.resume("x")
            while handle.counts["completed"] < 5_001:
                await asyncio.sleep(0)
            print((time.perf_counter() - begin) * 1e3)
            await handle.cancel()
        await handle.wait()

asyncio.run(main(*sys.argv[1:]))
"""


def resume() -> None:
    """Kill a run of 10,000 nodes in the middle and time how soon the first node of the rest runs."""
    here = str(Path(__file__).parent)
    times = []
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        for k in range(3):
            path, mark = str(Path(folder) / f"{k}.db"), Path(folder) / f"{k}.half"
            environment = {**os.environ, "TREADLE_BENCH_HALF": str(mark)}
            command = [sys.executable, "-c", CHILD.format(here=here)]
            running = subprocess.Popen([*command, "run", path], env=environment)
            while not mark.exists():
                if running.poll() is not None:
                    sys.exit("the run ended before its half")
                time.sleep(0.01)
            time.sleep(0.3)  # what is recorded by then is on disk: batches are at most 0.1 s late
            running.send_signal(signal.SIGKILL)
            running.wait()
            done = subprocess.run(
                [*command, "resume", path], env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            times.append(float(done.stdout.splitlines()[0]))
    print(f"\nresume of 10,000 nodes, half finished: first node after {statistics.median(times):.0f} ms")


def version() -> None:
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-m", "treadle", "--version"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begin)
    bare = []
    for _ in range(9):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        bare.append(time.perf_counter() - begin)
    print(f"treadle --version: {statistics.median(times) * 1e3:.0f} ms (python -c pass: "
          f"{statistics.median(bare) * 1e3:.0f} ms)")


if __name__ == "__main__":
    strict()
    commits()
    resume()
    version()
