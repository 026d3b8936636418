"""The thirteen scenarios that `treadle.aio` must pass, in their order."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

import pytest

from treadle.aio import (
    AsyncExecutionContext,
    AsyncResourceManager,
    AsyncTaskManager,
    EventLoopManager,
    async_context,
    get_loop_manager,
    reset_loop_manager,
)


class Recorder:
    """A resource that writes into a log when it is closed, and may raise or dawdle."""

    def __init__(self, name: str, log: list[str], *, error: Exception | None = None,
                 seconds: float = 0) -> None:
        self.name, self.log, self.error, self.seconds = name, log, error, seconds

    async def aclose(self) -> None:
        await asyncio.sleep(self.seconds)
        self.log.append(self.name)
        if self.error is not None:
            raise self.error

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Stuck:
    """A resource whose close ignores every attempt to end it."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def aclose(self) -> None:
        await stubborn(self.release)


async def stubborn(release: asyncio.Event) -> None:
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


async def forever() -> None:
    await asyncio.Event().wait()


def flat(error: BaseException) -> list[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        return [leaf for inner in error.exceptions for leaf in flat(inner)]
    return [error]


def test_01_tasks_finish_before_resources_close_in_reverse() -> None:
    log: list[str] = []

    async def use() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)  # still needs both resources while it ends
            log.append("task finished")

    async def main() -> None:
        async with async_context("outer") as outer:
            await outer.register_resource(Recorder("R1", log))
            await outer.register_resource(Recorder("R2", log))
            outer.create_task(use())
            async with async_context("inner") as inner:
                mine = Recorder("inner's", log)
                assert await inner.register_resource(mine) is mine
                await asyncio.sleep(0)
            assert log == ["inner's"]

    asyncio.run(main())
    assert log == ["inner's", "task finished", "R2", "R1"]


def test_02_every_close_is_attempted_and_every_error_kept() -> None:
    log: list[str] = []
    first, third = ValueError("first"), OSError("third")

    async def main() -> None:
        async with async_context("three") as context:
            await context.register_resource(Recorder("a", log, error=first))
            await context.register_resource(Recorder("b", log))
            await context.register_resource(Recorder("c", log, error=third))

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert log == ["c", "b", "a"]
    assert flat(caught.value) == [third, first]


def test_03_the_bodys_error_goes_first_and_the_others_stay_reachable() -> None:
    async def main() -> None:
        async with async_context("body") as context:
            await context.register_resource(Recorder("r", [], error=ValueError("in close")))
            raise KeyError("in body")

    with pytest.raises(KeyError) as caught:
        asyncio.run(main())
    assert isinstance(caught.value.__context__, ExceptionGroup)
    assert [str(error) for error in flat(caught.value.__context__)] == ["in close"]
    assert "ValueError: in close" in "".join(caught.value.__notes__)


def test_04_a_second_cancel_hurries_the_closing_but_does_not_skip_any() -> None:
    log: list[str] = []
    closing = asyncio.Event()

    class Slow:
        async def aclose(self) -> None:
            closing.set()
            await asyncio.sleep(60)

    async def work() -> None:
        async with async_context("work") as context:
            await context.register_resource(Recorder("first", log))
            await context.register_resource(Slow())
            await context.register_resource(Recorder("last", log))
            await forever()

    async def main() -> float:
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await closing.wait()
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert any("Slow" in note for note in caught.value.__notes__)
        return time.monotonic() - began

    assert asyncio.run(main()) < 2
    assert log == ["last", "first"]


def test_04_a_cancel_during_the_cleanup_of_a_manager() -> None:
    log: list[str] = []

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(Recorder("first", log))
        manager.register(Recorder("slow", log, seconds=0.1))
        task = asyncio.create_task(manager.cleanup(timeout=60))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(manager) == 0

    asyncio.run(main())
    assert log == ["slow", "first"]  # half a second is enough for the slow one


def test_05_a_close_that_never_returns_is_given_up_and_named() -> None:
    log: list[str] = []

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(Recorder("below", log))
        stuck = manager.register(Stuck())
        manager.register(Recorder("above", log))
        began = time.monotonic()
        with pytest.raises(ExceptionGroup) as caught:
            await manager.cleanup(timeout=0.2)
        assert time.monotonic() - began < 1
        [error] = flat(caught.value)
        assert isinstance(error, TimeoutError)
        assert "Stuck" in str(error) and "0.2 s" in str(error)
        stuck.release.set()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert log == ["above", "below"]


