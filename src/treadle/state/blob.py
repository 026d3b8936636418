"""Content that is too large for memory: a `Blob` names it, a `Place` keeps it as files by their SHA-256.

A value that holds a blob holds the digest, so it is small wherever it goes: into a cell, to another process,
into an export. The file is on the disk before there is a blob that names it.

Until then it is in the folder `new`, and locked. A lock ends with its process, so whoever comes next knows
what nobody goes on with, and deletes it. Copies of encrypted blobs that can be read by their paths are in the
folder `plain`, alike.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

from treadle.config import DEFAULT_CONFIG, TreadleConfig, size_text
from treadle.errors import StoreCorrupt, StoreFull
from treadle.once import once
from treadle.undo import undone

CHUNK_BYTES = 1024 * 1024
"""How much of a blob is in memory at a time."""
_NEW, _PLAIN = "new", "plain"
_NAMED = re.compile(rb'"t":"blob","v":{"digest":"([0-9a-f]{64})"')  # as the codec writes it
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

Source = str | os.PathLike[str] | bytes | IO[bytes] | Iterable[bytes]
"""What a blob is made of: the path of a file, its content, an open file, or pieces."""


class Sealing(Protocol):
    """A file that is sealed as it is written."""

    def write(self, piece: bytes | bytearray) -> None: ...

    def finish(self, address: str) -> None: ...


class Cipher(Protocol):
    """Seals the files of a place: see `treadle.crypto.stream.BlobCipher`."""

    @property
    def spec(self) -> str:
        """What makes the same one in another process."""

    def address(self, digest: str) -> str:
        """The name of the file of a blob."""

    def sealing(self, file: IO[bytes]) -> Sealing: ...

    def opened(self, file: IO[bytes], digest: str) -> IO[bytes]:
        """The content of a sealed file, which is closed with it. StoreCorrupt."""


@dataclass(frozen=True)
class Blob:
    """Bytes that lie beside the store. Equal blobs have equal content and name."""

    digest: str  # SHA-256, in hex
    size: int  # in bytes
    name: str = ""  # of the file that it was made of

    def at(self, place: Place | None) -> Blob:
        """The same blob, which knows where its file is. That is no field: to templates, files and other
        programs a blob is a map of the three above."""
        vars(self)["_place"] = place
        return self

    def open(self) -> IO[bytes]:
        """The content as a file to read from. FileNotFoundError if no open store has it."""
        return self._home().open(self.digest)

    def read(self) -> bytes:
        """The whole content."""
        with self.open() as file:
            return file.read()

    def chunks(self) -> Iterator[bytes]:
        """The content, a megabyte at a time."""
        with self.open() as file:
            yield from _pieces(file)

    def path(self) -> Path:
        """The file itself, to be read only: other executions may use the same. In an encrypted store a copy
        that can be read, by this user only; it is deleted when the execution or the store is closed, or, if
        the process was killed, when the store is opened next."""
        return self._home().plain(self.digest, self.name)

    def _home(self) -> Place:
        place: Place | None = vars(self).get("_place")
        if place is None or not place.path(self.digest).exists():
            place = find(self.digest)
        if place is None:
            raise FileNotFoundError(f"no open store has the blob {self.digest} ({self.name or 'no name'}, "
                                    f"{self.size} bytes): open the store of the execution that made it; if "
                                    "it is open, was it pruned, or copied without its folder of blobs?")
        return place


class Place:
    """A folder of blobs, two hex digits a sub-folder. It is made when it is needed, and is known from then on
    to the blobs of this process. `config` limits what is put there, `cipher` encrypts it."""

    def __init__(self, folder: Path, config: TreadleConfig = DEFAULT_CONFIG,
                 cipher: Cipher | None = None) -> None:
        self.folder, self.config, self.cipher = folder, config, cipher
        self._tidy = False
        _places[id(self)] = self

    @classmethod
    def temporary(cls, config: TreadleConfig = DEFAULT_CONFIG) -> Place:
        """One that ends with the object that is returned, and with the blobs in it."""
        folder = tempfile.mkdtemp(prefix="treadle-blobs-")
        place = cls(Path(folder), config)
        weakref.finalize(place, shutil.rmtree, folder, ignore_errors=True)
        return place

    def path(self, digest: str) -> Path:
        """Where a blob's file is, if it is there."""
        name = digest if self.cipher is None else self.cipher.address(digest)
        return self.folder / name[:2] / name

    @property
    def spec(self) -> str:
        """What makes the same place in another process: see `treadle.nodes.large.place_at`."""
        return str(self.folder) if self.cipher is None else f"{self.folder}\n{self.cipher.spec}"

    def open(self, digest: str) -> IO[bytes]:
        """A blob's content as a file; FileNotFoundError."""
        file = self.path(digest).open("rb")
        return file if self.cipher is None else self.cipher.opened(file, digest)

    def plain(self, digest: str, name: str = "") -> Path:
        """A file that can be read by its path: a decrypted copy that ends with this object, if need be."""
        if self.cipher is None:
            return self.path(digest)
        folder = self._copies.folder
        copy = folder / digest / (Path(name).name or "blob")
        if not copy.exists():
            copy.parent.mkdir(exist_ok=True)
            handle, part = tempfile.mkstemp(dir=folder)
            with os.fdopen(handle, "wb") as out, self.open(digest) as file:
                shutil.copyfileobj(file, out, CHUNK_BYTES)
            os.replace(part, copy)
        return copy

    def put(self, source: Source, name: str = "") -> Blob:
        """Copy content here, a piece at a time; it is on the disk itself when this returns. LimitExceeded
        beyond `blob_bytes_max`; StoreFull if there is no room, and any other OSError."""
        if isinstance(source, bytes):
            return self._put([source], name)
        if isinstance(source, (str, os.PathLike)):
            path = Path(source)
            with path.open("rb") as file:
                return self._put(_pieces(file), name or path.name, os.fstat(file.fileno()).st_size)
        return self._put(_pieces(source) if isinstance(source, io.IOBase) else source, name)

    def _put(self, pieces: Iterable[bytes], name: str, size: int = 0) -> Blob:
        if size > self.config.blob_bytes_max:  # before the work, where that can be known
            raise self.config.exceeded("blob_bytes_max", f"{_said(name)} has {size} bytes")
        with Writer(self, name) as writer:
            for piece in pieces:
                writer.write(piece)
            return writer.finish()

    @once
    def _copies(self) -> _Copies:
        return _Copies(self.folder / _PLAIN)

    def clear(self) -> None:
        """Delete the copies that `plain` made."""
        copies: _Copies | None = vars(self).pop("_copies", None)
        if copies is not None:
            copies.end()

    def sync(self, digest: str) -> None:
        """Make sure that a blob's file is found there after a power cut."""
        for folder in (self.path(digest).parent, self.folder, self.folder.parent):
            _sync(folder)

    def tidy(self, before: float | None = None) -> None:
        """Delete what writers left that were killed. Where files can't be locked, that is what nobody has
        written to since `before`."""
        self._tidy = True
        for path in _entries(self.folder / _NEW):
            with _abandoned(path, before) as left:
                if left:
                    path.unlink()  # while it is locked: a writer that waits for the lock begins again
        for path in _entries(self.folder / _PLAIN):
            with _abandoned(path, before) as left:
                if left:
                    shutil.rmtree(path, ignore_errors=True)

    def left_plain(self) -> list[Path]:
        """The folders with copies that can be read, of processes that were killed."""
        found = []
        for path in _entries(self.folder / _PLAIN):
            with _abandoned(path, None) as left:
                found += [path] if left else []
        return found

    def begin(self) -> tuple[int, str]:
        """A fresh file that is not tidied away as long as its writer lives: its handle and name."""
        new = self.folder / _NEW
        new.mkdir(parents=True, exist_ok=True)
        if not self._tidy:
            self.tidy()
        while True:
            handle, name = tempfile.mkstemp(dir=new)
            with contextlib.suppress(OSError):  # some network file systems have no locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return handle, name
            os.close(handle)  # it was taken for an old one before it was locked


