"""The nodes of an execution: many as views, one with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import chain, groupby
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta
from msgspec.structs import asdict

from treadle.engine.outside import inputs_recorded
from treadle.engine.plan import static
from treadle.engine.replay import node_at
from treadle.errors import NotDecodable, did_you_mean
from treadle.monitor.api.routing import Ask, operation
from treadle.monitor.api.values import Value, chosen, preview, shown, value_of
from treadle.monitor.core import Monitor, Refused
from treadle.monitor.drawn import Known, Place
from treadle.monitor.live.fields import Fields, node_fields
from treadle.monitor.live.mirror import ALL, ROOT, Mirror, Update
from treadle.monitor.live.sources import Drawing
from treadle.monitor.views import ErrorView, NodeView, waits_for
from treadle.state import codec
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState, turn_of
from treadle.state.status import NodeStatus
from treadle.state.steps import StepRecord, has_steps, steps_of
from treadle.state.steps import Steps as StepsRecorded
from treadle.store.base import Summary, bare

NODES_MAX = 10_000
"""Views of one page."""
INPUTS_BYTES_MAX = STEP_BYTES_MAX = 64 * 1024
"""What is larger is shown by its beginning."""
STEPS_BYTES_MAX = 2 * 1024 * 1024
"""What the steps of one attempt take together; of the rest the beginnings are shown."""
_NUMBER = re.compile(r"(\d+)")
STATUSES = tuple(one.value for one in NodeStatus)


class NodesQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which nodes: those directly in the group `parent` ("" is the root, `*` all), with a `status` (several
    with commas), with a `text` in their paths. `cursor` is `next` of the page before."""

    parent: str = ""
    status: str | None = None
    text: str | None = None
    limit: Annotated[int, Meta(ge=1, le=NODES_MAX)] = 1000
    cursor: Annotated[int, Meta(ge=0, le=2**31)] = 0


class Nodes(msgspec.Struct, frozen=True):
    """Nodes that have been reached, in the order in which they were. `total`: of all pages."""

    items: list[NodeView]
    total: int
    next: int | None = None


@operation("GET", "/api/executions/{id}/nodes")
def nodes(ask: Ask[NodesQuery, None]) -> Nodes:
    """The nodes of an execution that have been reached, a page at a time."""
    query, monitor = ask.query, ask.monitor
    seen = monitor.seen(ask.id)
    outline = outline_of(monitor, seen.cell)
    wanted = statuses_in(query.status, STATUSES)
    text = (query.text or "").casefold()
    found = [one for one in seen.newest(outline, query.parent)
             if (not wanted or one.status.value in wanted) and text in one.node_id.casefold()]
    page = _ordered(found, query.cursor, query.limit)
    views = seen.views(outline, [one.node_id for one in page])
    items = msgspec.convert([{**view, "id": path} for path, view in views.items()], list[NodeView])
    end = query.cursor + len(page)
    return Nodes(items, len(found), end if end < len(found) else None)


def statuses_in(said: str | None, known: Sequence[str]) -> set[str]:
    """The statuses that a query names, with commas. Refused if one is not known."""
    wanted = {one.strip() for one in (said or "").split(",") if one.strip()}
    for one in sorted(wanted):
        if one not in known:
            raise Refused(400, "BadQuery", f"there is no status {one!r}",
                          did_you_mean(one, known) or f"there is {', '.join(known)}")
    return wanted


def outline_of(monitor: Monitor, cell: ExecutionCell) -> Drawing:
    """The diagram of an execution as mirrors want it."""
    return Drawing(monitor.drawings.of(monitor.store, cell.diagram))


def mirrored(monitor: Monitor, cell: ExecutionCell, cells: Iterable[NodeState],
             summary: Summary | None = None, group: str = ALL) -> Update:
    """What a viewer would see of an execution at this moment who has opened a group, or all."""
    mirror = Mirror(cell.execution_id, outline_of(monitor, cell))
    mirror.take(chain((cell,), cells))
    if summary is not None:
        mirror.head(summary.owner, summary.stale)
    return mirror.snapshot(frozenset({group}) if group else ROOT)


