"""`db` with `operation: sql` on files of SQLite, and what holds for every database."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from treadle.diagram.policy import Policy
from treadle.errors import ExpressionError, LimitExceeded, NodeTimeout
from treadle.nodes import sqlite
from treadle.nodes.sql import SqlError

Perform = Callable[..., Any]
URL = "sqlite:///data/a.db"


@pytest.fixture
def ask(perform_warm: Perform) -> Callable[..., Any]:
    """`ask(query, inputs, params=…)` on a database with a table `users`."""
    def performed(query: str, inputs: Any = None, **properties: Any) -> Any:
        return perform_warm("db", inputs, operation="sql", query=query, **{"url": URL, **properties})

    assert performed("CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT NOT NULL)") == {"rows": 0}
    assert performed("INSERT INTO users VALUES (1, 'Ann'), (2, 'Bob')") == {"rows": 2}
    return performed


@contextlib.contextmanager
def foreign(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Another program that has the database open."""
    with contextlib.closing(sqlite3.connect(tmp_path / "data/a.db", isolation_level=None,
                                            check_same_thread=False)) as connection:
        yield connection


Ask = Callable[..., Any]


def test_rows_are_maps_in_a_list(ask: Ask) -> None:
    assert ask("SELECT * FROM users ORDER BY id") == [{"id": 1, "name": "Ann"}, {"id": 2, "name": "Bob"}]
    assert ask("SELECT * FROM users WHERE id > 2") == []
    assert ask("SELECT 1 AS n, NULL AS none, 1.5 AS x, x'00ff' AS raw") == [
        {"n": 1, "none": None, "x": 1.5, "raw": b"\x00\xff"}]


@pytest.mark.parametrize(("rows", "query", "result"), [
    ("one", "SELECT * FROM users WHERE id = 1", {"id": 1, "name": "Ann"}),
    ("one", "SELECT * FROM users WHERE id = 3", None), ("value", "SELECT count(*) FROM users", 2),
    ("value", "SELECT id FROM users WHERE id = 3", None),
    ("column", "SELECT name FROM users", ["Ann", "Bob"]),
    ("column", "SELECT name FROM users WHERE id = 3", []), ("none", "SELECT id, id FROM users", {"rows": 2})])
def test_other_shapes_of_rows(ask: Ask, rows: str, query: str, result: Any) -> None:
    assert ask(query, rows=rows) == result


@pytest.mark.parametrize(("rows", "query", "message"), [
    ("one", "SELECT * FROM users", "`rows: one` wants one row"),
    ("value", "SELECT id FROM users", "`rows: value` wants one row"),
    ("value", "SELECT * FROM users", "`rows: value` wants one column, and the query gives 2: id, name"),
    ("list", "SELECT a.id, b.id FROM users a, users b", "2 columns named 'id': .* AS")])
def test_rows_that_do_not_fit(ask: Ask, rows: str, query: str, message: str) -> None:
    with pytest.raises(SqlError, match=message):
        ask(query, rows=rows)


def test_changes_say_how_many_rows(ask: Ask) -> None:
    assert ask("UPDATE users SET name = upper(name)") == {"rows": 2}
    assert ask("DELETE FROM users WHERE id = 9") == {"rows": 0}
    assert ask("INSERT INTO users (name) VALUES ('Cy') RETURNING id", rows="value") == 3
    assert ask("DROP TABLE users") == {"rows": 0}


def test_values_are_bound_and_never_pasted(ask: Ask) -> None:
    nasty = "Rob'); DROP TABLE users; --"
    inputs = {"who": nasty, "n": 3}
    ask("INSERT INTO users VALUES (?, ?)", inputs, params=["{{ n }}", "{{ who }}"])
    assert ask("SELECT name FROM users WHERE id = :id AND name LIKE :like", inputs, rows="value",
               params={"id": "{{ n }}", "like": "Rob{{ '%' }}"}) == nasty
    assert ask("SELECT typeof(?)", inputs, params="{{ [n] }}", rows="value") == "integer"
    with pytest.raises(ExpressionError, match="nobody"):
        ask("SELECT ?", params=["{{ nobody }}"])


