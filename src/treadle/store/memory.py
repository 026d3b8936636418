"""State in memory: the reference that every other store is held to, and everybody's fake."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import IO

import msgspec

from treadle.config import Retention
from treadle.errors import LeaseHeld, LeaseLost, NoSuchExecution, StoreClosed, did_you_mean
from treadle.once import once
from treadle.state.blob import Place
from treadle.state.cell import CellKey, ContextCell, ExecutionCell, NodeState, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import (
    LOG_LINES,
    NEWEST,
    Arriving,
    Batch,
    Cached,
    Changes,
    Lease,
    LogLine,
    Mark,
    Owner,
    Signal,
    Summary,
    Tally,
    Written,
    group_of,
    head_of,
)
from treadle.store.base import bare as bared
from treadle.store.blobs import SETTLE_S, YOUNG_S, BlobFiles
from treadle.store.owner import is_dead
from treadle.store.retention import Between, Candidate, Pruned, considered, names_in, overdue
from treadle.store.sealing.table import MemoryKeys


class _Row:
    """An execution: its cell, its lease and its nodes' cells."""

    def __init__(self, cell: ExecutionCell, owner: Owner | None, expires: float) -> None:
        self.cell, self.owner, self.expires = cell, owner, expires
        self.epoch = 1
        self.cells: dict[CellKey, NodeState] = {}
        self.changed: dict[CellKey, int] = {}  # at which version of the store, the latest last
        self.logs: list[LogLine] = []
        self.context: dict[str, ContextCell] = {}


def _tally(row: _Row) -> Tally:
    newest: dict[tuple[str, str], NodeState] = {}
    for cell in row.cells.values():
        known = newest.get((cell.node_id, cell.iteration))
        if known is None or cell.attempt > known.attempt:
            newest[cell.node_id, cell.iteration] = cell
    counts = Counter((group_of(cell.node_id), cell.status.value) for cell in newest.values())
    return Tally().then(0, ((*key, number, []) for key, number in counts.items()))


