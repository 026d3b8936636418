"""Opening a SQLite file: the library's version, the kind of file, its migrations, and one writer per process.

SQLite before 3.51.3 could corrupt a WAL file that two connections write (sqlite.org/wal.html, "WAL-reset
bug"), so apsw's own SQLite is used and its version is checked.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path

import apsw

from treadle.errors import NotAStore, StoreCorrupt, StoreError, StoreFull, StoreReadOnly, StoreTooNew

APPLICATION_ID = 0x54524431  # "TRD1"
SQLITE_MIN = (3, 51, 3)
_RIGHTS = "check the rights of the file and of its folder"
BUSY_MS = 250
"""How long a statement waits for another program's lock before it gives up and is tried again later."""


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
    except apsw.FullError as error:
        raise StoreFull(errno.ENOSPC, f"the disk of {path} is full: make room, what waits is written "
                        "then") from error
    except (apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreReadOnly(f"{path} can't be written: {_RIGHTS}") from error
    except apsw.CantOpenError as error:
        folder = Path(path).parent
        if not folder.exists():
            raise StoreError(f"{path} can't be opened: the folder {folder} doesn't exist") from error
        raise StoreReadOnly(f"{path} can't be opened: {_RIGHTS}") from error


def connect(path: str, vfs: str | None = None) -> apsw.Connection:
    """A connection that may write; the file is made and migrated if need be."""
    check_library()
    with translated(path):
        connection = apsw.Connection(path, vfs=vfs)
        connection.set_busy_timeout(10_000)
        try:
            _prepare(connection, path)
        except BaseException:
            connection.close()
            raise
        connection.set_busy_timeout(BUSY_MS)
        return connection


def connect_reader(path: str, vfs: str | None = None) -> apsw.Connection:
    """A connection that can only read."""
    with translated(path):
        connection = apsw.Connection(path, vfs=vfs)
        connection.set_busy_timeout(10_000)
        connection.pragma("query_only", True)
        return connection


def _prepare(connection: apsw.Connection, path: str) -> None:
    application, tables = connection.pragma("application_id"), connection.execute(
        "SELECT count(*) FROM sqlite_schema").get
    if application != APPLICATION_ID and (application or tables):
        raise NotAStore(f"{path} is a SQLite file, but not a Treadle store: choose another path")
    if connection.readonly("main"):
        raise StoreReadOnly(f"{path} can't be written: {_RIGHTS}")
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
    try:
        version = _version(connection)
        if version > len(known):
            raise StoreTooNew(f"{path} was written by a newer Treadle (schema {version}, this one knows "
                              f"{len(known)}): upgrade Treadle")
        for number in range(version, len(known)):
            connection.execute(known[number])
            connection.execute("INSERT INTO schema_version VALUES (?)", (number + 1,))
        if version < len(known):
            connection.pragma("application_id", APPLICATION_ID)
        connection.execute("COMMIT")
    except BaseException:
        if not connection.get_autocommit():
            connection.execute("ROLLBACK")
        raise


def _version(connection: apsw.Connection) -> int:
    if not connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'").get:
        return 0
    return int(connection.execute("SELECT max(version) FROM schema_version").get or 0)
