"""The engine's face of the state manager: tickets, group commit, backpressure, leases, the writer's death."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.errors import LeaseHeld, NoSuchExecution, StoreClosed, StoreError
from treadle.state.status import ExecutionStatus
from treadle.store import MemoryStore, StateManager, open_store
from treadle.store.base import Batch, Lease, Signal, Store, Written
from treadle.store.manager import UNCHANGED
from treadle.store.owner import this_owner
from treadle.testing.contract import a_cell, an_execution
from treadle.testing.faults import dead_owner, locked


class SlowStore(MemoryStore):
    """A store whose `apply` waits at a gate, and that notes its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[Batch] = []
        self.fails: list[BaseException] = []

    def apply(self, batch: Batch) -> Written:
        self.gate.wait(10)
        if self.fails:
            raise self.fails.pop()
        self.batches.append(batch)
        return super().apply(batch)


def run(main: Callable[[StateManager], Coroutine[None, None, None]], store: Store,
        config: TreadleConfig | None = None, **options: float) -> StateManager:
    """Run a script with a started manager that holds the execution `run`."""
    async def script() -> StateManager:
        manager = StateManager(store=store, config=config or TreadleConfig(),
                               **options)  # type: ignore[arg-type]
        await manager.start()
        await manager.create(an_execution(), "")
        await main(manager)
        await manager.stop()
        return manager

    return asyncio.run(asyncio.wait_for(script(), 20))


async def until(condition: Callable[[], object]) -> None:
    """Give the loop turns until something is true; the test's own time limit ends a wait for ever."""
    while not condition():  # noqa: ASYNC110 - what is waited for happens on another thread
        await asyncio.sleep(0.001)


def test_a_batch_is_due_by_the_clock() -> None:
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        begin = time.monotonic()
        manager.record([a_cell("n")])
        arrived = asyncio.Event()
        manager.when_durable(manager._ticket, arrived.set)
        await arrived.wait()
        assert time.monotonic() - begin >= 0.04
        assert store.load("run")[1] == [a_cell("n")]

    run(main, store, batch_interval=0.05)


def test_a_step_is_never_split_and_the_last_version_is_written() -> None:
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        store.batches.clear()
        for seq in range(1, 4):
            manager.record([a_cell(name, seq) for name in "abcdefghij"])
        await manager.flush()
        assert [len(batch.cells) for batch in store.batches] == [10, 10, 10]
        manager.record([a_cell("a", 4)])
        manager.record([a_cell("a", 5)])
        await manager.flush()
        assert [cell.seq for cell in store.batches[-1].cells] == [5]

    run(main, store, batch_size=5)


def test_those_who_wait_for_an_fsync_together_are_committed_together() -> None:
    """While the writer is busy with a strict batch, later strict records gather into the next one."""
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        store.batches.clear()
        store.gate.clear()
        tickets = [manager.record([a_cell(f"n{number}")], strict=True) for number in range(50)]
        done: list[int] = []
        for ticket in tickets:
            manager.when_durable(ticket, lambda ticket=ticket: done.append(ticket))  # type: ignore[misc]
        await asyncio.sleep(0)
        assert done == []
        store.gate.set()
        await manager.durable(tickets[-1])
        assert done == tickets, "in the order of the tickets"
        assert [len(batch.cells) for batch in store.batches] == [1, 49]
        assert all(batch.sync for batch in store.batches)

    run(main, store)


def test_a_ticket_that_has_arrived_calls_back_at_once() -> None:
    async def main(manager: StateManager) -> None:
        ticket = manager.record([a_cell("n")])
        await manager.durable(ticket)
        called: list[bool] = []
        manager.when_durable(ticket, lambda: called.append(True))
        assert called == [True]
        await manager.flush()

    run(main, MemoryStore())


def test_a_backlog_slows_the_engine_down_and_lets_it_go_again() -> None:
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        store.gate.clear()
        for number in range(30):
            manager.record([a_cell(f"n{number}", output=b"1")])
        assert manager.congested
        waiting = asyncio.create_task(manager.room())
        await asyncio.sleep(0.01)
        assert not waiting.done()
        store.gate.set()
        await waiting
        assert not manager.congested

    run(main, store, TreadleConfig(backlog_cells_max=20), batch_size=5)


