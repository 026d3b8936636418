"""The states of a node and of an execution. Which move may follow which is in `treadle.kernel.moves`."""

from __future__ import annotations

from enum import StrEnum


class NodeStatus(StrEnum):
    """Where an attempt stands. `pending` and `scheduled` are never stored: they follow from the rest."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    RUNNING = "running"
    SUSPENDED = "suspended"  # waits for an answer, a signal or a time
    RETRYING = "retrying"  # this attempt failed, another is due
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether this attempt can move no further."""
        return self in TERMINAL


TERMINAL = frozenset({NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED})


class ExecutionStatus(StrEnum):
    """Where an execution stands. *Stale* is not stored: it is derived from the lease."""

    PENDING = "pending"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether the execution ended. A failed or cancelled one can be resumed all the same."""
        return self in (ExecutionStatus.COMPLETED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
