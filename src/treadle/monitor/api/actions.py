"""What changes executions: start, cancel, resume, fork, answer, signal, delete.

Words to an execution go through the store, whoever runs it. Where nobody does, this server's engine takes it
up.
"""

from __future__ import annotations

import time
from typing import Any, Literal

import msgspec

from treadle.config import STATUSES, Retention
from treadle.engine.edited import Planned, foreseen
from treadle.engine.inbox import ANSWER, CANCEL, SIGNAL, fault_of
from treadle.engine.outside import question_of, runs_elsewhere, send, still_open
from treadle.engine.showing import message_of
from treadle.errors import InvalidDiagram, InvalidInput, LeaseHeld
from treadle.ids import check_execution_id
from treadle.monitor.api.diagrams import Chosen, chosen, file_of
from treadle.monitor.api.routing import Ask, operation
from treadle.monitor.core import Monitor, Refused
from treadle.store.base import Summary
from treadle.store.retention import Pruned

PRUNE_WAIT_S = 5.0
"""How long a request to delete waits for another one."""


class Start(msgspec.Struct, forbid_unknown_fields=True):
    """What to start. A text as value of an input is read as the declared type."""

    diagram: Chosen
    inputs: dict[str, Any] = {}
    execution_id: str | None = None


class Started(msgspec.Struct, frozen=True):
    id: str
    name: str
    status: str


@operation("POST", "/api/executions", status=201)
async def start(ask: Ask[None, Start]) -> Started:
    """Start an execution in this server's process; answers when it is recorded."""
    engine = ask.monitor.acting()
    body = ask.body
    _check_id(body.execution_id)
    spec = await ask.monitor.read(chosen, ask, body.diagram)
    try:
        handle = await engine.start(spec, body.inputs, execution_id=body.execution_id)
    except ValueError as error:
        raise _taken(error) from None
    return Started(handle.execution_id, handle.cell.name, handle.status.value)


def _check_id(execution_id: str | None) -> None:
    try:
        if execution_id is not None:
            check_execution_id(execution_id)
    except ValueError as error:
        raise Refused(422, "InvalidInput", str(error)) from None


def _taken(error: ValueError) -> Exception:
    """The store's plain ValueError: the id is taken. All others are of kinds of their own."""
    return Refused(409, "Taken", str(error)) if type(error) is ValueError else error


