"""Commands: what the kernel wants done, in the imperative, and `Step`, its whole answer to a fact.

A command carries nothing that its step's delta lacks, so what a crash swallowed can be rebuilt from the
store.
"""

from __future__ import annotations

import msgspec

from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus


class Perform(msgspec.Struct, frozen=True, gc=False):
    """Run the body of a node; answer with `Finished`, `Failed` or `Suspended`."""

    slot: int
    cell: NodeState


class Expand(msgspec.Struct, frozen=True, gc=False):
    """Evaluate a map's items or a sub-diagram's inputs; answer with `Expanded` or `Failed`."""

    slot: int
    cell: NodeState


class Gather(msgspec.Struct, frozen=True, gc=False):
    """Collect the results of a composite whose nodes have all ended; answer with `Finished` or `Failed`."""

    slot: int
    cell: NodeState


class Wake(msgspec.Struct, frozen=True, gc=False):
    """Answer with `Woken` (or `Expired`, for slot -1) at an instant. A later `Wake` of a slot replaces it."""

    slot: int
    at: float


class Cancel(msgspec.Struct, frozen=True, gc=False):
    """Stop whatever runs or waits for a slot; no answer."""

    slot: int


class Close(msgspec.Struct, frozen=True, gc=False):
    """The execution ended, or (`suspended`) nothing but answers, signals and times can move it."""

    status: ExecutionStatus
    error: ErrorInfo | None = None


Command = Perform | Expand | Gather | Wake | Cancel | Close


class Step(msgspec.Struct, frozen=True, gc=False):
    """The kernel's whole answer to a fact.

    `cells` is the delta in the order it came about, `before` the cell that each one follows (None: none).
    `execution` is the execution's own new cell, if it changed.
    """

    cells: list[NodeState]
    before: list[NodeState | None]
    commands: list[Command]
    execution: ExecutionCell | None = None
