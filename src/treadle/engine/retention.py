"""The retention policy of an engine: now and then, after executions have ended, the store is pruned by it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from treadle.errors import StoreError

if TYPE_CHECKING:
    from treadle.config import Retention
    from treadle.store.manager import StateManager
    from treadle.store.retention import Pruned

logger = logging.getLogger("treadle.engine")

EVERY_S = 3600.0
"""A store is pruned by a policy at most once in so many seconds, whoever has it open."""
SOON_S = 0.5
"""How long after the end of an execution: so that the next one of a row comes first."""
IDLE_S_MAX = 0.25
"""How long a portion waits for the engine's own writer to have nothing to do."""
CLOSING_S_MAX = 2.0
"""What is left of these for a prune that is due or under way when the engine closes; the next goes on."""


class Keeper:
    """Prunes one engine's store. `ended` is called whenever an execution has ended."""

    def __init__(self, manager: StateManager, policy: Retention, now: Callable[[], float]) -> None:
        self._manager, self._policy, self._now = manager, policy, now
        self.pruned = 0  # executions that were deleted so far
        self._next = 0.0  # an instant of `time.monotonic`: not before
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._until = float("inf")

    def ended(self) -> None:
        if self._timer is None and self._task is None and time.monotonic() >= self._next:
            self._timer = asyncio.get_running_loop().call_later(SOON_S, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._next = time.monotonic() + EVERY_S
        self._task = asyncio.get_running_loop().create_task(self._prune(), name="treadle prune")

    async def close(self) -> None:
        """Do what is due, and end within `CLOSING_S_MAX`."""
        self._until = time.monotonic() + CLOSING_S_MAX
        if self._timer is not None:
            self._timer.cancel()
            self._begin()
        if self._task is not None:
            await self._task

    async def _prune(self) -> None:
        try:
            done = await asyncio.to_thread(self._on_thread)
        except StoreError as error:  # somebody else prunes, or the disk is full: the next time, then
            logger.info("the store was not pruned: %s", error)
        else:
            self.pruned += len(done.execution_ids)
        finally:
            self._task = None

    def _on_thread(self) -> Pruned:
        return self._manager.store.prune(self._policy, self._now(), thorough=False, every_s=EVERY_S,
                                         between=self._between)

    def _between(self) -> bool:
        """Wait until the writer has nothing to do, though not for ever."""
        until = time.monotonic() + IDLE_S_MAX
        while not self._manager.free() and time.monotonic() < min(until, self._until):
            time.sleep(0.005)
        return time.monotonic() < self._until
