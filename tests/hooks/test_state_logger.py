"""`StateLogger`: a line for each transition, in a file that does not grow for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, PluginError
from treadle.hooks.manager import PluginManager
from treadle.plugins.state_logger import StateLogger
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

Write = Callable[[str, str], Path]


def lines(path: Path) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]


def test_transitions_of_an_execution_are_in_the_file(folder: Path, write: Write) -> None:
    write("treadle.toml", '[plugins.StateLogger]\npath = "logs/states.jsonl"\n')
    write("tasks.py", "def bad():\n    raise ValueError('no rows')\n")
    text = ("treadle: 1\nnodes:\n  a: {type: start}\n"
            "  bad: {type: code_job, call: 'tasks:bad', needs: a, retries: 1, backoff: {initial: 0.001}}\n")

    async def script() -> None:
        async with Engine.open(durability="memory", plugins=PluginManager.discover()) as engine:
            handle = await engine.start(loads(text, file=str(folder / "d.yaml")))
            with pytest.raises(ExecutionFailed):
                await handle.result()

    asyncio.run(script())
    said = lines(folder / "logs" / "states.jsonl")
    assert [(one["node"], one["from"], one["to"], one["attempt"]) for one in said] == [
        ("a", "pending", "running", 1), ("a", "running", "completed", 1), ("bad", "pending", "running", 1),
        ("bad", "running", "retrying", 1), ("bad", "retrying", "failed", 1), ("bad", "pending", "running", 2),
        ("bad", "running", "failed", 2), (None, None, "failed", None)]
    assert said[-1]["error"] == "ValueError: no rows" and said[-1]["time"].endswith("+00:00")
    assert len({one["execution"] for one in said}) == 1


def cells(number: int) -> tuple[NodeState, NodeState]:
    before = NodeState("x", f"node{number:03}")
    return before, msgspec.structs.replace(before, status=NodeStatus.RUNNING, started_at=float(number))


def test_the_file_is_rotated_by_its_size_and_the_newest_stay(tmp_path: Path) -> None:
    def log(logger: StateLogger, *numbers: int) -> None:
        for number in numbers:
            before, after = cells(number)
            logger.post_node_execute(after.node_id, before, after)

    def nodes(path: Path) -> list[int]:
        return [int(one["node"][4:]) for one in lines(path)]

    path = tmp_path / "states.jsonl"
    probe = StateLogger(str(path))
    log(probe, 0)
    size = path.stat().st_size
    path.unlink()
    probe.close()

    logger = StateLogger(str(path), size_max=str(3 * size), keep=2)
    log(logger, *range(10))
    logger.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == [path.name, f"{path.name}.1", f"{path.name}.2"]
    assert [nodes(tmp_path / f"{path.name}{end}") for end in (".2", ".1", "")] == [[3, 4, 5], [6, 7, 8], [9]]

    beside = StateLogger(str(path), size_max=str(3 * size), keep=2)
    log(logger, 10)  # a closed one opens again
    log(beside, 11, 12)
    log(logger, 13, 14, 15)
    log(beside, 16)
    for one in (logger, beside):
        one.close()
    found = sorted(number for one in tmp_path.iterdir() for number in nodes(one))
    assert found[-7:] == [10, 11, 12, 13, 14, 15, 16], "two that write one file lose nothing"


def test_nothing_is_kept_with_keep_0(tmp_path: Path) -> None:
    logger = StateLogger(str(tmp_path / "states.jsonl"), size_max="1", keep=0)
    for number in range(3):
        logger.post_node_execute("a", *cells(number))
    logger.close()
    assert [one.name for one in tmp_path.iterdir()] == ["states.jsonl"]


@pytest.mark.parametrize(("settings", "said"), [
    ("size_max = '3 elephants'", r"\[plugins\.StateLogger\] size_max: '3 elephants' can't be read"),
    ("size_max = '0'", r"\[plugins\.StateLogger\] size_max = '0': it must be larger than 0"),
    ("keep = -1", r"\[plugins\.StateLogger\] keep = -1: it must be a number from 0"),
    ("pth = 'x'", r"\[plugins\.StateLogger\] unknown setting `pth`: did you mean 'path'\?"),
])
def test_settings_that_make_no_sense_are_named(write: Write, settings: str, said: str) -> None:
    write("treadle.toml", f"[plugins.StateLogger]\n{settings}\n")
    with pytest.raises(PluginError, match=said):
        PluginManager.discover()
