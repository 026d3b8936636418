"""Another master key for encrypted histories. Only the heads of files are written anew: what is sealed stays
as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from treadle.errors import PlaintextFound, StoreError
from treadle.store.history import names
from treadle.store.history.folder import Folder, find_histories, sealed_pieces
from treadle.store.history.sealing import Rewrap

if TYPE_CHECKING:
    from treadle.crypto.keys import MasterKey


class Rotated(msgspec.Struct):
    """What became of the folders."""

    folders: int = 0
    files: int = 0  # that have the new key now, and had the old one
    plain: list[str] = []  # folders that are not encrypted
    failed: list[str] = []  # what is wrong with the others


def rotate_histories(folder: Path, old: MasterKey, new: MasterKey) -> Rotated:
    """Give the histories in a folder, or one execution's folder, another key. Each file is replaced as a
    whole, so a rotation that was ended is done again, and goes on. OSError."""
    done = Rotated()
    for path in [folder] if (folder / names.INIT).is_file() else find_histories(folder):
        try:
            done.files += _rotate(Folder(path), Rewrap(old, new))
            done.folders += 1
        except PlaintextFound:
            done.plain.append(str(path))
        except StoreError as error:
            done.failed.append(str(error))
    return done


def _rotate(folder: Folder, rewrap: Rewrap) -> int:
    folder.tidy()
    count = 0
    for path in _files(folder.path):
        blob = path.parent.name == names.BLOBS
        with path.open("rb") as file:
            pieces = sealed_pieces(file) if blob else iter([file.read()])
            first = next(pieces, b"")
            if (blob and not first) or rewrap.is_new(str(path), first):
                continue  # an empty blob has no head
            with folder.replacing(path) as out:
                for piece in _chain(first, pieces):
                    sealed = rewrap.of(str(path), piece)
                    out.write(folder.framed(sealed) if blob else sealed)
        count += 1
    folder.sync()
    return count


def _chain(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _files(folder: Path) -> list[Path]:
    """The files of a history; the one that is looked at first is the last, so that who reads a folder that is
    half done asks for the old key."""
    blobs = folder / names.BLOBS
    found = sorted(blobs.iterdir()) if blobs.is_dir() else []
    found += sorted(path for path in folder.glob("state_*.json") if path.name != names.INIT)
    return [*found, folder / names.INIT]
