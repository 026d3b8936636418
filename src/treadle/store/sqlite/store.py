"""State in one SQLite file: WAL, one writer connection per process and file, readers that can only read."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

import apsw
import msgspec

from treadle import failpoints
from treadle.config import DEFAULT_CONFIG, Retention
from treadle.errors import LeaseHeld, LeaseLost, NoSuchExecution, StoreClosed, did_you_mean
from treadle.state.blob import Place
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
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
)
from treadle.store.base import bare as bared
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead
from treadle.store.packing import open_packed, pack, unpack
from treadle.store.retention import Between, Pruned
from treadle.store.sealing.sqlite_keys import SqliteKeys
from treadle.store.sqlite.adopting import adopt
from treadle.store.sqlite.connection import Looks, Readers, Values, all_rows, first_row, queries
from treadle.store.sqlite.rows import (
    cached_of,
    cell_of,
    context_of,
    execution_of,
    log_of,
    packed,
    unpacked,
)
from treadle.store.sqlite.writing import BatchWriter, BlobRow, NoWriter, document_of

CHANGES_ROWS = 2000
"""Cells that one statement gives to those who look on."""
_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode
_TALLIED = msgspec.json.Decoder(tuple[int | None, list[tuple[str, str, int, list[int]]]])

_writers: dict[tuple[str, str | None], BatchWriter] = {}
_writers_lock = threading.Lock()


class SqliteStore:
    """See `treadle.store.base.Store`. `path` is a file that is made if it isn't there; with `read_only` it
    must be, and it is not changed."""

    def __init__(self, path: str | Path, *, vfs: str | None = None, read_only: bool = False) -> None:
        self.path = str(Path(path).resolve())
        self.url = f"sqlite:///{self.path}"
        self._key = (self.path, vfs)
        self._sql = queries()
        self.place = Place(Path(self.path + ".blobs"))
        self._blobs = BlobFiles(self.place)
        self._closed = False
        self._readers = Looks(self.path) if read_only else Readers(self.path, vfs)
        self._writer = NoWriter(self.path) if read_only else self._sharing()
        self.keys = SqliteKeys(self.path, lambda: self._batches, self._readers.lend)

    def _sharing(self) -> BatchWriter:
        with _writers_lock:
            writer = _writers.get(self._key)
            if writer is None:
                writer = _writers[self._key] = BatchWriter(self.path, self._key[1])
            writer.users += 1
            return writer

    def place_of(self, execution_id: str) -> Place:
        return self.place

    # Writing: one thread at a time

    @property
    def _batches(self) -> BatchWriter:
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        return self._writer

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        if self.apply(Batch([], created=[(cell, source)], owner=owner, lease_s=lease_s, sync=True)).taken:
            raise ValueError(f"there is an execution {cell.execution_id!r} already: choose another id")
        return Lease(cell.execution_id, 1)

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        if failpoints.armed:
            failpoints.hit("lease.before")
        with self._batches.transaction() as connection:
            row = first_row(connection, self._sql["get_lease"], (execution_id,))
            if row is None:
                raise self._unknown(connection, execution_id)
            epoch, held, expires = row
            if held is not None:
                holder = msgspec.json.decode(held, type=Owner)
                if (expires or 0.0) > time.time() and not is_dead(holder):
                    raise LeaseHeld(f"execution {execution_id} is run by {holder}: wait until it ends, or "
                                    f"cancel it with `treadle cancel {execution_id}`")
            connection.execute(self._sql["take_lease"], (
                epoch + 1, _json(owner).decode(), time.time() + lease_s, execution_id))
        if failpoints.armed:
            failpoints.hit("lease.after")
        return Lease(execution_id, epoch + 1, held is None)

    def redraw(self, lease: Lease, cell: ExecutionCell, source: str) -> None:
        with self._batches.transaction() as connection:
            connection.execute(self._sql["put_diagram"], (cell.diagram, packed(source)))
            connection.execute(self._sql["redraw_execution"], (
                cell.diagram, cell.inputs.decode(), cell.epoch, cell.seq, lease.execution_id, lease.epoch))
            if not connection.changes():
                row = first_row(connection, self._sql["get_lease"], (lease.execution_id,))
                raise LeaseLost.to(lease.execution_id, 0 if row is None else row[0])

    def adopt(self, cell: ExecutionCell, cells: Sequence[NodeState], source: str, *,
              signals: Sequence[Signal] = (), blobs: Sequence[Arriving] = (),
              logs: Sequence[LogLine] = (), context: Sequence[ContextCell] = ()) -> None:
        adopt(self._batches, self._blobs, cell, cells, source, signals, blobs, logs, context)

    def renew(self, leases: Sequence[Lease], owner: Owner, lease_s: float) -> set[str]:
        if failpoints.armed:
            failpoints.hit("lease.before")
        lost = set()
        text = _json(owner).decode()
        with self._batches.transaction(sync=False) as connection:
            until = time.time() + lease_s
            for lease in leases:
                connection.execute(self._sql["renew_lease"], (until, lease.execution_id, lease.epoch, text))
                if not connection.changes():
                    lost.add(lease.execution_id)
        if failpoints.armed:
            failpoints.hit("lease.after")
        return lost

    def release(self, leases: Sequence[Lease]) -> None:
        self.apply(Batch([], released=list(leases)))

    def seal(self, batch: Batch) -> None:
        batch.document = document_of(batch)

    def apply(self, batch: Batch) -> Written:
        writer = self._batches
        rows: list[BlobRow] = []
        for digest, content in batch.blobs:
            stored = pack(content)
            if len(stored) > DEFAULT_CONFIG.blob_file_bytes_max:
                self._blobs.put(digest, content)  # as it is: a `Blob` of the same content may be opened there
                rows.append((digest, len(content), None))
            else:
                rows.append((digest, len(stored), stored))
        return writer.apply(batch, rows)

    def send(self, signal: Signal) -> int:
        with self._batches.transaction(patient=True) as connection:
            connection.execute(self._sql["put_signal"], (
                signal.execution_id, signal.kind, signal.name, signal.node_id, signal.iteration,
                signal.payload.decode(), signal.at or time.time()))
            if not connection.changes():
                raise self._unknown(connection, signal.execution_id)
            return connection.last_insert_rowid()

    def vacuum(self, pages: int = 1000) -> None:
        """Give freed pages back to the disk, at most so many."""
        self._batches.vacuum(pages)

    def prune(self, policy: Retention, now: float, *, thorough: bool = True, dry_run: bool = False,
              every_s: float = 0.0, between: Between | None = None) -> Pruned:
        from treadle.store.sqlite.pruning import Pruner  # for those who prune

        return Pruner(self.path, self._batches, self._readers.lend, self.blob, self._blobs, between).prune(
            policy, now, thorough=thorough, dry_run=dry_run, every_s=every_s)

    # Reading: any thread

    def _all(self, query: str, values: Values) -> list[Any]:
        return self._readers.lend(lambda connection: all_rows(connection, self._sql[query], values))

    def _first(self, query: str, values: Values) -> Any:
        return self._readers.lend(lambda connection: first_row(connection, self._sql[query], values))

    def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        def use(connection: apsw.Connection) -> tuple[Any, list[Any]]:
            connection.execute("BEGIN")
            try:
                row = first_row(connection, self._sql["get_execution"], (execution_id,))
                if row is None:
                    raise self._unknown(connection, execution_id)
                return row, all_rows(connection, self._sql["get_cells"], (execution_id,))
            finally:
                connection.execute("COMMIT")

        row, cells = self._readers.lend(use)  # the transaction ends before the rows become cells
        return execution_of(row)[0], list(map(cell_of, cells))

    def context(self, execution_id: str) -> list[ContextCell]:
        return list(map(context_of, self._all("get_context", (execution_id,))))

    def changes(self, execution_id: str, since: Mark | None = None, *, cells: bool = True,
                whole: bool = False, counted: Tally | None = None) -> Changes:
        def use(connection: apsw.Connection) -> tuple[
                Any, list[Any], list[Any], Any, Mark | None, Tally | None]:
            connection.execute("BEGIN")
            try:
                head = first_row(connection, self._sql["get_head"], (execution_id,))
                if head is None:
                    raise self._unknown(connection, execution_id)
                # What changes these may change any cell: epoch, round, end, and what was made anew.
                own = (head[1], head[16], head[10], head[8])
                begin = since if since is not None and (since.own == own or not cells) else None
                tally, place = None, begin
                if counted is not None and begin is not None:
                    tally = self._tally(connection, execution_id, counted)
                    place = Mark(max(begin.row, tally.row - NEWEST))
                rows = self._changed(connection, execution_id, place, whole) if cells else []
                shared = all_rows(connection, self._sql["new_context"], (
                    execution_id, *(Mark() if since is None else since).context))
                log = first_row(connection, self._sql["last_log"], (execution_id,))[0]
                return head, rows, shared, (own, log or 0), begin, tally
            finally:
                connection.execute("COMMIT")

        head, rows, shared, (own, log), begin, tally = self._readers.lend(use)
        cell, owner, lost = _held(head)
        read = [cell_of((execution_id, *row[1:])) for row in rows]
        if not whole:
            read = [one if one.meta is None else bared(one) for one in read]
        context = list(map(context_of, shared))
        before = since or Mark()
        row, still = _seen(begin or Mark(), zip(rows, read, strict=True) if tally is None else ())
        mark = Mark(row, still, own if cells else before.own,
                    max([before.context, *(one.version for one in context)]))
        return Changes(cell, None if lost else owner, _stale(cell, lost), read, context, log, mark,
                       cells and begin is None, tally)

    def _tally(self, connection: apsw.Connection, execution_id: str, before: Tally) -> Tally:
        if not before.row:
            first = first_row(connection, self._sql["first_row"], (execution_id,))[0]
            before = Tally(row=0 if first is None else first - 1)
        newest, rows = _TALLIED.decode(first_row(connection, self._sql["tally"], {
            "execution_id": execution_id, "row": before.row, "open": _json(before.open).decode()})[0])
        return before.then(newest or 0, rows)

    def _changed(self, connection: apsw.Connection, execution_id: str, since: Mark | None,
                 whole: bool) -> list[Any]:
        kind, found, row = "_whole" if whole else "", [], 0
        if since is not None:
            row = since.row
            if since.open:
                opened = _json([(number, *version) for number, version in since.open.items()]).decode()
                found = _rows(first_row(connection, self._sql[f"changed{kind}_cells"],
                                        {"execution_id": execution_id, "open": opened})[0])
        fresh: list[int] = msgspec.json.decode(
            first_row(connection, self._sql["new_rows"], (execution_id, row))[0])
        for at in range(0, len(fresh), CHANGES_ROWS):
            wanted = _json(fresh[at:at + CHANGES_ROWS]).decode()
            found += _rows(first_row(connection, self._sql[f"new{kind}_cells"], (wanted,))[0])
        return found

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None, bare: bool = False) -> list[Summary]:
        bindings = (None if status is None else status.value, name, before, limit)
        query = self._sql["list_heads" if bare else "list_executions"]
        return self._readers.lend(lambda connection: [
            self._summary(connection, row, bare) for row in all_rows(connection, query, bindings)])

    def summary(self, execution_id: str) -> Summary:
        def use(connection: apsw.Connection) -> Summary:
            row = first_row(connection, self._sql["get_execution"], (execution_id,))
            if row is None:
                found = all_rows(connection, self._sql["matching_ids"], (execution_id or None,))
                if len(found) > 1:
                    raise NoSuchExecution(f"several executions begin with {execution_id!r}: give more of "
                                          "the id")
                if not found:
                    raise self._unknown(connection, execution_id)
                row = first_row(connection, self._sql["get_execution"], found[0])
            return self._summary(connection, row)

        return self._readers.lend(use)

    def sizes(self, execution_ids: Sequence[str]) -> dict[str, int]:
        from treadle.store.sqlite.sweep import Questions, weights  # for those who want to know

        found = weights(Questions(self._readers.lend, self.blob), self._blobs, execution_ids)
        return {name: one.size for name, one in found.items()}

    def _summary(self, connection: apsw.Connection, row: Any, bare: bool = False) -> Summary:
        cell, owner, lost = _held(row)
        nodes, completed, failed, ended, roots = (0, 0, 0, 0, 0) if bare else first_row(
            connection, self._sql["count_nodes"], (cell.execution_id,))
        return Summary(cell, nodes, completed or 0, failed or 0, None if lost else owner, _stale(cell, lost),
                       ended or 0, roots)

    def source(self, diagram: str) -> str:
        row = self._first("get_diagram", (diagram,))
        if row is None:
            raise KeyError(f"the store has no diagram {diagram}: was it pruned?")
        return unpacked(row[0])

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        wanted = _json(list(execution_ids)).decode()
        return [Signal(execution_id, kind, name, node_id, iteration, payload.encode(), number, at)
                for execution_id, kind, name, node_id, iteration, payload, number, at
                in self._all("get_signals", (wanted,))]

    def version(self) -> int:
        return self._readers.version()

    def last_signal(self) -> int:
        return self._readers.watch(lambda connection: int(
            connection.execute(self._sql["last_signal"]).get or 0))

    def cached(self, key: str) -> Cached | None:
        row = self._first("get_cached", (key,))
        return None if row is None else cached_of(row)

    def cached_results(self, node: str | None = None) -> list[Cached]:
        return list(map(cached_of, self._all("list_cached", {"node": node})))

    def forget(self, keys: Iterable[str]) -> None:
        with self._batches.transaction(patient=True) as connection:
            connection.execute(self._sql["forget_cached"], (_json(list(keys)).decode(),))

    def blob(self, digest: str) -> bytes:
        row = self._first("get_blob", (digest,))
        return self._blobs.get(digest) if row is None or row[0] is None else unpack(row[0])

    def open_blob(self, digest: str) -> IO[bytes]:
        row = self._first("get_blob", (digest,))
        return self._blobs.open(digest) if row is None or row[0] is None else open_packed(row[0])

    def logs(self, execution_id: str, *, node: str | None = None, attempt: int | None = None,
             since: tuple[float, int] | None = None, limit: int = LOG_LINES) -> list[LogLine]:
        at, number = since or (-math.inf, 0)
        return self._logs("get_logs", execution_id, node, attempt, at, number, limit)

    def new_logs(self, execution_id: str, after: int, *, node: str | None = None, attempt: int | None = None,
                 limit: int = LOG_LINES) -> list[LogLine]:
        return self._logs("new_logs", execution_id, node, attempt, 0.0, after, limit)

    def _logs(self, query: str, execution_id: str, node: str | None, attempt: int | None, at: float,
              number: int, limit: int) -> list[LogLine]:
        bindings = {"execution_id": execution_id, "node": node, "attempt": attempt, "at": at, "id": number,
                    "limit": limit}
        return list(map(log_of, self._all(query, bindings)))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._readers.close()
        if isinstance(self._writer, NoWriter):
            return
        with _writers_lock:
            self._writer.users -= 1
            if not self._writer.users:
                del _writers[self._key]
                self._writer.close()

    def _unknown(self, connection: apsw.Connection, execution_id: str) -> NoSuchExecution:
        hint = did_you_mean(execution_id, [row[0] for row in all_rows(connection, self._sql["some_ids"])])
        return NoSuchExecution(f"{self.path} has no execution {execution_id!r}"
                               + (f": {hint}" if hint else ""))


def _held(row: Any) -> tuple[ExecutionCell, Owner | None, bool]:
    """The cell, the owner and whether the lease is lost, of a row of `get_execution`."""
    cell, owner, expires = execution_of(row)
    return cell, owner, owner is None or (expires or 0.0) <= time.time() or is_dead(owner)


def _stale(cell: ExecutionCell, lost: bool) -> bool:
    return lost and cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)


def _seen(begin: Mark, read: Iterable[tuple[Any, NodeState]]) -> tuple[int, dict[int, tuple[int, int]]]:
    """How far a watcher has read then: the newest row, and the versions of those that may still change."""
    newest, still = begin.row, dict(begin.open)
    for row, one in read:
        newest = max(newest, row[0])
        if one.status.terminal:
            still.pop(row[0], None)
        else:
            still[row[0]] = one.version
    return newest, still


def _rows(document: str) -> list[Any]:
    """The rows of a JSON document, each with its rowid first."""
    found: list[Any] = msgspec.json.decode(document)
    return found
