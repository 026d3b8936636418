"""What stands in the files: for a person the state in plain names, for a store the exact cell.

Encoded values (outputs, inputs …) stand there as the JSON that they are; without the white space they are
the recorded bytes again. The few that are not (`null`, which would read as no value, and JSON that was
written elsewhere) stand beside it as a text, in a field with `_text` at its end. A value that is no plain
JSON is tagged as in the store (`{"$treadle": …}`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

import msgspec

from treadle import __version__
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.context import About, of_bodies, tree_of
from treadle.store.history.names import BLOBS
from treadle.store.transfer.layout import ENCODED

FORMAT: Final = 1
"""What `treadle_history` says in every file."""
TEXT = "_text"
_AT_TOP = ("execution_id", "node_id", "iteration", "attempt", "status", "output", "error")
"""Fields of a node's cell that stand at the top of its file."""
_C = TypeVar("_C", NodeState, ExecutionCell, ContextCell)
Fields = Mapping[str, msgspec.Raw]


def of_node(cell: NodeState, inputs: bytes | None = None) -> bytes:
    """The file of one attempt. `inputs` is the JSON of what it got, where that is known."""
    return _document({
        "treadle_history": FORMAT, "execution_id": cell.execution_id, "node_id": cell.node_id,
        "iteration": cell.iteration, "attempt": cell.attempt, "status": cell.status.value,
        "started_at": _iso(cell.started_at), "ended_at": _iso(cell.ended_at),
        "input_payload": _raw(inputs), "output_payload": _payload(cell.output, cell.blob),
        "error": _error(cell.error), "retry_count": cell.retry_count, "execution_time": cell.execution_time,
        "cell": _fields(cell)})


def of_init(cell: ExecutionCell, source: str) -> bytes:
    """The file with which an execution begins, or goes on: what it runs, on what, and with what."""
    return _document({**_head(cell), "status": cell.status.value, "inputs": _payload(cell.inputs, None),
                      "context": _context(cell, ()), "execution": _fields(cell), "diagram": source})


def of_final(cell: ExecutionCell, counts: Counter[str], context: Iterable[ContextCell]) -> bytes:
    """The file with which it ends."""
    took = None if cell.started_at is None or cell.ended_at is None else cell.ended_at - cell.started_at
    return _document({
        **_head(cell), "status": cell.status.value, "started_at": _iso(cell.started_at),
        "ended_at": _iso(cell.ended_at), "execution_time": took,
        "output_payload": _payload(cell.output, cell.blob), "error": _error(cell.error),
        "nodes": dict(counts), "context": _context(cell, context), "execution": _fields(cell)})


def of_context(cell: ExecutionCell, context: Iterable[ContextCell]) -> bytes:
    """The file of what is shared in the execution."""
    cells = list(context)
    return _document({**_head(cell), "context": _context(cell, cells),
                      "cells": _raw(b"[" + b",".join(_json(_fields(one)) for one in cells) + b"]")})


def read(raw: bytes) -> Fields:
    """The fields of a file. ValueError, or a DecodeError, which is one."""
    found = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    said = found.get("treadle_history")
    version = None if said is None else msgspec.json.decode(said)
    if type(version) is not int:
        raise ValueError("it is no file of a history: it has no `treadle_history`")
    if version > FORMAT:
        raise ValueError(f"a newer Treadle wrote it (format {version}, this one reads {FORMAT}): upgrade "
                         "Treadle")
    return found


def node_in(fields: Fields) -> NodeState:
    """The cell of an attempt's file. ValueError or KeyError if something is wrong with it."""
    inner = _inner(fields, "cell")
    same = {name: fields[name] for name in _AT_TOP if name != "output" and name in fields}
    if "blob" not in inner and bytes(fields["output_payload"]) != b"null":
        same["output"] = fields["output_payload"]
    return _struct({**same, **inner}, NodeState)


def execution_in(fields: Fields) -> ExecutionCell:
    """The cell of an execution's file; as above."""
    return _struct(_inner(fields, "execution"), ExecutionCell)


