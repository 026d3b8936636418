"""Writing a batch: as one statement, or, where that meets anything unusual, one by one and with care."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn, TypeAlias, TypeVar

import apsw
import msgspec

from treadle import failpoints
from treadle.errors import StoreError, StoreReadOnly
from treadle.state.cell import ContextCell, NodeState
from treadle.store.base import Batch, Written
from treadle.store.retention import names_in
from treadle.store.sqlite.connection import (
    BUSY_MS,
    RIGHTS,
    all_rows,
    at_once,
    connect,
    queries,
    roll_back,
    translated,
)
from treadle.store.sqlite.reserve import Reserve
from treadle.store.sqlite.rows import (
    cached_row,
    cells_json,
    context_json,
    execution_row,
    logs_json,
    new_execution_row,
    packed,
    plain_cells_json,
    split_plain,
)
from treadle.undo import undone

BlobRow: TypeAlias = tuple[str, int, bytes | None]
"""SHA-256, bytes where it lies, and the content as it is stored (None: a file has it)."""
_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode
_NOT_THE_ROWS = (apsw.FullError, apsw.BusyError, apsw.IOError, apsw.CorruptError, apsw.ReadOnlyError)
"""Errors that no other batch would escape."""

WAL_MS = 2000
"""How long to wait for readers before the WAL is emptied."""
LOCKED_S_MAX = 10.0
"""How long another program may hold the file, where nobody tries again."""


class BatchWriter:
    """The process's one writer connection of a file, shared by every store that is open on it."""

    def __init__(self, path: str, vfs: str | None) -> None:
        self.path = path
        self.users = 0
        self._sql = queries()
        self._lock = threading.Lock()  # only writer threads take it, never an event loop
        self._connection = connect(path, vfs)
        self._connection.execute(at_once())
        self._reserve = Reserve(path) if vfs is None else None
        self._sync = False

    @contextmanager
    def _ready(self, sync: bool) -> Iterator[apsw.Connection]:
        """The connection, ours. With `sync` a commit returns only after its fsync."""
        with self._lock, translated(self.path):
            if sync is not self._sync:
                self._connection.execute("PRAGMA synchronous = " + ("FULL" if sync else "NORMAL"))
                self._sync = sync
            yield self._connection

    @contextmanager
    def transaction(self, *, sync: bool = True, patient: bool = False) -> Iterator[apsw.Connection]:
        """A write transaction. With `sync` the commit is fsynced; `patient` waits for another program's,
        where nobody tries again (StoreError after `LOCKED_S_MAX`)."""
        with self._ready(sync) as connection:
            if patient:
                patiently(lambda: connection.execute("BEGIN IMMEDIATE"), self.path)
            else:
                connection.execute("BEGIN IMMEDIATE")
            with undone(roll_back, connection):
                yield connection
                if failpoints.armed:
                    failpoints.hit("commit.before")
                connection.execute("COMMIT")
        if failpoints.armed:
            failpoints.hit("commit.after")

    def vacuum(self, pages: int) -> None:
        with self._ready(sync=False) as connection:
            connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()

    def checkpoint(self) -> None:
        """Copy what the WAL holds into the file, as far as no reader is in the way."""
        with self._ready(sync=False) as connection:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def erase(self) -> None:
        """From here on what is deleted is overwritten, too."""
        with self._ready(sync=False) as connection:
            connection.pragma("secure_delete", True)

    def empty_wal(self) -> None:
        """Copy what the WAL holds into the file and leave nothing in it, unless a reader is in the way."""
        with self._ready(sync=True) as connection:
            connection.set_busy_timeout(WAL_MS)
            try:
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            except apsw.BusyError:
                pass  # the next one that is not busy does it
            finally:
                connection.set_busy_timeout(BUSY_MS)

    def close(self) -> None:
        with self._lock:
            if self._reserve is not None:
                self._reserve.close()
            self._connection.close()

    def apply(self, batch: Batch, blobs: Sequence[BlobRow] = ()) -> Written:
        """See `treadle.store.base.Store.apply`. `blobs` are the rows of the batch's blobs."""
        document = batch.document or document_of(batch)
        if document is not None and self._at_once(document, batch.sync):
            return Written()
        return self._with_care(batch, blobs)

    def _at_once(self, document: tuple[object, ...], sync: bool) -> bool:
        """Write a batch in one statement that is its own transaction. False if something was unusual: then
        nothing is written."""
        if failpoints.armed:
            failpoints.hit("statement.before")
            failpoints.hit("commit.before")
        with self._ready(sync) as connection:
            try:
                connection.execute("INSERT INTO batch VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", document)
            except _NOT_THE_ROWS:
                raise
            except apsw.Error:
                return False
            if sync and self._reserve is not None:
                self._reserve.keep(connection)
        if failpoints.armed:
            failpoints.hit("statement.after")
            failpoints.hit("commit.after")
        return True

    def _with_care(self, batch: Batch, blobs: Sequence[BlobRow]) -> Written:
        """Write a batch statement by statement: what is refused, taken or impossible is left out and
        reported."""
        written = Written()
        cells, payload = _encoded(batch.cells, written)
        owned = {(cell.execution_id, cell.epoch) for cell in cells}
        owned.update((cell.execution_id, cell.epoch) for cell in batch.executions)
        owned.update((line.execution_id, line.epoch) for line in batch.logs)
        owned.update((one.execution_id, one.epoch) for one in batch.context.values())
        with self.transaction(sync=batch.sync) as connection:
            changes = connection.total_changes()
            if batch.created:
                self._create(connection, batch, written)
            if batch.begun or batch.begun_context:
                self._save_blobs(connection, batch.begun, batch.begun_context)
                cells = [*cells, *(cell for cell in batch.begun if cell.execution_id not in written.taken)]
                payload = cells_json(cells)
            held = dict(all_rows(connection, self._sql["lease_epochs"], (_text([one for one, _ in owned]),)))
            refused = {pair for pair in owned if held.get(pair[0]) != pair[1]}
            if refused:
                written.refused = {one: held.get(one, 0) for one, _ in refused}
                cells = [cell for cell in cells if (cell.execution_id, cell.epoch) not in refused]
                payload = cells_json(cells)
            self._put_blobs(connection, blobs)
            if failpoints.armed:
                failpoints.hit("statement.before")
            if cells:
                self._put_cells(connection, cells, payload, written)
            executions = [execution_row(cell) for cell in batch.executions
                          if (cell.execution_id, cell.epoch) not in refused]
            if executions:
                connection.execute(self._sql["update_executions"], {"executions": _text(executions)})
            context = [one for one in batch.begun_context if one.execution_id not in written.taken]
            context += [one for one in batch.context.values()
                        if (one.execution_id, one.epoch) not in refused]
            if context:
                connection.execute(self._sql["upsert_context"], {"context": context_json(context)})
            lines = [line for line in batch.logs if (line.execution_id, line.epoch) not in refused]
            if lines:
                connection.execute(self._sql["insert_logs"], {"logs": logs_json(lines)})
            if batch.cached:
                rows = _text([cached_row(one) for one in batch.cached])
                connection.execute(self._sql["put_cached"], (rows,))
            if batch.consumed:
                connection.execute(self._sql["consume_signals"], (
                    _text(batch.consumed), _text(list(written.refused))))
            if batch.released:
                connection.execute(self._sql["release_leases"], {"released": _released(batch)})
            if batch.sync and connection.total_changes() == changes:
                # A commit without a change would not be fsynced, nor what was committed before it.
                connection.pragma("user_version", (connection.pragma("user_version") + 1) % 2**31)
            if failpoints.armed:
                failpoints.hit("statement.after")
        return written

    def _create(self, connection: apsw.Connection, batch: Batch, written: Written) -> None:
        for digest, source in {cell.diagram: source for cell, source in batch.created if source}.items():
            connection.execute(self._sql["put_diagram"], (digest, packed(source)))
        made = {row[0] for row in all_rows(
            connection,
            self._sql["insert_executions"] + " ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id",
            {"owner": _text(batch.owner), "expires_at": time.time() + batch.lease_s,
             "created": _created(batch)})}
        written.taken += [cell.execution_id for cell, _ in batch.created if cell.execution_id not in made]
        written.undrawn += [row[0] for row in all_rows(
            connection, self._sql["without_diagram"], {"created": _created(batch)})]

    def _save_blobs(self, connection: apsw.Connection, cells: Sequence[NodeState],
                    context: Sequence[ContextCell]) -> None:
        """Cells that were copied name blobs that a prune of their first execution may be about to delete."""
        named = {cell.blob for cell in cells if cell.blob is not None}
        values = [*(cell.output for cell in cells), *(one.value for one in context)]
        named |= {one for raw in values if raw for one in names_in(raw.decode())}
        if named:
            connection.execute(self._sql["save_blobs"], (_text(list(named)),))

    def _put_blobs(self, connection: apsw.Connection, blobs: Sequence[BlobRow]) -> None:
        for row in blobs:
            if failpoints.armed:
                failpoints.hit("blob.before")
            connection.execute(self._sql["put_blob"], row)
            if failpoints.armed:
                failpoints.hit("blob.after")

    def _put_cells(self, connection: apsw.Connection, cells: Sequence[NodeState], payload: str,
                   written: Written) -> None:
        """All cells in one statement; if one can't be written, halve until it is found, and leave it out."""
        try:
            connection.execute(self._sql["upsert_cells"], {"cells": payload})  # all or nothing
        except _NOT_THE_ROWS:
            raise
        except apsw.Error as error:
            if connection.get_autocommit():
                raise  # the whole transaction is gone
            if len(cells) == 1:
                written.failed.append((cells[0].key, str(error)))
                return
            middle = len(cells) // 2
            for half in (cells[:middle], cells[middle:]):
                self._put_cells(connection, half, cells_json(half), written)


