"""Beyond the acceptance scenarios: misuse, races, the corners of contexts, resources and tasks."""

from __future__ import annotations

import asyncio
import gc
import os
import threading
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import pytest

from treadle.aio import (
    AsyncResourceManager,
    AsyncTaskManager,
    async_context,
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


def test_an_error_behind_a_cancellation_is_logged_when_nobody_handles_it(
        caplog: pytest.LogCaptureFixture) -> None:
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

        async def caller() -> int:
            return manager.cancel_all()

        assert await manager.create_task(caller()) == 3
        await manager.wait_all(timeout=5)
        assert all(task.cancelled() for task in others)
        assert manager.cancel_all() == 0

    asyncio.run(main())


def test_cancel_all_works_from_another_thread() -> None:
    async def main() -> None:
        manager = AsyncTaskManager()
        task = manager.create_task(forever())
        assert await asyncio.to_thread(manager.cancel_all) == 1
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


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
