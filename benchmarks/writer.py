"""What the writer thread takes from a busy event loop: 100,000 cells are written while a coroutine spins.

    python benchmarks/writer.py

The coroutine's rate is compared with its rate alone and with its rate beside a thread that never holds the
GIL (SHA-256 of large buffers): on a machine whose two cores share one, or that others use too, that second
figure tells what the writer costs and what the machine does.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store import StateManager, open_store

CELLS = 100_000
TURN_S = 0.5
REPEAT = 5


async def spin(goes_on: Callable[[], bool]) -> tuple[float, float]:
    """Turns of the loop a second while something goes on, and the longest gap between two of them in ms."""
    turns, longest = 0, 0.0
    begin = last = time.perf_counter()
    while goes_on():
        for _ in range(200):
            sum(range(20))
        await asyncio.sleep(0)
        now = time.perf_counter()
        longest, last, turns = max(longest, now - last), now, turns + 1
    return turns / (last - begin), longest * 1e3


def a_while() -> Callable[[], bool]:
    end = time.perf_counter() + TURN_S
    return lambda: time.perf_counter() < end


@contextmanager
def thread_without_gil() -> Iterator[None]:
    stop = threading.Event()
    buffer = bytes(20_000_000)

    def work() -> None:
        while not stop.is_set():
            hashlib.sha256(buffer).digest()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="treadle-bench-") as folder:
        store = open_store(f"{folder}/writer.db")
        manager = StateManager(store=store)
        await manager.start()
        await manager.create(ExecutionCell("run", epoch=1), "")
        cells = [NodeState("run", f"node{n}", epoch=1, status=NodeStatus.COMPLETED, started_at=1.79e9 + n,
                           ended_at=1.79e9 + n + 0.5, output=b'{"i":%d}' % n, claims=1) for n in range(CELLS)]
        gc.collect()
        gc.freeze()
        rows = []
        for _ in range(REPEAT):
            alone, _ = await spin(a_while())
            with thread_without_gil():
                beside, _ = await spin(a_while())
            begin = time.perf_counter()
            for start in range(0, CELLS, 5):
                manager.record(cells[start:start + 5])
            recorded = time.perf_counter()
            flushing = asyncio.create_task(manager.flush())
            rate, gap = await spin(lambda flushing=flushing: not flushing.done())  # type: ignore[misc]
            written = time.perf_counter() - begin
            rows.append((rate / alone, rate / beside, gap, (recorded - begin) / CELLS * 1e6, CELLS / written))
            cells = [msgspec.structs.replace(cell, seq=cell.seq + 1) for cell in cells]
        kept, kept_beside, gap, record_us, rows_s = (statistics.median(column) for column in zip(*rows))
        print(f"the loop keeps {kept:.0%} of its rate alone, {kept_beside:.0%} of its rate beside a thread "
              "without the GIL")
        print(f"longest gap {gap:.1f} ms; {record_us:.2f} µs to record a cell; {rows_s:,.0f} rows/s")
        await manager.stop()
        store.close()


if __name__ == "__main__":
    asyncio.run(main())
