"""Sealed blobs as files beside the store, by their addresses."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import IO

from treadle.crypto.seal import Sealer
from treadle.crypto.stream import BlobCipher
from treadle.errors import StoreClosed, StoreError
from treadle.state.blob import Place, Sealing, Writer


@lru_cache(maxsize=1000)
def cipher_of(sealer: Sealer) -> BlobCipher:
    """What seals the files of an execution."""
    return BlobCipher(sealer.names, sealer.files)


def place_of(place: Place, sealer: Sealer) -> Place:
    """The same folder as one execution sees it."""
    return Place(place.folder, place.config, cipher_of(sealer))


def has_file(place: Place, sealer: Sealer, digest: str) -> bool:
    return place.path(sealer.address(digest)).exists()


def put_file(place: Place, sealer: Sealer, digest: str, pieces: Iterable[bytes]) -> None:
    """Write a sealed file, to the disk itself; one that is there is made to look new. StoreCorrupt if the
    pieces aren't what the digest says."""
    try:
        os.utime(place.path(sealer.address(digest)))
    except FileNotFoundError:
        with Writer(place_of(place, sealer), limited=False) as writer:
            for piece in pieces:
                writer.write(piece)
            writer.finish(digest)
    else:
        place.sync(sealer.address(digest))


def open_file(place: Place, sealer: Sealer, digest: str) -> IO[bytes]:
    """A sealed file to read; FileNotFoundError, PlaintextFound, StoreCorrupt."""
    return cipher_of(sealer).opened(place.path(sealer.address(digest)).open("rb"), digest)


class AnyExecutions:
    """A cipher for reading only: opens what any execution of a store has. `holder` finds one that has a
    blob."""

    spec = ""

    def __init__(self, holder: Callable[[str], Sealer | None]) -> None:
        self._holder = holder

    def address(self, digest: str) -> str:
        try:
            sealer = self._holder(digest)
        except StoreClosed:  # a blob of another store is looked for, everywhere
            sealer = None
        return digest if sealer is None else sealer.address(digest)

    def sealing(self, file: IO[bytes]) -> Sealing:
        raise StoreError("a blob in an encrypted store belongs to an execution: make it where one runs")

    def opened(self, file: IO[bytes], digest: str) -> IO[bytes]:
        sealer = self._holder(digest)
        assert sealer is not None
        return cipher_of(sealer).opened(file, digest)
