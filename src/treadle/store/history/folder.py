"""The folder of one execution: whole files or none, blobs, and where to find it."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TypeVar

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import StoreCorrupt, WrongKey
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.history import documents, names

logger = logging.getLogger("treadle.history")
_T = TypeVar("_T")

PIECE_BYTES = 1024 * 1024
"""How much of a blob is in memory, and sealed, at a time."""
SEALED = b"TRDLhist"
"""How encrypted files begin."""
_UNFINISHED = ".unfinished-"
_SIZE_BYTES = 8


class Seal(msgspec.Struct, frozen=True):
    """Through what the bytes of files go on their way to the disk and back. Both get the name of the file, so
    that what is sealed can be bound to it; `open` raises StoreError for what it can't open."""

    seal: Callable[[str, bytes], bytes]
    open: Callable[[str, bytes], bytes]


AS_IT_IS = Seal(lambda name, raw: raw, lambda name, raw: raw)
"""Nothing is sealed."""


class Folder:
    """Files in one folder. A file is there whole or not at all; every OSError is the caller's."""

    def __init__(self, path: Path, seal: Seal = AS_IT_IS, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self.path, self._seal, self._config = path, seal, config
        self._unfinished = str(path / f"{_UNFINISHED}{os.getpid()}")
        self._start = str(path) + os.sep

    @classmethod
    def make(cls, path: Path, first: str, raw: bytes, seal: Seal, config: TreadleConfig) -> Folder:
        """A new folder, there only with its first file. One that is there gets a number behind it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = cls(path.with_name(f"{_UNFINISHED}{os.getpid()}-{path.name}"[:250]), seal, config)
        unfinished.path.mkdir(exist_ok=True)
        unfinished.write(first, raw)
        name, number = path, 1
        while name.exists():
            number += 1
            name = path.with_name(f"{path.name}~{number}")
        unfinished.path.rename(name)
        return cls(name, seal, config)

    def write(self, name: str, raw: bytes) -> None:
        """Write a file, or another in its place."""
        handle = self._begin()
        try:
            left = memoryview(self._seal.seal(name, raw))
            while left:
                left = left[os.write(handle, left):]
        finally:
            os.close(handle)
        os.rename(self._unfinished, self._start + name)

    def _begin(self) -> int:
        """A fresh file: never one that is there, which may have another name as well."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            return os.open(self._unfinished, flags, 0o666)
        except FileExistsError:
            os.unlink(self._unfinished)
            return os.open(self._unfinished, flags, 0o666)

    def same(self, name: str, other: str) -> None:
        """Let `other` be the file `name`, too; a copy where that can't be, or where each is sealed for its
        name."""
        if self._seal is not AS_IT_IS:
            self.write(other, self.read(name))
            return
        self.remove(other)  # to rename a link to another of the same file does nothing, and leaves both
        try:
            os.link(self._start + name, self._start + other)
        except OSError:  # not every file system has links
            self.write(other, self.read(name))

    def read(self, name: str) -> bytes:
        """A file, opened. StoreCorrupt if it is too large to be ours."""
        with open(self._start + name, "rb") as file:
            raw = file.read(self._config.import_bytes_max + 1)
        if len(raw) > self._config.import_bytes_max:
            raise self._config.exceeded("import_bytes_max", f"{self.path / name} is larger")
        if self._seal is AS_IT_IS and raw.startswith(SEALED):
            raise WrongKey(f"{self.path / name} is encrypted with the key "
                           f"{raw[len(SEALED):][:8].decode(errors='replace')}: give it with "
                           "--state-encryption-key, or in $TREADLE_STATE_ENCRYPTION_KEY")
        return self._seal.open(name, raw)

    def node(self, name: str) -> NodeState:
        """The cell in an attempt's file. StoreCorrupt names the file."""
        return self._read(name, documents.node_in)

    def execution(self, name: str) -> ExecutionCell:
        """The cell in an execution's own file; alike."""
        return self._read(name, documents.execution_in)

    def source(self) -> str:
        """The source of the diagram; alike."""
        return self._read(names.INIT, documents.source_in)

    def context(self) -> list[ContextCell]:
        """What is shared in the execution; alike."""
        return self._read(names.CONTEXT, documents.context_in) if self.has(names.CONTEXT) else []

    def _read(self, name: str, what: Callable[[documents.Fields], _T]) -> _T:
        raw = self.read(name)
        try:
            return what(documents.read(raw))
        except KeyError as error:
            why = f"it has no field {error}"
        except (ValueError, UnicodeError, RecursionError) as error:
            why = str(error)
        raise StoreCorrupt(f"{self.path / name} is damaged, or no file of a history: {why}")

    @contextlib.contextmanager
    def replacing(self, path: Path) -> Iterator[IO[bytes]]:
        """A file that takes the place of another, on the disk itself, when the block ends well."""
        with os.fdopen(self._begin(), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        os.rename(self._unfinished, path)

    @staticmethod
    def framed(sealed: bytes) -> bytes:
        """A sealed piece as it stands in a file of a blob: see `sealed_pieces`."""
        return len(sealed).to_bytes(_SIZE_BYTES, "big") + sealed

    def has(self, name: str) -> bool:
        return os.path.exists(self._start + name)

    def remove(self, name: str) -> None:
        """Delete a file if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._start + name)

    def attempts(self) -> list[str]:
        """The names of the files of attempts, sorted."""
        return sorted(entry.name for entry in os.scandir(self.path) if names.is_attempt(entry.name))

    def tidy(self) -> None:
        """Delete what a killed writer left half-written."""
        for entry in self.path.glob(_UNFINISHED + "*"):
            entry.unlink(missing_ok=True)

    def sync(self) -> None:
        """Have the folder's entries on the disk itself."""
        entry = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)

    # Blobs

    def put_blob(self, digest: str, content: IO[bytes], seen: Callable[[bytes], None]) -> None:
        """Copy a blob here, a piece at a time; `seen` is shown each."""
        (self.path / names.BLOBS).mkdir(exist_ok=True)
        number = 0
        with os.fdopen(self._begin(), "wb") as out:
            while piece := content.read(PIECE_BYTES):
                seen(piece)
                if self._seal is AS_IT_IS:
                    out.write(piece)
                else:
                    out.write(self.framed(self._seal.seal(f"{digest} {number}", piece)))
                number += 1
        os.rename(self._unfinished, self._blob(digest))

    def has_blob(self, digest: str) -> bool:
        return os.path.exists(self._blob(digest))

    def blobs(self) -> list[str]:
        """The digests of the blobs that are here."""
        folder = self.path / names.BLOBS
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def pieces(self, digest: str) -> Iterator[bytes]:
        """The content of a blob; StoreCorrupt at its end if it isn't what its name says."""
        found, number = hashlib.sha256(), 0
        with open(self._blob(digest), "rb") as file:
            plain = self._seal is AS_IT_IS
            for piece in iter(lambda: file.read(PIECE_BYTES), b"") if plain else sealed_pieces(file):
                if not plain:
                    piece = self._seal.open(f"{digest} {number}", piece)
                number += 1
                found.update(piece)
                yield piece
        if found.hexdigest() != digest:
            raise StoreCorrupt(f"{self._blob(digest)} is damaged: get another copy of it")

    def blob_size(self, digest: str) -> int:
        """Bytes of a blob's content."""
        if self._seal is AS_IT_IS:
            return os.stat(self._blob(digest)).st_size
        return sum(map(len, self.pieces(digest)))

    def open_blob(self, digest: str) -> IO[bytes]:
        """A blob to read from its beginning to its end; see `pieces`."""
        return io.BufferedReader(_Pieces(self.pieces(digest)), PIECE_BYTES)

    def _blob(self, digest: str) -> str:
        return f"{self._start}{names.BLOBS}{os.sep}{digest}"


def sealed_pieces(file: IO[bytes]) -> Iterator[bytes]:
    """The sealed pieces in a file of a blob."""
    while size := file.read(_SIZE_BYTES):
        yield file.read(min(int.from_bytes(size, "big"), 2 * PIECE_BYTES))


class _Pieces(io.RawIOBase):
    """Pieces as a file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, says the base
        if not self._rest:
            self._rest = next(self._pieces, b"")
        piece, self._rest = self._rest[:len(buffer)], self._rest[len(buffer):]
        buffer[:len(piece)] = piece
        return len(piece)


def find_histories(folder: Path) -> list[Path]:
    """The folders of executions in a folder, the newest first."""
    return sorted((path for path in folder.iterdir()
                   if not path.name.startswith(".") and (path / names.INIT).is_file()), reverse=True)


def folder_of(parent: Path, execution_id: str, created_at: float | None, seal: Seal,
              config: TreadleConfig) -> Folder | None:
    """The folder of an execution that was begun earlier."""
    wanted = names.of_execution(execution_id)
    for path in parent.iterdir() if parent.is_dir() else ():
        name = path.name if path.name.endswith("_" + wanted) else path.name.rpartition("~")[0]
        if name.endswith("_" + wanted) and not name.startswith(".") and (path / names.INIT).is_file():
            found = Folder(path, seal, config)
            try:
                cell = found.execution(names.INIT)
            except StoreCorrupt as error:
                logger.warning("the history of execution %s begins anew: %s", execution_id, error)
                continue
            if cell.execution_id == execution_id and cell.created_at == created_at:
                return found
    return None
