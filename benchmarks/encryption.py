"""What encryption costs: the same executions in a plain store and in an encrypted one, by turns.

    python benchmarks/encryption.py

Medians of each, and the median of the ratios of two neighbours. The goal is 1.3 on the fan-out.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time

from engine import WORKLOADS, compiled

from treadle.crypto.keys import new_key
from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.store import encryption_key

REPEAT = 7


async def once(folder: str, diagram: ExecutableDiagram, executions: int) -> float:
    path = tempfile.mktemp(dir=folder, suffix=".db")
    async with Engine.open(path) as engine:
        begin = time.perf_counter()
        handles = await asyncio.gather(*(engine.start(diagram) for _ in range(executions)))
        for handle in handles:
            await handle.result()
        return time.perf_counter() - begin


def main() -> None:
    print(f"{'workload':24} {'plain µs/node':>15} {'encrypted':>10} {'ratio':>6}")
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        for name in ("fan-10000", "chain-1000", "executions-200x10"):
            make, _, executions = WORKLOADS[name]
            graph = make()
            diagram = compiled(graph)
            plain, sealed = [], []
            for _ in range(REPEAT):
                plain.append(asyncio.run(once(folder, diagram, executions)))
                with encryption_key(new_key()):
                    sealed.append(asyncio.run(once(folder, diagram, executions)))
            a, b = statistics.median(plain), statistics.median(sealed)
            ratio = statistics.median(theirs / ours for ours, theirs in zip(plain, sealed))
            nodes = len(graph) * executions / 1e6
            print(f"{name:24} {a / nodes:15.1f} {b / nodes:10.1f} {ratio:6.2f}", flush=True)


if __name__ == "__main__":
    main()
