"""SQL on PostgreSQL, by psycopg 3, which is an extra (`treadle[postgres]`).

It runs on the event loop: when the body is cancelled, psycopg cancels the query in the server, and leaving
the connection's block rolls back.
"""

from __future__ import annotations

import asyncio
import math
import types
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from treadle.nodes.http import Secrets
from treadle.nodes.sql import Rows, SqlError, Statement, Values

if TYPE_CHECKING:
    import psycopg

CONNECT_S_MAX = 10
"""Seconds until a server must have answered, unless the URL has a `connect_timeout`."""
_GRACE_S = 2.0  # the engine cancels first; the server's own limit is for a connection that is lost
_CHUNK = 1000  # rows between two breaths of the event loop
# Connection lost, transaction rolled back, too few resources, an operator's doing, a lock, a query cancelled.
_RETRYABLE = ("08", "40", "53", "57", "58", "55P03", "55006")
_PLAIN = frozenset(("NoneType", "bool", "int", "float", "str", "bytes", "Decimal", "UUID", "date", "time",
                    "datetime", "timedelta"))


def load() -> types.ModuleType:
    """psycopg, or an error that says how to install it."""
    try:
        import psycopg
    except ImportError as error:
        why = "which is not installed" if error.name == "psycopg" else f"which can't be loaded ({error})"
        raise SqlError(f"PostgreSQL needs psycopg, {why}: pip install 'treadle[postgres]'") from None
    return psycopg


async def perform(statement: Statement, url: str, secrets: Secrets, timeout: float | None) -> Any:
    """Perform a statement in one transaction; `timeout` in seconds. SqlError."""
    psycopg = load()
    try:
        connection = await _connect(url, secrets)
        async with connection, connection.cursor() as cursor:
            if timeout is not None:
                limit = str(math.ceil((timeout + _GRACE_S) * 1000))
                await cursor.execute(b"SELECT set_config('statement_timeout', %s, true)", [limit])
            if statement.many:
                await cursor.executemany(statement.query.encode(), map(_bindable, statement.sets))
                return {"rows": max(0, cursor.rowcount)}
            return await _rows(cursor, statement)
    except psycopg.Error as error:
        raise SqlError(secrets.redact(f"PostgreSQL: {_why(error)}"), retryable=_is_retryable(error)) from None
    except SqlError as error:
        raise SqlError(f"PostgreSQL: {error}", retryable=error.retryable) from None


async def _connect(url: str, secrets: Secrets) -> psycopg.AsyncConnection[Any]:
    import psycopg
    from psycopg.conninfo import conninfo_to_dict
    from psycopg.types.json import JsonbDumper
    try:
        info: dict[str, Any] = conninfo_to_dict(url)
    except psycopg.Error:  # its message has parts of the URL
        raise SqlError("`url` is no URL that PostgreSQL's library can read") from None
    if info.get("password"):
        secrets.hide(str(info["password"]))
    secrets.hide(url)
    info.setdefault("connect_timeout", CONNECT_S_MAX)
    info.setdefault("fallback_application_name", "treadle")
    connection = await psycopg.AsyncConnection.connect("", prepare_threshold=None, **info)
    connection.adapters.register_dumper(dict, JsonbDumper)
    return connection


async def _rows(cursor: psycopg.AsyncCursor[Any], statement: Statement) -> Any:
    query, values = statement.query.encode(), _bindable(statement.sets[0]) or None
    if not statement.reads:
        await cursor.execute(query, values)
        if cursor.nextset():
            raise SqlError("`query` is more than one statement: write a node for each")
        if cursor.description is None:
            return {"rows": max(0, cursor.rowcount)}
        rows = Rows(statement, _names(cursor))
        async for row in cursor:
            rows.add([_kept(value) for value in row])
        return rows.result()
    found = None
    stream = cursor.stream(query, values)  # as they come: nobody knows yet how many there are
    assert isinstance(stream, AsyncGenerator)
    async with aclosing(stream):
        async for row in stream:
            if found is None:
                found = Rows(statement, _names(cursor))
            found.add([_kept(value) for value in row])
            if found.count % _CHUNK == 0:
                await asyncio.sleep(0)
    return (found or Rows(statement, [""])).result()


def _names(cursor: psycopg.AsyncCursor[Any]) -> list[str]:
    return [column.name for column in cursor.description or ()]


def _bindable(values: Values) -> Values:
    return values if isinstance(values, Mapping) else list(values)


def _kept(value: Any) -> Any:
    """A value as it can be recorded: what only PostgreSQL has (ranges, networks …) as text."""
    if type(value).__name__ in _PLAIN:
        return value
    if isinstance(value, list | tuple):
        return [_kept(one) for one in value]
    return value if isinstance(value, dict) else str(value)  # a dict is JSON


def _is_retryable(error: psycopg.Error) -> bool:
    """Whether it may go better next time: by the server's code, and without one by the kind of error."""
    import psycopg
    if error.sqlstate is not None:
        return error.sqlstate.startswith(_RETRYABLE)
    # A connection that can't be made has no code: only what the server said of it.
    return isinstance(error, psycopg.OperationalError) and not any(
        words in str(error) for words in ("authentication failed", "does not exist", "no pg_hba.conf entry",
                                          "no password supplied"))


def _why(error: psycopg.Error) -> str:
    said = str(error).strip()
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
