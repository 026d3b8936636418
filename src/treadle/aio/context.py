"""A block that owns tasks and resources: leaving it ends the tasks, then closes the resources.

It is not a TaskGroup: a task that fails does not cancel the body. Its error goes to the handlers at once, and
surfaces at the block's end.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Coroutine
from enum import Enum
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, overload

from treadle.aio.resources import CLOSE_S, AsyncResourceManager, attach, chain, describe, error_group
from treadle.aio.tasks import AnyTask, AsyncTaskManager, Patience, too_slow
from treadle.foreign import attempt

T = TypeVar("T")
ErrorHandler = Callable[[BaseException, "AsyncExecutionContext", "AnyTask | None"], object]
"""Is told of an error: what, in which context, in which task (None: in the body or while closing)."""


class _Phase(Enum):
    NEW = "has not been entered: use `async with`"
    OPEN = "is open"
    CLOSED = "has ended"


class AsyncExecutionContext:
    """A block that owns tasks and resources; see `async_context`.

    The body's error goes first: what fails while the block ends is reachable from it (its notes and its chain
    of contexts). Without one, the errors of tasks and of closes are raised together as one ExceptionGroup. A
    task's error always surfaces; where one is expected, catch it inside the task or use
    `gather(return_exceptions=True)`.
    """

    def __init__(self, name: str = "context", *, timeout: float = CLOSE_S) -> None:
        self.name = name
        self.timeout = timeout
        self._phase = _Phase.NEW
        self._tracked: set[AnyTask] = set()
        self._tasks = AsyncTaskManager(name)
        self._resources = AsyncResourceManager(name)
        self._handlers: list[ErrorHandler] = []
        self._errors: list[BaseException] = []

    async def __aenter__(self) -> Self:
        if self._phase is not _Phase.NEW:
            raise RuntimeError(f"context {self.name!r} was entered before: make a new one for each block")
        self._phase = _Phase.OPEN
        return self

    async def register_resource(self, resource: T, cleanup: Callable[..., object] | None = None) -> T:
        """Own a resource, and return it; see `AsyncResourceManager.register` for how it will be closed."""
        self._require_open("register a resource")
        return self._resources.register(resource, cleanup)

    def add_cleanup(self, callback: Callable[..., object], *args: object) -> None:
        """Call `callback(*args)` at the end, in its turn among the resources; awaited if it can be."""
        self._require_open("add a clean-up")
        self._resources.add_cleanup(callback, *args)

    def register_error_handler(self, handler: ErrorHandler) -> None:
        """Have `handler(error, context, task)` told of every error but cancellations, once each.

        It is a plain function; one that raises is reported to the loop, and the others are called all the
        same.
        """
        if inspect.iscoroutinefunction(handler):
            raise TypeError(f"the handler {describe(handler)} must be a plain function, not a coroutine's")
        self._handlers.append(handler)

    def create_task(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> asyncio.Task[T]:
        """Start a task that this block owns: cancelled and awaited when the block ends."""
        self._require_open(f"start {name or describe(coro)}", coro)
        task = self._tasks.create_task(coro, name=name)
        self._tracked.add(task)
        task.add_done_callback(self._settle)
        return task

    @overload
    async def gather(self, *coros: Awaitable[T], return_exceptions: Literal[False] = ...) -> list[T]: ...
    @overload
    async def gather(self, *coros: Awaitable[T], return_exceptions: bool) -> list[T | BaseException]: ...
    async def gather(self, *coros: Awaitable[Any], return_exceptions: bool = False) -> list[Any]:
        """Run awaitables at once and return their results in order.

        The first that fails cancels the others, and an ExceptionGroup holds every error; with
        `return_exceptions` none is cancelled, and errors stand among the results.
        """
        self._require_open("gather", *coros)
        if return_exceptions:
            tasks = [self._tasks.create_task(_coroutine(coro)) for coro in coros]
            return await asyncio.gather(*tasks, return_exceptions=True)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_coroutine(coro)) for coro in coros]
            for task in tasks:
                self._tasks.adopt(task)
        return [task.result() for task in tasks]

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        patience = Patience()
        survivors = await self._tasks.finish(patience, self.timeout)
        self._phase = _Phase.CLOSED
        for task in tuple(self._tracked):
            if task.done():
                self._settle(task)
        failures = await self._resources.close_all(patience, self.timeout)
        if survivors:
            failures.insert(0, too_slow(survivors, self.timeout))
        for failure in failures:
            self._tell(failure, None)
        if error is not None and not isinstance(error, asyncio.CancelledError) and all(
                error is not known for known in self._errors):
            self._tell(error, None)
        self._raise(error, patience, [e for e in self._errors if e is not error] + failures)

    def _raise(self, error: BaseException | None, patience: Patience, others: list[BaseException]) -> None:
        # A cancellation that came while we closed goes first: swallowing it would break whoever cancelled us.
        primary = patience.cancelled or error
        if error is not None and primary is not None:
            chain(primary, error)
        group = error_group(f"leaving {self.name!r}", others)
        if group is not None and primary is None:
            raise group
        if group is not None and primary is not None:
            attach(primary, group)
            if isinstance(primary, asyncio.CancelledError) and not self._handlers:
                self._log("errors behind a cancellation", group)
        patience.raise_cancelled()

    def _settle(self, task: AnyTask) -> None:
        """Take in that a task ended: keep its error, and tell the handlers. Once for each task."""
        if task not in self._tracked:
            return
        self._tracked.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._errors.append(error)
            self._tell(error, task)

    def _tell(self, error: BaseException, task: AnyTask | None) -> None:
        for handler in self._handlers:
            _, failure = attempt(handler, error, self, task)
            if failure is not None:  # it must not hide the error
                self._log(f"error handler {describe(handler)} failed", failure)

    def _log(self, what: str, error: BaseException) -> None:
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"context {self.name!r}: {what}", "exception": error})

    def _require_open(self, what: str, *coros: object) -> None:
        if self._phase is not _Phase.OPEN:
            for coro in coros:
                if inspect.iscoroutine(coro):
                    coro.close()
            raise RuntimeError(f"can't {what}: context {self.name!r} {self._phase.value}")

    def __repr__(self) -> str:
        return f"<AsyncExecutionContext {self.name!r} {self._phase.name.lower()}, {len(self._tasks)} tasks>"


def async_context(name: str = "context", *, timeout: float = CLOSE_S) -> AsyncExecutionContext:
    """A block that owns tasks and resources, for one use.

        async with async_context("import") as context:
            client = await context.register_resource(Client())
            context.create_task(heartbeat(client), name="heartbeat")
            pages = await context.gather(*(fetch(client, url) for url in urls))

    When the block ends, its tasks are cancelled and awaited for `timeout` seconds together; then the
    resources are closed, the last first, each within `timeout` seconds. Cancelling the block again only
    hurries that.
    """
    return AsyncExecutionContext(name, timeout=timeout)


async def _wait_for(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _coroutine(awaitable: Awaitable[T]) -> Coroutine[Any, Any, T]:
    # A coroutine is passed on as it is: wrapped, it would never be awaited if its task is cancelled before it
    # starts.
    return awaitable if inspect.iscoroutine(awaitable) else _wait_for(awaitable)
