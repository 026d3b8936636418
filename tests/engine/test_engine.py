"""Executions from start to end, on a real SQLite file and in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import loads
from treadle.engine.bus import EventType
from treadle.engine.engine import Durability, Engine
from treadle.engine.handle import Handle
from treadle.errors import ExecutionFailed, InvalidInput
from treadle.state.cell import ItemError
from treadle.state.status import ExecutionStatus

MODES: list[Durability] = ["memory", "batched", "strict"]


def draw(text: str, /, **functions: Callable[..., Any]) -> DiagramSpec:
    """A diagram from YAML; a node of type code_job runs the function that has its id."""
    spec = loads(text)
    nodes = tuple(
        msgspec.structs.replace(node, properties={**node.properties, "function": f"{__name__}:{node.id}"})
        if node.id in functions else node for node in spec.nodes)
    return msgspec.structs.replace(spec, nodes=nodes, source="", functions=functions)


def run(tmp_path: Path, mode: Durability, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(
            f"sqlite:///{tmp_path}/runs.db", durability=mode, check=True, **options
        ) as engine:
            return await main(engine)

    return asyncio.run(inside())


def results(tmp_path: Path, mode: Durability, diagram: DiagramSpec, **inputs: Any) -> Any:
    async def main(engine: Engine) -> Any:
        return await (await engine.start(diagram, **inputs)).result()

    return run(tmp_path, mode, main)


async def one() -> dict[str, int]:
    return {"n": 1}


async def add(x: dict[str, int]) -> dict[str, int]:
    return {"n": x["n"] + 1}


@pytest.mark.parametrize("mode", MODES)
def test_a_chain_hands_values_on(tmp_path: Path, mode: Durability) -> None:
    diagram = draw("""
        treadle: 1
        nodes:
          a: {type: code_job}
          b: {type: code_job, needs: a}
          c: {type: code_job, needs: b}
        """, a=one, b=add, c=add)
    assert results(tmp_path, mode, diagram) == {"n": 3}


@pytest.mark.parametrize("mode", MODES)
def test_inputs_are_checked_and_reach_start(tmp_path: Path, mode: Durability) -> None:
    diagram = draw("""
        treadle: 1
        inputs: {limit: {type: integer, default: 80}, who: {type: string}}
        nodes:
          s: {type: start}
          e: {type: endpoint, needs: s}
        """)

    async def main(engine: Engine) -> None:
        assert await (await engine.start(diagram, who="Ann")).result() == {"who": "Ann", "limit": 80}
        assert await (await engine.start(diagram, who="Ann", limit="3")).result() == {
            "who": "Ann",
            "limit": 3,
        }
        with pytest.raises(InvalidInput, match="needs the input 'who'"):
            await engine.start(diagram)
        with pytest.raises(InvalidInput, match="has no input 'whoo': did you mean 'who'"):
            await engine.start(diagram, whoo="Ann")
        with pytest.raises(
            InvalidInput, match="input 'limit' of diagram 'diagram': integer expected, not a list"
        ):
            await engine.start(diagram, who="Ann", limit=[1])

    run(tmp_path, mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_a_branch_that_is_not_taken_is_skipped(tmp_path: Path, mode: Durability) -> None:
    diagram = draw("""
        treadle: 1
        inputs: {n: {type: integer}}
        nodes:
          s: {type: start}
          big: {type: condition, when: "{{ s.n > 10 }}", needs: s}
          yes: {type: template_job, text: "big {{ inputs.n }}", needs: big.true}
          no: {type: template_job, text: "small {{ inputs.n }}", needs: big.false}
          e: {type: endpoint, needs: [yes, no]}
        """.replace("yes", "y").replace("no:", "n:").replace(" no]", " n]"))

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram, n=11)
        assert await handle.result() == "big 11"
        assert handle.counts["skipped"] == 1
        assert await (await engine.start(diagram, n=1)).result() == "small 1"

    run(tmp_path, mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_a_map_keeps_its_order_and_collects_errors(tmp_path: Path, mode: Durability) -> None:
    async def double(item: int) -> int:
        await asyncio.sleep(0)
        if item == 3:
            raise ValueError("three")
        return item * 2

    diagram = draw("""
        treadle: 1
        inputs: {items: {type: array}}
        nodes:
          double: {type: code_job, for_each: "{{ inputs.items }}", concurrency: 2, on_item_error: collect}
          e: {type: endpoint, needs: double}
        """, double=double)

    async def main(engine: Engine) -> None:
        value = await (await engine.start(diagram, items=[1, 2, 3, 4])).result()
        assert value[:2] == [2, 4] and value[3] == 8
        assert isinstance(value[2], ItemError) and (value[2].index, value[2].type) == (2, "ValueError")
        assert await (await engine.start(diagram, items=[])).result() == []
        assert await (await engine.start(diagram, items=list(range(10, 600)))).result() == list(
            range(20, 1200, 2)
        )

    run(tmp_path, mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_a_sub_diagram_has_inputs_of_its_own(tmp_path: Path, mode: Durability) -> None:
    diagram = draw("""
        treadle: 1
        inputs: {names: {type: array}}
        nodes:
          greet:
            type: sub_diagram
            for_each: "{{ inputs.names }}"
            diagram:
              treadle: 1
              inputs: {default: {}, mark: {default: "!"}}
              nodes:
                t: {type: template_job, text: "hello {{ inputs.default }}{{ inputs.mark }}"}
                e: {type: endpoint, needs: t}
          again:
            type: sub_diagram
            needs: greet
            inputs: {who: "{{ greet[1] }}", n: 2}
            diagram:
              treadle: 1
              inputs: {who: {}, n: {}}
              nodes: {s: {type: start}}
        """)
    value = results(tmp_path, mode, diagram, names=["Ann", "Bob"])
    assert value == {"who": "hello Bob!", "n": 2}


@pytest.mark.parametrize("mode", MODES)
def test_a_loop_runs_until_nothing_comes_back(tmp_path: Path, mode: Durability) -> None:
    async def step(n: int) -> int:
        return n + 1

    diagram = draw("""
        treadle: 1
        inputs: {n: {type: integer, default: 0}}
        nodes:
          s: {type: template_job, text: "{{ inputs.n }}"}
          number: {type: code_job, needs: s}
          step: {type: code_job, needs: [number, more.true]}
          more: {type: condition, when: "{{ iteration < 4 }}", needs: step}
          e: {type: endpoint, needs: more.false}
        """, number=_number, step=step)
    assert results(tmp_path, mode, diagram) == 4


async def _number(s: str) -> int:
    return int(s)


@pytest.mark.parametrize("mode", MODES)
def test_a_failure_ends_the_execution_and_names_its_node(tmp_path: Path, mode: Durability) -> None:
    async def bad() -> None:
        raise ValueError("boom")

    diagram = draw("""
        treadle: 1
        nodes:
          bad: {type: code_job}
          e: {type: endpoint, needs: bad}
        """, bad=bad)

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram)
        with pytest.raises(ExecutionFailed, match="failed at node 'bad': ValueError: boom") as caught:
            await handle.result()
        assert (caught.value.node_id, caught.value.kind, caught.value.status) == (
            "bad",
            "ValueError",
            "failed",
        )
        assert handle.status is ExecutionStatus.FAILED and handle.error is not None

    run(tmp_path, mode, main)


@pytest.mark.parametrize("mode", MODES)
def test_an_error_arrow_takes_a_failure(tmp_path: Path, mode: Durability) -> None:
    async def bad() -> None:
        raise KeyError("k")

    diagram = draw("""
        treadle: 1
        nodes:
          bad: {type: code_job}
          say: {type: template_job, text: "{{ what.type }} at {{ what.node }}"}
        arrows: ["bad.error -> say.what"]
        """, bad=bad)
    assert results(tmp_path, mode, diagram) == "KeyError at bad"


@pytest.mark.parametrize("mode", MODES)
def test_retries_wait_and_then_succeed(tmp_path: Path, mode: Durability) -> None:
    tries = []

    async def flaky(context: Any) -> int:
        tries.append((context.attempt, context.idempotency_key))
        if len(tries) < 3:
            raise OSError("not yet")
        return len(tries)

    diagram = draw("""
        treadle: 1
        nodes:
          flaky: {type: code_job, retries: 2, backoff: {initial: 0.001}}
        """, flaky=flaky)
    assert results(tmp_path, mode, diagram) == 3
    assert [attempt for attempt, _ in tries] == [1, 2, 3] and len({key for _, key in tries}) == 1


def test_a_timeout_stops_an_async_body(tmp_path: Path) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    diagram = draw("treadle: 1\nnodes: {slow: {type: code_job, timeout: 0.01}}", slow=slow)
    with pytest.raises(
        ExecutionFailed, match=r"NodeTimeout: node 'slow' ran longer than its timeout of 0\.01 s"
    ):
        results(tmp_path, "memory", diagram)


def test_a_body_that_ignores_its_timeout_is_closed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    closed = []

    async def stubborn() -> None:
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass
        finally:
            closed.append(True)

    diagram = draw("treadle: 1\nnodes: {stubborn: {type: code_job, timeout: 0.01}}", stubborn=stubborn)

    async def main(engine: Engine) -> None:
        with pytest.raises(ExecutionFailed, match="NodeTimeout"):
            await (await engine.start(diagram)).result()

    run(tmp_path, "memory", main, config=TreadleConfig(cancel_s_max=0.02))
    assert closed == [True]
    assert "node 'stubborn' ignored its cancellation for 0.02 s" in caplog.text


def test_a_body_that_cancels_itself_has_failed(tmp_path: Path) -> None:
    async def odd() -> None:
        raise asyncio.CancelledError

    diagram = draw("treadle: 1\nnodes: {odd: {type: code_job}}", odd=odd)
    with pytest.raises(ExecutionFailed, match="CancelledError"):
        results(tmp_path, "memory", diagram)


def test_sys_exit_in_a_body_fails_the_node_only(tmp_path: Path) -> None:
    async def leave() -> None:
        raise SystemExit(3)

    diagram = draw("treadle: 1\nnodes: {leave: {type: code_job}}", leave=leave)
    with pytest.raises(ExecutionFailed, match="SystemExit: 3"):
        results(tmp_path, "memory", diagram)


def test_a_result_that_cant_be_written_down_fails_its_node(tmp_path: Path) -> None:
    async def opaque() -> object:
        return {"rows": [1, object()]}

    diagram = draw("treadle: 1\nnodes: {opaque: {type: code_job, retries: 3}}", opaque=opaque)
    with pytest.raises(ExecutionFailed, match=r"at node 'opaque': NotEncodable: .*\['rows'\]\[1\]"):
        results(tmp_path, "batched", diagram)


def test_context_variables_stay_with_their_body(tmp_path: Path) -> None:
    import contextvars

    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="clean")

    async def dirty() -> str:
        variable.set("dirty")
        await asyncio.sleep(0)
        return variable.get()

    async def look() -> str:
        return variable.get()

    diagram = draw("""
        treadle: 1
        nodes:
          dirty: {type: code_job}
          look: {type: code_job, needs: dirty}
          e: {type: endpoint}
        arrows: [dirty -> e.dirty, look -> e.look]
        """, dirty=dirty, look=look)
    assert results(tmp_path, "memory", diagram) == {"dirty": "dirty", "look": "clean"}


def test_bodies_that_wait_run_at_once(tmp_path: Path) -> None:
    """A hundred bodies meet at a barrier: none could pass it if they ran one after another."""
    barrier = asyncio.Barrier(100)

    async def meet(item: int) -> int:
        await barrier.wait()
        return item

    diagram = draw("""
        treadle: 1
        nodes: {meet: {type: code_job, for_each: "{{ range(100) }}"}}
        """, meet=meet)
    assert results(tmp_path, "batched", diagram) == list(range(100))


def test_successors_do_not_share_objects(tmp_path: Path) -> None:
    async def spoil(x: list[int]) -> list[int]:
        x.append(0)
        return x

    async def make() -> list[int]:
        return [1]

    diagram = draw("""
        treadle: 1
        nodes:
          make: {type: code_job}
          one: {type: code_job, needs: make}
          two: {type: code_job, needs: make}
          e: {type: endpoint}
        arrows: [one -> e.one, two -> e.two]
        """, make=make, one=spoil, two=spoil)
    assert results(tmp_path, "batched", diagram) == {"one": [1, 0], "two": [1, 0]}


@pytest.mark.parametrize("mode", ["batched", "strict"])
def test_large_outputs_are_blobs(tmp_path: Path, mode: Durability) -> None:
    async def large() -> str:
        return "x" * 100_000

    async def length(x: str) -> dict[str, Any]:
        return {"n": len(x), "x": x}

    diagram = draw("""
        treadle: 1
        nodes:
          large: {type: code_job}
          length: {type: code_job, needs: large}
        """, large=large, length=length)

    async def main(engine: Engine) -> str:
        handle = await engine.start(diagram)
        assert (await handle.result())["n"] == 100_000
        assert handle.cell.blob is not None and handle.cell.output is None
        return handle.execution_id

    name = run(tmp_path, mode, main)

    async def later(engine: Engine) -> None:
        handle = await engine.resume(name, diagram=diagram)
        assert handle.status is ExecutionStatus.COMPLETED and (await handle.result())["n"] == 100_000

    run(tmp_path, mode, later)


def test_events_tell_the_story(tmp_path: Path) -> None:
    diagram = draw("""
        treadle: 1
        nodes:
          a: {type: code_job}
          b: {type: code_job, needs: a}
        """, a=one, b=add)

    async def main(engine: Engine) -> list[tuple[str, str]]:
        seen: list[EventType] = []
        engine.bus.subscribe(lambda event: seen.append(event.type))
        handle = await engine.start(diagram)
        told = [(event.type.value, getattr(event.cell, "node_id", "")) async for event in handle.events()]
        assert seen[0] is EventType.EXECUTION_STARTED and await handle.result() == {"n": 2}
        assert [event async for event in handle.events()] == []
        return told

    assert run(tmp_path, "batched", main) == [
        ("node_completed", "a"), ("node_started", "b"), ("node_completed", "b"), ("execution_completed", "")]


def test_cancel_stops_everything(tmp_path: Path) -> None:
    stopped = []

    async def wait(item: int) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            stopped.append(item)

    diagram = draw('treadle: 1\nnodes: {wait: {type: code_job, for_each: "{{ [1, 2] }}"}}', wait=wait)

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram)
        async for event in handle.events([EventType.NODE_STARTED]):
            if getattr(event.cell, "node_id", "") == "wait[1]":
                break
        await asyncio.sleep(0)
        await handle.cancel("enough")
        assert handle.status is ExecutionStatus.CANCELLED and sorted(stopped) == [1, 2]
        with pytest.raises(ExecutionFailed, match="was cancelled: Cancelled: enough"):
            await handle.result()
        assert engine.running == {}

    run(tmp_path, "batched", main)


def test_many_executions_run_side_by_side(tmp_path: Path) -> None:
    diagram = draw("""
        treadle: 1
        nodes:
          a: {type: code_job}
          b: {type: code_job, needs: a}
        """, a=one, b=add)

    async def main(engine: Engine) -> None:
        compiled = engine.compile(diagram)
        handles: list[Handle] = [await engine.start(compiled) for _ in range(50)]
        assert [await handle.result() for handle in handles] == [{"n": 2}] * 50

    run(tmp_path, "batched", main)


def test_a_deadline_ends_an_execution(tmp_path: Path) -> None:
    async def slow() -> None:
        await asyncio.sleep(60)

    diagram = draw("treadle: 1\ndeadline: 0.02\nnodes: {slow: {type: code_job}}", slow=slow)
    with pytest.raises(ExecutionFailed, match="DeadlineExceeded"):
        results(tmp_path, "batched", diagram)


def test_a_wide_join_gets_all_values_in_order(tmp_path: Path) -> None:
    async def number(item: int) -> int:
        return item

    names = [f"n{k}" for k in range(600)]
    text = "treadle: 1\nnodes:\n" + "".join(f"  {n}: {{type: code_job}}\n" for n in names)
    text += f"  e: {{type: endpoint, needs: [{', '.join(names)}]}}\n"
    values = {n: _constant(k) for k, n in enumerate(names)}
    assert results(tmp_path, "memory", draw(text, **values)) == list(range(600))


def _constant(k: int) -> Callable[[], Coroutine[Any, Any, int]]:
    async def body() -> int:
        return k

    return body
