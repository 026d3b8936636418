"""What every store must do, as suites for pytest: `StoreContract` here, `pruning.PruneContract` and
`changes.ChangesContract` beside it."""

from treadle.testing.contract.stores import (
    FULL_CELL,
    Opener,
    StoreContract,
    a_cell,
    a_key,
    a_line,
    an_execution,
    by_node,
    context_batch,
    raised,
)

__all__ = ["FULL_CELL", "Opener", "StoreContract", "a_cell", "a_key", "a_line", "an_execution", "by_node",
           "context_batch", "raised"]
