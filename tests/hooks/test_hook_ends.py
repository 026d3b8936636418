"""What ends a hook ends neither what calls it nor what is known of it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.bus import Event, EventType
from treadle.engine.engine import Engine
from treadle.engine.lifecycle import slow_hooks_in
from treadle.errors import PluginError
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook
from treadle.hooks.specs import SlowHook
from treadle.state.cell import NodeState
from treadle.state.context import PipelineState

DIAGRAM: Any = SimpleNamespace(name="d")


class Quits(BaseException):
    """No Exception, as what stops a test is none."""


class Unspeakable(ValueError):
    def __str__(self) -> str:
        raise LookupError("it has no words")


def test_a_hook_can_end_neither_the_thread_nor_the_task_that_calls_it(
        caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    class Plain(StateHook):
        def pre_state_initialize(self) -> None:  # type: ignore[override]
            raise Unspeakable

        def post_node_execute(self, node_id: str) -> None:  # type: ignore[override]
            seen.append(node_id)
            raise {"a": KeyboardInterrupt, "b": Quits}.get(node_id, RuntimeError)()

    class Async(StateHook):
        async def post_node_execute(self, node_id: str) -> None:  # type: ignore[override]
            seen.append(f"async {node_id}")
            if node_id == "a":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            raise Quits

    async def script() -> None:
        manager = PluginManager([Plain, Async])
        for name in "abc":
            listener = manager.listener
            assert listener is not None
            await listener.consume(Event(EventType.NODE_STARTED, "x", NodeState("x", name), None, 0.0))
            assert await manager.drain(5), "whoever waits hears of it"
        with pytest.raises(PluginError, match="ended what called it by LookupError"):
            await manager.initialize(PipelineState("x", "1", 0.0, ""), DIAGRAM, {})
        await asyncio.wait_for(manager.close(), 5)

    asyncio.run(script())
    assert sorted(seen) == ["a", "async a", "async b", "async c", "b", "c"]
    ended = [one for one in caplog.messages if one.startswith("a hook ended what called it by")]
    assert len(ended) == 2, "the async one of a, and the words of Unspeakable"
    assert all(f"post_node_execute raised {name}" in caplog.text for name in ("KeyboardInterrupt", "Quits"))


def test_of_an_interrupted_execution_slow_hooks_are_recorded_too(tmp_path: Path) -> None:
    reached = threading.Event()

    class Slow(StateHook):
        def post_node_execute(self, node_id: str) -> None:  # type: ignore[override]
            time.sleep(0.03)
            reached.set()

    async def script() -> list[SlowHook]:
        config = TreadleConfig(hook_ms_max=10)
        async with Engine.open(f"{tmp_path}/runs.db", plugins=[Slow], config=config) as engine:
            code = "'import asyncio; await asyncio.sleep(30)'"
            await engine.start(loads(f"treadle: 1\nnodes:\n  a: {{type: code_job, code: {code}}}\n"),
                               execution_id="x")
            await asyncio.to_thread(reached.wait, 10)
        async with Engine.open(f"{tmp_path}/runs.db") as engine:
            return slow_hooks_in(engine.store.context("x"))

    [slow] = asyncio.run(script())
    assert (slow.plugin, slow.hook, slow.node) == ("Slow@0", "post_node_execute", "a") and slow.ms >= 30
