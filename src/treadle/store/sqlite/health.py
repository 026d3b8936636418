"""How a store's file is: what `treadle doctor` says of it. Nothing is changed, migrated or created.

A file that is damaged, foreign, newer or read-only is looked at as far as that goes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import apsw
import msgspec

from treadle.config import GB, MB, size_text
from treadle.errors import NotAStore, StoreError
from treadle.state.blob import Place
from treadle.store.base import Owner
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead
from treadle.store.packing import MARK, can_unpack, unpack
from treadle.store.retention import HALF_GONE, Pruned
from treadle.store.sqlite.connection import APPLICATION_ID, connect_to_look, migrations, translated
from treadle.store.sqlite.sweep import Questions, Sweep

_T = TypeVar("_T")

OK, WARNING, ERROR = "OK", "warning", "error"
NETWORK = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "fuse.sshfs",
           "fuse.glusterfs", "lustre", "virtiofs")
"""File systems on which two hosts would each have their own idea of SQLite's shared memory."""
WAL_BYTES_MAX = 256 * MB
"""A WAL that is larger is worth a word: it is checkpointed at 16 MB, unless a reader is in the way."""
DISK_BYTES_MIN, DISK_BYTES_LOW = 32 * MB, GB
BUSY_MS = 5000
"""How long another program may lock the file."""
SEALED = ("executions", "node_states", "context", "logs", "signals", "cache", "diagrams")
"""The tables whose texts an encrypted store seals."""
NAMED_MAX = 5
"""Leases and faults that are named one by one."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `hint`: what to do."""

    level: str  # OK, warning or error
    what: str
    text: str
    hint: str = ""


def examine(path: Path, now: float, options: str = "",
            opened: Callable[[], Iterable[Finding]] | None = None) -> Iterator[Finding]:
    """Look at a store's file. `options` are what commands in hints need to find it; `opened` looks through an
    encrypted one, if there is a key."""
    yield Finding(OK, "store", str(path))
    try:
        _check_kind(path)
        yield from _surroundings(path)
        with translated(str(path)), contextlib.closing(_connect(path)) as connection:
            yield from _inside(path, connection, now, options, opened)
    except StoreError as error:
        text, _, hint = str(error).partition(": ")
        yield Finding(ERROR, "store", text, hint)
    except OSError as error:
        yield Finding(ERROR, "store", f"{path} can't be read: {error.strerror}", "check your rights to it")
    except apsw.BusyError:
        yield Finding(ERROR, "store", f"{path} is locked by another program",
                      "end that program, or try again")
    except (apsw.Error, msgspec.MsgspecError) as error:
        yield Finding(ERROR, "store", f"{path} can't be read: {error}", "restore a copy")


def _check_kind(path: Path) -> None:
    """NotAStore for what certainly isn't one; SQLite itself might change another program's file."""
    if path.is_dir():
        raise NotAStore(f"{path} is a folder: name the file in it")
    with path.open("rb") as file:
        head = file.read(100)
    if not head:
        raise NotAStore(f"{path} is empty: `treadle run` makes a store of it, or name another with --store")
    if not head.startswith(b"SQLite format 3\0") or len(head) < 100:
        raise NotAStore(f"{path} is not a SQLite file: choose another path for the store")
    application = struct.unpack(">I", head[68:72])[0]
    if application != APPLICATION_ID and not path.with_name(path.name + "-wal").exists():
        raise NotAStore(f"{path} is a SQLite file, but not a Treadle store: choose another path")


def _connect(path: Path) -> apsw.Connection:
    """A connection that changes nothing, also where the file or its folder can't be written."""
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        return connect_to_look(str(path))
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.set_busy_timeout(BUSY_MS)
    connection.pragma("query_only", True)
    return connection


# Around the file

