"""Pruning a file while others write it: nothing that somebody needs goes, nobody waits, a kill leaves a whole
store."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random

import apsw
import pytest

from treadle.config import MB, Retention
from treadle.errors import StoreError
from treadle.store import StateManager
from treadle.store.base import Batch
from treadle.store.owner import this_owner
from treadle.store.sqlite import pruning, sweep, writing
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, an_execution
from treadle.testing.contract.pruning import NOW, blob_of, ended, left
from treadle.testing.faults import locked

ALL = Retention(keep=0)
LARGE = blob_of(Random(1).randbytes(5_000_000))  # over 4 MB, and can't be compressed: a file
SMALL = blob_of(Random(2).randbytes(50_000))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(path)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "SETTLE_S", 0.0)


def file_of(path: Path, digest: str) -> Path:
    return Path(f"{path}.blobs") / digest[:2] / digest


def age(file: Path, seconds: float = 3600.0) -> None:
    os.utime(file, (time.time() - seconds,) * 2)


def raw(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def live(store: SqliteStore, execution_id: str = "live") -> None:
    store.create(an_execution(execution_id), "", this_owner(), 15)


# Blobs, and those who are about to name them


def at_seam(monkeypatch: pytest.MonkeyPatch, call: int, action: Callable[[], object]) -> None:
    """Do something just before the sweep's look number `call` at all names, or (0) just before it deletes."""
    looks = 0
    look, delete = sweep.Sweep._named, sweep.Sweep._delete

    def looked(self: sweep.Sweep, suspects: set[str]) -> set[str]:
        nonlocal looks
        looks += 1
        if looks == call:
            action()
        return look(self, suspects)

    def deleted(self: sweep.Sweep, blobs: list[sweep._Blob]) -> set[str]:
        if call == 0:
            action()
        return delete(self, blobs)

    monkeypatch.setattr(sweep.Sweep, "_named", looked)
    monkeypatch.setattr(sweep.Sweep, "_delete", deleted)


@pytest.mark.parametrize("blob", [SMALL, LARGE], ids=["row", "file"])
@pytest.mark.parametrize("seam", [0, 1, 2])
def test_a_blob_that_is_written_again_at_any_moment_stays(
        path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch, blob: tuple[str, bytes],
        seam: int) -> None:
    """An engine makes the same output anew, just when nothing names it any more."""
    ended(store, "old", blobs=[blob])
    if blob is LARGE:
        age(file_of(path, blob[0]))
    live(store)
    at_seam(monkeypatch, seam, lambda: store.apply(Batch(
        [a_cell("again", execution_id="live", blob=blob[0])], blobs=[blob])))
    store.prune(ALL, NOW)
    assert left(store) == ["live"]
    assert store.blob(blob[0]) == blob[1]
    monkeypatch.undo()
    assert store.prune(ALL, NOW).blobs == 0
    assert store.blob(blob[0]) == blob[1]


def test_the_file_of_a_batch_that_is_under_way_stays(path: Path, store: SqliteStore) -> None:
    """Its row and its cell come in a moment."""
    ended(store, "old", blobs=[LARGE])
    age(file_of(path, LARGE[0]))
    store._blobs.put(*LARGE)  # as `apply` does before its transaction
    assert store.prune(ALL, NOW).blobs_young == 1
    live(store)
    store.apply(Batch([a_cell("n", execution_id="live", blob=LARGE[0])], blobs=[LARGE]))
    assert store.blob(LARGE[0]) == LARGE[1]


def test_a_file_is_moved_back_if_it_was_put_again_while_it_was_taken_away(
        path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store, "old", blobs=[LARGE])
    file = file_of(path, LARGE[0])
    age(file)
    replace = os.replace

    def put_and_replace(source: Path, target: Path) -> None:
        if target.suffix == ".gone":
            store._blobs.put(*LARGE)
        replace(source, target)

    monkeypatch.setattr(os, "replace", put_and_replace)
    assert store.prune(ALL, NOW).blobs_young == 1
    assert file.read_bytes() == LARGE[1]


