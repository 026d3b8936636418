"""Threads and processes: what a body may do there, how it is stopped, and what is left when it is over."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.engine.executor import Executors, RemoteError, error_info
from treadle.errors import BodyDied, LimitExceeded, NodeTimeout, NotEncodable
from treadle.nodes.base import cancelled
from treadle.nodes.processes import run_code_there
from treadle.state import codec

here: contextvars.ContextVar[str] = contextvars.ContextVar("here", default="nowhere")

Code = Callable[..., Awaitable[Any]]


def with_executors(script: Callable[[Executors], Awaitable[None]], **limits: Any) -> None:
    async def main() -> None:
        executors = Executors(TreadleConfig(**limits))
        try:
            await script(executors)
        finally:
            await executors.close()

    asyncio.run(main())


def in_process(executors: Executors) -> Code:
    """Runs Python code in a child process; its names are the keywords."""
    async def code(text: str, *, timeout: float | None = None, memory_mb: int | None = None,
                   **names: Any) -> Any:
        raw = await executors.get("process").run(
            run_code_there, text, "<test>", codec.encode(names), timeout=timeout, memory_mb=memory_mb,
            name="n")
        return codec.decode(raw)

    return code


def gone(pid: int) -> bool:
    """Whether a process has ended: there is none, or its parent has yet to look."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def wait_until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


async def until(true: Callable[[], Any]) -> None:
    for _ in range(1000):
        if true():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come true in time")


# threads


def test_a_thread_sees_the_callers_context_and_changes_only_its_own() -> None:
    def body() -> tuple[str, bool]:
        found = here.get()
        here.set("there")
        return found, threading.current_thread() is threading.main_thread()

    async def script(executors: Executors) -> None:
        here.set("home")
        assert await executors.get("thread").run(body) == ("home", False)
        assert here.get() == "home"

    with_executors(script)


def test_an_exception_of_a_thread_is_raised_as_it_is() -> None:
    def body() -> None:
        raise KeyError("boom")

    async def script(executors: Executors) -> None:
        with pytest.raises(KeyError, match="boom"):
            await executors.get("thread").run(body)
        with pytest.raises(BodyDied, match=r"sys.exit\(3\)"):
            await executors.get("thread").run(sys.exit, 3)
        with pytest.raises(RuntimeError, match="StopIteration"):
            await executors.get("thread").run(next, iter(()))

    with_executors(script)


def test_no_more_threads_than_thread_max_run_at_once_and_the_time_counts_from_the_start() -> None:
    running, most = 0, 0
    lock = threading.Lock()

    def body() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.02)
        with lock:
            running -= 1

    async def script(executors: Executors) -> None:
        threads = executors.get("thread")
        # Each takes 0.02 s and the last ones wait 0.2 s for their turn: none of them times out.
        await asyncio.gather(*(threads.run(body, timeout=0.15) for _ in range(20)))
        assert most == 2

    with_executors(script, thread_max=2)


