"""Figures of an execution, derived from cells or from what a driver tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from treadle.engine.tracker import ExecutionTracker
from treadle.state.cell import NodeState
from treadle.state.envelope import EnvelopeFactory
from treadle.state.status import NodeStatus

T0 = datetime(2030, 1, 1, tzinfo=UTC)
ARROWS = {"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}


def cell(node: str, status: NodeStatus, start: float, end: float, attempt: int = 1) -> NodeState:
    return NodeState("x", node, attempt=attempt, status=status, started_at=start, ended_at=end)


def test_a_driver_records_starts_and_results() -> None:
    tracker = ExecutionTracker()
    tracker.record_node_start("a", T0)
    tracker.record_node_complete("a", EnvelopeFactory.text("hi", "a", timestamp=T0 + timedelta(seconds=2)))
    tracker.record_node_start("b", T0 + timedelta(seconds=2))
    tracker.record_node_complete("b", EnvelopeFactory.error("boom", "b"), T0 + timedelta(seconds=5))

    metrics = tracker.get_execution_metrics()

    assert (metrics.completed, metrics.failed, metrics.total) == (1, 1, 2)
    assert metrics.success_rate == metrics.failure_rate == 0.5
    assert metrics.elapsed_s == metrics.busy_s == 5.0 and metrics.mean_s == 2.5
    assert metrics.path == ("a", "b") and metrics.parallelism == 1.0


def test_an_end_without_a_start_is_refused() -> None:
    with pytest.raises(ValueError, match="node 'a' was not started"):
        ExecutionTracker().record_node_complete("a", EnvelopeFactory.empty("a"))


def test_the_engine_hands_in_cells() -> None:
    tracker = ExecutionTracker(ARROWS.__getitem__)
    running = NodeState("x", "a", status=NodeStatus.RUNNING, started_at=0.0)
    tracker.consume([running, cell("a", NodeStatus.COMPLETED, 0, 1)])
    tracker.consume([cell("b", NodeStatus.COMPLETED, 1, 2), cell("c", NodeStatus.COMPLETED, 1, 4)])
    tracker.consume([cell("d", NodeStatus.COMPLETED, 4, 5)])
    tracker.consume([NodeState("x", "e", status=NodeStatus.SKIPPED, ended_at=5.0)])

    metrics = tracker.get_execution_metrics()

    assert (metrics.completed, metrics.skipped, metrics.total) == (4, 1, 5)
    assert metrics.critical_path == ("a", "c", "d") and metrics.critical_s == 5.0
    assert metrics.slowest[0].node_id == "c" and metrics.parallelism == pytest.approx(6 / 5)
    assert metrics.rss_bytes > 0


def test_a_retried_attempt_counts_once() -> None:
    """It is first `retrying` and, when the next attempt begins, `failed`."""
    tracker = ExecutionTracker()
    tracker.consume([cell("a", NodeStatus.RETRYING, 0, 1), cell("a", NodeStatus.FAILED, 0, 1),
                     cell("a", NodeStatus.COMPLETED, 2, 3, attempt=2)])
    metrics = tracker.get_execution_metrics()
    assert (metrics.retried, metrics.failed, metrics.completed, metrics.total) == (1, 1, 1, 2)
    assert metrics.busy_s == 2.0


def test_nothing_has_figures_too() -> None:
    metrics = ExecutionTracker().get_execution_metrics()
    assert (
        metrics.total == 0
        and metrics.path == ()
        and metrics.critical_path == ()
        and metrics.parallelism == 0.0
    )