def _surroundings(path: Path) -> Iterator[Finding]:
    beside = [path.with_name(path.name + end) for end in ("-wal", "-shm", ".blobs")]
    locked = [one for one in (path, path.parent, *beside) if one.exists() and not os.access(one, os.W_OK)]
    if locked:
        yield Finding(ERROR, "rights", f"{', '.join(map(str, locked))} can't be written",
                      "nothing can be run with it: give yourself the right to write the file, its folder and "
                      "what lies beside it")
    free = shutil.disk_usage(path.parent).free
    level = ERROR if free < DISK_BYTES_MIN else WARNING if free < DISK_BYTES_LOW else OK
    hint = "" if level == OK else "make room: an engine waits while the disk is full, and loses nothing"
    yield Finding(level, "disk", f"{size_text(free)} are free", hint)
    kind = _file_system(path)
    if kind in NETWORK:
        yield Finding(WARNING, "file system", f"the store is on a network file system ({kind})",
                      "let processes of one host only use it, or move it to a local disk")


def _file_system(path: Path) -> str | None:
    """The type of the file system, None where the system doesn't say."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return None
    best, kind = "", None
    for line in mounts:
        fields, _, rest = line.partition(" - ")
        place = fields.split()[4].replace("\\040", " ")
        if path.is_relative_to(place) and len(place) >= len(best):
            best, kind = place, rest.split()[0]
    return kind


# Inside

def _inside(path: Path, connection: apsw.Connection, now: float, options: str,
            opened: Callable[[], Iterable[Finding]] | None) -> Iterator[Finding]:
    if connection.pragma("application_id") != APPLICATION_ID:
        raise NotAStore(f"{path} is a SQLite file, but not a Treadle store: choose another path")
    yield from _intact(path, connection)
    version, known = connection.execute("SELECT max(version) FROM schema_version").get or 0, len(migrations())
    if version > known:
        yield Finding(ERROR, "schema", f"version {version}, and this Treadle knows {known}",
                      "upgrade Treadle")
        return
    yield Finding(OK, "schema", f"version {version}"
                  + ("" if version == known else f"; it becomes {known} when it is next opened"))
    own = None
    if version == known:
        own = connection.execute("SELECT master_id FROM keys WHERE execution_id = ''").get
        yield from _encryption(connection, own)
    files = BlobFiles(Place(Path(f"{path}.blobs")))
    yield from _copies(files.place, options)
    yield from _sizes(path, connection, files, options)
    counts = connection.execute(
        "SELECT status, count(*) FROM executions GROUP BY status ORDER BY status").fetchall()
    yield Finding(OK, "executions", ", ".join(f"{count} {status}" for status, count in counts) or "none")
    yield from _leases(connection, now, options)
    half = connection.execute("SELECT count(*) FROM executions WHERE diagram = ?", (HALF_GONE,)).get
    if half:
        yield Finding(WARNING, "prune", f"executions that a prune deleted in part: {half}",
                      f"treadle prune --collect{options}")
    if version == known:
        yield from _blobs(connection, files, options)
    if own is None:
        return
    if opened is None:
        yield Finding(OK, "sealed", "whether all can be opened is looked at with the key",
                      f"treadle doctor --state-encryption-key KEY{options}")
    else:
        yield from opened()


def _encryption(connection: apsw.Connection, own: str | None) -> Iterator[Finding]:
    if own is not None:
        rows = sum(connection.execute(f"SELECT count(*) FROM {table}").get for table in SEALED)
        yield Finding(OK, "encryption", f"with the key {own}, {rows} rows")
    elif connection.execute("SELECT EXISTS (SELECT 1 FROM keys)").get:
        yield Finding(ERROR, "encryption", "the store's own key was deleted, and executions have keys",
                      "restore a copy")


def _copies(place: Place, options: str) -> Iterator[Finding]:
    left = len(place.left_plain())
    if left:
        yield Finding(WARNING, "copies", f"{left} processes that were killed left copies of encrypted blobs "
                                         "that can be read", f"treadle prune --collect{options}")


def _intact(path: Path, connection: apsw.Connection) -> Iterator[Finding]:
    try:
        faults = [row[0] for row in connection.execute(f"PRAGMA quick_check({NAMED_MAX})")]
    except (apsw.CorruptError, apsw.NotADBError) as error:
        faults = [str(error)]
    if faults == ["ok"]:
        yield Finding(OK, "integrity", "no fault was found")
    hint = f"restore a copy, or save what is left with `sqlite3 {path} .recover`"
    for fault in faults if faults != ["ok"] else ():
        yield Finding(ERROR, "integrity", " ".join(str(fault).split()), hint)
        hint = ""


def _sizes(path: Path, connection: apsw.Connection, files: BlobFiles, options: str) -> Iterator[Finding]:
    page = connection.pragma("page_size")
    size, free = connection.pragma("page_count") * page, connection.pragma("freelist_count") * page
    text = f"{size_text(size)}, of which {size_text(free)} are free"
    beside = files.size()
    if beside:
        text += f"; {size_text(beside)} in files of blobs"
    much = free > 64 * MB and free > size // 2
    hint = f"treadle prune --collect{options} gives what is free back" if much else ""
    yield Finding(WARNING if much else OK, "size", text, hint)
    with contextlib.suppress(FileNotFoundError):
        wal = path.with_name(path.name + "-wal").stat().st_size
        large = wal > WAL_BYTES_MAX
        yield Finding(WARNING if large else OK, "WAL", size_text(wal),
                      "a program reads the store for long: end it, and the next commits shorten the WAL"
                      if large else "")


def _leases(connection: apsw.Connection, now: float, options: str) -> Iterator[Finding]:
    stale, live = [], 0
    rows = connection.execute(
        "SELECT execution_id, status, owner, expires_at FROM executions "
        "WHERE owner IS NOT NULL OR status IN ('running', 'pending') ORDER BY created_at")
    for execution_id, status, text, expires in rows:
        owner = None if text is None else msgspec.json.decode(text, type=Owner)
        if owner is None or (expires or 0.0) <= now or is_dead(owner):
            if status in ("running", "pending"):
                stale.append((execution_id, owner))
            continue
        live += 1
        if live <= NAMED_MAX:
            yield Finding(OK, "lease", f"{execution_id} is run by {owner}")
    if live > NAMED_MAX:
        yield Finding(OK, "lease", f"{live - NAMED_MAX} more are run")
    for execution_id, owner in stale[:NAMED_MAX]:
        whose = "" if owner is None else f" ({owner} is gone)"
        yield Finding(WARNING, "lease", f"{execution_id} says running, and nobody runs it{whose}",
                      f"treadle resume {execution_id}{options}, or treadle cancel {execution_id}{options}")
    if len(stale) > NAMED_MAX:
        yield Finding(WARNING, "lease", f"{len(stale) - NAMED_MAX} more say running, and nobody runs them",
                      f"treadle list --status stale{options}")


def _blobs(connection: apsw.Connection, files: BlobFiles, options: str) -> Iterator[Finding]:
    def lend(use: Callable[[apsw.Connection], _T]) -> _T:
        return use(connection)

    def content(digest: str) -> bytes:
        found: Any = connection.execute("SELECT content FROM blobs WHERE digest = ?", (digest,)).get
        return files.get(digest) if found is None else unpack(found)

    missing: set[str] = set()
    packed = 0 if can_unpack() else connection.execute(
        "SELECT count(*) FROM blobs WHERE substr(content, 1, 4) = ?", (MARK,)).get
    if packed:  # and what they name can't be known
        yield Finding(ERROR, "blobs", f"{packed} of them are compressed, and zstandard is not installed",
                      "pip install treadle[zstd]")
    else:
        sweep = Sweep(Questions(lend, content), _no_transaction, lambda: None, files, Pruned(), {})
        unused, missing = len(sweep.unused()), sweep.missing()
        yield Finding(OK, "blobs", f"nothing names {unused} of them" if unused else "each is in use",
                      f"treadle prune --collect{options}" if unused else "")
    lost = sorted(missing.union(
        digest for digest, in connection.execute("SELECT digest FROM blobs WHERE content IS NULL")
        if not files.has(digest)))
    if lost:
        yield Finding(ERROR, "blobs", f"{len(lost)} files are missing in {files.folder}, such as {lost[0]}",
                      "was the store copied without that folder? Copy it, too")


def _no_transaction() -> contextlib.AbstractContextManager[apsw.Connection]:
    raise AssertionError("a look writes nothing")
