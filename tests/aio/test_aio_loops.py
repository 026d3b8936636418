"""Event loops beyond the acceptance scenarios: time-outs, threads, forks, and an end that is bounded."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

from treadle.aio import (
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


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from 3.12, where threads exist
def test_a_forked_child_leaves_its_parents_loops_alone() -> None:
    manager = EventLoopManager("asyncio")
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
    manager.cleanup()


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
