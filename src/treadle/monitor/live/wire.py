"""The way to a viewer. A message is encoded and framed once for all who get it."""

from __future__ import annotations

from typing import Protocol


class Message:
    """A text for viewers, as a WebSocket frame of its own: a server's frames are not masked."""

    __slots__ = ("frame", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        size = len(text)
        if size < 126:
            head = bytes((0x81, size))
        elif size < 65536:
            head = b"\x81\x7e" + size.to_bytes(2, "big")
        else:
            head = b"\x81\x7f" + size.to_bytes(8, "big")
        self.frame = head + text


class Wire(Protocol):
    """Where messages go."""

    @property
    def free(self) -> bool:
        """Whether everything that was sent has left this process."""

    def send(self, message: Message) -> None:
        """Send it now, or when there is room."""

    async def drained(self) -> None:
        """Wait until everything was sent."""
