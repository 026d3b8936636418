"""Room in the WAL file ahead of its last frame.

An fsync of a file that has grown also commits the file system's own journal; on ext4 that makes a commit of
two pages one and a half times as dear (`benchmarks/durability.py`). So the file grows by zeros, a piece at a
time, and commits overwrite them, as PostgreSQL does with its segments. SQLite ends its reading of a WAL at
the first frame whose salt is not the header's (sqlite.org/fileformat2.html, section 4.4), and zeros never
are.

The file is touched only inside a write transaction, that is, under SQLite's lock on writing the WAL: nobody
else, in any process, appends to it meanwhile.
"""

from __future__ import annotations

import contextlib
import os

import apsw

PIECE_BYTES = 1 << 20
"""What the file grows by."""
EVERY_PAGES = 32
"""How many pages are written between two looks at the file's size."""
_ZEROS = bytes(PIECE_BYTES)


class Reserve:
    """The room in one file's WAL. `keep` is called after fsynced commits."""

    def __init__(self, path: str) -> None:
        self._path = path + "-wal"
        self._file = -1
        self._end = 0  # how far the room reaches
        self._seen = -EVERY_PAGES  # pages written at the last look

    def keep(self, connection: apsw.Connection) -> None:
        """Make more room if the last commits have used up what there was. Room is a help and no duty: a disk
        that is full, or a lock that another program holds, changes nothing."""
        pages = connection.status(apsw.SQLITE_DBSTATUS_CACHE_WRITE)[0]
        if pages - self._seen < EVERY_PAGES:
            return
        self._seen = pages
        with contextlib.suppress(OSError, apsw.Error):
            if self._file < 0:
                self._file = os.open(self._path, os.O_RDWR | getattr(os, "O_CLOEXEC", 0))
            if os.fstat(self._file).st_size != self._end:
                self._grow(connection)

    def _grow(self, connection: apsw.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            size = os.lseek(self._file, 0, os.SEEK_END)
            self._end = size + os.write(self._file, _ZEROS)
        finally:
            connection.execute("COMMIT")

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
