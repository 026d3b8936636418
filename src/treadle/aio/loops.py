"""One event loop with a proper end.

Its tasks are cancelled and awaited, its async generators and its default executor are shut down, it is
closed, and the loop that was current before is current again.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar

from treadle.aio.resources import shut_down
from treadle.aio.tasks import AnyTask, Patience

T = TypeVar("T")
P = ParamSpec("P")
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


class _Threads(ThreadPoolExecutor):
    """A loop's default executor. It knows whether it was used: most loops end sooner without its end."""

    used = False

    def submit(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        self.used = True
        return super().submit(function, *args, **kwargs)


class ManagedEventLoop:
    """An event loop of one's own, in a `with` or until `close`.

        with ManagedEventLoop() as loop:
            loop.run_until_complete(main())

    `timeout` bounds each part of its end, in seconds (None: however long it takes). Not inside a running
    loop: RuntimeError. A forked child has to make its own: there `run` refuses, and `close` does nothing.
    """

    def __init__(self, kind: LoopKind = "auto", *, timeout: float | None = 10.0) -> None:
        self.timeout = timeout
        self.pid = os.getpid()
        self._runner = asyncio.Runner(loop_factory=loop_factory(kind))
        self._loop: asyncio.AbstractEventLoop | None = None
        self._before: asyncio.AbstractEventLoop | None = None
        self._ending = threading.Lock()  # whoever takes it closes the loop; nobody gives it back

    def open(self) -> asyncio.AbstractEventLoop:
        """Make the loop, and make it this thread's current one."""
        if self._loop is not None:
            raise RuntimeError("this ManagedEventLoop was opened before: make a new one")
        refuse_in_running_loop("open another event loop")
        self._before = current_loop()
        self._loop = self._runner.get_loop()
        # Ours, so that its end can be bounded: asyncio's own joins its threads whatever happens.
        self._executor = _Threads(thread_name_prefix="loop")
        self._loop.set_default_executor(self._executor)
        asyncio.set_event_loop(self._loop)
        _opened.add(self)
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
        """Run a coroutine to its end; Ctrl-C cancels it.

        RuntimeError, and the coroutine is closed, if the loop is not open or another one runs here.
        """
        try:
            refuse_in_running_loop("run a coroutine to its end")
            if self.loop.is_closed():
                raise RuntimeError("this ManagedEventLoop is closed: make a new one")
            if self.pid != os.getpid():
                raise RuntimeError("this event loop belongs to the parent process: make a new one here")
        except RuntimeError:
            coro.close()
            raise
        return self._runner.run(coro)

    def close(self) -> None:
        """End everything that lives in the loop, then close it. A second call does nothing.

        TimeoutError names the tasks that would not end; the loop is closed all the same. RuntimeError while
        it runs, or another one does in this thread.
        """
        if self._loop is None or self._loop.is_closed() or self.pid != os.getpid():
            return
        refuse_in_running_loop("close an event loop")
        if self._loop.is_running():
            raise RuntimeError("this event loop runs in another thread: what runs there has to end first")
        if not self._ending.acquire(blocking=False):
            return  # its thread is ending, and closes it just now
        problem: TimeoutError | None = None
        try:
            problem = self._loop.run_until_complete(self._wind_down(self._loop))
        finally:
            if current_loop() is self._loop:
                before = self._before
                asyncio.set_event_loop(None if before is None or before.is_closed() else before)
            self._before = None
            self._loop.close()
            _opened.discard(self)
        if problem is not None:
            raise problem

    def close_idle(self) -> None:
        """Close the loop as it is, unless tasks are left in it, which have to run once more to end."""
        loop = self._loop
        if not (loop is None or self.pid != os.getpid() or loop.is_closed() or loop.is_running()
                or asyncio.all_tasks(loop)) and self._ending.acquire(blocking=False):
            loop.close()

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
            loop.create_task(loop.shutdown_asyncgens()): "async generators"}
        if self._executor.used:
            ends[asyncio.wrap_future(shut_down(self._executor))] = "default executor"
        late = await patience.wait(ends, self.timeout)
        for end in late:
            end.cancel()
        await patience.wait(late, 0.1)
        names = {repr(task.get_name()) for task in survivors} | {f"the {ends[end]}" for end in late}
        if not names:
            return None
        return TimeoutError(f"the event loop was closed over {', '.join(sorted(names))}: not ended within "
                            f"{self.timeout or 0:g} s")

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


_opened: weakref.WeakSet[ManagedEventLoop] = weakref.WeakSet()
_inherited: list[ManagedEventLoop] = []
"""What a forked child must neither use nor close nor collect: its parent's loops, whose epoll they share."""


def _after_fork() -> None:
    _inherited.extend(_opened)
    if any(managed.loop is current_loop() for managed in _inherited):
        asyncio.set_event_loop(None)


os.register_at_fork(after_in_child=_after_fork)


def refuse_in_running_loop(what: str) -> None:
    if asyncio._get_running_loop() is not None:
        raise RuntimeError(
            f"can't {what} inside a running event loop: await it there, or do it in another thread")


def current_loop() -> asyncio.AbstractEventLoop | None:
    """This thread's current loop, without making one, as `asyncio.get_event_loop` would before 3.14."""
    if sys.version_info >= (3, 14):  # pragma: no cover
        try:
            return asyncio.get_event_loop()
        except RuntimeError:
            return None
    local = getattr(asyncio.get_event_loop_policy(), "_local", None)
    loop: asyncio.AbstractEventLoop | None = getattr(local, "_loop", None)
    return loop