class Cancel(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


class Sent(msgspec.Struct, frozen=True):
    """It is recorded. `running`: somebody runs the execution and takes it up; `resumed`: nobody did, and this
    server goes on with it now; `trouble`: why it can't."""

    id: str
    running: bool
    resumed: bool = False
    trouble: str | None = None


@operation("POST", "/api/executions/{id}/cancel", status=202)
async def cancel(ask: Ask[None, Cancel]) -> Sent:
    """Cancel an execution, wherever it runs."""
    summary = await ask.monitor.read(ask.monitor.store.summary, ask.id)
    if summary.cell.status.terminal:
        raise Refused(409, "Ended", f"execution {summary.cell.execution_id} has ended already: it is "
                                    f"{summary.cell.status}")
    if not runs_elsewhere(summary):
        ask.monitor.acting()  # somebody must take it over
    return await _sent(ask, summary, CANCEL, value=ask.body.reason)


class Answer(msgspec.Struct, forbid_unknown_fields=True):
    """An answer to the node with the path `node`; of which turn of the loops around it, unless the last. With
    `step`, as it stands among what waits, it is refused if that is not asked any more."""

    node: str
    value: Any = None
    iteration: str | None = None
    step: str | None = None


@operation("POST", "/api/executions/{id}/answer", status=202)
async def answer(ask: Ask[None, Answer]) -> Sent:
    """Answer a node that waits for a person. An early answer waits for its node."""
    store, body = ask.monitor.store, ask.body
    summary = await ask.monitor.read(store.summary, ask.id)
    still_open(summary)
    _check_iteration(body.iteration)
    asks = await ask.monitor.read(question_of, store, summary, body.node, body.iteration, body.step)
    fault = await ask.monitor.read(fault_of, body.value, asks.schema)
    if fault is not None:
        raise InvalidInput(f"the answer to {body.node!r} does not fit: {fault}")
    return await _sent(ask, summary, ANSWER, name=asks.step, node=body.node, iteration=body.iteration or "",
                       value=body.value)


def _check_iteration(iteration: str | None) -> None:
    if iteration is not None and not all(one.isdecimal() and one.isascii() for one in iteration.split(".")):
        raise InvalidInput(f"the iteration {iteration!r} should be like '2' or '2.1'")


class Word(msgspec.Struct, forbid_unknown_fields=True):
    """A signal by its name, and what goes with it."""

    name: str
    value: Any = None


@operation("POST", "/api/executions/{id}/signal", status=202)
async def signal(ask: Ask[None, Word]) -> Sent:
    """Send an execution a named signal: the first node that waits for it, now or later, takes it."""
    if not ask.body.name.strip():
        raise InvalidInput("a signal needs a name")
    summary = await ask.monitor.read(ask.monitor.store.summary, ask.id)
    still_open(summary)
    return await _sent(ask, summary, SIGNAL, name=ask.body.name, value=ask.body.value)


async def _sent(ask: Ask[Any, Any], summary: Summary, kind: str, *, name: str = "", node: str = "",
                iteration: str = "", value: Any = None) -> Sent:
    monitor, execution_id = ask.monitor, summary.cell.execution_id
    await monitor.read(send, monitor.store, execution_id, kind, name=name, node=node, iteration=iteration,
                       value=value, config=monitor.config)
    summary = await monitor.read(monitor.store.summary, execution_id)
    if runs_elsewhere(summary) or monitor.engine is None:
        return Sent(execution_id, runs_elsewhere(summary))
    if kind != CANCEL and summary.cell.status.terminal:
        return Sent(execution_id, running=False)  # a failed one waits for its resume
    try:
        await monitor.engine.resume(execution_id)
    except LeaseHeld:  # somebody was faster
        return Sent(execution_id, running=True)
    except (InvalidDiagram, KeyError, OSError) as error:  # what it names is gone, or it itself
        return Sent(execution_id, running=False, trouble=message_of(error))
    return Sent(execution_id, running=False, resumed=True)


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    """With which diagram it goes on: `current`, its file as it is now; `recorded`, as it was; or the name of
    a file of `GET /api/diagrams`. `strict`: not if anything has changed."""

    diagram: str = "current"
    strict: bool = False


@operation("POST", "/api/executions/{id}/resume", status=202)
async def resume(ask: Ask[None, Resume]) -> Started:
    """Go on with an execution that was interrupted, crashed, waits, failed or was cancelled."""
    engine = ask.monitor.acting()
    what = await ask.monitor.read(planned, ask, ask.body.diagram)
    try:
        handle = await engine.resume(what.cell.execution_id, diagram=what.diagram, strict=ask.body.strict)
    except KeyError as error:
        raise _no_diagram(error) from None
    return Started(handle.execution_id, handle.cell.name, handle.status.value)


class Fork(msgspec.Struct, forbid_unknown_fields=True):
    """Where the new execution begins (`at`, a node's path), its inputs where they differ, its diagram as for
    a resume."""

    at: str | None = None
    inputs: dict[str, Any] = {}
    diagram: str = "current"
    execution_id: str | None = None


@operation("POST", "/api/executions/{id}/fork", status=201)
async def fork(ask: Ask[None, Fork]) -> Started:
    """Start a new execution from any point of an old one, which stays as it is."""
    engine, body = ask.monitor.acting(), ask.body
    _check_id(body.execution_id)
    what = await ask.monitor.read(planned, ask, body.diagram)
    try:
        handle = await engine.fork(what.cell.execution_id, body.inputs, at=body.at, diagram=what.diagram,
                                   fork_id=body.execution_id)
    except KeyError as error:
        raise _no_diagram(error) from None
    except ValueError as error:
        raise _taken(error) from None
    return Started(handle.execution_id, handle.cell.name, handle.status.value)


class PlanQuery(msgspec.Struct, forbid_unknown_fields=True):
    """With which diagram: see `resume`."""

    diagram: str = "current"


class Planning(msgspec.Struct, frozen=True):
    """What becomes of a node: `again` means that it is the same and had not ended well."""

    node: str
    what: Literal["kept", "changed", "new", "removed", "again"]
    why: str = ""
    results: int = 0


class Plans(msgspec.Struct, frozen=True):
    """What a resume would do. `redrawn`: the diagram is not the recorded one; `held`: somebody runs it."""

    changes: list[Planning]
    changed: bool
    redrawn: bool
    held: bool
    kept_results: int


@operation("GET", "/api/executions/{id}/plan")
def plan(ask: Ask[PlanQuery, None]) -> Plans:
    """What a resume would keep and what it would do again, and why. Nothing is written."""
    what = planned(ask, ask.query.diagram)
    found = what.plan
    changes = [Planning(one.path, "changed", one.why, one.results)
               for one in sorted(found.changed, key=lambda one: not one.own)]
    changes += [Planning(path, "new") for path in found.new]
    changes += [Planning(path, "removed") for path in found.removed]
    changes += [Planning(path, "again", "it had not ended well") for path in found.again]
    changes += [Planning(path, "kept") for path in found.kept]
    return Plans(changes, found.changes, what.redrawn, what.held, found.kept_results)


def planned(ask: Ask[Any, Any], diagram: str) -> Planned:
    """What going on with an execution would do."""
    ask.monitor.acting()  # the code that the diagram names is looked at
    store, as_it_was = ask.monitor.store, diagram == "recorded"
    file = None if diagram in ("current", "recorded") else file_of(ask.monitor, diagram)
    try:
        return foreseen(store, ask.id, file, recorded=as_it_was)
    except KeyError as error:
        raise _no_diagram(error) from None


def _no_diagram(error: KeyError) -> Refused:
    """What a resume needs was pruned, just now perhaps."""
    return Refused(404, "NoSuchDiagram", message_of(error))


class Gone(msgspec.Struct, frozen=True):
    """What was deleted, or would be."""

    execution_ids: list[str]
    cells: int
    blobs: int
    diagrams: int
    bytes_freed: int
    dry_run: bool = False


@operation("DELETE", "/api/executions/{id}")
def delete(ask: Ask[None, None]) -> Gone:
    """Delete an execution with all that is its own, for good. One that somebody runs is refused; so is a part
    of an id."""
    store = ask.monitor.store
    summary = store.summary(ask.id)
    name = summary.cell.execution_id
    if name != ask.id:
        raise Refused(404, "NoSuchExecution", f"there is no execution {ask.id!r}",
                      f"to delete {name!r} give the whole id")
    if summary.owner is not None and not summary.stale:
        raise Refused(409, "LeaseHeld", f"execution {name} is run by {summary.owner}", "cancel it first")
    done = _prune(ask.monitor, Retention(status=STATUSES, execution_ids=(name,)), thorough=False)
    if not done.execution_ids:
        store.summary(name)  # NoSuchExecution: somebody was faster
        raise Refused(409, "LeaseHeld", f"execution {name} can't go: a fork of it has not ended",
                      "wait for it, or cancel it")
    return _gone(done)


def _prune(monitor: Monitor, policy: Retention, *, thorough: bool = True, dry_run: bool = False) -> Pruned:
    """Two at once would be refused by the store: those of this server wait for one another, for a while."""
    held = monitor.pruning.acquire(timeout=PRUNE_WAIT_S)
    try:
        return monitor.store.prune(policy, time.time(), thorough=thorough, dry_run=dry_run)
    finally:
        if held:
            monitor.pruning.release()


def _gone(done: Pruned, *, dry_run: bool = False) -> Gone:
    return Gone(done.execution_ids, done.cells, done.blobs, done.diagrams, done.bytes_freed, dry_run)


class Prune(msgspec.Struct, forbid_unknown_fields=True):
    """What goes: each limit holds on its own. `status` and `name` choose what is considered."""

    older_s: float | None = None
    keep: int | None = None
    size_bytes_max: int | None = None
    status: tuple[str, ...] = ()
    name: str | None = None
    dry_run: bool = True


@operation("POST", "/api/prune")
def prune(ask: Ask[None, Prune]) -> Gone:
    """Delete old executions; without `dry_run: false` it only says which."""
    body = ask.body
    policy = Retention(older_s=body.older_s, keep=body.keep, size_bytes_max=body.size_bytes_max,
                       status=body.status, name=body.name)
    if not policy:
        raise InvalidInput("say what to delete: older_s, keep, size_bytes_max, status or name")
    return _gone(_prune(ask.monitor, policy, dry_run=body.dry_run), dry_run=body.dry_run)
