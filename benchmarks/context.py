"""What the shared context costs: a snapshot and transactions at 10, 1,000 and 100,000 keys, in microseconds.

    python benchmarks/context.py

The columns should be flat: nothing depends on how many keys there are. *held* is the same transaction while
1,000 older snapshots are alive. The last line is a durable write from a body, with its part in the batch, as
a ratio to the same node without it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

from treadle.diagram.builder import Diagram, node
from treadle.engine.engine import Engine
from treadle.state.context import SharedContext, Snapshot

SIZES = (10, 1_000, 100_000)
TURNS = 2_000
REPEAT = 5


def filled(size: int) -> SharedContext:
    shared = SharedContext("e", lock=threading.Lock(), now=time.time)
    with shared.transaction(writer="bench") as tx:
        for number in range(size):
            tx[f"variables.n{number}"] = number
    return shared


def transact(shared: SharedContext, turn: int) -> None:
    with shared.transaction(writer="bench") as tx:
        tx["variables.n1"] = tx["variables.n2"] + tx["variables.n3"] + turn


def write(shared: SharedContext, turn: int) -> None:
    shared.variables["n4"] = turn


def read(shared: SharedContext, turn: int) -> None:
    shared.variables["n5"]


OPERATIONS: dict[str, Callable[[SharedContext, int], Any]] = {
    "snapshot": lambda shared, turn: shared.snapshot(),
    "read a value": read,
    "write a value": write,
    "update": lambda shared, turn: shared.update("variables.n6", lambda n: n + 1),
    "transaction, 2 reads and a write": transact,
}


def cost(shared: SharedContext, act: Callable[[SharedContext, int], Any]) -> float:
    """The median of some turns, in microseconds."""
    times = []
    for _ in range(REPEAT):
        begin = time.perf_counter()
        for turn in range(TURNS):
            act(shared, turn)
        times.append((time.perf_counter() - begin) / TURNS * 1e6)
    return statistics.median(times)


def held(size: int) -> float:
    shared = filled(size)
    kept: list[Snapshot] = []
    for turn in range(1_000):
        kept.append(shared.snapshot())
        transact(shared, turn)
    return cost(shared, transact)


@node
async def quiet(number: int) -> int:
    return number


@node
async def sharing(number: int, context: Any) -> int:
    context.variables[f"n{number % 100}"] = number
    return number


def fan(body: Any, width: int = 5_000) -> Diagram:
    with Diagram("fan") as diagram:
        body.map(list(range(width)), concurrency=256)
    return diagram


async def seconds(diagram: Diagram) -> float:
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        async with Engine.open(f"{folder}/bench.db") as engine:
            begin = time.perf_counter()
            await (await engine.start(diagram)).result()
            return time.perf_counter() - begin


def main() -> None:
    print(f"{'µs':34}" + "".join(f"{size:>10,}" for size in SIZES) + "  keys")
    for name, act in OPERATIONS.items():
        print(f"{name:34}" + "".join(f"{cost(filled(size), act):10.2f}" for size in SIZES), flush=True)
    print(f"{'transaction, held':34}" + "".join(f"{held(size):10.2f}" for size in SIZES), flush=True)
    plain, shared = [], []
    for _ in range(REPEAT):
        plain.append(asyncio.run(seconds(fan(quiet))))
        shared.append(asyncio.run(seconds(fan(sharing))))
    a, b = statistics.median(plain), statistics.median(shared)
    print(f"\na map of 5,000 durable nodes: {a / 5e-3:.1f} µs a node; each with a write to the context "
          f"{b / 5e-3:.1f}, {b / a:.2f} times as long")


if __name__ == "__main__":
    main()
