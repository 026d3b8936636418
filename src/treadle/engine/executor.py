"""Where bodies run that don't run in the event loop: threads, and child processes that can be killed.

`Executors` is the one owner of both; the engine closes it. A time limit counts from the moment a body starts,
not from when it was asked for.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import BodyDied, NodeTimeout
from treadle.foreign import attempt
from treadle.nodes.base import Executor, told
from treadle.nodes.failures import RemoteError, error_info

if TYPE_CHECKING:
    from treadle.engine.processes import ProcessExecutor

__all__ = ["Executors", "RemoteError", "ThreadExecutor", "error_info"]

logger = logging.getLogger("treadle.bodies")

_ENDING_S_MAX = 1.0
"""How long the end of the engine waits for threads that have nothing to do any more."""


class Executors:
    """The executors of one engine. Make it on the event loop; `close` leaves no process, and no thread that
    heeds."""

    def __init__(self, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self._config = config
        self._threads: ThreadExecutor | None = None
        self._processes: ProcessExecutor | None = None

    def get(self, isolation: str) -> Executor:
        """The executor for `thread` or `process`; ValueError for anything else."""
        if isolation == "thread":
            if self._threads is None:
                self._threads = ThreadExecutor(self._config)
            return self._threads
        if isolation == "process":
            if self._processes is None:
                from treadle.engine.processes import ProcessExecutor  # what it needs, only POSIX systems have

                self._processes = ProcessExecutor(self._config)
            return self._processes
        raise ValueError(f"there is no executor for isolation {isolation!r}: there are 'thread' and "
                         "'process'")

    async def close(self) -> None:
        """Kill the child processes, and let the threads go. A second call does nothing."""
        processes, self._processes = self._processes, None
        threads, self._threads = self._threads, None
        if threads is not None:
            await threads.close()
        if processes is not None:
            await processes.close()


class _Call:
    """A function on its way through a thread."""

    __slots__ = ("args", "cancelled", "context", "ended", "function", "future", "name")

    def __init__(self, function: Callable[..., Any], args: tuple[Any, ...], name: str,
                 future: asyncio.Future[Any]) -> None:
        self.function, self.args, self.name, self.future = function, args, name, future
        self.cancelled = threading.Event()
        self.context = contextvars.copy_context()
        self.context.run(told.set, self.cancelled)
        self.ended = False


class ThreadExecutor:
    """Bodies in threads, at most `thread_max` at once.

    A thread can't be stopped. One that is cancelled or times out is told (`treadle.nodes.cancelled()`), its
    place is given away, and whatever it returns is dropped; if it still runs after `cancel_s_max`, there is a
    warning. The threads are daemons, so that one that never ends can't hold the interpreter back.
    """

    def __init__(self, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self._config = config
        self._process = os.getpid()
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._slots = asyncio.Semaphore(config.thread_max)
        self._idle = 0  # threads that wait for a call; counted on the loop
        self._threads: set[threading.Thread] = set()
        self._running: set[_Call] = set()
        self._closed = False

    async def run(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None,
                  memory_mb: int | None = None, name: str = "") -> Any:
        """Call a function in a thread, in a copy of the caller's context variables. NodeTimeout."""
        async with self._slots:
            if self._closed:
                raise asyncio.CancelledError
            call = _Call(function, args, name, self._loop.create_future())
            self._start(call)
            timer = None if timeout is None else self._loop.call_later(timeout, self._expire, call, timeout)
            try:
                return await call.future
            finally:
                if timer is not None:
                    timer.cancel()
                if not call.ended:
                    self._abandon(call)

    async def close(self) -> None:
        """Tell what runs, and end the threads. One that is still in a body is left to end when it can."""
        self._closed = True
        busy = len(self._running)
        for call in list(self._running):
            call.cancelled.set()
            if not call.future.done():
                call.future.cancel()
            logger.warning("the engine closes while a thread still runs node %r: it is abandoned", call.name)
        self._running.clear()
        for _ in self._threads:
            self._calls.put(None)
        if len(self._threads) > busy:  # by then they are ending: it takes microseconds
            await asyncio.to_thread(_join, self._threads, busy)

    def _start(self, call: _Call) -> None:
        self._running.add(call)
        self._calls.put(call)
        if self._idle:
            self._idle -= 1
            return
        thread = threading.Thread(target=self._work, name="treadle body", daemon=True)
        self._threads.add(thread)
        thread.start()

    def _expire(self, call: _Call, timeout: float) -> None:
        if not call.future.done():
            call.future.set_exception(NodeTimeout(
                f"node {call.name!r} ran longer than its timeout of {timeout:g} s; its thread was told, and "
                "abandoned"))

    def _abandon(self, call: _Call) -> None:
        """Nobody waits for this call any more, but its thread is still in it."""
        call.cancelled.set()
        if not self._closed:
            self._loop.call_later(self._config.cancel_s_max, self._complain, call)

    def _complain(self, call: _Call) -> None:
        if not call.ended and not self._closed:
            logger.warning("a thread still runs node %r, %g s after it was told to stop (cancel_s_max): a "
                           "long body should ask treadle.nodes.cancelled(), or have isolation: "
                           "process", call.name,
                           self._config.cancel_s_max)

    # in the threads

    def _work(self) -> None:
        while True:
            call = self._calls.get()
            if call is None:
                return
            value, error = attempt(call.context.run, call.function, *call.args, interrupts=True)
            if error is not None:
                error = _presentable(error)
            if os.getpid() != self._process:
                os._exit(0)  # a copy of us that the body forked: it must neither answer nor stay
            try:
                self._loop.call_soon_threadsafe(self._ended, call, value, error)
            except RuntimeError:  # the loop is closed: an abandoned thread has come to its end
                return
            del call, value, error

    # on the loop again

    def _ended(self, call: _Call, value: Any, error: BaseException | None) -> None:
        call.ended = True
        self._idle += 1
        self._running.discard(call)
        if call.future.done():
            if error is not None:
                logger.debug("an abandoned thread of node %r raised %s", call.name, type(error).__name__)
        elif error is not None:
            call.future.set_exception(error)
        else:
            call.future.set_result(value)


def _join(threads: Iterable[threading.Thread], busy: int) -> None:
    """Wait until no more than so many are left."""
    until = time.monotonic() + _ENDING_S_MAX
    left = list(threads)
    while len(left) > busy and time.monotonic() < until:
        for thread in left:
            thread.join(0.001)
        left = [thread for thread in left if thread.is_alive()]


def _presentable(error: BaseException) -> BaseException:
    """An exception as a future can carry it."""
    if isinstance(error, SystemExit):
        return BodyDied(f"the body called sys.exit({error.code!r})").with_traceback(error.__traceback__)
    if isinstance(error, StopIteration):
        return RuntimeError(f"the body raised StopIteration({error.value!r})")
    if not isinstance(error, Exception):  # it would end the event loop, or pass for a cancellation of ours
        return BodyDied(f"the body raised {type(error).__name__}({', '.join(map(repr, error.args))})"
                        ).with_traceback(error.__traceback__)
    return error


