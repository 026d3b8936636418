"""State in one SQLite file: WAL, one writer connection per process and file, readers that can only read."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Sequence
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
    Arriving,
    Batch,
    Cached,
    Lease,
    LogLine,
    Owner,
    Signal,
    Summary,
    Written,
)
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead
from treadle.store.packing import open_packed, pack, unpack
from treadle.store.retention import Between, Pruned
from treadle.store.sealing.sqlite_keys import SqliteKeys
from treadle.store.sqlite.adopting import adopt
from treadle.store.sqlite.connection import connect_reader, queries, translated
from treadle.store.sqlite.rows import (
    cached_of,
    cell_of,
    context_of,
    execution_of,
    log_of,
    packed,
    unpacked,
)
from treadle.store.sqlite.writing import BatchWriter, BlobRow, document_of

_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode

_writers: dict[tuple[str, str | None], BatchWriter] = {}
_writers_lock = threading.Lock()


class SqliteStore:
    """See `treadle.store.base.Store`. `path` is a file that is made if it isn't there."""

    def __init__(self, path: str | Path, *, vfs: str | None = None) -> None:
        self.path = str(Path(path).resolve())
        self.url = f"sqlite:///{self.path}"
        self._vfs = vfs
        self._key = (self.path, vfs)
        self._sql = queries()
        self.place = Place(Path(self.path + ".blobs"))
        self._blobs = BlobFiles(self.place)
        self._readers: list[apsw.Connection] = []
        self._readers_lock = threading.Lock()
        self._watcher: apsw.Connection | None = None
        self._closed = False
        with _writers_lock:
            writer = _writers.get(self._key)
            if writer is None:
                writer = _writers[self._key] = BatchWriter(self.path, vfs)
            writer.users += 1
        self._writer = writer
        self.keys = SqliteKeys(self.path, lambda: self._batches, self._read)

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
            row = connection.execute(self._sql["get_lease"], (execution_id,)).fetchone()
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
                row = connection.execute(self._sql["get_lease"], (lease.execution_id,)).fetchone()
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

        return Pruner(self.path, self._batches, self._read, self.blob, self._blobs, between).prune(
            policy, now, thorough=thorough, dry_run=dry_run, every_s=every_s)

    # Reading: any thread

    def _read(self, use: Callable[[apsw.Connection], _T]) -> _T:
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        with self._readers_lock:
            connection = self._readers.pop() if self._readers else None
        connection = connection or connect_reader(self.path, self._vfs)
        try:
            with translated(self.path):
                return use(connection)
        finally:
            self._give_back(connection)

    def _give_back(self, connection: apsw.Connection) -> None:
        # Under load a statement sometimes outlives its cursor, and holds its snapshot of the file: all later
        # reads with this connection would be of that moment.
        stuck = connection.txn_state("main") != apsw.SQLITE_TXN_NONE
        with self._readers_lock:
            if not self._closed and not stuck:
                self._readers.append(connection)
                return
        connection.close(True)

    def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        def use(connection: apsw.Connection) -> tuple[Any, list[Any]]:
            connection.execute("BEGIN")
            try:
                row = connection.execute(self._sql["get_execution"], (execution_id,)).fetchone()
                if row is None:
                    raise self._unknown(connection, execution_id)
                return row, connection.execute(self._sql["get_cells"], (execution_id,)).fetchall()
            finally:
                connection.execute("COMMIT")

        row, cells = self._read(use)  # the transaction ends before the rows become cells
        return execution_of(row)[0], list(map(cell_of, cells))

    def context(self, execution_id: str) -> list[ContextCell]:
        return list(map(context_of, self._read(lambda connection: connection.execute(
            self._sql["get_context"], (execution_id,)).fetchall())))

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None) -> list[Summary]:
        bindings = (None if status is None else status.value, name, before, limit)
        return self._read(lambda connection: [
            self._summary(connection, row)
            for row in connection.execute(self._sql["list_executions"], bindings).fetchall()])

    def summary(self, execution_id: str) -> Summary:
        def use(connection: apsw.Connection) -> Summary:
            row = connection.execute(self._sql["get_execution"], (execution_id,)).fetchone()
            if row is None:
                found = connection.execute(self._sql["matching_ids"], (execution_id or None,)).fetchall()
                if len(found) > 1:
                    raise NoSuchExecution(f"several executions begin with {execution_id!r}: give more of "
                                          "the id")
                if not found:
                    raise self._unknown(connection, execution_id)
                row = connection.execute(self._sql["get_execution"], found[0]).fetchone()
            return self._summary(connection, row)

        return self._read(use)

    def _summary(self, connection: apsw.Connection, row: Any) -> Summary:
        cell, owner, expires = execution_of(row)
        counts: Any = connection.execute(self._sql["count_nodes"], (cell.execution_id,)).fetchone()
        nodes, completed, failed = counts
        lost = owner is None or (expires or 0.0) <= time.time() or is_dead(owner)
        stale = cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING) and lost
        return Summary(cell, nodes, completed or 0, failed or 0, None if lost else owner, stale)

    def source(self, diagram: str) -> str:
        row = self._read(lambda connection: connection.execute(
            self._sql["get_diagram"], (diagram,)).fetchone())
        if row is None:
            raise KeyError(f"the store has no diagram {diagram}: was it pruned?")
        return unpacked(row[0])

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        wanted = _json(list(execution_ids)).decode()
        return self._read(lambda connection: [
            Signal(execution_id, kind, name, node_id, iteration, payload.encode(), number, at)
            for execution_id, kind, name, node_id, iteration, payload, number, at
            in connection.execute(self._sql["get_signals"], (wanted,))])

    def version(self) -> int:
        return int(self._watching.pragma("data_version"))

    def last_signal(self) -> int:
        return int(self._watching.execute(self._sql["last_signal"]).get or 0)

    @property
    def _watching(self) -> apsw.Connection:
        # data_version compares with the same connection's last answer, so the watcher has its own.
        if self._watcher is None:
            self._watcher = connect_reader(self.path, self._vfs)
        return self._watcher

    def cached(self, key: str) -> Cached | None:
        row = self._read(lambda connection: connection.execute(self._sql["get_cached"], (key,)).fetchone())
        return None if row is None else cached_of(row)

    def cached_results(self, node: str | None = None) -> list[Cached]:
        return list(map(cached_of, self._read(lambda connection: connection.execute(
            self._sql["list_cached"], {"node": node}).fetchall())))

    def forget(self, keys: Iterable[str]) -> None:
        with self._batches.transaction(patient=True) as connection:
            connection.execute(self._sql["forget_cached"], (_json(list(keys)).decode(),))

    def blob(self, digest: str) -> bytes:
        row = self._read(lambda connection: connection.execute(self._sql["get_blob"], (digest,)).fetchone())
        return self._blobs.get(digest) if row is None or row[0] is None else unpack(row[0])

    def open_blob(self, digest: str) -> IO[bytes]:
        row = self._read(lambda connection: connection.execute(self._sql["get_blob"], (digest,)).fetchone())
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
        rows = self._read(lambda connection: connection.execute(self._sql[query], bindings).fetchall())
        return list(map(log_of, rows))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with self._readers_lock:
            for reader in self._readers:
                reader.close()
            self._readers.clear()
        if self._watcher is not None:
            self._watcher.close()
        with _writers_lock:
            self._writer.users -= 1
            if not self._writer.users:
                del _writers[self._key]
                self._writer.close()

    def _unknown(self, connection: apsw.Connection, execution_id: str) -> NoSuchExecution:
        hint = did_you_mean(execution_id, [row[0] for row in connection.execute(self._sql["some_ids"])])
        return NoSuchExecution(f"{self.path} has no execution {execution_id!r}"
                               + (f": {hint}" if hint else ""))
