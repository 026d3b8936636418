"""Hooks look on: in order, beside the event loop, timed; one that raises hurts nobody."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.bus import Event, EventType
from treadle.engine.engine import Engine
from treadle.errors import PluginError
from treadle.hooks.calls import Slow
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook, Veto
from treadle.hooks.specs import FinalReport, HookSpecs, SlowHook
from treadle.state.cell import ExecutionCell, ExecutionState, NodeState
from treadle.state.context import Change, Mutation, PipelineState
from treadle.state.status import NodeStatus

PIPELINE = PipelineState("x", "1", 0.0, "")
DIAGRAM: Any = SimpleNamespace(name="d")


def event(node: str, status: NodeStatus = NodeStatus.RUNNING, before: NodeStatus | None = None,
          execution: str = "x") -> Event:
    cell = NodeState(execution, node, status=status)
    earlier = None if before is None else NodeState(execution, node, status=before)
    return Event(EventType.NODE_STARTED, execution, cell, earlier, 0.0)


async def tell(manager: PluginManager, *events: Event) -> None:
    listener = manager.listener
    assert listener is not None
    for one in events:
        await listener.consume(one)


class Seen(StateHook):
    """Keeps what it is told."""

    version = "1.0"

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.threads: set[str] = set()

    def post_node_execute(self, node_id: str, previous_state: NodeState, current_state: NodeState) -> None:
        self.threads.add(threading.current_thread().name)
        self.seen.append(f"{node_id} {previous_state.status} → {current_state.status}")

    def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> None:
        self.seen.append(f"end {state.status}")


def test_an_execution_of_the_engine_is_seen_from_its_first_transition_to_its_end() -> None:
    class Logs(StateHook):
        def post_node_execute(self, node_id, previous_state, current_state):  # type: ignore[no-untyped-def]
            if previous_state.status != current_state.status:
                said.append(
                    f"Node {node_id} transitioned: "
                    f"{previous_state.status} → {current_state.status}"
                )

    said: list[str] = []

    async def script() -> None:
        async with Engine.open(durability="memory", plugins=[Logs()]) as engine:
            await (await engine.start(loads("treadle: 1\nnodes: {a: {type: start}}"))).result()

    asyncio.run(script())
    assert said == ["Node a transitioned: pending → running", "Node a transitioned: running → completed"]


def test_plain_hooks_run_in_order_on_one_thread_and_async_ones_on_the_loop() -> None:
    class Waits(Seen):
        async def post_node_execute(self, node_id: str, previous_state: NodeState,
                                    current_state: NodeState) -> None:
            await asyncio.sleep(0)
            Seen.post_node_execute(self, node_id, previous_state, current_state)

        async def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> None:
            self.seen.append(f"end {state.status}")

    plain, waits = Seen(), Waits()

    async def script() -> None:
        manager = PluginManager([plain, waits])
        await tell(manager, *(event(f"n{k}") for k in range(1000)))
        await manager.finalize(ExecutionState("x", "completed"))
        await manager.close()

    asyncio.run(script())
    assert plain.seen == waits.seen == [*(f"n{k} pending → running" for k in range(1000)), "end completed"]
    assert plain.threads == {"treadle hooks"} and waits.threads == {"MainThread"}
    assert "treadle hooks" not in [one.name for one in threading.enumerate()]


def test_a_hook_that_blocks_does_not_block_the_loop_and_what_waits_is_bounded() -> None:
    go = threading.Event()

    class Blocks(Seen):
        def post_node_execute(self, node_id: str, previous_state: NodeState,
                              current_state: NodeState) -> None:
            go.wait(30)
            super().post_node_execute(node_id, previous_state, current_state)

    plugin = Blocks()

    async def script() -> None:
        manager = PluginManager([plugin], config=TreadleConfig(hook_backlog_max=4))
        await tell(manager, event("a"), event("b"))
        third = asyncio.create_task(tell(manager, event("c"), event("d")))
        assert not await manager.drain(0.02)
        assert not third.done(), "the fourth must wait for room"
        go.set()
        await third
        assert await manager.drain()
        await manager.close()

    asyncio.run(script())
    assert [one[0] for one in plugin.seen] == ["a", "b", "c", "d"]


def test_a_hook_that_raises_is_logged_counted_and_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(StateHook):
        version = "2.0"

        def post_node_execute(self, node_id: str) -> None:  # type: ignore[override]
            raise SystemExit(3) if node_id == "n1" else KeyError(node_id)

        async def post_state_finalize(self, state: ExecutionState) -> None:  # type: ignore[override]
            raise asyncio.CancelledError

    other = Seen()

    async def script() -> FinalReport:
        manager = PluginManager([Broken, other], config=TreadleConfig(hook_errors_max=3))
        await tell(manager, *(event(f"n{k}") for k in range(10)))
        report = await manager.finalize(ExecutionState("x", "failed"), warnings=["one"])
        await manager.close()
        assert [one.errors for one in manager.times if one.plugin == "Broken@2.0"] == [3, 1]
        return report

    report = asyncio.run(script())
    assert len(other.seen) == 11
    assert report.warnings == ("one", "Broken@2.0 post_node_execute raised 3 times and is switched off")
    messages = [one.getMessage() for one in caplog.records]
    assert messages[0] == "plugin Broken@2.0: post_node_execute raised KeyError: 'n0'"
    assert messages[2].endswith("'n2'; it is switched off after 3 errors (hook_errors_max)")
    assert "plugin Broken@2.0: post_state_finalize raised CancelledError: " in messages


def test_a_plain_hook_that_returns_a_coroutine_is_an_error(caplog: pytest.LogCaptureFixture) -> None:
    async def later() -> None:
        raise AssertionError("it never runs")

    class Odd(StateHook):
        def post_node_execute(self) -> Any:  # type: ignore[override]
            return later()

    async def script() -> None:
        manager = PluginManager([Odd])
        await tell(manager, event("a"))
        await manager.close()

    asyncio.run(script())
    assert "Odd@0: post_node_execute raised TypeError: it returned a coroutine: write it as `async def`" in (
        caplog.text)


def test_a_slow_hook_is_timed_and_named_in_the_report_of_its_execution(
        caplog: pytest.LogCaptureFixture) -> None:
    class Looks(StateHook):
        name, version = "Seen", "1.0"

        def post_node_execute(self, node_id: str) -> None: ...  # type: ignore[override]

    async def script() -> None:
        manager = PluginManager([Looks], config=TreadleConfig(hook_ms_max=1e-9))
        await tell(manager, event("a"), event("b"))
        report = await manager.finalize(ExecutionState("x", "completed"), metrics="figures")
        other = await manager.finalize(ExecutionState("y", "completed"))
        await manager.close()
        assert report.metrics == "figures"
        assert len(report.slow_hooks) == 1 and other.slow_hooks == ()
        slow = report.slow_hooks[0]
        assert (slow.plugin, slow.hook, slow.calls) == ("Seen@1.0", "post_node_execute", 2) and slow.ms > 0
        assert slow.node in ("a", "b") and str(slow).startswith(
            f"Seen@1.0 post_node_execute at node {slow.node!r}: 0 ms (2 calls were slow)")
        times = {one.hook: one for one in report.hooks}["post_node_execute"]
        assert times.calls == 2 and times.active and 0 < times.longest_s <= times.total_s

    asyncio.run(script())
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 1
    assert said[0].startswith("slow hook in execution x (hook_ms_max): Seen@1.0 post_node_execute at node ")


def test_a_start_is_refused_with_the_plugin_and_its_reason() -> None:
    class Budget(StateHook):
        version = "1.4.0"

        def pre_state_initialize(self, pipeline: Any, diagram: Any, inputs: Mapping[str, Any]) -> None:
            if inputs["cost"] > 10:
                raise ValueError("it costs more than 10")
            if inputs["cost"] < 0:
                raise KeyError("a mistake of the plugin")
            with pytest.raises(TypeError):
                inputs["cost"] = 3  # type: ignore[index]

    async def script() -> None:
        manager = PluginManager([Budget])
        await manager.initialize(PIPELINE, DIAGRAM, {"cost": 1})
        await manager.initialize(PIPELINE, DIAGRAM, {"cost": -1})
        with pytest.raises(PluginError, match=r"plugin Budget@1\.4\.0 refuses the start: it costs more than"):
            await manager.initialize(PIPELINE, DIAGRAM, {"cost": 11})
        assert manager.times[0].errors == 1, "refusing is no error"
        await manager.close()

    asyncio.run(script())


def test_a_start_does_not_wait_behind_the_transitions_of_others() -> None:
    order: list[str] = []
    go, here = threading.Event(), threading.Event()

    class Both(StateHook):
        def pre_state_initialize(self) -> None:  # type: ignore[override]
            order.append("start")

        def post_node_execute(self, node_id: str) -> None:  # type: ignore[override]
            here.set()
            go.wait(30)
            order.append(node_id)

    async def script() -> None:
        manager = PluginManager([Both])
        await tell(manager, event("a"))
        await asyncio.to_thread(here.wait, 30)
        await tell(manager, event("b"))
        start = asyncio.create_task(manager.initialize(PIPELINE, DIAGRAM, {}))
        await asyncio.sleep(0)
        go.set()
        await start
        await manager.close()

    asyncio.run(script())
    assert order == ["a", "start", "b"]


WRITES = Mutation("x", "load", {"artifacts.rows": Change(None, 3), "plugins.Seen.count": Change(1, 2)})


@pytest.mark.parametrize(("answer", "reason"), [
    (None, None), ("too many rows", "Guard@1.0: too many rows"), (Veto("not now"), "Guard@1.0: not now"),
    (Veto(), "Guard@1.0: it gave no reason"), ("", "Guard@1.0: it gave no reason"),
    (RuntimeError("broken"), None), (False, None), (True, None)])
def test_a_transaction_is_seen_before_it_commits_and_may_be_vetoed(answer: Any, reason: str | None) -> None:
    seen: list[Any] = []

    class Guard(StateHook):
        version = "1.0"

        def pre_state_mutation(self, transaction: Any) -> str | None:
            seen.append((transaction.writer, transaction.keys, transaction.changes["artifacts.rows"].new))
            with pytest.raises(TypeError):
                transaction.changes["artifacts.rows"] = 1
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[no-any-return]

    manager = PluginManager([Guard])
    assert manager.vetoes and not PluginManager([Seen]).vetoes
    assert manager.veto(WRITES) == reason
    assert seen == [("load", ("artifacts.rows", "plugins.Seen.count"), 3)]
    assert manager.times[0].errors == isinstance(answer, RuntimeError | bool)


def test_closing_loses_nothing_and_closes_plugins_the_last_first(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[str] = []

    class First(Seen):
        def close(self) -> None:
            closed.append(f"first after {len(self.seen)}")

    class Second(StateHook):
        async def close(self) -> None:
            closed.append("second")

    class Third(StateHook):
        def close(self) -> None:
            raise OSError("disk full")

    first = First()

    async def script() -> None:
        manager = PluginManager([first, Second, Third])
        await tell(manager, *(event(f"n{k}") for k in range(600)))
        await manager.close()

    asyncio.run(script())
    assert closed == ["second", "first after 600"]
    assert "plugin Third@0: close raised OSError: disk full" in caplog.text


def test_closing_does_not_wait_for_ever(
        caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    closed: list[str] = []

    class Hangs(StateHook):
        def post_node_execute(self) -> None:  # type: ignore[override]
            go.wait(30)

        def close(self) -> None: ...

    class HangsToo(StateHook):
        async def post_node_execute(self) -> None:  # type: ignore[override]
            await asyncio.Event().wait()

        async def close(self) -> None:
            closed.append("async")

    monkeypatch.setattr("treadle.hooks.manager.CLOSE_S_MIN", 0.01)

    async def script() -> None:
        manager = PluginManager([Hangs, HangsToo])
        await tell(manager, event("a"), event("b"))
        await manager.close(0.02)
        assert [one for one in asyncio.all_tasks() if one is not asyncio.current_task()] == []

    asyncio.run(script())
    go.set()
    assert closed == ["async"], "what can be closed is closed"
    assert "calls to do still after 0.02 s (shutdown_s_max): they are given up" in caplog.text
    assert "plugins were not closed within 0.02 s" in caplog.text


def test_cells_of_executions_are_no_transitions_of_nodes() -> None:
    plugin = Seen()

    async def script() -> None:
        manager = PluginManager([plugin])
        await tell(manager, Event(EventType.EXECUTION_STARTED, "x", ExecutionCell("x"), None, 0.0))
        await manager.close()

    asyncio.run(script())
    assert plugin.seen == []


def test_without_plugins_there_is_nothing_to_do() -> None:
    async def script() -> None:
        manager = PluginManager()
        await manager.initialize(PIPELINE, DIAGRAM, {})
        report = await manager.finalize(ExecutionState("x", "completed"))
        assert not manager and manager.active == []
        assert manager.listener is None and manager.veto(WRITES) is None
        assert report.hooks == () and await manager.drain()
        await manager.close()

    before = set(threading.enumerate())  # perhaps one that hung in a hook, and is about to end
    asyncio.run(script())
    assert "treadle hooks" not in [one.name for one in set(threading.enumerate()) - before]


def test_a_plugin_logs_under_its_name(caplog: pytest.LogCaptureFixture) -> None:
    class Named(StateHook):
        name = "Other"

    with caplog.at_level(logging.INFO):
        Named().logger.info("hello")
    assert [(one.name, one.getMessage()) for one in caplog.records] == [("treadle.plugins.Other", "hello")]


def test_every_hook_has_words() -> None:
    assert [name for name in vars(HookSpecs) if not name.startswith("_")
            and not getattr(HookSpecs, name).__doc__] == []


def test_a_secret_is_looked_up_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = Seen()
    monkeypatch.setenv("HOOK_SECRET", "s3cret")
    assert plugin.secret("env:HOOK_SECRET") == "s3cret" and plugin.secret("plain") == "plain"
    assert plugin.secret("secret://HOOK_SECRET") == "s3cret", "where there is no store, in the environment"
    with pytest.raises(PluginError, match=r"Seen: .*'HOOK_SECRTE' is not set"):
        plugin.secret("env:HOOK_SECRTE")
    PluginManager([plugin], secrets={"secret://TOKEN": "abc"}.__getitem__)
    assert plugin.secret("secret://TOKEN") == "abc"
    with pytest.raises(PluginError, match=r"Seen: 'secret://OTHER'"):
        plugin.secret("secret://OTHER")


def test_plugins_look_into_the_engine_s_store_of_secrets_also_one_that_a_plugin_brings() -> None:
    class Brings(StateHook):
        def treadle_secret_stores(self) -> Any:
            return {"mine": lambda url: SimpleNamespace(get=lambda name: f"{name} of {url}")}

    plugin = Seen()

    async def script() -> None:
        async with Engine.open(durability="memory", plugins=[Brings, plugin],
                               secret_store="mine://here") as engine:
            assert plugin.secret("secret://TOKEN") == "TOKEN of mine://here"
            assert "mine" in engine.registry.secret_schemes, "check knows it"

    asyncio.run(script())


def test_an_engine_closes_though_a_hook_hangs(caplog: pytest.LogCaptureFixture) -> None:
    go = threading.Event()

    class Hangs(StateHook):
        def post_node_execute(self) -> None:  # type: ignore[override]
            go.wait(30)

    async def script() -> None:
        config = TreadleConfig(shutdown_s_max=0.05, hook_backlog_max=2)
        async with Engine.open(durability="memory", plugins=[Hangs], config=config) as engine:
            nodes = "".join(f"  n{k}: {{type: start}}\n" for k in range(20))
            await (await engine.start(loads(f"treadle: 1\nnodes:\n{nodes}"))).result()

    began = time.monotonic()
    asyncio.run(script())
    assert time.monotonic() - began < 10, "long before the hook ends"
    go.set()
    assert "event consumers had not read everything within shutdown_s_max" in caplog.text
    assert "hooks of plugins had" in caplog.text


def test_slow_hooks_of_executions_that_nobody_reports_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treadle.hooks.calls.UNREPORTED_MAX", 2)
    slow = Slow()
    for number in range(3):
        slow.add(f"x{number}", SlowHook("A@1", "post_node_execute", 200.0 + number))
    slow.add("x2", SlowHook("B@1", "post_node_execute", 300.0, "a"))
    slow.add("x2", SlowHook("B@1", "post_node_execute", 250.0, "b"))
    assert [[str(one) for one in slow.take(f"x{number}")] for number in range(3)] == [
        [], ["A@1 post_node_execute: 201 ms"],
        ["B@1 post_node_execute at node 'a': 300 ms (2 calls were slow)", "A@1 post_node_execute: 202 ms"]]
