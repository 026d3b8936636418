"""The table of moves: which status may follow which.

The docs draw it from here; an illegal move tells its story.
"""

from __future__ import annotations

from collections.abc import Iterable

from treadle.errors import IllegalMove
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

_S, _E = NodeStatus, ExecutionStatus

MOVES: dict[NodeStatus, frozenset[NodeStatus]] = {
    _S.PENDING: frozenset({_S.SCHEDULED, _S.RUNNING, _S.SKIPPED}),
    _S.SCHEDULED: frozenset({_S.RUNNING, _S.CANCELLED}),
    # running → running: the body is started again after a crash, or a map's items or a body's steps are
    # recorded
    _S.RUNNING: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.SUSPENDED, _S.RETRYING}),
    # suspended → running: the answer was a step of the body, which goes on
    _S.SUSPENDED: frozenset({_S.RUNNING, _S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.RETRYING}),
    # retrying → failed: the next attempt begins, this one is history
    _S.RETRYING: frozenset({_S.FAILED, _S.CANCELLED}),
    _S.COMPLETED: frozenset(),
    _S.FAILED: frozenset(),
    _S.SKIPPED: frozenset(),
    _S.CANCELLED: frozenset(),
}
"""Moves of one attempt. A new attempt starts at `pending`."""

EXECUTION_MOVES: dict[ExecutionStatus, frozenset[ExecutionStatus]] = {
    _E.PENDING: frozenset({_E.RUNNING, _E.CANCELLED}),
    _E.RUNNING: frozenset({_E.RUNNING, _E.SUSPENDED, _E.COMPLETED, _E.FAILED, _E.CANCELLED}),
    _E.SUSPENDED: frozenset({_E.RUNNING, _E.COMPLETED, _E.FAILED, _E.CANCELLED}),
    # a resume of an execution that ended
    _E.COMPLETED: frozenset({_E.RUNNING}),
    _E.FAILED: frozenset({_E.RUNNING}),
    _E.CANCELLED: frozenset({_E.RUNNING}),
}


def illegal(cell: NodeState | None, path: str, to: NodeStatus,
            story: Iterable[NodeState] = ()) -> IllegalMove:
    """The error for a move that the table lacks, with what is known of the node."""
    status = NodeStatus.PENDING if cell is None else cell.status
    told = "".join(f"\n  iteration {c.iteration} attempt {c.attempt}: {c.status} (version {c.epoch}.{c.seq})"
                   for c in story)
    allowed = ", ".join(sorted(MOVES[status])) or "nothing: it has ended"
    return IllegalMove(f"node {path!r} can't go from {status} to {to}; from there: {allowed}.{told}")
