"""Executions: the list, one as a whole, its diagram, its times, its shared context, what its bodies said."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta
from msgspec.structs import asdict
from starlette.responses import Response

from treadle.errors import NoSuchExecution
from treadle.monitor.api.nodes import outline_of, statuses_in
from treadle.monitor.api.routing import Ask, operation, sent
from treadle.monitor.api.seen import Seen
from treadle.monitor.api.values import Value, value_of
from treadle.monitor.core import Refused
from treadle.monitor.drawn import Drawn, Known
from treadle.monitor.live.fields import context_fields
from treadle.monitor.views import STALE, Line, line, waits_for
from treadle.state import codec
from treadle.state.cell import NodeState
from treadle.state.context import About
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import LogLine, Store, Summary

PAGE_MAX = 500
"""Items of one page."""
READ_MAX = 2000
"""Executions that one page reads, to find those that match."""
_STATUSES = (*(one.value for one in ExecutionStatus), STALE)

Count = Annotated[int, Meta(ge=1, le=PAGE_MAX)]


class ListQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which executions. `status`: one or several, with commas; `text` stands in the id or the name; `since`
    and `until` are about the instant of creation; `cursor` is `next` of the page before."""

    status: str | None = None
    name: str | None = None
    text: str | None = None
    since: float | None = None
    until: float | None = None
    limit: Count = 50
    cursor: str | None = None


class Listed(Line, frozen=True, kw_only=True):
    """An execution in a page of the list. `size_bytes`: about what it takes in the store, with its logs, its
    context and the blobs that it names, which count in full for each execution that names them; of one that
    runs up to 10 s old, and null where it takes too long to tell: ask again."""

    size_bytes: int | None = None


class Page(msgspec.Struct, frozen=True):
    """Executions, the newest first. `next`: the cursor of the next page, if there may be one."""

    items: list[Listed]
    next: str | None = None


class Waiting(msgspec.Struct, frozen=True):
    """A node that waits. `kind`: answer, signal or time; `step`: what of its body asks, if it is not the node
    itself."""

    node: str
    iteration: str
    kind: str
    prompt: str | None = None
    name: str | None = None
    schema: Any = None
    wake_at: float | None = None
    step: str | None = None


class Slow(msgspec.Struct, frozen=True):
    node: str
    iteration: str
    attempt: int
    seconds: float


class Metrics(msgspec.Struct, frozen=True):
    """Times in seconds. `rate`: nodes that ended in a second; `parallelism`: bodies at once, on average;
    `critical_path`: the chain of nodes that the end waited for."""

    elapsed_s: float
    busy_s: float
    rate: float
    retries: int
    parallelism: float
    critical_path: list[str]
    critical_s: float
    slowest: list[Slow]


class Whole(Listed, frozen=True, kw_only=True):
    """One execution. `counts`: nodes by status, of those that are known so far (`total`), turns of loops
    counted singly. `tokens` and `cost` (US dollars): what models took."""

    counts: dict[str, int]
    total: int
    retries: int
    rate: float
    tokens: int = 0
    cost: float = 0.0
    inputs: Value
    output: Value
    options: dict[str, Any]
    plugins: list[str]
    waiting: list[Waiting]
    metrics: Metrics


@operation("GET", "/api/executions")
def executions(ask: Ask[ListQuery, None]) -> Page:
    """List executions, the newest first, a page at a time."""
    query = ask.query
    store, wanted = ask.monitor.store, statuses_in(query.status, _STATUSES)
    only = ExecutionStatus(next(iter(wanted))) if len(wanted) == 1 and STALE not in wanted else None
    found: list[Summary] = []
    before, seen, last = None if query.cursor is None else _after(store, query.cursor), 0, None
    while len(found) < query.limit and seen < READ_MAX:
        rows = store.executions(status=only, name=query.name, before=before, limit=query.limit + 1, bare=True)
        for row in rows:
            seen, before, last = seen + 1, row.cell.execution_id, row.cell
            if query.since is not None and (row.cell.created_at or 0.0) < query.since:
                return _page(ask, found)  # they are in the order of their times
            if _fits(line(row), query, wanted):
                with contextlib.suppress(NoSuchExecution):  # it was deleted just now
                    found.append(ask.monitor.drawings.whole(store, store.summary(row.cell.execution_id)))
                if len(found) == query.limit:
                    break
        else:
            if len(rows) <= query.limit:
                return _page(ask, found)
    return _page(ask, found, None if last is None else f"{last.created_at or 0.0!r} {last.execution_id}")