class NoWriter(BatchWriter):
    """In place of the one of a file that is only looked at."""

    def __init__(self, path: str) -> None:
        self.path = path

    def _ready(self, sync: bool) -> NoReturn:
        raise StoreReadOnly(f"{self.path} was opened to be read only: {RIGHTS}")

    def erase(self) -> None:
        """Nothing is deleted."""

    def empty_wal(self) -> None:
        """Nothing was deleted."""

    def close(self) -> None:
        pass


def patiently(begin: Callable[[], _T], path: str) -> _T:
    """Begin to write as soon as other programs let us. StoreError if they don't for `LOCKED_S_MAX`."""
    until = time.monotonic() + LOCKED_S_MAX
    while True:
        try:
            return begin()
        except apsw.BusyError:
            if time.monotonic() > until:
                raise StoreError(f"{path} is locked by another program for more than {LOCKED_S_MAX:g} s: try "
                                 "again later") from None
            time.sleep(0.02)


def document_of(batch: Batch) -> tuple[object, ...] | None:
    """The values of batch.sql for a batch; None if it has what one statement can't write: blobs, a diagram's
    source, cells to begin with, consumed signals, cells that aren't text, or nothing at all."""
    if batch.blobs or batch.consumed or batch.begun or batch.begun_context or batch.cached:
        return None
    if any(source for _, source in batch.created):
        return None
    if not (batch.cells or batch.executions or batch.released or batch.created or batch.logs
            or batch.context):
        return None
    owned = {(cell.execution_id, cell.epoch) for cell in batch.cells}
    owned.update((cell.execution_id, cell.epoch) for cell in batch.executions)
    logs = None
    if batch.logs:
        owned.update((line.execution_id, line.epoch) for line in batch.logs)
        logs = logs_json(batch.logs)
    context = None
    if batch.context:
        owned.update((one.execution_id, one.epoch) for one in batch.context.values())
        context = context_json(batch.context.values())
    plain, others = split_plain(batch.cells)
    try:
        cells = plain_cells_json(plain) if plain else None, cells_json(others) if others else None
    except (ValueError, TypeError, OverflowError):
        return None
    executions = _text([execution_row(cell) for cell in batch.executions]) if batch.executions else None
    released = _released(batch) if batch.released else None
    created: tuple[object, ...] = (None, None, None)
    if batch.created:
        created = _created(batch), _text(batch.owner), time.time() + batch.lease_s
    return *cells, executions, released, *created, logs, context, _text(list(owned)), len(owned)


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


def _released(batch: Batch) -> str:
    return _text([(lease.execution_id, lease.epoch) for lease in batch.released])


def _created(batch: Batch) -> str:
    return _text([new_execution_row(cell) for cell, _ in batch.created])


def _text(value: object) -> str:
    return _json(value).decode()
