"""The instants that an execution waits for, at most one a slot."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Calls `fire(slot)` on the loop when an instant (seconds since 1970, by `now`) has come."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, now: Callable[[], float], fire: Callable[[int], None]
    ) -> None:
        self._loop, self._now, self._fire = loop, now, fire
        self._set: dict[int, tuple[float, asyncio.TimerHandle]] = {}

    def set(self, slot: int, at: float) -> None:
        """Wake a slot at an instant, instead of the one before."""
        self.cancel(slot)
        self._set[slot] = (at, self._loop.call_later(max(0.0, at - self._now()), self._due, slot))

    def cancel(self, slot: int) -> None:
        timer = self._set.pop(slot, None)
        if timer is not None:
            timer[1].cancel()

    def clear(self) -> None:
        for slot in list(self._set):
            self.cancel(slot)

    def again(self) -> None:
        """Set all anew, since the clock was moved."""
        for slot, (at, _) in list(self._set.items()):
            self.set(slot, at)

    @property
    def nearest(self) -> float | None:
        """The nearest instant at which a node goes on by itself; the deadline (slot -1) does not count."""
        return min((at for slot, (at, _) in self._set.items() if slot >= 0), default=None)

    def _due(self, slot: int) -> None:
        del self._set[slot]
        self._fire(slot)
