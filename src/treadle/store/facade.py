"""`ExecutionStateManager`: whole states of executions, written and read back through a store."""

from __future__ import annotations

import asyncio
import time

import msgspec

from treadle.errors import LeaseLost, NoSuchExecution, StoreError
from treadle.ids import NodeID
from treadle.state.cell import ExecutionCell, ExecutionState, NodeState, instant
from treadle.state.status import NodeStatus
from treadle.store.base import Batch, Store
from treadle.store.owner import this_owner

_LEASE_S = 15.0


class ExecutionStateManager:
    """Save, load and update executions that nobody runs: each write claims its execution."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._owner = this_owner()

    async def save_state(self, execution_id: str, state: ExecutionState) -> None:
        """Write a state; durable on return. It is made if it isn't there. LeaseHeld if somebody runs it."""
        cells = {**state.history, **{one.key: one for one in state.node_states.values()}}
        await asyncio.to_thread(self._save, execution_id, state, list(cells.values()))

    async def load_state(self, execution_id: str) -> ExecutionState:
        """Read a state back; `NoSuchExecution` if there is none."""
        cell, cells = await asyncio.to_thread(self.store.load, execution_id)
        return ExecutionState.of(cell, {one.key: one for one in cells}, home=self)

    async def update_node_status(self, execution_id: str, node_id: str, status: str) -> None:
        """Give the newest attempt of a node another status; durable on return."""
        state = await self.load_state(execution_id)
        known = state.node_states.get(NodeID(node_id)) or NodeState(execution_id, node_id, seq=0)
        changed = msgspec.structs.replace(known, seq=known.seq + 1, status=NodeStatus(status))
        await asyncio.to_thread(self._save, execution_id, state, [changed])

    def _save(self, execution_id: str, state: ExecutionState, cells: list[NodeState]) -> None:
        cell = state.cell or ExecutionCell(execution_id, created_at=time.time())
        try:
            lease = self.store.claim(execution_id, self._owner, _LEASE_S)
        except NoSuchExecution:
            lease = self.store.create(cell, "", self._owner, _LEASE_S)
        cell = msgspec.structs.replace(
            cell, epoch=lease.epoch, seq=cell.seq + 1, status=state.status,
            started_at=instant(state.start_time), ended_at=instant(state.end_time))
        fresh = [msgspec.structs.replace(one, epoch=lease.epoch) for one in cells]
        written = self.store.apply(Batch(fresh, [cell], released=[lease], sync=True))
        if written.refused:
            raise LeaseLost(f"execution {execution_id} was taken over while it was saved: load it again")
        if written.failed:
            key, reason = written.failed[0]
            raise StoreError(f"{len(written.failed)} cells of {execution_id} can't be written; "
                             f"{key.node_id}: {reason}")
