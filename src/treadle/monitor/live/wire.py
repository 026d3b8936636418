"""Viewers, and the way to them. A message is encoded and framed once for all who get it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol

from treadle.monitor.live.mirror import ROOT
from treadle.monitor.views import as_json

if TYPE_CHECKING:
    from treadle.monitor.live.parts import Parts

WAITING_MAX = 100
"""Answers that wait for one viewer."""
REFUSED = 1008
"""With which code the socket of one is closed that asks for what we don't do."""


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


class Viewer:
    """Somebody who watches. `period_s` lies between two messages."""

    def __init__(self, wire: Wire, period_s: float, since: int = -1) -> None:
        self.wire, self.period_s = wire, period_s
        self.since = since  # the revision that it knows; -1: it knows nothing
        self.scope = ROOT
        self.opening = ROOT  # groups that it has opened and was not told of yet
        self.parts: Parts | None = None  # what it is being told in parts, and how far
        self.part_at = 0
        self.rests = 0.0  # until when it is told of no more of these
        self.last = -math.inf  # when it was last sent something
        self.ended: tuple[int, float | None] | None = None  # the end that it was told
        self.waiting: list[Message] = []  # what it was told besides, while it was not free
        self.code: int | None = None  # with which its socket is to be closed
        self.done = asyncio.Event()

    def give(self, message: Message) -> None:
        """Send something now, or once the last message is through."""
        if self.waiting or not self.wire.free:
            if len(self.waiting) >= WAITING_MAX:
                self.fail(f"more than {WAITING_MAX} answers wait for you to read them", REFUSED)
                return
            self.waiting.append(message)
        else:
            self.wire.send(message)

    def flush(self) -> bool:
        """Send what waits; whether it has taken everything."""
        if not self.wire.free:
            return False
        for message in self.waiting:
            self.wire.send(message)
        self.waiting.clear()
        return self.wire.free

    def warn(self, message: str) -> None:
        """Say what is wrong."""
        self.give(encoded({"event_type": "error", "message": message}))

    def fail(self, message: str, code: int) -> None:
        """The same, and then close with a code."""
        if self.code is None:
            self.code = code
            self.wire.send(encoded({"event_type": "error", "message": message}))
            self.done.set()


def encoded(message: dict[str, Any]) -> Message:
    """A message as JSON."""
    return Message(as_json(message))
