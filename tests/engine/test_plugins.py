"""Plugins on an engine: asked before, told of every transition, asked about writes, told of the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from treadle import Diagram, Engine, node
from treadle.config import TreadleConfig
from treadle.engine.bus import Event, EventType
from treadle.engine.engine import Durability
from treadle.errors import ExecutionFailed, PluginError, WrongKey
from treadle.hooks.sdk import StateHook
from treadle.hooks.specs import FinalReport
from treadle.state.cell import ContextCell, ExecutionState, NodeState


class Diary(StateHook):
    """Writes down what it is told."""

    name, version = "Diary", "1.2.0"

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.report: FinalReport | None = None

    def pre_state_initialize(self, pipeline: Any, inputs: Mapping[str, Any]) -> None:
        if inputs.get("n") == 13:
            raise ValueError("13 is unlucky")
        self.lines.append(f"begin {pipeline.id}")

    def post_node_execute(self, node_id: str, previous_state: NodeState, current_state: NodeState) -> None:
        if previous_state.status != current_state.status:
            self.lines.append(f"{node_id}: {previous_state.status} → {current_state.status}")

    def pre_state_mutation(self, transaction: Any) -> str | None:
        if "artifacts.forbidden" in transaction.changes:
            return "nobody writes that"
        return None

    def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> None:
        self.lines.append(f"end {state.status} with {len(state.node_states)}")
        self.report = report


class Slow(StateHook):
    name, version = "Slow", "0.1"

    def __init__(self) -> None:
        self.gate = threading.Event()

    def post_node_execute(self, node_id: str) -> None:
        if not self.gate.wait(20):
            raise TimeoutError("the execution has waited for its hook")
        time.sleep(0.06)  # hook_ms_max is 50

    def post_state_finalize(self) -> None:
        raise KeyError("lost")


@node(isolation="inline")
def share(n: int, context: Any) -> int:
    context.artifacts["n"] = n
    return n


@node(isolation="inline")
def forbidden(n: int, context: Any) -> int:
    context.artifacts["forbidden"] = n
    return n


def drawn(body: Any) -> Diagram:
    with Diagram("d") as diagram:
        body(diagram.input("n", int))
    return diagram


@pytest.mark.parametrize("durability", ["batched", "strict", "memory"])
def test_a_plugin_sees_all_four_phases(tmp_path: Path, durability: Durability) -> None:
    diary = Diary()

    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", durability=durability, plugins=[diary]) as engine:
            handle = await engine.start(drawn(share), n=1, execution_id="x")
            assert await handle.result() == 1
            with pytest.raises(PluginError, match=r"Diary.*refuses the start: 13 is unlucky"):
                await engine.start(drawn(share), n=13, execution_id="y")
            assert "y" not in engine.running
            if engine.manager is not None:
                assert [one.cell.execution_id for one in await engine.executions()] == ["x"]
                assert (await engine.state("x")).cell is not None

    asyncio.run(main())
    assert diary.lines == ["begin x", "start: pending → running", "start: running → completed",
                           "share: pending → running", "share: running → completed", "end completed with 2"]
    assert diary.report is not None and diary.report.metrics.completed == 2


def test_a_plugin_vetoes_a_write(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", plugins=[Diary()]) as engine:
            with pytest.raises(ExecutionFailed, match=r"Diary.*nobody writes that"):
                await (await engine.start(drawn(forbidden), n=1)).result()

    asyncio.run(main())


def test_a_hook_that_is_slow_or_raises_does_not_hurt_and_is_named(
        tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    diary, slow = Diary(), Slow()

    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", plugins=[slow, diary],
                               config=TreadleConfig(hook_ms_max=50)) as engine:
            assert await (await engine.start(drawn(share), n=1)).result() == 1
            slow.gate.set()

    asyncio.run(main())
    assert diary.lines[-1] == "end completed with 2"
    assert diary.report is not None and any(one.plugin == "Slow@0.1" for one in diary.report.slow_hooks)
    assert "Slow@0.1" in caplog.text and "lost" in caplog.text


def test_active_plugins_are_recorded(tmp_path: Path) -> None:
    @node(isolation="inline")
    def look(context: Any) -> list[str]:
        return [*context.active_plugins, context.environment_vars["DEBUG"]]

    with Diagram("d", environment_vars={"DEBUG": "false", "OTHER": "1"}) as diagram:
        look()

    async def main() -> Any:
        async with Engine.open(f"{tmp_path}/runs.db", plugins=[Diary()],
                               environment_vars={"DEBUG": "true"}) as engine:
            return await (await engine.start(diagram)).result()

    assert asyncio.run(main()) == ["Diary@1.2.0", "true"]


@pytest.mark.parametrize("durability", ["batched", "memory"])
def test_changes_of_the_context_are_announced_with_what_was_before(
        tmp_path: Path, durability: Durability) -> None:
    @node(isolation="thread")
    def twice(context: Any) -> None:
        context.artifacts["raw"] = "a.bin"
        context.artifacts["raw"] = "b.bin"
        del context.artifacts["raw"]

    with Diagram("d") as diagram:
        twice()
    seen: list[tuple[str, Any, Any]] = []

    def look(event: Event) -> None:
        assert isinstance(event.cell, ContextCell)
        seen.append((event.cell.key, event.before and event.before.value, event.cell.value))

    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", durability=durability) as engine:
            engine.bus.subscribe(look, [EventType.CONTEXT_CHANGED])
            await (await engine.start(diagram)).result()

    asyncio.run(main())
    # Commits that come while the loop is busy are joined: the last one counts.
    assert seen and seen[-1][0] == "artifacts.raw" and seen[-1][2] is None
    for (_, _, after), (_, before, _) in pairwise(seen):
        assert before == after


def test_an_engine_keeps_a_history_of_files_encrypted_like_its_store(tmp_path: Path) -> None:
    key = "ab" * 32

    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", state_history=tmp_path / "states",
                               state_encryption_key=key) as engine:
            handle = await engine.start(drawn(share), n=271828, execution_id="x")
            assert await handle.result() == 271828
        async with Engine.open(f"{tmp_path}/runs.db", state_encryption_key=key) as engine:
            assert (await engine.state("x")).status.value == "completed"

    asyncio.run(main())
    (folder,) = (tmp_path / "states").iterdir()
    assert {"state_init.json", "state_final.json", "state_node_share_final.json"} <= {
        path.name for path in folder.iterdir()}
    for path in [*folder.rglob("*"), *tmp_path.glob("runs.db*")]:
        if path.is_file():
            assert b"271828" not in path.read_bytes(), path
    with pytest.raises(WrongKey):
        asyncio.run(_open(f"{tmp_path}/runs.db"))


async def _open(url: str) -> None:
    async with Engine.open(url):
        raise AssertionError("it is encrypted")


def test_a_fork_has_the_surroundings_of_its_origin_and_a_state_what_bodies_share(tmp_path: Path) -> None:
    @node(isolation="inline")
    def look(n: int, context: Any) -> dict[str, str]:
        context.variables["n"] = n
        return dict(context.environment_vars)

    with Diagram("d", environment_vars={"A": "1", "B": "1", "C": "1"}) as diagram:
        look(diagram.input("n", int))

    async def main() -> None:
        async with Engine.open(f"{tmp_path}/runs.db", environment_vars={"B": "2", "C": "2"}) as engine:
            handle = await engine.start(diagram, n=1, execution_id="x")
            assert await handle.result() == {"A": "1", "B": "2", "C": "2"}
            state = await engine.state("x")
            assert [(cell.key, cell.value) for cell in state.context.values()] == [("variables.n", b"1")]
        async with Engine.open(f"{tmp_path}/runs.db", environment_vars={"C": "3"}) as engine:
            fork = await engine.fork("x", n=2, diagram=diagram)
            assert await fork.result() == {"A": "1", "B": "2", "C": "3"}

    asyncio.run(main())
