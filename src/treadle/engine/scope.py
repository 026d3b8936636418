"""What surrounds a node: the item of the map that it is, and the inputs of the diagram that it is in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle.diagram.diagram import ExecutableArrow
from treadle.engine import composite
from treadle.engine.context import NodeContext
from treadle.engine.values import SHARED_BYTES_MIN, Reference, decode, split

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner

Arrived = list[tuple[ExecutableArrow, Any]]


class Scope:
    """Looks outward from a slot. What all items of a map get alike, if it is large, is decoded once for all
    of them: then it is theirs to read, not to change."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner
        self._kernel = runner.kernel
        self._items: dict[int, list[bytes]] = {}
        self._shared: dict[tuple[int, str], tuple[Any, Any]] = {}

    def shared_inputs(self, slot: int) -> tuple[Arrived, dict[str, Any]] | None:
        """The inputs that an item shares with the others, if they do."""
        return self._shared.get((self._kernel.owner(slot), "inputs"))

    def share_inputs(self, slot: int, values: Arrived, inputs: dict[str, Any]) -> None:
        self._shared[self._kernel.owner(slot), "inputs"] = (values, inputs)

    def item_of(self, slot: int) -> tuple[int | None, Any]:
        """Number and value of an item; (None, None) for any other node."""
        index = self._kernel.item(slot)
        if index is None:
            return None, None
        return index, decode(self._split(self._kernel.owner(slot))[index])

    def _split(self, owner: int) -> list[bytes]:
        items = self._items.get(owner)
        if items is None:
            cell = self._kernel.cell(owner)
            assert cell is not None and cell.items is not None
            items = self._items[owner] = split(cell.items)
        return items

    def forget(self, slot: int) -> None:
        """The items of a map, and what they shared, are not needed any more."""
        self._items.pop(slot, None)
        self._shared.pop((slot, "inputs"), None)
        self._shared.pop((slot, "scope"), None)

    def inputs(self, slot: int) -> Mapping[str, Any]:
        """The inputs of the execution, or of the innermost sub-diagram around a slot."""
        kernel = self._kernel
        owner = kernel.owner(slot)
        while owner >= 0 and kernel.item(slot) is not None:  # an item sees what its map sees
            slot, owner = owner, kernel.owner(owner)
        key = (owner, "scope")
        if owner < 0:
            return self._decoded(key, kernel.execution.inputs)
        cell = kernel.cell(owner)
        if cell is not None and cell.items is not None:
            return self._decoded(key, cell.items)
        found = self._shared.get(key)
        if found is None or found[0] is not cell:
            found = self._shared[key] = (cell, self._item_inputs(owner))
        inputs: Mapping[str, Any] = found[1]
        return inputs

    def _item_inputs(self, slot: int) -> Mapping[str, Any]:
        """The inputs of a sub-diagram that is an item of a map: the item, or what the node's `inputs` make
        of it."""
        node, cell = self._kernel.node(slot), self._kernel.cell(slot)
        assert cell is not None
        _, item = self.item_of(slot)
        names: dict[str, Any] = {}
        if getattr(node.spec, "inputs", None):
            value = self._runner.values.value
            values = [(arrow, value(carried)) for arrow, carried in self._kernel.inputs(slot)]
            context = NodeContext(self._runner, slot, node, cell, values)
            names = context.names(self._runner.engine.resolver.inputs(values))
        return composite.instance_inputs(node, names, {"default": item}, self._runner.config)

    def _decoded(self, key: tuple[int, str], raw: bytes) -> Mapping[str, Any]:
        if len(raw) < SHARED_BYTES_MIN or type(raw) is Reference:
            value: Mapping[str, Any] = decode(raw)
            return value
        found = self._shared.get(key)
        if found is None or found[0] is not raw:
            found = self._shared[key] = (raw, decode(raw))
        shared: Mapping[str, Any] = found[1]
        return shared
