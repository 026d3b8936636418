"""One SQL statement in one transaction: what is the same for every database.

The databases are in `sqlite` and `postgres`, which are imported when a statement is performed: every program
imports this module.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.crypto.secrets import is_reference
from treadle.errors import LimitExceeded, NoSuchSecret, SecretError, TreadleError, did_you_mean
from treadle.nodes.auth import asked
from treadle.nodes.base import BodyContext
from treadle.nodes.filling import filled, is_expression, require_templates
from treadle.nodes.http import Secrets

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")
_LEADING = re.compile(r"(\s+|--[^\n]*(\n|\Z)|/\*.*?\*/)+", re.DOTALL)
_CONTROL = re.compile(r"(BEGIN|START\s+TRANSACTION|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+"
                      r"TRANSACTION)\b", re.IGNORECASE)
_READING = re.compile(r"(SELECT|VALUES|WITH|TABLE)\b", re.IGNORECASE)
_WRITING = re.compile(r"\b(INSERT|UPDATE|DELETE|MERGE|INTO)\b", re.IGNORECASE)


class SqlError(TreadleError, RuntimeError):
    """A statement that failed, and changed nothing; `retryable` says whether it may go better next time."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


Values = Sequence[Any] | Mapping[str, Any]
"""What is bound to one query: in order, or by name."""


class Statement(msgspec.Struct, frozen=True):
    """A statement as it is performed: everything but the database is known."""

    url: str
    query: str
    sets: list[Values]  # one, or with `many` any number
    many: bool = False
    rows: Literal["list", "one", "column", "value", "none"] = "list"
    rows_max: int = 100_000
    bytes_max: int = 64 * 1024 * 1024

    @property
    def creates(self) -> bool:
        """Whether it may make the file of a database."""
        return _begin(self.query)[:6].upper() == "CREATE"

    @property
    def reads(self) -> bool:
        """Whether it surely gives rows and changes nothing."""
        return bool(_READING.match(_begin(self.query))) and not _WRITING.search(self.query)


def _begin(query: str) -> str:
    """A query from its first word on."""
    match = _LEADING.match(query)
    return query[match.end():] if match else query


class Rows:
    """The rows of a result, as the node wants them, within its limits."""

    def __init__(self, statement: Statement, names: Sequence[str]) -> None:
        self.statement, self.names = statement, list(names)
        self.count = self.size = 0
        self.kept: list[Any] = []
        self._bare = statement.rows in ("value", "column")
        twice = [name for name in dict.fromkeys(self.names) if self.names.count(name) > 1]
        if self._bare and len(self.names) != 1:
            raise SqlError(f"`rows: {statement.rows}` wants one column, and the query gives "
                           f"{len(self.names)}: {', '.join(self.names)}")
        if twice and statement.rows != "none":
            raise SqlError(f"the query gives {self.names.count(twice[0])} columns named {twice[0]!r}: give "
                           "them names of their own with AS")

    def add(self, row: Sequence[Any]) -> None:
        self.count += 1
        wanted = self.statement.rows
        if wanted == "none":
            return
        if self.count > 1 and wanted in ("one", "value"):
            raise SqlError(f"`rows: {wanted}` wants one row, and the query gives more: narrow it, or say "
                           "`rows: list`")
        if self.count > self.statement.rows_max:
            raise LimitExceeded(f"the query gives more than {self.statement.rows_max} rows: add a LIMIT, or "
                                "raise `rows_max`")
        self.size += sum(len(one) if isinstance(one, str | bytes) else 8 for one in row)
        if self.size > self.statement.bytes_max:
            raise LimitExceeded(f"the rows have more than {self.statement.bytes_max} bytes: ask for less, "
                                "or raise `bytes_max`")
        self.kept.append(row[0] if self._bare else dict(zip(self.names, row)))

    def result(self) -> Any:
        if self.statement.rows == "none":
            return {"rows": self.count}
        if self.statement.rows in ("one", "value"):
            return self.kept[0] if self.kept else None
        return self.kept


