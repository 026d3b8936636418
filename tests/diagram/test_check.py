"""`check` finds everything at once, says where it is, and warns of what is seldom meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram.check import Checked, check, check_file
from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import loads
from treadle.diagram.node import Arrow, Input, Node
from treadle.errors import InvalidDiagram
from treadle.ids import NodeID


def checked(text: str, kinds: Any, **options: Any) -> Checked:
    return check(loads("treadle: 1\n" + text.lstrip("\n"), file="d.yaml"), kinds, **options)


def said(text: str, kinds: Any) -> list[str]:
    return [str(fault) for fault in checked(text, kinds).faults]


def test_a_sound_diagram_has_no_faults_and_compiles(kinds: Any) -> None:
    found = checked("""
inputs: {limit: {type: integer, default: 3}}
nodes:
  find: {type: code_job}
  measure: {type: text, text: "{{ item }} of {{ find }}", for_each: "{{ find }}", needs: find}
  long: {type: condition, when: "measure | length > inputs.limit", needs: measure}
  many: {type: code_job, needs: long.true}
  few: {type: code_job, needs: long.false}
  end: {type: endpoint, needs: [many, few, many.error]}
""", kinds)
    assert found.faults == ()
    assert set(found.specs) == {"find", "measure", "long", "many", "few", "end"}
    diagram = compile_diagram(found.spec, kinds)
    assert [node.id for node in diagram.nodes] == ["find", "measure", "long", "many", "few", "end"]
    assert all(node.lineage and node.fingerprint for node in diagram.nodes)


def test_every_fault_is_found_at_once(kinds: Any) -> None:
    assert said(
        """
inputs: {limit: integer}
nodes:
  a: {type: code_jb}
  b: {type: code_job, cal: x, memory_mb: much, needs: [a, zz]}
  c: {type: condition, when: "{{ b.x > ", needs: b}
  d: {type: condition, when: "bb > inputs.limt + item + limit + a", needs: b, for_each: "{{ q }}"}
  e: {type: text, text: "{{ nodes.b }}", parts: ["{{ d }}", "{{ 1 }"], timeout: 0, retries: -2}
  f: {type: picky, for_each: "[1]", concurrency: 0}
  g: {type: picky, backoff: {jitter: 2, factor: 0.5}}
  s: {type: start, for_each: "[]", label: x}
  m: {type: code_job, call: missing}
arrows:
  - a -> s
  - b -> g.middle
  - a -> b
  - c.maybe -> g.right
