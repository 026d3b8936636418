"""Faults to test against: a file that another program has locked, a disk that loses what was not synced, a
disk that is full, owners that are dead.

The places at which a process can be killed are in `treadle.failpoints`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw
import msgspec

from treadle.store.base import Owner
from treadle.store.owner import this_owner


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Another program holds a SQLite file's write lock."""
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


class LossyVFS(apsw.VFS):
    """A SQLite VFS that remembers what each file held when it was last synced:

        disk = LossyVFS("lossy")
        store = SqliteStore(path, vfs="lossy")
        ...
        disk.power_loss(path, into=other_folder)  # the files as a power cut at this instant would leave them

    A file that exists when it is first opened counts as synced. The store itself goes on.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, "")
        self.synced: dict[str, bytes] = {}

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        if path is not None and path not in self.synced and Path(path).exists():
            self.synced[path] = Path(path).read_bytes()
        return _LossyFile(self, path, name, flags)

    def xDelete(self, name: str, syncdir: bool) -> None:
        super().xDelete(name, syncdir)
        self.synced.pop(name, None)

    def power_loss(self, path: str | Path, into: Path) -> Path:
        """Copy what the disk would hold of a database after a power cut now; returns the copy's path."""
        path = Path(path).resolve()
        into.mkdir(parents=True, exist_ok=True)
        for suffix in ("", "-wal"):  # -shm is rebuilt
            content = self.synced.get(str(path) + suffix)
            if content is not None:
                (into / (path.name + suffix)).write_bytes(content)
        return into / path.name


class _LossyFile(apsw.VFSFile):
    def __init__(self, disk: LossyVFS, path: str | None, name: str | apsw.URIFilename | None,
                 flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._disk, self._path = disk, path

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        if self._path is not None:
            self._disk.synced[self._path] = Path(self._path).read_bytes()


def dead_owner() -> Owner:
    """An owner that ran on this host and has certainly ended: its pid now belongs to a younger process."""
    me = this_owner()
    return msgspec.structs.replace(me, started=me.started - 1, token="dead")
