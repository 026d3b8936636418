"""Opening a SQLite file: the library's version, the kind of file, its migrations, and one writer per process.

SQLite before 3.51.3 could corrupt a WAL file that two connections write (sqlite.org/wal.html, "WAL-reset
bug"), so apsw's own SQLite is used and its version is checked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import apsw

from treadle.errors import (
    NotAStore,
    StoreClosed,
    StoreCorrupt,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreTooNew,
    TreadleError,
)
from treadle.undo import undone

APPLICATION_ID = 0x54524431  # "TRD1"
SQLITE_MIN = (3, 51, 3)
RIGHTS = "check the rights of the file and of its folder"
BUSY_MS = 250
"""How long a statement waits for another program's lock before it gives up and is tried again later."""
LOOKS_MAX = 20
"""How often a file that is being changed is looked at again."""
TICK_S = 0.02
"""How far apart changes of a file are if they surely have different times."""
_T = TypeVar("_T")


@cache
def queries() -> dict[str, str]:
    """The statements of queries.sql by name."""
    text = _resource("queries.sql")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)
    named = dict(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    return {name: _placed(text, named) for name, text in named.items()}


def _placed(text: str, named: Mapping[str, str]) -> str:
    """A text with the named ones in place of {their names}."""
    return re.sub(r"\{(\w+)\}", lambda match: named[match[1]], text)


@cache
def at_once() -> str:
    """batch.sql with the named queries in place."""
    inside = {name: re.sub(r":(\w+)", r"NEW.\1", text) for name, text in queries().items()}
    return _placed(_resource("batch.sql"), inside)


def migrations() -> list[str]:
    """The texts of the migrations, oldest first."""
    folder = resources.files(__package__) / "migrations"
    files = sorted(folder.iterdir(), key=lambda one: one.name)
    return [one.read_text() for one in files if one.name.endswith(".sql")]


def _resource(name: str) -> str:
    return (resources.files(__package__) / name).read_text()


def check_library() -> None:
    """StoreError if apsw was built with a SQLite that can corrupt files."""
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < SQLITE_MIN:
        wanted = ".".join(map(str, SQLITE_MIN))
        raise StoreError(f"apsw brings SQLite {apsw.sqlite_lib_version()}, which can corrupt a file that two "
                         f"connections write: install apsw >= {wanted}")


@contextlib.contextmanager
def translated(path: str) -> Iterator[None]:
    """Turn SQLite's errors into ours: what happened to which file, and what to do."""
    try:
        yield
    except apsw.NotADBError as error:
        raise NotAStore(f"{path} is not a SQLite file: choose another path for the store") from error
    except apsw.CorruptError as error:
        raise StoreCorrupt(f"{path} is damaged ({error}): restore a copy, or save what is left with "
                           f"`sqlite3 {path} .recover`") from error
    except UnicodeDecodeError as error:
        raise StoreCorrupt(f"{path} holds a text that is not UTF-8 ({error}); somebody changed it: "
                           "restore the store from a copy") from error
    except apsw.FullError as error:
        raise StoreFull(errno.ENOSPC, f"the disk of {path} is full: make room, what waits is written "
                        "then") from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreReadOnly(f"{path} can't be written: {RIGHTS}") from error
    except apsw.CantOpenError as error:
        folder = Path(path).parent
        if not folder.exists():
            raise StoreError(f"{path} can't be opened: the folder {folder} doesn't exist") from error
        raise StoreReadOnly(f"{path} can't be opened: {RIGHTS}") from error


def connect(path: str, vfs: str | None = None) -> apsw.Connection:
    """A connection that may write; the file is made and migrated if need be."""
    check_library()
    with translated(path):
        connection = apsw.Connection(path, vfs=vfs)
        connection.set_busy_timeout(10_000)
        with undone(connection.close):
            _prepare(connection, path)
        connection.set_busy_timeout(BUSY_MS)
        return connection


def connect_reader(path: str, vfs: str | None = None) -> apsw.Connection:
    """A connection that can only read."""
    with translated(path):
        connection = apsw.Connection(path, vfs=vfs)
        connection.set_busy_timeout(10_000)
        connection.pragma("query_only", True)
        return connection


def connect_to_look(path: str, wal: bool | None = None) -> apsw.Connection:
    """A connection that changes nothing, to a file that can't be written or whose folder can't. StoreReadOnly
    if it can't be read so, either.

    With nothing in the WAL the file alone is the whole state, and it is read as one that nobody changes:
    SQLite locks nothing then, nor looks at anything beside it. If somebody changes it, `Looks` sees it.
    """
    wal = _fingerprint(path)[0] > 0 if wal is None else wal
    uri = f"{Path(path).absolute().as_uri()}?{'mode=ro' if wal else 'immutable=1'}"
    with translated(path):
        connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        connection.set_busy_timeout(10_000)
        connection.pragma("query_only", True)
        try:
            connection.pragma("schema_version")  # opens the WAL
        except apsw.CantOpenError as error:
            if not wal or Path(f"{path}-shm").exists():
                raise
            raise StoreReadOnly(
                f"{path} can't be read without the right to write in its folder, since a part of its state "
                f"is in {path}-wal and there is no {path}-shm: copy the first two to a folder of your own, "
                "and look there") from error
    return connection


def _fingerprint(path: str) -> tuple[int, ...]:
    """Sizes and times of the WAL and of the file: every commit, and every copy from one to the other, changes
    them."""
    found: list[int] = []
    for name in (f"{path}-wal", path):
        try:
            about = os.stat(name)
        except FileNotFoundError:
            found += 0, 0
        else:
            found += about.st_size, about.st_mtime_ns
    return tuple(found)


class Readers:
    """Reading connections to a file, one for each thread that reads at the same time."""

    def __init__(self, path: str, vfs: str | None = None) -> None:
        self._path, self._vfs = path, vfs
        self._idle: list[apsw.Connection] = []
        self._lock, self._watching = threading.Lock(), threading.Lock()
        self._watcher: apsw.Connection | None = None
        self._closed = False

    def lend(self, use: Callable[[apsw.Connection], _T]) -> _T:
        """Call with a connection, from any thread."""
        with self._lock:
            if self._closed:
                raise StoreClosed(f"{self._path} is closed")
            connection = self._idle.pop() if self._idle else None
        connection = connection or connect_reader(self._path, self._vfs)
        try:
            with translated(self._path):
                return use(connection)
        finally:
            self._give_back(connection)

    def _give_back(self, connection: apsw.Connection) -> None:
        # All our statements are read to their ends. A use that raised in the midst of one, though, has left
        # it to its cursor: see `all_rows`.
        stuck = connection.txn_state("main") != apsw.SQLITE_TXN_NONE
        with self._lock:
            if not self._closed and not stuck:
                self._idle.append(connection)
                return
        connection.close(True)

    def watch(self, use: Callable[[apsw.Connection], _T]) -> _T:
        """Call with the watcher's connection: data_version compares with the same connection's last answer.
        An engine watches, and so does a monitor beside it, each on a thread of its own."""
        with self._watching:
            if self._watcher is None:
                self._watcher = connect_reader(self._path, self._vfs)
            return use(self._watcher)

    def version(self) -> int:
        """See `treadle.store.base.Store.version`."""
        return self.watch(lambda connection: int(connection.pragma("data_version")))

    def close(self) -> None:
        with self._lock:
            self._closed = True
            for reader in self._idle:
                reader.close()
            self._idle.clear()
        if self._watcher is not None:
            self._watcher.close()


class Looks(Readers):
    """Looks at a file that can't be written: each with a connection of its own, and again if the file was
    changed meanwhile."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._check()

    def lend(self, use: Callable[[apsw.Connection], _T]) -> _T:
        if self._closed:
            raise StoreClosed(f"{self._path} is closed")
        for _ in range(LOOKS_MAX):
            before = _fingerprint(self._path)
            locked = before[0] > 0  # SQLite sees to it that we read one state
            if not locked and 0 <= time.time() - before[3] / 1e9 < TICK_S:
                time.sleep(TICK_S)
                continue
            try:
                found = self._once(use, locked)
            except (TreadleError, apsw.Error) as error:
                if _fingerprint(self._path) == before or (locked and not isinstance(error, StoreReadOnly)):
                    raise
            else:
                if locked or _fingerprint(self._path) == before:
                    return found
        raise StoreReadOnly(f"{self._path} is written all the time and can't be read without the right to "
                            "write in its folder: try again")

    def _once(self, use: Callable[[apsw.Connection], _T], wal: bool) -> _T:
        connection = connect_to_look(self._path, wal)
        try:
            with translated(self._path):
                return use(connection)
        finally:
            connection.close(True)

    def watch(self, use: Callable[[apsw.Connection], _T]) -> _T:
        return self.lend(use)

    def version(self) -> int:
        return hash(_fingerprint(self._path))

    def _check(self) -> None:
        """Refuse a file that isn't a store, or not one of this version."""
        application, version = self.lend(lambda connection: (
            connection.pragma("application_id"), _version(connection)))
        if application != APPLICATION_ID:
            raise _foreign(self._path)
        if version > len(migrations()):
            raise _too_new(self._path, version)
        if version < len(migrations()):
            raise StoreReadOnly(f"{self._path} was written by an older Treadle and can't be brought up to "
                                f"date: {RIGHTS}")


Values: TypeAlias = Sequence[Any] | Mapping[str, Any]
"""What a statement's places stand for."""


def all_rows(connection: apsw.Connection, sql: str, values: Values = ()) -> list[Any]:
    """All rows that a statement gives, as tuples.

    A statement that isn't read to its end holds its snapshot of the file for as long as its cursor lives, and
    that needn't end with our last reference: `gc.get_objects()`, in a profiler on another thread, keeps all
    cursors for a while. Later reads would be of that moment, so every statement is read to its end.
    """
    return connection.execute(sql, values).fetchall()


def first_row(connection: apsw.Connection, sql: str, values: Values = ()) -> Any:
    """The one row that a statement gives, as a tuple, or None: see `all_rows`."""
    found = all_rows(connection, sql, values)
    return found[0] if found else None


def _prepare(connection: apsw.Connection, path: str) -> None:
    application, tables = connection.pragma("application_id"), connection.execute(
        "SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (application or tables):
        raise _foreign(path)
    if connection.readonly("main"):
        raise StoreReadOnly(f"{path} can't be written: {RIGHTS}")
    if not tables:
        connection.pragma("auto_vacuum", "incremental")
        connection.pragma("page_size", 4096)
    connection.pragma("journal_mode", "wal")
    connection.pragma("synchronous", "normal")
    connection.pragma("wal_autocheckpoint", 4000)
    connection.pragma("cache_size", -16_000)
    connection.pragma("foreign_keys", True)
    _migrate(connection, path)


def _migrate(connection: apsw.Connection, path: str) -> None:
    known = migrations()
    if _version(connection) == len(known):
        return  # no lock: another program may hold it
    connection.execute("BEGIN IMMEDIATE")
    with undone(roll_back, connection):
        version = _version(connection)
        if version > len(known):
            raise _too_new(path, version)
        for number in range(version, len(known)):
            connection.execute(known[number])
            connection.execute("INSERT INTO schema_version VALUES (?)", (number + 1,))
        if version < len(known):
            connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")


def roll_back(connection: apsw.Connection) -> None:
    """Leave a transaction, if SQLite has not left it by itself."""
    if not connection.get_autocommit():
        connection.execute("ROLLBACK")


def _foreign(path: str) -> NotAStore:
    return NotAStore(f"{path} is a SQLite file, but not a Treadle store: choose another path")


def _too_new(path: str, version: int) -> StoreTooNew:
    return StoreTooNew(f"{path} was written by a newer Treadle (schema {version}, this one knows "
                       f"{len(migrations())}): upgrade Treadle")


def _version(connection: apsw.Connection) -> int:
    if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'").get:
        return 0
    return int(connection.execute("SELECT max(version) FROM schema_version").get or 0)
