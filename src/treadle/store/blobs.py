"""Large blobs as content-addressed files beside the store, durable before the cell that names them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from treadle.errors import StoreCorrupt


class BlobFiles:
    """Files by SHA-256 in one folder, two hex digits a sub-folder. The folder is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def put(self, digest: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file, whole or in pieces, and its folder's entry to the disk itself. One that is there is
        made to look new: a prune leaves it alone. StoreCorrupt if pieces aren't what the digest says."""
        path = self._path(digest)
        try:
            os.utime(path)
        except FileNotFoundError:
            self._write(path, [content] if isinstance(content, bytes) else _checked(digest, content))
        # Also for a file that is there: whoever wrote it may have been killed before it came this far.
        for folder in (path.parent, self.folder, self.folder.parent):
            entry = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(entry)
            finally:
                os.close(entry)

    def _write(self, path: Path, pieces: Iterable[bytes]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def open(self, digest: str) -> IO[bytes]:
        """The content as a file to read; KeyError if there is none. It is not compared with its name."""
        try:
            return self._path(digest).open("rb")
        except FileNotFoundError:
            raise KeyError(digest) from None

    def get(self, digest: str) -> bytes:
        """The content; KeyError if there is none, StoreCorrupt if it isn't what its name says."""
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreCorrupt(f"the blob file {self._path(digest)} is damaged: restore it from a copy")
        return content

    # Pruning

    def has(self, digest: str) -> bool:
        return self._path(digest).exists()

    def size_of(self, digest: str) -> int:
        """Bytes on the disk; 0 if there is no such file."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return 0

    def digests(self) -> Iterator[str]:
        """What there are files of."""
        return (path.name for path in self._files() if len(path.name) == 64)

    def clean(self, before: float) -> None:
        """Delete what writers left behind that were killed before that instant."""
        for path in self._files():
            if len(path.name) != 64 and path.stat().st_mtime < before:
                path.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of all files together."""
        total = 0
        for path in self._files():
            with contextlib.suppress(FileNotFoundError):
                total += path.stat().st_size
        return total

    def _files(self) -> Iterator[Path]:
        return (path for path in self.folder.glob("*/*") if path.is_file())

    def remove(self, digest: str, before: float) -> bool:
        """Delete a file that was last put before that instant; False if it is younger or not there.

        Between the look at its time and its end somebody may put it again, who would find it there and go
        on: so it is moved away first, looked at once more, and moved back.
        """
        path = self._path(digest)
        aside = path.with_name(f"{digest}.gone")
        try:
            if path.stat().st_mtime >= before:
                return False
            os.replace(path, aside)
            if aside.stat().st_mtime < before:
                aside.unlink()
                return True
            os.replace(aside, path)
        except FileNotFoundError:
            pass
        return False


def _checked(digest: str, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The pieces as they are, and StoreCorrupt at their end if they aren't what the digest says."""
    found = hashlib.sha256()
    for piece in pieces:
        found.update(piece)
        yield piece
    if found.hexdigest() != digest:
        raise StoreCorrupt(f"the blob {digest} that was to be written is damaged")
