"""Large outputs in less space: JSON shrinks to a third and less.

What is packed begins with zstd's own mark, which no encoded output begins with: what older versions wrote is
read as it is. zstandard is an extra (`treadle[zstd]`): without it nothing is packed.
"""

from __future__ import annotations

import io
from typing import IO, TYPE_CHECKING

from treadle.errors import StoreCorrupt, StoreError

if TYPE_CHECKING:
    import types

MARK = b"\x28\xb5\x2f\xfd"
TRIED_BYTES = 64 * 1024
"""How much of the content shows whether it shrinks."""
SHRUNK_MAX = 0.8
"""What is left, at most, of what is worth packing."""
_LEVEL = 1  # faster than the disk


def pack(content: bytes) -> bytes:
    """Content as it is stored."""
    zstd = _zstd()
    if zstd is None:
        return content
    packer = zstd.ZstdCompressor(level=_LEVEL, write_checksum=True)
    start: bytes = packer.compress(content[:TRIED_BYTES])
    if len(start) > SHRUNK_MAX * min(len(content), TRIED_BYTES) and not content.startswith(MARK):
        return content
    return start if len(content) <= TRIED_BYTES else packer.compress(content)


def can_unpack() -> bool:
    """Whether zstandard is installed."""
    return _zstd() is not None


def unpack(stored: bytes) -> bytes:
    """The content of what `pack` gave. StoreCorrupt if it is damaged, StoreError without zstandard."""
    return open_packed(stored).read() if stored.startswith(MARK) else stored


def open_packed(stored: bytes) -> IO[bytes]:
    """The same as a file, which unpacks as it is read."""
    if not stored.startswith(MARK):
        return io.BytesIO(stored)
    if _zstd() is None:
        raise StoreError("this output is compressed, and zstandard is not installed: "
                         "pip install treadle[zstd]")
    return io.BufferedReader(_Unpacked(stored), TRIED_BYTES)


class _Unpacked(io.RawIOBase):
    def __init__(self, stored: bytes) -> None:
        import zstandard
        self._failed = zstandard.ZstdError
        self._reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(stored))
        try:
            self._left = zstandard.frame_content_size(stored)
        except self._failed as error:
            raise _damaged(error) from None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer, says the base
        try:
            size: int = self._reader.readinto(buffer)
        except self._failed as error:
            raise _damaged(error) from None
        self._left -= size
        if self._left and not size and len(buffer):
            raise StoreCorrupt("the end of a compressed output is missing: restore the store from a copy")
        return size


def _damaged(error: Exception) -> StoreCorrupt:
    return StoreCorrupt(f"a compressed output is damaged ({error}): restore the store from a copy")


def _zstd() -> types.ModuleType | None:
    try:
        import zstandard
    except ImportError:
        return None
    return zstandard