loops: [{entry: zz, max_iterations: 0}]
""",
        kinds,
    ) == [
        "d.yaml:4: node 'a': there is no node type 'code_jb' (did you mean 'code_job'?)",
        "d.yaml:5: node 'b': unknown property 'cal' (did you mean 'call'?)",
        "d.yaml:5: node 'b': memory_mb: expected an integer, not a text",
        "d.yaml:5: arrow 'zz -> b': there is no node 'zz'",
        "d.yaml:6: node 'c': when: expression '{{ b.x >': unexpected 'end of template'",
        "d.yaml:7: node 'd': for_each: unknown name 'q' (there is: artifacts, attempt, b, default, inputs, "
        "iteration, nodes, variables)",
        "d.yaml:7: node 'd': when: unknown name 'a' (node 'a' has no arrow to here: a -> d)",
        "d.yaml:7: node 'd': when: unknown name 'bb' (did you mean 'b'?)",
        "d.yaml:7: node 'd': when: unknown name 'limit' (an input of the execution is 'inputs.limit')",
        "d.yaml:7: node 'd': when: unknown name 'inputs.limt' (did you mean 'limit'?)",
        "d.yaml:7: node 'd': a node of type 'condition' can't have for_each (put it into a "
        "sub_diagram and give "
        "that for_each)",
        "d.yaml:8: node 'e': retries must be at least 0, not -2",
        "d.yaml:8: node 'e': timeout must be more than 0 seconds, not 0.0",
        "d.yaml:8: node 'e': text: unknown name 'nodes.b' (there is: none)",
        "d.yaml:8: node 'e': parts[0]: unknown name 'd' (node 'd' has no arrow to here: d -> e)",
        "d.yaml:8: node 'e': parts[1]: template '{{ 1 }': unexpected '}'",
        "d.yaml:9: node 'f': concurrency must be at least 1, not 0",
        "d.yaml:10: node 'g': backoff.factor must be at least 1, not 0.5",
        "d.yaml:10: node 'g': backoff.jitter must be at most 1, not 2.0",
        "d.yaml:10: node 'g': nothing brings its input 'left' (draw an arrow to it: … -> g.left)",
        "d.yaml:11: node 's': a node of type 'start' can't have for_each (put it into a sub_diagram and give "
        "that for_each)",
        "d.yaml:12: node 'm': there is no function 'missing'",
        "d.yaml:14: arrow 'a -> s': node 's' takes no unlabelled input (it has no inputs)",
        "d.yaml:15: arrow 'b -> g.middle': node 'g' has no input 'middle' (there is: left, right)",
        "d.yaml:16: arrow 'a -> b' is drawn a second time (the first is in line 5)",
        "d.yaml:17: arrow 'c.maybe -> g.right': node 'c' has no port 'maybe' (there is: true, false, error)",
        "d.yaml:18: loops: there is no node 'zz'",
        "d.yaml:18: loops: max_iterations must be at least 1, not 0",
    ]


def test_expressions_are_found_wherever_a_type_has_them(kinds: Any) -> None:
    found = said('nodes: {a: {type: text, names: {x: "1 +", y: 3, z: {q: 1}}, parts: ["{{ nope }}"]}}', kinds)
    assert found == [
        "d.yaml:2: node 'a': parts[0]: unknown name 'nope' (did you mean 'nodes'?)",
        "d.yaml:2: node 'a': names.x: expression '1 +': unexpected 'end of template'"]


@pytest.mark.parametrize(
    ("nodes", "ends"),
    [
        ("l1: {type: code_job, needs: a}, l2: {type: code_job, needs: l1}", False),
        ("l1: {type: code_job, needs: a}, l2: {type: condition, when: l1, needs: l1}", True),
        (
            "l1: {type: code_job, needs: a}, l2: {type: code_job, needs: l1}, x: {type: "
            "code_job, needs: l2.error}",
            True,
        ),
    ],
)
def test_a_loop_that_nothing_can_leave_is_a_fault(nodes: str, ends: bool, kinds: Any) -> None:
    back = "l2.false -> l1" if "condition" in nodes else "l2 -> l1"
    found = said(f"nodes: {{a: {{type: code_job}}, {nodes}}}\narrows: [{back}]", kinds)
    assert [one for one in found if "can't end" in one] == (
        []
        if ends
        else [
            "d.yaml:3: node 'l1': the loop of 'l1' → 'l2' can't end: nothing on its way round "
            "can choose another way, "
            "so it would fail after 100 iterations (put a condition before 'l2 -> l1', or say "
            "on_limit: exit for a "
            "fixed number of turns)"
        ]
    )


def test_a_loop_of_so_many_turns_needs_no_condition(kinds: Any) -> None:
    assert said("nodes: {a: {type: code_job}, b: {type: code_job, needs: [a, b]}}\n"
                "loops: [{entry: b, max_iterations: 3, on_limit: exit}]", kinds) == []


def test_loops_without_a_head_or_with_several_are_faults(kinds: Any) -> None:
    (nowhere,) = said("nodes: {a: {type: condition, when: 'true'}, b: {type: code_job, needs: a.true}}\n"
                      "arrows: [b -> a]", kinds)
    assert nowhere.startswith("d.yaml:2: node 'a': nothing starts the loop of 'a', 'b'")
    text = "nodes: {s: {type: code_job}, a: {type: condition, when: 'true', needs: s}, b: {type: code_job, " \
           "needs: [s, a.true]}}\narrows: [b -> a]"
    (several,) = [one for one in said(text, kinds) if "warning" not in one]
    assert "has no clear head" in several
    assert not [one for one in said(text + "\nloops: [{entry: a}]", kinds) if "warning" not in one]


def test_it_warns_where_values_meet_by_accident(kinds: Any) -> None:
    assert said(
        """
nodes:
  a: {type: code_job}
  c: {type: condition, when: "a", needs: a}
  x: {type: code_job, needs: c.true}
  y: {type: code_job, needs: c.false}
  diamond: {type: code_job, needs: [x, y]}
  pair: {type: code_job, needs: [a, x]}
  beside: {type: code_job, needs: c.true}
  lone: {type: code_job, needs: a, concurrency: 2}
arrows:
  - a -> beside.other
  - a -> lone.first
""",
        kinds,
    ) == [
        "d.yaml:8: warning: node 'pair': two arrows without a label: 'a -> pair' and 'x -> "
        "pair'; their values "
        "become a list in this order (give one a label: x -> pair.name)",
        "d.yaml:9: warning: node 'beside': it runs even when 'c.true -> beside' is dead, "
        "because 'a -> beside.other' "
        "is live either way (lead the other arrow through the condition too, if it should not)",
        "d.yaml:10: warning: node 'lone': concurrency means nothing without for_each",
        "d.yaml:13: warning: node 'lone': arrow 'a -> lone.first' enters no loop, so 'first' means nothing",
    ]


def test_a_back_arrow_beside_the_outside_value_is_no_accident(kinds: Any) -> None:
    assert said("nodes: {a: {type: code_job}, b: {type: code_job, needs: a}, c: {type: condition, when: b, "
                "needs: b}}\narrows: [c.false -> b]", kinds) == []


def test_warnings_do_not_stop_a_diagram(kinds: Any) -> None:
    found = checked(
        "nodes: {a: {type: code_job}, b: {type: code_job}, c: {type: code_job, needs: [a, b]}}", kinds
    )
    assert found.errors == ()
    assert len(found.warnings) == 1
    found.raise_if_invalid()
    assert compile_diagram(found.spec, kinds).warnings == found.warnings


def test_a_branch_of_a_branch_excludes_the_other_branch(kinds: Any) -> None:
    assert said("""
