"""A new execution from any point of an old one: what came before is taken over as it was recorded.

The cells that stay are written with the new execution's row, in one transaction; then the kernel goes on with
them as in a resume. A composite in which something is to be done again is *reopened*: it keeps its items and
inputs, and what is inside it is decided for itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.plan import handled, newest, static
from treadle.engine.replay import node_at
from treadle.errors import NoSuchNode, did_you_mean
from treadle.ids import parse_path
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

Verdict = Literal["keep", "reopen", "drop"]
_KEPT = (NodeStatus.COMPLETED, NodeStatus.SUSPENDED, NodeStatus.RETRYING)


class Cut:
    """Where an old execution ends and a new one begins: at a node (a path, perhaps of an item or within a
    sub-diagram), and at all nodes of `roots`. What follows a node is behind the cut, and so is the whole of a
    loop that it is in. NoSuchNode."""

    def __init__(self, diagram: ExecutableDiagram, at: str | None, roots: Iterable[str] = ()) -> None:
        self._path = () if at is None else parse_path(at)
        self._behind: list[set[str]] = []  # by level of the path
        inside: ExecutableDiagram | None = diagram
        for level, (name, item) in enumerate(self._path):
            if inside is None or name not in inside.index:
                hint = did_you_mean(name, () if inside is None else inside.index)
                raise NoSuchNode(f"diagram {diagram.name!r} has no node {at!r}"
                                 + (f": {hint}" if hint else ""))
            node = inside.nodes[inside.index[name]]
            if item is not None and not node.is_map:
                raise NoSuchNode(f"node {name!r} is no map: it has no item {item}")
            self._behind.append(following(inside, [name]))
            last = level == len(self._path) - 1
            if last and item is None:
                self._behind[-1].add(name)
            inside = node.child
        if not self._path:
            self._behind.append(set())
        roots = list(roots)
        self._behind[0] |= following(diagram, roots) | set(roots)

    def require(self, cells: Iterable[NodeState]) -> None:
        """NoSuchNode if the cut is at an item, or inside of one, that is not recorded."""
        if all(item is None for _, item in self._path):
            return
        recorded = {cell.node_id for cell in cells}
        path = ""
        for name, item in self._path:
            path += f"/{name}" if path else name
            if item is not None and f"{path}[{item}]" not in recorded:
                count = sum(one.startswith(f"{path}[") and "/" not in one[len(path):] for one in recorded)
                there = f"its items are 0 to {count - 1}" if count else "none has been reached"
                raise NoSuchNode(f"{path!r} has no item {item}: {there}")
            path += "" if item is None else f"[{item}]"

    def verdict(self, path: str) -> Verdict:
        """What becomes of a recorded cell."""
        steps = parse_path(path)
        for level, (name, item) in enumerate(steps):
            if level < len(self._behind) and name in self._behind[level]:
                return "drop"
            if level >= len(self._path) or name != self._path[level][0]:
                return "keep"
            cut = self._path[level][1]
            last = level == len(steps) - 1
            if item is None and last:
                return "reopen"  # the composite around the cut
            if item != cut:
                return "keep"  # another item
            if level == len(self._path) - 1:
                return "drop"  # the item itself
            if last:
                return "reopen"
        return "keep"


def following(diagram: ExecutableDiagram, names: Iterable[str]) -> set[str]:
    """The nodes that follow these, by id: along arrows, and all of a loop that is touched."""
    found: set[int] = set()
    waiting = [diagram.index[name] for name in names]
    start = set(waiting)
    while waiting:
        i = waiting.pop()
        loop = diagram.loop_of[i]
        if loop >= 0:
            while diagram.loops[loop].parent >= 0:
                loop = diagram.loops[loop].parent
            fellows: Sequence[int] = diagram.loops[loop].members
        else:
            fellows = ()
        for k in (*fellows, *(diagram.arrows[a].target for a in diagram.out[i])):
            if k not in found:
                found.add(k)
                if k not in start:
                    waiting.append(k)
    return {diagram.nodes[i].id for i in found}


def seeing(diagram: ExecutableDiagram, changed: Iterable[str]) -> list[str]:
    """The nodes that may see inputs of the execution, if any has changed: those whose texts or code mention
    them, and a `start`."""
    if not set(changed):
        return []
    return [node.id for node in diagram.nodes
            if node.type == "start" or node.sees & {"inputs", "context"} or diagram.spec.open
            or "inputs" in (node.policy.for_each or "")]


def taken_over(cells: Iterable[NodeState], diagram: ExecutableDiagram, cut: Cut, execution_id: str,
               at: float) -> list[NodeState]:
    """The cells that a new execution begins with, at `at`."""
    taken = []
    last = newest(cells).values()
    cut.require(last)
    for cell in last:
        node = node_at(diagram, static(cell.node_id))
        verdict = "drop" if node is None else cut.verdict(cell.node_id)
        if verdict == "drop" or node is None:
            continue
        if verdict == "reopen" or not (cell.status in _KEPT or handled(diagram, cell)):
            item = cell.node_id.endswith("]")
            if not (node.child is not None if item else node.composite and cell.items is not None):
                continue  # a body that had not ended well is performed anew
            cell = msgspec.structs.replace(cell, status=NodeStatus.RUNNING, output=None, blob=None, meta=None,
                                           content_type=None, error=None, port=None, scheduled_at=at,
                                           started_at=at, ended_at=None)
        taken.append(msgspec.structs.replace(cell, execution_id=execution_id, epoch=1, seq=1))
    return taken


def changed_inputs(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names of inputs that differ."""
    missing = object()
    return [name for name in {**before, **after} if before.get(name, missing) != after.get(name, missing)]
