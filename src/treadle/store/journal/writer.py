"""The one thread that writes a store: sealed batches and calls come in by a queue, what became of them goes
back.

Only the event loop seals a batch, so the thread never sees anything that the loop can still change. A store
that is busy or full is tried again until it works; nothing is dropped. After a batch that can't be written at
all no later one is tried: a store never holds what came after a gap.
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import apsw

from treadle.errors import StoreFull
from treadle.foreign import attempt
from treadle.state.cell import CellKey
from treadle.store.base import Batch, Store

RETRYABLE = (apsw.BusyError, apsw.LockedError, apsw.IOError, StoreFull)
_PAUSE_MIN_S = 0.02
_WAIT_S_MAX = 3600.0
logger = logging.getLogger("treadle.store")


class Sealed:
    """A batch on its way, with what must be told when it has arrived."""

    __slots__ = ("batch", "counts", "size", "ticket", "updates")

    def __init__(self, batch: Batch, counts: dict[CellKey, int], updates: int, ticket: int,
                 size: int) -> None:
        self.batch, self.counts, self.updates, self.ticket, self.size = batch, counts, updates, ticket, size


class Job:
    """One thing to do on the thread, and what became of it."""

    __slots__ = ("batch", "call", "error", "done", "result", "seconds")

    def __init__(self, batch: Batch | None, call: Callable[[], Any] | None,
                 done: Callable[[Job], None]) -> None:
        self.batch, self.call, self.done = batch, call, done
        self.result: Any = None
        self.error: BaseException | None = None
        self.seconds = 0.0  # how long the last try took


class Writer:
    """The thread. `tell` brings a finished job back to the loop; `idle` is run now and then and says, in
    seconds, when next; `retried` counts the tries that a busy or full store cost."""

    def __init__(self, store: Store, tell: Callable[[Job], None], *, idle: Callable[[], float], idle_s: float,
                 pause_s_max: float, retried: Callable[[], None]) -> None:
        self._store, self._tell, self._idle, self._idle_s = store, tell, idle, idle_s
        self._pause_s_max, self._retried = pause_s_max, retried
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._put = self._begun = self._done = 0  # batches: the loop counts the first, the thread the others
        self._broken: BaseException | None = None  # what ended the writing of batches
        self._complaint = ""
        self.trouble: str | None = None  # why the store can't be written at the moment
        self._thread = threading.Thread(target=self._run, name="treadle writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job) -> None:
        self._put += job.batch is not None
        self._queue.put(job)

    @property
    def idle(self) -> bool:
        """Whether every batch is done, though the loop may not have heard of it yet."""
        return self._put == self._done

    @property
    def behind(self) -> bool:
        """Whether a batch waits while none is being written: the thread lacks the GIL."""
        return self._begun == self._done < self._put

    def wake(self) -> None:
        """Have `idle` run soon."""
        self._idle_s = 0.0
        self.put(Job(None, lambda: None, lambda job: None))

    def stop(self) -> None:
        """End the thread after what waits, and wait for its end."""
        self._idle_s = math.inf
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        last = time.monotonic()
        while True:
            try:
                wait = last + self._idle_s - time.monotonic()
                job = self._queue.get(timeout=min(max(0.0, wait), _WAIT_S_MAX))
            except queue.Empty:
                pass
            else:
                if job is None:
                    return
                self._begun += job.batch is not None
                self._perform(job)
                self._done += job.batch is not None
                self._tell(job)
            if time.monotonic() >= last + self._idle_s:
                last = self._breathe()

    def _breathe(self) -> float:
        idle_s, error = attempt(self._idle)
        if error is None:
            self._idle_s, self._complaint = idle_s, ""
        else:  # a store that is busy or gone: the next turn tries again
            self._idle_s = 0.2
            if str(error) != self._complaint:
                self._complaint = str(error)
                logger.warning("the store could not be asked, trying again: %s", error)
        return time.monotonic()

    def _perform(self, job: Job) -> None:
        pause = _PAUSE_MIN_S
        while True:
            begun = time.monotonic()
            if job.batch is None:
                assert job.call is not None
                job.result, error = attempt(job.call, interrupts=True)
            elif self._broken is not None:
                job.error = self._broken
                return
            else:
                job.result, error = attempt(self._store.apply, job.batch, interrupts=True)
                job.seconds = time.monotonic() - begun
            if not isinstance(error, RETRYABLE):
                break
            self.trouble = str(error)
            self._retried()
            time.sleep(pause)
            pause = min(pause * 2, self._pause_s_max)
        if error is None:
            self.trouble = None
        else:  # the loop raises it where the job came from
            job.error = error
            if job.batch is not None:
                self._broken = error
