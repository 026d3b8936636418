"""Edit and resume: what the edit reaches is performed anew, the rest is kept; the plan says so beforehand."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.diagram.formats import loads
from treadle.engine import recover
from treadle.engine.engine import Engine
from treadle.errors import DiagramChanged, InvalidInput
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

from .conftest import CHAIN, SUBS, run


async def cells_of(engine: Engine, execution_id: str) -> dict[str, NodeState]:
    """The newest cell of each node, by path and, after the first, iteration."""
    assert engine.manager is not None
    _, cells = await engine.manager.read(engine.manager.store.load, execution_id)
    found: dict[str, NodeState] = {}
    for cell in sorted(cells, key=lambda one: one.attempt):
        found[cell.node_id + (f"@{cell.iteration}" if cell.iteration != "1" else "")] = cell
    return found


async def performed(engine: Engine, execution_id: str, before: dict[str, NodeState]) -> set[str]:
    """The nodes that a resume performed: with a new attempt, or for the first time."""
    return {path for path, cell in (await cells_of(engine, execution_id)).items()
            if path not in before or cell.attempt > before[path].attempt}


def edited(text: str, *changes: tuple[str, str]) -> Any:
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return loads(text)


def test_only_what_the_edit_reaches_runs_again() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(CHAIN))
        assert await handle.result() == {"report": "Sum 11", "note": "1!"}
        before = await cells_of(engine, handle.execution_id)
        diagram = edited(CHAIN, ("{{ load }}{{ load }}", "{{ load }}{{ load }}0"))
        plan = await engine.plan(handle.execution_id, diagram=diagram)
        assert plan.kept == ("load", "note")
        assert [(one.path, one.results) for one in plan.changed] == [("double", 1), ("report", 1)]
        assert plan.changed[0].why == "its text: {{ load }}{{ load }} → {{ load }}{{ load }}0"
        assert plan.changed[1].why == "it follows double"
        again = await engine.resume(handle.execution_id, diagram=diagram)
        assert await again.result() == {"report": "Sum 110", "note": "1!"}
        assert await performed(engine, handle.execution_id, before) == {"double", "report"}
        assert not (await engine.plan(handle.execution_id, diagram=diagram)).changes
        assert not (await engine.plan(handle.execution_id)).changes, "the edited diagram is recorded now"
        again = await engine.resume(handle.execution_id)
        assert await again.result() == {"report": "Sum 110", "note": "1!"}

    run(main)


def test_a_resume_of_what_has_completed_compiles_the_recorded_diagram_only_to_see_what_is_new(
        monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []
    compile_stored = recover.compile_stored
    monkeypatch.setattr(recover, "compile_stored",
                        lambda text, types: compiled.append(text) or compile_stored(text, types))

    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(CHAIN))
        await handle.wait()
        again = await engine.resume(handle.execution_id, diagram=edited(CHAIN, ('text: "1"', 'text: "2"')))
        assert await again.result() == {"report": "Sum 22", "note": "2!"} and not compiled
        mail = '  mail: {type: template_job, text: "mail {{ report }}", needs: report}\n'
        await (await engine.resume(handle.execution_id, diagram=edited(
            CHAIN + mail, ('text: "1"', 'text: "2"')))).wait()
        assert len(compiled) == 1

    run(main)


def test_strict_refuses_and_leaves_everything_as_it_was() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(CHAIN))
        await handle.wait()
        before = await cells_of(engine, handle.execution_id)
        with pytest.raises(DiagramChanged, match=r"load \(its text: 1 → 2\).*report \(it follows load\)"):
            await engine.resume(handle.execution_id, diagram=edited(CHAIN, ('text: "1"', 'text: "2"')),
                                strict=True)
        assert await cells_of(engine, handle.execution_id) == before
        same = await engine.resume(handle.execution_id, diagram=loads(CHAIN), strict=True)
        assert await same.result() == {"report": "Sum 11", "note": "1!"}

    run(main)


def test_nodes_come_and_go() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(CHAIN))
        await handle.wait()
        before = await cells_of(engine, handle.execution_id)
        note = '  note:   {type: template_job, text: "{{ load }}!", needs: load}\n'
        diagram = loads(CHAIN.replace(note, "")
                        + '  mail: {type: template_job, text: "mail {{ report }}", needs: report}\n')
        plan = await engine.plan(handle.execution_id, diagram=diagram)
        assert (plan.new, plan.removed, plan.changed) == (("mail",), ("note",), ())
        assert await (await engine.resume(handle.execution_id, diagram=diagram)).result() == "mail Sum 11"
        assert await performed(engine, handle.execution_id, before) == {"mail"}

    run(main)


def test_a_failed_execution_goes_on_with_the_mended_node() -> None:
    text = CHAIN.replace("{{ load }}{{ load }}", "{{ load / 0 }}")

    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(text))
        assert await handle.wait() is ExecutionStatus.FAILED
        before = await cells_of(engine, handle.execution_id)
        plan = await engine.plan(handle.execution_id, diagram=loads(CHAIN))
        assert [one.path for one in plan.changed] == ["double"]
        again = await engine.resume(handle.execution_id, diagram=loads(CHAIN))
        assert await again.result() == {"report": "Sum 11", "note": "1!"}
        assert "load" not in await performed(engine, handle.execution_id, before)

    run(main)


def test_an_edit_in_a_loop_runs_it_from_its_first_iteration() -> None:
    loop = """
