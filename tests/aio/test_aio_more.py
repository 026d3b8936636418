"""What the acceptance scenarios leave open: misuse, races, forks, and the corners of each owner."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import pytest

from treadle.aio import (
    AsyncResourceManager,
    AsyncTaskManager,
    EventLoopManager,
    ManagedEventLoop,
    async_context,
    get_loop_manager,
    loop_factory,
    reset_loop_manager,
)


async def forever() -> None:
    await asyncio.Event().wait()


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def fail(message: str) -> int:
    raise ValueError(message)


# Contexts


def test_a_context_is_for_one_use_and_refuses_work_outside_it() -> None:
    async def main() -> None:
        context = async_context("once")
        with pytest.raises(RuntimeError, match="not been entered"):
            context.create_task(give(1))
        async with context:
            assert await context.create_task(give(2)) == 2
        with pytest.raises(RuntimeError, match="'once' has ended"):
            context.create_task(give(3))
        with pytest.raises(RuntimeError, match="has ended"):
            await context.gather(give(4), give(5))
        with pytest.raises(RuntimeError, match="has ended"):
            await context.register_resource(open(os.devnull), cleanup=print)  # noqa: ASYNC230, SIM115
        with pytest.raises(RuntimeError, match="entered before"):
            async with context:
                pass
        gc.collect()  # the refused coroutines were closed: no "never awaited"

    with pytest.warns(ResourceWarning):  # the file that the context refused is still its opener's
        asyncio.run(main())
        gc.collect()


def test_gather_returns_in_order_and_cancels_the_others_on_failure() -> None:
    ended: list[str] = []

    async def slow() -> int:
        try:
            await forever()
        finally:
            ended.append("slow")
        return 0

    async def main() -> None:
        async with async_context("gather") as context:
            loop = asyncio.get_running_loop()
            future: Future[int] = Future()
            future.set_result(3)
            assert await context.gather(give(1), loop.create_task(give(2)),
                                        asyncio.wrap_future(future)) == [1, 2, 3]
            assert await context.gather() == []
            with pytest.raises(ExceptionGroup) as caught:
                await context.gather(slow(), fail("one"), fail("two"))
            assert [str(error) for error in caught.value.exceptions] == ["one", "two"]
            assert ended == ["slow"]
            results = await context.gather(give(1), fail("kept"), return_exceptions=True)
            assert results[0] == 1 and str(results[1]) == "kept"

    asyncio.run(main())  # errors that gather handed over do not surface again


def test_the_body_that_awaits_its_failing_task_gets_that_error_and_not_a_group() -> None:
    async def main() -> None:
        async with async_context("await") as context:
            await context.create_task(fail("once"))

    with pytest.raises(ValueError, match="once") as caught:
        asyncio.run(main())
    assert not hasattr(caught.value, "__notes__")


def test_an_error_behind_a_cancellation_is_logged_when_nobody_handles_it(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with async_context("work") as context:
            context.create_task(fail("behind"))
            await forever()

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert "errors behind a cancellation" in caplog.text


def test_a_survivor_is_named_and_resources_close_all_the_same() -> None:
    closed: list[str] = []

    async def main() -> None:
        release = asyncio.Event()

        async def stubborn() -> None:
            while not release.is_set():
                try:
                    await release.wait()
                except asyncio.CancelledError:
                    continue

        with pytest.raises(ExceptionGroup) as caught:
            async with async_context("bounded", timeout=0.1) as context:
                context.add_cleanup(closed.append, "resource")
                context.create_task(stubborn(), name="the stubborn one")
                await asyncio.sleep(0)
        assert "the stubborn one" in str(caught.value.exceptions[0])
        release.set()
        await asyncio.sleep(0)

    asyncio.run(main())
    assert closed == ["resource"]


def test_handlers_hear_of_the_body_and_of_closes_and_must_be_plain_functions() -> None:
    told: list[tuple[str, object]] = []

    async def wrong(error: BaseException, context: object, task: object) -> None: ...

    async def main() -> None:
        async with async_context("told") as context:
            with pytest.raises(TypeError, match="plain function"):
                context.register_error_handler(wrong)
            context.register_error_handler(lambda error, context, task: told.append((str(error), task)))
            context.add_cleanup(lambda: fail("in close"))
            raise LookupError("in body")

    with pytest.raises(LookupError):
        asyncio.run(main())
    assert told == [("in close", None), ("in body", None)]


# Resources


def test_registering_twice_closes_once_in_the_first_place_with_the_last_cleanup() -> None:
    log: list[str] = []

    async def main() -> None:
        manager = AsyncResourceManager()
        one, two = object(), object()
        manager.register(one, cleanup=lambda: log.append("old"))
        manager.register(two, cleanup=lambda: log.append("two"))
        manager.register(one, cleanup=lambda: log.append("new"))
        assert len(manager) == 2
        await manager.cleanup()

    asyncio.run(main())
    assert log == ["two", "new"]


def test_two_cleanups_at_once_close_each_once_and_return_together() -> None:
    log: list[str] = []

    async def slow() -> None:
        await asyncio.sleep(0.02)
        log.append("closed")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(object(), cleanup=slow)

        async def clean(name: str) -> None:
            await manager.cleanup()
            log.append(name)

        await asyncio.gather(clean("first"), clean("second"))

    asyncio.run(main())
    assert log[0] == "closed" and sorted(log[1:]) == ["first", "second"]


def test_a_server_is_waited_for_and_a_cancelled_close_is_an_error() -> None:
    class Server:
        waited = False

        def close(self) -> None: ...

        async def wait_closed(self) -> None:
            self.waited = True

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        manager = AsyncResourceManager()
        server = manager.register(Server())
        manager.register(object(), cleanup=cancelled)
        with pytest.raises(ExceptionGroup) as caught:
            await manager.cleanup()
        assert "CancelledError" in str(caught.value.exceptions[0])
        assert server.waited

    asyncio.run(main())


def test_a_busy_executor_does_not_block_the_loop_while_it_shuts_down() -> None:
    async def main() -> None:
        release = threading.Event()
        manager = AsyncResourceManager()
        executor = manager.register(ThreadPoolExecutor(1))
        busy = executor.submit(release.wait)
        queued = executor.submit(print)
        cleaning = asyncio.create_task(manager.cleanup())
        await asyncio.sleep(0.01)
        assert not cleaning.done()  # and the loop goes on
        release.set()
        await cleaning
        assert busy.result() is True
        assert queued.cancelled()

    asyncio.run(main())


def test_an_executor_that_fails_to_shut_down_is_an_error() -> None:
    class Broken(Executor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            raise OSError("broken")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(Broken())
        with pytest.raises(ExceptionGroup) as caught:
            await manager.cleanup()
        assert str(caught.value.exceptions[0]) == "broken"

    asyncio.run(main())


# Tasks


def test_cancel_all_counts_and_skips_the_caller() -> None:
    async def main() -> None:
        manager = AsyncTaskManager()
        others = [manager.create_task(forever()) for _ in range(3)]
        assert await manager.create_task(asyncio.to_thread(manager.cancel_all), name="me") == 4

        async def caller() -> int:
            return manager.cancel_all()

        more = manager.create_task(forever())
        assert await manager.create_task(caller()) == 1
        await manager.wait_all(timeout=5)
        assert all(task.cancelled() for task in [*others, more])

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())  # from another thread there is no caller: `me` was asked to stop too


def test_a_task_may_clean_up_its_own_manager() -> None:
    async def main() -> None:
        manager = AsyncTaskManager("own")
        other = manager.create_task(forever())

        async def caller() -> str:
            await manager.wait_all(timeout=None) if other.done() else None
            await manager.cleanup(timeout=1)
            return "still here"

        assert await manager.create_task(caller()) == "still here"
        assert other.cancelled()
        with pytest.raises(RuntimeError, match="'own' is closed"):
            manager.create_task(give(1))

    asyncio.run(main())


def test_a_cancelled_cleanup_still_ends_the_tasks() -> None:
    ended: list[str] = []

    async def slow_end() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0.05)
            ended.append("slow")

    async def main() -> None:
        manager = AsyncTaskManager()
        manager.create_task(slow_end())
        await asyncio.sleep(0)
        cleaning = asyncio.create_task(manager.cleanup(timeout=60))
        await asyncio.sleep(0.01)
        cleaning.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cleaning
        assert ended == ["slow"]

    asyncio.run(main())


# Loops


def test_run_coroutine_returns_raises_and_times_out_by_name() -> None:
    manager = EventLoopManager()
    assert manager.run_coroutine(give(7)) == 7
    assert manager.run_coroutine(give(8), timeout=5) == 8
    with pytest.raises(ValueError, match="own"):
        manager.run_coroutine(fail("own"))
    with pytest.raises(TimeoutError, match=r"forever took longer than 0\.05 s"):
        manager.run_coroutine(forever(), timeout=0.05)

    async def own_timeout() -> None:
        raise TimeoutError("the body's own")

    with pytest.raises(TimeoutError, match="the body's own"):
        manager.run_coroutine(own_timeout(), timeout=5)
    loop = manager.get_event_loop()
    manager.cleanup()
    assert loop.is_closed()
    assert manager.run_coroutine(give(9)) == 9  # usable again
    manager.cleanup()


def test_the_singleton_can_be_reset() -> None:
    first = get_loop_manager()
    assert get_loop_manager() is first
    loop = first.get_event_loop()
    reset_loop_manager()
    assert loop.is_closed()
    assert get_loop_manager() is not first
    reset_loop_manager()
    reset_loop_manager()  # nothing to reset


def test_executors_are_held_weakly_and_all_shut_down() -> None:
    manager = EventLoopManager(timeout=0.2)
    gone = ThreadPoolExecutor(1)
    manager.register_executor(gone)
    gone.shutdown()
    del gone
    gc.collect()

    class Broken(Executor):
        def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
            raise OSError("broken")

    release = threading.Event()
    broken, busy, fine = Broken(), ThreadPoolExecutor(1), ThreadPoolExecutor(1)
    for executor in (broken, busy, fine):
        assert manager.register_executor(executor) is executor
    busy.submit(release.wait)
    with pytest.raises(ExceptionGroup) as caught:
        manager.cleanup()
    assert sorted(type(error).__name__ for error in caught.value.exceptions) == ["OSError", "TimeoutError"]
    with pytest.raises(RuntimeError):
        fine.submit(print)
    release.set()
    manager.cleanup()  # each once


def test_the_loop_of_an_ended_thread_with_tasks_left_is_wound_down_by_the_next_sweep() -> None:
    manager = EventLoopManager()
    ended: list[str] = []
    loops: list[asyncio.AbstractEventLoop] = []

    async def left_behind() -> None:
        try:
            await forever()
        finally:
            ended.append("finalised")

    async def main() -> None:
        asyncio.create_task(left_behind())  # noqa: RUF006  # left behind on purpose
        await asyncio.sleep(0)

    def thread() -> None:
        loops.append(manager.get_event_loop())
        manager.run_coroutine(main())

    worker = threading.Thread(target=thread)
    worker.start()
    worker.join()
    manager.cleanup()
    assert ended == ["finalised"] and loops[0].is_closed()


def test_a_loop_that_runs_in_another_thread_is_left_alone() -> None:
    manager = EventLoopManager()
    running, release = threading.Event(), threading.Event()

    async def main() -> str:
        running.set()
        await asyncio.to_thread(release.wait)
        return "undisturbed"

    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(manager.run_coroutine, main())
        running.wait()
        manager.cleanup()
        release.set()
        assert result.result(timeout=5) == "undisturbed"


def test_a_managed_loop_bounds_its_end_and_names_what_would_not_end(caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await forever()
            except asyncio.CancelledError:
                continue

    async def fails_at_its_end() -> None:
        try:
            await forever()
        finally:
            raise ValueError("at its end")

    async def main() -> None:
        asyncio.get_running_loop().create_task(stubborn(), name="stubborn")
        asyncio.get_running_loop().create_task(fails_at_its_end())
        asyncio.get_running_loop().run_in_executor(None, release.wait)
        await asyncio.sleep(0)

    managed = ManagedEventLoop("asyncio", timeout=0.1)
    began = time.monotonic()
    with pytest.raises(TimeoutError, match="'stubborn', the default executor"), managed as loop:
        loop.run_until_complete(main())
    assert time.monotonic() - began < 2
    assert managed.closed
    release.set()
    managed.close()  # a second call does nothing
    assert "at its end" in caplog.text
    del managed, loop
    gc.collect()
    assert "was destroyed but it is pending" in caplog.text  # asyncio says the same of the survivor


def test_a_managed_loop_keeps_the_bodys_error_when_its_end_fails_too() -> None:
    release = threading.Event()

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, release.wait)

    with pytest.raises(KeyError) as caught, ManagedEventLoop(timeout=0.05) as loop:
        loop.run_until_complete(main())
        raise KeyError("body")
    release.set()
    assert "default executor" in caught.value.__notes__[0]


def test_a_managed_loop_is_opened_once_and_gives_a_foreign_loop_back() -> None:
    foreign = asyncio.new_event_loop()
    asyncio.set_event_loop(foreign)
    managed = ManagedEventLoop()
    with pytest.raises(RuntimeError, match="not open"):
        _ = managed.loop
    with managed as loop:
        assert asyncio.get_event_loop() is loop
        assert managed.run(give(1)) == 1
        with pytest.raises(RuntimeError, match="opened before"):
            managed.open()
    assert asyncio.get_event_loop() is foreign
    asyncio.set_event_loop(None)
    foreign.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_leaves_its_parents_loops_alone() -> None:
    manager = get_loop_manager()
    manager.kind = "asyncio"
    loop = manager.get_event_loop()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            mine = manager.get_event_loop()
            same = mine is loop or loop.is_closed()
            code = 3 if same else 0 if manager.run_coroutine(give(5), timeout=5) == 5 else 4
            manager.cleanup()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert not loop.is_closed()
    # Had the child closed its copy, it would have taken our wake-up pipe out of the epoll that both share.
    threading.Timer(0.01, loop.call_soon_threadsafe, (loop.stop,)).start()
    guard = loop.call_later(5, pytest.fail, "the loop did not wake")
    loop.run_forever()
    guard.cancel()
    reset_loop_manager()


def test_the_loop_factory_takes_uvloop_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loop_factory("asyncio") is asyncio.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto") is asyncio.new_event_loop
    with pytest.raises(RuntimeError, match="pip install uvloop"):
        loop_factory("uvloop")


def test_the_examples_of_the_package_work() -> None:
    """The usage that asked for this package, with its names."""
    closed: list[str] = []

    class Resource:
        async def aclose(self) -> None:
            closed.append("resource")

    async def main() -> list[Any]:
        async with async_context("MyOperation") as ctx:
            await ctx.register_resource(Resource())
            task = ctx.create_task(give(1))
            results = await ctx.gather(give(2), give(3), give(4))
            return [await task, *results]

    async def tasks() -> None:
        task_manager = AsyncTaskManager()
        task_manager.create_task(give(1), name="my-task")
        await task_manager.wait_all(timeout=30.0)
        task_manager.cancel_all()
        await task_manager.cleanup()

    loop_manager = get_loop_manager()
    loop = loop_manager.get_event_loop()
    assert loop_manager.run_coroutine(main()) == [1, 2, 3, 4]
    assert closed == ["resource"]
    with loop_manager.managed_loop() as fresh:
        assert fresh is not loop
        fresh.run_until_complete(tasks())
    reset_loop_manager()
