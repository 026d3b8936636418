"""Suspension: answers, signals and times; in the process that waits, and in a later one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.formats import loads
from treadle.engine.engine import Durability, Engine
from treadle.engine.inbox import fault_of
from treadle.errors import ExecutionFailed, InvalidInput, NoSuchExecution, NoSuchNode
from treadle.state.status import ExecutionStatus
from treadle.store.base import Signal

MODES: list[Durability] = ["memory", "batched", "strict"]

APPROVAL = loads("""
treadle: 1
nodes:
  ask: {type: user_response, prompt: "May I?", schema: {type: object, required: [ok]}}
  say: {type: template_job, text: "ok={{ ask.ok }}", needs: ask}
""")
SIGNALS = loads("""
treadle: 1
nodes:
  first: {type: wait_for, signal: go}
  second: {type: wait_for, signal: go, needs: first}
  e: {type: endpoint}
arrows: [first -> e.one, second -> e.two]
""")


def run(tmp_path: Path, mode: Durability, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(
            f"sqlite:///{tmp_path}/runs.db", durability=mode, check=True, **options
        ) as engine:
            return await main(engine)

    return asyncio.run(inside())


@pytest.mark.parametrize("mode", MODES)
def test_an_execution_suspends_until_it_is_answered(tmp_path: Path, mode: Durability) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(APPROVAL)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        assert [(path, request["prompt"]) for path, _, request in handle.waiting()] == [("ask", "May I?")]
        with pytest.raises(
            ExecutionFailed, match=r"is suspended, it waits: node 'ask' \(iteration 1\) for answer May I"
        ):
            await handle.result()
        with pytest.raises(InvalidInput, match="the answer to 'ask' does not fit its schema"):
            await handle.answer("ask", {"no": 1})
        with pytest.raises(NoSuchNode, match="did you mean 'ask'"):
            await handle.answer("askk", 1)
        await handle.answer("ask", {"ok": True})
        assert await handle.result() == "ok=True"
        with pytest.raises(InvalidInput, match="does not wait for an answer: it is completed"):
            await handle.answer("ask", {"ok": False})

    run(tmp_path, mode, main)


def test_an_answer_given_to_a_later_process_finishes_it(tmp_path: Path) -> None:
    async def before(engine: Engine) -> str:
        handle = await engine.start(APPROVAL)
        await handle.wait()
        return handle.execution_id

    name = run(tmp_path, "batched", before)

    async def between(engine: Engine) -> None:
        await engine.send(name, "answer", node="ask", value={"ok": 1})
        with pytest.raises(NoSuchExecution):
            await engine.send("nobody", "cancel")

    run(tmp_path, "batched", between)

    async def after(engine: Engine) -> Any:
        return await (await engine.resume(name)).result()

    assert run(tmp_path, "batched", after) == "ok=1"


@pytest.mark.parametrize("mode", ["batched", "strict"])
def test_signals_queue_and_each_is_consumed_once_in_order(tmp_path: Path, mode: Durability) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(SIGNALS)
        await handle.signal("other", 0)
        await handle.signal("go", 1)
        await handle.signal("go", 2)
        await handle.signal("go", 3)
        assert await handle.result() == {"one": 1, "two": 2}
        assert engine.manager is not None
        left = await engine.manager.read(engine.store.signals, [handle.execution_id])
        assert [signal.payload for signal in left] == [b"0", b"3"]

    run(tmp_path, mode, main)


def test_an_early_answer_waits_for_its_node(tmp_path: Path) -> None:
    diagram = loads("""
        treadle: 1
        nodes:
          nap: {type: sleep, seconds: 0.01}
          ask: {type: user_response, prompt: "?", needs: nap}
        """)

    async def main(engine: Engine) -> Any:
        handle = await engine.start(diagram)
        await handle.answer("ask", "early")
        return await handle.result()

    assert run(tmp_path, "batched", main) == "early"


def test_an_early_answer_that_does_not_fit_is_used_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(APPROVAL)
        await handle.wait()
        await engine.send(handle.execution_id, "answer", node="ask", value=7)
        handle = await engine.resume(handle.execution_id)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        assert engine.manager is not None
        assert await engine.manager.read(engine.store.signals, [handle.execution_id]) == []

    run(tmp_path, "batched", main)
    assert "an answer to 'ask'" in caplog.text and "is refused" in caplog.text


@pytest.mark.parametrize("mode", MODES)
def test_a_near_wake_is_waited_for(tmp_path: Path, mode: Durability) -> None:
    diagram = loads("treadle: 1\nnodes: {nap: {type: sleep, seconds: 0.02}}")

    async def main(engine: Engine) -> ExecutionStatus:
        return await (await engine.start(diagram)).wait()

    assert run(tmp_path, mode, main) is ExecutionStatus.COMPLETED


def test_a_far_wake_suspends_and_is_waited_for_once_it_is_near(tmp_path: Path) -> None:
    diagram = loads("treadle: 1\nnodes: {nap: {type: sleep, seconds: 0.2}}")

    async def before(engine: Engine) -> str:
        handle = await engine.start(diagram)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        return handle.execution_id

    name = run(tmp_path, "batched", before, config=TreadleConfig(resume_wait_s=0.01))

    async def after(engine: Engine) -> ExecutionStatus:
        (handle,) = engine.recovered
        assert handle.execution_id == name
        return await handle.wait()

    assert run(tmp_path, "batched", after, recover=True) is ExecutionStatus.COMPLETED


def test_a_wait_that_times_out_fails(tmp_path: Path) -> None:
    diagram = loads("treadle: 1\nnodes: {w: {type: wait_for, signal: never, timeout: 0.02}}")

    async def main(engine: Engine) -> None:
        with pytest.raises(ExecutionFailed, match="NodeTimeout: nobody answered within"):
            await (await engine.start(diagram)).result()

    run(tmp_path, "batched", main)


def test_cancel_reaches_a_suspended_execution(tmp_path: Path) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(APPROVAL)
        await handle.wait()
        await handle.cancel("not any more")
        assert handle.status is ExecutionStatus.CANCELLED

    run(tmp_path, "batched", main)


@pytest.mark.parametrize(
    ("value", "schema", "fault"),
    [
        (1, None, None),
        (1, {"type": "integer"}, None),
        (True, {"type": "integer"}, "integer"),
        ("x", {"enum": ["y", "z"]}, "y"),
        ({"a": 1}, {"required": ["b"]}, "b"),
        ({"a": "x"}, {"properties": {"a": {"type": "number"}}}, "number"),
        ([1, "x"], {"items": {"type": "integer"}}, "integer"),
        (None, {"type": ["string", "null"]}, None),
    ],
)
def test_basic_schemas(value: Any, schema: Any, fault: str | None) -> None:
    found = fault_of(value, schema)
    assert found is None if fault is None else found is not None and fault in found


def test_the_timeout_of_a_wait_that_was_answered_keeps_nobody_awake(tmp_path: Path) -> None:
    spec = loads("""
