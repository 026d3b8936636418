"""Light diagrams as texts: read, checked, and run on an engine in memory that the tests of a module share."""

from __future__ import annotations

import asyncio
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle import Engine
from treadle.diagram.check import Checked, check_file
from treadle.nodes.registry import default_registry
from treadle.state import codec


class Ran(msgspec.Struct):
    """What an execution came to: values and last status of each node by its path, and what failed."""

    status: str
    result: Any
    error: str
    values: dict[str, list[Any]]  # turn by turn
    states: dict[str, str]


class Light:
    """Runs light diagrams in a folder of its own. A text need not say `version: light`; in its connections
    `a -> b: name` is short for `{from: a, to: b, label: name}`."""

    def __init__(self, runner: asyncio.Runner, engine: Engine, folder: Path) -> None:
        self.runner, self.engine, self.folder = runner, engine, folder

    def write(self, text: str, name: str = "case.light.yaml") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = _SHORT.sub(_long, textwrap.dedent(text).lstrip("\n"))
        path.write_text(text if "version:" in text else f"version: light\n{text}", encoding="utf-8")
        return path

    def check(self, text: str) -> Checked:
        return check_file(self.write(text), default_registry())

    def faults(self, text: str) -> list[str]:
        """The errors, each with its line: `4: there is no node 'x' (…)`."""
        return [_said(fault) for fault in self.check(text).errors]

    def warnings(self, text: str) -> list[str]:
        return [_said(fault) for fault in self.check(text).warnings]

    def run(self, text: str, inputs: Mapping[str, Any] | None = None, *,
            answers: Mapping[str, Any] | None = None) -> Ran:
        return self.runner.run(self._run(self.write(text), dict(inputs or {}), dict(answers or {})))

    def result(self, text: str, inputs: Mapping[str, Any] | None = None) -> Any:
        ran = self.run(text, inputs)
        assert ran.status == "completed", ran.error
        return ran.result

    async def _run(self, path: Path, inputs: dict[str, Any], answers: dict[str, Any]) -> Ran:
        handle = await self.engine.start(path, inputs)
        async with asyncio.timeout(30):
            status = await handle.wait()
            while status == "suspended" and answers:
                for node, _, _ in handle.waiting():
                    await handle.answer(node, answers.pop(node))
                status = await handle.wait()
        cell, cells = self.engine.store.load(handle.execution_id)
        values: dict[str, list[Any]] = {}
        states: dict[str, str] = {}
        for one in sorted(cells, key=lambda one: ([*map(int, one.iteration.split("."))], one.attempt)):
            states[one.node_id] = one.status.value
            if one.status == "completed":
                values.setdefault(one.node_id, []).append(
                    codec.decode(one.output) if one.output is not None else None)
        error = cell.error
        result = codec.decode(cell.output) if cell.output is not None else None
        return Ran(cell.status.value, result, "" if error is None else f"{error.type}: {error.message}",
                   values, states)


_SHORT = re.compile(r"^(?P<in> *)- (?P<source>[^{\n]+?) -> (?P<target>[^:\n]+)(?:: *(?P<label>[^\n]+))?$",
                    re.MULTILINE)


def _long(match: re.Match[str]) -> str:
    label = f", label: {match['label']}" if match["label"] else ""
    return f'{match["in"]}- {{from: "{match["source"]}", to: "{match["target"]}"{label}}}'


def _said(fault: Any) -> str:
    line = fault.where.line if fault.where else 0
    return f"{line}: {fault.message}" + (f" ({fault.hint})" if fault.hint else "")


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[tuple[asyncio.Runner, Engine]]:
    with asyncio.Runner() as runner:
        engine = Engine("memory:", script=getattr(request.module, "SCRIPT", None))
        runner.run(engine.__aenter__())
        yield runner, engine
        runner.run(engine.__aexit__(None, None, None))


@pytest.fixture
def light(shared: tuple[asyncio.Runner, Engine], tmp_path: Path) -> Light:
    return Light(*shared, tmp_path)

