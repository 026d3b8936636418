"""A copy of the process that an inline body forks never does the engine's work."""
# ruff: noqa: ASYNC222, ASYNC240 - bodies that misbehave

from __future__ import annotations

import asyncio
import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from treadle import Diagram, Engine, node
from treadle.engine.engine import Durability


@node(isolation="inline")
async def awaits_in_the_copy(log: str) -> int:
    await asyncio.sleep(0)
    child = os.fork()
    if child == 0:
        await asyncio.sleep(0.01)
        Path(log).write_text("the copy went on")
        os._exit(9)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@node(isolation="inline")
def returns_in_the_copy(log: str) -> int:
    child = os.fork()
    return 0 if child == 0 else os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@node(isolation="inline")
def leaves_by_itself(log: str) -> int:
    process = multiprocessing.get_context("fork").Process(target=os._exit, args=(5,))
    process.start()
    process.join()
    return process.exitcode or 0


@node(isolation="inline")
def after(status: int, log: str) -> int:
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\n")
    return status


@pytest.mark.parametrize(("body", "status"),
                         [(awaits_in_the_copy, 0), (returns_in_the_copy, 0), (leaves_by_itself, 5)])
@pytest.mark.parametrize("durability", ["batched", "memory"])
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_copy_does_none_of_the_engines_work(
        tmp_path: Path, body: Callable[[str], int], status: int, durability: Durability,
        capfd: pytest.CaptureFixture[str]) -> None:
    log = str(tmp_path / "log")
    with Diagram("forks") as diagram:
        after(body(log), log)

    async def main() -> int:
        async with Engine.open(str(tmp_path / "runs.db"), durability=durability) as engine:
            value: int = await (await engine.start(diagram)).result()
            return value

    assert asyncio.run(main()) == status
    assert Path(log).read_text() == f"{os.getpid()}\n"
    assert ("forked while an engine was open" in capfd.readouterr().err) == (status == 0)


def test_copies_may_go_on_when_the_engine_is_closed(tmp_path: Path) -> None:
    with Diagram("plain") as diagram:
        after(1, str(tmp_path / "log"))

    async def main() -> int:
        async with Engine.open(str(tmp_path / "runs.db")) as engine:
            await (await engine.start(diagram)).result()
        child = os.fork()
        if child == 0:
            await asyncio.sleep(0)
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert asyncio.run(main()) == 7
