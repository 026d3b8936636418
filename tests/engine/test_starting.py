"""What can be started, and what is said of the rest."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

import treadle
from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.errors import InvalidDiagram, StoreError, TreadleError


def run(tmp_path: Path, main: Callable[[Engine], Awaitable[Any]]) -> None:
    async def inside() -> None:
        async with Engine.open(tmp_path / "runs.db", check=True) as engine:
            await main(engine)

    asyncio.run(inside())


def test_what_cant_be_started_says_why(tmp_path: Path) -> None:
    async def main(engine: Engine) -> None:
        with pytest.raises(InvalidDiagram, match="'nope'"):
            await engine.start(loads("treadle: 1\nnodes: {a: {type: nope}}"))
        with pytest.raises(TypeError, match="a diagram is a file's path"):
            await engine.start(7)  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError):
            await engine.start(tmp_path / "none.yaml")

    run(tmp_path, main)

    async def outside() -> None:
        with pytest.raises(TreadleError, match="is not open"):
            await Engine.open("memory:").start("x.yaml")

    asyncio.run(outside())


def test_a_file_is_started_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "hello.yaml"
    path.write_text(
        'treadle: 1\ninputs: {who: {}}\nnodes: {t: {type: template_job, text: "hello {{ inputs.who }}"}}\n'
    )

    async def main(engine: Engine) -> str:
        handle = await engine.start(str(path), who="Ann", execution_id="mine")
        assert await handle.result() == "hello Ann" and handle.execution_id == "mine"
        with pytest.raises(ValueError, match="mine"):
            await engine.start(path, who="Ann", execution_id="mine")
        return handle.execution_id

    run(tmp_path, main)


def test_inputs_may_be_named_like_parameters(tmp_path: Path) -> None:
    diagram = loads("treadle: 1\ninputs: {execution_id: {}, store: {default: s}}\n"
                    "nodes: {t: {type: template_job, text: '{{inputs.execution_id}} {{inputs.store}}'}}\n")

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram, {"execution_id": "given"}, execution_id="mine", store="shop")
        assert (handle.execution_id, await handle.result()) == ("mine", "given shop")

    run(tmp_path, main)
    assert treadle.run(diagram, {"execution_id": "a", "store": "b"}) == "a b"


def test_an_id_that_can_not_be_written_hurts_nobody_else(tmp_path: Path) -> None:
    diagram = loads("treadle: 1\nnodes: {a: {type: start}}\n")

    async def main(engine: Engine) -> None:
        for bad in ("half \ud800", "nul \x00", "x" * 201):
            with pytest.raises(ValueError, match="can't be the id of an execution"):
                await engine.start(diagram, execution_id=bad)
        assert await (await engine.start(diagram, execution_id="a/b c")).result() == {}

    run(tmp_path, main)


def test_an_engine_that_fails_to_recover_leaves_nothing_open(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(engine: Engine) -> list[Any]:
        raise StoreError("the disk is gone")

    monkeypatch.setattr("treadle.engine.recover.recover", broken)
    before = set(threading.enumerate())

    async def main() -> None:
        with pytest.raises(StoreError, match="the disk is gone"):
            async with Engine.open(str(tmp_path / "runs.db"), recover=True):
                raise AssertionError("it is not open")
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

    asyncio.run(main())
    assert {one for one in threading.enumerate() if one not in before and "asyncio" not in one.name} == set()
