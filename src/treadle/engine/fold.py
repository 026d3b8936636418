"""`reduce`: one value of a map's results, folded in the order of its items.

The fold goes along while items run: whatever has ended without a gap from the first item on is folded at
once, so that the last item has little left to wait for and large results leave the memory early. It is an
optimisation only. What a resume, a retry or a result that is not in memory left undone, `finish` does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treadle.diagram.expression import Expression
from treadle.engine.context import NodeContext
from treadle.engine.values import Absent, decode, split
from treadle.errors import NoSuchNode, TreadleError
from treadle.state.cell import ItemError, NodeState
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner
    from treadle.kernel.commands import Expand, Gather

AT_ONCE_MAX = 32
"""Results that are folded before the loop may turn."""


class Fold:
    """One attempt of a map that folds. `names` are what its expression sees besides the items."""

    __slots__ = ("_acc", "_attempt", "_expression", "_initial", "_items", "_names", "_next", "_runner",
                 "_slot", "_stuck")

    def __init__(self, runner: WorkflowRunner, command: Expand | Gather, names: Mapping[str, Any],
                 items: bytes) -> None:
        policy = runner.kernel.node(command.slot).policy
        assert policy.reduce is not None
        self._runner, self._slot, self._attempt = runner, command.slot, command.cell.attempt
        self._expression = Expression.compile(policy.reduce, config=runner.config)
        self._names = names
        self._items = split(items) if "item" in self._expression.names else []
        self._acc = self._initial = policy.initial
        self._next = 0  # the first item that is not folded yet
        self._stuck = False  # the rest is for `finish`, which may wait and may fail

    def go_on(self) -> None:
        """An item has ended: fold what can be folded now, on the loop."""
        if self._stuck:
            return
        ended, value = self._runner.kernel.ended, self._runner.values.value
        for k in range(self._next, self._next + AT_ONCE_MAX):
            cell = ended(self._slot, k)
            if cell is None:
                return
            try:
                self._add(k, _error_of(k, cell) if cell.status is NodeStatus.FAILED else value(cell))
            except (Absent, TreadleError):
                self._stuck = True
                return

    async def finish(self, results: Sequence[tuple[str, NodeState]]) -> Any:
        """Fold the rest. Raises what the expression raises, and NotDecodable for a blob that is lost."""
        for k in range(self._next, len(results)):
            cell = results[k][1]
            failed = cell.status is NodeStatus.FAILED
            self._add(k, _error_of(k, cell) if failed else await self._runner.values.load(cell))
            if not k % AT_ONCE_MAX:
                await self._runner.breathe()
        return self._acc

    def _add(self, k: int, value: Any) -> None:
        if k == 0 and self._initial is None:
            self._acc = value
        else:
            more = {"item": decode(self._items[k])} if self._items else {}
            names = {**self._names, **more, "acc": self._acc, "value": value, "index": k}
            self._acc = self._expression.evaluate(names)
        self._next = k + 1

    def is_of(self, command: Gather) -> bool:
        """Whether this is the attempt that is being gathered: another one may have other results."""
        return command.cell.attempt == self._attempt


def go_on(runner: WorkflowRunner, slot: int) -> None:
    """A node has ended: if it is an item of a map that folds, fold what can be folded."""
    with contextlib.suppress(NoSuchNode):  # what it was in has ended with it
        fold = runner.folds.get(runner.kernel.owner(slot))
        if fold is not None:
            fold.go_on()


async def reduced(runner: WorkflowRunner, command: Gather, results: Sequence[tuple[str, NodeState]]) -> Any:
    """The folded value of a map whose items have all ended."""
    fold = runner.folds.pop(command.slot, None)
    if fold is None or not fold.is_of(command):
        node = runner.kernel.node(command.slot)
        values = [(arrow, await runner.values.load(cell)) for arrow, cell in
                  runner.kernel.inputs(command.slot)]
        context = NodeContext(runner, command.slot, node, command.cell, values)
        names = context.names(runner.engine.resolver.inputs(values))
        fold = Fold(runner, command, names, command.cell.items or b"[]")
    return await fold.finish(results)


def _error_of(k: int, cell: NodeState) -> ItemError | None:
    return None if cell.error is None else ItemError(k, cell.error)