def test_a_large_backlog_of_bytes_counts_too() -> None:
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        store.gate.clear()
        manager.record([a_cell("n", output=b"x" * 5000)])
        assert manager.congested
        store.gate.set()
        await manager.room()

    run(main, store, TreadleConfig(backlog_bytes_max=4000, batch_bytes_max=1000))


def test_a_locked_file_is_waited_for_and_said(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = open_store(path)

    async def main(manager: StateManager) -> None:
        with locked(path):
            ticket = manager.record([a_cell("n")], strict=True)
            await until(lambda: manager.trouble)
            assert "locked" in str(manager.trouble)
            assert manager.queue_depth == 1
        await manager.durable(ticket)
        assert manager.trouble is None
        assert manager.stats["retries"] > 0

    run(main, store)
    assert store.load("run")[1] == [a_cell("n")]
    store.close()


def test_a_dead_writer_is_loud_and_writes_nothing_after_the_gap(caplog: pytest.LogCaptureFixture) -> None:
    store = SlowStore()
    dead: list[BaseException] = []

    async def main(manager: StateManager) -> None:
        manager.on_dead(dead.append)
        store.gate.clear()
        store.fails.append(ValueError("the disk caught fire"))
        first = manager.record([a_cell("first")], strict=True)
        manager.when_durable(first, lambda: pytest.fail("what was not written is not acknowledged"))
        second = manager.record([a_cell("second")])
        manager._seal()
        store.gate.set()
        for ticket in (first, second):
            with pytest.raises(StoreError, match="has died: the disk caught fire"):
                await manager.durable(ticket)
        with pytest.raises(StoreError, match="has died"):
            manager.record([a_cell("third")])
        with pytest.raises(StoreError, match="has died"):
            await manager.flush()
        await manager.room()
        assert manager.stats["updates_processed"] == 0
        await until(lambda: manager.queue_depth == 2)

    run(main, store)
    assert [str(error) for error in dead] == ["the disk caught fire"]
    assert store.load("run")[1] == []
    assert "2 updates are not written" in caplog.text


def test_a_lost_execution_is_told_and_its_neighbour_goes_on() -> None:
    store = MemoryStore()
    lost: list[tuple[str, int]] = []

    async def main(manager: StateManager) -> None:
        manager.on_lost(lambda *what: lost.append(what))
        await manager.create(an_execution("other"), "")
        store._rows["run"].expires = 0.0
        store.claim("run", this_owner(), 15)
        manager.record([a_cell("n"), a_cell("n", execution_id="other")])
        await manager.flush()
        assert lost == [("run", 2)]
        assert set(manager.leases) == {"other"}
        assert manager.stats["errors"] == 1 and manager.stats["updates_processed"] == 1
        manager.record([a_cell("late")])
        await manager.flush()
        assert lost == [("run", 2)], "said once"

    run(main, store)
    assert [cell.execution_id for cell in store.load("other")[1]] == ["other"]


def test_late_cells_of_an_earlier_claim_lose_nothing() -> None:
    store = MemoryStore()

    async def main(manager: StateManager) -> None:
        manager.on_lost(lambda *what: pytest.fail(f"lost {what}"))
        await manager.release("run")
        assert (await manager.claim("run")) == Lease("run", 2, True)
        manager.record([a_cell("old", epoch=1), a_cell("new", epoch=2)])
        await manager.flush()
        assert manager.stats["errors"] == 1
        assert set(manager.leases) == {"run"}

    run(main, store)
    assert [cell.node_id for cell in store.load("run")[1]] == ["new"]


def test_leases_are_renewed_and_a_lost_one_is_told() -> None:
    store = MemoryStore()
    lost: list[tuple[str, int]] = []

    async def main(manager: StateManager) -> None:
        manager.on_lost(lambda *what: lost.append(what))
        await manager.create(an_execution("other"), "")
        first = store._rows["run"].expires
        store._rows["other"].epoch += 1  # somebody claimed it
        await until(lambda: lost and store._rows["run"].expires > first)
        assert lost == [("other", 0)]

    run(main, store, TreadleConfig(lease_s=0.15))


def test_a_claim_names_who_holds_an_execution_and_takes_it_from_the_dead() -> None:
    store = MemoryStore()
    store.create(an_execution("theirs"), "", this_owner(), 15)
    store.create(an_execution("left"), "", dead_owner(), 1000)

    async def main(manager: StateManager) -> None:
        with pytest.raises(LeaseHeld, match="run by process"):
            await manager.claim("theirs")
        with pytest.raises(NoSuchExecution):
            await manager.claim("nobody")
        assert await manager.claim("left") == Lease("left", 2, False)
        with pytest.raises(ValueError, match="already: choose another id"):
            await manager.create(an_execution("theirs"), "")

    run(main, store)
    assert store.claim("left", this_owner(), 15).clean, "stop gives the leases back"


def test_a_claim_that_is_cancelled_is_given_back_all_the_same() -> None:
    store = SlowStore()
    store.create(an_execution("left"), "", dead_owner(), 1000)

    async def main(manager: StateManager) -> None:
        store.gate.clear()
        manager.record([a_cell("n")], strict=True)  # the writer is busy
        claiming = asyncio.create_task(manager.claim("left"))
        await asyncio.sleep(0)
        claiming.cancel()
        store.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await claiming

    run(main, store)
    assert store.claim("left", this_owner(), 15).clean


def test_a_watcher_hears_of_signals_from_other_processes(tmp_path: Path) -> None:
    store, outside = open_store(tmp_path / "state.db"), open_store(tmp_path / "state.db")

    async def main(manager: StateManager) -> None:
        heard = asyncio.Event()
        manager.watch(heard.set)
        await asyncio.to_thread(outside.send, Signal("run", "signal", name="go"))
        await heard.wait()
        found = await manager.read(store.signals, ["run"])
        manager.watch(None)
        manager.record([a_cell("wait")], consumed=[found[0].id])
        await manager.flush()
        assert await manager.read(store.signals, ["run"]) == []

    run(main, store, TreadleConfig(watch_interval_s=0.01))
    outside.close()
    store.close()


def test_the_end_of_an_execution_and_its_lease_go_in_one_transaction() -> None:
    store = SlowStore()

    async def main(manager: StateManager) -> None:
        store.batches.clear()
        done = msgspec.structs.replace(an_execution(), seq=2, status=ExecutionStatus.COMPLETED)
        manager.record([a_cell("last")], done, blobs=[("ab" * 32, b"large")])
        await manager.release("run")
        assert len(store.batches) == 1
        assert store.load("run")[0] == done
        await manager.release("run")  # not ours any more: nothing to do

    run(main, store)
    assert store.blob("ab" * 32) == b"large"


def test_an_update_from_a_thread_is_refused_when_the_manager_has_stopped() -> None:
    async def main() -> StateManager:
        manager = StateManager(execution_id="job", store=MemoryStore())
        await manager.start()
        await manager.update_node_state("n", status="running", started_at=UNCHANGED)
        with pytest.raises(TypeError, match="claims can't be cleared"):
            await manager.update_node_state("n", claims=None)
        await manager.stop()
        return manager

    manager = asyncio.run(main())
    refused: list[BaseException] = []

    def late() -> None:
        try:
            asyncio.run(manager.update_node_state("n", status="completed"))
        except StoreClosed as error:
            refused.append(error)

    thread = threading.Thread(target=late)
    thread.start()
    thread.join()
    assert "stopped: the update was refused" in str(refused[0])


def test_an_update_without_an_execution_says_what_is_missing() -> None:
    async def main(manager: StateManager) -> None:
        with pytest.raises(TypeError, match="made with an execution_id"):
            await manager.update_node_state("n", status="running")

    run(main, MemoryStore())


def test_before_the_start_and_after_the_stop_nothing_is_accepted() -> None:
    async def main() -> None:
        manager = StateManager(execution_id="job", store=MemoryStore())
        await manager.stop()  # nothing to stop
        with pytest.raises(StoreClosed, match="not started"):
            await manager.read(manager.store.version)
        with pytest.raises(StoreClosed, match="not started: the update was refused"):
            await manager.update_node_state("n", status="running")
        await manager.start()
        with pytest.raises(StoreClosed, match="started once"):
            await manager.start()
        await manager.stop()
        with pytest.raises(StoreClosed, match="stopped: the update was refused"):
            await manager.update_node_state("n", status="running")

    asyncio.run(main())


def test_a_manager_without_a_store_opens_the_default_one(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_STORE", str(tmp_path / "default.db"))

    async def main() -> None:
        manager = StateManager(run_id="job")
        await manager.start()
        await manager.update_node_state("n", status="completed", output=1)
        await manager.stop()

    asyncio.run(main())
    store = open_store(tmp_path / "default.db")
    assert [cell.output for cell in store.load("job")[1]] == [b"1"]
    store.close()
