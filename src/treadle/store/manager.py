"""The state manager: everything that is to be durable goes through here, and nobody waits for it.

The class has two faces. `StateManager(store=…)` serves an engine with many executions: see `Journal`, which
it is. `StateManager(execution_id=…)` is the documented queue for one execution: it creates or claims it at
`start`, and an update makes the next whole cell from the cached one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import LeaseLost, NoSuchExecution, StoreClosed
from treadle.state import codec
from treadle.state.cell import CellKey, ErrorInfo, ExecutionCell, NodeState, instant, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Cached, LogLine, Store
from treadle.store.journal.journal import CELL_BYTES, Journal

UNCHANGED: Final[Any] = msgspec.UNSET
"""What an argument of `update_node_state` means that is left out."""
_ALIASES = {"completed_at": "ended_at", "failed_at": "ended_at", "last_error": "error"}
_INSTANTS = ("scheduled_at", "started_at", "ended_at", "wake_at")
_ENCODED = ("output", "meta", "request", "items")
_GIVEN = ("execution_id", "node_id", "iteration", "attempt", "epoch", "seq")
_NULLABLE = frozenset(
    name for name, default in zip(NodeState.__struct_fields__[2:], NodeState.__struct_defaults__)
    if default is None)


class StateUpdate(msgspec.Struct, frozen=True):
    """One request to change a cell: which one, and its fields by name."""

    node_id: str
    iteration: str
    attempt: int | None
    changes: dict[str, Any]


class StateManager(Journal):
    """See the module. All but `update_node_state` belong to the event loop that called `start`."""

    def __init__(self, execution_id: str | None = None, *, store: Store | None = None,
                 run_id: str | None = None, batch_size: int | None = None,
                 batch_interval: float | None = None,
                 config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self._owns_store = store is None
        if store is None:
            from treadle.store import default_store_url, open_store
            store = open_store(default_store_url())
        super().__init__(store, batch_size=batch_size, batch_interval=batch_interval, config=config)
        self.execution_id = execution_id or run_id
        self._cache: dict[CellKey, NodeState] = {}
        self._latest: dict[str, NodeState] = {}

    async def start(self) -> None:
        """Start the writer thread; with an `execution_id`, create or claim that execution and load its cells.
        `LeaseHeld` if somebody else runs it."""
        await super().start()
        if self.execution_id is not None:
            try:
                await self._open_own(self.execution_id)
            except BaseException:
                await self.stop()
                raise

    async def _open_own(self, execution_id: str) -> None:
        try:
            await self.claim(execution_id)
        except NoSuchExecution:
            await self.create(ExecutionCell(execution_id, epoch=1, status=ExecutionStatus.RUNNING,
                                            created_at=time.time()), "")
        _, cells = await self.read(self.store.load, execution_id)
        for cell in cells:
            self._remember(cell)

    async def _stop(self) -> None:
        await super()._stop()
        if self._owns_store:
            self.store.close()

    async def update_node_state(self, node_id: str, *, status: NodeStatus | str = UNCHANGED,
                                iteration: str = "1", attempt: int | None = None, **changes: Any) -> None:
        """Queue the next cell of a node; returns at once.

        Fields are those of `NodeState`, with `completed_at` and `failed_at` for `ended_at` and `last_error`
        for `error`. An argument left out means "unchanged", None clears; `attempt` opens or names an attempt
        (by default the newest). Instants are datetimes or seconds. `output` is any value the codec knows.
        From another thread the update is handed to the manager's loop and awaited there. StoreClosed after
        `stop`; LeaseLost when another owner took the execution over; ValueError or TypeError for a wrong
        argument.
        """
        update = StateUpdate(node_id, iteration, attempt, _fields(status, changes))
        if threading.get_ident() != self._thread and self._loop is not None:
            if self._closing or self._loop.is_closed():
                raise self._closed()
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._apply(update), self._loop))
            return
        self._update(update)

    async def _apply(self, update: StateUpdate) -> None:
        self._update(update)

    def _closed(self) -> StoreClosed:
        return StoreClosed(f"the state manager of {self.execution_id} is "
                           f"{'stopped' if self._closing else 'not started'}: the update was refused")

    def _update(self, update: StateUpdate) -> None:
        execution_id = self.execution_id
        if execution_id is None:
            raise TypeError("update_node_state needs a StateManager made with an execution_id")
        if self._loop is None or self._closing:
            raise self._closed()
        lease = self.leases.get(execution_id)
        if lease is None:
            raise LeaseLost(f"execution {execution_id} was taken over by another owner: the update was "
                            "refused")
        newest = self._latest.get(update.node_id)
        attempt = update.attempt if update.attempt is not None else (
            newest.attempt if newest is not None and newest.iteration == update.iteration else 1)
        key = CellKey(execution_id, update.node_id, update.iteration, attempt)
        known = self._cache.get(key)
        if known is None:
            cell = NodeState(execution_id, update.node_id, update.iteration, attempt, lease.epoch, 1,
                             **update.changes)
        else:
            cell = msgspec.structs.replace(known, epoch=lease.epoch, seq=known.seq + 1, **update.changes)
        self.record([cell])
        self._remember(cell)

    def _remember(self, cell: NodeState) -> None:
        known = self._cache.get(cell.key)
        self._cache[cell.key] = cell if known is None else join_cells(known, cell)
        newest = self._latest.get(cell.node_id)
        if newest is None or _order(cell) >= _order(newest):
            self._latest[cell.node_id] = self._cache[cell.key]

    def say(self, lines: Sequence[LogLine]) -> None:
        """Queue what bodies printed and logged, for the next batch. Nobody waits for it: what can't be
        written any more is lost."""
        if self._dead is not None or self._loop is None:
            return
        self._next.logs.extend(lines)
        self._bytes += sum(CELL_BYTES + len(line.text) for line in lines)
        self._ticket += 1
        if self._bytes >= self._bytes_max:
            self._seal()
        elif self._timer is None:
            self._timer = self._loop.call_later(self.batch_interval, self._due)

    def keep(self, result: Cached) -> int:
        """Queue a result for other executions, for the batch of its cell. Returns the ticket."""
        self._next.cached.append(result)
        self._ticket += 1
        return self._ticket

    def get_node_state(self, node_id: str, iteration: str | None = None,
                       attempt: int | None = None) -> NodeState | None:
        """The newest cell of a node, or of one of its iterations or attempts; None if there is none."""
        if iteration is None and attempt is None:
            return self._latest.get(node_id)
        found = [cell for cell in self._cache.values()
                 if cell.node_id == node_id and iteration in (None, cell.iteration)
                 and attempt in (None, cell.attempt)]
        return max(found, key=_order, default=None)


def _fields(status: NodeStatus | str, changes: dict[str, Any]) -> dict[str, Any]:
    """The fields of a cell that the arguments of `update_node_state` mean, payloads encoded."""
    out: dict[str, Any] = {}
    if status is not UNCHANGED:
        out["status"] = NodeStatus(status)
    for name, value in changes.items():
        field = _ALIASES.get(name, name)
        if field not in NodeState.__struct_fields__ or field in _GIVEN:
            known = ", ".join(NodeState.__struct_fields__)
            raise TypeError(f"a cell has no field {name!r}; fields are {known}")
        if value is UNCHANGED:
            continue
        if value is None:
            if field not in _NULLABLE:
                raise TypeError(f"{name} can't be cleared: leave it out, or give a value")
            out[field] = None
        elif field in _INSTANTS:
            out[field] = instant(value)
        elif field == "error":
            out[field] = value if isinstance(value, ErrorInfo) else ErrorInfo("Error", str(value))
        elif field in _ENCODED:
            out[field] = codec.encode(value)
        else:
            out[field] = value
    return out


def _order(cell: NodeState) -> tuple[tuple[int, ...], int]:
    return tuple(int(turn) for turn in cell.iteration.split(".")), cell.attempt
