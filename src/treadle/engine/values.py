"""Values on their way: encoded once when they are made, decoded for each consumer, large ones kept aside as
blobs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.config import TreadleConfig
from treadle.engine.resolver import error_value
from treadle.errors import NotDecodable
from treadle.once import once
from treadle.state import codec
from treadle.state.blob import Place
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.store.manager import StateManager

BLOBS_KEPT_BYTES_MAX = 64 * 1024 * 1024
"""Contents of blobs that stay in memory for their consumers; older ones are read from the store again."""
SHARED_BYTES_MIN = 4096
"""From this size on, what all items of a map get alike is decoded once and not once per item."""


class Absent(Exception):
    """A value's blob is not in memory: it must be loaded first."""

    def __init__(self, digest: str) -> None:
        super().__init__(digest)
        self.digest = digest


class Reference(bytes):
    """In durability `memory`, what stands in a cell for encoded bytes: the value itself."""

    value: Any

    @classmethod
    def of(cls, value: Any, text: bytes = b"") -> Reference:
        made = cls(text)
        made.value = value
        return made


def decode(raw: bytes) -> Any:
    """The value of encoded bytes, or of a `Reference`."""
    return raw.value if type(raw) is Reference else codec.decode(raw)


class Values:
    """Encodes and decodes for all executions of an engine. `manager` is None in durability `memory`."""

    def __init__(self, manager: StateManager | None, config: TreadleConfig) -> None:
        self._manager = manager
        self._config = config
        self._bytes_max, self._inline_bytes_max = config.output_bytes_max, config.output_inline_bytes_max
        self._last, self._copy = b"", None  # the newest output, and a decoding that nobody has yet
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._size = 0
        self._readers: dict[str, int] = {}  # of a blob: the arrows that still bring it to somebody

    @once
    def place(self) -> Place:
        """Where bodies leave large content; without a store a folder that ends with the engine."""
        if self._manager is None:
            return Place.temporary(self._config)
        return Place(self._manager.store.place.folder, self._config)

    def place_of(self, execution_id: str) -> Place:
        """The same as one execution has it: in an encrypted store its blobs are under its own key."""
        cipher = None if self._manager is None else self._manager.store.place_of(execution_id).cipher
        return self.place if cipher is None else Place(self.place.folder, self._config, cipher)

    def encode(self, value: Any) -> bytes:
        """A value's bytes; NotEncodable, LimitExceeded."""
        if self._manager is None:
            return Reference.of(value)
        raw, copy = codec.encode_and_copy(value)
        if len(raw) > self._inline_bytes_max:
            if len(raw) > self._bytes_max:
                raise self._config.exceeded("output_bytes_max", f"an output of {len(raw)} bytes")
        elif copy is not codec.UNREAD:
            self._last, self._copy = raw, copy
        return raw

    def aside(self, raw: bytes, readers: int = 0) -> str | None:
        """The digest under which these bytes become a blob, or None if they are small enough for their cell.

        After so many `readers` have had the value the bytes leave the memory; who still asks reads the store.
        """
        if len(raw) <= self._config.output_inline_bytes_max or self._manager is None:
            return None
        digest = hashlib.sha256(raw).hexdigest()
        self._keep(digest, raw)
        if readers:
            self._readers[digest] = self._readers.get(digest, 0) + readers
        return digest

    @property
    def kept_bytes(self) -> int:
        """How much of large outputs is in memory."""
        return self._size

    def value(self, cell: NodeState) -> Any:
        """What a cell carries, decoded afresh. Absent if its blob must be loaded first."""
        raw = cell.output
        if raw is None:
            if cell.status is NodeStatus.FAILED:
                return error_value(cell.error)
            if cell.blob is None:
                return None
            raw = self._kept.get(cell.blob)
            if raw is None:
                raise Absent(cell.blob)
            self._read(cell.blob)
        if raw is self._last:  # the first who asks for it takes the decoding that its encoding made
            copy, self._last, self._copy = self._copy, b"", None
            return copy
        return raw.value if type(raw) is Reference else codec.decode(raw)

    async def load(self, cell: NodeState) -> Any:
        """What a cell carries, decoded afresh; its blob is read from the store if need be."""
        raw = await self.raw(cell.output, cell.blob)
        if cell.blob is not None:
            self._read(cell.blob)
        return self.value(cell) if raw is None else decode(raw)

    async def raw(self, output: bytes | None, blob: str | None) -> bytes | None:
        """The encoded bytes that a cell holds, or those of its blob. NotDecodable if the blob is lost."""
        if output is not None or blob is None:
            return output
        raw = self._kept.get(blob)
        if raw is None:
            assert self._manager is not None
            await self._manager.flush()  # it may be on its way there
            try:
                raw = await self._manager.read(self._manager.store.blob, blob)
            except KeyError:
                raise NotDecodable(
                    f"the store has no blob {blob}: was it pruned, or copied without its files?"
                ) from None
            self._keep(blob, raw)
        return raw

    def _read(self, digest: str) -> None:
        """Somebody has the value: the last of those who are known to want it lets it go."""
        left = self._readers.get(digest)
        if left is None:
            return
        if left > 1:
            self._readers[digest] = left - 1
        else:
            del self._readers[digest]
            self._size -= len(self._kept.pop(digest, b""))

    def _keep(self, digest: str, raw: bytes) -> None:
        if digest in self._kept:
            self._kept.move_to_end(digest)
            return
        self._kept[digest] = raw
        self._size += len(raw)
        while self._size > BLOBS_KEPT_BYTES_MAX and len(self._kept) > 1:
            self._size -= len(self._kept.popitem(last=False)[1])


def split(items: bytes) -> list[bytes]:
    """The encoded items of a map, one by one, without decoding them."""
    if type(items) is Reference:
        return [Reference.of(value) for value in items.value]
    return [bytes(raw) for raw in msgspec.json.decode(items, type=list[msgspec.Raw])]
