"""Steps: what a body has recorded is not done again, whatever happens to it afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.formats import loads
from treadle.engine.bus import EventType
from treadle.engine.engine import Durability, Engine
from treadle.engine.outside import question_of
from treadle.errors import ExecutionFailed, InvalidInput
from treadle.hooks.sdk import StateHook
from treadle.nodes.base import BodyContext, NodeKind, Suspend
from treadle.nodes.registry import NodeRegistry, default_registry
from treadle.state.envelope import Envelope
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import Noted, steps_of

MODES: list[Durability] = ["memory", "batched", "strict"]
Body = Callable[[BodyContext, dict[str, Any]], Awaitable[Any]]


class Work(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whatever a test wants done."""

    note: str = ""


class Worker:
    def __init__(self, body: Body) -> None:
        self.body = body

    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        found = await self.body(context, inputs)
        return found if isinstance(found, Suspend) else Envelope(node.id, node.id, "object", found)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "work"


def registry(body: Body) -> NodeRegistry:
    found = default_registry()
    found.register(NodeKind("work", Work, Worker(body)))
    return found


ONE = loads("""
treadle: 1
nodes:
  w: {type: work}
  e: {type: endpoint, needs: w}
""")


class Calls(list[str]):
    """Notes what was really done."""

    def make(self, name: str, value: Any = None) -> Callable[[], Awaitable[Any]]:
        async def work() -> Any:
            self.append(name)
            await asyncio.sleep(0)
            return value

        return work


def play(tmp_path: Path, body: Body, main: Callable[[Engine], Awaitable[Any]], mode: Durability = "batched",
         **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db", durability=mode, check=True,
                               registry=registry(body), **options) as engine:
            return await main(engine)

    return asyncio.run(inside())


def run(tmp_path: Path, body: Body, diagram: Any = ONE, mode: Durability = "batched", **options: Any) -> Any:
    async def main(engine: Engine) -> Any:
        return await (await engine.start(diagram, execution_id="x")).result()

    return play(tmp_path, body, main, mode, **options)


@pytest.mark.parametrize("mode", MODES)
def test_a_step_gives_what_it_made_and_stands_in_the_cell(tmp_path: Path, mode: Durability) -> None:
    calls = Calls()

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        steps = context.steps
        one = await steps.run("one", calls.make("one", Noted((1, b"two"), {"tokens": 7})), kind="model")
        await asyncio.gather(*(steps.run(f"t{k}", calls.make(f"t{k}", k), kind="tool") for k in range(3)))
        return [one, [record.name for record in steps.records], dict(steps.spent)]

    async def main(engine: Engine) -> Any:
        handle = await engine.start(ONE)
        result = await handle.result()
        if mode == "memory":
            return result, None
        return result, (await engine.state(handle.execution_id)).node_states["w"]  # type: ignore[index]

    result, cell = play(tmp_path, body, main, mode)
    assert result == [(1, b"two"), ["one", "t0", "t1", "t2"], {"tokens": 7.0, "cost": 0.0}]
    if cell is not None:
        records = steps_of(cell.meta).steps
        assert (records[0].name, records[0].kind, records[0].attempt) == ("one", "model", 1)
        assert records[0].result() == (1, b"two") and records[0].meta == {"tokens": 7}
        assert all(one.started_at <= one.ended_at for one in records)


@pytest.mark.parametrize("mode", MODES[1:])
def test_a_body_that_is_interrupted_goes_on_behind_its_steps(tmp_path: Path, mode: Durability) -> None:
    calls, reached = Calls(), asyncio.Event()

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        one = await context.steps.run("one", calls.make("one", 1))
        if len(calls) == 1:
            reached.set()
            await asyncio.Event().wait()
        return one + await context.steps.run("two", calls.make("two", 2))

    async def start(engine: Engine) -> None:
        await engine.start(ONE, execution_id="x")
        await reached.wait()

    async def go_on(engine: Engine) -> Any:
        handle = await engine.resume("x")
        calls.append("resumed")
        return await handle.result()

    play(tmp_path, body, start, mode)
    assert play(tmp_path, body, go_on, mode) == 3
    assert sorted(calls) == ["one", "resumed", "two"]


