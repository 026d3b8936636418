"""A batch is one statement, and strict commits overwrite room that the WAL file has already."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import apsw
import msgspec
import pytest

from treadle.state.status import ExecutionStatus
from treadle.store.base import Batch, Lease
from treadle.store.owner import this_owner
from treadle.store.sqlite.reserve import EVERY_PAGES, PIECE_BYTES
from treadle.store.sqlite.store import SqliteStore
from treadle.store.sqlite.writing import BatchWriter
from treadle.testing.contract import FULL_CELL, a_cell, an_execution


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    return SqliteStore(tmp_path / "state.db")


def test_an_ordinary_batch_is_one_statement(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    store.create(an_execution("former"), "the diagram of all", this_owner(), 15)

    def not_needed(self: BatchWriter, batch: Batch) -> None:
        raise AssertionError("an ordinary batch was written statement by statement")

    monkeypatch.setattr(BatchWriter, "_with_care", not_needed)
    owner = this_owner()
    store.apply(Batch([], created=[(an_execution(), ""), (an_execution("two"), "")], owner=owner))
    ended = msgspec.structs.replace(an_execution(), seq=2, status=ExecutionStatus.COMPLETED)
    cells = [FULL_CELL, a_cell("plain", output=b"1"), a_cell("n", execution_id="two")]
    store.apply(Batch(cells, [ended], released=[Lease("run", 1)], sync=True))
    assert store.load("run")[0].status is ExecutionStatus.COMPLETED
    assert {cell.key: cell for cell in store.load("run")[1]} == {cell.key: cell for cell in cells[:2]}
    assert store.summary("run").owner is None
    assert store.summary("two").owner == owner
    store.close()


def test_what_one_statement_can_not_say_is_written_all_the_same(store: SqliteStore) -> None:
    """A lost lease, an id that exists, a cell that isn't text: the statement fails, the rest is written."""
    store.apply(Batch([], created=[(an_execution(), "")], owner=this_owner()))
    good, lost, odd = a_cell("good"), a_cell("n", execution_id="nobody"), a_cell("odd", port="\ud800")
    written = store.apply(Batch([good, lost, odd], created=[(an_execution(), "")], owner=this_owner()))
    assert written.taken == ["run"]
    assert written.refused == {"nobody": 0}
    assert [key for key, _ in written.failed] == [odd.key]
    assert store.load("run")[1] == [good]
    store.close()


def test_strict_commits_find_room_in_the_wal(store: SqliteStore) -> None:
    wal = Path(store.path + "-wal")
    store.apply(Batch([], created=[(an_execution(), "")], owner=this_owner()))
    sizes = set()
    for number in range(2 * EVERY_PAGES):
        store.apply(Batch([a_cell(f"n{number}", output=b'"%s"' % (b"x" * 3000))], sync=True))
        sizes.add(wal.stat().st_size)
    assert len(sizes) < EVERY_PAGES / 2  # it grew by pieces, not at each commit
    assert max(sizes) > PIECE_BYTES
    copy = store.path + ".copy"  # as a crash would leave it: the zeros after the last frame are not read
    for end in ("", "-wal"):
        Path(copy + end).write_bytes(Path(store.path + end).read_bytes())
    assert len(SqliteStore(copy).load("run")[1]) == 2 * EVERY_PAGES
    store.close()


def test_a_disk_without_room_is_no_trouble(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError("no space left")

    monkeypatch.setattr(os, "write", full)
    store.apply(Batch([], created=[(an_execution(), "")], owner=this_owner()))
    for number in range(2 * EVERY_PAGES):
        store.apply(Batch([a_cell(f"n{number}")], sync=True))
    assert len(store.load("run")[1]) == 2 * EVERY_PAGES
    store.close()


def test_two_processes_make_room_in_one_file(store: SqliteStore) -> None:
    program = (
        "import sys\n"
        "from treadle.store.base import Batch\n"
        "from treadle.store.owner import this_owner\n"
        "from treadle.store.sqlite.store import SqliteStore\n"
        "from treadle.testing.contract import a_cell, an_execution\n"
        "name, path = sys.argv[1:]\n"
        "store = SqliteStore(path)\n"
        "store.apply(Batch([], created=[(an_execution(name), 'source')], owner=this_owner()))\n"
        "for n in range(150):\n"
        "    while True:\n"
        "        try:\n"
        "            store.apply(Batch([a_cell(f'n{n}', execution_id=name, output=b'1' * 900)], sync=True))\n"
        "            break\n"
        "        except __import__('apsw').BusyError:\n"
        "            pass\n"
        "store.close()\n")
    running = [subprocess.Popen([sys.executable, "-c", program, name, store.path]) for name in ("a", "b")]
    assert [process.wait() for process in running] == [0, 0]
    assert [len(store.load(name)[1]) for name in ("a", "b")] == [150, 150]
    store.close()
    with apsw.Connection(store.path) as connection:
        assert connection.pragma("integrity_check") == "ok"
