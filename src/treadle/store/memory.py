"""State in memory: the reference that every other store is held to, and everybody's fake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence

import msgspec

from treadle.errors import LeaseHeld, NoSuchExecution, StoreClosed, did_you_mean
from treadle.state.cell import CellKey, ExecutionCell, NodeState, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Batch, Lease, Owner, Signal, Summary, Written
from treadle.store.owner import is_dead


class _Row:
    """An execution: its cell, its lease and its nodes' cells."""

    def __init__(self, cell: ExecutionCell, owner: Owner | None, expires: float) -> None:
        self.cell, self.owner, self.expires = cell, owner, expires
        self.epoch = 1
        self.cells: dict[CellKey, NodeState] = {}


class MemoryStore:
    """See `treadle.store.base.Store`. `now` is the store's clock, in seconds."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.url = "memory:"
        self._now = now
        self._lock = threading.Lock()
        self._rows: dict[str, _Row] = {}
        self._sources: dict[str, str] = {}
        self._signals: dict[int, Signal] = {}
        self._blobs: dict[str, bytes] = {}
        self._next_signal = 1
        self._version = 0
        self._closed = False

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        if self.apply(Batch([], created=[(cell, source)], owner=owner, lease_s=lease_s)).taken:
            raise ValueError(f"there is an execution {cell.execution_id!r} already: choose another id")
        return Lease(cell.execution_id, 1)

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        with self._lock:
            row = self._row(execution_id)
            held = row.owner
            if held is not None and row.expires > self._now() and not is_dead(held):
                raise LeaseHeld(f"execution {execution_id} is run by {held}: wait until it ends, or cancel "
                                f"it with `treadle cancel {execution_id}`")
            row.epoch, row.owner, row.expires = row.epoch + 1, owner, self._now() + lease_s
            return Lease(execution_id, row.epoch, held is None)

    def renew(self, leases: Sequence[Lease], owner: Owner, lease_s: float) -> set[str]:
        lost = set()
        with self._lock:
            for lease in leases:
                row = self._rows.get(lease.execution_id)
                if row is None or row.epoch != lease.epoch or row.owner != owner:
                    lost.add(lease.execution_id)
                else:
                    row.expires = self._now() + lease_s
        return lost

    def release(self, leases: Sequence[Lease]) -> None:
        self.apply(Batch([], released=list(leases)))

    def seal(self, batch: Batch) -> None:
        pass

    def apply(self, batch: Batch) -> Written:
        written = Written()
        with self._lock:
            if self._closed:
                raise StoreClosed("the memory store is closed")
            for execution, source in batch.created:
                if execution.execution_id in self._rows:
                    written.taken.append(execution.execution_id)
                else:
                    if source:
                        self._sources.setdefault(execution.diagram, source)
                    expires = self._now() + batch.lease_s
                    self._rows[execution.execution_id] = _Row(execution, batch.owner, expires)
            self._blobs.update(batch.blobs)
            for cell in batch.cells:
                row = self._held(cell.execution_id, cell.epoch, written)
                if row is not None:
                    known = row.cells.get(cell.key)
                    row.cells[cell.key] = cell if known is None else join_cells(known, cell)
            for execution in batch.executions:
                row = self._held(execution.execution_id, execution.epoch, written)
                if row is not None:
                    row.cell = join_cells(row.cell, execution)
            for number in batch.consumed:
                signal = self._signals.get(number)
                if signal is not None and signal.execution_id not in written.refused:
                    del self._signals[number]
            for lease in batch.released:
                found = self._rows.get(lease.execution_id)
                if found is not None and found.epoch == lease.epoch:
                    found.owner = None
            self._version += 1
        return written

    def _held(self, execution_id: str, epoch: int, written: Written) -> _Row | None:
        row = self._rows.get(execution_id)
        if row is None or row.epoch != epoch:
            written.refused[execution_id] = 0 if row is None else row.epoch
            return None
        return row

    def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        with self._lock:
            row = self._row(execution_id)
            return row.cell, list(row.cells.values())

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None) -> list[Summary]:
        with self._lock:
            rows = [row for row in self._rows.values()
                    if status in (None, row.cell.status) and name in (None, row.cell.name)
                    and (before is None or row.cell.execution_id < before)]
            rows.sort(key=lambda row: (row.cell.created_at or 0.0, row.cell.execution_id), reverse=True)
            return [self._summary(row) for row in rows[:limit]]

    def summary(self, execution_id: str) -> Summary:
        with self._lock:
            if execution_id not in self._rows and execution_id:
                found = [one for one in self._rows if one.startswith(execution_id)]
                if len(found) > 1:
                    raise NoSuchExecution(f"several executions begin with {execution_id!r}: give more of "
                                          "the id")
                execution_id = found[0] if found else execution_id
            return self._summary(self._row(execution_id))

    def _summary(self, row: _Row) -> Summary:
        latest: dict[tuple[str, str], NodeState] = {}
        for cell in row.cells.values():
            known = latest.get((cell.node_id, cell.iteration))
            if known is None or cell.attempt > known.attempt:
                latest[cell.node_id, cell.iteration] = cell
        statuses = [cell.status for cell in latest.values()]
        lost = row.owner is None or row.expires <= self._now() or is_dead(row.owner)
        stale = lost and row.cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)
        return Summary(row.cell, len(statuses), statuses.count(NodeStatus.COMPLETED),
                       statuses.count(NodeStatus.FAILED), None if lost else row.owner, stale)

    def source(self, diagram: str) -> str:
        return self._sources[diagram]

    def send(self, signal: Signal) -> int:
        with self._lock:
            self._row(signal.execution_id)
            number = self._next_signal
            self._next_signal += 1
            self._signals[number] = msgspec.structs.replace(signal, id=number, at=signal.at or self._now())
            self._version += 1
            return number

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        wanted = set(execution_ids)
        with self._lock:
            return [signal for signal in self._signals.values() if signal.execution_id in wanted]

    def version(self) -> int:
        return self._version

    def last_signal(self) -> int:
        return self._next_signal - 1

    def blob(self, digest: str) -> bytes:
        return self._blobs[digest]

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def _row(self, execution_id: str) -> _Row:
        row = self._rows.get(execution_id)
        if row is None:
            hint = did_you_mean(execution_id, self._rows)
            raise NoSuchExecution(f"the memory store has no execution {execution_id!r}"
                                  + (f": {hint}" if hint else ""))
        return row
