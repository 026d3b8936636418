"""The store is a fold of the join, however the cells are cut into batches, ordered and repeated."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator
from functools import reduce

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.state.cell import ErrorInfo, NodeState, join
from treadle.state.status import NodeStatus
from treadle.store import MemoryStore, StateManager, open_store
from treadle.store.base import Batch, Store
from treadle.store.owner import this_owner
from treadle.testing.contract import a_cell, an_execution

_ids = (f"run-{number}" for number in itertools.count())
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
SECONDS = st.none() | st.floats(0, 4e9)
JSON = st.none() | (
    TEXT | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-2**53, 2**53) | st.lists(TEXT)
).map(msgspec.json.encode)


@st.composite
def histories(draw: st.DrawFn) -> list[NodeState]:
    """Versions of a few cells: under one version there is one cell."""
    keys = st.tuples(st.sampled_from("ab") | TEXT, st.sampled_from(["1", "2.1"]), st.integers(1, 2))
    plain = st.builds(
        dict, status=st.sampled_from(NodeStatus), started_at=SECONDS, ended_at=SECONDS, output=JSON)
    others = st.builds(
        lambda fields, **more: fields | more, plain, meta=JSON, port=st.none() | TEXT,
        worker=st.none() | TEXT, retryable=st.none() | st.booleans(),
        error=st.none() | st.builds(ErrorInfo, TEXT, TEXT))
    versions = st.dictionaries(st.tuples(keys, st.integers(1, 9)), plain | others, max_size=12)
    return [NodeState("", node_id, iteration, attempt, 1, seq, **fields)
            for ((node_id, iteration, attempt), seq), fields in draw(versions).items()]


def fold(cells: list[NodeState]) -> dict[object, NodeState]:
    return reduce(join, ({cell.key: cell} for cell in cells), {})


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    memory = request.param == "memory"
    store = MemoryStore() if memory else open_store(tmp_path_factory.mktemp("laws") / "s.db")
    yield store
    store.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories(), data=st.data())
def test_a_store_is_a_fold_of_the_join(store: Store, history: list[NodeState], data: st.DataObject) -> None:
    run = next(_ids)
    cells = [msgspec.structs.replace(cell, execution_id=run) for cell in history]
    store.create(an_execution(run), "", this_owner(), 15)
    order = data.draw(st.permutations(cells + data.draw(st.lists(st.sampled_from(cells), max_size=5) if cells
                                                        else st.just([]))))
    while order:
        size = data.draw(st.integers(1, len(order)))
        batch, order = order[:size], order[size:]
        # As the manager does: one cell a key in a batch, the join of them.
        assert store.apply(Batch(list(fold(batch).values()))).failed == []
    assert {cell.key: cell for cell in store.load(run)[1]} == fold(cells)


@settings(max_examples=25, deadline=None)
@given(steps=st.lists(st.lists(st.sampled_from("abcde"), min_size=1, max_size=4, unique=True), max_size=30),
       batch_size=st.integers(1, 7), strict=st.sets(st.integers(0, 29)), breathe=st.sets(st.integers(0, 29)))
def test_a_manager_writes_the_last_of_every_cell(store: Store, steps: list[list[str]], batch_size: int,
                                                 strict: set[int], breathe: set[int]) -> None:
    run = next(_ids)

    async def main() -> dict[object, NodeState]:
        manager = StateManager(store=store, batch_size=batch_size, batch_interval=0.001)
        await manager.start()
        await manager.create(an_execution(run), "")
        recorded: list[NodeState] = []
        for number, names in enumerate(steps):
            cells = [a_cell(name, number + 1, execution_id=run, claims=number) for name in names]
            recorded += cells
            ticket = manager.record(cells, strict=number in strict)
            if number in breathe:
                await manager.durable(ticket)
                assert {cell.key: cell for cell in store.load(run)[1]} == fold(recorded)
        await manager.stop()
        total = sum(map(len, steps))
        assert manager.stats["updates_processed"] == total and manager.stats["errors"] == 0
        return fold(recorded)

    assert asyncio.run(main()) == {cell.key: cell for cell in store.load(run)[1]}