treadle: 1
nodes:
  seed: {type: template_job, text: "0"}
  step: {type: code_job, code: "return int(default) + 1", isolation: inline}
  more: {type: condition, when: "{{ step < 3 }}", needs: step}
  done: {type: endpoint}
arrows: [seed -> step, more.true -> step, more.false -> done]
"""

    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(loop))
        assert await handle.result() == 3
        before = await cells_of(engine, handle.execution_id)
        diagram = edited(loop, ("step < 3", "step < 2"))
        plan = await engine.plan(handle.execution_id, diagram=diagram)
        assert {one.path: one.results for one in plan.changed} == {"step": 3, "more": 3, "done": 1}
        assert {one.path: one.why for one in plan.changed}["step"] == "it follows more"
        assert await (await engine.resume(handle.execution_id, diagram=diagram)).result() == 2
        assert await performed(engine, handle.execution_id, before) == {
            "step", "step@2", "more", "more@2", "done"}

    run(main)


def test_an_edit_inside_a_mapped_sub_diagram_keeps_what_stands_before_it() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(SUBS))
        assert await handle.result() == ["<1>", "<2>"]
        before = await cells_of(engine, handle.execution_id)
        diagram = edited(SUBS, ("<{{ one }}>", "[{{ one }}]"))
        plan = await engine.plan(handle.execution_id, diagram=diagram)
        reasons = {one.path: one.why for one in plan.changed}
        assert reasons == {"each": "inside it: two", "each/two": "its text: <{{ one }}> → [{{ one }}]",
                           "done": "it follows each"}
        assert await (await engine.resume(handle.execution_id, diagram=diagram)).result() == ["[1]", "[2]"]
        assert await performed(engine, handle.execution_id, before) == {
            "each", "each[0]", "each[1]", "each[0]/two", "each[1]/two", "done"}

    run(main)


def test_what_waits_at_a_node_that_is_gone_waits_no_more() -> None:
    ask = """
treadle: 1
nodes:
  ask: {type: user_response, prompt: "Well?"}
  say: {type: template_job, text: "hello"}
