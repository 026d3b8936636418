"""Event loops by thread: each thread has its own, a closed one is replaced, none is left open."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import inspect
import logging
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, TypeVar

from treadle.aio.loops import LoopKind, ManagedEventLoop, refuse_in_running_loop
from treadle.aio.resources import describe, error_group, shut_down

T = TypeVar("T")
E = TypeVar("E", bound=concurrent.futures.Executor)

_log = logging.getLogger(__name__)
_managers: weakref.WeakSet[EventLoopManager] = weakref.WeakSet()


class _Owner:
    """A thread that has loops. Its ident says nothing: the next thread may get the same."""

    def __init__(self) -> None:
        self.thread = threading.current_thread()
        self.gone = False

    @property
    def ended(self) -> bool:
        # Python can't say of a thread that it did not start whether that lives; its locals can.
        return self.gone or not self.thread.is_alive()


class _ThreadLoops(threading.local):
    """One thread's loops, the innermost last. When the thread ends, this does, and closes them."""

    def __init__(self) -> None:
        self.owner = _Owner()
        self.stack: list[ManagedEventLoop] = []
        self.guard = _Guard(self.owner, self.stack)


class _Guard:
    """Closes the idle loops of a thread as the thread's locals go."""

    __slots__ = ("_owner", "_stack")

    def __init__(self, owner: _Owner, stack: list[ManagedEventLoop]) -> None:
        self._owner, self._stack = owner, stack

    def __del__(self) -> None:
        for managed in reversed(self._stack):
            managed.close_idle()  # the next sweep closes the others, from a living thread
        self._owner.gone = True


class EventLoopManager:
    """Gives each thread its own event loop, and ends them all. `get_loop_manager()` is the process's one.

        manager = get_loop_manager()
        result = manager.run_coroutine(main(), timeout=30)
    """

    def __init__(self, kind: LoopKind = "auto", *, timeout: float = 10.0) -> None:
        self.kind = kind
        self.timeout = timeout
        self._lock = threading.Lock()
        self._local = _ThreadLoops()
        self._opened: list[tuple[_Owner, ManagedEventLoop]] = []
        self._executors: weakref.WeakSet[concurrent.futures.Executor] = weakref.WeakSet()
        _managers.add(self)

    def get_event_loop(self) -> asyncio.AbstractEventLoop:
        """The running loop, else this thread's own open loop, made if need be; never another thread's."""
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return self._own().loop

    def run_coroutine(self, coro: Coroutine[Any, Any, T], timeout: float | None = None) -> T:
        """Run a coroutine to its end in this thread's loop and return its result.

        After `timeout` seconds it is cancelled, and TimeoutError names it. Inside a running loop the
        coroutine is closed and RuntimeError raised: await it there. TypeError for what is no coroutine.
        """
        given: object = coro
        if not asyncio.iscoroutine(given):
            hint = ": call it, with ()" if inspect.iscoroutinefunction(given) else ""
            raise TypeError(f"run_coroutine runs a coroutine, not {describe(given)}{hint}")
        try:
            refuse_in_running_loop(f"run {describe(coro)} to its end")
        except RuntimeError:
            coro.close()
            raise
        managed = self._own()
        return managed.run(coro if timeout is None else _within(coro, timeout))

    def managed_loop(self) -> _Managed:
        """A fresh loop for a `with` block, this thread's until the block ends. Not inside a running loop."""
        refuse_in_running_loop("open another event loop")
        return _Managed(self)

    def register_executor(self, executor: E) -> E:
        """Have `cleanup` shut an executor down, if it still lives then; returns it."""
        with self._lock:
            self._executors.add(executor)
        return executor

    def cleanup(self) -> None:
        """Shut all executors down and close the loops of this thread and of threads that have ended.

        Each gets `timeout` seconds; all are attempted; errors are raised together as one ExceptionGroup.
        Loops that run, or belong to other living threads, are theirs to end. The manager can be used again
        afterwards. Not inside a running loop, which it would block: RuntimeError.
        """
        refuse_in_running_loop("clean up executors and event loops")
        with self._lock:
            executors = list(self._executors)
            self._executors.clear()
        me = self._local.owner
        errors = _shut_down_all(executors, self.timeout) + self._close(
            lambda owner: owner is me or owner.ended)
        group = error_group("closing event loops and executors", errors)
        if group is not None:
            raise group

    def _own(self) -> ManagedEventLoop:
        stack = self._local.stack
        while stack and stack[-1].closed:  # by whoever had it, not by us
            self._leave(stack[-1])
        return stack[-1] if stack else self._open(ManagedEventLoop(self.kind, timeout=self.timeout))

    def _open(self, managed: ManagedEventLoop) -> ManagedEventLoop:
        for error in self._close(lambda owner: owner.ended):
            _log.warning("closing the event loop of an ended thread: %s", error)
        managed.open()
        self._local.stack.append(managed)
        with self._lock:
            self._opened.append((self._local.owner, managed))
        return managed

    def _leave(self, managed: ManagedEventLoop) -> None:
        if managed in self._local.stack:
            self._local.stack.remove(managed)
        with self._lock:
            self._opened = [entry for entry in self._opened if entry[1] is not managed]

    def _close(self, which: Callable[[_Owner], bool]) -> list[BaseException]:
        with self._lock:
            taken = [entry for entry in self._opened if which(entry[0]) and not entry[1].loop.is_running()]
            self._opened = [entry for entry in self._opened if entry not in taken]
        errors: list[BaseException] = []
        for _, managed in reversed(taken):
            try:
                managed.close()
            except (TimeoutError, RuntimeError) as error:
                errors.append(error)
        return errors

    def _at_exit(self) -> None:
        # Threads that still live here are daemons and will not run again.
        for error in self._close(lambda owner: True):
            _log.warning("at exit: %s", error)

    def _disown(self) -> None:
        """In a forked child: forget the parent's loops and executors without touching them."""
        self._lock = threading.Lock()
        self._local = _ThreadLoops()
        self._opened = []
        self._executors = weakref.WeakSet()


