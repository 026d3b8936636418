"""The cache of executions that somebody reads: whole, fresh, bounded, and each with a lock of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.config import TreadleConfig
from treadle.errors import NoSuchExecution
from treadle.ids import NodeID
from treadle.state.cell import ExecutionCell, NodeState, join
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import MemoryStore, StateManager
from treadle.store.cache import ExecutionCache, ExecutionStateCache
from treadle.store.owner import this_owner

CELLS = [NodeState("x", node, str(turn), attempt, 1, seq)
         for node in "ab" for turn in (1, 2, 10) for attempt in (1, 2) for seq in (1, 2)]


@given(st.lists(st.sampled_from(CELLS), max_size=40), st.data())
def test_any_order_repetition_and_batching_of_updates_is_the_same_cache(cells: list[NodeState],
                                                                        data: st.DataObject) -> None:
    whole, pieces = ExecutionCache("x"), ExecutionCache("x")
    whole.join(cells)
    again = data.draw(st.permutations(cells + cells[: len(cells) // 2]))
    while again:
        count = data.draw(st.integers(1, len(again)))
        pieces.join(again[:count])
        again = again[count:]
    execution = ExecutionCell("x")
    for cache in (whole, pieces):
        cache.join([], execution)
    one, two = whole.state(), pieces.state()
    assert one is not None and two is not None
    assert (one.history, one.node_states) == (two.history, two.node_states)
    for node in "ab":
        of_node = [cell for cell in one.history.values() if cell.node_id == node]
        newest = max(of_node, key=lambda cell: (int(cell.iteration), cell.attempt), default=None)
        assert whole.get_node_state(node) == newest == one.node_states.get(NodeID(node))


def stored(*names: str) -> MemoryStore:
    store = MemoryStore()
    for name in names:
        store.create(ExecutionCell(name, epoch=1, status=ExecutionStatus.RUNNING), "", this_owner(), 15)
    return store


class Reads:
    """Executions of a store, with a count of the reads, each held up until its gate opens."""

    def __init__(self, store: MemoryStore) -> None:
        self.store, self.count, self.gates = store, 0, dict[str, asyncio.Event]()

    async def __call__(self, execution_id: str) -> tuple[ExecutionCell, Sequence[NodeState]]:
        self.count += 1
        if execution_id in self.gates:
            await self.gates[execution_id].wait()
        return self.store.load(execution_id)


def test_holding_one_execution_never_delays_another() -> None:
    async def main() -> None:
        reads = Reads(stored("slow", "quick"))
        reads.gates["slow"] = asyncio.Event()
        cache = ExecutionStateCache(reads)
        slow = asyncio.ensure_future(cache.get("slow"))
        also = asyncio.ensure_future(cache.get("slow"))
        quick = await cache.get("quick")  # while "slow" is being read
        assert not slow.done()
        reads.gates["slow"].set()
        held = await slow
        assert await also is held and reads.count == 2, "two who want one execution share one read"

        updated = threading.Event()

        def update() -> None:
            quick.join([NodeState("quick", "n")])
            updated.set()

        with held.lock:  # while "slow" is locked
            threading.Thread(target=update).start()
            assert updated.wait(10)
        locked, let_go = threading.Event(), threading.Event()

        def hold() -> None:
            with held.lock:
                locked.set()
                let_go.wait(10)

        holder = threading.Thread(target=hold)
        holder.start()
        locked.wait(10)
        cache.feed([NodeState("slow", "late"), NodeState("quick", "late")], None, 1)  # waits for nobody
        assert quick.get_node_state("late") is not None and not let_go.is_set()
        let_go.set()
        holder.join()
        assert held.get_node_state("late") is not None
        assert quick.get_node_state("n") is not None
        cache.close()

    asyncio.run(main())


def test_an_update_while_the_store_is_read_is_not_lost() -> None:
    async def main() -> None:
        reads = Reads(stored("x"))
        reads.gates["x"] = asyncio.Event()
        cache = ExecutionStateCache(reads)
        reading = asyncio.ensure_future(cache.get("x"))
        while "x" not in cache:  # noqa: ASYNC110 - it is the loop that is waited for
            await asyncio.sleep(0)
        second = asyncio.ensure_future(cache.get("x"))
        cache.feed([NodeState("x", "a", epoch=1, seq=1), NodeState("other", "a")], None, 1)
        await asyncio.sleep(0)
        assert not second.done(), "half a cache is nobody's"
        reads.gates["x"].set()
        found = await reading
        assert await second is found
        assert found.get_node_state("a") == NodeState("x", "a", epoch=1, seq=1)
        assert "other" not in cache
        cache.close()

    asyncio.run(main())


def test_what_is_not_there_is_said_and_not_remembered() -> None:
    async def main() -> None:
        store = stored()
        cache = ExecutionStateCache(Reads(store))
        with pytest.raises(NoSuchExecution):
            await cache.get("x")
        assert len(cache) == 0
        store.create(ExecutionCell("x", epoch=1), "", this_owner(), 15)
        assert (await cache.get("x")).execution_id == "x"
        cache.close()

    asyncio.run(main())


def test_old_and_too_many_go_but_never_what_is_dirty() -> None:
    names = [f"e{k}" for k in range(6)]
    clock, written = [0.0], [0]

    async def main() -> None:
        cache = ExecutionStateCache(
            Reads(stored(*names)), written=lambda: written[-1], now=lambda: clock[-1],
            config=TreadleConfig(state_cache_ttl_s=3600, state_cache_executions_max=4))
        for name in names[:4]:
            await cache.get(name)
        cache.feed([NodeState("e0", "n")], None, 7)
        await cache.get(names[4])  # one too many: e0 was read longest ago, but is dirty
        assert "e0" in cache and "e1" not in cache and len(cache) == 4
        clock.append(3599.0)
        await cache.get("e2")
        clock.append(3600.0)
        assert cache.clean_up() == 2 and set(cache._caches) == {"e0", "e2"}
        written.append(7)  # now it is on disk
        assert cache.clean_up() == 1 and "e0" not in cache
        assert cache.stats["evicted"] == 4
        cache.close()

    asyncio.run(main())


def test_it_cleans_up_by_itself() -> None:
    async def main() -> None:
        cache = ExecutionStateCache(Reads(stored("x")), config=TreadleConfig(state_cache_ttl_s=0.02))
        await cache.get("x")
        while "x" in cache:  # noqa: ASYNC110 - its timer runs on this loop
            await asyncio.sleep(0.001)
        cache.close()

    asyncio.run(main())


def test_the_managers_cache_sees_an_update_at_once_and_forgets_a_lost_execution() -> None:
    async def main() -> None:
        store = MemoryStore()
        manager = StateManager("mine", store=store, batch_interval=60)
        await manager.start()
        await manager.update_node_state("a", status="running")
        found = await manager.cache.get("mine")
        cell = found.get_node_state("a")
        assert cell is not None and cell.status is NodeStatus.RUNNING and manager.cache.dirty(found)
        assert store.load("mine")[1] == [], "and the store has nothing of it yet"
        await manager.flush()
        assert not manager.cache.dirty(found)
        joined = join(cell, store.load("mine")[1][0])
        assert joined == cell
        await manager.stop()
        assert len(manager.cache) == 0

    asyncio.run(main())


def test_a_cache_that_is_opened_late_has_what_is_on_its_way() -> None:
    async def main() -> None:
        manager = StateManager(store=MemoryStore(), batch_interval=60)
        await manager.start()
        await manager.create(ExecutionCell("x", epoch=1, status=ExecutionStatus.RUNNING), "")
        ended = ExecutionCell("x", epoch=1, seq=2, status=ExecutionStatus.COMPLETED)
        manager.record([NodeState("x", "a", epoch=1)], ended)
        state: Any = (await manager.cache.get("x")).state()
        assert (state.status, list(state.node_states)) == (ExecutionStatus.COMPLETED, ["a"])
        await manager.stop()

    asyncio.run(main())