def test_06_each_kind_of_resource_is_closed_in_its_own_way() -> None:
    log: list[str] = []

    class Close:
        def close(self) -> None:
            log.append("close")

    class CloseLater:
        def close(self) -> Awaitable[None]:
            return later("close returning an awaitable")

    async def later(text: str) -> None:
        await asyncio.sleep(0)
        log.append(text)

    class AsyncManager:
        async def __aenter__(self) -> None: ...

        async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                            traceback: TracebackType | None) -> None:
            log.append("async exit")

        async def aclose(self) -> None:
            log.append("never: async exit goes first")

    class Manager:
        def __enter__(self) -> None: ...

        def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                     traceback: TracebackType | None) -> None:
            log.append("exit")

    executor = ThreadPoolExecutor(1)
    with_callback = Recorder("never: the callback goes first", log)

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(Recorder("aclose", log))
        manager.register(Close())
        manager.register(CloseLater())
        manager.register(AsyncManager())
        manager.register(Manager())
        manager.register(executor)
        manager.register(with_callback, cleanup=lambda: log.append("callback"))
        manager.register(object(), cleanup=lambda thing: later(f"callback with {type(thing).__name__}"))
        manager.add_cleanup(log.append, "clean-up with an argument")
        with pytest.raises(TypeError, match="cleanup="):
            manager.register(object())
        with pytest.raises(TypeError, match="Close"):
            manager.register(Close)  # the class, not an instance
        await manager.cleanup()
        await manager.cleanup()  # each once

    asyncio.run(main())
    assert log == ["clean-up with an argument", "callback with object", "callback", "exit", "async exit",
                   "close returning an awaitable", "close", "aclose"]
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(print)


def test_07_a_failing_task_reaches_every_handler_once_and_surfaces_at_the_end(
        caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, str, str, str]] = []
    boom = ValueError("boom")

    def handler(label: str, *, fail: bool = False) -> Callable[..., None]:
        def handle(error: BaseException, context: AsyncExecutionContext,
                   task: asyncio.Task[Any] | None) -> None:
            told.append((label, str(error), context.name, task.get_name() if task else ""))
            if fail and task is not None:
                raise RuntimeError("handler failed")
        return handle

    async def fail() -> None:
        raise boom

    async def main() -> None:
        async with async_context("ctx") as context:
            context.register_error_handler(handler("H1", fail=True))
            context.register_error_handler(handler("H2"))
            context.create_task(fail(), name="failing")
            context.create_task(forever(), name="cancelled at the end")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert told == [("H1", "boom", "ctx", "failing"), ("H2", "boom", "ctx", "failing")]

    with pytest.raises(ExceptionGroup) as caught:
        asyncio.run(main())
    assert flat(caught.value) == [boom]
    assert len(told) == 2
    assert "handler failed" in caplog.text
    assert "never retrieved" not in caplog.text


def test_08_wait_all_waits_without_cancelling() -> None:
    async def main() -> None:
        manager = AsyncTaskManager()
        await manager.wait_all(timeout=0)  # nothing to wait for
        release = asyncio.Event()
        task = manager.create_task(release.wait(), name="slow")
        with pytest.raises(TimeoutError, match="slow"):
            await manager.wait_all(timeout=0.1)
        assert not task.done()
        with pytest.raises(TimeoutError):
            await manager.wait_all(timeout=0)
        asyncio.get_running_loop().call_later(0.01, release.set)
        await manager.wait_all(timeout=None)
        assert task.result() is True
        await manager.wait_all()

    asyncio.run(main())


def test_09_cleanup_is_bounded_and_names_the_survivor() -> None:
    spawned: list[asyncio.Task[None]] = []

    async def main() -> None:
        manager = AsyncTaskManager()
        release = asyncio.Event()

        async def spawn() -> None:
            try:
                await forever()
            finally:
                spawned.append(manager.create_task(forever(), name="late"))

        survivor = manager.create_task(stubborn(release), name="stubborn")
        manager.create_task(spawn(), name="spawning")
        await asyncio.sleep(0)
        began = time.monotonic()
        with pytest.raises(TimeoutError, match="'stubborn'") as caught:
            await manager.cleanup(timeout=0.2)
        assert time.monotonic() - began < 1
        assert "late" not in str(caught.value)
        assert asyncio.all_tasks() == {asyncio.current_task(), survivor}
        await manager.cleanup(timeout=0.2)  # nothing left to do
        release.set()
        await survivor

    asyncio.run(main())
    assert spawned[0].cancelled()


