"""What a viewer may see: executions and nodes as flat views, the same over HTTP and over WebSocket.

Instants are seconds since 1970; what is not known, or doesn't apply, is null. No view holds an output.
"""

from __future__ import annotations

import json
from typing import Any, Literal

import msgspec

from treadle.engine.inbox import request_of
from treadle.engine.showing import plain
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import NodeStatus
from treadle.store.base import Summary

STALE = "stale"
"""The status of an execution that says running while nobody runs it."""
SHORT_CHARS_MAX = 2000
"""What a view holds of an error's message, and of a prompt."""


class ErrorView(msgspec.Struct, frozen=True):
    type: str
    message: str
    node: str | None = None


class Group(msgspec.Struct, frozen=True):
    """What is inside of a map, a loop or a sub-diagram, by status."""

    kind: Literal["map", "loop", "sub"]
    total: int
    counts: dict[str, int]


class NodeView(msgspec.Struct, frozen=True):
    """The latest iteration and attempt of the node at the path `id`. `steps` counts what it has recorded of
    its own work; `tokens` and `cost` (US dollars) are what those of this attempt took, `partial` the
    characters of a text that is still coming."""

    id: str
    type: str
    status: str
    iteration: str = "1"
    attempt: int = 1
    scheduled_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    wake_at: float | None = None
    port: str | None = None
    error: ErrorView | None = None
    claims: int = 0
    worker: str | None = None
    winner: str | None = None
    content_type: str | None = None
    has_output: bool = False
    blob: bool = False
    request: dict[str, Any] | None = None
    steps: int = 0
    tokens: int = 0
    cost: float = 0.0
    partial: int = 0
    group: Group | None = None


class Line(msgspec.Struct, frozen=True):
    """An execution in a list. `nodes` counts those known so far, those of its diagram among them, `done`
    those that completed, `ended` all that have ended."""

    id: str
    name: str
    status: str
    stale: bool
    round: int
    created_at: float | None
    started_at: float | None
    ended_at: float | None
    deadline_at: float | None
    parent: str | None
    owner: str | None
    error: ErrorView | None
    diagram: str
    nodes: int
    done: int
    failed: int
    ended: int


def as_json(view: Any) -> bytes:
    """A view as it is sent."""
    try:
        return msgspec.json.encode(view)
    except UnicodeEncodeError:  # half of a surrogate pair, as names of files have: JSON has an escape for it
        return json.dumps(msgspec.to_builtins(view)).encode()


def short(text: str) -> str:
    """A text that is cut where a view would be too long."""
    return text if len(text) <= SHORT_CHARS_MAX else f"{text[:SHORT_CHARS_MAX]}…"


def error_view(error: ErrorInfo | None) -> ErrorView | None:
    """An error without its traceback."""
    return None if error is None else ErrorView(error.type, short(error.message), error.node)


def status_of(summary: Summary) -> str:
    """An execution's status as people should see it."""
    return STALE if summary.stale else summary.cell.status.value


def state_of(cell: ExecutionCell) -> tuple[float | None, tuple[int, int]]:
    """What tells one state of an execution from another, also from those of one that had its id before and
    was deleted."""
    return cell.created_at, cell.version


def line(summary: Summary) -> Line:
    """One line of a list."""
    cell = summary.cell
    return Line(cell.execution_id, cell.name, status_of(summary), summary.stale, cell.round, cell.created_at,
                cell.started_at, cell.ended_at, cell.deadline_at, cell.parent,
                None if summary.owner is None else str(summary.owner), error_view(cell.error), cell.diagram,
                summary.nodes, summary.completed, summary.failed, summary.ended)


def waits_for(cell: NodeState) -> dict[str, Any] | None:
    """What a suspended attempt waits for: kind, prompt, schema, name …"""
    if cell.status is not NodeStatus.SUSPENDED:
        return None
    return {str(key): plain(value) for key, value in request_of(cell).items()}


def parent_of(path: str) -> str:
    """The path of the group that a node is directly in: of `a/b[3]` that is `a/b`, of `a/b` it is `a`, of
    `a[3]/b` it is `a[3]`; "" at the root."""
    if path.endswith("]"):
        return path[:path.rindex("[")]
    return path.rpartition("/")[0]