"""

    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(ask))
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        diagram = edited(ask, ('  ask: {type: user_response, prompt: "Well?"}\n', ""))
        assert await (await engine.resume(handle.execution_id, diagram=diagram)).result() == "hello"
        assert (await cells_of(engine, handle.execution_id))["ask"].status is NodeStatus.CANCELLED

    run(main)


def test_a_new_input_needs_a_default() -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(loads(CHAIN), title="Total")
        await handle.wait()
        needy = edited(CHAIN, ("inputs: {", "inputs: {unit: {type: string}, "),
                       ("{{ double }}\"", "{{ double }}{{ inputs.unit }}\""))
        with pytest.raises(InvalidInput, match="edited diagram 'chain' needs the input 'unit'") as caught:
            await engine.resume(handle.execution_id, diagram=needy)
        assert "fork the execution" in caught.value.__notes__[0]
        fitting = edited(CHAIN, ("inputs: {", "inputs: {unit: {type: string, default: km}, "),
                         ("{{ double }}\"", "{{ double }}{{ inputs.unit }}\""))
        assert (await (await engine.resume(handle.execution_id, diagram=fitting)).result())["report"] == \
            "Total 11km"

    run(main)


# A law: a resume with an edited diagram ends as a fresh run of it does, and performs what the lineages say

Drawing = list[tuple[int, list[int]]]  # of each node its constant, and the earlier nodes that it needs


@st.composite
def drawings(draw: st.DrawFn) -> Drawing:
    size = draw(st.integers(1, 6))
    return [(draw(st.integers(0, 2)),
             draw(st.lists(st.integers(0, i - 1), unique=True, max_size=3)) if i else [])
            for i in range(size)]


def drawn(drawing: Drawing) -> Any:
    lines = ["treadle: 1", "nodes:"]
    for i, (constant, needs) in enumerate(drawing):
        inputs = ",".join(f"{{{{ n{k} }}}}" for k in needs)
        lines.append(f'  n{i}: {{type: template_job, text: "{i}.{constant}({inputs})", '
                     f"needs: [{', '.join(f'n{k}' for k in needs)}]}}")
    return loads("\n".join(lines))


@settings(max_examples=60, deadline=None)
@given(drawings(), drawings())
def test_a_resume_of_any_edit_ends_like_a_fresh_run(first: Drawing, second: Drawing) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(drawn(first))
        await handle.wait()
        before = await cells_of(engine, handle.execution_id)
        diagram = engine.compile(drawn(second))
        plan = await engine.plan(handle.execution_id, diagram=diagram)
        again = await engine.resume(handle.execution_id, diagram=diagram)
        fresh = await engine.start(diagram)
        assert await again.result() == await fresh.result()
        differ = {node.id for node in diagram.nodes
                  if node.id not in before or before[node.id].lineage != node.lineage}
        assert await performed(engine, handle.execution_id, before) == differ
        assert {one.path for one in plan.changed} | set(plan.new) == differ
        assert set(plan.kept) == {node.id for node in diagram.nodes} - differ

    run(main)


def test_the_code_of_a_function_counts(tmp_path: Path) -> None:
    code = "FACTOR = 2\ndef scale(n): return helper(n)\ndef helper(n): return n * FACTOR\n"
    (tmp_path / "edited_tasks.py").write_text(code)
    (tmp_path / "d.yaml").write_text(textwrap.dedent("""
        treadle: 1
        nodes:
          n: {type: code_job, code: "return 4", isolation: inline}
          scale: {type: code_job, call: "edited_tasks:scale", needs: n}
    """))

    async def main(engine: Engine) -> None:
        handle = await engine.start(tmp_path / "d.yaml")
        assert await handle.result() == 8
        (tmp_path / "edited_tasks.py").write_text(code.replace("FACTOR = 2", "FACTOR = 5"))
        plan = await engine.plan(handle.execution_id, diagram=tmp_path / "d.yaml")
        assert [(one.path, one.why) for one in plan.changed] == [("scale", "the code of edited_tasks:scale")]
        assert await (await engine.resume(handle.execution_id, diagram=tmp_path / "d.yaml")).result() == 20

    run(main)
