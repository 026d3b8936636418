"""A loop that never rests must not keep the writer thread from the GIL."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store import StateManager, open_store


def test_a_loop_that_turns_all_the_time_does_not_starve_the_writer(tmp_path: Path) -> None:
    """Turns shorter than the switch interval give the GIL up for an instant only, which no thread can use."""

    async def main() -> None:
        store = open_store(tmp_path / "state.db")
        manager = StateManager(store=store, batch_interval=0.01)
        await manager.start()
        await manager.create(ExecutionCell("x", epoch=1), "")
        before, n, until = manager.stats["batches_written"], 0, time.monotonic() + 5
        while manager.stats["batches_written"] < before + 3:
            assert time.monotonic() < until, "nothing is written while the loop is busy"
            turn = time.monotonic() + 0.002
            while time.monotonic() < turn:
                n += 1
                manager.record([NodeState("x", f"n{n}", epoch=1, status=NodeStatus.COMPLETED)])
            await asyncio.sleep(0)
        await manager.stop()
        store.close()

    asyncio.run(main())
