"""The scenarios of the state manager's acceptance, each for real: WAL files, triggers, other connections,
kills."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import apsw
import msgspec
import pytest

from treadle.errors import LeaseHeld, LeaseLost, StoreClosed
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus
from treadle.store import StateManager, open_store
from treadle.store.base import Store
from treadle.testing.faults import locked

AUDIT = """
CREATE TABLE audit (n INTEGER PRIMARY KEY, node_id TEXT, attempt INTEGER, status TEXT);
CREATE TRIGGER audit_insert AFTER INSERT ON node_states BEGIN
    INSERT INTO audit (node_id, attempt, status) VALUES (new.node_id, new.attempt, new.status); END;
CREATE TRIGGER audit_update AFTER UPDATE ON node_states BEGIN
    INSERT INTO audit (node_id, attempt, status) VALUES (new.node_id, new.attempt, new.status); END;
"""
ABORT = """
CREATE TRIGGER refuse BEFORE INSERT ON node_states WHEN new.node_id = 'bad' BEGIN
    SELECT RAISE(ABORT, 'this row is bad'); END;
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_store(path)
    yield store
    store.close()


def cells(path: Path, execution_id: str = "job-123") -> dict[tuple[str, int], NodeState]:
    store = open_store(path)
    try:
        return {(cell.node_id, cell.attempt): cell for cell in store.load(execution_id)[1]}
    finally:
        store.close()


def script(path: Path, sql: str) -> None:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    connection.execute(sql)
    connection.close()


def balanced(manager: StateManager) -> bool:
    stats = manager.stats
    return stats["updates_queued"] == stats["updates_processed"] + stats["errors"] + manager.queue_depth


def test_01_two_hundred_actors_and_a_reader(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store)
        await manager.start()

        async def actor(k: int) -> None:
            node = f"node-{k}"
            await manager.update_node_state(node_id=node, status="scheduled", scheduled_at=datetime.now())
            await asyncio.sleep(0)
            await manager.update_node_state(node_id=node, status="running", started_at=datetime.now())
            await asyncio.sleep(0)
            await manager.update_node_state(node_id=node, output={"k": k})
            await manager.update_node_state(node_id=node, status="completed", completed_at=datetime.now())

        async def reader() -> None:
            while True:
                await asyncio.to_thread(store.load, "job-123")
                await asyncio.sleep(0.001)

        reading = asyncio.create_task(reader())
        await asyncio.gather(*(actor(k) for k in range(200)))
        reading.cancel()
        await manager.stop()
        assert manager.stats["updates_queued"] == manager.stats["updates_processed"] == 800
        assert manager.stats["errors"] == 0

    asyncio.run(main())
    rows = cells(path)
    assert len(rows) == 200
    for cell in rows.values():
        assert cell.status is NodeStatus.COMPLETED
        assert None not in (cell.scheduled_at, cell.started_at, cell.ended_at)


def test_02_a_new_attempt_keeps_the_old_ones_cell(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_interval=60)
        await manager.start()
        await manager.update_node_state("n", status="running", started_at=1.0)
        await manager.update_node_state("n", status="failed", last_error="boom", retryable=True)
        await manager.update_node_state("n", attempt=2, status="running")
        latest = manager.get_node_state("n")
        assert latest is not None and latest.attempt == 2
        await manager.stop()

    asyncio.run(main())
    first = cells(path)["n", 1]
    assert (first.started_at, first.retryable, first.status) == (1.0, True, NodeStatus.FAILED)
    assert first.error is not None and first.error.message == "boom"


def test_03_none_clears_and_what_is_left_out_stays(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store)
        await manager.start()
        await manager.update_node_state(
            "n", status="failed", last_error="boom", failed_at=2.0, started_at=1.0
        )
        await manager.update_node_state("n", status="running", last_error=None, failed_at=None)
        await manager.stop()

    asyncio.run(main())
    cell = cells(path)["n", 1]
    assert (cell.error, cell.ended_at, cell.started_at) == (None, None, 1.0)
    connection = apsw.Connection(str(path))
    assert connection.execute("SELECT error, ended_at FROM node_states").fetchone() == (None, None)
    connection.close()


def test_04_a_thousand_attempts_through_transient_locks(path: Path, store: Store) -> None:
    script(path, AUDIT)

    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_size=3)
        await manager.start()
        for attempt in range(1, 1001):
            await manager.update_node_state("n", attempt=attempt, status="running")
            if attempt % 250 == 0:
                with locked(path):
                    await asyncio.sleep(0.05)
        await manager.stop(timeout=30)
        assert balanced(manager) and manager.stats["errors"] == 0
        latest = manager.get_node_state("n")
        assert latest is not None and latest.attempt == 1000

    asyncio.run(main())
    assert len(cells(path)) == 1000
    connection = apsw.Connection(str(path))
    attempts = [row[0] for row in connection.execute("SELECT attempt FROM audit ORDER BY n")]
    connection.close()
    assert attempts == sorted(attempts)


