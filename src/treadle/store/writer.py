"""The one thread that writes a store: sealed batches and calls come in by a queue, what became of them goes back.

Only the event loop seals a batch, so the thread never sees anything that the loop can still change. A store that is
busy or full is tried again until it works; nothing is dropped.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import apsw

from treadle.errors import StoreFull
from treadle.store.base import Batch, Store

RETRYABLE = (apsw.BusyError, apsw.LockedError, apsw.IOError, StoreFull)
_PAUSE_MIN_S = 0.02


class Job:
    """One thing to do on the thread, and what became of it."""

    __slots__ = ("batch", "call", "error", "done", "result")

    def __init__(self, batch: Batch | None, call: Callable[[], Any] | None, done: Callable[[Job], None]) -> None:
        self.batch, self.call, self.done = batch, call, done
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """The thread. `tell` brings a finished job back to the loop; `idle` is run every `idle_s` while nothing waits."""

    def __init__(self, store: Store, tell: Callable[[Job], None], *, idle: Callable[[], None], idle_s: float,
                 pause_s_max: float) -> None:
        self._store, self._tell, self._idle, self._idle_s, self._pause_s_max = store, tell, idle, idle_s, pause_s_max
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.trouble: str | None = None  # why the store can't be written at the moment
        self._thread = threading.Thread(target=self._run, name="treadle writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job) -> None:
        self._queue.put(job)

    def stop(self) -> None:
        """End the thread after what waits; see `join`."""
        self._queue.put(None)

    def give_up(self) -> None:
        """Stop trying what can't be written at the moment: its job ends with the error."""
        self._stopping.set()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def _run(self) -> None:
        next_idle = time.monotonic() + self._idle_s
        while True:
            try:
                job = self._queue.get(timeout=max(0.0, next_idle - time.monotonic()))
            except queue.Empty:
                self._idle()
                next_idle = time.monotonic() + self._idle_s
                continue
            if job is None:
                return
            self._perform(job)
            self._tell(job)
            if time.monotonic() >= next_idle:
                self._idle()
                next_idle = time.monotonic() + self._idle_s

    def _perform(self, job: Job) -> None:
        pause = _PAUSE_MIN_S
        while True:
            try:
                if job.batch is not None:
                    job.result = self._store.apply(job.batch)
                else:
                    assert job.call is not None
                    job.result = job.call()
                job.error = None
                break
            except RETRYABLE as error:
                job.error = error
                self.trouble = str(error)
                if self._stopping.wait(pause):
                    break
                pause = min(pause * 2, self._pause_s_max)
            except BaseException as error:  # handed to the loop, which raises it where the job came from
                job.error = error
                break
        if job.error is None:
            self.trouble = None


