"""From a file to a store."""

from __future__ import annotations

import errno
import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, NoReturn, Protocol, TypeVar

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import (
    Corruption,
    InvalidInput,
    NoSuchExecution,
    StoreCorrupt,
    StoreTooNew,
    TreadleError,
)
from treadle.ids import check_execution_id, parse_iteration, parse_path
from treadle.state.cell import CellKey, ContextCell, ExecutionCell, NodeState, join, join_cells
from treadle.state.context import space_of
from treadle.store.base import Arriving, LogLine, Signal, Store
from treadle.store.transfer.layout import (
    BLOBS,
    CELLS,
    CONTEXT,
    DIAGRAM,
    DIGEST,
    ENCODED,
    EXECUTION,
    FORMAT,
    HEADER,
    LOGS,
    PIECE_BYTES,
    SIGNALS,
    Header,
    Names,
    blobs_of,
    names_in_values,
)

_UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OverflowError, KeyError,
               IndexError)
"""What the zip library raises for a file that is damaged."""
_T = TypeVar("_T", bound=msgspec.Struct)


class Imported(msgspec.Struct, frozen=True):
    """What became of a file. `new`: it was written. `same`: the store had it already, cell by cell. `older`:
    what the store has is newer, and stays."""

    header: Header
    outcome: Literal["new", "same", "older"]


class Found(Protocol):
    """An execution that was read and can be brought into a store."""

    header: Header
    cell: ExecutionCell
    cells: list[NodeState]
    source: str
    signals: list[Signal]
    logs: list[LogLine]
    context: list[ContextCell]

    def blobs(self) -> list[Arriving]:
        """The blobs, each with a way to open it."""


