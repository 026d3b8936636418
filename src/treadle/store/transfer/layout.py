"""What stands where in the file of an execution."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Final

import msgspec

from treadle.state.blob import named_in
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.base import LogLine, Signal

FORMAT: Final = 1
"""What `treadle_execution` says in the header of a file."""
HEADER, EXECUTION, CELLS, DIAGRAM, SIGNALS, LOGS = (
    "treadle.json", "execution.json", "cells.jsonl", "diagram.txt", "signals.jsonl", "logs.jsonl")
CONTEXT = "context.jsonl"
"""Only there if something was written to the shared context."""
BLOBS = "blobs/"
PIECE_BYTES = 1024 * 1024
"""How much of a blob is in memory at a time."""
DIGEST = re.compile(rb"[0-9a-f]{64}")
"""The SHA-256 of a blob."""
MARKED = b"$treadle"
"""Stands in every encoded value that isn't plain JSON."""
ENCODED: Mapping[type, tuple[str, ...]] = {
    NodeState: ("output", "meta", "request", "items"), ExecutionCell: ("inputs", "output", "options"),
    Signal: ("payload",), ContextCell: ("value",)}
"""The fields that are bytes in a struct, and texts in a file."""


class Entry(msgspec.Struct, frozen=True):
    """One entry of the zip beside the header, unpacked."""

    bytes: int
    sha256: str


class Header(msgspec.Struct, frozen=True):
    """The entry `treadle.json`: which execution this is, and what else the file must hold."""

    treadle_execution: int
    execution_id: str
    name: str
    status: str
    cells: int
    exported_at: float
    treadle: str  # the version that wrote it
    owner: str  # who ran it at that time; "" for nobody
    entries: dict[str, Entry]


def blobs_of(cell: ExecutionCell, cells: Iterable[NodeState]) -> set[str]:
    """The digests of the blobs that hold an execution's outputs."""
    return {blob for blob in (cell.blob, *(one.blob for one in cells)) if blob is not None}


def names_in_values(cell: ExecutionCell, cells: Iterable[NodeState], signals: Iterable[Signal],
                    context: Iterable[ContextCell]) -> tuple[set[str], set[str]]:
    """What may be a blob's digest in an execution's values, since such a value isn't plain JSON; and what of
    it certainly is one."""
    found: set[str] = set()
    certain: set[str] = set()
    values = chain((cell.inputs, cell.output), (signal.payload for signal in signals),
                   (one.value for one in context), chain.from_iterable(
                       (one.output, one.items, one.meta, one.request) for one in cells))
    for raw in values:
        if raw is not None and MARKED in raw:
            found.update(digest.decode() for digest in DIGEST.findall(raw))
            certain |= named_in(raw)
    return found, certain


class Names:
    """Looks at a blob as it passes by in pieces; `found` is what may be digests of other blobs in it."""

    def __init__(self, found: set[str]) -> None:
        self.found = found
        self.begin()

    def begin(self) -> None:
        """Another blob comes."""
        self._tail: bytes | None = None
        self._plain = False

    def see(self, piece: bytes) -> None:
        if self._tail is None:
            self._plain, self._tail = MARKED not in piece[:64], b""
        if not self._plain:
            piece = self._tail + piece
            self.found.update(digest.decode() for digest in DIGEST.findall(piece))
            self._tail = piece[-63:]


def line_of(value: NodeState | ExecutionCell | ContextCell | Signal | LogLine) -> bytes:
    """A struct as one line of JSON; what is encoded in it (outputs, inputs …) is a text there."""
    data = msgspec.to_builtins(value, builtin_types=(bytes,))
    plain = {key: one.decode() if isinstance(one, bytes) else one for key, one in data.items()}
    try:
        return msgspec.json.encode(plain)
    except UnicodeEncodeError:  # halves of surrogate pairs, as a body may print them
        return json.dumps(plain).encode()