def test_05_a_batch_is_seen_whole_or_not_at_all(path: Path, store: Store) -> None:
    seen: set[int] = set()
    ended = threading.Event()

    def sample() -> None:
        connection = apsw.Connection(str(path))
        while not ended.is_set():
            seen.add(connection.execute("SELECT count(*) FROM node_states").get)
        connection.close()

    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_size=10)
        await manager.start()
        sampler = threading.Thread(target=sample)
        sampler.start()
        for k in range(10):
            await manager.update_node_state(f"n{k}", status="running")
        await manager.stop()
        ended.set()
        sampler.join()

    asyncio.run(main())
    assert seen <= {0, 10}


def test_06_batches_are_counted_and_so_are_originals(store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="distinct", store=store, batch_size=10, batch_interval=60)
        await manager.start()
        before = manager.stats["batches_written"]
        for k in range(25):
            await manager.update_node_state(f"n{k}", status="running")
        await manager.stop()
        assert manager.stats["batches_written"] - before == 3
        assert manager.stats["updates_processed"] == 25
        same = StateManager(execution_id="same", store=store, batch_size=10, batch_interval=60)
        await same.start()
        for _ in range(25):
            await same.update_node_state("n", status="running")
        await same.stop()
        assert same.stats["updates_processed"] == 25

    asyncio.run(main())


def test_07_an_update_is_kept_or_visibly_refused(path: Path, store: Store) -> None:
    accepted: dict[str, int] = {}
    refused = 0

    async def main() -> None:
        nonlocal refused
        manager = StateManager(execution_id="job-123", store=store)
        await manager.start()

        async def producer(k: int) -> None:
            nonlocal refused
            for n in range(10_000):
                try:
                    await manager.update_node_state(f"n{k}", claims=n)
                except StoreClosed:
                    refused += 1
                    return
                accepted[f"n{k}"] = n
                await asyncio.sleep(0)

        producers = [asyncio.create_task(producer(k)) for k in range(50)]
        await asyncio.sleep(0.05)
        await manager.stop()
        await asyncio.wait_for(asyncio.gather(*producers), 5)
        assert balanced(manager) and manager.queue_depth == 0

    asyncio.run(main())
    assert refused == 50
    assert {node: cell.claims for (node, _), cell in cells(path).items()} == accepted


def test_08_stops_at_once_all_wait_for_the_flush(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_interval=60)
        await manager.start()
        for k in range(500):
            await manager.update_node_state(f"n{k}", status="running")

        async def stop() -> int:
            await manager.stop()
            return manager.stats["updates_processed"]

        assert await asyncio.gather(stop(), stop()) == [500, 500]
        await manager.stop()

    asyncio.run(main())
    assert len(cells(path)) == 500


def test_09_a_stop_that_can_not_finish_says_so_and_the_next_one_does(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_interval=60)
        await manager.start()
        for k in range(7):
            await manager.update_node_state(f"n{k}", status="running")
        with locked(path):
            begin = time.monotonic()
            await manager.stop(timeout=0.5)
            assert time.monotonic() - begin < 1.5
            assert manager.queue_depth == 7 and balanced(manager)
        await manager.stop(timeout=10)
        assert manager.queue_depth == 0 and manager.stats["updates_processed"] == 7 and balanced(manager)

    asyncio.run(main())
    assert len(cells(path)) == 7


def test_09b_a_stop_that_is_cancelled_loses_nothing(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_interval=60)
        await manager.start()
        for k in range(7):
            await manager.update_node_state(f"n{k}", status="running")
        with locked(path):
            stopping = asyncio.create_task(manager.stop())
            await asyncio.sleep(0.05)
            stopping.cancel()
            await asyncio.sleep(0.05)
        with pytest.raises(asyncio.CancelledError):
            await stopping
        assert manager.queue_depth == 0

    asyncio.run(main())
    assert len(cells(path)) == 7


