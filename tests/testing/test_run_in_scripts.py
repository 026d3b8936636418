"""`treadle.run` and the engine where people first try them: a script's top level, and cells of a notebook."""

from __future__ import annotations

import ast
import asyncio
import inspect
from typing import Any

import pytest

import treadle
from treadle.errors import TreadleError

DRAW = """
from treadle import Diagram, Engine, node, run

@node
def double(number: int) -> int:
    return 2 * number

with Diagram("double") as diagram:
    double(diagram.input("number", int))
"""
CELL = """
async with Engine.open("memory:") as engine:
    handle = await engine.start(diagram, number=4)
    seen = [event.type async for event in handle.events()]
    result = await handle.result()
"""


def cell(names: dict[str, Any], text: str) -> None:
    """Run a cell as notebooks do: on a loop that runs already, `await` allowed at its top level."""
    async def kernel() -> None:
        code = compile(text, "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        made = eval(code, names)
        if inspect.iscoroutine(made):
            await made

    asyncio.run(kernel())


def test_a_script_runs_its_diagram() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(DRAW, names)
    assert treadle.run(names["diagram"], number=3) == 6


def test_a_notebook_awaits_the_engine_and_is_told_so() -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    cell(names, DRAW)
    with pytest.raises(TreadleError, match=r"(?s)one is running here already.*Engine\.open"):
        cell(names, "run(diagram, number=4)")
    cell(names, CELL)
    assert names["result"] == 8
    assert names["seen"][-1] == "execution_completed"
