"""Small parts of the kernel: retries as decisions, moves as a table, order from sets."""

from __future__ import annotations

import pytest

from treadle.diagram.policy import Backoff, Policy
from treadle.errors import NoSuchNode
from treadle.kernel.control import Ready
from treadle.kernel.moves import EXECUTION_MOVES, MOVES, illegal
from treadle.kernel.order import DynamicOrderCalculator
from treadle.kernel.retry import pause, retry_at
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.testing.playbook import draw

THRICE = Policy(retries=3, backoff=Backoff(initial=1.0, factor=3.0, max=5.0, jitter=0.5),
                retry_on=("IOError",))


@pytest.mark.parametrize(("tries", "kind", "retryable", "luck", "delay", "at"), [
    (1, "IOError", True, 0.5, None, 101.0),
    (2, "IOError", True, 0.5, None, 103.0),
    (3, "IOError", True, 0.5, None, 105.0),  # capped
    (4, "IOError", True, 0.5, None, None),  # the budget is spent
    (1, "KeyError", True, 0.5, None, None),  # not listed
    (1, "IOError", False, 0.5, None, None),
    (1, "IOError", True, 0.0, None, 100.5),  # jitter, both ends
    (1, "IOError", True, 1.0, None, 101.5),
    (1, "IOError", True, 0.5, 42.0, 142.0),  # the body knows better
    (1, "IOError", True, 0.5, -1.0, 100.0),
])
def test_a_retry_is_a_decision(tries: int, kind: str, retryable: bool, luck: float, delay: float | None,
                               at: float | None) -> None:
    assert retry_at(THRICE, tries, kind, retryable, 100.0, luck, delay) == at


def test_a_backoff_never_overflows() -> None:
    assert pause(Backoff(initial=1.0, factor=10.0, max=60.0, jitter=0.0), 10_000, 0.5) == 60.0


def test_every_status_has_its_moves_and_ends_have_none() -> None:
    assert set(MOVES) == set(NodeStatus) and set(EXECUTION_MOVES) == set(ExecutionStatus)
    assert all((not MOVES[status]) == status.terminal for status in NodeStatus)


def test_an_illegal_move_tells_the_story() -> None:
    cell = NodeState("x", "a", status=NodeStatus.COMPLETED, epoch=1, seq=3)
    text = str(illegal(cell, "a", NodeStatus.RUNNING, [cell]))
    assert "'a' can't go from completed to running" in text
    assert "version 1.3" in text and "it has ended" in text


def test_ready_slots_leave_by_priority_and_order() -> None:
    ready = Ready()
    for slot, priority in enumerate([0, -1, 5, 0, 5]):
        ready.push(slot, priority)
    assert len(ready) == 5
    assert [ready.pop() for _ in range(5)] == [2, 4, 0, 3, 1]
    assert not ready


def test_the_calculator_orders_finds_dependencies_and_cycles() -> None:
    diagram = draw("s -> h -> c; c.again -> h; c.out -> e; s -> e", e=Policy(priority=3))
    calculator = DynamicOrderCalculator(diagram)
    assert calculator.topological_order() == ["s", "h", "c", "e"]
    assert calculator.calculate_dependencies("h") == {"s"}
    assert calculator.ancestors("e") == {"s", "h", "c"}
    assert calculator.cycles() == [["h", "c"]]
    assert calculator.priorities() == {"s": 0, "h": 0, "c": 0, "e": 3}
    assert calculator.get_ready_nodes(set()) == ["s"]
    turn = {"s", "h", "c"}
    assert calculator.get_ready_nodes(turn, ports={"c": "again"}) == [], "the loop has not been left"
    assert calculator.get_ready_nodes(turn, ports={"c": "out"}) == ["e"]
    with pytest.raises(NoSuchNode, match="did you mean"):
        DynamicOrderCalculator(draw("alpha -> beta")).get_ready_nodes({"alpah"})


def test_the_calculator_skips_what_failures_and_dead_arrows_reach() -> None:
    diagram = draw("c.yes -> a -> m; c.no -> b -> m; f -> x; f.error -> r; g -> y -> z")
    calculator = DynamicOrderCalculator(diagram)
    ready = calculator.get_ready_nodes({"c"}, {"f", "g"}, ports={"c": "yes"})
    assert ready == ["a", "r"]
    assert calculator.get_ready_nodes({"c", "a"}, {"f", "g"}, ports={"c": "yes"}, running={"r"}) == ["m"]
