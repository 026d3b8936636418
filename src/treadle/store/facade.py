"""`ExecutionStateManager`: whole states of executions, written and read back through a store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

import msgspec

from treadle.errors import LeaseLost, NoSuchExecution, StoreError
from treadle.ids import NodeID
from treadle.state.cell import ExecutionCell, ExecutionState, NodeState, instant
from treadle.state.status import NodeStatus
from treadle.store.base import Batch, Lease, Store
from treadle.store.owner import this_owner
from treadle.undo import undone_async

_LEASE_S = 15.0


class ExecutionStateManager:
    """Save, load and update executions that nobody runs: each write claims its execution."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._owner = this_owner()
        self._updating: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def save_state(self, execution_id: str, state: ExecutionState) -> None:
        """Write a state; durable on return. It is made if it isn't there. LeaseHeld if somebody runs it."""
        await asyncio.to_thread(self._save, execution_id, state, _cells(state))

    async def load_state(self, execution_id: str) -> ExecutionState:
        """Read a state back, to go on with for instance; `NoSuchExecution` if there is none."""
        cell, cells = await asyncio.to_thread(self.store.load, execution_id)
        context = await asyncio.to_thread(self.store.context, execution_id)
        return ExecutionState.of(cell, {one.key: one for one in cells}, home=self, context=context)

    async def update_node_status(self, execution_id: str, node_id: str, status: str) -> None:
        """Give the newest attempt of a node another status; durable on return."""
        wanted = NodeStatus(status)
        ours = self._updating.setdefault(execution_id, asyncio.Lock())  # we are not our own rivals
        async with ours, self.transaction(execution_id) as state:
            known = state.node_states.get(NodeID(node_id)) or NodeState(execution_id, node_id, seq=0)
            state.node_states[NodeID(node_id)] = msgspec.structs.replace(
                known, seq=known.seq + 1, status=wanted)

    @asynccontextmanager
    async def transaction(self, execution_id: str) -> AsyncIterator[ExecutionState]:
        """Change a state in a block: all that the block did to it is written when it ends well, and durable
        then; nothing of it if it raises.

        The execution is claimed for that long: LeaseHeld at once if somebody runs it, LeaseLost at the end if
        it took so long (15 s) that somebody took it over. NoSuchExecution.
        """
        lease = await asyncio.to_thread(self.store.claim, execution_id, self._owner, _LEASE_S)
        async with undone_async(asyncio.to_thread, self.store.apply, Batch([], released=[lease])):
            state = await self.load_state(execution_id)
            before, shared = {one.key: one for one in _cells(state)}, dict(state.context)
            yield state
            if shared.keys() - state.context.keys() or before.keys() - {one.key for one in _cells(state)}:
                raise ValueError("cells can't be taken away from a state: give them another status")
        changed = [one for one in _cells(state) if before.get(one.key) is not one]
        state.context = {key: one for key, one in state.context.items() if shared.get(key) is not one}
        await asyncio.to_thread(self._write, lease, state, changed)

    def _save(self, execution_id: str, state: ExecutionState, cells: Iterable[NodeState]) -> None:
        try:
            lease = self.store.claim(execution_id, self._owner, _LEASE_S)
        except NoSuchExecution:
            new = state.cell or ExecutionCell(execution_id, created_at=time.time())
            lease = self.store.create(new, "", self._owner, _LEASE_S)
        self._write(lease, state, cells)

    def _write(self, lease: Lease, state: ExecutionState, cells: Iterable[NodeState]) -> None:
        cell = state.cell or ExecutionCell(lease.execution_id, created_at=time.time())
        cell = msgspec.structs.replace(
            cell, epoch=lease.epoch, seq=cell.seq + 1, status=state.status,
            started_at=instant(state.start_time), ended_at=instant(state.end_time))
        fresh = [msgspec.structs.replace(one, epoch=lease.epoch) for one in cells]
        shared = {(lease.execution_id, one.key): msgspec.structs.replace(one, epoch=lease.epoch)
                  for one in state.context.values()}
        written = self.store.apply(Batch(fresh, [cell], released=[lease], sync=True, context=shared))
        if written.refused:
            raise LeaseLost(f"execution {lease.execution_id} was taken over meanwhile: load it again")
        if written.failed:
            key, reason = written.failed[0]
            raise StoreError(f"{len(written.failed)} cells of {lease.execution_id} can't be written; "
                             f"{key.node_id}: {reason}")


def _cells(state: ExecutionState) -> Iterable[NodeState]:
    return {**state.history, **{one.key: one for one in state.node_states.values()}}.values()