@pytest.mark.parametrize("anew", [False, True])
def test_the_next_attempt_keeps_the_steps_unless_the_error_says_anew(tmp_path: Path, anew: bool) -> None:
    calls = Calls()

    class Bad(Exception):
        pass

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        await context.steps.run("one", calls.make("one"))
        if context.attempt < 3:
            error = Bad("no")
            error.anew = anew  # type: ignore[attr-defined]
            raise error
        return [(one.name, one.attempt) for one in context.steps.records]

    diagram = loads("treadle: 1\nnodes:\n  w: {type: work, retries: 2, backoff: {initial: 0.001}}\n"
                    "  e: {type: endpoint, needs: w}\n")
    assert run(tmp_path, body, diagram) == [("one", 3 if anew else 1)]
    assert len(calls) == (3 if anew else 1)


def test_an_error_of_a_step_is_recorded_and_the_step_is_made_again(tmp_path: Path) -> None:
    tried = []

    async def flaky() -> str:
        tried.append(1)
        if len(tried) < 3:
            raise OSError("the line is dead")
        return "at last"

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        await context.steps.run("one", Calls().make("one", "kept"))
        return await context.steps.run("two", flaky, kind="tool", meta={"arguments": {"q": 1}})

    diagram = loads("treadle: 1\nnodes:\n  w: {type: work, retries: 2, backoff: {initial: 0.001}}\n"
                    "  e: {type: endpoint, needs: w}\n")

    async def main(engine: Engine) -> Any:
        handle = await engine.start(diagram)
        await handle.result()
        return (await engine.state(handle.execution_id)).history

    history = play(tmp_path, body, main)
    first, _, last = (steps_of(cell.meta).steps for key, cell in sorted(history.items()) if key[1] == "w")
    assert [(one.name, str(one.error or "")) for one in first] == [
        ("one", ""), ("two", "OSError: the line is dead")]
    assert first[1].meta == {"arguments": {"q": 1}}
    assert [(one.name, one.attempt, one.error) for one in last] == [("one", 1, None), ("two", 3, None)]


@pytest.mark.parametrize("mode", MODES)
def test_a_body_asks_in_its_midst_and_goes_on_with_the_answer(tmp_path: Path, mode: Durability) -> None:
    calls = Calls()

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        said: list[int] = []
        for k in range(5):  # more often than an attempt may be claimed
            await context.steps.run(f"do {k}", calls.make(f"do {k}"))
            answer = context.steps.recorded(f"ask {k}")
            if answer is None:
                return Suspend({"kind": "answer", "prompt": f"{k}?", "step": f"ask {k}",
                                "schema": {"type": "integer"}})
            said.append(answer.result())
        return said

    async def main(engine: Engine) -> Any:
        handle = await engine.start(ONE, execution_id="x")
        for k in range(5):
            assert await handle.wait() is ExecutionStatus.SUSPENDED
            assert [request["prompt"] for _, _, request in handle.waiting()] == [f"{k}?"]
            if mode != "memory":
                handle = await engine.resume("x")
            await handle.answer("w", k * 10)
            if mode != "memory":
                handle = await engine.resume("x")
        return await handle.result()

    assert play(tmp_path, body, main, mode) == [0, 10, 20, 30, 40]
    assert calls == [f"do {k}" for k in range(5)]


def test_what_completed_bodies_recorded_is_told_and_an_edit_forgets_it(tmp_path: Path) -> None:
    calls = Calls()

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        await context.steps.run("one", calls.make(context.node_id, context.node_id))
        return [[told.node_id, told.records[0].result()] for told in context.told()]

    text = ("treadle: 1\nnodes:\n  a: {type: work}\n  b: {type: work, needs: a}\n"
            "  c: {type: work, needs: b}\n  e: {type: endpoint, needs: c}\n")

    async def first(engine: Engine) -> Any:
        return await (await engine.start(loads(text), execution_id="x")).result()

    async def again(engine: Engine) -> Any:
        edited = loads(text.replace("b: {type: work,", "b: {type: work, note: new,"))
        return await (await engine.resume("x", diagram=edited)).result()

    async def fork(engine: Engine) -> Any:
        return await (await engine.fork("x", at="c")).result()

    assert play(tmp_path, body, first) == [["a", "a"], ["b", "b"]]
    assert play(tmp_path, body, again) == [["a", "a"], ["b", "b"]]
    assert play(tmp_path, body, fork) == [["a", "a"], ["b", "b"]]
    assert calls == ["a", "b", "c", "b", "c", "c"]


def test_each_turn_of_a_loop_is_told(tmp_path: Path) -> None:
    diagram = loads("""
treadle: 1
nodes:
  w: {type: work}
  more: {type: condition, when: "{{ w | length < 3 }}", needs: w}
  e: {type: endpoint}
arrows: [more.true -> w, more.false -> e]
loops: [{entry: w}]
""")

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        await context.steps.run("one", Calls().make("one"))
        return [[told.node_id, told.iteration] for told in context.told()]

    assert run(tmp_path, body, diagram) == [["w", "1"], ["w", "2"], ["w", "3"]]


