"""Reading a file: no statement keeps an old state alive, and the right to read is enough to look."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from treadle import errors
from treadle.crypto.keys import new_key
from treadle.state.status import NodeStatus
from treadle.store import open_store
from treadle.store.base import Batch, Cached, Lease, Signal, Store
from treadle.store.owner import this_owner
from treadle.store.sqlite import connection as sqlite
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, a_key, a_line, an_execution

BLOB = b"large"
DIGEST = hashlib.sha256(BLOB).hexdigest()


def filled(store: Store) -> None:
    """Something for every question."""
    store.create(an_execution(), "source", this_owner(), 15)
    store.apply(Batch([a_cell("a", status=NodeStatus.COMPLETED, output=b"1"), a_cell("b")],
                      blobs=[(DIGEST, BLOB)], logs=[a_line("said")],
                      cached=[Cached("k", "a", "demo", "run", 1.0, b"1")],
                      context={("run", "variables.x"): a_key("variables.x")}))
    store.send(Signal("run", "signal", "go", at=1.0))


QUESTIONS: dict[str, Callable[[Any], object]] = {
    "load": lambda store: store.load("run"),
    "context": lambda store: store.context("run"),
    "executions": lambda store: store.executions(),
    "summary": lambda store: store.summary("run"),
    "of a prefix": lambda store: store.summary("ru"),
    "source": lambda store: store.source("hash"),
    "signals": lambda store: store.signals(["run"]),
    "last_signal": lambda store: store.last_signal(),
    "cached": lambda store: store.cached("k"),
    "cached_results": lambda store: store.cached_results(),
    "blob": lambda store: store.blob(DIGEST),
    "open_blob": lambda store: store.open_blob(DIGEST).read(),
    "logs": lambda store: store.logs("run"),
    "new_logs": lambda store: store.new_logs("run", 0),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


# Whoever keeps cursors, as `gc.get_objects()` in a profiler does for a while, keeps no snapshots

@pytest.fixture
def kept() -> Iterator[list[apsw.Connection]]:
    """All connections that are opened from here on; each cursor on them is kept alive."""
    opened: list[apsw.Connection] = []
    cursors: list[object] = []

    def keep(connection: apsw.Connection) -> None:
        opened.append(connection)
        connection.exec_trace = lambda cursor, sql, values: cursors.append(cursor) or True

    apsw.connection_hooks.append(keep)
    yield opened
    apsw.connection_hooks.remove(keep)
    for connection in opened:
        connection.close(True)


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_answer_leaves_no_snapshot_open(path: Path, kept: list[apsw.Connection], question: str) -> None:
    store = SqliteStore(path)
    filled(store)
    for _ in range(2):
        assert QUESTIONS[question](store)
    assert len(kept) == 2, "the writer, and one reader that is used again"
    assert [one.txn_state("main") for one in kept] == [apsw.SQLITE_TXN_NONE] * 2
    store.close()


def test_writing_leaves_no_snapshot_open(path: Path, kept: list[apsw.Connection]) -> None:
    store, owner = SqliteStore(path), this_owner()
    filled(store)
    store.release([Lease("run", 1)])
    lease = store.claim("run", owner, 15)
    store.redraw(lease, an_execution(), "other")
    store.renew([lease], owner, 15)
    store.forget(["k"])
    with pytest.raises(errors.LeaseLost):
        store.redraw(Lease("run", 1), an_execution(), "third")
    assert [one.txn_state("main") for one in kept] == [apsw.SQLITE_TXN_NONE]
    store.close()


# Looking

@pytest.fixture
def recorded(path: Path) -> Iterator[SqliteStore]:
    """A store with something in it, that is open: a part of its state is in the WAL."""
    store = SqliteStore(path)
    filled(store)
    yield store
    store.close()


@pytest.mark.parametrize("alone", [True, False], ids=["in the file", "in the WAL"])
def test_a_look_sees_what_is_there_and_leaves_it_as_it_is(recorded: SqliteStore, alone: bool) -> None:
    answers = {name: ask(recorded) for name, ask in QUESTIONS.items()}
    if alone:
        recorded.close()
    folder = Path(recorded.path).parent
    before = {one.name: one.read_bytes() for one in folder.iterdir() if not one.name.endswith("-shm")}
    look = open_store(recorded.path, read_only=True)
    assert {name: ask(look) for name, ask in QUESTIONS.items()} == answers
    look.close()
    assert {one.name: one.read_bytes() for one in folder.iterdir()
            if not one.name.endswith("-shm")} == before
    with pytest.raises(errors.StoreClosed):
        look.load("run")


def test_who_looks_hears_of_what_others_write(path: Path, recorded: SqliteStore) -> None:
    look = open_store(path, read_only=True)
    before = look.version()
    assert look.version() == before
    recorded.apply(Batch([a_cell("c")]))
    assert look.version() != before and len(look.load("run")[1]) == 3
    look.close()


@pytest.mark.parametrize("change", [
    lambda store: store.create(an_execution("new"), "", this_owner(), 15),
    lambda store: store.claim("run", this_owner(), 15),
    lambda store: store.apply(Batch([a_cell("c")])),
    lambda store: store.send(Signal("run", "cancel")),
    lambda store: store.forget(["k"]),
    lambda store: store.vacuum()])
def test_who_looks_changes_nothing(path: Path, recorded: SqliteStore, change: Callable[[Any], Any]) -> None:
    recorded.close()
    look = open_store(path, read_only=True)
    with pytest.raises(errors.StoreReadOnly, match=r"state\.db was opened to be read only: check the rights"):
        change(look)
    look.close()


def test_what_changes_under_a_look_is_looked_at_again(path: Path, recorded: SqliteStore) -> None:
    """SQLite locks nothing of a file that it takes for one that nobody changes."""
    recorded.close()
    look, seen = SqliteStore(path, read_only=True), []

    def use(connection: apsw.Connection) -> object:
        seen.append(sqlite.all_rows(connection, "SELECT execution_id FROM executions ORDER BY 1"))
        if len(seen) == 1:
            other = SqliteStore(path)
            other.create(an_execution("late"), "", this_owner(), 15)
            other.close()
        return seen[-1]

    assert look._readers.lend(use) == [("late",), ("run",)] and len(seen) == 2
    look.close()


@pytest.mark.parametrize("fails", [False, True])
def test_a_file_that_changes_all_the_time_is_given_up(path: Path, recorded: SqliteStore, fails: bool) -> None:
    recorded.close()
    look = SqliteStore(path, read_only=True)

    def use(connection: apsw.Connection) -> None:
        other = SqliteStore(path)
        other.apply(Batch([], executions=[an_execution(seq=next(numbers))]))
        other.close()
        if fails:
            raise apsw.CorruptError("half of a page")

    numbers = iter(range(2, 1000))
    with pytest.raises(errors.StoreReadOnly, match="written all the time"):
        look._readers.lend(use)
    look.close()


def test_a_look_at_what_is_wrong_says_so(path: Path, recorded: SqliteStore) -> None:
    recorded.close()
    for column, kind, said in ((len(sqlite.migrations()) + 1, errors.StoreTooNew, "upgrade Treadle"),
                               (1, errors.StoreReadOnly, "written by an older Treadle and can't be brought")):
        connection = apsw.Connection(str(path))
        connection.execute("UPDATE schema_version SET version = ?", (column,))
        connection.close()
        with pytest.raises(kind, match=said):
            open_store(path, read_only=True)
    other = path.with_name("other.db")
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE t (a)")
    connection.close()
    with pytest.raises(errors.NotAStore, match="not a Treadle store"):
        open_store(other, read_only=True)
    other.write_text("text " * 100)
    with pytest.raises(errors.NotAStore, match="not a SQLite file"):
        open_store(other, read_only=True)
    with pytest.raises(errors.StoreReadOnly, match=r"none\.db can't be opened"):
        open_store(path.with_name("none.db"), read_only=True)
    assert not path.with_name("none.db").exists()


def test_a_look_at_an_encrypted_store_needs_its_key(path: Path) -> None:
    key = new_key()
    store = open_store(path, key=key)
    filled(store)
    found = store.load("run")
    store.close()
    look = open_store(path, key=key, read_only=True)
    assert look.load("run") == found
    look.close()
    for wrong in (None, new_key()):
        with pytest.raises(errors.WrongKey):
            open_store(path, key=wrong, read_only=True)


def test_a_copy_of_a_store_in_use_is_read_with_its_wal(path: Path, recorded: SqliteStore) -> None:
    copy = path.with_name("copy.db")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{copy}{end}")
    look = open_store(copy, read_only=True)
    assert look.load("run") == recorded.load("run")
    look.close()
