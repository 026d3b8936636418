"""Where hooks run: the plain ones on one thread, the async ones in one task, each in the order of what
happened.

A lane takes jobs on the event loop. What waits in it is bounded: `room` returns when there is some.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from treadle.errors import PluginError

HANDOVER_S = 0.01
"""How long a job waits for others before the thread is woken: waking it for each costs the loop more than the
job."""
BATCH_MAX = 256
"""Jobs that the thread takes at once, and at which it is woken early."""
BREATH = 64
"""Calls of async hooks after which the event loop has its turn."""

Job = tuple[Callable[[], Any], "asyncio.Future[Any] | None"]


class Lane:
    """What both have: the count of what waits, and those who wait for it."""

    def __init__(self, size_max: int) -> None:
        self.loop = asyncio.get_running_loop()
        self.size_max = size_max
        self.waiting = 0  # jobs that are not done
        self._jobs: deque[Job] = deque()
        self._less = asyncio.Event()

    def put(self, job: Callable[[], Any]) -> None:
        """Have a job done after those before."""
        self.waiting += 1
        self._jobs.append((job, None))
        self._arrived(False)

    async def ask(self, job: Callable[[], Any], *, first: bool = False) -> Any:
        """Have a job done, and return what it returns; with `first` before those that wait. Raises the
        PluginError of the job."""
        future: asyncio.Future[Any] = self.loop.create_future()
        self.waiting += 1
        if first:
            self._jobs.appendleft((job, future))
        else:
            self._jobs.append((job, future))
        self._arrived(True)
        return await future

    async def room(self) -> None:
        """Return when fewer jobs wait than the lane takes."""
        while self.waiting >= self.size_max:
            self._less.clear()
            await self._less.wait()

    async def close(self) -> None:
        """Take no more jobs. Ask for something before, if what waits is to be done."""
        raise AssertionError("each lane has its own")

    def _arrived(self, at_once: bool) -> None:
        raise AssertionError("each lane has its own")

    def _done(self, done: list[tuple[asyncio.Future[Any] | None, Any]]) -> None:
        self.waiting -= len(done)
        for future, result in done:
            if future is not None and not future.done():
                if isinstance(result, PluginError):
                    future.set_exception(result)
                else:
                    future.set_result(result)
        if self.waiting < self.size_max:
            self._less.set()


class ThreadLane(Lane):
    """Jobs are plain functions; the thread `treadle hooks` does them."""

    def __init__(self, size_max: int) -> None:
        super().__init__(size_max)
        self._wake = threading.Semaphore(0)
        self._closing = False
        self._ended = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        # A daemon: a hook that hangs must not keep the program from ending.
        self._thread = threading.Thread(target=self._work, name="treadle hooks", daemon=True)
        self._thread.start()

    def _arrived(self, at_once: bool) -> None:
        if at_once or len(self._jobs) == BATCH_MAX:
            self._hand_over()
        elif self._timer is None:
            self._timer = self.loop.call_later(HANDOVER_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake.release()

    def _work(self) -> None:
        while True:
            self._wake.acquire()
            while self._jobs:  # both ends of a deque are safe in threads
                done: list[tuple[asyncio.Future[Any] | None, Any]] = []
                while self._jobs and len(done) < BATCH_MAX:
                    job, future = self._jobs.popleft()
                    try:
                        done.append((future, job()))
                    except PluginError as error:
                        done.append((future, error))
                self._tell(self._done, done)
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
        self._hand_over()
        if not self.waiting:
            await self._ended.wait()
            self._thread.join()


class LoopLane(Lane):
    """Jobs return awaitables; one task of the event loop does them."""

    def __init__(self, size_max: int) -> None:
        super().__init__(size_max)
        self._wake = asyncio.Event()
        # Its own context: it is made wherever the first transition happens, perhaps in a node's body.
        self._task = self.loop.create_task(self._work(), name="treadle async hooks",
                                           context=contextvars.Context())

    def _arrived(self, at_once: bool) -> None:
        self._wake.set()

    async def _work(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            count = 0
            while self._jobs:
                job, future = self._jobs.popleft()
                made: Awaitable[Any] = job()
                result = await made
                self._done([(future, result)])
                count += 1
                if count % BREATH == 0:
                    await asyncio.sleep(0)

    async def close(self) -> None:
        """End the task; what it has not done is left."""
        self._task.cancel()
        await asyncio.wait([self._task])
