"""Opening a file says what is wrong with it, and what SQLite is asked to be."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import apsw
import pytest

from treadle import errors
from treadle.store import default_store_url, open_store
from treadle.store.base import Batch
from treadle.store.memory import MemoryStore
from treadle.store.owner import this_owner
from treadle.store.sqlite import connection as sqlite
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, a_line, an_execution


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def raw(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def schema(statements: list[str]) -> set[tuple[object, ...]]:
    connection = apsw.Connection(":memory:")
    for text in statements:
        connection.execute(text)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    connection.close()
    return set(rows)


def test_the_schema_is_the_sum_of_its_migrations() -> None:
    assert schema([sqlite._resource("schema.sql")]) == schema(sqlite.migrations())


def test_a_url_says_which_store(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in (str(path), path, f"sqlite:///{path}"):
        store = open_store(url)
        assert isinstance(store, SqliteStore) and store.path == str(path)
        assert store.url == f"sqlite:///{path}"
        store.close()
    assert isinstance(open_store("memory:"), MemoryStore)
    for url in ("postgresql://host/db", "mysql://host/db"):
        with pytest.raises(errors.StoreError, match="sqlite:///path"):
            open_store(url)
    monkeypatch.setenv("TREADLE_STORE", "memory:")
    assert default_store_url() == "memory:"
    monkeypatch.delenv("TREADLE_STORE")
    monkeypatch.setenv("XDG_DATA_HOME", str(path.parent))
    monkeypatch.setenv("HOME", str(path.parent))
    assert default_store_url().endswith("treadle.db")


def test_a_new_file_is_a_wal_database_that_gives_pages_back(path: Path) -> None:
    open_store(path).close()
    assert raw(path, "PRAGMA journal_mode") == [("wal",)]
    assert raw(path, "PRAGMA auto_vacuum") == [(2,)]
    assert raw(path, "PRAGMA application_id") == [(sqlite.APPLICATION_ID,)]
    assert raw(path, "SELECT version FROM schema_version") == [
        (number,) for number in range(1, len(sqlite.migrations()) + 1)]


def test_an_older_file_is_migrated_when_it_is_opened(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(sqlite.migrations()[0])
    connection.execute("INSERT INTO schema_version VALUES (1)")
    connection.pragma("application_id", sqlite.APPLICATION_ID)
    connection.close()
    store = open_store(path)
    store.create(an_execution(), "", this_owner(), 15)
    store.apply(Batch([], logs=[a_line("there is a table for it")]))
    assert [line.text for line in store.logs("run")] == ["there is a table for it"]
    store.close()
    assert raw(path, "SELECT count(*), max(version) FROM schema_version") == [(len(sqlite.migrations()),) * 2]


def test_a_file_of_another_program_is_left_alone(path: Path) -> None:
    raw(path, "CREATE TABLE theirs (a)")
    with pytest.raises(errors.NotAStore, match=r"not a Treadle store: choose another path"):
        open_store(path)
    assert raw(path, "PRAGMA journal_mode") == [("delete",)]
    text = path.with_name("notes.txt")
    text.write_text("these are notes, and not a database at all, for several lines\n" * 200)
    with pytest.raises(errors.NotAStore, match=r"notes\.txt is not a SQLite file"):
        open_store(text)


def test_a_file_of_a_newer_treadle_is_refused(path: Path) -> None:
    open_store(path).close()
    raw(path, "INSERT INTO schema_version VALUES (99)")
    known = len(sqlite.migrations())
    with pytest.raises(errors.StoreTooNew, match=rf"schema 99, this one knows {known}.*upgrade Treadle"):
        open_store(path)


def test_a_damaged_file_says_how_to_save_what_is_left(path: Path) -> None:
    store = open_store(path)
    store.create(an_execution(), "", this_owner(), 15)
    store.apply(Batch([a_cell(f"n{number}", output=b'"%s"' % (b"x" * 500)) for number in range(200)]))
    store.close()
    content = bytearray(path.read_bytes())
    content[4096 * 2:] = os.urandom(len(content) - 4096 * 2)
    path.write_bytes(content)
    with pytest.raises(errors.StoreCorrupt, match=r"damaged .* restore a copy.*\.recover"):
        open_store(path).load("run")
    path.write_bytes(bytes(content[:5000]))
    with pytest.raises(errors.StoreCorrupt, match="damaged"):
        open_store(path)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreError, match=r"the folder .*nowhere doesn't exist"):
        open_store(tmp_path / "nowhere" / "state.db")


def test_a_file_that_can_not_be_written_says_so(path: Path) -> None:
    """`immutable` opens a file as one on a read-only disk; rights would not stop the user root."""
    open_store(path).close()
    connection = apsw.Connection(f"file:{path}?immutable=1", apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    with pytest.raises(errors.StoreReadOnly, match="can't be written: check the rights"):
        sqlite._prepare(connection, str(path))
    connection.close()
    with pytest.raises(errors.StoreReadOnly, match="can't be opened"):
        open_store(path.parent)  # a folder


def test_a_full_disk_keeps_nothing_of_a_batch_and_writes_it_later(path: Path) -> None:
    store = SqliteStore(path)
    store.create(an_execution(), "", this_owner(), 15)
    connection = store._writer._connection
    connection.pragma("max_page_count", connection.pragma("page_count") + 3)
    batch = Batch([a_cell(f"n{number}", output=b'"%s"' % (b"x" * 1000)) for number in range(100)])
    with pytest.raises(errors.StoreFull, match=r"the disk of .* is full: make room"):
        store.apply(batch)
    assert store.load("run")[1] == []
    connection.pragma("max_page_count", 1_000_000)
    store.apply(batch)
    assert len(store.load("run")[1]) == 100
    store.close()


def test_a_full_disk_at_opening_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "migrations", lambda: [
        "CREATE TABLE schema_version (version); PRAGMA max_page_count = 4",
        *(f"CREATE TABLE t{number} (a)" for number in range(9))])
    with pytest.raises(errors.StoreFull, match="full: make room"):
        open_store(path)


def test_opening_waits_for_no_lock(path: Path) -> None:
    open_store(path).close()
    other = apsw.Connection(str(path))
    other.execute("BEGIN IMMEDIATE")
    open_store(path).close()
    other.execute("ROLLBACK")
    other.close()


def test_readers_can_only_read(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(errors.StoreReadOnly):
        store._readers.lend(lambda connection: connection.execute("DELETE FROM executions"))
    store.close()
    with pytest.raises(errors.StoreClosed, match="is closed"):
        store.load("run")


def test_stores_of_one_file_share_its_one_writer(path: Path) -> None:
    link = path.with_name("link.db")
    first = SqliteStore(path)
    link.symlink_to(path)
    second = SqliteStore(link)
    assert first._writer is second._writer
    first.close()
    second.create(an_execution(), "", this_owner(), 15)
    second.close()
    third = SqliteStore(path)
    assert third._writer is not second._writer
    third.close()


def test_a_cell_that_can_not_be_encoded_is_left_out(path: Path) -> None:
    store = SqliteStore(path)
    store.create(an_execution(), "", this_owner(), 15)
    cells = [a_cell(f"n{number}") for number in range(9)] + [a_cell("bad", worker="half \ud800")]
    written = store.apply(Batch(cells))
    assert [key.node_id for key, _ in written.failed] == ["bad"]
    assert len(store.load("run")[1]) == 9
    store.close()


def test_an_old_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(errors.StoreError, match=r"can corrupt a file.*install apsw >= 3\.51\.3"):
        sqlite.check_library()


def test_freed_pages_go_back_to_the_disk(path: Path) -> None:
    store = SqliteStore(path)
    store.create(an_execution(), "", this_owner(), 15)
    store.apply(Batch([a_cell(f"n{number}", output=b'"%s"' % (b"x" * 2000)) for number in range(500)]))
    store._writer._connection.execute("DELETE FROM node_states")
    before = store._writer._connection.pragma("page_count")
    store.vacuum(10_000)
    assert store._writer._connection.pragma("page_count") < before / 10
    store.close()


def test_threads_write_one_after_another(path: Path) -> None:
    """Two managers of one process share the writer connection: their transactions never mix."""
    stores = [SqliteStore(path) for _ in range(4)]
    for number, store in enumerate(stores):
        store.create(an_execution(f"run{number}"), "", this_owner(), 15)

    def write(number: int) -> None:
        for seq in range(1, 30):
            stores[number].apply(Batch([a_cell("n", seq, execution_id=f"run{number}")]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(stores[0].load(f"run{number}")[1][0].seq == 29 for number in range(4))
    for store in stores:
        store.close()
