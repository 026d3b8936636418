"""The shared context of an execution: artifacts, variables and data of plugins that its bodies read and write
while they run.

It is kept under multiversion concurrency control. A *snapshot* is immutable and free to take. A *transaction*
reads as of its beginning and commits all of its writes or none; of two that contradict each other the first
to commit wins. Every key is a cell (`treadle.state.cell.ContextCell`) with a version, joined like any other.
"""

from treadle.state.context.about import (
    SECRETS_KEY,
    SLOW_HOOKS_KEY,
    About,
    PipelineState,
    of_bodies,
    options_of,
)
from treadle.state.context.access import (
    Draft,
    Ground,
    Snapshot,
    Transaction,
    View,
    space_of,
    tree_of,
)
from treadle.state.context.spaces import Shares, Space
from treadle.state.context.versions import Change, Mutation, SharedContext, snapshot_of

__all__ = ["SECRETS_KEY", "SLOW_HOOKS_KEY", "About", "Change", "Draft", "Ground", "Mutation", "PipelineState",
           "SharedContext", "Shares", "Snapshot", "Space", "Transaction", "View", "of_bodies", "options_of",
           "snapshot_of", "space_of", "tree_of"]