treadle: 1
nodes:
  first: {type: user_response, prompt: "One?", timeout: 30}
  second: {type: user_response, prompt: "Two?", needs: first}
""")

    async def main() -> ExecutionStatus:
        async with Engine.open(str(tmp_path / "runs.db")) as engine:
            handle = await engine.start(spec)
            await engine.send(handle.execution_id, "answer", node="first", value="yes")
            async with asyncio.timeout(10):
                return await handle.wait()

    assert asyncio.run(main()) is ExecutionStatus.SUSPENDED


def test_resumes_and_answers_at_once_meet_in_one_run(tmp_path: Path) -> None:
    """A server gets two requests for a parked execution at the same moment."""
    async def main(engine: Engine) -> None:
        for _ in range(20):
            handle = await engine.start(APPROVAL)
            await handle.wait()
            first, second, *_ = await asyncio.gather(*(engine.resume(handle.execution_id) for _ in range(5)))
            assert first._runner is second._runner
            await first.wait()
            abandoned = asyncio.ensure_future(engine.resume(handle.execution_id))
            other = asyncio.ensure_future(engine.resume(handle.execution_id))
            await asyncio.sleep(0)
            abandoned.cancel()  # whoever comes second must not suffer from it
            await (await other).answer("ask", {"ok": True})
            assert await (await engine.resume(handle.execution_id)).result() == "ok=True"

    run(tmp_path, "batched", main)


def test_a_word_that_comes_while_the_execution_is_given_back_is_heard(tmp_path: Path) -> None:
    """Whoever sends it sees that this process has the execution, and leaves it to us."""
    text = "treadle: 1\nnodes:\n  go: {type: wait_for, signal: go}\n  done: {type: endpoint, needs: go}\n"

    async def main(engine: Engine) -> None:
        manager = engine.manager
        assert manager is not None
        release = manager.release

        async def sent_just_before(execution_id: str) -> None:
            manager.release = release  # type: ignore[method-assign]
            await manager.call(manager.store.send, Signal(execution_id, "signal", "go", payload=b"7"))
            await release(execution_id)

        manager.release = sent_just_before  # type: ignore[method-assign]
        ends = engine.bus.stream(["execution_completed"])
        handle = await engine.start(loads(text))
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        async with asyncio.timeout(20):
            assert (await anext(ends)).execution_id == handle.execution_id

    run(tmp_path, "batched", main)
