"""Where hooks run: the plain ones on one thread, the async ones in one task, each in the order of what
happened.

A lane takes jobs on the event loop. What waits in it is bounded: `room` returns when there is some.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from treadle.errors import PluginError
from treadle.foreign import attempt, attempt_async

logger = logging.getLogger("treadle.plugins")

Job = tuple[Callable[[], Any], int, "asyncio.Future[Any] | None"]


class Lane:
    """What both have: the count of what waits, and those who wait for it. Jobs are done in a copy of the
    context `home`, not in that of whoever makes the lane: perhaps it is a node's body."""

    def __init__(self, size_max: int, home: contextvars.Context | None = None) -> None:
        self.home = contextvars.Context() if home is None else home.copy()
        self.loop = asyncio.get_running_loop()
        self.size_max = size_max
        self.waiting = 0  # calls that are not done
        self._jobs: deque[Job] = deque()
        self._less = asyncio.Event()

    def put(self, job: Callable[[], Any], size: int) -> None:
        """Have a job done after those before; `size` is how many calls it is."""
        self.waiting += size
        self._jobs.append((job, size, None))
        self._arrived()

    async def ask(self, job: Callable[[], Any], *, first: bool = False) -> Any:
        """Have a job done, and return what it returns; with `first` before those that wait. Raises the
        PluginError of the job."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting += 1
        if first:
            self._jobs.appendleft((job, 1, future))
        else:
            self._jobs.append((job, 1, future))
        self._arrived()
        return await future

    async def room(self) -> None:
        """Return when fewer calls wait than the lane takes."""
        while self.waiting >= self.size_max:
            self._less.clear()
            await self._less.wait()

    async def close(self) -> None:
        """Take no more jobs. Ask for something before, if what waits is to be done."""
        raise AssertionError("each lane has its own")

    def _arrived(self) -> None:
        raise AssertionError("each lane has its own")

    def _done(self, size: int, future: asyncio.Future[Any] | None, result: Any) -> None:
        self.waiting -= size
        if future is not None and not future.done():
            if isinstance(result, PluginError):
                future.set_exception(result)
            else:
                future.set_result(result)
        if self.waiting < self.size_max:
            self._less.set()


class ThreadLane(Lane):
    """Jobs are plain functions; the thread `treadle hooks` does them."""

    def __init__(self, size_max: int, home: contextvars.Context | None = None) -> None:
        super().__init__(size_max, home)
        self._wake = threading.Semaphore(0)
        self._closing = False
        self._ended = asyncio.Event()
        # A daemon: a hook that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self.home.run, args=(self._work,), name="treadle hooks",
                                        daemon=True)
        self._thread.start()

    def _arrived(self) -> None:
        self._wake.release()

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            while self._jobs:  # both ends of a deque are safe in threads
                job, size, future = self._jobs.popleft()
                result, error = attempt(job, interrupts=True)
                if error is not None:
                    result = _refused(error)
                self._tell(self._done, size, future, result)
            if self._closing:
                self._tell(self._ended.set)
                return

    def _tell(self, function: Callable[..., object], *given: object) -> None:
        try:
            self.loop.call_soon_threadsafe(function, *given)
        except RuntimeError:
            pass  # the loop is closed: nobody is left to be told

    async def close(self) -> None:
        """End the thread. One that hangs in a hook is left to end by itself."""
        self._closing = True
        self._wake.release()
        if not self.waiting:
            await self._ended.wait()
            self._thread.join()


class LoopLane(Lane):
    """Jobs return awaitables; one task of the event loop does them."""

    def __init__(self, size_max: int, home: contextvars.Context | None = None) -> None:
        super().__init__(size_max, home)
        self._wake = asyncio.Event()
        self._closing = False
        self._task = self.loop.create_task(self._work(), name="treadle async hooks", context=self.home)

    def _arrived(self) -> None:
        self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._jobs:
                job, size, future = self._jobs.popleft()
                result, error = await attempt_async(job)
                if error is not None:
                    if self._closing:
                        raise error
                    self._task.uncancel()  # a hook may cancel the task that it runs in: ours
                    result = _refused(error)
                self._done(size, future, result)
                await asyncio.sleep(0)

    async def close(self) -> None:
        """End the task; what it has not done is left."""
        self._closing = True
        self._task.cancel()
        await asyncio.wait([self._task])


def _refused(error: BaseException) -> PluginError:
    """What whoever asked for a job is told of how it ended."""
    if isinstance(error, PluginError):
        return error
    logger.error("a hook ended what called it by %s: other calls that were due then may be left out",
                 type(error).__name__, exc_info=error)
    made = PluginError(f"a hook ended what called it by {type(error).__name__}")
    made.__cause__ = error
    return made
