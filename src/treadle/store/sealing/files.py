"""Sealed blobs as files beside the store, by their addresses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from typing import IO

from treadle.crypto.seal import Sealer
from treadle.crypto.stream import Sealing, open_sealed
from treadle.state.blob import Place


def has_file(place: Place, sealer: Sealer, digest: str) -> bool:
    return place.path(sealer.address(digest)).exists()


def put_file(place: Place, sealer: Sealer, digest: str, pieces: Iterable[bytes]) -> None:
    """Write a sealed file, to the disk itself; one that is there is made to look new."""
    address = sealer.address(digest)
    path = place.path(address)
    try:
        os.utime(path)
    except FileNotFoundError:
        handle, temporary = place.begin()
        try:
            with os.fdopen(handle, "wb") as file:
                sealing = Sealing(file, sealer.files, address)
                for piece in pieces:
                    sealing.write(piece)
                sealing.finish()
                file.flush()
                os.fsync(file.fileno())
                path.parent.mkdir(exist_ok=True)
                os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    place.sync(address)


def open_file(place: Place, sealer: Sealer, digest: str) -> IO[bytes]:
    """A sealed file to read; FileNotFoundError, PlaintextFound, StoreCorrupt."""
    address = sealer.address(digest)
    return open_sealed(place.path(address).open("rb"), sealer.files, address)
