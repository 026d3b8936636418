"""The state manager: everything that is to be durable goes through here, and nobody waits for it.

The class has two faces. `StateManager(store=…)` serves an engine with many executions: see `Journal`, which
it is. `StateManager(execution_id=…)` is the documented queue for one execution: it creates or claims it at
`start`, and an update makes the next whole cell from the cached one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Final

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import LeaseLost, NoSuchExecution, StoreClosed
from treadle.state import codec
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState, instant, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Batch, Cached, LogLine, Store
from treadle.store.cache import ExecutionCache, ExecutionStateCache
from treadle.store.journal.journal import CELL_BYTES, Journal
from treadle.undo import undone_async

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
        self.cache = ExecutionStateCache(self._read_execution, pending=self._pending,
                                         written=lambda: self._flushed, config=config)
        self._own: ExecutionCache | None = None  # of the execution that update_node_state is for
        self._set_taps(())

    async def start(self) -> None:
        """Start the writer thread; with an `execution_id`, create or claim that execution and load its cells.
        `LeaseHeld` if somebody else runs it."""
        await super().start()
        if self.execution_id is not None:
            async with undone_async(self.stop):
                await self._open_own(self.execution_id)

    async def _open_own(self, execution_id: str) -> None:
        try:
            await self.claim(execution_id)
        except NoSuchExecution:
            await self.create(ExecutionCell(execution_id, epoch=1, status=ExecutionStatus.RUNNING,
                                            created_at=time.time()), "")
        self._own = await self.cache.get(execution_id)
        self._own.pinned = True

    async def _read_execution(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        return await self.read(self.store.load, execution_id)

    @property
    def ticket(self) -> int:
        """The ticket of what was queued last, for `when_durable`."""
        return self._ticket

    def _pending(self, execution_id: str) -> tuple[ExecutionCell | None, list[NodeState], int]:
        """What is queued or on its way for an execution."""
        batches = [sealed.batch for sealed in self._flight]
        cells = [cell for batch in batches for cell in batch.cells] + list(self._dirty.values())
        own = [cell for batch in batches for cell in batch.executions] + list(self._executions.values())
        mine = [cell for cell in cells if cell.execution_id == execution_id]
        newest = [cell for cell in own if cell.execution_id == execution_id]
        return newest[-1] if newest else None, mine, self._ticket if mine or newest else 0

    def tap(self, callback: Callable[[Batch], None]) -> Callable[[], None]:
        """Call back with each batch as it goes to the writer; nobody may change it. Returns what ends it."""
        self._set_taps((*self._taps, callback))
        return lambda: self._set_taps(tuple(one for one in self._taps if one is not callback))

    def _set_taps(self, taps: tuple[Callable[[Batch], None], ...]) -> None:
        self._taps: tuple[Callable[[Batch], None], ...] = taps
        self._on_seal = self._tapped if taps else self.store.seal

    def _tapped(self, batch: Batch) -> None:
        self.store.seal(batch)
        for callback in self._taps:
            callback(batch)

    def unsealed(self) -> tuple[Collection[NodeState], Iterable[ExecutionCell], Iterable[ContextCell]]:
        """What waits for the next batch: cells of nodes, of executions, and of shared contexts."""
        return self._dirty.values(), self._executions.values(), self._next.context.values()

    async def _stop(self) -> None:
        await super()._stop()
        self.cache.close()
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
        own = self._own
        assert own is not None
        newest = own.get_node_state(update.node_id)
        attempt = update.attempt if update.attempt is not None else (
            newest.attempt if newest is not None and newest.iteration == update.iteration else 1)
        known = own.get_node_state(update.node_id, update.iteration, attempt)
        if known is None:
            cell = NodeState(execution_id, update.node_id, update.iteration, attempt, lease.epoch, 1,
                             **update.changes)
        else:
            cell = msgspec.structs.replace(known, epoch=lease.epoch, seq=known.seq + 1, **update.changes)
        self.record([cell])

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

    def share(self, cells: Iterable[ContextCell]) -> None:
        """Queue cells of shared contexts, for the next batch: those of one call go in one transaction, and
        not after what is recorded later. Nobody waits for it; of a dead writer others are told."""
        if self._dead is not None or self._loop is None:
            return
        waiting = self._next.context
        for cell in cells:
            known = waiting.get((cell.execution_id, cell.key))
            waiting[cell.execution_id, cell.key] = cell if known is None else join_cells(known, cell)
            self._bytes += CELL_BYTES + len(cell.value or b"")
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
        return None if self._own is None else self._own.get_node_state(node_id, iteration, attempt)


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

