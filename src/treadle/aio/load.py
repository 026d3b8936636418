"""How busy others keep an event loop: what one asks who works beside them on it."""

from __future__ import annotations

import os
import time

BUSY, BUSY_LATE, LATE_S = 0.6, 0.25, 0.004
"""A loop on which others compute for so much of the time is busy; or for so much, if it wakes us so late."""
NOTICE_S, SLEPT_S_MIN = 0.15, 0.005
"""It is noticed at once that a loop is busy, and in about so much time that it no longer is; shorter sleeps
don't tell."""
IDLE = 0.05
"""Where others compute for less of the time it does not matter how long they wait for a processor."""
_SCHEDULE = "/proc/thread-self/schedstat"


class Load:
    """Measured by sleeping: call `sleeps`, sleep on the loop, and call `slept`."""

    def __init__(self) -> None:
        self.busy = False
        self._others = self._late = 0.0
        self._began = self._worked = 0.0
        self._waited: float | None = None

    def sleeps(self) -> None:
        """Right before a sleep."""
        self._waited = _waited() if self._others > IDLE else None
        self._began, self._worked = time.monotonic(), time.thread_time()

    def slept(self, planned_s: float) -> bool:
        """Right after it, which was to take so long: whether the loop is busy."""
        took = time.monotonic() - self._began
        if took < SLEPT_S_MIN:
            return self.busy
        computed, weight = time.thread_time() - self._worked, min(1.0, took / NOTICE_S)
        if self._waited is not None and (now := _waited()) is not None:
            # Other processes have the processors: the loop has no time left, however little it got.
            took = max(computed, took - (now - self._waited))
        share, late = computed / max(took, 1e-6), took - planned_s
        self._others = max(share, self._others + (share - self._others) * weight)
        self._late = max(late, self._late + (late - self._late) * weight)
        self.busy = self._others > BUSY or (self._others > BUSY_LATE and self._late > LATE_S)
        return self.busy


def _waited() -> float | None:
    """How many seconds this thread could have run and had no processor; None where that is not told."""
    try:
        file = os.open(_SCHEDULE, os.O_RDONLY)
    except OSError:
        return None
    try:
        return int(os.read(file, 100).split()[1]) / 1e9
    finally:
        os.close(file)
