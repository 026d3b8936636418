"""What bodies print and log: whose it is, where it goes, how much of it is kept."""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.builder import Diagram, node
from treadle.diagram.formats import loads
from treadle.engine.actor import NodeActor
from treadle.engine.capture import Capture
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, NoSuchExecution, TreadleError
from treadle.nodes import speech
from treadle.state.cell import NodeState
from treadle.store.base import LogLine

Said = list[tuple[str, str, str]]


def run(folder: Path, main: Callable[[Engine], Awaitable[Any]], **limits: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(f"{folder}/runs.db", config=TreadleConfig(**limits)) as engine:
            return await main(engine)

    return asyncio.run(inside())


def said(folder: Path, diagram: Any, *, fails: bool = False, **limits: Any) -> list[LogLine]:
    """What the bodies of a diagram say."""
    async def main(engine: Engine) -> list[LogLine]:
        handle = await engine.start(diagram)
        try:
            await handle.result()
        except ExecutionFailed:
            assert fails
        return await handle.logs()

    lines: list[LogLine] = run(folder, main, **limits)
    return lines


def in_yaml(body: str) -> Any:
    return loads(f"treadle: 1\nnodes:\n  n: {body}\n")


def brief(lines: list[LogLine]) -> Said:
    return [(line.node_id, line.stream, line.text) for line in lines]


# Whose words they are


@node
async def talks() -> int:
    print("at once")
    await asyncio.sleep(0)
    print("later", "on", end="")
    print("to stderr", file=sys.stderr)
    await asyncio.gather(child(), child())
    return 1


async def child() -> None:
    await asyncio.sleep(0)
    print(", a child")


@node(isolation="thread")
def in_a_thread(talks: int) -> int:
    print("here too")
    return talks


def test_what_is_printed_is_found_under_its_node(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr, logging.getLogRecordFactory()
    with Diagram("d") as diagram:
        in_a_thread(talks())
    lines = said(tmp_path, diagram)
    assert brief(lines) == [
        ("talks", "stdout", "at once"), ("talks", "stderr", "to stderr"),
        ("talks", "stdout", "later on, a child"), ("talks", "stdout", ", a child"),
        ("in_a_thread", "stdout", "here too")]
    assert [line.at for line in lines] == sorted(line.at for line in lines)
    assert {(line.iteration, line.attempt) for line in lines} == {("1", 1)}
    out, err = capsys.readouterr()
    assert out == "at once\nlater on, a child\n, a child\nhere too\n"
    assert err == "to stderr\n"
    assert (sys.stdout, sys.stderr, logging.getLogRecordFactory()) == before


@node
async def logs() -> None:
    logger = logging.getLogger("my.app")
    logger.warning("with %s", "care")
    logger.info("nobody asked for this level")
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        logger.exception("that went wrong")
    logging.getLogger("treadle.bodies").warning("this is ours")


def test_a_record_keeps_its_level_and_logger_and_is_there_once(tmp_path: Path) -> None:
    handler = logging.StreamHandler(stream := StringIO())
    logging.getLogger().addHandler(handler)
    try:
        with Diagram("d") as diagram:
            logs()
        first, second = said(tmp_path, diagram)
    finally:
        logging.getLogger().removeHandler(handler)
    assert (first.stream, first.level, first.logger, first.text) == ("log", "WARNING", "my.app", "with care")
    assert (second.level, second.text.splitlines()[0]) == ("ERROR", "that went wrong")
    assert second.text.endswith("ZeroDivisionError: division by zero")
    assert stream.getvalue().startswith("with care\nthat went wrong\nTraceback"), "handlers get it as ever"


@node
async def sets_up_logging() -> None:
    handler = logging.StreamHandler()
    logger = logging.getLogger("set.up.here")
    logger.addHandler(handler)
    logger.propagate = False
    logger.error("once")
    logger.error("%d", "not a number")  # `logging` prints what is wrong with it
    logger.removeHandler(handler)


def test_a_handler_that_prints_to_stderr_does_not_make_it_two(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Diagram("d") as diagram:
        sets_up_logging()
    lines = said(tmp_path, diagram)
    assert [line.text for line in lines if line.stream == "log"] == [
        "once", "'%d' can't be put together: TypeError"]
    assert "once" not in [line.text for line in lines if line.stream == "stderr"]
    assert "once\n" in capsys.readouterr().err


@node
async def silent() -> int:
    await asyncio.sleep(0)
    return 1


def test_words_between_bodies_are_nobodys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main(engine: Engine) -> list[LogLine]:
        engine.bus.subscribe(lambda event: print("an event"))
        print("the program")
        with Diagram("d") as diagram:
            silent()
        handle = await engine.start(diagram)
        await handle.result()
        return await handle.logs()

    assert run(tmp_path, main) == []
    assert capsys.readouterr().out.startswith("the program\nan event\n")


@node
async def leaves_a_task() -> int:
    print("first")
    leftovers.append(asyncio.ensure_future(chatter()))
    return 1


leftovers: list[asyncio.Task[None]] = []


async def chatter() -> None:
    await asyncio.sleep(0)
    print("afterwards")


def test_what_a_body_left_behind_speaks_in_its_name(tmp_path: Path) -> None:
    async def main(engine: Engine) -> Said:
        with Diagram("d") as diagram:
            leaves_a_task()
        handle = await engine.start(diagram)
        await handle.result()
        await leftovers.pop()
        await asyncio.sleep(0)
        return brief(await engine.logs(handle.execution_id, node="leaves_a_task", attempt=1))

    assert run(tmp_path, main) == [("leaves_a_task", "stdout", text) for text in ("first", "afterwards")]


# Processes and commands


def test_a_process_tells_its_streams_apart_and_its_last_words_are_heard(tmp_path: Path) -> None:
    code = "\n".join([
        "import logging, os, subprocess, sys",
        "print('out')",
        "print('err', file=sys.stderr)",
        "logging.getLogger('lib').error('logged \\ud800')",
        "subprocess.run(['echo', 'its child'])",
        "os.write(1, b'raw \\xff and no end')",
        "os.kill(os.getpid(), 9)"])
    lines = said(tmp_path, in_yaml(_process(code)), fails=True)
    assert sorted(brief(lines)) == sorted([
        ("n", "stdout", "out"), ("n", "stderr", "err"), ("n", "log", "logged \\ud800"),
        ("n", "stdout", "its child"), ("n", "stdout", "raw \udcff and no end")])
    assert [(line.level, line.logger) for line in lines if line.stream == "log"] == [("ERROR", "lib")]


def _process(code: str) -> str:
    indented = "".join(f"\n      {line}" for line in code.splitlines())
    return f"\n    type: code_job\n    code: |{indented}"


FORKS = """
import logging, os, sys
def speak(text):
    print(text, flush=True)
    logging.getLogger("forked").error(text)
if os.fork() == 0:
    speak("child")
    os._exit(0)
os.wait()
speak("parent")
"""


def test_a_process_that_a_body_forks_keeps_out_of_the_channel(tmp_path: Path) -> None:
    lines = brief(said(tmp_path, in_yaml(_process(FORKS))))
    assert sorted(lines) == [("n", "log", "parent"), ("n", "stderr", "child"), ("n", "stdout", "child"),
                             ("n", "stdout", "parent")]


@node(isolation="inline")
def forks() -> None:
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # later Pythons warn that there are threads
        if os.fork() == 0:
            print("child", flush=True)
            os._exit(0)
    os.wait()
    print("parent")


def test_so_does_one_that_the_engines_own_process_forks(tmp_path: Path,
                                                        capfd: pytest.CaptureFixture[str]) -> None:
    with Diagram("d") as diagram:
        forks()
    assert brief(said(tmp_path, diagram)) == [("forks", "stdout", "parent")]
    assert capfd.readouterr().out == "child\nparent\n"


def test_a_command_is_heard_as_well(tmp_path: Path) -> None:
    lines = said(tmp_path, in_yaml(
        "{type: code_job, language: bash, code: 'echo result; echo trouble >&2; exit 3'}"), fails=True)
    assert sorted(brief(lines)) == [("n", "stderr", "trouble"), ("n", "stdout", "result")]


def test_each_attempt_and_item_has_its_own(tmp_path: Path) -> None:
    @node(retries=1, backoff=0.001)
    async def shaky(item: int, context: Any) -> int:
        print(f"try {context.attempt}")
        if context.attempt == 1 and item == 2:
            raise ConnectionError("no line")
        return item

    with Diagram("d") as diagram:
        shaky.map(diagram.input("items", list, [1, 2]))

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram)
        await handle.result()
        found = [(line.node_id, line.attempt, line.text) for line in await handle.logs(node="shaky")]
        assert sorted(found) == [("shaky[0]", 1, "try 1"), ("shaky[1]", 1, "try 1"), ("shaky[1]", 2, "try 2")]
        assert [line.node_id for line in await handle.logs(node="shaky[1]", attempt=2)] == ["shaky[1]"]
        assert await handle.logs(node="shak") == []
        first, *rest = await handle.logs()
        assert await handle.logs(since=first) == rest
        assert await handle.logs(limit=1) == [first]

    run(tmp_path, main)


# How much is kept


def listening(**limits: Any) -> tuple[Capture, list[LogLine]]:
    """A listener whose journal is a list."""
    heard: list[LogLine] = []

    class Journal:
        config = TreadleConfig(**limits)
        say = heard.extend

    return Capture(Journal()), heard  # type: ignore[arg-type]


def one_body(script: Callable[[], None], **limits: Any) -> list[LogLine]:
    """What is written down of a body."""
    async def main() -> list[LogLine]:
        capture, heard = listening(**limits)
        speaker, home = capture.speaker()
        speaker.cell = NodeState("run", "n")
        home.copy().run(script)
        speaker.end()
        capture.close()
        return heard

    return asyncio.run(main())


def test_of_too_much_the_two_ends_are_kept_and_the_rest_is_counted() -> None:
    def script() -> None:
        for number in range(1000):
            print(f"line {number:04}")

    texts = [line.text for line in one_body(script, log_bytes_max=1000)]
    first, note, last = texts[:20], texts[20], texts[21:]
    assert first == [f"line {number:04}" for number in range(20)]
    assert last == [f"line {number:04}" for number in range(980, 1000)]
    assert note == "960 lines of 8640 bytes left out: the limit log_bytes_max is 1000"


def test_a_flood_in_one_go_is_not_walked_through() -> None:
    lines = one_body(lambda: print("first\n" + "x\n" * 3_000_000 + "last"), log_bytes_max=1000)
    assert lines[0].text == "first" and lines[-1].text == "last"
    assert [line.stream for line in lines if line.stream != "stdout"] == ["note"]
    assert len(lines) < 100


def test_a_long_line_is_broken_and_a_progress_bar_is_its_last_state() -> None:
    def script() -> None:
        print("x" * 25)
        print("y" * 15, end="")
        for percent in range(0, 101, 10):
            print(f"\r{percent} %", end="", file=sys.stderr)
        print("\r\nwindows\r\n", end="", file=sys.stderr)
        print()
        sys.stdout.writelines(["a", "b\n"])

    lines = one_body(script, log_line_chars_max=10)
    assert [line.text for line in lines if line.stream == "stdout"] == [
        "x" * 10, "x" * 10, "x" * 5, "y" * 10, "y" * 5, "ab"]
    assert [line.text for line in lines if line.stream == "stderr"] == ["100 %", "windows"]


def test_any_text_survives(tmp_path: Path) -> None:
    nasty = "half \ud800, null \0, é, \u2028, '\"\\"

    @node
    async def prints() -> None:
        with redirect_stdout(StringIO()):
            print("this goes where the body sends it")
        sys.stdout.write(nasty)

    with Diagram("d") as diagram:
        prints()
    sink, before = StringIO(), sys.stdout
    sys.stdout = sink
    try:
        assert [line.text for line in said(tmp_path, diagram)] == [nasty]
        assert sys.stdout is sink
    finally:
        sys.stdout = before
    assert sink.getvalue() == nasty


# Life


def test_listening_ends_with_the_last_engine_whoever_holds_on_to_a_stream() -> None:
    async def main() -> None:
        real = sys.stdout
        one, two = Capture(None), Capture(None)
        stand_in: Any = sys.stdout
        assert stand_in is not real and stand_in.real is real
        assert copy.copy(stand_in).real is real
        assert stand_in.isatty() == real.isatty() and stand_in.encoding == real.encoding
        one.close()
        one.close()
        assert sys.stdout is stand_in
        two.close()
        assert sys.stdout is real
        stand_in.write("")
        sys.stdout = StringIO()  # somebody swaps it while we are open
        three = Capture(None)
        mine = sys.stdout = StringIO()
        three.close()
        assert sys.stdout is mine
        sys.stdout = real

    asyncio.run(main())


def test_a_thread_that_goes_on_after_the_end_hurts_nobody() -> None:
    async def main() -> Any:
        capture, heard = listening()
        speaker, home = capture.speaker()
        speaker.cell = NodeState("run", "n")
        return capture, heard, home

    capture, heard, home = asyncio.run(main())
    thread = threading.Thread(target=lambda: home.run(print, "the loop is closed"))
    thread.start()
    thread.join()
    assert heard == []
    capture.close()


def test_actors_that_end_take_their_listener_with_them() -> None:
    async def main() -> None:
        before = sys.stdout
        actors = NodeActor()
        assert sys.stdout is not before
        assert await actors.close(1) == 0
        assert sys.stdout is before

    asyncio.run(main())


def test_a_process_that_serves_one_body_hears_all_of_it() -> None:
    class Everything:
        repeats = False

        def __init__(self) -> None:
            self.heard: list[str] = []

        def printed(self, stream: str, text: str) -> bool:
            self.heard.append(text)
            return False

        def logged(self, level: str, logger: str, text: str) -> None:
            self.heard.append(f"{level} {logger} {text}")

    listener = Everything()
    speech.install(listener)
    try:
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        logging.getLogger("treadle_diagrams.d0123456789ab.tasks").error("no folder in its name")
        logging.makeLogRecord({"msg": "a copy has no name yet"})
    finally:
        speech.uninstall()
    assert "".join(listener.heard) == "from a thread\nERROR tasks no folder in its name"


def test_who_asks_for_what_there_is_not_is_told(tmp_path: Path) -> None:
    async def main(engine: Engine) -> None:
        with pytest.raises(NoSuchExecution):
            await engine.logs("nonsense")

    run(tmp_path, main)

    async def in_memory() -> None:
        async with Engine.open(durability="memory") as engine:
            with Diagram("d") as diagram:
                talks()
            handle = await engine.start(diagram)
            await handle.result()
            with pytest.raises(TreadleError, match="has no store"):
                await handle.logs()

    asyncio.run(in_memory())
