"""What a node got. Inputs are never stored, so they are derived from what came before, exactly as a resume
does it.

The kernel brings the execution back from its recorded cells, with the node in question and the composites
around it set back to *running*: then its arrows carry what they carried, turn of the loop, winner and items
included. Nothing is performed and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram, ExecutableNode
from treadle.diagram.policy import OnError
from treadle.diagram.transform import TransformError, Transforms, default_transforms
from treadle.engine.resolver import RuntimeResolver, error_value
from treadle.engine.values import split
from treadle.ids import parse_path
from treadle.kernel.execution import Kernel
from treadle.state import codec
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus


def inputs_of(
    target: NodeState,
    execution: ExecutionCell,
    cells: Iterable[NodeState],
    diagram: ExecutableDiagram,
    blob: Callable[[str], bytes],
) -> dict[str, Any]:
    """The inputs that an attempt got, by name; an item of a map has its `item` among them.

    `diagram` is the caller's own copy (`looking.outlined`), and is not fit for running afterwards.
    NoSuchNode if the node was not reached.
    """
    _carry_on(diagram)
    depths = _composites(diagram, target.node_id)
    recorded = []
    for cell in cells:
        found = node_at(diagram, cell.node_id)
        if found is None:
            continue
        opened = cell.iteration == target.iteration if cell.node_id == target.node_id else (
            cell.node_id in depths and _within(target.iteration, cell.iteration, depths[cell.node_id]))
        if opened:
            cell = msgspec.structs.replace(
                cell, status=NodeStatus.RUNNING, output=None, blob=None, error=None
            )
        # The recorded cells count, whatever the files that the diagram names say by now.
        recorded.append(msgspec.structs.replace(cell, lineage=found.lineage))
    kernel = Kernel(
        diagram, msgspec.structs.replace(execution, status=ExecutionStatus.RUNNING, ended_at=None)
    )
    kernel.resume(recorded, execution.started_at or 0.0, clean=True)
    slot = kernel.find(target.node_id, target.iteration)
    carried = [(arrow, _value(cell, blob)) for arrow, cell in kernel.inputs(slot)]
    inputs = RuntimeResolver(_transforms()).inputs(carried)
    index = kernel.item(slot)
    if index is not None:
        owner = kernel.cell(kernel.owner(slot))
        if owner is not None and owner.items is not None:
            inputs["item"] = codec.decode(split(owner.items)[index])
    return inputs


def _transforms() -> Transforms:
    found = default_transforms()
    found.register("call", _not_called)
    return found


def _not_called(value: Any, path: Any) -> Any:
    raise TransformError(f"it calls {path}, and nothing is called only to look")


def node_at(diagram: ExecutableDiagram, path: str) -> ExecutableNode | None:
    """The node that a path names, or None if the diagram has none there. ValueError if it is no path."""
    found: ExecutableNode | None = None
    inside: ExecutableDiagram | None = diagram
    for name, _ in parse_path(path):
        if inside is None or name not in inside.index:
            return None
        found = inside.nodes[inside.index[name]]
        inside = found.child
    return found


def _value(cell: NodeState, blob: Callable[[str], bytes]) -> Any:
    if cell.status is NodeStatus.FAILED:
        return error_value(cell.error)
    raw = cell.output if cell.output is not None or cell.blob is None else blob(cell.blob)
    return None if raw is None else codec.decode(raw)


def _composites(diagram: ExecutableDiagram, path: str) -> dict[str, int]:
    """The composites around a path, each with the number of loops around it: of `a/b[3]/c` those are `a`,
    `a/b` and `a/b[3]`."""
    found: dict[str, int] = {}
    inside: ExecutableDiagram | None = diagram
    prefix, depth = "", 0
    for name, item in parse_path(path):
        if inside is None or name not in inside.index:
            break
        index = inside.index[name]
        loop = inside.loop_of[index]
        while loop >= 0:
            depth, loop = depth + 1, inside.loops[loop].parent
        found[prefix + name] = depth
        if item is not None:
            found[f"{prefix}{name}[{item}]"] = depth
        prefix = f"{prefix}{name}/" if item is None else f"{prefix}{name}[{item}]/"
        inside = inside.nodes[index].child
    return found


def _within(inner: str, outer: str, depth: int) -> bool:
    """Whether the iteration of a node lies in that of a composite around it, which has so many loops around
    it."""
    return not depth or outer.split(".") == inner.split(".")[:depth]


def _carry_on(diagram: ExecutableDiagram) -> None:
    """A failure beside the node must not end the replay before the node is reached."""
    diagram.on_error = OnError.CONTINUE
    for node in diagram.nodes:
        if node.child is not None:
            _carry_on(node.child)
