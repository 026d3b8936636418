"""The child processes of bodies end together, whatever becomes of who waits for that."""

from __future__ import annotations

import asyncio
import os
import threading

import pytest

from treadle.config import TreadleConfig
from treadle.engine.executor import Executors
from treadle.engine.processes import ProcessExecutor
from treadle.nodes.processes import run_code_there
from treadle.state import codec


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_cancelled_close_still_waits_until_every_process_is_gone() -> None:
    async def main() -> None:
        executor = ProcessExecutor(TreadleConfig(process_max=2))

        async def pid() -> int:
            code = "import os, time; time.sleep(0.2); return os.getpid()"
            return codec.decode(await executor.run(run_code_there, code, "n", codec.encode({}), name="n"))

        pids = set(await asyncio.gather(pid(), pid()))
        assert len(pids) == 2 and all(alive(one) for one in pids)
        closing = asyncio.create_task(executor.close())
        await asyncio.sleep(0)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not any(alive(one) for one in pids)
        await executor.close()  # a second call does nothing

    asyncio.run(main())


def test_no_thread_is_left_when_the_engine_is_closed() -> None:
    async def main() -> None:
        executors = Executors()
        threads = executors.get("thread")
        assert await asyncio.gather(*(threads.run(pow, 2, n) for n in range(20))) == [2**n for n in range(20)]
        await executors.close()
        assert [thread for thread in threading.enumerate() if thread.name == "treadle body"] == []

    for _ in range(20):
        asyncio.run(main())