class _Copies:
    """A folder for copies that can be read by their paths. It ends with this object, and is locked till
    then."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        while True:
            self.folder = Path(tempfile.mkdtemp(dir=parent))
            try:
                handle = os.open(self.folder, os.O_RDONLY)
            except FileNotFoundError:  # it was taken for an old one before it was locked
                continue
            with contextlib.suppress(OSError):  # as in `begin`
                fcntl.flock(handle, fcntl.LOCK_EX)
            if self.folder.exists():
                break
            os.close(handle)
        self.end = weakref.finalize(self, _end_copies, str(self.folder), handle)


def _end_copies(folder: str, handle: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    os.close(handle)


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.exists() else []


@contextlib.contextmanager
def _abandoned(path: Path, before: float | None) -> Iterator[bool]:
    """Whether whoever locked a file or folder is gone; it is locked meanwhile. Where nothing can be locked,
    that is what was changed last before that instant."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except (FileNotFoundError, PermissionError):  # somebody else was faster, or another user made it
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            gone = True
        except BlockingIOError:
            gone = False  # it lives
        except OSError:
            gone = before is not None and os.fstat(handle).st_mtime < before
        with contextlib.suppress(FileNotFoundError):
            yield gone
    finally:
        os.close(handle)


class Writer:
    """Content on its way into a place, for those who get it in pieces. Leaving the block before `finish`
    leaves nothing. For errors see `Place.put`; `limited` is whether `blob_bytes_max` holds."""

    def __init__(self, place: Place, name: str = "", *, limited: bool = True) -> None:
        self.place, self.name, self.size = place, name, 0
        self._bytes_max = place.config.blob_bytes_max if limited else None
        self._found = hashlib.sha256()
        self._done = False
        with self._room():
            handle, self._temporary = place.begin()
        self._file = os.fdopen(handle, "wb")
        self._sealing: Sealing | None = None
        self._write: Callable[[bytes | bytearray], object] = self._file.write
        if place.cipher is not None:
            with undone(self.__exit__), self._room():
                self._sealing = place.cipher.sealing(self._file)
            self._write = self._sealing.write

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        if not self._done:
            # First: closing writes what is buffered, and may fail on a full disk.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._temporary)
            with contextlib.suppress(OSError):
                self._file.close()

    def write(self, piece: bytes | bytearray) -> None:
        size = self.size + len(piece)
        if self._bytes_max is not None and size > self._bytes_max:
            raise self.place.config.exceeded("blob_bytes_max", f"{_said(self.name)} has {size} bytes or more")
        self._found.update(piece)
        with self._room():
            self._write(piece)
        self.size = size

    def finish(self, digest: str | None = None) -> Blob:
        """The blob, once its file is on the disk itself. StoreCorrupt if it isn't the one of this digest."""
        found = self._found.hexdigest()
        if digest is not None and found != digest:
            raise StoreCorrupt(f"the blob {digest} that was to be written is damaged")
        path = self.place.path(found)
        with self._room():
            if self._sealing is not None:
                self._sealing.finish(path.name)
            self._file.flush()
            os.fsync(self._file.fileno())
            path.parent.mkdir(exist_ok=True)
            # Also over a file that is there: thereby it is new, and a prune leaves it alone.
            os.replace(self._temporary, path)
        self._done = True
        self._file.close()  # and only now somebody else can lock it
        self.place.sync(found)
        return Blob(found, self.size, self.name).at(self.place)

    @contextlib.contextmanager
    def _room(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            hint = "raise the limit for files (ulimit -f)" if error.errno == errno.EFBIG else "make room"
            raise StoreFull(error.errno, f"there is no room for {_said(self.name)} in {self.place.folder} "
                            f"({error.strerror} after {size_text(self.size)}; {_free(self.place.folder)} are "
                            f"free): {hint}") from None


_places: weakref.WeakValueDictionary[int, Place] = weakref.WeakValueDictionary()


def find(digest: str) -> Place | None:
    """A place of this process that has a blob; any will do, since equal digests are equal contents."""
    # A list of its own, since other threads may add to the dictionary; the newest is most likely the one.
    for reference in reversed(_places.valuerefs()):
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
    return Blob(digest, int(fields["size"]), str(fields["name"])).at(find(digest))


def named_in(raw: bytes) -> set[str]:
    """The digests of the blobs that an encoded value holds."""
    return {found.decode() for found in _NAMED.findall(raw)}


def _pieces(file: IO[bytes] | io.IOBase) -> Iterator[bytes]:
    while piece := file.read(CHUNK_BYTES):
        yield piece


def _said(name: str) -> str:
    return f"the blob {name!r}" if name else "a blob"


def _free(folder: Path) -> str:
    while not folder.exists():
        folder = folder.parent
    return size_text(shutil.disk_usage(folder).free)


def _sync(folder: Path) -> None:
    entry = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(entry)
    finally:
        os.close(entry)
