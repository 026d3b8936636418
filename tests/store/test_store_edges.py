"""What seldom happens to a store: no /proc, an interrupt, a takeover in between, a loop that is gone."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from treadle import failpoints
from treadle.config import TreadleConfig
from treadle.errors import LeaseLost, StoreClosed, StoreFull
from treadle.state.cell import ExecutionState
from treadle.state.status import ExecutionStatus
from treadle.store import ExecutionStateManager, MemoryStore, StateManager
from treadle.store import owner as owners
from treadle.store.base import Batch, Written
from treadle.store.journal.writer import Writer
from treadle.store.owner import is_dead, this_owner
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, an_execution


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "state.db")
    made.create(an_execution(), "", this_owner(), 15)
    yield made
    made.close()


# owners on a system without /proc


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(owners, "Path", lambda path: tmp_path / path.lstrip("/"))
    owners._boot_id.cache_clear()
    yield
    owners._boot_id.cache_clear()


@pytest.mark.usefixtures("no_proc")
def test_without_proc_the_pid_must_do(monkeypatch: pytest.MonkeyPatch) -> None:
    me = this_owner()
    assert (me.boot_id, me.started) == ("", 0.0)
    assert not is_dead(me)
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert is_dead(msgspec.structs.replace(me, pid=child.pid))

    def not_ours(pid: int, signal: int) -> None:
        raise PermissionError("it lives, and belongs to somebody else")

    monkeypatch.setattr(os, "kill", not_ours)
    assert not is_dead(msgspec.structs.replace(me, pid=child.pid))


# whole states


class TakenStore(MemoryStore):
    """A store in which somebody takes an execution over just before a batch is written."""

    def apply(self, batch: Batch) -> Written:
        super().apply(Batch([], released=batch.released))
        for lease in batch.released:
            self.claim(lease.execution_id, this_owner(), 15)
        return super().apply(batch)


def test_a_reader_that_holds_an_old_snapshot_is_not_used_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "runs.db")
    store.create(an_execution("one"), "", this_owner(), 15)
    kept = []

    def leave_open(connection: apsw.Connection) -> None:
        kept.append(connection.execute("SELECT execution_id FROM executions UNION ALL SELECT 'more'"))
        kept[0].fetchone()

    store._readers.lend(leave_open)
    store.create(an_execution("two"), "", this_owner(), 15)
    assert store.load("two")[0].execution_id == "two"
    store.close()


def test_a_state_that_was_taken_over_while_it_was_saved_says_so() -> None:
    async def main() -> None:
        manager = ExecutionStateManager(TakenStore())
        with pytest.raises(LeaseLost, match="run was taken over meanwhile: load it again"):
            await manager.save_state("run", ExecutionState("run", "running"))

    asyncio.run(main())


# the manager


def test_a_node_is_looked_up_by_iteration_and_attempt() -> None:
    async def main() -> None:
        manager = StateManager(execution_id="run", store=MemoryStore())
        await manager.start()
        for iteration, attempt in (("1", 1), ("2", 1), ("2", 2), ("10", 1)):
            await manager.update_node_state("n", iteration=iteration, attempt=attempt, status="running")
        await manager.update_node_state("other", iteration="2", attempt=3, status="running")

        def found(iteration: str | None = None, attempt: int | None = None) -> tuple[str, int] | None:
            cell = manager.get_node_state("n", iteration, attempt)
            return None if cell is None else (cell.iteration, cell.attempt)

        assert found() == ("10", 1)
        assert found("2") == ("2", 2), "the newest attempt of an iteration"
        assert found("2", 1) == ("2", 1)
        assert found(attempt=1) == ("10", 1), "iterations are ordered as numbers"
        assert found("3") is None and found("1", 2) is None
        await manager.stop()

    asyncio.run(main())


def test_a_lease_is_given_back_without_waiting() -> None:
    store = MemoryStore()

    async def main() -> None:
        manager = StateManager(store=store)
        await manager.start()
        await manager.create(an_execution(), "")
        manager.record([a_cell("n")])
        for _ in range(2):  # the second time there is nothing left to give back
            done = asyncio.Event()
            manager.release_then("run", done.set)
            await done.wait()
            assert store.summary("run").owner is None and store.load("run")[1] == [a_cell("n")]
        await manager.stop()

    asyncio.run(main())


class GatedStore(MemoryStore):
    """A store whose `apply` waits at a gate."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()

    def apply(self, batch: Batch) -> Written:
        self.gate.wait(10)
        return super().apply(batch)


@pytest.mark.parametrize("field", ["items", "request", "output"])
def test_every_payload_counts_for_the_backlog(field: str) -> None:
    store = GatedStore()

    async def main() -> None:
        manager = StateManager(store=store, config=TreadleConfig(backlog_bytes_max=10_000))
        await manager.start()
        await manager.create(an_execution(), "")
        store.gate.clear()
        payload = {field: b'"%s"' % (b"x" * 20_000)}
        manager.record([msgspec.structs.replace(a_cell("n"), **payload)])
        flushed = asyncio.create_task(manager.flush())
        await asyncio.sleep(0)
        assert manager.congested
        store.gate.set()
        await manager.room()
        assert not manager.congested
        await flushed
        await manager.stop()

    asyncio.run(main())


