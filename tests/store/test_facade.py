"""`ExecutionStateManager`: whole states in, whole states out."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from treadle.errors import LeaseHeld, LeaseLost, NoSuchExecution, StoreError
from treadle.ids import NodeID
from treadle.state.cell import ExecutionState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import ExecutionStateManager, MemoryStore, open_store
from treadle.store.owner import this_owner
from treadle.testing.contract import a_cell, an_execution


def test_a_state_is_saved_changed_and_loaded() -> None:
    async def main() -> None:
        manager = ExecutionStateManager(MemoryStore())
        started = datetime(2026, 1, 2, tzinfo=UTC)
        nodes = {NodeID("a"): a_cell("a", status=NodeStatus.COMPLETED, output=b"1"), NodeID("b"): a_cell("b")}
        await manager.save_state("run", ExecutionState("run", "running", nodes, started))
        await manager.update_node_status("run", "b", "failed")
        await manager.update_node_status("run", "c", "skipped")

        state = await manager.load_state("run")
        assert (state.status, state.start_time, state.end_time) == (ExecutionStatus.RUNNING, started, None)
        assert {path: cell.status.value for path, cell in state.node_states.items()} == {
            "a": "completed", "b": "failed", "c": "skipped"}
        assert state.node_states[NodeID("a")].output == b"1"

        before = state.node_states[NodeID("b")]
        state.node_states[NodeID("b")] = msgspec.structs.replace(before, status=NodeStatus.CANCELLED)
        state.status = ExecutionStatus.CANCELLED
        await state.persist()
        again = await manager.load_state("run")
        assert again.status is ExecutionStatus.CANCELLED
        assert again.node_states[NodeID("b")].status is NodeStatus.CANCELLED

    asyncio.run(main())


def test_what_can_not_be_done_is_said(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state.db")
    manager = ExecutionStateManager(store)

    async def main() -> None:
        with pytest.raises(NoSuchExecution):
            await manager.load_state("run")
        store.create(an_execution(), "", this_owner(), 15)
        with pytest.raises(LeaseHeld, match="run by process"):
            await manager.update_node_status("run", "a", "failed")
        cell = a_cell("n", execution_id="new", worker="\ud800")
        bad = ExecutionState("new", "running", {NodeID("n"): cell})
        with pytest.raises(StoreError, match="1 cells of new can't be written; n: "):
            await manager.save_state("new", bad)
        with pytest.raises(ValueError, match="bogus"):
            await manager.update_node_status("new", "n", "bogus")

    asyncio.run(main())
    store.close()


def test_a_transaction_is_whole_or_nothing() -> None:
    clock = [0.0]

    async def main() -> None:
        store = MemoryStore(now=lambda: clock[-1])
        manager = ExecutionStateManager(store)
        nodes = {NodeID("a"): a_cell("a", status=NodeStatus.RUNNING), NodeID("b"): a_cell("b")}
        await manager.save_state("run", ExecutionState("run", "running", nodes))

        def end(state: ExecutionState, name: str) -> None:
            known = state.node_states[NodeID(name)]
            state.node_states[NodeID(name)] = msgspec.structs.replace(known, status=NodeStatus.COMPLETED)

        async with manager.transaction("run") as state:
            end(state, "a")
            end(state, "b")
            state.status = ExecutionStatus.COMPLETED
            with pytest.raises(LeaseHeld):
                await manager.update_node_status("run", "a", "failed")
        after = await manager.load_state("run")
        assert {cell.status for cell in after.node_states.values()} == {NodeStatus.COMPLETED}
        assert after.status is ExecutionStatus.COMPLETED

        with pytest.raises(KeyError):
            async with manager.transaction("run") as state:
                state.status = ExecutionStatus.FAILED
                end(state, "nobody")
        assert (await manager.load_state("run")).status is ExecutionStatus.COMPLETED
        await manager.update_node_status("run", "a", "failed")  # and nobody holds it

        with pytest.raises(LeaseLost, match="taken over"):
            async with manager.transaction("run") as state:
                state.status = ExecutionStatus.FAILED
                clock.append(60.0)
                store.claim("run", this_owner(), 15)
        assert (await manager.load_state("run")).status is ExecutionStatus.COMPLETED

    asyncio.run(main())


def test_updates_at_once_wait_for_each_other_and_none_is_lost(tmp_path: Path) -> None:
    async def main() -> None:
        store = open_store(tmp_path / "state.db")
        manager = ExecutionStateManager(store)
        await manager.save_state("run", ExecutionState("run", "running", {}))
        await asyncio.gather(*(manager.update_node_status("run", f"n{k}", "completed") for k in range(10)))
        state = await manager.load_state("run")
        assert len(state.node_states) == 10 and state.status is ExecutionStatus.RUNNING
        with pytest.raises(ValueError, match="can't be taken away"):
            async with manager.transaction("run") as state:
                state.node_states.clear()
                state.history.clear()
        store.close()

    asyncio.run(main())
