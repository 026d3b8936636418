"""Resources with an owner: closed last in first out, in bounded time, all attempted, every error kept."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import inspect
import reprlib
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from treadle.aio.tasks import Patience, abandon
from treadle.foreign import attempt

T = TypeVar("T")
Closer = Callable[[], object]
"""Closes one resource; what it returns is awaited if it can be."""

CLOSE_S = 10.0
"""How long one resource may take to close unless told otherwise."""
_ABANDON_S = 0.1  # what a close that was cancelled gets to react
_short = reprlib.Repr()  # unlike `repr` it survives objects that can't be shown
_short.maxother = _short.maxstring = 120


class AsyncResourceManager:
    """Owner of resources that must be closed.

        manager = AsyncResourceManager("pipeline")
        client = manager.register(Client())
        manager.register(folder, cleanup=shutil.rmtree)
        await manager.cleanup(timeout=5)

    Each close runs in a task of its own, so that one which never returns can be given up. What is bound to
    the task that entered it (a TaskGroup, a cancel scope) belongs in an `async with` instead.
    """

    def __init__(self, name: str = "resources") -> None:
        self.name = name
        self._entries: list[tuple[object, Closer]] = []
        self._closing: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._entries)

    def register(self, resource: T, cleanup: Callable[..., object] | None = None) -> T:
        """Own a resource, and return it. Registering it again keeps its place, with the new `cleanup` if
        given.

        It is closed by, in this order: `cleanup` (called with the resource if it needs an argument), async
        exit, `aclose`, `close`, `shutdown`, sync exit. Any of them may return an awaitable. Executors are
        shut down in a thread, their queued work dropped. TypeError at once if there is nothing to close it
        with. A context manager must already be entered.
        """
        closer = closer_of(resource, cleanup)
        for i, (known, _) in enumerate(self._entries):
            if known is resource:
                if cleanup is not None:
                    self._entries[i] = (resource, closer)
                return resource
        self._entries.append((resource, closer))
        return resource

    def add_cleanup(self, callback: Callable[..., object], *args: object) -> None:
        """Call `callback(*args)` in its turn among the resources; awaited if it can be. TypeError if it can't
        be called."""
        _require_callable(callback, "a clean-up")
        self._entries.append((callback, lambda: callback(*args)))

    async def cleanup(self, timeout: float = CLOSE_S) -> None:
        """Close everything, the last first, each once and within `timeout` seconds.

        All are attempted; their errors are raised together as one ExceptionGroup, a TimeoutError that names
        it for each that took too long. If the caller is cancelled meanwhile, each that remains gets half a
        second, and then CancelledError is raised. Two calls at once close everything once; both return when
        all is closed.
        """
        patience = Patience()
        errors = await self.close_all(patience, timeout)
        group = error_group(f"closing {self.name!r}", errors)
        if patience.cancelled is not None and group is not None:
            attach(patience.cancelled, group)
        patience.raise_cancelled()
        if group is not None:
            raise group

    async def close_all(self, patience: Patience, seconds: float) -> list[BaseException]:
        """Close as `cleanup` does, but return the errors. For owners that have more to close."""
        errors: list[BaseException] = []
        if self._closing is not None:
            await patience.wait({self._closing}, None)
        mine = self._closing = asyncio.get_running_loop().create_future()
        try:
            while self._entries:
                resource, closer = self._entries.pop()
                error = await _close(resource, closer, patience, seconds)
                if error is not None:
                    errors.append(error)
        finally:
            mine.set_result(None)
        return errors


async def _close(resource: object, closer: Closer, patience: Patience,
                 seconds: float) -> BaseException | None:
    name = describe(resource)
    task = asyncio.get_running_loop().create_task(_run(closer), name=f"close {name}")
    if await patience.wait({task}, seconds):
        task.cancel()
        if await patience.wait({task}, _ABANDON_S):
            abandon(task)
        elif not task.cancelled():
            task.exception()
        hurried = " (cut short by a cancellation)" if patience.cancelled is not None else ""
        return TimeoutError(f"closing {name} took longer than {seconds:g} s{hurried}: it was given up")
    if task.cancelled():
        return RuntimeError(f"closing {name} ended with CancelledError, which came from within it")
    return task.exception()


async def _run(closer: Closer) -> None:
    result = closer()
    if inspect.isawaitable(result):
        await result


def closer_of(resource: object, cleanup: Callable[..., object] | None = None) -> Closer:
    """What closes a resource; TypeError if nothing does."""
    if cleanup is not None:
        _require_callable(cleanup, f"the cleanup of {describe(resource)}")
        return _bound(cleanup, resource)
    if isinstance(resource, concurrent.futures.Executor):
        return lambda: asyncio.wrap_future(shut_down(resource))
    if not isinstance(resource, type):
        if hasattr(type(resource), "__aexit__"):
            return lambda: type(resource).__aexit__(resource, None, None, None)  # type: ignore[attr-defined]
        for method in ("aclose", "close", "shutdown"):
            closer = getattr(resource, method, None)
            if callable(closer):
                return _then_wait(closer, resource)
        if hasattr(type(resource), "__exit__"):
            return lambda: type(resource).__exit__(resource, None, None, None)  # type: ignore[attr-defined]
    raise TypeError(f"{describe(resource)} can't be registered: it has no async exit, aclose, close, "
                    "shutdown or exit. Say how to close it with cleanup=…")


def _require_callable(thing: object, what: str) -> None:
    if callable(thing):
        return
    if inspect.iscoroutine(thing):
        thing.close()
        raise TypeError(f"{what} must be a function, not its coroutine: write {describe(thing)}, without ()")
    raise TypeError(f"{what} must be callable, not {_short.repr(thing)}")


def _bound(cleanup: Callable[..., object], resource: object) -> Closer:
    try:
        signature = inspect.signature(cleanup)
    except ValueError:  # a builtin without a signature
        return cleanup
    for args in ((), (resource,)):
        try:
            signature.bind(*args)
        except TypeError:
            continue
        return functools.partial(cleanup, *args)
    raise TypeError(f"the cleanup {describe(cleanup)}{signature} of {describe(resource)} can be called "
                    "neither without arguments nor with the resource alone")


def _then_wait(closer: Callable[[], object], resource: object) -> Closer:
    # A stream's or server's close only begins: `wait_closed` tells when it is done.
    wait_closed = getattr(resource, "wait_closed", None)
    if not inspect.iscoroutinefunction(wait_closed):
        return closer

    async def close() -> None:
        result = closer()
        if inspect.isawaitable(result):
            await result
        await wait_closed()

    return close


def shut_down(executor: concurrent.futures.Executor) -> concurrent.futures.Future[None]:
    """Shut an executor down in a thread, its queued work dropped; done when its workers have ended."""
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    done.set_running_or_notify_cancel()  # whoever gives the wait up does not end it for others

    def work(wait: bool) -> None:
        _, error = attempt(partial(executor.shutdown, wait=wait, cancel_futures=True))
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(None)

    try:
        threading.Thread(target=work, args=(True,), name=f"shutdown {type(executor).__name__}",
                         daemon=True).start()
    except RuntimeError:  # the interpreter is going down (from 3.12 on): its own exit has joined the workers
        work(False)
    return done


def describe(thing: object) -> str:
    """A short name of a resource or callback, for errors."""
    name = getattr(thing, "__qualname__", "")
    return name if name and isinstance(name, str) else _short.repr(thing)


def error_group(what: str, errors: list[BaseException]) -> BaseExceptionGroup[Any] | None:
    """One group of all errors (an ExceptionGroup unless one is more than an Exception); None without any."""
    if not errors:
        return None
    noun = "error" if len(errors) == 1 else "errors"
    return BaseExceptionGroup(f"{len(errors)} {noun} while {what}", errors)


def attach(primary: BaseException, group: BaseException) -> None:
    """Make a group reachable from the error that goes first: as a note, and at its chain's end."""
    primary.add_note(f"Besides: {group}" + "".join(
        f"\n  {type(error).__name__}: {error}" for error in getattr(group, "exceptions", ())))
    chain(primary, group)


def chain(primary: BaseException, other: BaseException) -> None:
    """Put an error at the end of another's chain of contexts, unless it is in it."""
    last, seen = primary, {id(primary)}
    while last is not other and last.__context__ is not None and id(last.__context__) not in seen:
        last = last.__context__
        seen.add(id(last))
    if last is not other and last.__context__ is None:
        last.__context__ = other