class _Managed:
    """What `managed_loop` returns: a `ManagedEventLoop` that the manager knows of while it is open."""

    def __init__(self, manager: EventLoopManager) -> None:
        self._manager = manager
        self._loop = ManagedEventLoop(manager.kind, timeout=manager.timeout)

    def __enter__(self) -> asyncio.AbstractEventLoop:
        return self._manager._open(self._loop).loop

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        try:
            self._loop.__exit__(kind, error, traceback)
        finally:
            self._manager._leave(self._loop)


async def _within(coro: Coroutine[Any, Any, T], seconds: float) -> T:
    name = describe(coro)
    try:
        async with asyncio.timeout(seconds) as scope:
            return await coro
    except TimeoutError as error:
        if scope.expired():
            raise TimeoutError(f"{name} took longer than {seconds:g} s") from error
        raise


def _shut_down_all(executors: list[concurrent.futures.Executor], seconds: float) -> list[BaseException]:
    """Shut executors down side by side, their queued work dropped."""
    ends = {shut_down(executor): executor for executor in executors}
    done, late = concurrent.futures.wait(ends, seconds)
    failed = [error for end in done if (error := end.exception()) is not None]
    return failed + [TimeoutError(f"shutting down {describe(ends[end])} took longer than {seconds:g} s")
                     for end in late]


_manager: EventLoopManager | None = None
_manager_lock = threading.Lock()


def get_loop_manager() -> EventLoopManager:
    """The one EventLoopManager of this process."""
    global _manager
    with _manager_lock:
        if _manager is None:
            _manager = EventLoopManager()
        return _manager


def reset_loop_manager() -> None:
    """Clean the process's manager up and forget it, so that the next test starts with a fresh one.

    Not inside a running loop: RuntimeError.
    """
    global _manager
    refuse_in_running_loop("reset the loop manager")
    with _manager_lock:
        old, _manager = _manager, None
    if old is not None:
        old.cleanup()


def _at_exit() -> None:
    for manager in tuple(_managers):
        manager._at_exit()


def _after_fork() -> None:
    global _manager_lock
    _manager_lock = threading.Lock()
    for manager in tuple(_managers):
        manager._disown()


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