def test_a_file_that_a_running_body_may_have_made_stays(path: Path, store: SqliteStore) -> None:
    """It may hand it on at its end, hours later."""
    store._blobs.put(*LARGE)
    age(file_of(path, LARGE[0]), 7200)
    live(store)
    store.apply(Batch([a_cell("long", execution_id="live", started_at=time.time() - 8000)]))
    assert store.prune(ALL, NOW).blobs_young == 1
    store.apply(Batch([a_cell("long", 2, execution_id="live", started_at=time.time() - 7000)]))
    done = store.prune(ALL, NOW)
    assert (done.blobs, done.blobs_young) == (1, 0)
    assert not file_of(path, LARGE[0]).exists()


def test_large_outputs_and_the_leavings_of_killed_writers_go(path: Path, store: SqliteStore) -> None:
    ended(store, "old", blobs=[LARGE])
    orphan = blob_of(b"nobody names it" * 400_000)
    store._blobs.put(*orphan)
    half = Path(f"{path}.blobs") / "new" / "tmpabcdef"
    half.write_bytes(b"half")
    for file in (file_of(path, LARGE[0]), file_of(path, orphan[0]), half):
        age(file)
    done = store.prune(ALL, NOW)
    assert (done.blobs, done.blobs_young) == (2, 0)
    assert done.bytes_freed >= len(LARGE[1]) + len(orphan[1])
    assert [one for one in Path(f"{path}.blobs").rglob("*") if one.is_file()] == []


