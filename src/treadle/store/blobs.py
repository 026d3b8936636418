"""Large blobs as content-addressed files beside the store, durable before the cell that names them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from treadle.errors import StoreCorrupt
from treadle.state.blob import Place, Writer

YOUNG_S = 600.0
"""How long a blob file counts as being on its way into a cell: far longer than any batch takes."""
SETTLE_S = 1.0
"""How long a prune waits for what a running engine has read and is about to write: a result from the cache,
or from an execution that is forked, which was deleted meanwhile."""
_GONE = ".gone"


class BlobFiles:
    """The files of a place, as a store needs them: written by their digest, read, counted, collected."""

    def __init__(self, place: Place) -> None:
        self.place, self.folder = place, place.folder
        self._path = place.path

    def put(self, digest: str, content: bytes | Iterable[bytes]) -> None:
        """Write a file, whole or in pieces, and its folder's entry to the disk itself. One that is there is
        made to look new: a prune leaves it alone. StoreCorrupt if it isn't what the digest says."""
        try:
            os.utime(self._path(digest))
        except FileNotFoundError:
            with Writer(self.place, limited=False) as writer:
                for piece in [content] if isinstance(content, bytes) else content:
                    writer.write(piece)
                writer.finish(digest)
        else:
            self.place.sync(digest)  # whoever wrote it may have been killed before it came this far

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
        """Delete what writers left behind that were killed (see `Place.tidy`), and put back what a `remove`
        that was killed had moved away: somebody may have put it again."""
        self.place.tidy(before)
        for path in self.folder.glob(f"*/*{_GONE}"):
            os.replace(path, path.with_suffix(""))

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
        aside = path.with_name(digest + _GONE)
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
