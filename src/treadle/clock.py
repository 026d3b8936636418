"""What the kernel must not know by itself: the time, luck, and fresh names.

The engine reads them here and hands them to the kernel in facts; a test hands in its own.
"""

from __future__ import annotations

import os
import random
import time
from typing import Protocol

from treadle.ids import ExecutionID

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32 in lower case: sorts as the number does

_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_monotonic = time.monotonic


class Clock(Protocol):
    """Time and luck, so that both can be toys in a test."""

    def now(self) -> float:
        """Seconds since 1970-01-01 UTC, as recorded in cells."""

    def luck(self) -> float:
        """A number in [0, 1) that spreads the next back-off."""

    def new_execution_id(self) -> ExecutionID:
        """A fresh id; ids sort by the time they were made."""


class SystemClock:
    """The machine's clock. `now` never goes back within a process, even when the wall clock is set back."""

    def __init__(self) -> None:
        # Wall time at start plus monotonic time since: durations stay true when the wall clock jumps.
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return self._offset + _monotonic()

    def luck(self) -> float:
        return random.random()

    def new_execution_id(self) -> ExecutionID:
        number = int(time.time() * 1000) << 50 | int.from_bytes(os.urandom(7), "big") >> 6
        pairs = [_PAIRS[number >> shift & 1023] for shift in range(90, -1, -10)]
        return ExecutionID("".join(pairs)[1:])
