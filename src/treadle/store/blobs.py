"""Large blobs as content-addressed files beside the store, durable before the cell that names them."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from treadle.errors import StoreCorrupt


class BlobFiles:
    """Files by SHA-256 in one folder, two hex digits a sub-folder. The folder is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest

    def put(self, digest: str, content: bytes) -> None:
        """Write a file and its folder's entry to the disk itself; nothing to do if it is there."""
        path = self._path(digest)
        if not path.exists():
            self._write(path, content)
        # Also for a file that is there: whoever wrote it may have been killed before it came this far.
        for folder in (path.parent, self.folder, self.folder.parent):
            entry = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(entry)
            finally:
                os.close(entry)

    def _write(self, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(name, path)
        except BaseException:
            os.unlink(name)
            raise

    def get(self, digest: str) -> bytes:
        """The content; KeyError if there is none, StoreCorrupt if it isn't what its name says."""
        try:
            content = self._path(digest).read_bytes()
        except FileNotFoundError:
            raise KeyError(digest) from None
        if hashlib.sha256(content).hexdigest() != digest:
            raise StoreCorrupt(f"the blob file {self._path(digest)} is damaged: restore it from a copy")
        return content
