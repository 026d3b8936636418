"""Words to an execution that may run elsewhere, or nowhere at the moment: `cancel`, `answer`, `signal`.

They are left in the store, durably, and whoever runs the execution picks them up; a resume does.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.common import (
    COMPLETED,
    FAILED,
    ExecutionArgument,
    JsonOption,
    StoreOption,
    existing_store,
    parse_value,
    say_command,
    types_for,
)
from treadle.cli.render import print_json, say
from treadle.errors import InvalidInput, LeaseHeld, NoSuchNode, did_you_mean
from treadle.state.status import ExecutionStatus, NodeStatus

if TYPE_CHECKING:
    from treadle.config import TreadleConfig
    from treadle.diagram.node import Node
    from treadle.state.cell import NodeState
    from treadle.store.base import Store, Summary

CANCEL_S_MAX = 15.0
"""How long `cancel` waits for the process that runs the execution to stop it."""
POLL_S = 0.1


def cancel(
    execution_id: ExecutionArgument,
    reason: Annotated[str, typer.Option(help="Why; it is recorded.")] = "",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cancel an execution, wherever it runs. One that has ended stays as it is."""
    from treadle.config import read_limits
    from treadle.engine.run import in_own_loop

    config = read_limits(Path.cwd())
    found = existing_store(store)
    try:
        summary = found.summary(execution_id)
        name = summary.cell.execution_id
        if summary.cell.status.terminal:
            raise InvalidInput(f"execution {name} has ended already: it is {summary.cell.status}")
        _send(found, name, "cancel", value=reason)
        taken = None if _runs_elsewhere(summary) else in_own_loop(_take_over(store, name, config), config)
        status = _wait(found, name) if taken is None else taken
    finally:
        found.close()
    if as_json:
        print_json({"execution_id": name, "status": status.value})
    elif status is ExecutionStatus.CANCELLED:
        say(f"execution {name} is cancelled")
    elif status.terminal:
        say(f"execution {name} ended before it could be cancelled: it is {status}")
    else:
        say(f"execution {name} was asked to stop, and {summary.owner} has not done so within "
            f"{CANCEL_S_MAX:g} s")
    raise typer.Exit(COMPLETED if status is ExecutionStatus.CANCELLED else FAILED)


