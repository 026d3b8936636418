"""Forked and spawned children, threads that others started, loops that their threads left behind."""

from __future__ import annotations

import _thread
import asyncio
import gc
import logging
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from treadle.aio import EventLoopManager, ManagedEventLoop, get_loop_manager, reset_loop_manager

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from 3.12, where threads exist


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def forever() -> None:
    await asyncio.Event().wait()


def in_child(check: Callable[[], object]) -> int:
    """The exit code of a forked child that calls `check`: 0 if that is true."""
    child = os.fork()
    if child == 0:
        code = 2
        try:
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def still_wakes(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether a call from another thread wakes a loop, which needs its place in the epoll."""
    woken: list[bool] = []
    threading.Timer(0.01, loop.call_soon_threadsafe, (lambda: (woken.append(True), loop.stop()),)).start()
    guard = loop.call_later(5, loop.stop)
    loop.run_forever()
    guard.cancel()
    return bool(woken)


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
def test_a_child_that_leaves_the_block_of_its_parents_loop_leaves_the_loop_alone(kind: str) -> None:
    with ManagedEventLoop(kind) as loop:  # type: ignore[arg-type]
        managed = ManagedEventLoop("asyncio")

        def child() -> bool:
            outer.close()  # nothing: it is not ours
            with pytest.raises(RuntimeError, match="parent process"):
                outer.run(give(1))
            with managed as mine:
                fresh = mine.run_until_complete(give(2)) == 2
            return fresh and not loop.is_closed()

        outer = ManagedEventLoop("asyncio")
        outer.open()
        assert in_child(child) == 0
        outer.close()
        assert still_wakes(loop)


def test_a_child_that_was_forked_inside_a_coroutine_has_no_running_loop() -> None:
    manager = EventLoopManager()

    async def main() -> int:
        return in_child(lambda: manager.run_coroutine(give(3)) == 3)

    assert manager.run_coroutine(main()) == 0
    assert still_wakes(manager.get_event_loop())
    manager.cleanup()


def test_a_child_that_was_forked_while_a_thread_held_our_locks() -> None:
    manager = get_loop_manager()
    with manager._lock:
        assert in_child(lambda: get_loop_manager().run_coroutine(give(4)) == 4) == 0
    reset_loop_manager()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_of_multiprocessing_have_their_own_loops(method: str, tmp_path: Path) -> None:
    """Also at their proper end, and the parent's: no warning, no error."""
    script = tmp_path / f"{method}_script.py"
    script.write_text(textwrap.dedent(f"""
        import asyncio, multiprocessing, os, sys
        from treadle.aio import get_loop_manager

        async def main():
            await asyncio.sleep(0)
            return os.getpid()

        def work(queue):
            queue.put(get_loop_manager().run_coroutine(main(), timeout=10))

        if __name__ == "__main__":
            manager = get_loop_manager()
            assert manager.run_coroutine(main()) == os.getpid()
            context = multiprocessing.get_context({method!r})
            queue = context.SimpleQueue()
            child = context.Process(target=work, args=(queue,))
            child.start()
            assert queue.get() == child.pid
            child.join()
            if {method!r} == "fork" and (pid := os.fork()) == 0:
                sys.exit(0)  # ends as a program does, with its parent's loop in hand
            elif {method!r} == "fork":
                assert os.waitpid(pid, 0)[1] == 0
            manager.get_event_loop().call_later(0.01, print, "woken")
            manager.run_coroutine(asyncio.sleep(0.02))
            sys.exit(child.exitcode)
    """))
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", script], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "woken\n", "")


def in_foreign_thread(function: Callable[[], None]) -> None:
    """Call a function in a thread that `threading` did not start."""
    done = threading.Event()

    def call() -> None:
        try:
            function()
        finally:
            done.set()

    _thread.start_new_thread(call, ())
    done.wait()


def until(condition: Callable[[], bool]) -> None:
    """Wait for what a thread does after its last line."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_loops_of_threads_that_threading_did_not_start_are_closed_too() -> None:
    manager = EventLoopManager()
    loops: list[asyncio.AbstractEventLoop] = []

    async def leave_a_task() -> None:
        asyncio.create_task(forever())  # noqa: RUF006  # left behind on purpose
        await asyncio.sleep(0)

    def idle() -> None:
        loops.append(manager.get_event_loop())

    def busy() -> None:
        loops.append(manager.get_event_loop())
        manager.run_coroutine(leave_a_task())

    in_foreign_thread(idle)
    until(lambda: loops[0].is_closed())
    in_foreign_thread(busy)
    until(lambda: manager._opened[-1][0].ended)
    assert not loops[1].is_closed()
    manager.get_event_loop()  # sweeps
    assert loops[1].is_closed()
    manager.cleanup()


def test_a_thread_with_a_recycled_ident_gets_a_loop_of_its_own() -> None:
    manager = EventLoopManager()
    loops: dict[int, asyncio.AbstractEventLoop] = {}
    recycled: list[bool] = []

    def thread() -> None:
        before = loops.get(threading.get_ident())
        mine = loops[threading.get_ident()] = manager.get_event_loop()
        if before is not None:
            recycled.append(mine is not before and before.is_closed() and not mine.is_closed())

    for _ in range(1000):
        worker = threading.Thread(target=thread)
        worker.start()
        worker.join()
        if recycled:
            break
    assert recycled == [True]
    assert all(loop.is_closed() for loop in loops.values())
    assert len(manager._opened) == 1  # the ended ones are forgotten
    manager.cleanup()


@pytest.mark.parametrize("kind", ["asyncio", "auto"])
def test_threads_that_begin_and_end_at_once_do_not_close_each_others_loops(kind: str) -> None:
    """A sweep in one finds the loop of another, which is closing it just then."""
    manager = EventLoopManager(kind)  # type: ignore[arg-type]
    results: list[int] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def work() -> None:
        loops.append(manager.get_event_loop())
        results.append(manager.run_coroutine(give(1)))

    threads = [threading.Thread(target=work) for _ in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [1] * 200
    assert all(loop.is_closed() for loop in loops)
    manager.cleanup()
    assert manager._opened == []


def test_whoever_begins_to_close_a_loop_is_the_one_who_closes_it() -> None:
    managed = ManagedEventLoop("asyncio")
    with managed as loop, managed._ending:  # as while the thread that owned it ends
        managed.close()
        managed.close_idle()
        assert not loop.is_closed()
    assert loop.is_closed()


def test_loops_that_their_owner_closes_are_forgotten() -> None:
    manager = EventLoopManager()
    for _ in range(5):
        manager.get_event_loop().close()
    assert len(manager._opened) == 1
    manager.cleanup()


def test_a_manager_that_is_dropped_closes_its_idle_loops() -> None:
    manager = EventLoopManager()
    loop = manager.get_event_loop()
    del manager
    gc.collect()
    assert loop.is_closed()


def test_an_ended_threads_task_that_will_not_end_is_logged_by_the_next_sweep(
        caplog: pytest.LogCaptureFixture) -> None:
    manager = EventLoopManager("asyncio", timeout=0.05)

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        asyncio.get_running_loop().create_task(stubborn(), name="stubborn")
        await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING, "treadle.aio"):
        thread = threading.Thread(target=manager.run_coroutine, args=(main(),))
        thread.start()
        thread.join()
        manager.get_event_loop()
        assert "event loop of an ended thread" in caplog.text and "'stubborn'" in caplog.text
        # The same at the interpreter's exit, where a daemon may have left its loop open.
        manager.run_coroutine(main())
        caplog.clear()
        manager._at_exit()
        assert "at exit: " in caplog.text and "'stubborn'" in caplog.text
        gc.collect()  # asyncio says, too, what was destroyed
    manager.cleanup()


def test_cleanup_as_the_last_thing_that_a_program_does() -> None:
    """Where no thread can be started any more (from 3.12 on)."""
    script = textwrap.dedent("""
        import atexit, asyncio
        from concurrent.futures import ThreadPoolExecutor
        from treadle.aio import get_loop_manager, AsyncResourceManager
        manager = get_loop_manager()
        pool, other = manager.register_executor(ThreadPoolExecutor(1)), ThreadPoolExecutor(1)
        pool.submit(int).result()
        other.submit(int).result()

        async def main():
            await asyncio.to_thread(int)
            resources = AsyncResourceManager()
            resources.register(other)
            return resources

        resources = manager.run_coroutine(main())
        atexit.register(manager.cleanup)
        atexit.register(lambda: manager.run_coroutine(resources.cleanup()))
    """)
    done = subprocess.run([sys.executable, "-X", "dev", "-W", "error", "-c", script], capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
