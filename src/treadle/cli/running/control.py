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
)
from treadle.cli.render import print_json, say
from treadle.config import TreadleConfig, read_limits
from treadle.engine.edited import types_for
from treadle.engine.inbox import ANSWER, CANCEL, SIGNAL, fault_of
from treadle.engine.outside import question_of, runs_elsewhere, send, still_open
from treadle.errors import InvalidInput, LeaseHeld
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
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
    from treadle.engine.run import in_own_loop

    config = read_limits(Path.cwd())
    found = existing_store(store)
    try:
        summary = found.summary(execution_id)
        name = summary.cell.execution_id
        if summary.cell.status.terminal:
            raise InvalidInput(f"execution {name} has ended already: it is {summary.cell.status}")
        send(found, name, CANCEL, value=reason, config=config)
        taken = None if runs_elsewhere(summary) else in_own_loop(_take_over(store, name, config), config)
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
        still_open(summary)
        asks = question_of(found, summary, node, iteration)
        send(found, name, ANSWER, name=asks.step, node=node, iteration=iteration or "",
             value=_fitted(node, value, asks.schema), config=read_limits(Path.cwd()))
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
        still_open(summary)
        send(found, summary.cell.execution_id, SIGNAL, name=name, value=parse_value(value),
             config=read_limits(Path.cwd()))
    finally:
        found.close()
    _sent(summary, f"the signal {name!r}", store, as_json)


def _sent(summary: Summary, what: str, store: str | None, as_json: bool) -> None:
    name, running = summary.cell.execution_id, runs_elsewhere(summary)
    if as_json:
        print_json({"execution_id": name, "sent": True, "running": running})
    elif running:
        say(f"{what} is recorded; {summary.owner} takes it up")
    else:
        say(f"{what} is recorded; go on with:  {say_command('resume', name, store=store)}")


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

def _fitted(node: str, text: str, schema: Any) -> Any:
    """The answer as its node wants it. InvalidInput."""
    value = parse_value(text)
    fault = fault_of(value, schema)
    if fault is not None and not text.startswith("@") and fault_of(text, schema) is None:
        return text  # `42` where a text is wanted
    if fault is not None:
        raise InvalidInput(f"the answer to {node!r} does not fit: {fault}")
    return value