def _ordered(cells: list[NodeState], first: int, limit: int) -> list[NodeState]:
    """A page of nodes in the order in which they began; of several at once, that of their numbers."""
    cells.sort(key=_began)
    page: list[NodeState] = []
    at = 0
    for _, group in groupby(cells, _began):
        together = list(group)
        if at < first + limit and at + len(together) > first:
            together.sort(key=_numbered)
            page += together[max(0, first - at):first + limit - at]
        at += len(together)
    return page


def _began(cell: NodeState) -> float:
    return next((at for at in (cell.scheduled_at, cell.started_at, cell.ended_at) if at is not None), 0.0)


def _numbered(cell: NodeState) -> list[int | str]:
    return [int(one) if one.isdecimal() else one for one in _NUMBER.split(cell.node_id)]


class NodeQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which node, by its path; without `iteration` and `attempt` the last."""

    path: str
    iteration: str | None = None
    attempt: Annotated[int, Meta(ge=1, le=2**31)] | None = None


class Attempt(msgspec.Struct, frozen=True):
    """One attempt in one iteration. `kept`: it counts for the diagram as it is now; where the server looks at
    no code, for the diagram that the last attempt was made by."""

    iteration: str
    attempt: int
    status: str
    scheduled_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    wake_at: float | None = None
    seconds: float | None = None
    port: str | None = None
    error: ErrorView | None = None
    traceback: str | None = None
    claims: int = 0
    worker: str | None = None
    lineage: str | None = None
    kept: bool | None = None
    request: dict[str, Any] | None = None


class Step(msgspec.Struct, frozen=True):
    """What a body has recorded of its work: of `kind` model, tool, answer, summary or step. `attempt` is the
    one that made it. `meta` has what is known besides: `person`, `model`, `tokens`, `arguments` …"""

    name: str
    kind: str
    attempt: int
    started_at: float
    ended_at: float
    value: Value
    error: ErrorView | None = None
    meta: dict[str, Any] = {}


class Steps(msgspec.Struct, frozen=True):
    """The steps of one attempt in the order in which they were recorded, and the text of a call that still
    runs, as far as it has come."""

    iteration: str
    attempt: int
    items: list[Step]
    partial: str = ""


@operation("GET", "/api/executions/{id}/steps")
def steps(ask: Ask[NodeQuery, None]) -> Steps:
    """The steps that a node's body has recorded."""
    query = ask.query
    seen = ask.monitor.seen(ask.id)
    cell = chosen(seen.cells, seen.cell.execution_id, query.path, query.iteration, query.attempt)
    return steps_in(cell)


def steps_in(cell: NodeState) -> Steps:
    """The steps of a cell. What is too long is cut."""
    items, room = [], STEPS_BYTES_MAX
    try:
        found = steps_of(cell.meta)
    except NotDecodable:
        found = StepsRecorded()
    for one in found.steps:
        most = min(STEP_BYTES_MAX, max(0, room))
        value = Value() if one.value is None else _result(one, most)
        room -= value.size or 0
        meta = shown(one.meta)
        meta = meta if len(msgspec.json.encode(meta)) <= STEP_BYTES_MAX else preview(meta)
        items.append(Step(one.name, one.kind, one.attempt, one.started_at, one.ended_at, value,
                          _whole(one.error), meta))
    return Steps(cell.iteration, cell.attempt, items, found.partial)


class NodeWhole(NodeView, frozen=True, kw_only=True):
    """A node, of which one attempt is looked at. `inputs_error`: why inputs can't be told any more."""

    attempts: list[Attempt]
    inputs: Value
    inputs_error: str | None = None
    output: Value
    recorded: Steps
    meta: Any = None
    traceback: str | None = None
    details: Any = None
    lineage: str | None = None
    properties: dict[str, Any] = msgspec.field(default_factory=dict)
    source: Place | None = None
    upstream: list[str]
    downstream: list[str]


