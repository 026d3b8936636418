"""Words to an execution that may run elsewhere, or nowhere at the moment; and what a node of it got.

They are left in the store, durably, and whoever runs the execution picks them up; a resume does. All of this
reads and writes the store in the thread that calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.node import Node
from treadle.engine.inbox import is_within, request_of
from treadle.engine.looking import outlined, spec_of
from treadle.engine.replay import inputs_of
from treadle.engine.showing import message_of
from treadle.engine.sources import Source
from treadle.errors import InvalidDiagram, InvalidInput, NoSuchNode, TreadleError, did_you_mean
from treadle.state import codec
from treadle.state.cell import ExecutionCell, NodeState, turn_of
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Signal, Store, Summary


def runs_elsewhere(summary: Summary) -> bool:
    """Whether somebody, in whatever process, runs the execution."""
    # In its first tenth of a second an execution is `pending` in the store, though it runs.
    at_work = summary.cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)
    return at_work and summary.owner is not None and not summary.stale


def still_open(summary: Summary) -> None:
    """InvalidInput for an execution in which nothing waits any more."""
    cell = summary.cell
    if cell.status is ExecutionStatus.COMPLETED:
        raise InvalidInput(f"execution {cell.execution_id} has completed: nothing in it waits any more")


def send(store: Store, execution_id: str, kind: str, *, name: str = "", node: str = "", iteration: str = "",
         value: Any = None, config: TreadleConfig = DEFAULT_CONFIG) -> None:
    """Send an execution an answer, a signal or a wish to cancel; durable on return. NoSuchExecution,
    LimitExceeded."""
    payload = codec.encode(value)
    if len(payload) > config.signal_bytes_max:
        raise config.exceeded("signal_bytes_max", f"a value of {len(payload)} bytes (the path of a file can "
                                                  "be sent instead)")
    store.send(Signal(execution_id, kind, name, node, iteration, payload, at=time.time()))


class Question(msgspec.Struct, frozen=True):
    """What a node asks: the JSON schema that an answer has to fit, None if there is none or it isn't known
    yet; and the step of its body that asks, "" if it is the node itself."""

    schema: Any = None
    step: str = ""


def question_of(store: Store, summary: Summary, node: str, iteration: str | None,
                step: str | None = None) -> Question:
    """What a node asks now; with `step` it must be that. InvalidInput, NoSuchNode if no answer can be
    right."""
    found = _question(store, summary, node, iteration)
    if step is not None and step != found.step:
        raise InvalidInput(f"node {node!r} does not ask {step!r} now, but "
                           + (f"{found.step!r}" if found.step else "something else"))
    return found


def _question(store: Store, summary: Summary, node: str, iteration: str | None) -> Question:
    _, cells = store.load(summary.cell.execution_id)
    mine = [cell for cell in cells if cell.node_id == node and iteration in (None, cell.iteration)]
    if not mine:
        asks = _known(store, summary, node, cells)
        return Question(asks.properties.get("schema") if asks.id == node else None)
    cell = max(mine, key=turn_of)
    if cell.status is not NodeStatus.SUSPENDED:
        if cell.status is NodeStatus.COMPLETED or summary.cell.status is not ExecutionStatus.RUNNING:
            raise InvalidInput(f"node {node!r} does not wait for an answer: it is {cell.status}"
                               + _who_waits(cells))
        if is_within(cell):
            raise InvalidInput(f"node {node!r} asks nothing now: an answer to what it may ask later, which "
                               "nobody has seen, is not kept" + _who_waits(cells))
        return Question()
    request = request_of(cell)
    if request.get("kind") not in ("answer", "signal"):
        raise InvalidInput(f"node {node!r} waits for a time, not for an answer")
    return Question(request.get("schema"), str(request.get("step", "")))


def _known(store: Store, summary: Summary, node: str, cells: Iterable[NodeState]) -> Node:
    """The outermost node of a path, which may be answered before it is reached; NoSuchNode if the diagram
    lacks it."""
    from treadle.diagram.formats import loads

    name = summary.cell.execution_id
    try:
        source = msgspec.json.decode(store.source(summary.cell.diagram), type=Source)
    except KeyError as error:
        raise NoSuchNode(f"execution {name} has not reached a node {node!r}, and {error.args[0]}") from None
    spec = loads(source.text, file=source.file or "<stored>", base=source.base, format=source.format)
    nodes: Mapping[str, Node] = {str(one.id): one for one in spec.nodes}
    first = node.split("/")[0].split("[")[0]
    if first not in nodes:
        raise NoSuchNode(f"execution {name} has no node {node!r}: "
                         + (did_you_mean(first, nodes) or f"there is {', '.join(nodes)}") + _who_waits(cells))
    return nodes[first]


def _who_waits(cells: Iterable[NodeState]) -> str:
    waiting = sorted({cell.node_id for cell in cells if cell.status is NodeStatus.SUSPENDED})
    return f" (who waits: {', '.join(waiting)})" if waiting else ""


def inputs_recorded(store: Store, execution: ExecutionCell, cells: Iterable[NodeState],
                    cell: NodeState) -> tuple[dict[str, Any] | None, str | None]:
    """A node's inputs, or why they can't be told any more: files of sub-diagrams may be gone. Nothing that
    the diagram names is imported for it."""
    try:
        spec = spec_of(msgspec.json.decode(store.source(execution.diagram), type=Source))
        if spec is None:
            return None, "the diagram can't be read"
        diagram, faults = outlined(spec)
        if diagram is None:
            raise InvalidDiagram(faults)
        return inputs_of(cell, execution, cells, diagram, store.blob), None
    except (TreadleError, OSError, LookupError, msgspec.DecodeError) as error:
        return None, message_of(error)
