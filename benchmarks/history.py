"""What a history of files costs: a fan-out of 5,000 no-op nodes with `--state-history` and without, by turns.

    python benchmarks/history.py [NODES]

`run` is the time to the result, on disk (durability batched); medians of 9 rounds and their ratio. `rest` is
what the writer still does then, alone, until every file is there: two for each node.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

from engine import compiled, fan

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.engine import Engine
from treadle.engine.history import inputs_in
from treadle.store.history import HistoryWriter

ROUNDS = 9


async def once(diagram: ExecutableDiagram, folder: Path, *, recorded: bool) -> tuple[float, float]:
    """Seconds to the result, and from there to the last file."""
    async with Engine.open(f"sqlite:///{folder}/runs.db") as engine:
        assert engine.manager is not None
        writer = HistoryWriter(folder / "history", engine.manager, inputs=inputs_in(engine))
        if recorded:
            engine.bus.subscribe(writer)
        begun = time.perf_counter()
        await (await engine.start(diagram)).result()
        ran = time.perf_counter()
        await engine.bus.drain()
        await writer.close()
        return ran - begun, time.perf_counter() - ran


def main() -> None:
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 5_000
    diagram = compiled(fan(nodes))
    plain, full, rest = [], [], []
    for _ in range(ROUNDS):
        for recorded in (False, True):
            with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
                took = asyncio.run(once(diagram, Path(folder), recorded=recorded))
            (full if recorded else plain).append(took[0])
            if recorded:
                rest.append(took[1])
    a, b, c = (statistics.median(times) * 1000 for times in (plain, full, rest))
    print(f"| fan-out of {nodes:,} | ms |\n|---|---|\n| run, without a history | {a:.0f} |\n"
          f"| run, with one | {b:.0f} ({b / a:.2f} ×) |\n"
          f"| rest | {c:.0f} ({c / nodes * 1000:.0f} µs a node) |")


if __name__ == "__main__":
    main()
