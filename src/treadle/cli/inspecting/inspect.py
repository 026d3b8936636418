"""What the store knows: `list`, `show` and `logs`."""

from __future__ import annotations

import json
import re
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.common import (
    ExecutionArgument,
    JsonOption,
    StoreOption,
    readers_may_leave,
    say_command,
    store_to_look_at,
)
from treadle.cli.inspecting import context, steps
from treadle.cli.inspecting.history import HistoryOption, history_store, list_histories, lists
from treadle.cli.render import (
    ago,
    colored,
    failure,
    iso,
    local,
    print_json,
    say,
    seconds,
    shortened,
    spoken,
    table,
)
from treadle.engine.showing import plain
from treadle.errors import InvalidInput, NoSuchNode, did_you_mean
from treadle.state.status import ExecutionStatus, NodeStatus

if TYPE_CHECKING:
    from treadle.state.cell import ExecutionCell, NodeState
    from treadle.store.base import LogLine, Store, Summary

STALE = "stale"
"""What `list` and `show` call an execution that says running while nobody runs it."""
NODE_COLUMNS = ("NODE", "ITERATION", "ATTEMPT", "STATUS", "AFTER", "TOOK", "")
POLL_S = 0.1
LOOK_S = 1.0
"""How often `logs --follow` asks whether there is anything new, and whether anybody still runs it."""
_ITEM = re.compile(r"\[\d+\]")