def _after(store: Store, cursor: str) -> str | None:
    """The execution after which a page begins: the last one of the page before or, if that was deleted
    meanwhile, the last one that is newer; None if there is none."""
    said, _, name = cursor.partition(" ")
    try:
        at = float(said)
    except ValueError:
        at = math.nan
    if not (name and math.isfinite(at)):
        raise Refused(400, "BadQuery", f"there is no cursor {cursor!r}", "give `next` of the page before")
    with contextlib.suppress(NoSuchExecution):
        if store.summary(name).cell.execution_id == name:
            return name
    before = None
    while rows := store.executions(before=before, limit=PAGE_MAX, bare=True):
        for row in rows:
            if (row.cell.created_at or 0.0, row.cell.execution_id) < (at, name):
                return before
            before = row.cell.execution_id
    return before


def _page(ask: Ask[ListQuery, None], found: list[Summary], after: str | None = None) -> Page:
    sizes = ask.monitor.sizes([one.cell for one in found])
    return Page([Listed(**asdict(line(one)), size_bytes=sizes.get(one.cell.execution_id)) for one in found],
                after)


def _fits(one: Line, query: ListQuery, wanted: set[str]) -> bool:
    text = (query.text or "").casefold()
    return ((not wanted or one.status in wanted)
            and (text in one.id.casefold() or text in one.name.casefold())
            and (query.until is None or (one.created_at or 0.0) <= query.until))


@operation("GET", "/api/executions/{id}")
def execution(ask: Ask[None, None]) -> Whole:
    """One execution; the first characters of its id are enough when no other begins so."""
    summary = ask.monitor.store.summary(ask.id)
    seen = ask.monitor.seen(ask.id, summary.cell)
    cell = seen.cell
    known = ask.monitor.drawings.of(ask.monitor.store, cell.diagram)
    view = seen.execution(outline_of(ask.monitor, cell), summary)
    about, metrics = About.of(cell), _metrics(seen, known, view["retries"])
    url = f"/api/executions/{quote(cell.execution_id, safe='')}"
    return Whole(
        **asdict(line(msgspec.structs.replace(summary, nodes=view["total"]))), counts=view["counts"],
        total=view["total"], retries=view["retries"], rate=metrics.rate,
        tokens=view.get("tokens", 0), cost=view.get("cost", 0.0),
        inputs=value_of(ask.monitor.store, cell.inputs, None, None, f"{url}/inputs"),
        output=value_of(ask.monitor.store, cell.output, cell.blob, None, f"{url}/output"),
        options=codec.decode(cell.options), plugins=list(about.active_plugins), waiting=_waiting(seen.cells),
        metrics=metrics, size_bytes=ask.monitor.sizes([cell]).get(cell.execution_id))


def _waiting(cells: list[NodeState]) -> list[Waiting]:
    found = []
    for cell in cells:
        if cell.status is not NodeStatus.SUSPENDED:
            continue
        request = waits_for(cell)
        if request is not None:
            found.append(Waiting(cell.node_id, cell.iteration, str(request.get("kind") or "time"),
                                 request.get("prompt"), request.get("name"), request.get("schema"),
                                 cell.wake_at, request.get("step")))
    return found


def _metrics(seen: Seen, known: Known | None, retries: int) -> Metrics:
    found = seen.metrics(partial(_before, cache(lambda: _sources(known))))
    rate = found.total / found.elapsed_s if found.elapsed_s else 0.0
    return Metrics(found.elapsed_s, found.busy_s, rate, retries, found.parallelism,
                   list(found.critical_path), found.critical_s,
                   [Slow(one.node_id, one.iteration, one.attempt, one.seconds) for one in found.slowest])


def _before(sources: Callable[[], dict[str, str | list[str]]], node: str) -> Iterable[str]:
    """The nodes right before one."""
    found = sources().get(node, ())
    return (found,) if isinstance(found, str) else found


