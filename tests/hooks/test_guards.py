"""A guard is asked before a write to the shared context; a slow one is named, and needn't hold it up."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from treadle import Diagram, Engine, MutationVetoed, node
from treadle.config import TreadleConfig
from treadle.errors import TransactionError, WriteConflict
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook
from treadle.state.context import Change, Mutation, PipelineState, SharedContext

DIAGRAM: Any = SimpleNamespace(name="d")
WRITES = Mutation("x", "sub/load[3]@2.1#2", {"variables.rows": Change(None, {"a": [1]})})


class Guard(StateHook):
    """Waits, and refuses what is negative."""

    version = "1.0"

    def __init__(self) -> None:
        self.go, self.asked, self.threads = threading.Event(), threading.Event(), set[str]()

    def pre_state_mutation(self, transaction: Mutation) -> str | None:
        self.asked.set()
        self.threads.add(threading.current_thread().name)
        assert self.go.wait(30)
        return "it is negative" if transaction.changes["variables.n"].new < 0 else None


def drawn(*bodies: Any) -> Diagram:
    with Diagram("d") as diagram:
        for body in bodies:
            body()
    return diagram


def test_an_async_transaction_asks_guards_in_a_thread_and_the_loop_goes_on() -> None:
    guard = Guard()

    @node(isolation="inline")
    async def writes(context: Any) -> int:
        async with context.transaction() as tx:
            tx.variables["n"] = 3
        refused = None
        try:
            async with context.transaction() as tx:
                tx.variables["n"] = -1
        except MutationVetoed as error:
            refused = str(error)
        assert refused is not None and "Guard@1.0: it is negative" in refused
        return int(context.variables["n"])

    @node(isolation="inline")
    async def lets_go() -> None:
        await asyncio.to_thread(guard.asked.wait, 30)
        guard.go.set()  # only a loop that goes on comes here while the guard waits

    async def script() -> Any:
        async with Engine.open(durability="memory", plugins=[guard]) as engine:
            return await (await engine.start(drawn(writes, lets_go))).result()

    assert asyncio.run(script())["writes"] == 3
    assert "MainThread" not in guard.threads


def test_a_body_that_is_cancelled_waits_for_its_commit() -> None:
    guard = Guard()

    @node(isolation="inline")
    async def writes(context: Any) -> None:
        async with context.transaction() as tx:
            tx.variables["n"] = 3

    async def script() -> None:
        async with Engine.open("memory:", plugins=[guard]) as engine:
            handle = await engine.start(drawn(writes))
            await asyncio.to_thread(guard.asked.wait, 30)
            cancel = asyncio.create_task(handle.cancel())
            await asyncio.wait([cancel], timeout=0.05)
            assert not cancel.done(), "the execution is given back when its body has ended"
            guard.go.set()
            await cancel
            assert handle.status.value == "cancelled"
            assert dict(await handle.context()) in ({}, {"variables.n": 3})

    asyncio.run(script())


def test_an_async_transaction_is_a_transaction() -> None:
    context = SharedContext("x")

    async def script() -> None:
        async with context.transaction(writer="a") as tx:
            tx.variables["n"] = 1
            with pytest.raises(TransactionError, match="within an open transaction"):
                context.variables["n"] = 2
        with pytest.raises(KeyError):
            async with context.transaction() as tx:
                tx.variables["n"] = 5
                raise KeyError("n")
        with pytest.raises(WriteConflict):
            async with context.transaction(writer="b") as tx:
                tx.variables["n"] += 1
                await asyncio.get_running_loop().run_in_executor(
                    None, lambda: context.update("variables.n", lambda n: n + 10))
        context.variables["n"] += 100

    asyncio.run(script())
    assert dict(context.variables) == {"n": 111}


def test_a_guard_that_holds_the_loop_is_said_once_with_what_to_do(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(StateHook):
        def pre_state_mutation(self, transaction: Mutation) -> None: ...

    manager = PluginManager([Slow], config=TreadleConfig(hook_ms_max=1e-9))

    async def script() -> None:
        await asyncio.to_thread(manager.veto, WRITES)
        assert caplog.records == [], "in a thread it holds nobody up"
        for _ in range(2):
            assert manager.veto(WRITES) is None

    asyncio.run(script())
    (said,) = [one.getMessage() for one in caplog.records]
    assert said.startswith("plugin Slow@0: pre_state_mutation held the event loop for 0 ms (hook_ms_max) at "
                           "node 'sub/load[3]': nothing else ran.")
    assert said.endswith("`async with context.transaction()`, which asks it in a thread")


def test_what_a_guard_does_to_values_no_other_sees() -> None:
    seen: list[Any] = []

    class First(StateHook):
        def pre_state_mutation(self, transaction: Mutation) -> None:
            transaction.changes["variables.rows"].new["a"].append(2)

    class Second(StateHook):
        def pre_state_mutation(self, transaction: Mutation) -> None:
            seen.append(transaction.changes["variables.rows"])

    assert PluginManager([First, Second]).veto(WRITES) is None
    assert seen == [(None, {"a": [1]})] and WRITES.changes["variables.rows"].new == {"a": [1]}


def test_an_answer_that_means_nothing_is_an_error_that_says_what_does(
        caplog: pytest.LogCaptureFixture) -> None:
    class Odd(StateHook):
        def pre_state_mutation(self, transaction: Mutation) -> Any:
            return False

        def pre_state_initialize(self) -> Any:  # type: ignore[override]
            return "too dear"

    async def script() -> None:
        manager = PluginManager([Odd])
        await manager.initialize(PipelineState("x", "1", 0.0, ""), DIAGRAM, {})
        assert manager.veto(WRITES) is None
        assert [one.errors for one in manager.times] == [1, 1]
        await manager.close()

    asyncio.run(script())
    assert "Odd@0: pre_state_mutation raised TypeError: it returned False: return None to let the" in (
        caplog.text)
    assert "Odd@0: pre_state_initialize raised TypeError: it returned 'too dear', which means nothing" in (
        caplog.text)


def test_what_a_plugin_does_to_inputs_neither_others_nor_bodies_see() -> None:
    seen: list[Any] = []

    class First(StateHook):
        def pre_state_initialize(self, inputs: Any) -> None:  # type: ignore[override]
            inputs["rows"][0]["n"] = 13
            inputs["rows"].append(4)

    class Second(StateHook):
        def pre_state_initialize(self, inputs: Any) -> None:  # type: ignore[override]
            seen.append(inputs["rows"])

    @node(isolation="inline")
    def look(rows: list[Any]) -> list[Any]:
        return rows

    with Diagram("d") as diagram:
        look(diagram.input("rows", list))
    given = [{"n": 1}]

    async def script() -> Any:
        async with Engine.open(durability="memory", plugins=[First, Second]) as engine:
            return await (await engine.start(diagram, rows=given)).result()

    assert asyncio.run(script()) == given == [{"n": 1}] and seen == [[{"n": 1}]]


@pytest.mark.parametrize("act", [
    lambda context: context.variables.__setitem__(5, 1), lambda context: context.variables[5],
    lambda context: context.snapshot().variables[5], lambda context: context.variables.pop(5)])
def test_a_name_that_is_no_text_is_said(act: Any) -> None:
    with pytest.raises(TypeError, match=r"a name in the context is a text, and 5 is none: write variables"):
        act(SharedContext("x"))


def test_a_key_that_is_no_text_is_said() -> None:
    with pytest.raises(TypeError, match=r"a key of the context is a text, 'variables\.n', and 5 is none"):
        SharedContext("x").update(5, lambda value: value)  # type: ignore[arg-type]