def list_(
    status: Annotated[str | None, typer.Option(
        metavar="STATUS", show_default=False,
        help="Only these: pending, running, suspended, completed, failed, cancelled or stale.")] = None,
    name: Annotated[str | None, typer.Option(
        metavar="NAME", show_default=False, help="Only executions of diagrams with this name.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest first.")] = 50,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List executions, the newest first."""
    readers_may_leave()
    known = [*(one.value for one in ExecutionStatus), STALE]
    if status is not None and status not in known:
        hint = did_you_mean(status, known) or f"there is {', '.join(known)}"
        raise InvalidInput(f"there is no status {status!r}: {hint}")
    begun = (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)  # as the store has those that are stale
    wanted = begun if status == STALE else (None,) if status is None else (ExecutionStatus(status),)
    found = store_to_look_at(store)
    try:
        summaries = [one for each in wanted for one in found.executions(status=each, name=name, limit=limit)]
    finally:
        found.close()
    if status in (STALE, *begun):
        summaries = [one for one in summaries if one.stale is (status == STALE)]
        summaries.sort(key=lambda one: (one.cell.created_at or 0.0, one.cell.execution_id), reverse=True)
        del summaries[limit:]
    if as_json:
        print_json([_summary(one) for one in summaries])
    elif not summaries:
        say("no executions" + (" of that kind" if status or name else " yet"))
    else:
        print(table(("ID", "DIAGRAM", "STATUS", "NODES", "STARTED", "TOOK"), [
            (one.cell.execution_id, one.cell.name, _status(one), _progress(one), ago(one.cell.created_at),
             _took(one.cell))
            for one in summaries], status=2))


def _summary(one: Summary) -> dict[str, Any]:
    cell = one.cell
    return {"execution_id": cell.execution_id, "name": cell.name, "status": _status(one), "nodes": one.nodes,
            "completed": one.completed, "failed": one.failed, "created_at": iso(cell.created_at),
            "started_at": iso(cell.started_at), "ended_at": iso(cell.ended_at), "error": cell.error,
            "parent": cell.parent, "owner": None if one.owner is None else str(one.owner)}


def _status(one: Summary) -> str:
    return STALE if one.stale else one.cell.status.value


def _progress(one: Summary) -> str:
    return f"{one.completed}/{one.nodes}" + (f", {one.failed} failed" if one.failed else "")


def _took(cell: ExecutionCell) -> str:
    if cell.started_at is None:
        return ""
    return seconds((cell.ended_at if cell.ended_at is not None else time.time()) - cell.started_at)


def show(
    execution_id: Annotated[str | None, typer.Argument(
        metavar="ID", show_default=False,
        help="An execution's id; its first characters are enough when no other begins so.")] = None,
    node: Annotated[str | None, typer.Option(
        "--node", metavar="PATH", show_default=False,
        help="Show this node's inputs, output and attempts.")] = None,
    iteration: Annotated[str | None, typer.Option(
        metavar="N", show_default=False,
        help="With --node: this turn of the loops around it. [default: the last]")] = None,
    all_: Annotated[bool, typer.Option(
        "--all", help="Name every item of a map, and every key of the context.")] = False,
    history: HistoryOption = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an execution: its nodes with times, attempts and errors; or one node's inputs and output."""
    readers_may_leave()
    if history is not None and execution_id is None and lists(history):
        list_histories(history, as_json=as_json)
        return
    if history is None and execution_id is None:
        raise InvalidInput("name the execution: treadle show ID (`treadle list` has them), or a folder with "
                           "--history")
    recorded = None if history is None else history_store(history, execution_id)
    found: Store = recorded or store_to_look_at(store)
    try:
        summary = found.summary(execution_id or (recorded.execution_id if recorded else ""))
        cell, cells = found.load(summary.cell.execution_id)
        cells.sort(key=_order)
        if node is not None:
            _show_node(found, cell, cells, node, iteration, as_json)
            return
        output = _decoded(found, cell.output, cell.blob)
        shared = found.context(cell.execution_id)
    finally:
        found.close()
    if as_json:
        print_json({**_summary(summary), **steps.spent_of(cells),
                    "inputs": _decoded(None, cell.inputs, None), "output": output,
                    **context.as_data(cell, shared), "node_states": [_node(one) for one in cells]})
        return
    taken = steps.spent_line(cells)
    print(f"{cell.execution_id}  {cell.name}  {colored(_status(summary), _status(summary))}")
    if cell.created_at is not None:
        owner = f", run by {summary.owner}" if summary.owner is not None and not summary.stale else ""
        took = f", took {_took(cell)}" if cell.started_at is not None else ""
        taken = f", {taken}" if taken else ""
        print(f"started {local(cell.created_at)} ({ago(cell.created_at)}){took}{owner}{taken}")
    if cell.parent is not None:
        print(f"forked from {cell.parent}")
    if cell.error is not None:
        print(failure(cell.error))
    print()
    rows = [_row(one, cell) for one in cells] if all_ else _grouped(cells, cell)
    print(table(NODE_COLUMNS, rows, status=3))
    for line in context.lines(cell, shared, all_=all_):
        print(line)
    if output is not None:
        print(f"\nresult: {shortened(output)}")
    if recorded is None:
        _hints(summary, cells, store)
    elif not cell.status.terminal:
        say("\nso far goes the history; if the store is lost, go on from here:  "
            f"{say_command('import', str(recorded.path), store=store)}")


def _hints(summary: Summary, cells: Sequence[NodeState], store: str | None) -> None:
    name = summary.cell.execution_id
    for one in cells:
        if one.status is NodeStatus.SUSPENDED and "waits for an answer" in _waits_for(one):
            say(f"\nanswer it:  {say_command('answer', name, one.node_id, 'VALUE', store=store)}")
    if summary.stale or summary.cell.status in (
            ExecutionStatus.SUSPENDED, ExecutionStatus.FAILED, ExecutionStatus.CANCELLED):
        say(f"\ngo on with:  {say_command('resume', name, store=store)}")


def _order(cell: NodeState) -> tuple[float, list[int], int, str]:
    at = next((one for one in (cell.scheduled_at, cell.started_at, cell.ended_at) if one is not None), 0.0)
    return at, [int(turn) for turn in cell.iteration.split(".")], cell.attempt, cell.node_id


def _node(cell: NodeState) -> dict[str, Any]:
    return {"node": cell.node_id, "iteration": cell.iteration, "attempt": cell.attempt,
            "status": cell.status.value, "scheduled_at": iso(cell.scheduled_at),
            "started_at": iso(cell.started_at), "ended_at": iso(cell.ended_at), "wake_at": iso(cell.wake_at),
            "seconds": cell.execution_time, "port": cell.port, "error": cell.error,
            "waits_for": _waits_for(cell) or None, "claims": cell.claims}


def _row(cell: NodeState, execution: ExecutionCell) -> list[str]:
    begun = execution.started_at
    after = "" if cell.started_at is None or begun is None else seconds(max(0.0, cell.started_at - begun))
    return [cell.node_id, cell.iteration, str(cell.attempt), cell.status.value, after,
            seconds(cell.execution_time), _remark(cell)]


def _remark(cell: NodeState) -> str:
    if cell.error is not None:
        return str(cell.error)
    if cell.status is NodeStatus.SUSPENDED:
        return _waits_for(cell)
    return f"→ {cell.port}" if cell.port else ""


def _waits_for(cell: NodeState) -> str:
    from treadle.engine.inbox import request_of

    if cell.status is not NodeStatus.SUSPENDED:
        return ""
    request = request_of(cell)
    kind = request.get("kind")
    if kind == "answer":
        return f"waits for an answer: {request.get('prompt') or '(no prompt)'}"
    if kind == "signal":
        return f"waits for the signal {request.get('name')!r}"
    return f"waits until {local(cell.wake_at)}"


def _grouped(cells: Sequence[NodeState], execution: ExecutionCell) -> list[list[str]]:
    """One row an attempt; the items of a map, and what is inside of them, together in one row by status."""
    rows: list[list[str]] = []
    groups: dict[tuple[str, str], list[NodeState]] = {}
    for cell in cells:
        pattern = _ITEM.sub("[*]", cell.node_id)
        if pattern == cell.node_id:
            rows.append(_row(cell, execution))
            continue
        key = (pattern, cell.iteration)
        if key not in groups:
            groups[key] = []
            rows.append([*key])  # its place; filled in below
        groups[key].append(cell)
    return [row if len(row) > 2 else _group(row[0], groups[row[0], row[1]], execution) for row in rows]


def _group(pattern: str, cells: Sequence[NodeState], execution: ExecutionCell) -> list[str]:
    if len(cells) == 1:
        return _row(cells[0], execution)
    latest = {(one.node_id, one.iteration): one for one in cells}  # attempts are in order
    first = min(latest.values(), key=lambda one: one.started_at or float("inf"))
    counts = Counter(one.status for one in latest.values())
    live = (NodeStatus.RUNNING, NodeStatus.SUSPENDED, NodeStatus.RETRYING)
    status = next((one for one in live if counts[one]), counts.most_common(1)[0][0])
    ended = max((one.ended_at for one in latest.values() if one.ended_at is not None), default=None)
    took = None if ended is None or first.started_at is None else ended - first.started_at
    retries = len(cells) - len(latest)
    said = ", ".join(f"{count} {one.value}" for one, count in counts.most_common())
    return [f"{pattern} ×{len(latest)}", cells[0].iteration, f"{retries} again" if retries else "1",
            status.value, _row(first, execution)[4], seconds(took), said]


# One node

def _show_node(store: Store, execution: ExecutionCell, cells: list[NodeState], path: str,
               iteration: str | None, as_json: bool) -> None:
    from treadle.engine.outside import inputs_recorded

    mine = [cell for cell in cells if cell.node_id == path and iteration in (None, cell.iteration)]
    if not mine:
        turns = sorted({cell.iteration for cell in cells if cell.node_id == path})
        known = [cell.node_id for cell in cells]
        raise NoSuchNode(f"execution {execution.execution_id} has no cell of node {path!r}" + (
            f" in iteration {iteration}; it has {', '.join(turns)}" if turns else
            f": {did_you_mean(path, known) or 'it has not been reached'}"))
    last = max(mine, key=lambda one: ([int(turn) for turn in one.iteration.split(".")], one.attempt))
    mine = [cell for cell in mine if cell.iteration == last.iteration]
    found, trouble = inputs_recorded(store, execution, cells, last)
    inputs = None if found is None else {name: plain(value) for name, value in found.items()}
    output = _decoded(store, last.output, last.blob)
    if as_json:
        print_json({"execution_id": execution.execution_id, **_node(last), "inputs": inputs,
                    "inputs_error": trouble, "output": output, **steps.as_data(last),
                    "attempts": [_node(one) for one in mine]})
        return
    print(table(NODE_COLUMNS, [_row(one, execution) for one in mine], status=3))
    if trouble is not None:
        print(f"\ninputs: they can't be derived: {trouble}")
    elif not inputs:
        print("\ninputs: none")
    for name, value in (inputs or {}).items():
        print(f"\ninput {name}: {shortened(value)}")
    for line in steps.lines(last):
        print(line)
    if last.error is not None:
        print(f"\n{failure(last.error)}")
    if last.status is NodeStatus.COMPLETED:
        print(f"\noutput: {shortened(output)}")


def _decoded(store: Store | None, output: bytes | None, blob: str | None) -> Any:
    from treadle.errors import NotDecodable
    from treadle.state import codec

    if output is None and blob is not None and store is not None:
        output = store.blob(blob)
    try:
        return None if output is None else codec.decode(output)
    except NotDecodable as error:  # a type that the diagram's modules register, which are not loaded to look
        return {"$unreadable": str(error)}


# What bodies said

def logs(
    execution_id: ExecutionArgument,
    node: Annotated[str | None, typer.Option(
        "--node", metavar="PATH", show_default=False,
        help="Only this node, its items and its inner nodes.")] = None,
    attempt: Annotated[int | None, typer.Option(
        min=1, metavar="N", show_default=False, help="Only this attempt.")] = None,
    follow: Annotated[bool, typer.Option(
        "--follow", "-f", help="Go on until the execution ends, or nobody runs it any more.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print what bodies printed and logged, in order, with time, node and stream.

    With --json it is a list; with --follow and --json one document a line, as they come.
    """
    readers_may_leave()
    found = store_to_look_at(store)
    try:
        name = found.summary(execution_id).cell.execution_id
        if node is not None:
            _check_node(found, name, node)
        if follow:
            for line in _coming(found, name, node, attempt):
                document = json.dumps(_log(line), ensure_ascii=False)
                print(document if as_json else spoken(line, sys.stdout, alone=True), flush=True)
        elif as_json:
            print_json([_log(line) for line in _said(found, name, node, attempt)])
        else:
            line = None
            for line in _said(found, name, node, attempt):
                print(spoken(line, sys.stdout, alone=True))
            if line is None:
                say("nothing was printed or logged" + (" there" if node or attempt else ""))
    finally:
        found.close()


def _said(store: Store, name: str, node: str | None, attempt: int | None) -> Iterator[LogLine]:
    lines = store.logs(name, node=node, attempt=attempt)
    while lines:
        yield from lines
        lines = store.logs(name, node=node, attempt=attempt, since=(lines[-1].at, lines[-1].id))


def _coming(store: Store, name: str, node: str | None, attempt: int | None) -> Iterator[LogLine]:
    """Lines as they are recorded, until nobody runs the execution. What is new is asked for only when
    somebody has written."""
    last, seen, look_at, ended = 0, -1, 0.0, False
    while True:
        if time.monotonic() >= look_at:
            look_at = time.monotonic() + LOOK_S
            summary = store.summary(name)
            ended = summary.cell.status.terminal or summary.owner is None
        version = store.version()
        while version != seen or ended:
            lines = store.new_logs(name, last, node=node, attempt=attempt)
            yield from lines
            if not lines:
                seen = version
                break
            last = lines[-1].id
        if ended:
            break
        time.sleep(POLL_S)
    if not summary.cell.status.terminal:
        say(f"nobody runs execution {name} at the moment: it is {_status(summary)}")


def _log(line: LogLine) -> dict[str, Any]:
    return {"at": iso(line.at), "node": line.node_id, "iteration": line.iteration, "attempt": line.attempt,
            "stream": line.stream, "level": line.level, "logger": line.logger, "text": line.text}


def _check_node(store: Store, name: str, node: str) -> None:
    """NoSuchNode for a path that nothing of the execution has or begins with."""
    paths = {cell.node_id for cell in store.load(name)[1]}
    if not any(path == node or path.startswith((f"{node}[", f"{node}/")) for path in paths):
        raise NoSuchNode(f"execution {name} has no cell of node {node!r}: "
                         f"{did_you_mean(node, paths) or 'it has not been reached'}")