def test_a_manager_that_is_not_started_takes_no_calls() -> None:
    async def main() -> None:
        with pytest.raises(StoreClosed, match="the state manager is not started"):
            await StateManager(store=MemoryStore()).claim("run")

    asyncio.run(main())


def test_what_was_sealed_is_written_though_the_loop_is_gone() -> None:
    store = GatedStore()

    async def main() -> StateManager:
        manager = StateManager(store=store)
        await manager.start()
        await manager.create(an_execution(), "")
        store.gate.clear()
        manager.record([a_cell("n")])
        flushed = asyncio.create_task(manager.flush())
        await asyncio.sleep(0)
        assert not flushed.done()
        return manager  # without `stop`: the loop is closed over the writer's head

    writer = asyncio.run(main())._writer
    assert writer is not None
    store.gate.set()
    writer.stop()
    assert store.load("run")[1] == [a_cell("n")]


def test_a_store_that_can_not_be_asked_is_asked_again_and_complained_of_once(
        caplog: pytest.LogCaptureFixture) -> None:
    answered, failures = threading.Event(), [OSError("gone"), OSError("gone")]

    def idle() -> float:
        if failures:
            raise failures.pop()
        answered.set()
        return 60.0

    writer = Writer(MemoryStore(), lambda job: None, idle=idle, idle_s=0.0, pause_s_max=0.1,
                    retried=lambda: None)
    with caplog.at_level(logging.WARNING, "treadle.store"):
        writer.start()
        assert answered.wait(10)
        writer.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the store could not be asked, trying again: gone"]


# SQLite


def test_a_renewal_passes_its_seams(store: SqliteStore) -> None:
    me = this_owner()
    store.create(an_execution("two"), "", me, 0.0)
    lease = store.claim("two", me, 0.0)

    def die() -> None:
        raise KeyboardInterrupt

    def renewed(seam: str) -> bool:
        failpoints.arm(seam, die)
        with pytest.raises(KeyboardInterrupt):
            store.renew([lease], me, 60)
        failpoints.disarm()
        return not store.summary("two").stale

    running = msgspec.structs.replace(an_execution("two"), epoch=2, seq=2, status=ExecutionStatus.RUNNING)
    store.apply(Batch([], [running]))
    try:
        assert store.summary("two").stale
        assert not renewed("lease.before"), "killed before it: the lease runs out"
        assert renewed("lease.after"), "killed after it: the lease holds"
    finally:
        failpoints.disarm()


def test_a_store_may_be_closed_under_a_reader(store: SqliteStore) -> None:
    """The reader ends in peace; its connection is closed, not kept."""
    def use(connection: apsw.Connection) -> tuple[apsw.Connection, object]:
        store.close()
        return connection, connection.execute("SELECT count(*) FROM executions").get

    connection, count = store._readers.lend(use)
    assert count == 1
    with pytest.raises(apsw.ConnectionClosedError):
        connection.execute("SELECT 1")
    with pytest.raises(StoreClosed):
        store.load("run")


BLOB = b"content"
DIGEST = hashlib.sha256(BLOB).hexdigest()


def test_a_disk_that_fills_up_among_the_cells_keeps_nothing(store: SqliteStore) -> None:
    """A batch with a blob is written statement by statement; it is whole or not there all the same."""
    connection = store._writer._connection
    connection.pragma("max_page_count", connection.pragma("page_count") + 3)
    cells = [a_cell(f"n{number}", output=b'"%s"' % (b"x" * 1000)) for number in range(100)]
    batch = Batch(cells, blobs=[(DIGEST, BLOB)])
    with pytest.raises(StoreFull, match="full: make room"):
        store.apply(batch)
    assert store.load("run")[1] == []
    connection.pragma("max_page_count", 1_000_000)
    assert store.apply(batch).failed == []
    assert len(store.load("run")[1]) == 100


def test_a_batch_that_is_interrupted_is_not_searched_for_a_bad_cell(store: SqliteStore) -> None:
    """SQLite has rolled the whole transaction back: no cell is to blame, and none may be left out."""
    connection = store._writer._connection

    def trace(cursor: apsw.Cursor, sql: str, bindings: object) -> bool:
        if isinstance(bindings, dict) and "cells" in bindings:
            connection.set_progress_handler(lambda: True, 1)
        return True

    batch = Batch([a_cell("a"), a_cell("b")], blobs=[(DIGEST, BLOB)])
    connection.exec_trace = trace
    with pytest.raises(apsw.InterruptError):
        store.apply(batch)
    connection.exec_trace = None
    connection.set_progress_handler(None)
    assert store.load("run")[1] == []
    assert store.apply(batch).failed == []
    assert {cell.node_id for cell in store.load("run")[1]} == {"a", "b"}
