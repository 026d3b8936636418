"""Writing an execution that comes from another store."""

from __future__ import annotations

from collections.abc import Sequence

import apsw
import msgspec

from treadle import failpoints
from treadle.config import DEFAULT_CONFIG
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.base import Arriving, LogLine, Signal
from treadle.store.blobs import BlobFiles
from treadle.store.packing import pack
from treadle.store.sqlite.connection import queries
from treadle.store.sqlite.rows import cells_json, context_json, logs_json, new_execution_row, packed
from treadle.store.sqlite.writing import BatchWriter

_PIECE = 500
"""Cells that one statement writes."""


def adopt(writer: BatchWriter, files: BlobFiles, cell: ExecutionCell, cells: Sequence[NodeState], source: str,
          signals: Sequence[Signal], blobs: Sequence[Arriving], logs: Sequence[LogLine],
          context: Sequence[ContextCell]) -> None:
    """See `treadle.store.base.Store.adopt`."""
    outputs = {cell.blob, *(one.blob for one in cells)}  # others are those that values name: always files
    large = {blob.digest for blob in blobs
             if blob.size > DEFAULT_CONFIG.blob_file_bytes_max or blob.digest not in outputs}
    for blob in blobs:  # files first, and outside of the transaction: a copy may take its time
        if blob.digest in large:
            files.put(blob.digest, blob.pieces())
    with writer.transaction(patient=True) as connection:
        _put_execution(connection, cell, [*cells, *context], source)
        _put_blobs(connection, blobs, large)
        _put_rest(connection, cells, signals, logs, context)
        if failpoints.armed:
            failpoints.hit("statement.after")


def _put_execution(connection: apsw.Connection, cell: ExecutionCell,
                   cells: Sequence[NodeState | ContextCell], source: str) -> None:
    sql = queries()
    made = connection.execute(
        sql["insert_executions"] + " ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id",
        {"owner": None, "expires_at": None,
         "created": msgspec.json.encode([new_execution_row(cell)]).decode()}).fetchall()
    if not made:
        raise ValueError(f"there is an execution {cell.execution_id!r} already")
    epoch = max([cell.epoch, *(one.epoch for one in cells)])
    connection.execute(sql["take_lease"], (epoch, None, None, cell.execution_id))
    if source:
        connection.execute(sql["put_diagram"], (cell.diagram, packed(source)))


def _put_blobs(connection: apsw.Connection, blobs: Sequence[Arriving], large: set[str]) -> None:
    for blob in blobs:
        if failpoints.armed:
            failpoints.hit("blob.before")
        content = None if blob.digest in large else pack(blob.read())
        connection.execute(queries()["put_blob"],
                           (blob.digest, blob.size if content is None else len(content), content))


def _put_rest(connection: apsw.Connection, cells: Sequence[NodeState], signals: Sequence[Signal],
              logs: Sequence[LogLine], context: Sequence[ContextCell]) -> None:
    sql = queries()
    for start in range(0, len(cells), _PIECE):
        connection.execute(sql["upsert_cells"], {"cells": cells_json(cells[start:start + _PIECE])})
    for signal in signals:
        connection.execute(sql["put_signal"], (
            signal.execution_id, signal.kind, signal.name, signal.node_id, signal.iteration,
            signal.payload.decode(), signal.at))
    if context:
        connection.execute(sql["upsert_context"], {"context": context_json(context)})
    if logs:
        connection.execute(sql["insert_logs"], {"logs": logs_json(logs)})
