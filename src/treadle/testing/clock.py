"""A clock for tests: the machine's, but it can be put forward."""

from __future__ import annotations

from treadle.clock import SystemClock


class ToyClock(SystemClock):
    """The machine's clock plus the seconds that were skipped; a back-off is never spread."""

    skipped_s = 0.0

    def now(self) -> float:
        return super().now() + self.skipped_s

    def luck(self) -> float:
        return 0.5
