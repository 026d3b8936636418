"""Fork: a new execution from any point of an old one, which stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.engine.handle import Handle
from treadle.errors import InvalidInput, NoSuchNode
from treadle.state.status import ExecutionStatus

from .conftest import CHAIN, SUBS, run


async def performed(engine: Engine, handle: Handle) -> set[str]:
    """The nodes that a fork performed itself: what it took over began before it was created."""
    assert engine.manager is not None
    await engine.manager.flush()
    cell, cells = await engine.manager.read(engine.manager.store.load, handle.execution_id)
    assert cell.created_at is not None
    return {one.node_id for one in cells if one.started_at is not None and one.started_at >= cell.created_at}


async def done(engine: Engine, text: str, **inputs: Any) -> str:
    """Run a diagram to where it gets; returns the execution's id."""
    handle = await engine.start(loads(text), **inputs)
    await handle.wait()
    return handle.execution_id


def test_a_fork_begins_at_its_node() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, CHAIN)
        handle = await engine.fork(old, at="double", title="Total")
        assert await handle.result() == {"report": "Total 11", "note": "1!"}
        assert await performed(engine, handle) == {"double", "report"}
        assert handle.cell.parent == old and handle.execution_id != old
        assert await (await engine.resume(old)).result() == {"report": "Sum 11", "note": "1!"}

    run(main)


def test_another_input_reaches_those_who_see_it() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, CHAIN)
        handle = await engine.fork(old, title="Total")
        assert await handle.result() == {"report": "Total 11", "note": "1!"}
        assert await performed(engine, handle) == {"report"}
        with pytest.raises(InvalidInput, match="would be its copy"):
            await engine.fork(old)
        with pytest.raises(InvalidInput, match="no input 'titel': did you mean 'title'"):
            await engine.fork(old, titel="x")

    run(main)


CODE = """
def see(context): return context.execution_inputs["n"]
def blind(): return 7
def part(item, context): return item // 0 if item == context.execution_inputs["n"] else item
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "fork_tasks.py").write_text(CODE)
    return tmp_path


def test_code_that_takes_the_context_may_see_the_inputs(folder: Path) -> None:
    diagram = loads("""
treadle: 1
inputs: {n: {type: integer, default: 1}}
nodes:
  a: {type: code_job, call: "fork_tasks:see"}
  b: {type: code_job, call: "fork_tasks:blind"}
""", base=str(folder))

    async def main(engine: Engine) -> None:
        handle = await engine.start(diagram)
        assert await handle.result() == {"a": 1, "b": 7}
        fork = await engine.fork(handle.execution_id, n=2)
        assert await fork.result() == {"a": 2, "b": 7}
        assert await performed(engine, fork) == {"a"}

    run(main)


MAP = """
treadle: 1
inputs: {n: integer}
nodes:
  list: {type: code_job, code: "return [1, 2, 3]", isolation: inline}
  each: {type: code_job, call: "fork_tasks:part", for_each: "{{ list }}", needs: list}
  done: {type: endpoint, needs: each}
"""


@pytest.mark.parametrize("bad", [0, 2])
def test_an_item_alone_is_performed_again(folder: Path, bad: int) -> None:
    """Also where it failed, and took its map with it."""
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(MAP, base=str(folder)), n=bad)
        await handle.wait()
        fork = await engine.fork(handle.execution_id, at="each[1]", n=0)
        assert await fork.result() == [1, 2, 3]
        began = await performed(engine, fork)
        assert began >= {"each[1]", "done"} and not began & {"list", "each[0]"}
        assert bad or "each[2]" not in began

    run(main)


def test_a_fork_from_inside_a_sub_diagram() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, SUBS)
        handle = await engine.fork(old, at="each[1]/two")
        assert await handle.result() == ["<1>", "<2>"]
        began = await performed(engine, handle)
        assert "each[1]/two" in began and "done" in began
        assert not began & {"list", "each[0]", "each[0]/one", "each[0]/two", "each[1]/one"}

    run(main)


LOOP = """
treadle: 1
nodes:
  seed: {type: template_job, text: "0"}
  step: {type: code_job, code: "return int(default) + 1", isolation: inline}
  more: {type: condition, when: "{{ step < 3 }}", needs: step}
  done: {type: endpoint}
arrows: [seed -> step, more.true -> step, more.false -> done]
"""


def test_a_fork_from_within_a_loop_runs_the_loop() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, LOOP)
        handle = await engine.fork(old, at="more")
        assert await handle.result() == 3
        assert await performed(engine, handle) == {"step", "more", "done"}

    run(main)


def test_a_fork_of_a_waiting_execution_waits_for_its_own_answer() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, 'treadle: 1\nnodes: {ask: {type: user_response, prompt: "Well?"}}')
        handle = await engine.fork(old)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        await engine.send(handle.execution_id, "answer", node="ask", value="yes")
        assert await (await engine.resume(handle.execution_id)).result() == "yes"
        assert await (await engine.resume(old)).wait() is ExecutionStatus.SUSPENDED

    run(main)


def test_mistakes_are_named() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, CHAIN)
        with pytest.raises(NoSuchNode, match="no node 'doubel': did you mean 'double'"):
            await engine.fork(old, at="doubel")
        with pytest.raises(NoSuchNode, match="node 'load' is no map: it has no item 3"):
            await engine.fork(old, at="load[3]")
        with pytest.raises(NoSuchNode, match="no node 'load/x'"):
            await engine.fork(old, at="load/x")
        with pytest.raises(ValueError, match="choose another id"):
            await engine.fork(old, at="double", fork_id=old)
        assert await (await engine.resume(old)).result() == {"report": "Sum 11", "note": "1!"}

    run(main)


def test_an_edited_diagram_and_a_fork_leave_the_old_execution_alone() -> None:
    async def main(engine: Engine) -> None:
        old = await done(engine, CHAIN)
        handle = await engine.fork(old, diagram=loads(CHAIN.replace('{{ load }}!"', '{{ load }}?"')))
        assert await handle.result() == {"report": "Sum 11", "note": "1?"}
        assert await performed(engine, handle) == {"note"}
        assert await (await engine.resume(old)).result() == {"report": "Sum 11", "note": "1!"}

    run(main)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 5), unique=True, max_size=3), min_size=1, max_size=6), st.data())
def test_a_fork_performs_its_node_and_what_follows_and_nothing_else(needs: list[list[int]],
                                                                    data: st.DataObject) -> None:
    into = [[k for k in these if k < i] for i, these in enumerate(needs)]
    lines = ["treadle: 1", "nodes:"]
    for i, these in enumerate(into):
        inputs = ",".join(f"{{{{ n{k} }}}}" for k in these)
        names = ", ".join(f"n{k}" for k in these)
        lines.append(f'  n{i}: {{type: template_job, text: "{i}({inputs})", needs: [{names}]}}')
    at = data.draw(st.integers(0, len(into) - 1))
    behind = {at}
    for i, these in enumerate(into):
        if behind & set(these):
            behind.add(i)

    async def main(engine: Engine) -> None:
        handle = await engine.start(loads("\n".join(lines)))
        await handle.wait()
        fork = await engine.fork(handle.execution_id, at=f"n{at}")
        assert await fork.result() == await handle.result()
        assert await performed(engine, fork) == {f"n{i}" for i in behind}

    run(main)
