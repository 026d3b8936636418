"""State in one SQLite file: WAL, one writer connection per process and file, readers that can only read."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from treadle import failpoints
from treadle.config import DEFAULT_CONFIG
from treadle.errors import LeaseHeld, NoSuchExecution, StoreClosed, did_you_mean
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
from treadle.store.base import Batch, Lease, Owner, Signal, Summary, Written
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead
from treadle.store.sqlite.connection import connect, connect_reader, queries, translated
from treadle.store.sqlite.rows import cell_of, cells_json, execution_of, execution_row, new_execution_row

_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode


class _Writer:
    """The process's one writer connection of a file, shared by every store that is open on it."""

    def __init__(self, path: str, vfs: str | None) -> None:
        self.path = path
        self.lock = threading.Lock()  # only writer threads take it, never an event loop
        self.connection = connect(path, vfs)
        self.users = 0
        self.sync = False


_writers: dict[tuple[str, str | None], _Writer] = {}
_writers_lock = threading.Lock()


class SqliteStore:
    """See `treadle.store.base.Store`. `path` is a file that is made if it isn't there."""

    def __init__(self, path: str | Path, *, vfs: str | None = None) -> None:
        self.path = str(Path(path).resolve())
        self.url = f"sqlite:///{self.path}"
        self._vfs = vfs
        self._key = (self.path, vfs)
        self._sql = queries()
        self._blobs = BlobFiles(Path(self.path + ".blobs"))
        self._readers: list[apsw.Connection] = []
        self._readers_lock = threading.Lock()
        self._watcher: apsw.Connection | None = None
        self._closed = False
        with _writers_lock:
            writer = _writers.get(self._key)
            if writer is None:
                writer = _writers[self._key] = _Writer(self.path, vfs)
            writer.users += 1
        self._writer = writer

    # Writing: one thread at a time

    @contextmanager
    def _transaction(self, *, sync: bool = True) -> Iterator[apsw.Connection]:
        """A write transaction. With `sync` the commit is fsynced."""
        if self._closed:
            raise StoreClosed(f"{self.path} is closed")
        writer = self._writer
        with writer.lock, translated(self.path):
            connection = writer.connection
            if sync is not writer.sync:
                connection.execute("PRAGMA synchronous = " + ("FULL" if sync else "NORMAL"))
                writer.sync = sync
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                if failpoints.armed:
                    failpoints.hit("commit.before")
                connection.execute("COMMIT")
            except BaseException:
                if not connection.get_autocommit():
                    connection.execute("ROLLBACK")
                raise
        if failpoints.armed:
            failpoints.hit("commit.after")

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        if self.apply(Batch([], created=[(cell, source)], owner=owner, lease_s=lease_s, sync=True)).taken:
            raise ValueError(f"there is an execution {cell.execution_id!r} already: choose another id")
        return Lease(cell.execution_id, 1)

    def _create(self, connection: apsw.Connection, batch: Batch, written: Written) -> None:
        for digest, source in {cell.diagram: source for cell, source in batch.created if source}.items():
            connection.execute(self._sql["put_diagram"], (digest, source))
        rows = [new_execution_row(cell) for cell, _ in batch.created]
        made = {row[0] for row in connection.execute(self._sql["insert_executions"], (
            _json(batch.owner).decode(), time.time() + batch.lease_s, _json(rows).decode()))}
        written.taken += [cell.execution_id for cell, _ in batch.created if cell.execution_id not in made]

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        if failpoints.armed:
            failpoints.hit("lease.before")
        with self._transaction() as connection:
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

    def renew(self, leases: Sequence[Lease], owner: Owner, lease_s: float) -> set[str]:
        if failpoints.armed:
            failpoints.hit("lease.before")
        lost = set()
        text = _json(owner).decode()
        with self._transaction(sync=False) as connection:
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

    def apply(self, batch: Batch) -> Written:
        written = Written()
        cells, payload = _encoded(batch.cells, written)
        owned = {(cell.execution_id, cell.epoch) for cell in cells}
        owned.update((cell.execution_id, cell.epoch) for cell in batch.executions)
        for digest, content in batch.blobs:
            if len(content) > DEFAULT_CONFIG.blob_file_bytes_max:
                self._blobs.put(digest, content)
        with self._transaction(sync=batch.sync) as connection:
            changes = connection.total_changes()
            if batch.created:
                self._create(connection, batch, written)
            rows_held: Any = connection.execute(
                self._sql["lease_epochs"], (_json([one for one, _ in owned]).decode(),))
            held: dict[str, int] = dict(rows_held)
            refused = {pair for pair in owned if held.get(pair[0]) != pair[1]}
            if refused:
                written.refused = {one: held.get(one, 0) for one, _ in refused}
                cells = [cell for cell in cells if (cell.execution_id, cell.epoch) not in refused]
                payload = cells_json(cells)
            self._put_blobs(connection, batch)
            if failpoints.armed:
                failpoints.hit("statement.before")
            if cells:
                self._put_cells(connection, cells, payload, written)
            executions = [execution_row(cell) for cell in batch.executions
                          if (cell.execution_id, cell.epoch) not in refused]
            if executions:
                connection.execute(self._sql["update_executions"], (_json(executions).decode(),))
            if batch.consumed:
                connection.execute(self._sql["consume_signals"], (
                    _json(batch.consumed).decode(), _json(list(written.refused)).decode()))
            if batch.released:
                leases = [(lease.execution_id, lease.epoch) for lease in batch.released]
                connection.execute(self._sql["release_leases"], (_json(leases).decode(),))
            if batch.sync and connection.total_changes() == changes:
                # A commit without a change would not be fsynced, nor what was committed before it.
                connection.pragma("user_version", (connection.pragma("user_version") + 1) % 2**31)
            if failpoints.armed:
                failpoints.hit("statement.after")
        return written

    def _put_blobs(self, connection: apsw.Connection, batch: Batch) -> None:
        for digest, content in batch.blobs:
            if failpoints.armed:
                failpoints.hit("blob.before")
            large = len(content) > DEFAULT_CONFIG.blob_file_bytes_max
            connection.execute(self._sql["put_blob"], (digest, len(content), None if large else content))
            if failpoints.armed:
                failpoints.hit("blob.after")

    def _put_cells(self, connection: apsw.Connection, cells: Sequence[NodeState], payload: str,
                   written: Written) -> None:
        """All cells in one statement; if one can't be written, halve until it is found, and leave it out."""
        try:
            with connection:  # a savepoint
                connection.execute(self._sql["upsert_cells"], (payload,))
        except (apsw.FullError, apsw.BusyError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError):
            raise  # not the row's fault
        except apsw.Error as error:
            if len(cells) == 1:
                written.failed.append((cells[0].key, str(error)))
                return
            middle = len(cells) // 2
            for half in (cells[:middle], cells[middle:]):
                self._put_cells(connection, half, cells_json(half), written)

    def send(self, signal: Signal) -> int:
        with self._transaction() as connection:
            connection.execute(self._sql["put_signal"], (
                signal.execution_id, signal.kind, signal.name, signal.node_id, signal.iteration,
                signal.payload.decode(), signal.at or time.time()))
            if not connection.changes():
                raise self._unknown(connection, signal.execution_id)
            return connection.last_insert_rowid()

    def vacuum(self, pages: int = 1000) -> None:
        """Give freed pages back to the disk, at most so many."""
        with self._writer.lock, translated(self.path):
            self._writer.connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()

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
        with self._readers_lock:
            if self._closed:
                connection.close()
            else:
                self._readers.append(connection)

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
            raise KeyError(diagram)
        return str(row[0])

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        wanted = _json(list(execution_ids)).decode()
        return self._read(lambda connection: [
            Signal(execution_id, kind, name, node_id, iteration, payload.encode(), number, at)
            for execution_id, kind, name, node_id, iteration, payload, number, at
            in connection.execute(self._sql["get_signals"], (wanted,))])

    def version(self) -> int:
        # data_version compares with the same connection's last answer, so the watcher has its own.
        if self._watcher is None:
            self._watcher = connect_reader(self.path, self._vfs)
        return int(self._watcher.pragma("data_version"))

    def blob(self, digest: str) -> bytes:
        row = self._read(lambda connection: connection.execute(self._sql["get_blob"], (digest,)).fetchone())
        if row is None:
            raise KeyError(digest)
        return self._blobs.get(digest) if row[0] is None else bytes(row[0])

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
                with self._writer.lock:
                    self._writer.connection.close()

    def _unknown(self, connection: apsw.Connection, execution_id: str) -> NoSuchExecution:
        hint = did_you_mean(execution_id, [row[0] for row in connection.execute(self._sql["some_ids"])])
        return NoSuchExecution(f"{self.path} has no execution {execution_id!r}"
                               + (f": {hint}" if hint else ""))


def _encoded(cells: Sequence[NodeState], written: Written) -> tuple[Sequence[NodeState], str]:
    """Cells and their JSON; one that can't be encoded (half a surrogate pair) is left out and reported."""
    try:
        return cells, cells_json(cells)
    except (ValueError, TypeError, OverflowError) as error:
        if len(cells) == 1:
            written.failed.append((cells[0].key, str(error)))
            return [], "[]"
    good = [cell for one in cells for cell in _encoded([one], written)[0]]
    return good, cells_json(good)