def test_a_thread_that_times_out_is_told_and_its_place_given_away(caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    def body() -> None:
        while not cancelled():
            time.sleep(0.005)
        told.set()

    async def script(executors: Executors) -> None:
        threads = executors.get("thread")
        with pytest.raises(NodeTimeout, match=r"'slow' ran longer than its timeout of 0.05 s"):
            await threads.run(body, timeout=0.05, name="slow")
        assert await threads.run(lambda: 1) == 1
        assert await asyncio.to_thread(told.wait, 5)

    with_executors(script, thread_max=1)
    assert not caplog.records


def test_a_thread_that_does_not_listen_is_reported_and_never_blocks_the_end(
        caplog: pytest.LogCaptureFixture) -> None:
    free = threading.Event()

    async def script(executors: Executors) -> None:
        task = asyncio.ensure_future(executors.get("thread").run(free.wait, name="deaf"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: caplog.records)

    before = time.monotonic()
    with_executors(script, cancel_s_max=0.05)
    assert time.monotonic() - before < 5
    assert "still runs node 'deaf'" in caplog.messages[0] and "abandoned" in caplog.messages[1]
    free.set()


# processes


def test_values_cross_by_the_codec() -> None:
    async def script(executors: Executors) -> None:
        code = in_process(executors)
        back = await code("return (x, {1: x}, y)", x=b"\0", y=float("inf"))
        assert back == (b"\0", {1: b"\0"}, float("inf"))
        with pytest.raises(NotEncodable, match=r"result\['a'\] is a builtins.object"):
            await code("return {'a': object()}")

    with_executors(script)


def test_an_exception_of_a_process_keeps_its_name_message_and_line() -> None:
    async def script(executors: Executors) -> None:
        with pytest.raises(RemoteError) as caught:
            await in_process(executors)("a = 1\nraise ValueError('boom')")
        info = error_info(caught.value, "n")
        assert (info.type, info.message, info.node) == ("ValueError", "boom", "n")
        assert "line 2" in info.traceback and "raise ValueError('boom')" in info.traceback
        assert "worker.py" not in info.traceback

    with_executors(script)


@pytest.mark.parametrize(("code", "how"), [
    ("import sys; print('so long'); sys.exit(3)", r"exit code 3 .*it printed last: so long"),
    ("import os; os._exit(0)", "exit code 0"),
    ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
])
def test_a_body_that_takes_its_process_down_is_a_failure(code: str, how: str) -> None:
    async def script(executors: Executors) -> None:
        with pytest.raises(BodyDied, match=how):
            await in_process(executors)(code, timeout=30)
        assert await in_process(executors)("return 1") == 1

    with_executors(script, process_max=1)


def test_a_timeout_kills_the_process_and_what_it_started(tmp_path: Path) -> None:
    code = ("import os, subprocess, time\n"
            "child = subprocess.Popen(['sleep', '60'])\n"
            "open(file, 'w').write(f'{os.getpid()} {child.pid}')\n"
            "time.sleep(60)")

    async def script(executors: Executors) -> None:
        run = in_process(executors)
        await run("return 1")  # the child is there: its start doesn't count
        with pytest.raises(NodeTimeout, match=r"timeout of 0\.5 s; its process was killed"):
            await run(code, file=str(tmp_path / "pids"), timeout=0.5)

    with_executors(script)
    for pid in (tmp_path / "pids").read_text().split():
        wait_until(lambda pid=int(pid): gone(pid))  # type: ignore[misc]


def test_cancelling_kills_and_frees_the_place(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def script(executors: Executors) -> None:
        code = in_process(executors)
        task = asyncio.ensure_future(
            code("import os, time; open(file, 'w').write(str(os.getpid())); time.sleep(60)", file=str(file)))
        await until(lambda: file.exists() and file.read_text())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert gone(int(file.read_text()))
        assert await code("return 2") == 2

    with_executors(script, process_max=1)


def test_memory_is_bounded() -> None:
    async def script(executors: Executors) -> None:
        code = in_process(executors)
        with pytest.raises(RemoteError, match=r"MemoryError: .*\(memory_mb_max is 300\)") as caught:
            await code("return len(bytearray(400_000_000))", memory_mb=300)
        assert caught.value.retryable is False
        assert await code("return len(bytearray(400_000_000))") == 400_000_000

    with_executors(script)


def test_children_are_used_again_and_what_they_print_is_logged(caplog: pytest.LogCaptureFixture,
                                                               capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG, "treadle.bodies")

    async def script(executors: Executors) -> None:
        code = in_process(executors)
        pids = [await code("import os; os.chdir('/'); print('hello'); return os.getpid()") for _ in range(3)]
        assert len(set(pids)) == 1
        assert await code("import os; return os.getcwd()") == os.getcwd()
        await until(lambda: "node 'n' printed: hello" in caplog.messages)

    with_executors(script, process_max=1)
    assert capfd.readouterr() == ("", "")


def test_a_result_that_is_too_large_is_refused() -> None:
    async def script(executors: Executors) -> None:
        with pytest.raises(LimitExceeded, match="raise it with TreadleConfig"):
            await in_process(executors)("return 'x' * 20_000")
        assert await in_process(executors)("return 1") == 1

    with_executors(script, body_output_bytes_max=10_000)


def test_no_more_children_than_process_max() -> None:
    async def script(executors: Executors) -> None:
        code = in_process(executors)
        pids = await asyncio.gather(*(code("import os; return os.getpid()") for _ in range(12)))
        assert len(set(pids)) <= 2

    with_executors(script, process_max=2)


def test_children_die_with_their_engine(tmp_path: Path) -> None:
    """The engine is killed by SIGKILL while a process body and a script run: nothing is left of either."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import asyncio, sys
from pathlib import Path
sys.path[:0] = {sys.path!r}
from treadle.engine.executor import Executors
from treadle.nodes.processes import run_code_there
from treadle.config import DEFAULT_CONFIG
from treadle.nodes.shell import run_bash
from treadle.state import codec

async def main():
    code = ("import os, subprocess, time\\n"
            "child = subprocess.Popen(['sleep', '60'])\\n"
            "open('process', 'w').write(f'{{os.getpid()}} {{child.pid}} .')\\n"
            "time.sleep(60)")
    script = "sleep 60 & echo $$ $! . > script; wait"
    await asyncio.gather(
        Executors().get("process").run(run_code_there, code, "<code>", codec.encode({{}})),
        run_bash(script, {{}}, folder=Path("."), name="n", config=DEFAULT_CONFIG))

asyncio.run(main())
""")
    engine = subprocess.Popen([sys.executable, str(program)], cwd=tmp_path)
    files = [tmp_path / "process", tmp_path / "script"]
    try:
        wait_until(lambda: all(file.exists() and file.read_text().strip().endswith(".") for file in files))
    finally:
        engine.send_signal(signal.SIGKILL)
        engine.wait()
    for file in files:
        for pid in file.read_text().split()[:2]:
            wait_until(lambda pid=int(pid): gone(pid))  # type: ignore[misc]


def test_closing_kills_what_runs(tmp_path: Path) -> None:
    file = tmp_path / "pid"

    async def script(executors: Executors) -> None:
        task = asyncio.ensure_future(in_process(executors)(
            "import os, time; open(file, 'w').write(str(os.getpid())); time.sleep(60)", file=str(file)))
        await until(lambda: file.exists() and file.read_text())
        await executors.close()
        assert gone(int(file.read_text()))
        with pytest.raises(BodyDied):
            await task

    with_executors(script)


def test_an_unknown_isolation() -> None:
    async def script(executors: Executors) -> None:
        with pytest.raises(ValueError, match="no executor for isolation 'fibre'"):
            executors.get("fibre")

    with_executors(script)


# errors as they are recorded


def test_the_frames_of_the_engine_are_left_out_and_the_causes_stay() -> None:
    def inner() -> None:
        raise ValueError("the cause")

    try:
        try:
            codec.decode(b"{")
        except Exception as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        info = error_info(error, "n")
    assert info.type == "RuntimeError" and info.message == "outer" and info.node == "n"
    assert "direct cause" in info.traceback and "NotDecodable" in info.traceback
    assert os.path.join("state", "codec.py") not in info.traceback

    try:
        inner()
    except ValueError as error:
        assert "in inner" in error_info(error).traceback


def test_errors_that_are_hard_to_write_down() -> None:
    class Rude(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

    assert "can't be shown" in error_info(Rude()).message
    assert error_info(ValueError("\ud800")).message == "\\ud800"
    long = error_info(ValueError("x" * 100_000)).message
    assert len(long) < 5000 and "characters left out" in long
    assert error_info(ValueError("never raised")).traceback == ""


def test_a_program_that_forgets_its_guard_is_told_so(tmp_path: Path) -> None:
    """The child imports the program to find the function; the part that runs the diagram must not run."""
    program = tmp_path / "program.py"
    program.write_text(f"""
import sys
sys.path[:0] = {sys.path!r}
import treadle

@treadle.node(isolation="process")
def inc(x: int) -> int:
    return x + 1

with treadle.Diagram("d") as diagram:
    diagram.result(inc(diagram.input("x", int, 3)))

if GUARD:
    print(treadle.run(diagram))
""".replace("GUARD", "__name__ == '__main__' or 'unguarded' in sys.argv"))
    environment = {**os.environ, "TREADLE_STORE": "memory:"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(program), *words], env=environment, capture_output=True,
                              text=True, timeout=60, check=False)

    assert run().stdout == "4\n"
    program.write_text(program.read_text().replace("'unguarded' in sys.argv", "True"))
    assert "if __name__ == '__main__'" in run().stderr
