"""What a durable node costs, as a ratio to the same graph in bare asyncio, measured in the same run.

    python benchmarks/engine.py                every workload, durability batched, in a process of its own
    python benchmarks/engine.py chain-1000 …   some of them
    python benchmarks/engine.py --durability memory

A node is `async def body(...): return {"i": n}`. The time runs from `Engine.start` to the last row on disk.
*The floor* is the same graph without an engine: one asyncio task a node, results in a dict (chain: `await
create_task`; fan-out: `create_task` and `gather`; layers: `graphlib.TopologicalSorter` and tasks; executions:
200 chains side by side). Floor and engine take turns; the medians are compared. What takes less than 50 ms is
run three times as often. The peak of memory is that of a process which compiles and runs the graph once,
without the floor.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import graphlib
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from noop import body

from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.node import Arrow, Node
from treadle.engine.engine import Engine
from treadle.ids import NodeID

Graph = list[list[int]]  # the predecessors of every node


def chain(n: int) -> Graph:
    return [[i - 1] if i else [] for i in range(n)]


def fan(n: int) -> Graph:
    return [[], *([0] for _ in range(n)), list(range(1, n + 1))]


def layers(depth: int, width: int, seed: int = 1) -> Graph:
    rng = random.Random(seed)
    return [[] if i < width else [(i // width - 1) * width + k for k in rng.sample(range(width), 3)]
            for i in range(depth * width)]


def compiled(graph: Graph, call: str = "noop:body") -> ExecutableDiagram:
    """The graph as a diagram of `code_job` nodes that call one function."""
    from treadle.diagram.compile import compile_diagram
    from treadle.nodes.registry import default_registry

    names = [NodeID(f"node_{i:06d}") for i in range(len(graph))]
    return compile_diagram(DiagramSpec(
        "bench", tuple(Node(name, "code_job", {"call": call}) for name in names),
        tuple(Arrow(names[j], names[i]) for i, preds in enumerate(graph) for j in preds),
        base=str(Path(__file__).parent)), default_registry())


# The floors


async def floor_chain(graph: Graph) -> None:
    results: dict[int, Any] = {}
    for i in range(len(graph)):
        results[i] = await asyncio.create_task(body())


async def floor_fan(graph: Graph) -> None:
    results: dict[int, Any] = {0: await asyncio.create_task(body())}
    tasks = [asyncio.create_task(body()) for _ in range(len(graph) - 2)]
    for i, result in enumerate(await asyncio.gather(*tasks)):
        results[i + 1] = result
    results[len(graph) - 1] = await asyncio.create_task(body())


async def floor_layers(graph: Graph) -> None:
    results: dict[int, Any] = {}
    sorter = graphlib.TopologicalSorter(dict(enumerate(graph)))
    sorter.prepare()
    done: asyncio.Queue[int] = asyncio.Queue()
    tasks = set()

    async def run(i: int) -> None:
        results[i] = await body()
        done.put_nowait(i)

    while sorter.is_active():
        for i in sorter.get_ready():
            task = asyncio.create_task(run(i))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        sorter.done(await done.get())
        while not done.empty():
            sorter.done(done.get_nowait())


async def floor_many(graph: Graph) -> None:
    await asyncio.gather(*(asyncio.create_task(floor_chain(graph)) for _ in range(200)))


WORKLOADS: dict[str, tuple[Callable[[], Graph], Callable[[Graph], Awaitable[None]], int]] = {
    "chain-1000": (lambda: chain(1000), floor_chain, 1),
    "chain-10000": (lambda: chain(10_000), floor_chain, 1),
    "fan-10000": (lambda: fan(10_000), floor_fan, 1),
    "layers-200x50": (lambda: layers(200, 50), floor_layers, 1),
    "executions-200x10": (lambda: chain(10), floor_many, 200),
    "fan-100000": (lambda: fan(100_000), floor_fan, 1),
}

SHORT = ("chain-1000", "executions-200x10")


class Gaps:
    """The longest time that the event loop did not turn."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0.001)
            now = time.perf_counter()
            self.longest, last = max(self.longest, now - last), now


async def measure(name: str, durability: str, repeat: int) -> dict[str, Any]:
    make, floor, executions = WORKLOADS[name]
    graph = make()
    diagram = compiled(graph)
    nodes = len(graph) * executions
    if repeat == 1:
        graph = []  # memory is measured: only the floor needs it
    gc.collect()
    gc.freeze()
    floors, times, gaps, stats = [], [], [], {}
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        for k in range(repeat):
            begin = time.perf_counter()
            if repeat > 1:
                await floor(graph)
            floors.append(time.perf_counter() - begin)
            url = "memory:" if durability == "memory" else str(Path(folder) / f"{k}.db")
            async with Engine.open(url, durability=durability) as engine:
                gap = Gaps()
                watching = asyncio.create_task(gap.watch())
                await asyncio.sleep(0.01)
                begin = time.perf_counter()
                handles = await asyncio.gather(*(engine.start(diagram) for _ in range(executions)))
                for handle in handles:
                    await handle.result()
                times.append(time.perf_counter() - begin)
                watching.cancel()
                gaps.append(gap.longest)
                stats = dict(engine.manager.stats) if engine.manager is not None else {}
    cost, base = statistics.median(times), statistics.median(floors)
    return {"workload": name, "nodes": nodes, "us": cost / nodes * 1e6, "floor_us": base / nodes * 1e6,
            "ratio": cost / base, "gap_ms": statistics.median(gaps) * 1e3,
            "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "rows": stats.get("rows_written", stats.get("updates_processed", 0)),
            "batches": stats.get("batches_written", 0)}


def child(name: str, durability: str, repeat: int) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, __file__, name, "--child", "--durability", durability, "--repeat", str(repeat)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("workloads", nargs="*", help=", ".join(WORKLOADS))
    parser.add_argument("--durability", default="batched", choices=["batched", "strict", "memory"])
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        row = asyncio.run(measure(options.workloads[0], options.durability, options.repeat))
        print(json.dumps(row))
        return
    print(f"durability {options.durability}, medians of {options.repeat} runs")
    print(
        f"{'workload':18} {'nodes':>7} {'µs/node':>8} {'floor':>6} {'ratio':>6} {'gap ms':>7} {'RSS MB':>7} "
        f"{'updates':>8} {'batches':>8}"
    )
    for name in options.workloads or WORKLOADS:
        row = child(name, options.durability, options.repeat * (3 if name in SHORT else 1))
        row["rss_mb"] = child(name, options.durability, 1)["rss_mb"]
        print(
            f"{row['workload']:18} {row['nodes']:7} {row['us']:8.2f} {row['floor_us']:6.2f} "
            f"{row['ratio']:6.2f} {row['gap_ms']:7.1f} {row['rss_mb']:7.0f} {row['rows']:8} "
            f"{row['batches']:8}", flush=True)


if __name__ == "__main__":
    main()