def _place(row: _Row) -> tuple[float, str]:
    """Where an execution stands in the list."""
    return row.cell.created_at or 0.0, row.cell.execution_id


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
        self._cached: dict[str, Cached] = {}
        self._next_signal = self._next_log = 1
        self._version = 0
        self._pruned_at = -math.inf
        self._closed = False
        self.keys = MemoryKeys(lambda: self._rows, self._running)

    def _running(self) -> list[str]:
        return [name for name, row in self._rows.items()
                if row.owner is not None and row.expires > self._now() and not is_dead(row.owner)]

    @once
    def place(self) -> Place:
        """A temporary folder that goes with the store."""
        return Place.temporary()

    def place_of(self, execution_id: str) -> Place:
        return self.place

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

    def redraw(self, lease: Lease, cell: ExecutionCell, source: str) -> None:
        with self._lock:
            row = self._row(lease.execution_id)
            if row.epoch != lease.epoch:
                raise LeaseLost.to(lease.execution_id, row.epoch)
            self._sources.setdefault(cell.diagram, source)
            row.cell = join_cells(row.cell, cell)

    def adopt(self, cell: ExecutionCell, cells: Sequence[NodeState], source: str, *,
              signals: Sequence[Signal] = (), blobs: Sequence[Arriving] = (),
              logs: Sequence[LogLine] = (), context: Sequence[ContextCell] = ()) -> None:
        contents = {blob.digest: blob.read() for blob in blobs}
        with self._lock:
            if self._closed:
                raise StoreClosed("the memory store is closed")
            if cell.execution_id in self._rows:
                raise ValueError(f"there is an execution {cell.execution_id!r} already")
            self._blobs.update(contents)
            if source:
                self._sources.setdefault(cell.diagram, source)
            row = self._rows[cell.execution_id] = _Row(cell, None, 0.0)
            row.epoch = max([cell.epoch, *(one.epoch for one in cells), *(one.epoch for one in context)])
            row.context = {one.key: one for one in context}
            row.cells = {one.key: one for one in cells}
            row.changed = dict.fromkeys(row.cells, self._version + 1)
            for signal in signals:
                self._signals[self._next_signal] = msgspec.structs.replace(signal, id=self._next_signal)
                self._next_signal += 1
            for line in logs:
                row.logs.append(msgspec.structs.replace(line, id=self._next_log))
                self._next_log += 1
            self._version += 1

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
                    if execution.diagram and execution.diagram not in self._sources:
                        written.undrawn.append(execution.execution_id)
                    expires = self._now() + batch.lease_s
                    self._rows[execution.execution_id] = _Row(execution, batch.owner, expires)
            self._blobs.update(batch.blobs)
            self._cached.update((one.key, one) for one in batch.cached)
            begun = [cell for cell in batch.begun if cell.execution_id not in written.taken]
            for cell in [*begun, *batch.cells]:
                row = self._held(cell.execution_id, cell.epoch, written)
                if row is not None:
                    key, known = cell.key, row.cells.get(cell.key)
                    row.cells[key] = cell if known is None else join_cells(known, cell)
                    row.changed.pop(key, None)
                    row.changed[key] = self._version + 1
            for execution in batch.executions:
                row = self._held(execution.execution_id, execution.epoch, written)
                if row is not None:
                    row.cell = join_cells(row.cell, execution)
            shared = [one for one in batch.begun_context if one.execution_id not in written.taken]
            for one in [*shared, *batch.context.values()]:
                row = self._held(one.execution_id, one.epoch, written)
                if row is not None:
                    before = row.context.get(one.key)
                    row.context[one.key] = one if before is None else join_cells(before, one)
            for line in batch.logs:
                row = self._held(line.execution_id, line.epoch, written)
                if row is not None:
                    row.logs.append(msgspec.structs.replace(line, id=self._next_log, epoch=0))
                    self._next_log += 1
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

    def context(self, execution_id: str) -> list[ContextCell]:
        with self._lock:
            row = self._rows.get(execution_id)
            return [] if row is None else [row.context[key] for key in sorted(row.context)]

    def changes(self, execution_id: str, since: Mark | None = None, *, cells: bool = True,
                whole: bool = False, counted: Tally | None = None) -> Changes:
        before = since or Mark()
        with self._lock:
            row = self._row(execution_id)
            own = (row.cell.epoch, row.cell.round, row.cell.ended_at, row.cell.created_at)
            complete = cells and own != before.own
            tally = None if counted is None or complete else _tally(row)
            read: list[NodeState] = []
            for key, version in reversed(row.changed.items()) if cells else ():
                if (version <= before.row and not complete) or (tally is not None and len(read) >= NEWEST):
                    break
                read.append(row.cells[key] if whole else bared(row.cells[key]))
            context = [one for _, one in sorted(row.context.items()) if one.version > before.context]
            lost = self._lost(row)
            mark = Mark(self._version if cells and tally is None else before.row,
                        own=own if cells else before.own,
                        context=max([before.context, *(one.version for one in context)]))
            log = row.logs[-1].id if row.logs else 0
            return Changes(head_of(row.cell), None if lost else row.owner, self._is_stale(row), read[::-1],
                           context, log, mark, complete, tally)

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None, bare: bool = False) -> list[Summary]:
        with self._lock:
            last = None if before is None else self._rows.get(before)
            if before is not None and last is None:
                return []
            rows = [row for row in self._rows.values()
                    if status in (None, row.cell.status) and name in (None, row.cell.name)
                    and (last is None or _place(row) < _place(last))]
            rows.sort(key=_place, reverse=True)
            found = [self._summary(row) for row in rows[:limit]]
        if not bare:
            return found
        return [Summary(head_of(one.cell), owner=one.owner, stale=one.stale) for one in found]

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
        return Summary(row.cell, len(statuses), statuses.count(NodeStatus.COMPLETED),
                       statuses.count(NodeStatus.FAILED), None if self._lost(row) else row.owner,
                       self._is_stale(row), sum(status.terminal for status in statuses),
                       len({path for path, _ in latest if "/" not in path and path[-1] != "]"}))

    def sizes(self, execution_ids: Sequence[str]) -> dict[str, int]:
        with self._lock:
            return {name: self._weight(row) for name in execution_ids
                    if (row := self._rows.get(name)) is not None}

    def _weight(self, row: _Row) -> int:
        cell = row.cell
        parts = [cell.inputs, cell.options, cell.output, *(one.value for one in row.context.values())]
        parts += [part for one in row.cells.values()
                  for part in (one.output, one.items, one.meta, one.request)]
        total = 1000 + 250 * len(row.cells) + 100 * (len(row.logs) + len(row.context))
        total += sum(len(part) for part in parts if part) + sum(len(line.text) for line in row.logs)
        names = self._named({cell.execution_id: row})
        total += sum(len(self._blobs[one]) for one in names if one in self._blobs)
        if "place" in vars(self):
            total += sum(map(BlobFiles(self.place).size_of, names - self._blobs.keys()))
        return total

    def _lost(self, row: _Row) -> bool:
        return row.owner is None or row.expires <= self._now() or is_dead(row.owner)

    def _is_stale(self, row: _Row) -> bool:
        return row.cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING) and self._lost(row)

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

    def cached(self, key: str) -> Cached | None:
        return self._cached.get(key)

    def cached_results(self, node: str | None = None) -> list[Cached]:
        with self._lock:
            found = [msgspec.structs.replace(one, output=None, meta=None) for one in self._cached.values()
                     if node is None or one.node_id == node
                     or one.node_id.startswith((f"{node}[", f"{node}/"))]
        return sorted(found, key=lambda one: -one.at)

    def forget(self, keys: Iterable[str]) -> None:
        with self._lock:
            for key in keys:
                self._cached.pop(key, None)

    def version(self) -> int:
        return self._version

    def last_signal(self) -> int:
        return self._next_signal - 1

    def blob(self, digest: str) -> bytes:
        content = self._blobs.get(digest)
        return self._file(digest).read_bytes() if content is None else content

    def _file(self, digest: str) -> Path:
        path = self.place.path(digest)
        if not path.exists():
            raise KeyError(digest)
        return path

    def open_blob(self, digest: str) -> IO[bytes]:
        content = self._blobs.get(digest)
        return self._file(digest).open("rb") if content is None else BytesIO(content)

    def logs(self, execution_id: str, *, node: str | None = None, attempt: int | None = None,
             since: tuple[float, int] | None = None, limit: int = LOG_LINES) -> list[LogLine]:
        lines = sorted(self._said(execution_id, node, attempt), key=lambda line: (line.at, line.id))
        return [line for line in lines if since is None or (line.at, line.id) > since][:limit]

    def new_logs(self, execution_id: str, after: int, *, node: str | None = None, attempt: int | None = None,
                 limit: int = LOG_LINES) -> list[LogLine]:
        return [line for line in self._said(execution_id, node, attempt) if line.id > after][:limit]

    def _said(self, execution_id: str, node: str | None, attempt: int | None) -> list[LogLine]:
        with self._lock:
            row = self._rows.get(execution_id)
            return [line for line in ([] if row is None else row.logs)
                    if attempt in (None, line.attempt)
                    and (node is None or line.node_id == node
                         or line.node_id.startswith((f"{node}[", f"{node}/")))]

    def prune(self, policy: Retention, now: float, *, thorough: bool = True, dry_run: bool = False,
              every_s: float = 0.0, between: Between | None = None) -> Pruned:
        with self._lock:
            if self._closed:
                raise StoreClosed("the memory store is closed")
            if every_s and self._now() - self._pruned_at < every_s:
                return Pruned()
            self._pruned_at = self._now() if every_s else self._pruned_at
            scope = considered(self._candidates(), policy)
            gone = [one.execution_id for one in overdue(scope, policy, now)]
            left = {name: row for name, row in self._rows.items() if name not in set(gone)}
            rest = [one.execution_id for one in scope if one.execution_id in left]
            while policy.size_bytes_max is not None and rest and self._size(left) > policy.size_bytes_max:
                gone.append(rest.pop(0))
                del left[gone[-1]]
            done = Pruned(execution_ids=gone, cells=sum(len(self._rows[name].cells) for name in gone),
                          bytes_freed=(self._size(self._rows, files=dry_run)
                                       - self._size(left, files=dry_run)))
            if dry_run:
                return done
            blobs, sources = self._used(left)
            done.blobs, done.diagrams = len(self._blobs) - len(blobs), len(self._sources) - len(sources)
            self._rows, self._blobs, self._sources = left, blobs, sources
            self.keys.keep(left)
            self._cached = {key: one for key, one in self._cached.items() if one.execution_id in left}
            self._signals = {number: one for number, one in self._signals.items() if one.execution_id in left}
            self._version += 1
            settle = any(row.owner is not None for row in left.values())
        if "place" in vars(self):
            time.sleep(SETTLE_S if settle else 0)
            with self._lock:
                self._unlink(done)
        return done

    def _unlink(self, done: Pruned) -> None:
        """Delete the files that no execution names, unless a body that runs may be about to."""
        files, named = BlobFiles(self.place), self._named(self._rows)
        running = [cell.started_at for row in self._rows.values() if row.owner is not None
                   for cell in row.cells.values() if cell.status is NodeStatus.RUNNING and cell.started_at]
        before = min([time.time() - YOUNG_S, *running])
        files.clean(before)
        for digest in set(files.digests()) - named:
            size = files.size_of(digest)
            if files.remove(digest, before):
                done.blobs += 1
                done.bytes_freed += size
            else:
                done.blobs_young += 1

    def _candidates(self) -> list[Candidate]:
        held = set(self._running())
        parents = {row.cell.parent for name, row in self._rows.items()
                   if name in held or not row.cell.status.terminal}
        return [Candidate(name, row.cell.status.value, row.cell.name, row.cell.created_at or 0.0,
                          row.cell.ended_at or row.cell.started_at or row.cell.created_at or 0.0,
                          name in held or name in parents) for name, row in self._rows.items()]

    def _used(self, rows: Mapping[str, _Row]) -> tuple[dict[str, bytes], dict[str, str]]:
        """The blobs and the sources of diagrams that these executions need."""
        named, diagrams = self._named(rows), {row.cell.diagram for row in rows.values()}
        return ({one: content for one, content in self._blobs.items() if one in named},
                {one: source for one, source in self._sources.items() if one in diagrams})

    def _named(self, rows: Mapping[str, _Row]) -> set[str]:
        """The digests of the blobs that these executions need."""
        texts = [raw for row in rows.values() for raw in (row.cell.output, row.cell.inputs)]
        texts += [raw for row in rows.values() for cell in row.cells.values()
                  for raw in (cell.output, cell.items, cell.meta, cell.request)]
        texts += [one.value for row in rows.values() for one in row.context.values()]
        kept = [one for one in self._cached.values() if one.execution_id in rows]
        texts += [raw for one in kept for raw in (one.output, one.meta)]
        named = {row.cell.blob for row in rows.values()} | {one.blob for one in kept}
        named |= {cell.blob for row in rows.values() for cell in row.cells.values()}
        texts += [self._blobs[one] for one in named if one in self._blobs]
        texts += [one.payload for one in self._signals.values() if one.execution_id in rows]
        return {one for one in named if one is not None}.union(
            one for raw in texts if raw for one in names_in(raw.decode("latin-1")))

    def _size(self, rows: Mapping[str, _Row], *, files: bool = True) -> int:
        blobs, sources = self._used(rows)
        outputs = (cell.output or b"" for row in rows.values() for cell in row.cells.values())
        total = sum(map(len, (*blobs.values(), *sources.values(), *outputs)))
        if files and "place" in vars(self):
            total += sum(map(BlobFiles(self.place).size_of, self._named(rows)))
        return total

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