def test_copied_cells_save_the_blobs_that_they_name(
        store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork has read the cells of an execution that is pruned while the fork is written."""
    ended(store, "old", blobs=[SMALL])
    at_seam(monkeypatch, 0, lambda: store.apply(Batch(
        [], created=[(an_execution("fork"), "")], begun=[a_cell("n0", execution_id="fork", blob=SMALL[0])],
        owner=this_owner())))
    store.prune(ALL, NOW)
    assert store.blob(SMALL[0]) == SMALL[1]


def test_doomed_blobs_of_a_prune_that_was_killed_work_like_others(path: Path, store: SqliteStore) -> None:
    ended(store, "old", blobs=[SMALL])
    raw(path, "UPDATE blobs SET size = ~size")
    assert store.blob(SMALL[0]) == SMALL[1]
    store.prune(Retention(keep=1), NOW)  # something names it: it is saved
    assert raw(path, "SELECT size FROM blobs") == [(len(SMALL[1]),)]
    raw(path, "UPDATE blobs SET size = ~size")
    assert store.prune(ALL, NOW).blobs == 1
    assert raw(path, "SELECT count(*) FROM blobs") == [(0,)]


# Executions


def test_an_execution_that_is_claimed_after_it_was_chosen_stays(
        store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        ended(store, name, status="failed")
    choose = pruning.overdue

    def chosen(*given: object) -> object:
        found = choose(*given)  # type: ignore[arg-type]
        store.claim("b", this_owner(), 15)
        return found

    monkeypatch.setattr(pruning, "overdue", chosen)
    assert store.prune(ALL, NOW).execution_ids == ["a"]
    assert left(store) == ["b"]


def test_large_executions_go_in_portions(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store, "large", more=3000, blobs=[SMALL])
    monkeypatch.setattr(pruning, "ROWS_MAX", 400)
    turns: list[int] = []
    done = store.prune(ALL, NOW, between=lambda: not turns.append(1))
    assert (done.cells, done.blobs, done.diagrams) == (3002, 1, 1)
    assert len(turns) > 3002 // 400
    assert left(store) == []


def test_long_outputs_go_in_smaller_portions(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting an output of 16 KB takes as long as deleting some cells that have none."""
    monkeypatch.setattr(pruning, "PORTION_S", 0.0)  # what a portion can hold is not found out
    monkeypatch.setattr(pruning, "ROWS_MIN", 500)

    def portions(output: bytes | None) -> int:
        ended(store, "run")
        store.apply(Batch([a_cell(f"n{number}", execution_id="run", output=output) for number in range(300)]))
        turns: list[int] = []
        assert store.prune(ALL, NOW, between=lambda: not turns.append(1)).cells == 301
        return len(turns)

    assert portions(None) < portions(b'"' + b"x" * 16_000 + b'"')


def test_a_prune_that_is_stopped_in_a_large_execution_goes_on_with_it(
        store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store, "large", status="failed", more=3000)
    turns: list[int] = []
    assert store.prune(ALL, NOW, between=lambda: len(turns) < 2 and not turns.append(1)).execution_ids == []
    cell, cells = store.load("large")
    assert cell.status == "cancelled" and cell.error is not None and cell.error.type == "Pruned"
    assert 0 < len(cells) < 3001
    with pytest.raises(KeyError, match="pruned"):
        store.source(cell.diagram)
    done = store.prune(Retention(), NOW)  # whatever the policy says
    assert done.execution_ids == ["large"] and done.cells == len(cells)
    assert left(store) == []


def test_only_one_prune_at_a_time(path: Path, store: SqliteStore) -> None:
    ended(store, "run")
    other = SqliteStore(path)

    def again() -> bool:
        with pytest.raises(StoreError, match="pruned by somebody else"):
            other.prune(ALL, NOW)
        return True

    assert store.prune(ALL, NOW, between=again).execution_ids == ["run"]
    other.close()


def test_it_waits_for_another_program_but_not_for_ever(
        path: Path, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ended(store, "run")
    monkeypatch.setattr(writing, "LOCKED_S_MAX", 0.0)
    with locked(path), pytest.raises(StoreError, match="is locked by another program"):
        store.prune(ALL, NOW)
    monkeypatch.setattr(writing, "LOCKED_S_MAX", 30.0)
    with ExitStack() as stack:
        stack.enter_context(locked(path))
        monkeypatch.setattr(pruning.time, "sleep", lambda seconds: stack.close())
        assert store.prune(ALL, NOW).execution_ids == ["run"]


def test_an_output_that_is_lost_names_nothing(store: SqliteStore) -> None:
    """A cell names a blob that isn't there: that is no reason to keep others, nor to fail."""
    ended(store, "bad", 2.0)
    ended(store, "old", 1.0, blobs=[SMALL])
    live(store)
    store.apply(Batch([a_cell("n", execution_id="live", blob="ab" * 32)]))
    assert store.prune(ALL, NOW).blobs == 1


def test_the_room_is_given_back_to_the_disk(path: Path, store: SqliteStore) -> None:
    for number in range(20):
        ended(store, f"run{number}", blobs=[blob_of(Random(number).randbytes(200_000))])
    store._batches.checkpoint()
    before = path.stat().st_size
    assert before > 3 * MB
    done = store.prune(ALL, NOW)
    assert done.bytes_freed > 3 * MB
    assert path.stat().st_size < before // 10
    assert raw(path, "PRAGMA freelist_count") == [(0,)]


def test_every_table_of_executions_is_emptied(path: Path) -> None:
    """A new table of what belongs to an execution is added to `pruning.TABLES`, or here with its reason."""
    SqliteStore(path).close()
    tables = {str(name) for name, in raw(path, """
        SELECT m.name FROM sqlite_schema AS m JOIN pragma_table_info(m.name) AS c
        WHERE m.type = 'table' AND c.name = 'execution_id'""")}
    assert tables == {*pruning.TABLES, "executions", "cache"}  # cache: see Sweep.cache


# While an engine writes, and when it is killed


def test_a_running_engine_loses_nothing_and_waits_for_portions_only(store: SqliteStore) -> None:
    for number in range(100):
        ended(store, f"run{number}", more=100)
    ended(store, "large", more=20_000)

    async def main() -> float:
        manager = StateManager(store=store)
        await manager.start()
        await manager.create(an_execution("live"), "")
        pruned = asyncio.create_task(asyncio.to_thread(store.prune, ALL, NOW))
        longest, number = 0.0, 0
        while not pruned.done():
            number += 1
            began = time.perf_counter()
            await manager.durable(manager.record([a_cell(f"n{number}", execution_id="live")]))
            longest = max(longest, time.perf_counter() - began)
        await manager.stop()
        assert len((await pruned).execution_ids) == 101
        assert len(store.load("live")[1]) == number > 10
        return longest

    assert asyncio.run(main()) < 1.0  # some 30 ms on a machine with nothing else to do


CHILD = """
import sys
from treadle.config import Retention
from treadle.store.sqlite import pruning
from treadle.store.sqlite.store import SqliteStore

pruning.ROWS_MAX = 200
SqliteStore(sys.argv[1]).prune(Retention(keep=0), 1000.0)
"""


@pytest.mark.parametrize("point", ["commit.before:kill:2", "commit.after:kill:1", "commit.after:kill:4",
                                   "commit.before:kill:7", "commit.after:kill:9"])
def test_killed_in_the_middle_it_leaves_a_whole_store(path: Path, store: SqliteStore, point: str) -> None:
    ended(store, "large", 1.0, more=1000, blobs=[SMALL, LARGE])
    for number in range(3):
        ended(store, f"run{number}", more=150)
    live(store)
    kept = blob_of(b"kept" * 10_000)
    store.apply(Batch([a_cell("n", execution_id="live", blob=kept[0])], blobs=[kept]))
    age(file_of(path, LARGE[0]))
    child = subprocess.run([sys.executable, "-c", CHILD, str(path)],
                           env={**os.environ, "TREADLE_FAILPOINT": point}, check=False, timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert raw(path, "PRAGMA integrity_check") == [("ok",)]
    cells = {row[0]: row[1] for row in raw(
        path, "SELECT execution_id, count(*) FROM node_states GROUP BY 1")}
    for one in store.executions():
        name = one.cell.execution_id
        if one.cell.error is None and name != "live":  # whole, as long as it doesn't say otherwise
            assert cells[name] == (1003 if name == "large" else 151)
    assert set(cells) <= set(left(store))
    store.prune(ALL, NOW)
    assert left(store) == ["live"]
    assert store.blob(kept[0]) == kept[1]
    assert raw(path, "SELECT digest FROM blobs") == [(kept[0],)]
    assert not file_of(path, LARGE[0]).exists()


def test_a_diagram_that_was_pruned_is_written_again_with_its_next_execution(store: SqliteStore) -> None:
    """An engine hands a source in once, and then takes the store to have it."""
    async def main() -> None:
        manager = StateManager(store=store)
        await manager.start()
        await manager.create(an_execution("first"), "the source")
        await manager.release("first")
        await manager.read(lambda: store.prune(Retention(status=("running",)), NOW))
        with pytest.raises(KeyError):
            store.source("hash")
        await manager.create(an_execution("second"), "", draw=lambda: "the source")
        await manager.create(an_execution("third"), "", draw=lambda: "never asked for")
        await manager.stop()

    asyncio.run(main())
    assert store.source("hash") == "the source"
    assert left(store) == ["second", "third"]


def test_young_files_don_t_cost_other_executions_their_place(store: SqliteStore) -> None:
    """They will go with the next prune, so they count as gone."""
    ended(store, "large", 1.0, blobs=[LARGE])
    for number in range(5):
        ended(store, f"run{number}", 2.0 + number, more=200)
    done = store.prune(Retention(size_bytes_max=2 * MB), NOW)
    assert (done.execution_ids, done.blobs_young) == (["large"], 1)


def test_a_prune_by_a_policy_that_was_ended_is_made_up_for(path: Path, store: SqliteStore) -> None:
    mark = Path(f"{path}-pruned")
    ended(store, "old", blobs=[SMALL])
    store.prune(Retention(keep=1), NOW, every_s=60)
    assert mark.read_text() == ""
    age(mark)
    done = store.prune(ALL, NOW, thorough=False, every_s=60, between=lambda: left(store) != [])
    assert done.execution_ids == ["old"] and mark.read_text() != ""
    assert store.blob(SMALL[0]) == SMALL[1]
    assert store.prune(ALL, NOW, thorough=False, every_s=60).blobs == 0  # too soon
    age(mark)
    assert store.prune(ALL, NOW, thorough=False, every_s=60).blobs == 1
    assert mark.read_text() == ""
