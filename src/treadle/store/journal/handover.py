"""Handing the GIL to the writer thread, at the two moments when it needs it.

A thread that waits for the GIL demands it only when nobody has let it go for the switch interval (5 ms). A
loop that is busy but turns more often lets it go at each turn, for an instant, and takes it back before the
other thread is awake; so a busy engine would write nothing until it is done. The writer needs the GIL to take
a batch and, since a batch is one statement, only once more when it is written. So the loop sleeps for an
instant when it has sealed a batch, and again when that should be written by now.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from treadle.store.journal.writer import Writer

ROWS_MIN = 64
"""From how many rows on a batch is worth a pause."""
PAUSE_S = 0.00005
"""How long a pause is: about what it takes to wake a thread."""
TRIES = 5
"""How many pauses the writer thread gets to take a batch."""
AGAIN_S = 0.001
"""When the next pause follows, while a batch that should be written by now isn't; and then twice as late each
time."""
AGAIN_S_MAX = 0.05
EVERY_S = 0.005
"""How often a loop on which no node runs pauses while a batch is on its way."""
ROW_S = 0.000003
"""How long a row takes, before the first are measured."""


class Handover:
    """When the loop should pause for the writer: at `at`, an instant of `time.monotonic`. Actors ask for it
    before each body."""

    __slots__ = ("_again_s", "_row_s", "_writer", "at")

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._row_s = ROW_S
        self._again_s = AGAIN_S
        self.at = math.inf

    def sealed(self, rows: int) -> None:
        """A batch was handed over: let the thread take it, and work beside the loop from here on."""
        if rows >= ROWS_MIN:
            for _ in range(TRIES):
                time.sleep(PAUSE_S)
                if not self._writer.behind:
                    break
            self._again_s = AGAIN_S
            self.at = time.monotonic() + 0.8 * self._row_s * rows

    def pause(self) -> None:
        """Let the thread say that it is done."""
        if not self._writer.idle:
            time.sleep(PAUSE_S)
            if not self._writer.idle:
                self.at = time.monotonic() + self._again_s
                self._again_s = min(2 * self._again_s, AGAIN_S_MAX)
                return
        self.at = math.inf

    def written(self, rows: int, seconds: float) -> None:
        """A batch took so long. That includes the wait for the GIL, so only less is believed at once."""
        if rows >= ROWS_MIN:
            self._row_s = min(1.25 * self._row_s, seconds / rows)
