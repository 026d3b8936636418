"""Sealed files: STREAM (Hoang, Reyhanitabar, Rogaway, Vizár, 2015) over AES-256-GCM, in chunks of 64 KB.

    magic (8) · salt (16) · chunk · chunk · … · last chunk

Each file has a key of its own, made of the execution's key for files and the salt. The nonce of a chunk is
its number and whether it is the last, so that chunks can't be exchanged, repeated or cut off. The last one is
bound to the file's address, and is the first to be opened, so that nothing is read of a file that was moved
or cut. Any place is read by opening one chunk.
"""

from __future__ import annotations

import hmac
import io
import os
from typing import IO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from treadle.crypto.seal import KEY_BYTES, derived
from treadle.errors import PlaintextFound, StoreCorrupt
from treadle.undo import undone

CHUNK_BYTES = 64 * 1024
TAG_BYTES = 16
MAGIC = b"TRDLseal"
SALT_BYTES = 16
_HEAD = len(MAGIC) + SALT_BYTES
_WHOLE = CHUNK_BYTES + TAG_BYTES


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + (b"\1" if last else b"\0")


def _gcm(key: bytes, salt: bytes) -> AESGCM:
    return AESGCM(derived(key, b"file " + salt))


class Sealing:
    """A file on its way: what is written comes out sealed. `key` is `Sealer.files`."""

    def __init__(self, out: IO[bytes], key: bytes) -> None:
        salt = os.urandom(SALT_BYTES)
        self._out, self._gcm, self._number = out, _gcm(key, salt), 0
        self._rest = bytearray()
        out.write(MAGIC + salt)

    def write(self, piece: bytes | bytearray) -> None:
        rest = self._rest
        rest += piece
        while len(rest) > CHUNK_BYTES:  # the last chunk is known only at the end
            self._out.write(self._gcm.encrypt(_nonce(self._number, False), bytes(rest[:CHUNK_BYTES]), None))
            self._number += 1
            del rest[:CHUNK_BYTES]

    def finish(self, address: str) -> None:
        """Write the last chunk. The file isn't closed."""
        self._out.write(self._gcm.encrypt(_nonce(self._number, True), bytes(self._rest), address.encode()))
        self._rest.clear()


def plain_size(sealed: int) -> int:
    """How many bytes a sealed file of that size holds."""
    chunks = max(1, -(-(sealed - _HEAD) // _WHOLE))
    return max(0, sealed - _HEAD - chunks * TAG_BYTES)


class Opened(io.RawIOBase):
    """A sealed file to read, anywhere in it. PlaintextFound if it isn't sealed; StoreCorrupt where it was
    changed."""

    def __init__(self, file: IO[bytes], key: bytes, address: str) -> None:
        self._file, self._address = file, address
        size = os.fstat(file.fileno()).st_size
        head = file.read(_HEAD)
        if not head.startswith(MAGIC):
            raise PlaintextFound(f"the blob file {address} is not encrypted, and everything in this store is:"
                                 " somebody else wrote it; restore it from a copy")
        self._gcm = _gcm(key, head[len(MAGIC):])
        self._size = plain_size(size)
        self._last = max(1, -(-(size - _HEAD) // _WHOLE)) - 1
        self._at = 0
        self._load(self._last)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError("a file can't be read before its beginning")
        self._at = base + offset
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, says the base
        if self._at >= self._size:
            return 0
        number, start = divmod(self._at, CHUNK_BYTES)
        if number != self._number:
            self._load(number)
        piece = self._chunk[start:start + len(buffer)]
        buffer[:len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def _load(self, number: int) -> None:
        self._file.seek(_HEAD + number * _WHOLE)
        last = number == self._last
        try:
            self._chunk = self._gcm.decrypt(_nonce(number, last), self._file.read(_WHOLE),
                                            self._address.encode() if last else None)
        except (InvalidTag, ValueError):
            raise StoreCorrupt(f"the blob file {self._address} can't be decrypted: it was changed, moved, "
                               "or is not whole; restore it from a copy") from None
        self._number = number

    def close(self) -> None:
        self._file.close()
        super().close()


def open_sealed(file: IO[bytes], key: bytes, address: str) -> IO[bytes]:
    """A sealed file as a buffered one; it closes `file`, which must be a real file at its beginning."""
    with undone(file.close):
        return io.BufferedReader(Opened(file, key, address), CHUNK_BYTES)


class BlobCipher:
    """What seals one execution's blob files: see `treadle.state.blob.Cipher`. `names` and `files` are its
    keys for addresses and for files."""

    def __init__(self, names: bytes, files: bytes) -> None:
        self._names, self._files = names, files

    @classmethod
    def of(cls, spec: str) -> BlobCipher:
        """The same in another process."""
        raw = bytes.fromhex(spec)
        return cls(raw[:KEY_BYTES], raw[KEY_BYTES:])

    @property
    def spec(self) -> str:
        return (self._names + self._files).hex()

    def address(self, digest: str) -> str:
        return hmac.digest(self._names, digest.encode(), "sha256").hex()

    def sealing(self, file: IO[bytes]) -> Sealing:
        return Sealing(file, self._files)

    def opened(self, file: IO[bytes], digest: str) -> IO[bytes]:
        return open_sealed(file, self._files, self.address(digest))