class Archive:
    """A file that was read and compared with its header, to the last byte: what it says can be used."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, config: TreadleConfig) -> None:
        self._path, self._zip, self._config = path, archive, config
        self._names = Names(set())
        self.header = self._header()
        self._check_entries()
        self.cell = self._cell()
        self.cells = list(self._cells())
        self.source = self._text(DIAGRAM).decode()
        self.signals = list(self._lines(SIGNALS, Signal))
        self.logs = list(self._lines(LOGS, LogLine))
        self.context = list(self._context())
        self._check()

    def blobs(self) -> list[Arriving]:
        """The blobs, each with a way to open it."""
        return [Arriving(name.removeprefix(BLOBS), entry.bytes, partial(self._zip.open, name))
                for name, entry in self.header.entries.items() if name.startswith(BLOBS)]

    def _header(self) -> Header:
        names = [one.filename for one in self._zip.infolist()]
        if HEADER not in names:
            raise _foreign(self._path)
        with self._zip.open(HEADER) as file:
            raw = file.read(self._config.import_bytes_max + 1)
        self._bounded(len(raw))
        version = msgspec.json.decode(raw, type=dict[str, Any]).get("treadle_execution")
        if type(version) is int and version > FORMAT:
            raise self._too_new(f"format {version}, this one reads {FORMAT}")
        if version != FORMAT:
            raise _foreign(self._path)
        header = msgspec.json.decode(raw, type=Header)
        check_execution_id(header.execution_id)
        wanted = {HEADER, EXECUTION, CELLS, DIAGRAM, SIGNALS, LOGS} | ({CONTEXT} & set(names))
        others = [name for name in names if name not in wanted]
        if (sorted(names) != sorted({*header.entries, HEADER}) or len(names) != len(wanted) + len(others)
                or not all(name.startswith(BLOBS) and DIGEST.fullmatch(name[len(BLOBS):].encode())
                           for name in others)):
            self._damaged("its entries are not those of its header")
        return header

    def _check_entries(self) -> None:
        """Read everything once: sizes and digests are those of the header."""
        self._bounded(sum(entry.bytes for name, entry in self.header.entries.items()
                          if not name.startswith(BLOBS)))
        for name, entry in self.header.entries.items():
            self._names.begin()
            digest, left = hashlib.sha256(), entry.bytes
            with self._zip.open(name) as file:
                while left >= 0 and (piece := file.read(min(PIECE_BYTES, left + 1))):
                    digest.update(piece)
                    if name.startswith(BLOBS):
                        self._names.see(piece)
                    left -= len(piece)
            named = name.removeprefix(BLOBS) if name.startswith(BLOBS) else entry.sha256
            if left != 0 or not digest.hexdigest() == entry.sha256 == named:
                self._damaged(f"its entry {name} is not what its header says")

    def _text(self, name: str) -> bytes:
        return self._zip.read(name)

    def _cell(self) -> ExecutionCell:
        cell = self._read(self._text(EXECUTION), ExecutionCell)
        for encoded in (cell.inputs, cell.options):
            msgspec.json.decode(encoded, type=dict[str, Any])
        return cell

    def _cells(self) -> Iterator[NodeState]:
        for cell in self._lines(CELLS, NodeState):
            parse_path(cell.node_id)
            parse_iteration(cell.iteration)
            yield cell

    def _context(self) -> Iterator[ContextCell]:
        for cell in self._lines(CONTEXT, ContextCell) if CONTEXT in self.header.entries else ():
            space_of(cell.key)
            yield cell

    def _lines(self, name: str, kind: type[_T]) -> Iterator[_T]:
        with self._zip.open(name) as lines:
            for line in lines:
                yield self._read(line, kind)

    def _read(self, line: bytes, kind: type[_T]) -> _T:
        data = json.loads(line)  # the standard library's, which reads halves of surrogate pairs
        if not isinstance(data, dict):
            self._damaged("a line of it is no map")
        unknown = sorted(set(data).difference(kind.__struct_fields__))
        if unknown:
            raise self._too_new(f"this one does not know the field {unknown[0]!r}")
        for name in ENCODED.get(kind, ()):
            if isinstance(data.get(name), str):
                data[name] = data[name].encode()
        return msgspec.convert(data, kind, builtin_types=(bytes,))

    def _check(self) -> None:
        """What the parts say of each other."""
        mine = self.header.execution_id
        keys = {cell.key for cell in self.cells}
        found, certain = names_in_values(self.cell, self.cells, self.signals, self.context)
        held = blobs_of(self.cell, self.cells) | certain
        named = held | self._names.found | found
        there = {blob.digest for blob in self.blobs()}
        ids = {self.cell.execution_id, *(one.execution_id for one in self.cells),
               *(one.execution_id for one in self.signals), *(one.execution_id for one in self.logs),
               *(one.execution_id for one in self.context)}
        if ids != {mine}:
            self._damaged("it has parts of another execution")
        shared = {one.key for one in self.context}
        if len(keys) != len(self.cells) or self.header.cells != len(self.cells) or (
                len(shared) != len(self.context)):
            self._damaged("its cells are not those of its header")
        if not held <= there <= named:
            self._damaged("its blobs are not those that its cells name")
        drawn = hashlib.blake2b(self.source.encode(), digest_size=16).hexdigest()
        if self.source and drawn != self.cell.diagram:
            self._damaged("its diagram is not the one that its execution names")

    def _bounded(self, size: int) -> None:
        if size > self._config.import_bytes_max:
            raise self._config.exceeded("import_bytes_max", f"{self._path} unpacks to more than "
                                        f"{self._config.import_bytes_max} bytes beside its blobs")

    def _too_new(self, why: str) -> StoreTooNew:
        return StoreTooNew(f"{self._path} was written by a newer Treadle ({why}): upgrade Treadle")

    def _damaged(self, why: str) -> NoReturn:
        raise _damaged(self._path, why)


@contextmanager
def open_export(path: str | Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> Iterator[Archive]:
    """Read an export and compare all of it with its header. StoreCorrupt if it is damaged or cut off,
    StoreTooNew, InvalidInput if it is something else, LimitExceeded, OSError."""
    where = Path(path)
    with open(where, "rb") as file:
        if file.read(2) != b"PK":
            raise _foreign(where)
        try:
            found = Archive(where, zipfile.ZipFile(file), config)
        except TreadleError:
            raise
        except (*_UNREADABLE, OSError) as error:
            if isinstance(error, OSError) and error.errno != errno.EINVAL:  # to seek before the beginning
                raise
            raise _damaged(where, str(error) or type(error).__name__) from error
        yield found


def import_execution(store: Store, path: str | Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> Imported:
    """Write the execution of an export to a store: all of it or nothing, under its own id, held by nobody.

    Whoever claims it next, a resume for one, gets an epoch above all its cells'. If the store has the
    execution already, law 1 decides: where the join of both is what the store has, there is nothing to do.
    InvalidInput where it is not. Otherwise see `open_export`.
    """
    with open_export(path, config=config) as found:
        return bring_in(store, found)


def bring_in(store: Store, found: Found) -> Imported:
    """The same with an export that is open, or a history that was read."""
    try:
        there = store.load(found.header.execution_id)
    except NoSuchExecution:
        store.adopt(found.cell, found.cells, found.source, signals=found.signals, blobs=found.blobs(),
                    logs=found.logs, context=found.context)
        return Imported(found.header, "new")
    return Imported(found.header, _compared(store, found, *there))


def _compared(store: Store, found: Found, cell: ExecutionCell,
              cells: Sequence[NodeState]) -> Literal["same", "older"]:
    where = store.url.removeprefix("sqlite:///")
    name = f"{where} has the execution {cell.execution_id} already, "
    aside = "nothing was written. To have both, import it into another store: --store OTHER.db"
    mine: dict[CellKey, NodeState] = {one.key: one for one in cells}
    theirs = {one.key: one for one in found.cells}
    here = {one.key: one for one in store.context(cell.execution_id)}
    there = {one.key: one for one in found.context}
    try:
        joined, whole = join(mine, theirs), join_cells(cell, found.cell)
        shared = join(here, there)
    except Corruption:
        raise InvalidInput(f"{name}and both went on after they were copied: {aside}") from None
    if (joined, whole, shared) == (mine, cell, here):
        return "same" if (mine, cell, here) == (theirs, found.cell, there) else "older"
    newer = sum(joined[key] != mine.get(key) for key in joined)
    newer += sum(shared[name] != here.get(name) for name in shared)
    what = f"{newer} cell{'s' if newer != 1 else ''}" if newer else "its state"
    if (joined, whole, shared) == (theirs, found.cell, there):
        raise InvalidInput(f"{name}and the file is newer ({what}): {aside}")
    raise InvalidInput(f"{name}and each has something newer than the other ({what} in the file): {aside}")


def _foreign(path: Path) -> InvalidInput:
    return InvalidInput(f"{path} is no export of an execution: `treadle export ID` writes one")


def _damaged(path: Path, why: str) -> StoreCorrupt:
    return StoreCorrupt(f"{path} is damaged or cut off ({why}): nothing was imported; export the execution "
                        "again, or get another copy of the file")
