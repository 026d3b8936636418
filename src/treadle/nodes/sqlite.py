"""SQL on files of SQLite.

By apsw rather than Python's sqlite3: it is there already, brings one known SQLite, tells before a query runs
how many values it wants and whether it writes, and has an exception for each kind of failure. It changes
nothing about how the file is kept: its journal mode stays.

The query runs in a process of its own. Locks of files belong to a process, whose two copies of SQLite don't
see each other's: beside a body that uses sqlite3 on the same file, apsw in the engine's process could damage
it. It also makes a time-out a kill, after which SQLite itself rolls back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw
import apsw.ext
import msgspec

from treadle.nodes.base import BodyContext
from treadle.nodes.failures import RemoteError
from treadle.nodes.files import plain
from treadle.nodes.sql import Rows, SqlError, Statement, Values

BUSY_S_MAX = 10.0
"""Seconds that another may hold the database."""
_INTEGER_MAX = 2**63
_RETRYABLE = (apsw.BusyError, apsw.LockedError, apsw.IOError, apsw.FullError, apsw.NoMemError,
              apsw.SchemaChangeError, apsw.ProtocolError)


async def perform(statement: Statement, path: Path, said: str, context: BodyContext,
                  timeout: float | None) -> Any:
    """Perform a statement in one transaction; `said` is the path for messages, `timeout` in seconds.
    SqlError."""
    try:
        sets = [_plain_set(values) for values in statement.sets]
        fields = msgspec.structs.astuple(msgspec.structs.replace(statement, url="", sets=sets))
        return await context.executor("process").run(perform_here, fields, str(path), said, BUSY_S_MAX,
                                                     timeout=timeout, name=context.node_id)
    except RemoteError as error:
        if error.kind != SqlError.__name__:
            raise
        raise SqlError(error.message, retryable=bool(error.retryable)) from None


def perform_here(fields: Sequence[Any], path: str, said: str, busy_s: float) -> Any:
    """The same in this process, with the fields of a Statement; at most `busy_s` seconds wait for others."""
    statement = Statement(*fields)
    try:
        connection = _open(statement, Path(path))
        connection.set_busy_handler(_patience(busy_s))
        try:
            return _transaction(connection, statement)
        finally:
            connection.close(True)  # rolls back what isn't committed
    except apsw.Error as error:
        raise SqlError(f"database {said!r}: {_why(error, statement.query, busy_s)}",
                       retryable=isinstance(error, _RETRYABLE)) from None
    except SqlError as error:
        raise SqlError(f"database {said!r}: {error}", retryable=error.retryable) from None
    except UnicodeDecodeError:
        raise SqlError(f"database {said!r}: a text of the result is not UTF-8: ask for "
                       "CAST(… AS BLOB)") from None


def _open(statement: Statement, path: Path) -> apsw.Connection:
    if path.is_dir():
        raise SqlError("that is a folder: name a file")
    flags = apsw.SQLITE_OPEN_READWRITE
    if path.exists():
        if not path.stat().st_mode & 0o222:  # who made it read-only meant it, even for an administrator
            flags = apsw.SQLITE_OPEN_READONLY
    elif statement.creates:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SqlError(f"its folder can't be made: {error.strerror}") from None
        flags |= apsw.SQLITE_OPEN_CREATE
    else:
        raise SqlError(f"there is no such file in {path.parent}: a query that begins with CREATE makes it")
    return apsw.Connection(str(path), flags=flags)


def _patience(busy_s: float) -> Callable[[int], bool]:
    until: list[float] = []  # from the first time that the database is busy

    def again(calls: int) -> bool:
        if not calls:
            until[:] = [time.monotonic() + busy_s]
        if time.monotonic() > until[0]:
            return False
        time.sleep(min(0.02, 0.001 * (calls + 1)))
        return True

    return again


def _transaction(connection: apsw.Connection, statement: Statement) -> Any:
    info = apsw.ext.query_info(connection, statement.query)
    if info.query_remaining and info.query_remaining.strip():
        raise SqlError("`query` is more than one statement: write a node for each")
    if not info.has_vdbe:
        raise SqlError("`query` is empty")
    bound = [_bound(values, info, f"`params[{index}]`" if statement.many else "`params`")
             for index, values in enumerate(statement.sets)]
    connection.execute("BEGIN" if info.is_readonly else "BEGIN IMMEDIATE")
    rows, changed = None, 0
    for index, values in enumerate(bound):
        try:
            cursor = connection.execute(statement.query, values)
            # A statement that has changed all it can has no description any more.
            if info.description and not statement.many:
                rows = Rows(statement, [name for name, _ in info.description])
                for row in cursor:
                    rows.add(row)
            else:
                for _ in cursor:
                    pass
        except apsw.ConstraintError as error:
            raise SqlError(f"`params[{index}]`: {error}" if statement.many else str(error)) from None
        changed += connection.changes()
    connection.execute("COMMIT")
    return {"rows": changed} if rows is None else rows.result()


def _bound(values: Values, info: apsw.ext.QueryDetails, what: str) -> Any:
    """A set of values as apsw takes it. SqlError if it isn't what the query wants."""
    count, names = info.bindings_count, [name for name in info.bindings_names if name]
    names = [name for name in names if not name.isdigit()]  # ?1 is a place
    if isinstance(values, Mapping):
        if not names and (count or values):
            places = f"{count} places without a name" if count else "no places"
            raise SqlError(f"{what} is a map, and the query has {places}: write :name in it, or give a list")
        missing = [name for name in names if name not in values]
        unknown = [name for name in values if name not in names]
        if missing or unknown:
            told = [f"no value for :{name}" for name in missing]
            told += [f"{name!r} is not in the query" for name in unknown]
            raise SqlError(f"{what}: {', '.join(told)}")
        return values
    if names:
        raise SqlError(f"the query has places with names ({', '.join(':' + name for name in names)}): give "
                       f"{what} as a map")
    if len(values) != count:
        raise SqlError(f"the query has {count} places for values, and {what} has {len(values)}")
    return values


