"""Cells as rows and rows as cells."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from treadle.errors import StoreCorrupt
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Cached, LogLine, Owner

_error = msgspec.json.Decoder(ErrorInfo).decode
_owner = msgspec.json.Decoder(Owner).decode
_Row = tuple[Any, ...]
_T = TypeVar("_T")
_dump = msgspec.json.encode
_encode_into = msgspec.json.Encoder().encode_into
_PIECE = 500
"""Rows that are encoded at a time."""
PACKED_CHARS_MIN = 64_000
_STATUS = {status.value: status for status in NodeStatus}


def packed(source: str) -> str | bytes:
    """A diagram's source as it is stored: compressed if it is large. It is JSON or YAML, so it shrinks to a
    tenth, in less time than it takes to write the rest."""
    return source if len(source) < PACKED_CHARS_MIN else zlib.compress(source.encode(), 1)


def unpacked(stored: str | bytes) -> str:
    if isinstance(stored, str):
        return stored
    try:
        return zlib.decompress(stored).decode()
    except (zlib.error, ValueError) as error:
        raise StoreCorrupt(f"the source of a diagram can't be unpacked ({error}); somebody changed it: "
                           "restore the store from a copy") from None


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


def _or_corrupt(what: str) -> Callable[[Callable[[_Row], _T]], Callable[[_Row], _T]]:
    """Say which row can't be read. No row that we wrote can't; others have their hands on files, too."""
    def around(make: Callable[[_Row], _T]) -> Callable[[_Row], _T]:
        @functools.wraps(make)
        def made(row: _Row) -> _T:
            try:
                return make(row)
            except (ValueError, TypeError, LookupError, AttributeError, msgspec.MsgspecError) as error:
                raise StoreCorrupt(f"{what.format(*row)} can't be read ({type(error).__name__}: {error}); "
                                   "somebody changed it: restore the store from a copy") from None

        return made

    return around


def cells_json(cells: Sequence[NodeState]) -> str:
    """Cells as one JSON array of rows in the order of the table's columns, which is that of their fields.
    ValueError, TypeError or OverflowError if a cell can't be written as JSON."""
    return _rows_json(cells, lambda piece: [
        (c.execution_id, c.node_id, c.iteration, c.attempt, c.epoch, c.seq, c.status, c.scheduled_at,
         c.started_at, c.ended_at, c.wake_at, c.output and c.output.decode(), c.blob, c.content_type,
         c.meta and c.meta.decode(), c.error and _error_text(c.error), c.retryable, c.port, c.lineage,
         c.claims, c.worker, c.winner, c.request and c.request.decode(), c.items and c.items.decode(),
         c.round)
        for c in piece])


def plain_cells_json(cells: Sequence[NodeState]) -> str:
    """The same of cells that have nothing in the columns which `split_plain` asks for."""
    return _rows_json(cells, lambda piece: [
        (c.execution_id, c.node_id, c.iteration, c.attempt, c.epoch, c.seq, c.status, c.scheduled_at,
         c.started_at, c.ended_at, c.output and c.output.decode(), c.lineage, c.claims, c.round)
        for c in piece])


def split_plain(cells: Sequence[NodeState]) -> tuple[Sequence[NodeState], Sequence[NodeState]]:
    """Cells that have only what most have, and the others. A column less is a tenth of a microsecond less."""
    others = [c for c in cells if not (
        c.wake_at is None and c.blob is None and c.content_type is None and c.meta is None
        and c.error is None and c.retryable is None and c.port is None and c.worker is None
        and c.winner is None and c.request is None and c.items is None)]
    if not others:
        return cells, others
    apart = set(map(id, others))
    return [c for c in cells if id(c) not in apart], others


def _rows_json(cells: Sequence[NodeState],
               rows: Callable[[Sequence[NodeState]], list[tuple[Any, ...]]]) -> str:
    """Small pieces that stay in the processor's cache, and no call a row: the event loop waits for this."""
    out = bytearray(b"[]")
    end = 0
    for start in range(0, len(cells), _PIECE):
        _encode_into(rows(cells[start:start + _PIECE]), out, end)
        if end:
            out[end] = 44  # the comma between two pieces stands where the one ended and the other began
        end = len(out) - 1
    return out.decode()