def source_in(fields: Fields) -> str:
    """The source of the diagram in the first file."""
    return msgspec.json.decode(fields["diagram"], type=str)


def context_in(fields: Fields) -> list[ContextCell]:
    """The cells of the file of the context."""
    cells = msgspec.json.decode(fields["cells"], type=list[dict[str, msgspec.Raw]])
    return [_struct(one, ContextCell) for one in cells]


# Writing

def _document(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(_json(fields), indent=2) + b"\n"


def _json(fields: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode({name: value for name, value in fields.items() if value is not msgspec.UNSET})


def _head(cell: ExecutionCell) -> dict[str, Any]:
    pipeline = About.of(cell).pipeline
    return {"treadle_history": FORMAT, "treadle": __version__, "name": cell.name, "id": pipeline.id,
            "version": pipeline.version, "start_timestamp": pipeline.start_timestamp,
            "config_hash": pipeline.config_hash}


def _context(cell: ExecutionCell, context: Iterable[ContextCell]) -> dict[str, Any]:
    about = About.of(cell)
    shared = {one.key: _raw(one.value) for one in of_bodies(context) if one.value is not None}
    return {"environment_vars": dict(about.environment_vars), "secret_store": about.secret_store,
            "active_plugins": list(about.active_plugins), **tree_of(shared)}


def _payload(raw: bytes | None, blob: str | None) -> Any:
    return {"$blob": blob, "file": f"{BLOBS}/{blob}"} if raw is None and blob is not None else _raw(raw)


def _raw(raw: bytes | None) -> msgspec.Raw | None:
    return None if raw is None else msgspec.Raw(raw)


def _error(error: ErrorInfo | None) -> Any:
    """An error, whatever text it has: halves of surrogate pairs, which a body may put there, are no JSON."""
    if error is None:
        return None
    data = msgspec.to_builtins(error)
    try:
        msgspec.json.encode(data)
    except UnicodeEncodeError:
        return json.loads(json.dumps(data).encode().replace(b"\\ud", b"\\\\ud"))
    return data


def _fields(cell: NodeState | ExecutionCell | ContextCell) -> dict[str, Any]:
    """A cell as it is, without what stands elsewhere in its file."""
    found: dict[str, Any] = {}
    node = isinstance(cell, NodeState)
    for name, value in msgspec.to_builtins(cell, builtin_types=(bytes,)).items():
        if isinstance(value, bytes):
            beside = node and name == "output" and cell.blob is not None  # type: ignore[union-attr]
            if beside or value == b"null" or _compact(value) != value:
                found[name + TEXT] = value.decode()
            elif not (node and name == "output"):
                found[name] = msgspec.Raw(value)
        elif name == "error":
            if value != _error(cell.error):  # type: ignore[union-attr]  # a cell of a context has none
                found[name + TEXT] = json.dumps(value)
            elif not node:
                found[name] = value
        elif not (node and name in _AT_TOP):
            found[name] = value
    return found


def _compact(raw: bytes) -> bytes:
    return msgspec.json.format(raw, indent=-1)


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")


# Reading

def _inner(fields: Fields, name: str) -> dict[str, msgspec.Raw]:
    return msgspec.json.decode(fields[name], type=dict[str, msgspec.Raw])


def _struct(fields: Fields, kind: type[_C]) -> _C:
    encoded = ENCODED[kind]
    values: dict[str, Any] = {}
    for name, raw in fields.items():
        field = name.removesuffix(TEXT)
        if field not in kind.__struct_fields__:
            raise ValueError(f"this Treadle does not know the field {name!r}: a newer one wrote it, or "
                             "somebody changed it")
        if field != name:
            text = msgspec.json.decode(raw, type=str)
            values[field] = text.encode() if field in encoded else json.loads(text)
        elif field not in values:
            values[field] = _compact(bytes(raw)) if field in encoded else msgspec.json.decode(raw)
    return msgspec.convert(values, kind, builtin_types=(bytes,))