def test_10_a_cell_that_can_not_be_written_spoils_nothing(path: Path, store: Store,
                                                         caplog: pytest.LogCaptureFixture) -> None:
    script(path, ABORT)

    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store, batch_interval=60)
        await manager.start()
        for k in range(9):
            await manager.update_node_state(f"n{k}", status="running")
        await manager.update_node_state("bad", status="running")
        await manager.update_node_state("bad", status="completed")
        await manager.flush()
        assert (manager.stats["errors"], manager.stats["updates_processed"]) == (2, 9)
        await manager.update_node_state("n9", status="running")
        await manager.stop()
        assert manager.stats["updates_processed"] == 10 and balanced(manager)

    asyncio.run(main())
    assert {node for node, _ in cells(path)} == {f"n{k}" for k in range(10)}
    assert "this row is bad" in caplog.text


def test_11a_managers_of_different_executions_share_a_file(path: Path, store: Store) -> None:
    async def main() -> None:
        pairs = [("a::b", "c"), ("a", "b-c"), ("a", "c")]
        managers = {run: StateManager(run_id=run, store=store) for run in ("a::b", "a")}
        for manager in managers.values():
            await manager.start()
        for run, node in pairs:
            await managers[run].update_node_state(node, worker=f"{run}/{node}")
        for manager in managers.values():
            await manager.stop()

    asyncio.run(main())
    assert cells(path, "a::b")["c", 1].worker == "a::b/c"
    assert {cell.worker for cell in cells(path, "a").values()} == {"a/b-c", "a/c"}


def test_11b_a_second_manager_of_one_execution_is_refused_then_takes_over(path: Path, store: Store) -> None:
    async def main() -> None:
        first = StateManager(execution_id="job-123", store=store)
        await first.start()
        await first.update_node_state("n", status="running")
        await first.flush()
        other = open_store(path)
        second = StateManager(execution_id="job-123", store=other)
        with pytest.raises(LeaseHeld, match=f"process {os.getpid()} on"):
            await second.start()
        # the first gives no sign of life any more, as seen by the store's clock
        script(path, "UPDATE executions SET expires_at = 0")
        third = StateManager(execution_id="job-123", store=other)
        await third.start()
        await third.update_node_state("n", attempt=1, last_error="found it so")
        await third.flush()
        await first.update_node_state("n", worker="too late")
        await first.flush()
        assert first.stats["errors"] == 1
        with pytest.raises(LeaseLost):
            await first.update_node_state("n", worker="still too late")
        await third.stop()
        await first.stop()
        other.close()

    asyncio.run(main())
    cell = cells(path)["n", 1]
    assert (cell.status, cell.worker) == (NodeStatus.RUNNING, None)
    assert cell.error is not None and cell.error.message == "found it so"


def test_13_originals_are_written_and_the_loop_never_waits(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store)
        await manager.start()
        payload = {"rows": [1, 2]}
        with locked(path):
            await manager.update_node_state("n", status="completed", output=payload)
            payload["rows"].append(3)
            state = manager.get_node_state("n")
            assert state is not None and state.output == b'{"rows":[1,2]}', "a read right after shows it"
            with pytest.raises(AttributeError):
                state.status = NodeStatus.FAILED  # type: ignore[misc]
            longest, last, until = 0.0, time.perf_counter(), time.perf_counter() + 2
            while last < until:
                await manager.update_node_state("m", claims=1)
                await asyncio.sleep(0.001)
                now = time.perf_counter()
                longest, last = max(longest, now - last), now
        assert longest < 0.05 or _is_busy(longest), f"the loop stood still for {longest * 1e3:.0f} ms"
        await manager.stop()

    asyncio.run(main())
    assert msgspec.json.decode(cells(path)["n", 1].output or b"") == {"rows": [1, 2]}


def _is_busy(longest: float) -> bool:
    """Whether the machine, and not we, made the loop wait: nothing of ours runs now, and it still
    stutters."""
    worst, last, until = 0.0, time.perf_counter(), time.perf_counter() + 2
    while last < until:
        time.sleep(0.001)
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    return worst > longest / 2


def test_an_update_from_another_thread_works(path: Path, store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store)
        await manager.start()

        def elsewhere() -> None:
            asyncio.run(manager.update_node_state("n", status="completed", output=1))

        await asyncio.to_thread(elsewhere)
        await manager.stop()

    asyncio.run(main())
    assert cells(path)["n", 1].output == b"1"


def test_wrong_arguments_say_what_is_right(store: Store) -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job-123", store=store)
        with pytest.raises(StoreClosed, match="not started"):
            await manager.update_node_state("n", status="running")
        await manager.start()
        with pytest.raises(ValueError, match="exploded"):
            await manager.update_node_state("n", status="exploded")
        with pytest.raises(TypeError, match="no field 'colour'; fields are"):
            await manager.update_node_state("n", colour="red")
        await manager.stop()
        with pytest.raises(StoreClosed, match="stopped"):
            await manager.update_node_state("n", status="running")

    asyncio.run(main())