@pytest.mark.parametrize(("value", "kept"), [
    (True, 1), (None, None), (b"\x00", b"\x00"), ({"a": [1, "é"]}, '{"a": [1, "é"]}'), ((1, 2), "[1, 2]"),
    (Decimal("1.10"), "1.10"), (date(2026, 1, 2), "2026-01-02"),
    (datetime(2026, 1, 2, 3, 4, tzinfo=UTC), "2026-01-02 03:04:00+00:00"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"), (Path("a/b"), "a/b"), (2**63 - 1, 2**63 - 1)])
def test_what_sqlite_takes(ask: Ask, value: Any, kept: Any) -> None:
    assert ask("SELECT ?", {"v": value}, params=["{{ v }}"], rows="value") == kept


def test_what_sqlite_does_not_take(ask: Ask) -> None:
    with pytest.raises(SqlError, match="9223372036854775808 is too large for SQLite"):
        ask("SELECT ?", {"v": 2**63}, params=["{{ v }}"])
    with pytest.raises(SqlError, match="half of a surrogate pair"):
        ask("SELECT ?", {"v": "\ud800"}, params=["{{ v }}"])
    with pytest.raises((SqlError, TypeError), match="object"):
        ask("SELECT ?", {"v": object()}, params=["{{ v }}"])


@pytest.mark.parametrize(("query", "params", "message"), [
    ("SELECT ?, ?", [1], "the query has 2 places for values, and `params` has 1"),
    ("SELECT 1", [1], "has 0 places for values, and `params` has 1"),
    ("SELECT :a, :b", {"a": 1}, "no value for :b"),
    ("SELECT :a", {"a": 1, "b": 2}, "'b' is not in the query"),
    ("SELECT :a", [1], r"places with names \(:a\): give `params` as a map"),
    ("SELECT ?", {"a": 1}, "is a map, and the query has 1 places without a name"),
    ("SELECT ?", "{{ 3 }}", "`params` is a int: give a list, or a map")])
def test_values_that_do_not_fit_the_query(ask: Ask, query: str, params: Any, message: str) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        ask(query, params=params)
    assert not caught.value.retryable


# many


def test_many_is_one_transaction(ask: Ask) -> None:
    users = [{"id": 3, "name": "Cy"}, {"id": 4, "name": "Di"}]
    insert = "INSERT INTO users VALUES (:id, :name)"
    assert ask(insert, {"users": users}, params="{{ users }}", many=True) == {"rows": 2}
    with pytest.raises(SqlError, match=r"`params\[1\]`: .*UNIQUE constraint failed: users\.id"):
        ask(insert, {"users": [{"id": 5, "name": "Ed"}, *users]}, params="{{ users }}", many=True)
    assert ask("SELECT count(*) FROM users", rows="value") == 4, "nothing of what failed stays"
    assert ask("DELETE FROM users WHERE id = ?", params=[[3], [4], [5]], many=True) == {"rows": 2}
    assert ask(insert, params=[], many=True) == {"rows": 0}
    with pytest.raises(SqlError, match=r"`params\[1\]` is a int"):
        ask(insert, {"users": [[6, "Fi"], 7]}, params="{{ users }}", many=True)


# what goes wrong


@pytest.mark.parametrize(("query", "message"), [
    ("SELECT * FROM nobody", "database 'data/a.db': .*no such table: nobody"),
    ("SELECT id\nFROM users\nWHER id = 1", r"syntax error \(line 3 of the query: WHER id = 1\)"),
    ("INSERT INTO users VALUES (1, 'x')", r"UNIQUE constraint failed: users\.id"),
    ("INSERT INTO users VALUES (7, NULL)", r"NOT NULL constraint failed"),
    ("SELECT 1; SELECT 2", "more than one statement"), ("SELECT CAST(x'ff' AS TEXT)", "not UTF-8"),
    ("  -- nothing", "`query` is empty")])
def test_a_query_that_fails_says_why_and_is_not_tried_again(ask: Ask, query: str, message: str) -> None:
    with pytest.raises(SqlError, match=message) as caught:
        ask(query)
    assert not caught.value.retryable


def test_a_missing_file_is_made_by_create_only(perform_warm: Perform, tmp_path: Path) -> None:
    with pytest.raises(SqlError, match=r"'none\.db': there is no such file in .*CREATE makes it"):
        perform_warm("db", operation="sql", url="sqlite:///none.db", query="SELECT 1")
    assert os.listdir(tmp_path) == []
    perform_warm("db", operation="sql", url="sqlite:///new/b.db", query="-- first\nCREATE TABLE t (x)")
    absolute = f"sqlite:///{tmp_path}/new/b.db"
    assert perform_warm("db", operation="sql", url=absolute, query="SELECT * FROM t") == []


def test_files_that_will_not_do(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("not a database, but a text that is long enough " * 20)
    with pytest.raises(SqlError, match="is no SQLite database"):
        ask("SELECT * FROM x", url="sqlite:///text.db")
    with pytest.raises(SqlError, match="'data': that is a folder"):
        ask("SELECT 1", url="sqlite:///data")
    (tmp_path / "data/a.db").chmod(0o444)
    assert ask("SELECT count(*) FROM users", rows="value") == 2
    with pytest.raises(SqlError, match=r"readonly database.*chmod") as caught:
        ask("DELETE FROM users")
    assert not caught.value.retryable


def test_a_database_that_others_hold_is_waited_for(ask: Ask, tmp_path: Path,
                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    with foreign(tmp_path) as other:
        other.execute("BEGIN EXCLUSIVE")
        timer = threading.Timer(0.2, other.execute, ["COMMIT"])
        timer.start()
        assert ask("DELETE FROM users WHERE id = 1") == {"rows": 1}
        timer.join()
        monkeypatch.setattr(sqlite, "BUSY_S_MAX", 0.05)
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(SqlError, match=r"locked: another program has held it for 0\.05 s") as caught:
            ask("DELETE FROM users")
        assert caught.value.retryable
        other.execute("ROLLBACK")
        assert other.execute("PRAGMA journal_mode").fetchone() == ("delete",), "the file is kept as it was"


def test_a_timeout_stops_the_query_and_changes_nothing(ask: Ask) -> None:
    endless = ("INSERT INTO users WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n) "
               "SELECT i, 'x' FROM n")
    with pytest.raises(NodeTimeout, match=r"timeout of 0\.2 s"):
        ask(endless, policy=Policy(timeout=0.2))
    assert ask("SELECT count(*) FROM users", rows="value") == 2


def test_limits_have_names(ask: Ask) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n"
    with pytest.raises(LimitExceeded, match="more than 10 rows: add a LIMIT, or raise `rows_max`"):
        ask(numbers, rows_max=10)
    with pytest.raises(LimitExceeded, match="more than 100 bytes: ask for less, or raise `bytes_max`"):
        ask("SELECT zeroblob(101)", bytes_max=100)


def test_a_change_whose_rows_are_too_many_is_taken_back(ask: Ask) -> None:
    with pytest.raises(LimitExceeded):
        ask("DELETE FROM users RETURNING id", rows_max=1)
    assert ask("SELECT count(*) FROM users", rows="value") == 2


# before anything runs


@pytest.mark.parametrize(("properties", "message"), [
    ({"query": "SELECT '{{ name }}'"}, "`query` is no template.*`params`"),
    ({"query": "/* so */ commit"}, "begins with COMMIT"), ({"query": ""}, "sql needs `query`"),
    ({"url": None}, "sql needs `url`"), ({"url": "mysql://h/d"}, "`url` must begin with sqlite:///"),
    ({"url": "sqlite://a.db"}, "`url` must begin with sqlite:///"),
    ({"url": "postgress://h/d"}, "did you mean"),
    ({"url": "sqlite:///:memory:"}, "would be gone with the node"),
    ({"url": "postgresql://ann:sesame@h/d"}, r"has a password in it.*`url: env:NAME`"),
    ({"url": "postgresql://h/d?password=sesame"}, "has a password in it"),
    ({"file": "a.db"}, "`file` is for read and write and append and update, not for sql"),
    ({"params": "1, 2"}, "not a text"), ({"params": ["{{ a +"]}, "a \\+|template|syntax|expected"),
    ({"many": True}, "`many` wants a list"), ({"many": True, "params": {"a": 1}}, "`many` wants a list"),
    ({"many": True, "params": [[1]], "rows": "one"}, "leave `rows` out"),
    ({"rows_max": 0}, "`rows_max` must be at least 1")])
def test_faults_of_sql(perform: Perform, properties: dict[str, Any], message: str) -> None:
    said = {"operation": "sql", "url": URL, "query": "SELECT 1", **properties}
    with pytest.raises(ValueError, match=message) as caught:
        perform.ports("db", **said)  # type: ignore[attr-defined]
    assert "sesame" not in str(caught.value)


def test_the_url_may_be_in_the_environment(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USERS_DB", URL)
    assert ask("SELECT count(*) FROM users", rows="value", url="env:USERS_DB") == 2
    assert ask("SELECT count(*) FROM users", rows="value", url="secret://USERS_DB") == 2
    url = "sqlite:///data/{{ file }}.db"
    assert ask("SELECT count(*) FROM users", {"file": "a"}, rows="value", url=url) == 2
    monkeypatch.setenv("USERS_DB", "sesame")
    with pytest.raises(SqlError, match="`url: env:USERS_DB` gave no URL") as caught:
        ask("SELECT 1", url="env:USERS_DB")
    assert "sesame" not in str(caught.value)
    monkeypatch.delenv("USERS_DB")
    with pytest.raises(SqlError, match="'USERS_DB' is not set"):
        ask("SELECT 1", url="env:USERS_DB")
