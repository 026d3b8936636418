"""Cells as rows and rows as cells."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Owner

_error = msgspec.json.Decoder(ErrorInfo).decode
_owner = msgspec.json.Decoder(Owner).decode
_dump = msgspec.json.encode
_astuple = msgspec.structs.astuple
_STATUS = {status.value: status for status in NodeStatus}


def text(raw: bytes | None) -> str | None:
    """The codec's JSON as SQLite's TEXT."""
    return None if raw is None else raw.decode()


def _raw(value: str | None) -> bytes | None:
    return None if value is None else value.encode()


def _error_text(error: ErrorInfo) -> str:
    try:
        return _dump(error).decode()
    except UnicodeEncodeError:  # half of a surrogate pair, as names of files have: recorded all the same
        plain = [text.encode(errors="backslashreplace").decode() for text in (error.message, error.traceback)]
        return _dump(msgspec.structs.replace(error, message=plain[0], traceback=plain[1])).decode()


def cell_row(cell: NodeState) -> tuple[Any, ...]:
    """A cell in the order of the table's columns, which is that of its fields."""
    row = _astuple(cell)
    output = row[11]
    if row[14] is row[15] is row[22] is row[23] is None:  # meta, error, request, items: most cells have none
        return row if output is None else (*row[:11], output.decode(), *row[12:])
    error = None if cell.error is None else _error_text(cell.error)
    return (*row[:11], text(output), *row[12:14], text(cell.meta), error, *row[16:22], text(cell.request),
            text(cell.items), row[24])


def cell_of(row: tuple[Any, ...]) -> NodeState:
    """The cell that a row of `get_cells` holds."""
    (execution_id, node_id, iteration, attempt, epoch, seq, status, scheduled, started, ended, wake, output,
     blob, kind, meta, error, retryable, port, lineage, claims, worker, winner, request, items, round_) = row
    return NodeState(
        execution_id, node_id, iteration, attempt, epoch, seq, _STATUS[status], scheduled, started, ended,
        wake, _raw(output), blob, kind, _raw(meta), None if error is None else _error(error),
        None if retryable is None else bool(retryable), port, lineage, claims, worker, winner, _raw(request),
        _raw(items), round_)


def execution_row(c: ExecutionCell) -> tuple[Any, ...]:
    """What `update_executions` sets of an execution."""
    return (c.execution_id, c.epoch, c.seq, c.status, c.started_at, c.ended_at, c.deadline_at, text(c.output),
            c.blob, None if c.error is None else _error_text(c.error), c.round)


def new_execution_row(c: ExecutionCell) -> tuple[Any, ...]:
    """What `insert_execution` takes before the owner and the end of its lease."""
    return (c.execution_id, c.epoch, c.seq, c.status.value, c.name, c.diagram, c.inputs.decode(),
            c.options.decode(), c.created_at, c.started_at, c.ended_at, c.deadline_at, text(c.output), c.blob,
            None if c.error is None else _error_text(c.error), c.parent, c.round)


def execution_of(row: tuple[Any, ...]) -> tuple[ExecutionCell, Owner | None, float | None]:
    """The cell, the owner and the end of the lease that a row of `get_execution` holds."""
    (execution_id, epoch, seq, status, name, diagram, inputs, options, created, started, ended, deadline,
     output, blob, error, parent, round_, owner, expires) = row
    cell = ExecutionCell(
        execution_id, epoch, seq, ExecutionStatus(status), name, diagram, inputs.encode(), created, started,
        ended, deadline, _raw(output), blob, None if error is None else _error(error), options.encode(),
        parent, round_)
    return cell, None if owner is None else _owner(owner), expires
