"""Content that is too large for memory: a `Blob` names it, a `Place` keeps it as files by their SHA-256.

A value that holds a blob holds the digest, so it is small wherever it goes: into a cell, to another process,
into an export. The file is on the disk before there is a blob that names it.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1024 * 1024
"""How much of a blob is in memory at a time."""

Source = str | os.PathLike[str] | bytes | IO[bytes] | Iterable[bytes]
"""What a blob is made of: the path of a file, its content, an open file, or pieces."""


@dataclass(frozen=True)
class Blob:
    """Bytes that lie beside the store. Equal blobs have equal content and name."""

    digest: str  # SHA-256, in hex
    size: int  # in bytes
    name: str = ""  # of the file that it was made of
    _place: Place | None = field(default=None, compare=False, repr=False)

    def open(self) -> IO[bytes]:
        """The content as a file to read from. FileNotFoundError if no open store has it."""
        return self.path().open("rb")

    def read(self) -> bytes:
        """The whole content."""
        return self.path().read_bytes()

    def chunks(self) -> Iterator[bytes]:
        """The content, a megabyte at a time."""
        with self.open() as file:
            yield from _pieces(file)

    def path(self) -> Path:
        """The file itself, to be read only: other executions may use the same."""
        place = self._place or find(self.digest)
        path = None if place is None else place.path(self.digest)
        if path is None or not path.exists():
            raise FileNotFoundError(f"no open store has the blob {self.digest} ({self.name or 'no name'}, "
                                    f"{self.size} bytes): open the store of the execution that made it; if "
                                    "it is open, was it pruned, or copied without its folder of blobs?")
        return path


class Place:
    """A folder of blobs, two hex digits a sub-folder. It is made when it is needed, and is known from then on
    to the blobs of this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        _places[id(self)] = self

    @classmethod
    def temporary(cls) -> Place:
        """One that ends with the object that is returned."""
        folder = tempfile.mkdtemp(prefix="treadle-blobs-")
        place = cls(Path(folder))
        weakref.finalize(place, shutil.rmtree, folder, ignore_errors=True)
        return place

    def path(self, digest: str) -> Path:
        """Where a blob's file is, if it is there."""
        return self.folder / digest[:2] / digest

    def put(self, source: Source, name: str = "") -> Blob:
        """Copy content here, a piece at a time; it is on the disk itself when this returns. OSError."""
        if isinstance(source, bytes):
            return self._put([source], name)
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            with path.open("rb") as file:
                return self._put(_pieces(file), name or path.name)
        return self._put(_pieces(source) if isinstance(source, io.IOBase) else source, name)

    def _put(self, pieces: Iterable[bytes], name: str) -> Blob:
        with Writer(self, name) as writer:
            for piece in pieces:
                writer.write(piece)
            return writer.finish()


class Writer:
    """Content on its way into a place, for those who get it in pieces. Leaving the block before `finish`
    leaves nothing. OSError."""

    def __init__(self, place: Place, name: str = "") -> None:
        self.place, self.name, self.size = place, name, 0
        self._found = hashlib.sha256()
        # In a sub-folder, where a prune finds what a killed process leaves.
        new = place.folder / "new"
        new.mkdir(parents=True, exist_ok=True)
        handle, self._temporary = tempfile.mkstemp(dir=new)
        self._file = os.fdopen(handle, "wb")
        self._done = False

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._done:
            # First: closing writes what is buffered, and may fail on a full disk.
            os.unlink(self._temporary)
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, piece: bytes | bytearray) -> None:
        self._found.update(piece)
        self.size += len(piece)
        self._file.write(piece)

    def finish(self) -> Blob:
        """The blob, once its file is on the disk itself."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        digest = self._found.hexdigest()
        path = self.place.path(digest)
        path.parent.mkdir(exist_ok=True)
        # Also over a file that is there: thereby it is new, and a prune leaves it alone.
        os.replace(self._temporary, path)
        self._done = True
        for folder in (path.parent, self.place.folder, self.place.folder.parent):
            _sync(folder)
        return Blob(digest, self.size, self.name, self.place)


_places: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()


def find(digest: str) -> Place | None:
    """A place of this process that has a blob; any will do, since equal digests are equal contents."""
    for reference in _places.valuerefs():  # a list of its own: other threads may add to the dictionary
        place = reference()
        if place is not None and place.path(digest).exists():
            return place
    return None


def fields_of(blob: Blob) -> dict[str, str | int]:
    """What is written down of a blob."""
    return {"digest": blob.digest, "size": blob.size, "name": blob.name}


def blob_of(fields: dict[str, str | int]) -> Blob:
    """The blob that `fields_of` wrote down, bound to its place if that is known already."""
    digest = str(fields["digest"])
    return Blob(digest, int(fields["size"]), str(fields["name"]), find(digest))


def _pieces(file: IO[bytes] | io.IOBase) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece


def _sync(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