def test_a_partial_text_is_shown_and_joined_and_the_next_step_clears_it(tmp_path: Path) -> None:
    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        for k in range(200):
            context.steps.show("x" * k)
            await asyncio.sleep(0)
        await asyncio.sleep(0.05)
        await context.steps.run("one", Calls().make("one"))
        return None

    async def main(engine: Engine) -> Any:
        handle = await engine.start(ONE)
        events = handle.events([EventType.NODE_PROGRESSED])
        shown = [steps_of(event.cell.meta).partial async for event in events]  # type: ignore[union-attr]
        await handle.result()
        return shown

    shown = play(tmp_path, body, main, config=TreadleConfig(progress_interval_s=0.01))
    assert shown[-2:] == ["x" * 199, ""] and len(shown) < 50


def test_two_steps_of_one_name_and_a_step_after_the_end_are_refused(tmp_path: Path) -> None:
    late: list[Any] = []

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        late.append(context.steps)
        await context.steps.run("one", Calls().make("one"))
        await context.steps.run("one", Calls().make("one"))

    with pytest.raises(ExecutionFailed, match="the step 'one' was asked for already"):
        run(tmp_path, body)
    with pytest.raises(Exception, match="comes after its body has ended"):
        asyncio.run(late[0].run("two", Calls().make("two")))


def test_a_failing_body_fails_where_another_node_was_cancelled_before(tmp_path: Path) -> None:
    """A body with steps is told apart from one whose command is out of date."""
    diagram = loads("""
treadle: 1
on_error: continue
nodes:
  quick: {type: sub_diagram, timeout: 0.05, diagram: {treadle: 1, nodes: {s: {type: sleep, seconds: 60}}}}
  w: {type: work}
""")

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        await context.steps.run("one", Calls().make("one"))
        await asyncio.sleep(0.2)
        raise ValueError("as planned")

    async def main(engine: Engine) -> Any:
        handle = await engine.start(diagram)
        with pytest.raises(ExecutionFailed):
            await handle.result()
        return (await engine.state(handle.execution_id)).node_states

    found = play(tmp_path, body, main)
    assert found["w"].status is NodeStatus.FAILED and "as planned" in str(found["w"].error)


def test_secrets_are_kept_out_of_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN_OF_STEPS", "tr0ub4dor-and-3")

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        word = await asyncio.to_thread(context.secret, "env:TOKEN_OF_STEPS")
        context.steps.show(f"so far {word}")
        await asyncio.sleep(0.02)
        await context.steps.run("one", Calls().make("one", f"it is {word}"), meta={"arguments": {"k": word}})
        return "done"

    run(tmp_path, body)
    assert b"tr0ub4dor" not in b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.is_file())


CHILD = """
treadle: 1
name: doubled
inputs: {n: {type: integer}}
nodes:
  s: {type: start}
  first: {type: code_job, code: "return s['n'] * 2", needs: s}
  again: {type: code_job, code: "import time; time.sleep(0.3); return first", needs: first}
  e: {type: endpoint, needs: again}
"""


def test_a_body_runs_another_diagram_and_goes_on_with_it(tmp_path: Path) -> None:
    file = tmp_path / "child.yaml"
    file.write_text(CHILD)
    diagram = loads("treadle: 1\nnodes:\n  w: {type: work}\n  e: {type: endpoint, needs: w}\n",
                    base=str(tmp_path))

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        return await context.execute("child.yaml", {"n": 21}, "double 1")

    async def start(engine: Engine) -> str:
        await engine.start(diagram, execution_id="x")
        stream = engine.bus.stream([EventType.NODE_COMPLETED, EventType.NODE_FAILED])
        async for event in stream:
            if event.cell.node_id == "first":  # type: ignore[union-attr]
                return event.execution_id
        raise AssertionError("the child has not begun")

    async def go_on(engine: Engine) -> Any:
        handle = await engine.resume("x")
        return await handle.result(), [one.cell.execution_id for one in await engine.executions()]

    child = play(tmp_path, body, start)
    assert child.startswith("x.w.1.double-1.")
    result, known = play(tmp_path, body, go_on)
    assert result == 42 and sorted(known) == ["x", child]

    async def cells(engine: Engine) -> Any:
        return sorted((key[1], cell.attempt, cell.claims) for key, cell in (
            await engine.state(child)).history.items())

    assert play(tmp_path, body, cells) == [("again", 1, 1), ("e", 1, 1), ("first", 1, 1), ("s", 1, 1)]
    assert run(tmp_path, body, diagram, mode="memory") == 42


