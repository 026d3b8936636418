"""Open diagrams, names of turns, results of sub-diagrams, arrows that count once: in our own files."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle import Engine, run
from treadle.diagram.formats import dumps, loads
from treadle.errors import InvalidDiagram, InvalidInput
from treadle.testing.diagrams import run_diagram

OPEN = """
treadle: 1
open: true
nodes:
  s: {type: start, custom_data: {b: 2, n: start}, page: {position: {x: 1, y: 2}}}
  keys: {type: code_job, code: "return {'n': 'key', 'c': 3}", isolation: inline}
  t: {type: template_job, text: "{{ a }} {{ b }} {{ c }} {{ n }}"}
  j: {type: code_job, code: "return [a, b, t, sorted(inputs)]", isolation: inline}
arrows:
  - s -> keys
  - keys -> t
  - t -> j.t
"""


def drawn(text: str) -> Any:
    return loads(text)


def test_an_open_diagram_takes_any_input_and_knows_it_by_name() -> None:
    ran = run_diagram(drawn(OPEN), {"a": 1})
    assert (ran.outputs["t"], ran.result) == ("1 2 3 key", [1, 2, "1 2 3 key", ["t"]])
    missing = run_diagram(drawn(OPEN))
    assert missing.error is not None and "unknown name 'a'" in missing.error
    with pytest.raises(InvalidInput, match="has no input 'a'"):
        run_diagram(drawn("treadle: 1\nnodes: {s: {type: start}}"), {"a": 1})


def test_it_is_written_as_it_was_read() -> None:
    text = OPEN.replace("  - s -> keys", "  - {from: s, to: keys.x, first: false}\n  - s -> keys")
    spec = drawn(f"{text}page: {{zoom: 2}}\n")
    again = drawn(dumps(spec))
    assert (again.open, again.page) == (True, {"zoom": 2})
    assert again.nodes[0].page == {"position": {"x": 1, "y": 2}}
    assert [arrow.first for arrow in again.arrows] == [False, None, None, None]
    assert drawn(dumps(spec, "json")).page == spec.page


def test_a_fork_and_a_resume_keep_inputs_that_nobody_declared(tmp_path: Path) -> None:
    async def script() -> None:
        async with Engine(f"sqlite:///{tmp_path}/runs.db") as engine:
            handle = await engine.start(drawn(OPEN), {"a": 1})
            await handle.result()
            forked = await engine.fork(handle.execution_id, a=5)
            assert (await forked.result())[0] == 5
            assert (await (await engine.fork(handle.execution_id, at="t")).result())[0] == 1

    asyncio.run(script())


def test_what_start_nodes_say_is_part_of_every_lineage() -> None:
    from treadle.diagram.compile import compile_diagram
    from treadle.nodes.registry import default_registry

    alone = "treadle: 1\nopen: true\nnodes:\n  s: {type: start, custom_data: {b: 2}}\n" \
            "  t: {type: template_job, text: '{{ b }}'}\n"
    one, other, same = (compile_diagram(drawn(text), default_registry()).get_node("t").lineage
                        for text in (alone, alone.replace("b: 2", "b: 3"), f"{alone}# the same\n"))
    assert one != other and one == same


LOOP = """
treadle: 1
nodes:
  s: {type: start}
  step: {type: code_job, code: "return turn", cache: true, isolation: inline}
  c: {type: condition, when: "turn >= 2", expose_index_as: turn}
  after: {type: template_job, text: "{{ turn }}"}
arrows: [s -> step.x, step -> c, c.false -> step, c.true -> after]
"""


def test_the_turn_has_a_name_that_a_kept_result_depends_on() -> None:
    ran = run_diagram(drawn(LOOP))
    assert (ran.result, ran.outputs["step"], ran.cells["c"].iteration) == ("2", 2, "3")
    with pytest.raises(InvalidDiagram, match="'my turn' can't be a name"):
        run(drawn(LOOP.replace("as: turn", "as: my turn").replace("turn >= 2", "true")))
    with pytest.raises(InvalidDiagram, match="unknown name 'trun'"):
        run(drawn(LOOP.replace("{{ turn", "{{ trun")))


def test_a_condition_that_asks_whether_nodes_have_run() -> None:
    text = """
treadle: 1
nodes:
  a: {type: code_job, code: "return 1", isolation: inline}
  c: {type: condition, executed: [a, b], needs: a}
  b: {type: code_job, code: "return 2", isolation: inline, needs: c.false}
  e: {type: endpoint, needs: c.true}
arrows: [b -> a]
loops: [{entry: a}]
"""
    assert run_diagram(drawn(text)).order == ["a", "c", "b", "a", "c", "e"]
    for wrong, message in (("executed: [a], when: 'true'", "not when and executed"),
                           ("cases: [a]", "say one of"),
                           ("exhausted: true, cases: [a]", "the ports of `exhausted`")):
        with pytest.raises(InvalidDiagram, match=message):
            run(drawn(text.replace("executed: [a, b]", wrong)))
    lonely = "treadle: 1\nnodes: {c: {type: condition, exhausted: true}, e: {type: endpoint, needs: c.true}}"
    ran = run_diagram(drawn(lonely))
    assert ran.error is not None and "in no loop with a person_job" in ran.error
    unknown = run_diagram(drawn(lonely.replace("exhausted: true", "executed: [x]")))
    assert unknown.error is not None and "no node 'x'" in unknown.error


def test_a_sub_diagram_with_outputs_of_its_own() -> None:
    text = """
treadle: 1
nodes:
  sub:
    type: sub_diagram
    outputs: {sum: "x + y", first: one.x, all: result}
    diagram:
      nodes:
        one: {type: code_job, code: "return {'x': 1, 'y': 2}", isolation: inline}
"""
    assert run_diagram(drawn(text)).result == {"sum": 3, "first": 1, "all": {"x": 1, "y": 2}}
    each = text.replace("    outputs", '    for_each: "{{ [1, 2] }}"\n    outputs')
    assert run_diagram(drawn(each)).result == [{"sum": 3, "first": 1, "all": {"x": 1, "y": 2}}] * 2
    wrong = run_diagram(drawn(text.replace("x + y", "z")))
    assert wrong.error is not None and "unknown name 'z'" in wrong.error
    with pytest.raises(InvalidDiagram, match="`outputs`: sum"):
        run(drawn(text.replace("x + y", "x +")))


def test_an_arrow_for_the_first_turn() -> None:
    text = """
treadle: 1
nodes:
  s: {type: code_job, code: "return 1", isolation: inline}
  step: {type: code_job, code: "return sorted(inputs)", isolation: inline}
  c: {type: condition, when: "turn == 1", expose_index_as: turn}
  e: {type: endpoint}
arrows:
  - {from: s, to: step.seed, first: true}
  - {from: s, to: step.first, first: false}
  - step -> c
  - c.false -> step
  - c.true -> e
"""
    assert run_diagram(drawn(text)).result == ["default", "first"]
    assert run_diagram(drawn(text.replace("first: false", "first: null"))).result == ["default"]
    from treadle.diagram.check import check
    from treadle.nodes.registry import default_registry

    idle = check(drawn(text.replace("to: step.seed", "to: e.seed")), default_registry())
    assert any("so 'first' means nothing" in fault.message for fault in idle.warnings)
