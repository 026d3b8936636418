"""One event loop with a proper end.

Its tasks are cancelled and awaited, its async generators and its default executor are shut down, it is
closed, and the loop that was current before is current again.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, TypeVar

from treadle.aio.resources import shut_down
from treadle.aio.tasks import AnyTask, Patience

T = TypeVar("T")
LoopKind = Literal["auto", "asyncio", "uvloop"]


def loop_factory(kind: LoopKind = "auto") -> Callable[[], asyncio.AbstractEventLoop]:
    """What makes event loops: uvloop's where it is installed (`auto`), or the kind that is asked for."""
    if kind != "asyncio":
        try:
            import uvloop
        except ImportError:
            if kind == "uvloop":
                raise RuntimeError(
                    "uvloop is not installed: `pip install uvloop`, or choose loop='asyncio'") from None
        else:
            return uvloop.new_event_loop
    return asyncio.new_event_loop


class ManagedEventLoop:
    """An event loop of one's own, in a `with` or until `close`.

        with ManagedEventLoop() as loop:
            loop.run_until_complete(main())

    `timeout` bounds each part of its end, in seconds. Not inside a running loop: RuntimeError.
    """

    def __init__(self, kind: LoopKind = "auto", *, timeout: float = 10.0) -> None:
        self.timeout = timeout
        self.pid = os.getpid()
        self._runner = asyncio.Runner(loop_factory=loop_factory(kind))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: asyncio.AbstractEventLoop | None = None

    def open(self) -> asyncio.AbstractEventLoop:
        """Make the loop, and make it this thread's current one."""
        if self._loop is not None:
            raise RuntimeError("this ManagedEventLoop was opened before: make a new one")
        refuse_in_running_loop("open another event loop")
        self._before = _current_loop()
        self._loop = self._runner.get_loop()
        # Ours, so that its end can be bounded: asyncio's own joins its threads whatever happens.
        self._executor = ThreadPoolExecutor(thread_name_prefix="loop")
        self._loop.set_default_executor(self._executor)
        asyncio.set_event_loop(self._loop)
        return self._loop

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop; RuntimeError before it is opened."""
        if self._loop is None:
            raise RuntimeError("this ManagedEventLoop is not open: use `with`")
        return self._loop

    @property
    def closed(self) -> bool:
        """Whether it was opened and its loop is closed now."""
        return self._loop is not None and self._loop.is_closed()

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; Ctrl-C cancels it."""
        return self._runner.run(coro)

    def close(self) -> None:
        """End everything that lives in the loop, then close it. A second call does nothing.

        TimeoutError names the tasks that would not end; the loop is closed all the same.
        """
        if self._loop is None or self._loop.is_closed():
            return
        problem: TimeoutError | None = None
        try:
            problem = self._loop.run_until_complete(self._wind_down(self._loop))
        finally:
            if _current_loop() is self._loop:
                before = self._before
                asyncio.set_event_loop(None if before is None or before.is_closed() else before)
            self._before = None
            self._loop.close()
        if problem is not None:
            raise problem

    async def _wind_down(self, loop: asyncio.AbstractEventLoop) -> TimeoutError | None:
        patience = Patience()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        survivors: set[AnyTask] = await patience.wait(tasks, self.timeout)
        for task in tasks - survivors:
            if not task.cancelled() and (error := task.exception()) is not None:
                loop.call_exception_handler(
                    {"message": "a task failed while its loop was closed", "exception": error, "task": task})
        ends: dict[asyncio.Future[None], str] = {
            loop.create_task(loop.shutdown_asyncgens()): "async generators",
            shut_down(self._executor): "default executor"}
        late = await patience.wait(ends, self.timeout)
        for end in late:
            end.cancel()
        await patience.wait(late, 0.1)
        names = {repr(task.get_name()) for task in survivors} | {f"the {ends[end]}" for end in late}
        if not names:
            return None
        return TimeoutError(f"the event loop was closed over {', '.join(sorted(names))}: not ended within "
                            f"{self.timeout:g} s")

    def __enter__(self) -> asyncio.AbstractEventLoop:
        return self.open()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            self.close()
        except TimeoutError as problem:
            if error is None:
                raise
            error.add_note(f"Besides: {problem}")


def refuse_in_running_loop(what: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"can't {what} inside a running event loop: await it there, or do it in another thread")


def _current_loop() -> asyncio.AbstractEventLoop | None:
    """This thread's current loop, without making one, as `asyncio.get_event_loop` would before 3.14."""
    if sys.version_info >= (3, 14):
        try:
            return asyncio.get_event_loop()
        except RuntimeError:
            return None
    local = getattr(asyncio.get_event_loop_policy(), "_local", None)
    loop: asyncio.AbstractEventLoop | None = getattr(local, "_loop", None)
    return loop