@_or_corrupt("a cell of node {1!r} of execution {0}")
def cell_of(row: tuple[Any, ...]) -> NodeState:
    """The cell that a row of `get_cells` holds."""
    (execution_id, node_id, iteration, attempt, epoch, seq, status, scheduled, started, ended, wake, output,
     blob, kind, meta, error, retryable, port, lineage, claims, worker, winner, request, items, round_) = row
    return NodeState(
        execution_id, node_id, iteration, attempt, epoch, seq, _STATUS[status], scheduled, started, ended,
        wake, _raw(output), blob, kind, _raw(meta), None if error is None else _error(error),
        None if retryable is None else bool(retryable), port, lineage, claims, worker, winner, _raw(request),
        _raw(items), round_)


def cached_row(one: Cached) -> tuple[Any, ...]:
    """A result kept for other executions as `put_cached` takes it."""
    return (one.key, one.node_id, one.name, one.execution_id, one.at, text(one.output), one.blob,
            one.content_type, text(one.meta), one.port)


@_or_corrupt("a result of node {1!r} of execution {3}")
def cached_of(row: tuple[Any, ...]) -> Cached:
    """The result that a row of `get_cached` or `list_cached` holds."""
    key, node_id, name, execution_id, at, output, blob, kind, meta, port = row
    return Cached(key, node_id, name, execution_id, at, _raw(output), blob, kind, _raw(meta), port)


def execution_row(c: ExecutionCell) -> tuple[Any, ...]:
    """What `update_executions` sets of an execution."""
    return (c.execution_id, c.epoch, c.seq, c.status, c.started_at, c.ended_at, c.deadline_at, text(c.output),
            c.blob, None if c.error is None else _error_text(c.error), c.round)


def new_execution_row(c: ExecutionCell) -> tuple[Any, ...]:
    """What `insert_execution` takes before the owner and the end of its lease."""
    return (c.execution_id, c.epoch, c.seq, c.status.value, c.name, c.diagram, c.inputs.decode(),
            c.options.decode(), c.created_at, c.started_at, c.ended_at, c.deadline_at, text(c.output), c.blob,
            None if c.error is None else _error_text(c.error), c.parent, c.round)


@_or_corrupt("execution {0}")
def execution_of(row: tuple[Any, ...]) -> tuple[ExecutionCell, Owner | None, float | None]:
    """The cell, the owner and the end of the lease that a row of `get_execution` holds."""
    (execution_id, epoch, seq, status, name, diagram, inputs, options, created, started, ended, deadline,
     output, blob, error, parent, round_, owner, expires) = row
    cell = ExecutionCell(
        execution_id, epoch, seq, ExecutionStatus(status), name, diagram, inputs.encode(), created, started,
        ended, deadline, _raw(output), blob, None if error is None else _error(error), options.encode(),
        parent, round_)
    return cell, None if owner is None else _owner(owner), expires


def context_json(cells: Iterable[ContextCell]) -> str:
    """Cells of a context as one JSON array of what `upsert_context` takes."""
    return _dump([(c.execution_id, c.key, c.epoch, c.seq, text(c.value), c.writer, c.at)
                  for c in cells]).decode()


@_or_corrupt("the key {1!r} of the context of execution {0}")
def context_of(row: tuple[Any, ...]) -> ContextCell:
    """The cell that a row of `get_context` holds."""
    execution_id, key, epoch, seq, value, writer, at = row
    return ContextCell(execution_id, key, epoch, seq, _raw(value), writer, at)


def logs_json(lines: Sequence[LogLine]) -> str:
    """Lines as one JSON array of what `insert_logs` takes."""
    return _dump([
        (line.execution_id, line.node_id, line.iteration, line.attempt, line.at, line.stream, line.level,
         line.logger, _text_json(line.text))
        for line in lines]).decode()


def _text_json(text: str) -> str:
    try:
        return _dump(text).decode()
    except UnicodeEncodeError:  # half of a surrogate pair: JSON has an escape for it
        return json.dumps(text)


@_or_corrupt("line {9} of the logs of execution {0}")
def log_of(row: tuple[Any, ...]) -> LogLine:
    """The line that a row of `get_logs` holds."""
    execution_id, node_id, iteration, attempt, at, stream, text, level, logger, number = row
    return LogLine(execution_id, node_id, iteration, attempt, at, stream, json.loads(text), level, logger,
                   number)
