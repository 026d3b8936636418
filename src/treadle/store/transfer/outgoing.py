"""From a store to a file."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Iterable, Iterator
from typing import IO

import msgspec

from treadle import __version__
from treadle.errors import StoreCorrupt, StoreError
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.base import LogLine, Signal, Store
from treadle.store.transfer.layout import (
    BLOBS,
    CELLS,
    CONTEXT,
    DIAGRAM,
    EXECUTION,
    FORMAT,
    HEADER,
    LOGS,
    PIECE_BYTES,
    SIGNALS,
    Entry,
    Header,
    Names,
    blobs_of,
    line_of,
    names_in_values,
)

SNAPSHOT_TRIES = 10
"""How often an execution is read again whose signals change meanwhile."""


def export_execution(store: Store, execution_id: str, file: IO[bytes]) -> Header:
    """Write an execution as it is now to a binary file. An unfinished one is a snapshot: what has run until
    now. NoSuchExecution; StoreCorrupt if the store lacks a blob."""
    cell, cells, signals, context = _snapshot(store, execution_id)
    owner = store.summary(execution_id).owner
    try:
        source = store.source(cell.diagram)
    except KeyError:
        source = ""  # made without a diagram, by a state manager
    entries: dict[str, Entry] = {}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        def put(name: str, pieces: Iterable[bytes], names: Names | None = None) -> None:
            digest, size = hashlib.sha256(), 0
            with archive.open(_info(name), "w", force_zip64=True) as out:
                for piece in pieces:
                    digest.update(piece)
                    if names is not None:
                        names.see(piece)
                    size += len(piece)
                    out.write(piece)
            entries[name] = Entry(size, digest.hexdigest())

        put(EXECUTION, [line_of(cell)])
        put(CELLS, (line_of(one) + b"\n" for one in cells))
        put(DIAGRAM, [source.encode()])
        put(SIGNALS, (line_of(one) + b"\n" for one in signals))
        put(LOGS, (line_of(one) + b"\n" for one in _logs(store, execution_id)))
        if context:
            put(CONTEXT, (line_of(one) + b"\n" for one in context))
        found, certain = names_in_values(cell, cells, signals, context)
        names = Names(found)
        for digest in _digests(store, blobs_of(cell, cells), certain, names):
            names.begin()
            put(BLOBS + digest, _pieces_of(store, digest), names)
            if entries[BLOBS + digest].sha256 != digest:
                raise StoreCorrupt(f"the blob {digest} of execution {execution_id} is damaged in {store.url}")
        header = Header(FORMAT, cell.execution_id, cell.name, cell.status.value, len(cells), time.time(),
                        __version__, "" if owner is None else str(owner), entries)
        archive.writestr(_info(HEADER), msgspec.json.encode(header))
    return header


def _snapshot(store: Store, execution_id: str) -> tuple[
        ExecutionCell, list[NodeState], list[Signal], list[ContextCell]]:
    """An execution's cells, the signals that these have not consumed, and no older a context."""
    for _ in range(SNAPSHOT_TRIES):
        before = store.signals([execution_id])
        cell, cells = store.load(execution_id)
        if store.signals([execution_id]) == before:  # none came and none was consumed meanwhile
            return cell, cells, before, store.context(execution_id)
    raise StoreError(f"execution {execution_id} gets signals faster than it can be read: try again")


def _logs(store: Store, execution_id: str) -> Iterator[LogLine]:
    lines = store.new_logs(execution_id, 0)
    while lines:
        yield from lines
        lines = store.new_logs(execution_id, lines[-1].id)


def _digests(store: Store, held: set[str], certain: set[str], names: Names) -> Iterator[str]:
    """The blobs that hold outputs; then those that a value names (`certain`), or one of these blobs: `names`
    grows while they are read."""
    yield from sorted(held)
    seen = set(held)
    while more := names.found - seen:
        seen |= more
        for digest in sorted(more):
            try:
                store.open_blob(digest).close()
            except KeyError:
                if digest not in certain:
                    continue  # it only looks like one
            yield digest


def _pieces_of(store: Store, digest: str) -> Iterator[bytes]:
    try:
        content = store.open_blob(digest)
    except KeyError:
        raise StoreCorrupt(f"{store.url} has no blob {digest}, which a cell names: was it pruned, or copied "
                           "without its files?") from None
    with content:
        while piece := content.read(PIECE_BYTES):
            yield piece


def _info(name: str) -> zipfile.ZipInfo:
    """An entry without a time of its own, so that equal executions make equal entries."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    return info