def test_a_diagram_of_a_body_is_cancelled_with_it(tmp_path: Path) -> None:
    (tmp_path / "child.yaml").write_text("treadle: 1\nnodes:\n  s: {type: sleep, seconds: 30}\n")
    diagram = loads("treadle: 1\nnodes:\n  w: {type: work, timeout: 0.2}\n", base=str(tmp_path))

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        return await context.execute("child.yaml", {}, "nap")

    async def main(engine: Engine) -> Any:
        handle = await engine.start(diagram, execution_id="x")
        with pytest.raises(ExecutionFailed, match=r"timeout of 0\.2 s"):
            await handle.result()
        while len(left := [one.cell for one in await engine.executions()
                           if not one.cell.status.terminal]):
            running = engine.handle(left[0].execution_id)
            if running is not None:
                await running.wait()
        return {one.cell.status for one in await engine.executions()}

    assert play(tmp_path, body, main) == {ExecutionStatus.FAILED, ExecutionStatus.CANCELLED}


def test_a_history_has_the_steps_and_plugins_hear_of_transitions_only(tmp_path: Path) -> None:
    heard: list[str] = []

    class Ears(StateHook):
        name, version = "ears", "1.0"

        def post_node_execute(self, node_id: str, previous_state: Any, current_state: Any) -> None:
            if node_id == "w":
                heard.append(current_state.status.value)

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        for k in range(3):
            await context.steps.run(f"step {k}", Calls().make("x", "a secret thought" * k))
            context.steps.show("half a thou")
            await asyncio.sleep(0.02)
        return "done"

    run(tmp_path, body, plugins=[Ears()], state_history=tmp_path / "history",
        config=TreadleConfig(progress_interval_s=0.001))
    assert heard == ["running", "completed"]
    [file] = (tmp_path / "history").rglob("*w_attempt1.json")
    assert "step 2" in file.read_text() and "half a thou" not in file.read_text()


@pytest.mark.parametrize("key", [None, "5a" * 32], ids=["plain", "encrypted"])
def test_a_large_result_of_a_step_lies_beside_the_cell(tmp_path: Path, key: str | None) -> None:
    calls, large = Calls(), {"text": "x" * 100_000, "when": (1, 2)}

    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        found = await context.steps.run("large", calls.make("large", large))
        if context.attempt == 1:
            raise OSError("once more")
        return [found == large, context.steps.records[0].result() == large]

    async def main(engine: Engine) -> Any:
        handle = await engine.start(loads(
            "treadle: 1\nnodes:\n  w: {type: work, retries: 1, backoff: {initial: 0.001}}\n"
            "  e: {type: endpoint, needs: w}\n"))
        result = await handle.result()
        cell = (await engine.state(handle.execution_id)).node_states["w"]  # type: ignore[index]
        return result, len(cell.meta or b"")

    result, size = play(tmp_path, body, main, state_encryption_key=key)
    assert result == [True, True] and size < 1000 and calls == ["large"]


def test_an_answer_names_the_step_that_it_is_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two people answer the same question at once: the second answer never counts for the next question."""
    async def body(context: BodyContext, inputs: dict[str, Any]) -> Any:
        for name in ("first", "second"):
            if context.steps.recorded(name) is None:
                return Suspend({"kind": "answer", "prompt": name, "step": name})
        return [one.result() for one in context.steps.records]

    async def main(engine: Engine) -> Any:
        handle = await engine.start(ONE, execution_id="x")
        await handle.wait()
        seen = question_of(engine.store, engine.store.summary("x"), "w", None)
        assert seen.step == "first"
        handle = await engine.resume("x")
        await handle.answer("w", "from one")
        await handle.wait()
        with pytest.raises(InvalidInput, match="does not ask 'first' now, but 'second'"):
            question_of(engine.store, engine.store.summary("x"), "w", None, seen.step)
        handle = await engine.resume("x")
        await engine.send("x", "answer", name=seen.step, node="w", value="from two")  # it was on its way
        assert [request["prompt"] for _, _, request in handle.waiting()] == ["second"]
        await handle.answer("w", "seen")
        return await (await engine.resume("x")).result()

    assert play(tmp_path, body, main) == ["from one", "seen"]
    assert "it is for 'first', which is not asked now" in caplog.text
