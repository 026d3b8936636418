"""Tasks with an owner: strongly referenced while they run, waited for, cancelled together, and never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")
F = TypeVar("F", bound="asyncio.Future[Any]")
AnyTask = asyncio.Task[Any]

HURRY_S = 0.5
"""What each thing that is being awaited still gets once the one who waits has been cancelled."""

_abandoned: set[AnyTask] = set()  # referenced, so that they are not collected in mid-flight


class Patience:
    """Waits for tasks without being cut short: a cancellation of the waiter shortens the wait, and is kept.

    Whoever uses it calls `raise_cancelled` when everything has been attempted.
    """

    def __init__(self) -> None:
        self.cancelled: asyncio.CancelledError | None = None

    async def wait(self, tasks: Iterable[F], seconds: float | None) -> set[F]:
        """Wait until all have ended or `seconds` have passed (None: no limit); returns the rest.

        Even with 0 seconds each gets one turn of the loop.
        """
        loop = asyncio.get_running_loop()
        pending = {task for task in tasks if not task.done()}
        if self.cancelled is not None:
            seconds = _sooner(seconds)
        until = None if seconds is None else loop.time() + seconds
        left, had_a_turn = seconds, False
        while pending and not (had_a_turn and left is not None and left <= 0):
            had_a_turn = True
            try:
                _, pending = await asyncio.wait(pending, timeout=None if left is None else max(left, 0))
            except asyncio.CancelledError as cancelled:
                self.cancelled = cancelled
                pending = {task for task in pending if not task.done()}
                until = loop.time() + _sooner(None if until is None else until - loop.time())
            left = None if until is None else until - loop.time()
        return pending

    def raise_cancelled(self) -> None:
        """Pass on the cancellation that came while we waited, if one did."""
        if self.cancelled is not None:
            context = self.cancelled.__context__
            try:
                raise self.cancelled
            finally:  # the statement puts what is handled just now there, and would lose what hangs on it
                self.cancelled.__context__ = context


def _sooner(seconds: float | None) -> float:
    return HURRY_S if seconds is None else min(seconds, HURRY_S)


def current_task() -> AnyTask | None:
    """The task that runs in this thread, or None; unlike asyncio's, also where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def abandon(task: AnyTask) -> None:
    """Give a task up that would not end: keep it referenced, and its error from being reported twice."""
    _abandoned.add(task)
    task.add_done_callback(_forget)


def _forget(task: AnyTask) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()


def too_slow(tasks: Iterable[AnyTask], seconds: float,
             what: str = "after they were cancelled") -> TimeoutError:
    """The error that names the tasks that did not end in time."""
    names = ", ".join(sorted(repr(task.get_name()) for task in tasks))
    return TimeoutError(f"these tasks did not end within {seconds:g} s {what}: {names}. Does one of them "
                        "swallow CancelledError, or block in its `finally`?")


class AsyncTaskManager:
    """Owner of a set of tasks.

        manager = AsyncTaskManager("downloads")
        task = manager.create_task(fetch(url), name="fetch")
        await manager.wait_all(timeout=30)
        await manager.cleanup()

    A task that fails does not touch the others: its error belongs to whoever awaits it.
    """

    def __init__(self, name: str = "tasks") -> None:
        self.name = name
        self.closed = False
        self._finishing = False
        self._tasks: set[AnyTask] = set()

    @property
    def tasks(self) -> frozenset[AnyTask]:
        """The tasks that still run."""
        return frozenset(task for task in self._tasks if not task.done())

    def __len__(self) -> int:
        return len(self.tasks)

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task and own it. After `cleanup` the coroutine is closed and RuntimeError raised."""
        if self.closed:
            coro.close()
            what = name or getattr(coro, "__qualname__", "a coroutine")
            raise RuntimeError(f"{self.name!r} is closed, so it can't start {what!r}: "
                               "create tasks before its clean-up")
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self.adopt(task)
        return task

    def adopt(self, task: AnyTask) -> None:
        """Own a task that somebody else created."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._finishing:
            task.cancel()  # started by a task that is ending: it ends too, before it begins

    async def wait_all(self, timeout: float | None = None) -> None:
        """Wait until every task has ended; also those that are created meanwhile, but not the caller's own.

        After `timeout` seconds (None: never; 0: at once) TimeoutError names those that still run; none is
        cancelled.
        """
        loop, me = asyncio.get_running_loop(), current_task()
        until = None if timeout is None else loop.time() + timeout
        while pending := self.tasks - {me}:
            left = None if until is None else until - loop.time()
            if left is not None and left <= 0:
                raise too_slow(pending, timeout or 0, "and still run")
            await asyncio.wait(pending, timeout=left)

    def cancel_all(self) -> int:
        """Ask every task but the caller's own to stop; returns how many. Safe from any thread."""
        try:
            here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        mine = self.tasks - {current_task()}
        for task in mine:
            loop = task.get_loop()
            if loop is here or not loop.is_running():
                task.cancel()
            else:
                loop.call_soon_threadsafe(task.cancel)
        return len(mine)

    async def cleanup(self, timeout: float = 10.0) -> None:
        """Cancel every task and wait for it; a second call does nothing.

        Tasks that others start while they end are cancelled too. After `timeout` seconds TimeoutError names
        the survivors, which are given up. A cancellation of the caller shortens the wait and is raised at the
        end.
        """
        patience = Patience()
        survivors = await self.finish(patience, timeout)
        patience.raise_cancelled()
        if survivors:
            raise too_slow(survivors, timeout)

    async def finish(self, patience: Patience, seconds: float) -> set[AnyTask]:
        """Cancel and await as `cleanup` does, but return the survivors, for owners with more to close."""
        me, until = current_task(), asyncio.get_running_loop().time() + seconds
        self._finishing = True
        for task in self.tasks - {me}:
            task.cancel()  # once: a second cancel would interrupt its `finally`
        while pending := self.tasks - {me}:
            if await patience.wait(pending, until - asyncio.get_running_loop().time()):
                break
        self.closed = True
        survivors = set(self.tasks - {me})
        self._tasks.clear()
        for task in survivors:
            abandon(task)
        return survivors