def _sources(known: Known | None) -> dict[str, str | list[str]]:
    """What stands before each node; one alone without a list, of which there would be very many."""
    before: dict[str, str | list[str]] = {}
    for arrow in () if known is None else known.spec.arrows:
        one = before.setdefault(arrow.target, arrow.source)
        if isinstance(one, list):
            one.append(arrow.source)
        elif one is not arrow.source:
            before[arrow.target] = [one, arrow.source]
    return before


@operation("GET", "/api/executions/{id}/diagram", answer=Drawn)
def diagram(ask: Ask[None, None]) -> Response:
    """The diagram of an execution, as it was recorded."""
    return drawn_of(ask, ask.monitor.store.summary(ask.id).cell.diagram)


def drawn_of(ask: Ask[Any, Any], digest: str) -> Response:
    """A stored diagram to draw. Refused if there is none."""
    text = ask.monitor.drawings.encoded(ask.monitor.store, digest)
    if text is None:
        raise no_diagram(digest)
    return sent(text)


def no_diagram(digest: str) -> Refused:
    """The answer where the store has no such diagram, or it can't be read any more."""
    return Refused(404, "NoSuchDiagram", f"the store has no diagram {digest!r} that can be read",
                   "it was made in Python, or was pruned" if digest else None)


TIMELINE = ("node", "iteration", "attempt", "status", "scheduled_at", "started_at", "ended_at", "wake_at",
            "round", "waits")


class Timeline(msgspec.Struct, frozen=True):
    """All attempts that are recorded, a row each; `fields` names the columns."""

    fields: list[str]
    rows: list[tuple[Any, ...]]


@operation("GET", "/api/executions/{id}/timeline")
def timeline(ask: Ask[None, None]) -> Timeline:
    """When every attempt was scheduled, began and ended: enough to tell the state at any instant."""
    cells = ask.monitor.seen(ask.id).cells
    rows: list[tuple[Any, ...]] = [  # tuples: the garbage collector soon lets these alone
        (one.node_id, one.iteration, one.attempt, one.status.value, one.scheduled_at, one.started_at,
         one.ended_at, one.wake_at, one.round, one.request is not None) for one in cells]
    rows.sort(key=lambda row: next((at for at in row[4:7] if at is not None), 0.0))
    return Timeline(list(TIMELINE), rows)


class Context(msgspec.Struct, frozen=True):
    """What the bodies of an execution share. A value of more than 4 KB is `{"$large": bytes}`."""

    artifacts: dict[str, Any] = {}
    variables: dict[str, Any] = {}
    plugins: dict[str, Any] = {}
    versions: dict[str, dict[str, Any]] = {}


@operation("GET", "/api/executions/{id}/context")
def context(ask: Ask[None, None]) -> Context:
    """The shared context, as it is recorded by now."""
    store = ask.monitor.store
    cells = [one for one in store.context(store.summary(ask.id).cell.execution_id) if one.value is not None]
    return Context(**context_fields(cells), versions={
        one.key: {"version": list(one.version), "writer": one.writer, "at": one.at} for one in cells})


class LogQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which lines: of a `node` with what is in it, of an `attempt`, recorded after the line `after`."""

    node: str | None = None
    attempt: Annotated[int, Meta(ge=1, le=2**31)] | None = None
    after: Annotated[int, Meta(ge=0, le=2**53)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class Said(msgspec.Struct, frozen=True):
    """A line that a body printed (`stdout`, `stderr`) or logged (`log`), or a `note` of Treadle's own."""

    id: int
    node: str
    iteration: str
    attempt: int
    at: float
    stream: str
    text: str
    level: str | None = None
    logger: str | None = None


class Log(msgspec.Struct, frozen=True):
    """Lines in the order in which they were recorded. `last`: ask for what comes `after` it."""

    items: list[Said]
    last: int


@operation("GET", "/api/executions/{id}/logs")
def logs(ask: Ask[LogQuery, None]) -> Log:
    """What bodies printed and logged."""
    query, store = ask.query, ask.monitor.store
    name = store.summary(ask.id).cell.execution_id
    lines = store.new_logs(name, query.after, node=query.node, attempt=query.attempt, limit=query.limit)
    return Log(list(map(_said, lines)), lines[-1].id if lines else query.after)


def _said(one: LogLine) -> Said:
    text = one.text.encode("utf-8", "replace").decode()  # halves of surrogate pairs can't be sent
    return Said(one.id, one.node_id, one.iteration, one.attempt, one.at, one.stream, text, one.level,
                one.logger)
