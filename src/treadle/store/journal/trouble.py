"""A store that can't be written for a while is said to be so: work goes on and updates wait, and nobody would
know."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

logger = logging.getLogger("treadle.store")

SILENT_S = 1.0
"""How long the writer tries in silence: other programs hold a file for moments."""


class Trouble:
    """Warns once when trouble lasts, and says when it is over. Lives on the event loop."""

    __slots__ = ("_said", "_since", "_waiting")

    def __init__(self, waiting: Callable[[], int]) -> None:
        self._waiting = waiting  # how many updates are not written
        self._since: float | None = None
        self._said = False

    def met(self, reason: str | None) -> None:
        """A write has failed and is tried again."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        elif not self._said and now - self._since >= SILENT_S and reason is not None:
            self._said = True
            logger.warning("the store can't be written (%s): %d updates wait in memory, and it is tried "
                           "again. Is the disk full, or does another program hold the file?", reason,
                           self._waiting())

    def over(self) -> None:
        """A batch was written."""
        if self._since is not None:
            if self._said:
                logger.warning("the store is written again, after %.3g s", time.monotonic() - self._since)
            self._since, self._said = None, False