nodes:
  a: {type: code_job}
  c: {type: condition, switch: "a", cases: [x, y], needs: a}
  d: {type: condition, when: "c", needs: c.x}
  p: {type: code_job, needs: d.true}
  q: {type: code_job, needs: p}
  end: {type: code_job, needs: [q, d.false, c.y, c.else]}
""", kinds) == []


def test_sub_diagrams_are_checked_and_their_faults_point_into_their_files(kinds: Any, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.yaml").write_text(
        "treadle: 1\nnodes:\n  x: {type: sub_diagram, diagram: sub/inner.yaml}\n"
        "  y: {type: sub_diagram, diagram: sub/inner.yaml}\n  z: {type: sub_diagram, diagram: none.yaml}\n"
        "  i: {type: sub_diagram, diagram: {nodes: {q: {type: nope}, r: {type: code_job, neds: q}}}}\n")
    (tmp_path / "sub" / "inner.yaml").write_text("treadle: 1\nnodes:\n  a: {type: code_job, bogus: 1}\n")
    found = [
        str(fault).replace(str(tmp_path), "") for fault in check_file(tmp_path / "main.yaml", kinds).faults
    ]
    assert found == [
        "/sub/inner.yaml:3: node 'a': unknown property 'bogus' (there is: arguments, call, "
        "function, isolation, "
        "memory_mb)",
        "/main.yaml:5: node 'z': diagram 'none.yaml' can't be read: No such file or directory",
        "/main.yaml:6: node 'q': there is no node type 'nope' (there is: code_job, condition, "
        "endpoint, picky, "
        "start, sub_diagram, text)",
        "/main.yaml:6: node 'r': unknown property 'neds' (did you mean 'needs'?)",
    ]


def test_a_diagram_that_runs_itself_is_a_fault(kinds: Any, tmp_path: Path) -> None:
    for here, there in (("a", "b"), ("b", "c"), ("c", "a")):
        (tmp_path / f"{here}.yaml").write_text(
            f"treadle: 1\nnodes: {{x: {{type: sub_diagram, diagram: {there}.yaml}}}}"
        )
    (fault,) = check_file(tmp_path / "a.yaml", kinds).faults
    assert fault.message == "the diagram runs itself: a.yaml → b.yaml → c.yaml → a.yaml"
    assert fault.where is not None
    assert fault.where.file.endswith("c.yaml")


def test_sub_diagrams_inside_one_another_have_a_limit(kinds: Any) -> None:
    inner: dict[str, Any] = {"nodes": {"a": {"type": "code_job"}}}
    for _ in range(5):
        inner = {"nodes": {"x": {"type": "sub_diagram", "diagram": inner}}}
    spec = DiagramSpec(nodes=(Node(NodeID("x"), "sub_diagram", {"diagram": inner}),))
    assert check(spec, kinds).faults == ()
    (fault,) = check(spec, kinds, config=TreadleConfig(depth_max=3)).faults
    assert "raise it with TreadleConfig(depth_max=…)" in fault.message


def test_faults_of_the_file_and_of_its_meaning_come_together(kinds: Any, tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_text("treadle: 1\narows: []\nnodes: {a: {type: nope}}\n")
    found = [fault.message for fault in check_file(path, kinds).faults]
    assert found[0] == "a diagram has no key 'arows'"
    assert found[1] == "there is no node type 'nope'"
    path.write_text("a: [")
    assert "not YAML" in check_file(path, kinds).faults[0].message


def test_a_diagram_built_by_hand_is_checked_too(kinds: Any) -> None:
    spec = DiagramSpec(
        nodes=(
            Node(NodeID("a"), "code_job"),
            Node(NodeID("a"), "code_job"),
            Node(NodeID("b/c"), "code_job"),
        ),
        arrows=(Arrow(NodeID("a"), NodeID("x")),),
        inputs={"i": Input("integer", "x"), "j": Input("int")},
        deadline=0,
    )
    assert [str(fault) for fault in check(spec, kinds).errors] == [
        "deadline must be more than 0 seconds, not 0",
        "node 'a': a second node has this id",
        "node 'b/c': an id is letters, digits, '_', '-' and spaces (ids.escape_label makes one)",
        "input 'i': the default is not of type integer",
        "input 'j': 'int' is no type of input (did you mean 'integer'?)",
        "arrow 'a -> x': there is no node 'x'",
    ]
    with pytest.raises(InvalidDiagram) as caught:
        compile_diagram(spec, kinds)
    assert len(caught.value.faults) == 6
    assert [fault.message for fault in check(DiagramSpec(), kinds).faults] == ["the diagram has no nodes"]