@operation("GET", "/api/executions/{id}/node")
def node(ask: Ask[NodeQuery, None]) -> NodeWhole:
    """One node: its attempts, what it got, what it gave, and where it stands."""
    query, monitor = ask.query, ask.monitor
    store = monitor.store
    seen = monitor.seen(ask.id)
    execution, cells = seen.cell, seen.cells
    name = execution.execution_id
    cell = chosen(cells, name, query.path, query.iteration, query.attempt)
    known = monitor.drawings.of(store, execution.diagram, anew=True)  # which results count may have changed
    inputs, trouble = inputs_recorded(store, execution, cells, cell)
    view = seen.views(outline_of(monitor, execution), [cell.node_id])[cell.node_id]
    said: Fields = {name: view[name] for name in ("type", "group") if name in view}
    said |= node_fields(bare(cell))  # of the attempt that was asked for
    base = msgspec.convert({**said, "id": cell.node_id}, NodeView)
    given = Value() if inputs is None else _plain(inputs, INPUTS_BYTES_MAX, "object")
    drawn = None if known is None else known.node(cell.node_id)
    before, after = ([], []) if known is None else known.around(cell.node_id)
    here = None if drawn is None or drawn.where is None else Place(drawn.where.file, drawn.where.line)
    turn = f"&iteration={cell.iteration}&attempt={cell.attempt}"
    mine = sorted((one for one in cells if one.node_id == cell.node_id), key=turn_of)
    lineage = _lineage(known, cell.node_id) or mine[-1].lineage
    return NodeWhole(
        **asdict(base),
        attempts=[_attempt(one, lineage) for one in mine], inputs=given, inputs_error=trouble,
        output=value_of(store, cell.output, cell.blob, cell.content_type,
                        f"/api/executions/{_quoted(name)}/output?node={_quoted(cell.node_id)}{turn}"),
        meta=_meta(cell), recorded=steps_in(cell),
        traceback=None if cell.error is None else cell.error.traceback or None,
        details=None if cell.error is None else cell.error.details, lineage=cell.lineage,
        properties={} if drawn is None else shown(drawn.properties), source=here, upstream=before,
        downstream=after)


def _meta(cell: NodeState) -> Any:
    """What stands in a node's meta besides its steps."""
    try:
        meta = None if cell.meta is None else codec.decode(cell.meta)
    except NotDecodable as error:
        return {"$unreadable": str(error)}
    if has_steps(cell.meta) and isinstance(meta, dict):
        meta = {name: value for name, value in meta.items() if name not in ("steps", "partial", "anew")}
    return shown(meta) if meta else None


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _result(step: StepRecord, bytes_max: int) -> Value:
    try:
        return _plain(step.result(), bytes_max, None)
    except (OSError, NotDecodable) as error:  # a large one is a blob
        return Value({"$unreadable": str(error)}, None, None, True)


def _plain(value: Any, bytes_max: int, content_type: str | None) -> Value:
    value = shown(value)
    size = len(msgspec.json.encode(value))
    large = size > bytes_max
    return Value(preview(value) if large else value, content_type, size, large)


def _lineage(known: Known | None, path: str) -> str | None:
    if known is None or known.compiled is None:
        return None
    found = node_at(known.compiled, static(path))
    return None if found is None else found.lineage or None


def _whole(error: ErrorInfo | None) -> ErrorView | None:
    """An error with all of its message."""
    return None if error is None else ErrorView(error.type, error.message, error.node)


def _attempt(cell: NodeState, lineage: str | None) -> Attempt:
    return Attempt(
        cell.iteration, cell.attempt, cell.status.value, cell.scheduled_at, cell.started_at, cell.ended_at,
        cell.wake_at, cell.execution_time, cell.port, _whole(cell.error),
        None if cell.error is None else cell.error.traceback or None, cell.claims, cell.worker, cell.lineage,
        None if lineage is None or cell.lineage is None else cell.lineage == lineage, waits_for(cell))
