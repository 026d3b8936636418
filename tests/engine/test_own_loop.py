"""`treadle.run` and the command line perform in an event loop of their own, which always ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import sys
import threading

import pytest

from treadle.config import TreadleConfig
from treadle.engine.run import in_own_loop
from treadle.errors import TreadleError


async def give(value: int) -> int:
    await asyncio.sleep(0)
    return value


def test_it_returns_and_leaves_no_loop_behind() -> None:
    seen: list[asyncio.AbstractEventLoop] = []

    async def main() -> int:
        seen.append(asyncio.get_running_loop())
        return await give(7)

    assert in_own_loop(main(), TreadleConfig()) == 7
    assert seen[0].is_closed()


def test_the_loop_is_of_the_kind_that_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    async def kind() -> bool:
        return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop)

    assert in_own_loop(kind(), TreadleConfig(loop="asyncio"))
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert in_own_loop(kind(), TreadleConfig(loop="auto"))
    coro = give(1)
    with pytest.raises(TreadleError, match="uvloop is not installed: `pip install uvloop`"):
        in_own_loop(coro, TreadleConfig(loop="uvloop"))
    assert coro.cr_frame is None


def test_it_is_refused_inside_a_running_loop() -> None:
    async def main() -> None:
        coro = give(1)
        with pytest.raises(TreadleError, match="inside a running event loop: await it there"):
            in_own_loop(coro, TreadleConfig())
        assert coro.cr_frame is None

    asyncio.run(main())


def test_a_thread_that_is_left_behind_is_warned_of_and_the_result_kept(
        caplog: pytest.LogCaptureFixture) -> None:
    release = threading.Event()

    async def main() -> int:
        asyncio.get_running_loop().run_in_executor(None, release.wait)
        return await give(7)

    with caplog.at_level(logging.WARNING, "treadle"):
        assert in_own_loop(main(), TreadleConfig(shutdown_s_max=0.05)) == 7
    assert "the default executor: not ended within 0.05 s" in caplog.text
    release.set()
    gc.collect()


def test_an_interrupt_cancels_what_runs_and_is_passed_on() -> None:
    ended: list[str] = []

    async def main() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("in order")

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            in_own_loop(main(), TreadleConfig(loop="asyncio"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert ended == ["in order"]
