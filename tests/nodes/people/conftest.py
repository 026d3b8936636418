"""How the tests of this folder run a diagram: on a real engine, persons by script or asked at a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus
from treadle.state.steps import StepRecord, steps_of


class Ran:
    """What came of an execution: its result or its error, and the steps of its nodes."""

    def __init__(self, result: Any, error: str, cells: Mapping[str, NodeState]) -> None:
        self.result, self.error, self.cells = result, error, cells

    def steps(self, node_id: str) -> list[StepRecord]:
        return list(steps_of(self.cells[node_id].meta).steps)

    def names(self, node_id: str) -> list[str]:
        return [one.name for one in self.steps(node_id)]

    def status(self, node_id: str) -> NodeStatus:
        return self.cells[node_id].status

    def asked(self, node_id: str) -> list[str]:
        """What the user said in the calls of the model."""
        return [one["content"] for record in self.steps(node_id) if record.kind == "model" and record.value
                for one in record.result()["asked"] if one["role"] == "user"]


Runner = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path) -> Runner:
    """`run(text, script={…}, **inputs)`: run a diagram whose folder is the test's own."""
    def runner(text: str, *, script: Mapping[str, Any] | None = None, config: TreadleConfig = DEFAULT_CONFIG,
               on: Callable[[Any], Any] | None = None, **inputs: Any) -> Ran:
        async def inside() -> Ran:
            spec = loads(text, file="d.yaml", base=str(tmp_path))
            async with Engine.open(f"sqlite:///{tmp_path}/runs.db", config=config, script=script,
                                   check=True) as engine:
                handle = await engine.start(spec, **inputs)
                result, error = None, ""
                try:
                    if on is not None:
                        await on(handle)
                    result = await handle.result()
                except ExecutionFailed as failure:
                    error = str(failure)
                cells: dict[str, NodeState] = {}
                for cell in (await engine.state(handle.execution_id)).node_states.values():
                    cells[cell.node_id] = cell
                return Ran(result, error, cells)
        return asyncio.run(inside())
    return runner