def sets_of(params: Any, many: bool, context: BodyContext, inputs: dict[str, Any]) -> list[Values]:
    """The values of a node's `params`, a set for each time that its query is performed. SqlError."""
    value = filled(params, context, inputs)
    if not many:
        return [_one_set([] if value is None else value, "`params`")]
    if not isinstance(value, list | tuple):
        raise SqlError(f"`many` wants a list of lists or of maps as `params`, not a {type(value).__name__}")
    return [_one_set(one, f"`params[{index}]`") for index, one in enumerate(value)]


def _one_set(value: Any, what: str) -> Values:
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping):
        return {str(name): one for name, one in value.items()}
    raise SqlError(f"{what} is a {type(value).__name__}: give a list, or a map by name")


async def perform(statement: Statement, context: BodyContext, timeout: float | None) -> Any:
    """Perform a statement in a transaction; `timeout` in seconds. SqlError, LimitExceeded, NodeTimeout."""
    if statement.many and not statement.sets:
        return {"rows": 0}
    url = await asked(lambda: _resolved(statement.url, context), statement.url)
    secrets = Secrets()
    if url.startswith(_SQLITE):
        from treadle.nodes import sqlite
        said = url.removeprefix(_SQLITE)
        return await sqlite.perform(statement, _path(said, context).absolute(), said, context, timeout)
    if url.startswith(_POSTGRES):
        from treadle.nodes import postgres
        return await postgres.perform(statement, url, secrets, timeout)
    # What it gave is not shown: it may be a secret.
    raise SqlError(f"`url: {statement.url}` gave no URL that begins with {_SQLITE} or {_POSTGRES[0]}")


def _path(said: str, context: BodyContext) -> Path:
    if said in ("", ":memory:"):
        raise SqlError("`url` needs a file: a database in memory would be gone with the node")
    return context.path(said)


def _resolved(url: str, context: BodyContext) -> str:
    """A URL with its reference resolved."""
    if not is_reference(url):
        return url
    try:
        return context.secret(url).strip()
    except (NoSuchSecret, SecretError) as error:
        raise SqlError(f"`url`: {error}", retryable=isinstance(error, SecretError)) from None


def check(url: str, query: str, params: Any, *, many: bool, rows: str, limits: Mapping[str, int],
          base: str) -> None:
    """ValueError for what can't be performed whatever the inputs are."""
    _check_url(url)
    if "{{" in query:
        raise ValueError("`query` is no template, since a value that is pasted into it could change its "
                         "meaning: write ? or :name (SQLite), %s or %(name)s (PostgreSQL), and give the "
                         "value in `params`")
    control = _CONTROL.match(_begin(query))
    if control is not None:
        raise ValueError(f"`query` begins with {control[0].upper()}: the node is a transaction of its own, "
                         "of one statement")
    if isinstance(params, str) and not is_expression(params):
        raise ValueError("`params` is a list, a map or one `{{ expression }}` that gives it, not a text")
    require_templates(params, base)
    if many and not isinstance(params, str | list):
        raise ValueError("`many` wants a list of lists or of maps as `params`, or one `{{ expression }}` "
                         "that gives it")
    if many and rows != "list":
        raise ValueError("`many` gives how many rows changed, and no rows: leave `rows` out")
    for name, limit in limits.items():
        if limit < 1:
            raise ValueError(f"`{name}` must be at least 1, not {limit}")


def _check_url(url: str) -> None:
    if re.match(r"[a-z]+://[^/?#]*:[^/?#]*@", url, re.IGNORECASE) or "password=" in url:
        raise ValueError("`url` has a password in it: put the URL into an environment variable, and write "
                         "`url: env:NAME`")
    if "{{" in url[:2] or url.startswith((_SQLITE, *_POSTGRES)) or is_reference(url):
        if url.removeprefix(_SQLITE) in ("", ":memory:"):
            raise ValueError("`url` needs a file: a database in memory would be gone with the node")
        return
    scheme, _, rest = url.partition(":")
    near = did_you_mean(scheme, ["sqlite", "postgresql", "env", "secret"]) if rest else None
    hint = f" ({near})" if near and scheme not in ("sqlite", "env", "secret") else ""
    raise ValueError(f"`url` must begin with {_SQLITE} or {_POSTGRES[0]}, or be env:NAME or "
                     f"secret://NAME{hint}")
