"""Mistakes and rare turns: each is refused at once or survived, and the message says what to do."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from treadle.aio import (
    AsyncExecutionContext,
    AsyncResourceManager,
    AsyncTaskManager,
    EventLoopManager,
    ManagedEventLoop,
    async_context,
    get_loop_manager,
    reset_loop_manager,
)


async def forever() -> None:
    await asyncio.Event().wait()


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def stubborn(release: asyncio.Event) -> None:
    while not release.is_set():
        try:
            await release.wait()
        except asyncio.CancelledError:
            continue


# Contexts


def test_a_task_that_fails_in_the_very_turn_in_which_the_block_ends_is_heard_of() -> None:
    heard: list[str] = []

    async def main() -> None:
        async with async_context("turn") as context:
            context.register_error_handler(lambda error, context, task: heard.append(str(error)))
            last = asyncio.Event()

            async def fail() -> None:
                last.set()  # the body goes on before anybody is told that this task has ended
                raise ValueError("in the last turn")

            context.create_task(fail())
            await last.wait()

    with pytest.raises(ExceptionGroup, match="1 error while leaving 'turn'"):
        asyncio.run(main())
    assert heard == ["in the last turn"]


def test_a_context_that_has_ended_refuses_futures_as_well_and_shows_itself() -> None:
    async def main() -> None:
        async with async_context("shown") as context:
            context.create_task(forever())
            assert repr(context) == "<AsyncExecutionContext 'shown' open, 1 tasks>"
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(RuntimeError, match="can't gather: context 'shown' has ended"):
            await context.gather(future)
        future.cancel()

    asyncio.run(main())


def test_a_cancellation_while_a_failed_body_ends_keeps_the_bodys_error_and_the_others() -> None:
    handled, body = LookupError("handled around the block"), KeyError("body")

    async def work() -> None:
        try:
            raise handled
        except LookupError:
            async with async_context("both") as context:
                context.register_error_handler(lambda error, context, task: None)
                context.add_cleanup(forever)
                raise body  # noqa: B904  # what is handled must stay in the chain

    async def main() -> list[BaseException]:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        chain: list[BaseException] = [caught.value]
        while (context := chain[-1].__context__) is not None:
            chain.append(context)
        return chain

    chain = asyncio.run(main())
    assert chain[1:3] == [body, handled]
    assert "1 error while leaving 'both'" in str(chain[3])


@pytest.mark.parametrize("mistake", ["register", "cleanup=", "add_cleanup"])
def test_a_coroutine_in_place_of_its_function_is_refused_and_closed(mistake: str) -> None:
    coro = forever()

    async def main() -> None:
        async with async_context("mistake") as context:
            if mistake == "register":
                await context.register_resource(object(), coro)  # type: ignore[arg-type]
            elif mistake == "cleanup=":
                AsyncResourceManager().register(object(), cleanup=coro)  # type: ignore[arg-type]
            else:
                context.add_cleanup(coro)  # type: ignore[arg-type]

    with pytest.raises(TypeError, match=r"a function, not its coroutine: write forever, without \(\)"):
        asyncio.run(main())
    assert coro.cr_frame is None


# Resources


def test_a_cleanup_that_nobody_could_call_is_refused_when_it_is_registered() -> None:
    manager = AsyncResourceManager()
    with pytest.raises(TypeError, match=r"<lambda>\(one, two\) of .* can be called neither"):
        manager.register(object(), cleanup=lambda one, two: None)
    with pytest.raises(TypeError, match=r"the cleanup of .* must be callable, not 'close'"):
        manager.register(object(), cleanup="close")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a clean-up must be callable, not 7"):
        manager.add_cleanup(7)  # type: ignore[arg-type]
    assert len(manager) == 0


def test_callbacks_of_every_shape_are_called() -> None:
    log: list[str] = []

    class Shown:
        def __call__(self, thing: object = None) -> None:
            log.append("optional argument left out" if thing is None else "given")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(object(), cleanup=dict.__class__)  # a builtin without a signature
        manager.register(object(), cleanup=Shown())
        manager.register(object(), cleanup=lambda thing, more=1: log.append(f"with {type(thing).__name__}"))
        with pytest.raises(ExceptionGroup, match="1 error"):  # type() takes an argument, as nobody could know
            await manager.cleanup()

    asyncio.run(main())
    assert log == ["with object", "optional argument left out"]


def test_a_resource_that_cannot_even_be_shown_hides_no_other() -> None:
    closed: list[str] = []

    class Hidden:
        def close(self) -> None:
            raise ValueError("of the hidden one")

        def __repr__(self) -> str:
            raise RuntimeError("can't be shown")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(object(), cleanup=lambda: closed.append("below"))
        manager.register(Hidden())
        with pytest.raises(ExceptionGroup) as caught:
            await manager.cleanup()
        assert [str(error) for error in caught.value.exceptions] == ["of the hidden one"]

    asyncio.run(main())
    assert closed == ["below"]


def test_streams_are_waited_for_whether_their_close_is_sync_or_not() -> None:
    log: list[str] = []

    class Stream:
        def close(self) -> Any:
            return self._later("closing")

        async def wait_closed(self) -> None:
            log.append("closed")

        async def _later(self, text: str) -> None:
            log.append(text)

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(Stream())
        await manager.cleanup()

    asyncio.run(main())
    assert log == ["closing", "closed"]


def test_a_close_that_ends_the_program_still_lets_the_others_close() -> None:
    closed: list[str] = []

    def leave() -> None:
        raise SystemExit(3)

    async def main() -> None:
        async with async_context("exit") as context:
            context.add_cleanup(closed.append, "below")
            context.add_cleanup(leave)

    with pytest.raises(SystemExit):
        asyncio.run(main())
    assert closed == ["below"]


def test_a_close_that_fails_while_it_is_given_up_is_not_reported_twice(
        caplog: pytest.LogCaptureFixture) -> None:
    async def late() -> None:
        try:
            await forever()
        finally:
            raise ValueError("too late")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(object(), cleanup=late)
        with pytest.raises(ExceptionGroup) as caught:
            await manager.cleanup(timeout=0.01)
        assert [type(error) for error in caught.value.exceptions] == [TimeoutError]

    asyncio.run(main())
    assert caplog.text == ""


def test_an_executor_is_shut_down_where_no_thread_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    pool, mine = ThreadPoolExecutor(1), ThreadPoolExecutor(1)

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    async def main() -> None:
        manager = AsyncResourceManager()
        manager.register(pool)
        await manager.cleanup()

    manager = EventLoopManager()
    manager.register_executor(mine)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    asyncio.run(main())
    manager.cleanup()
    for executor in (pool, mine):
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(print)


# Tasks


def test_a_survivor_that_ends_after_all_is_let_go(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        manager, release = AsyncTaskManager(), asyncio.Event()

        async def ends(cancelled: bool) -> None:
            await stubborn(release)
            raise asyncio.CancelledError if cancelled else ValueError("nobody wants to know any more")

        tasks = [manager.create_task(ends(cancelled)) for cancelled in (True, False)]
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError):
            await manager.cleanup(timeout=0.01)
        release.set()
        await asyncio.wait(tasks)

    asyncio.run(main())
    assert caplog.text == ""


# Loops


def test_a_managed_loop_runs_only_while_it_is_open() -> None:
    managed = ManagedEventLoop("asyncio")
    refused = [give(1), give(2), give(3)]
    with pytest.raises(RuntimeError, match="not open"):
        managed.run(refused[0])
    managed.close()  # nothing to close

    async def inside() -> None:
        with pytest.raises(RuntimeError, match="can't run a coroutine to its end inside a running"):
            managed.run(refused[1])
        with pytest.raises(RuntimeError, match="can't close an event loop inside a running"):
            managed.close()

    with managed:
        managed.run(inside())
    with pytest.raises(RuntimeError, match="is closed: make a new one"):
        managed.run(refused[2])
    assert all(coro.cr_frame is None for coro in refused)


def test_a_loop_that_runs_in_another_thread_is_not_closed_from_here() -> None:
    running, release = threading.Event(), threading.Event()
    loops: list[ManagedEventLoop] = []

    async def main() -> None:
        running.set()
        await asyncio.to_thread(release.wait)

    def work() -> None:
        managed = ManagedEventLoop()
        loops.append(managed)
        with managed:
            managed.run(main())

    thread = threading.Thread(target=work)
    thread.start()
    running.wait()
    with pytest.raises(RuntimeError, match="runs in another thread"):
        loops[0].close()
    release.set()
    thread.join()
    assert loops[0].closed


def test_a_loop_without_a_time_limit_waits_for_its_threads() -> None:
    log: list[str] = []
    begun, release = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        release.wait()
        log.append("thread ended")

    async def main() -> None:
        asyncio.get_running_loop().run_in_executor(None, slow)
        await asyncio.to_thread(begun.wait)

    managed = ManagedEventLoop("asyncio", timeout=None)
    with managed:
        managed.run(main())
        threading.Timer(0.05, release.set).start()
    assert log == ["thread ended"]


@pytest.mark.parametrize(("given", "says"), [
    (give, r"run_coroutine runs a coroutine, not give: call it, with \(\)"), (7, "a coroutine, not 7$")])
def test_run_coroutine_wants_a_coroutine(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        EventLoopManager().run_coroutine(given)


def test_cleaning_up_is_refused_inside_a_running_loop() -> None:
    manager = get_loop_manager()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="can't clean up executors and event loops inside"):
            manager.cleanup()
        with pytest.raises(RuntimeError, match="can't reset the loop manager inside"):
            reset_loop_manager()
        assert get_loop_manager() is manager

    manager.run_coroutine(main())
    reset_loop_manager()


def test_a_managed_loop_that_its_body_closed_makes_room_for_another() -> None:
    manager = EventLoopManager()
    with manager.managed_loop() as loop:
        loop.close()
        another = manager.get_event_loop()
        assert another is not loop and manager.run_coroutine(give(1)) == 1
    assert manager.get_event_loop() is another
    manager.cleanup()
    assert another.is_closed()


def test_executors_are_registered_from_many_threads_while_others_clean_up() -> None:
    manager = EventLoopManager()
    made: list[ThreadPoolExecutor] = []
    barrier = threading.Barrier(8)

    def register() -> None:
        barrier.wait()
        for _ in range(50):
            made.append(manager.register_executor(ThreadPoolExecutor(1)))
            manager.cleanup()

    with ThreadPoolExecutor(8) as threads:
        for ended in [threads.submit(register) for _ in range(8)]:
            ended.result(timeout=30)
    manager.cleanup()
    for executor in made:
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(print)


def test_the_loop_kind_can_be_chosen() -> None:
    with ManagedEventLoop("asyncio") as loop:
        assert isinstance(loop, asyncio.BaseEventLoop)


def test_a_handler_gets_the_context_it_was_registered_with() -> None:
    seen: list[AsyncExecutionContext] = []

    async def main() -> None:
        async with async_context("mine") as context:
            context.register_error_handler(lambda error, context, task: seen.append(context))
            raise KeyError("body")

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert [context.name for context in seen] == ["mine"]
