"""Law 1: one join. It is commutative, associative, idempotent, and never forgets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.errors import Corruption
from treadle.ids import NodeID
from treadle.state.cell import (
    CellKey,
    Delta,
    ErrorInfo,
    ExecutionCell,
    ExecutionState,
    ExecutionStateProtocol,
    ItemError,
    NodeState,
    instant,
    join,
    moment,
)
from treadle.state.status import ExecutionStatus, NodeStatus


def cell(node: str, epoch: int, seq: int) -> NodeState:
    """The one cell that its owner wrote under that version."""
    return NodeState("e", node, epoch=epoch, seq=seq, status=list(NodeStatus)[(epoch * 7 + seq) % 9])


cells = st.builds(cell, st.sampled_from("abc"), st.integers(1, 3), st.integers(1, 4))
deltas = st.lists(cells, max_size=6).map(lambda found: {one.key: one for one in found})


@given(deltas, deltas, deltas)
def test_join_is_a_join(a: Delta, b: Delta, c: Delta) -> None:
    assert join(a, b) == join(b, a)
    assert join(a, join(b, c)) == join(join(a, b), c)
    assert join(a, a) == a
    assert join(a, {}) == a


@given(deltas, deltas)
def test_a_join_has_every_key_and_never_an_older_version(a: Delta, b: Delta) -> None:
    joined = join(a, b)
    assert joined.keys() == a.keys() | b.keys()
    for key, one in joined.items():
        assert one.version == max(x[key].version for x in (a, b) if key in x)


@given(deltas, deltas)
def test_join_leaves_its_arguments_alone(a: Delta, b: Delta) -> None:
    before = dict(a), dict(b)
    join(a, b)
    assert (a, b) == before


def test_the_epoch_goes_before_the_count() -> None:
    old, new = cell("a", 1, 9), cell("a", 2, 1)
    assert join(old, new) is new and join(new, old) is new


def test_two_different_cells_under_one_version_are_corruption() -> None:
    a = NodeState("e", "a", status=NodeStatus.RUNNING)
    b = NodeState("e", "a", status=NodeStatus.FAILED)
    with pytest.raises(Corruption, match=r"under one version \(0, 1\)"):
        join(a, b)
    with pytest.raises(Corruption):
        join({a.key: a}, {b.key: b})


def test_only_cells_with_one_key_are_joined() -> None:
    with pytest.raises(ValueError, match="only cells with one key"):
        join(cell("a", 1, 1), cell("b", 1, 1))


def test_executions_join_like_nodes() -> None:
    running = ExecutionCell("e", seq=1, status=ExecutionStatus.RUNNING)
    done = ExecutionCell("e", seq=2, status=ExecutionStatus.COMPLETED)
    assert join(running, done) is done and done.key == "e"


def test_what_a_cell_tells() -> None:
    one = NodeState("e", "a", "2.1", 3, output=b"1", started_at=10.0, ended_at=12.5)
    assert one.key == CellKey("e", "a", "2.1", 3)
    assert (one.retry_count, one.execution_time, one.output_payload) == (2, 2.5, b"1")
    assert NodeState("e", "a", started_at=10.0).execution_time is None


def test_a_state_shows_the_last_iteration_and_attempt_of_each_node() -> None:
    history = [NodeState("e", "a", iteration, attempt) for iteration, attempt in
               (("9", 1), ("10", 1), ("10", 2), ("2", 5))]
    state = ExecutionState.of(ExecutionCell("e", started_at=0.0), {one.key: one for one in history})
    assert state.node_states["a"].key == CellKey("e", "a", "10", 2)
    assert len(state.history) == 4 and state.start_time == datetime(1970, 1, 1, tzinfo=UTC)


def test_a_state_persists_itself_at_its_home() -> None:
    class Home:
        def __init__(self) -> None:
            self.kept: dict[str, ExecutionState] = {}

        async def save_state(self, execution_id: str, state: ExecutionState) -> None:
            self.kept[execution_id] = ExecutionState(execution_id, state.status, state.node_states)

        async def load_state(self, execution_id: str) -> ExecutionState:
            return self.kept[execution_id]

    async def script() -> None:
        state = ExecutionState("e", "running", {"a": NodeState("e", "a")}, home=Home())
        assert isinstance(state, ExecutionStateProtocol)
        await state.persist()
        state.status, state.node_states = ExecutionStatus.FAILED, {}
        await state.restore()
        assert state.status is ExecutionStatus.RUNNING and list(state.node_states) == ["a"]
        with pytest.raises(ValueError, match="has no home"):
            await ExecutionState("e").persist()

    asyncio.run(script())


def test_instants() -> None:
    at = datetime(2026, 1, 2, tzinfo=UTC)
    assert moment(instant(at)) == at and instant(3.0) == 3.0
    assert instant(None) is None and moment(None) is None


def test_an_error_reads_like_python_writes_it_and_stands_in_for_its_item() -> None:
    assert str(ErrorInfo("KeyError", "'x'")) == "KeyError: 'x'"
    assert str(ErrorInfo("KeyboardInterrupt", "")) == "KeyboardInterrupt"
    item = ItemError(3, ErrorInfo("OSError", "gone"))
    assert (item.index, item.type, item.message) == (3, "OSError", "gone")


def test_the_key_of_an_execution_is_its_id() -> None:
    assert ExecutionCell("run-1", epoch=4, seq=2).key == "run-1"
    assert ExecutionCell("run-1", epoch=4, seq=2).version == (4, 2)


def test_a_state_shows_itself_in_short() -> None:
    state = ExecutionState("run-1", "running", {NodeID("a"): NodeState("run-1", "a")})
    assert repr(state) == "ExecutionState('run-1', 'running', 1 nodes)"


def test_what_has_ended_is_terminal() -> None:
    assert {status.value for status in NodeStatus if status.terminal} == {
        "completed", "failed", "skipped", "cancelled"}
    assert {status.value for status in ExecutionStatus if status.terminal} == {
        "completed", "failed", "cancelled"}
