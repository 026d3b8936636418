"""What the kernel alone costs: facts in, steps out, no loop, no store, no bodies.

    python benchmarks/kernel.py

Prints µs per node and the longest single step: what it would hold an event loop up.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections import deque

from engine import WORKLOADS, compiled

from treadle.diagram.diagram import ExecutableDiagram
from treadle.kernel import facts
from treadle.kernel.commands import Perform
from treadle.kernel.execution import Kernel
from treadle.state.cell import ExecutionCell

REPEAT = 5


def once(diagram: ExecutableDiagram) -> tuple[float, float]:
    """Seconds of one execution, and of its longest step."""
    kernel = Kernel(diagram, ExecutionCell("x", epoch=1))
    begin = last = time.perf_counter()
    step = kernel.handle(facts.Started(0.0))
    longest = time.perf_counter() - last
    ready = deque(step.commands)
    while ready:
        command = ready.popleft()
        if isinstance(command, Perform):
            last = time.perf_counter()
            step = kernel.handle(facts.Finished(command.slot, 2.0, 1.0, b'{"i":1}'))
            longest = max(longest, time.perf_counter() - last)
            ready.extend(step.commands)
    return time.perf_counter() - begin, longest


def main() -> None:
    print(f"{'workload':18} {'nodes':>7} {'µs/node':>8} {'longest step ms':>16}")
    for name in ("chain-10000", "fan-10000", "layers-200x50", "fan-100000"):
        diagram = compiled(WORKLOADS[name][0]())
        gc.collect()
        gc.freeze()
        rows = [once(diagram) for _ in range(REPEAT)]
        seconds, longest = (statistics.median(column) for column in zip(*rows))
        cost = seconds / len(diagram) * 1e6
        print(f"{name:18} {len(diagram):7} {cost:8.2f} {longest * 1e3:16.2f}", flush=True)


if __name__ == "__main__":
    main()