def test_10_one_manager_and_a_loop_for_each_of_fifty_threads() -> None:
    reset_loop_manager()
    barrier = threading.Barrier(50)
    managers: list[EventLoopManager] = []
    loops: list[asyncio.AbstractEventLoop] = []
    problems: list[str] = []

    def thread() -> None:
        barrier.wait()
        manager = get_loop_manager()
        loop = manager.get_event_loop()
        if manager.get_event_loop() is not loop:
            problems.append("not stable")
        barrier.wait()
        managers.append(manager)
        loops.append(loop)
        barrier.wait()  # all loops are alive together, so that their ids are distinct
        loop.close()
        again = manager.get_event_loop()
        if again is loop or again.is_closed():
            problems.append("a closed loop was not replaced")
        loops.append(again)

    threads = [threading.Thread(target=thread) for _ in range(50)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert problems == []
    assert len(set(map(id, managers))) == 1
    assert len(set(map(id, loops))) == 100
    assert all(loop.is_closed() for loop in loops)  # their threads have ended
    reset_loop_manager()


def test_11_inside_a_coroutine_the_running_loop_and_errors_at_once() -> None:
    manager = EventLoopManager()

    async def main() -> None:
        assert manager.get_event_loop() is asyncio.get_running_loop()
        inner: Coroutine[Any, Any, None] = forever()
        with pytest.raises(RuntimeError, match="await it there"):
            manager.run_coroutine(inner)
        assert inner.cr_frame is None  # type: ignore[attr-defined]  # closed: no "never awaited"
        with pytest.raises(RuntimeError, match="inside a running event loop"), manager.managed_loop():
            pass

    manager.run_coroutine(main(), timeout=5)
    manager.cleanup()


def test_12_a_managed_loop_ends_everything_and_gives_the_outer_loop_back() -> None:
    log: list[str] = []
    manager = EventLoopManager()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            log.append("generator finalised")

    async def pending() -> None:
        try:
            await forever()
        finally:
            log.append("task finalised")

    async def main(generator: AsyncIterator[int]) -> None:
        assert await anext(generator) == 1
        asyncio.create_task(pending())  # noqa: RUF006  # left behind on purpose
        asyncio.get_running_loop().run_in_executor(
            None, lambda: (time.sleep(0.05), log.append("executor done")))
        await asyncio.sleep(0)

    error = KeyError("in body")
    with manager.managed_loop() as outer:
        generator = numbers()
        with pytest.raises(KeyError) as caught, manager.managed_loop() as inner:
            assert manager.get_event_loop() is inner
            inner.run_until_complete(main(generator))
            raise error
        assert caught.value is error and error.__context__ is None
        assert inner.is_closed()
        assert manager.get_event_loop() is outer and asyncio.get_event_loop() is outer
        assert sorted(log) == ["executor done", "generator finalised", "task finalised"]
    assert outer.is_closed()
    manager.cleanup()


@pytest.mark.parametrize("kind", ["auto", "asyncio"])
def test_13_a_script_that_never_cleans_up_ends_in_silence(kind: str) -> None:
    script = textwrap.dedent(f"""
        import asyncio, threading
        from concurrent.futures import ThreadPoolExecutor
        from treadle.aio import get_loop_manager
        manager = get_loop_manager()
        manager.kind = {kind!r}
        executor = manager.register_executor(ThreadPoolExecutor(2))

        async def left_behind():
            try:
                await asyncio.sleep(60)
            finally:
                print("finalised")

        async def main():
            await asyncio.get_running_loop().run_in_executor(executor, int)
            asyncio.get_running_loop().create_task(left_behind())
            await asyncio.sleep(0)

        manager.run_coroutine(main())
        thread = threading.Thread(target=manager.run_coroutine, args=(main(),))
        thread.start()
        thread.join()
        ready = threading.Event()

        def idle():
            manager.get_event_loop()
            ready.set()
            threading.Event().wait()

        threading.Thread(target=idle, daemon=True).start()
        ready.wait()
    """)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", script],
                          capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["finalised", "finalised"]
    assert time.monotonic() - began < 5  # two seconds, and some for a busy machine