def answer(
    execution_id: ExecutionArgument,
    node: Annotated[str, typer.Argument(
        metavar="NODE", help="The node that asks, by its path.", show_default=False)],
    value: Annotated[str, typer.Argument(
        metavar="VALUE", show_default=False,
        help="The answer: JSON, or else a text; @FILE is a file's content.")],
    iteration: Annotated[str | None, typer.Option(metavar="N", show_default=False,
                                                  help="Which turn of the loops around the node.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer a node that waits for a person. An early answer waits for its node."""
    found = existing_store(store)
    try:
        summary = found.summary(execution_id)
        name = summary.cell.execution_id
        _still_open(summary)
        given = _fitting(found, summary, node, iteration, value)
        _send(found, name, "answer", node=node, iteration=iteration or "", value=given)
    finally:
        found.close()
    _sent(summary, f"the answer to {node!r}", store, as_json)


def signal(
    execution_id: ExecutionArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal's name.", show_default=False)],
    value: Annotated[str, typer.Argument(
        metavar="VALUE", show_default=False,
        help="What goes with it: JSON, or else a text; @FILE is a file's content.")] = "null",
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send an execution a named signal. The first node that waits for it, now or later, takes it."""
    if not name.strip():
        raise InvalidInput("a signal needs a name")
    found = existing_store(store)
    try:
        summary = found.summary(execution_id)
        _still_open(summary)
        _send(found, summary.cell.execution_id, "signal", name=name, value=parse_value(value))
    finally:
        found.close()
    _sent(summary, f"the signal {name!r}", store, as_json)


def _still_open(summary: Summary) -> None:
    cell = summary.cell
    if cell.status is ExecutionStatus.COMPLETED:
        raise InvalidInput(f"execution {cell.execution_id} has completed: nothing in it waits any more")


def _send(store: Store, execution_id: str, kind: str, *, name: str = "", node: str = "", iteration: str = "",
          value: Any = None) -> None:
    from treadle.config import read_limits
    from treadle.state import codec
    from treadle.store.base import Signal

    payload, config = codec.encode(value), read_limits(Path.cwd())
    if len(payload) > config.signal_bytes_max:
        raise config.exceeded("signal_bytes_max", f"a value of {len(payload)} bytes (the path of a file can "
                                                  "be sent instead)")
    store.send(Signal(execution_id, kind, name, node, iteration, payload, at=time.time()))


def _sent(summary: Summary, what: str, store: str | None, as_json: bool) -> None:
    name, running = summary.cell.execution_id, _runs_elsewhere(summary)
    if as_json:
        print_json({"execution_id": name, "sent": True, "running": running})
    elif running:
        say(f"{what} is recorded; {summary.owner} takes it up")
    else:
        say(f"{what} is recorded; go on with:  {say_command('resume', name, store=store)}")


def _runs_elsewhere(summary: Summary) -> bool:
    # In its first tenth of a second an execution is `pending` in the store, though it runs.
    at_work = summary.cell.status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)
    return at_work and summary.owner is not None and not summary.stale


# cancel

def _wait(store: Store, execution_id: str) -> ExecutionStatus:
    """Wait until the execution has ended; asks the store only when another process has written."""
    until, seen = time.monotonic() + CANCEL_S_MAX, -1
    status = ExecutionStatus.RUNNING
    while not status.terminal and time.monotonic() < until:
        version = store.version()
        if version != seen:
            seen, status = version, store.summary(execution_id).cell.status
        if not status.terminal:
            time.sleep(POLL_S)
    return status


async def _take_over(url: str | None, execution_id: str, config: TreadleConfig) -> ExecutionStatus | None:
    """Claim an execution that nobody runs, so that it meets its cancellation. None if somebody runs it after
    all."""
    from treadle.engine.engine import Engine

    async with Engine.open(url, registry=types_for(Path()), config=config) as engine:
        try:
            handle = await engine.resume(execution_id)
        except LeaseHeld:
            return None
        return await handle.wait()


# answer

def _fitting(store: Store, summary: Summary, node: str, iteration: str | None, text: str) -> Any:
    """The answer as its node wants it. InvalidInput, NoSuchNode if it can't be right."""
    from treadle.engine.inbox import request_of

    _, cells = store.load(summary.cell.execution_id)
    mine = [cell for cell in cells if cell.node_id == node and iteration in (None, cell.iteration)]
    if not mine:
        asks = _known(store, summary, node, cells)
        return _fitted(node, text, asks.properties.get("schema") if asks.id == node else None)
    cell = max(mine, key=lambda one: ([int(turn) for turn in one.iteration.split(".")], one.attempt))
    if cell.status is not NodeStatus.SUSPENDED:
        if cell.status is NodeStatus.COMPLETED or summary.cell.status is not ExecutionStatus.RUNNING:
            raise InvalidInput(f"node {node!r} does not wait for an answer: it is {cell.status}"
                               + _who_waits(cells))
        return parse_value(text)
    request = request_of(cell)
    if request.get("kind") not in ("answer", "signal"):
        raise InvalidInput(f"node {node!r} waits for a time, not for an answer")
    return _fitted(node, text, request.get("schema"))


def _fitted(node: str, text: str, schema: Any) -> Any:
    from treadle.engine.inbox import fault_of

    value = parse_value(text)
    fault = fault_of(value, schema)
    if fault is not None and not text.startswith("@") and fault_of(text, schema) is None:
        return text  # `42` where a text is wanted
    if fault is not None:
        raise InvalidInput(f"the answer to {node!r} does not fit: {fault}")
    return value


def _known(store: Store, summary: Summary, node: str, cells: list[NodeState]) -> Node:
    """The outermost node of a path, which may be answered before it is reached; NoSuchNode if the diagram
    lacks it."""
    import msgspec

    from treadle.diagram.formats import loads
    from treadle.engine.sources import Source

    source = msgspec.json.decode(store.source(summary.cell.diagram), type=Source)
    spec = loads(source.text, file=source.file or "<stored>", base=source.base, format=source.format)
    nodes = {str(one.id): one for one in spec.nodes}
    first = node.split("/")[0].split("[")[0]
    if first not in nodes:
        raise NoSuchNode(f"execution {summary.cell.execution_id} has no node {node!r}: "
                         + (did_you_mean(first, nodes) or f"there is {', '.join(nodes)}") + _who_waits(cells))
    return nodes[first]


def _who_waits(cells: list[NodeState]) -> str:
    waiting = sorted({cell.node_id for cell in cells if cell.status is NodeStatus.SUSPENDED})
    return f" (who waits: {', '.join(waiting)})" if waiting else ""