def _plain_set(values: Values) -> Values:
    if isinstance(values, Mapping):
        return {name: _bindable(one) for name, one in values.items()}
    return [_bindable(one) for one in values]


def _bindable(value: Any) -> Any:
    """A value as SQLite can hold it: maps and lists as JSON, times and decimals as text. SqlError."""
    if isinstance(value, int) and not -_INTEGER_MAX <= value < _INTEGER_MAX:
        raise SqlError(f"`params`: {value!r:.40} is too large for SQLite, whose integers have 64 bits")
    if isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SqlError("`params`: a text has half of a surrogate pair, which is no UTF-8") from None
    if value is None or isinstance(value, str | int | float | bytes):
        return value
    if isinstance(value, datetime):
        return value.isoformat(" ")  # as SQLite's own functions write it, so that they compare
    try:
        value = plain(value)
    except ValueError as error:
        raise SqlError(f"`params`: {error}") from None
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value


def _why(error: apsw.Error, query: str, busy_s: float) -> str:
    """What an error says, with the place in the query if it knows it."""
    said = str(error).removeprefix("SQLError: ")
    if isinstance(error, apsw.BusyError):
        return f"{said}: another program has held it for {busy_s:g} s"
    if isinstance(error, apsw.ReadOnlyError):
        return f"{said}: allow writing its file (chmod u+w), or name another"
    if isinstance(error, apsw.NotADBError):
        return "that file is no SQLite database"
    offset = getattr(error, "error_offset", -1)
    if not isinstance(error, apsw.SQLError) or offset is None or offset < 0:
        return said
    before = query.encode()[:offset].decode(errors="ignore")
    line = query.splitlines()[before.count("\n")].strip() if query else ""
    return f"{said} (line {before.count(chr(10)) + 1} of the query: {line:.80})"
