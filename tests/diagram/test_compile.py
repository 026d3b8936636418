"""A compiled diagram: its loops as arrays, its nodes by id, and the heads that loops are found to have."""

from __future__ import annotations

from typing import Any

import pytest

from treadle.diagram.check import check
from treadle.diagram.compile import compile_diagram, link
from treadle.diagram.diagram import DiagramSpec, ExecutableArrow, ExecutableDiagram
from treadle.diagram.formats import loads
from treadle.diagram.loops import find_loops
from treadle.diagram.node import Arrow, Input, Node
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnLimit
from treadle.errors import InvalidDiagram, NoSuchNode
from treadle.ids import NodeID

NESTED = """\
treadle: 1
name: nested
nodes:
  start: {type: start}
  draft: {type: code_job, needs: [start, good.false]}
  check: {type: code_job, needs: [draft, sure.false]}
  sure: {type: condition, when: "check > 1", needs: check}
  good: {type: condition, when: "sure > 1", needs: sure.true}
  end: {type: endpoint, needs: good.true}
loops: [{entry: check, max_iterations: 7, on_limit: exit}]
"""


def compiled(text: str, kinds: Any) -> ExecutableDiagram:
    return compile_diagram(loads(text), kinds)


def test_loops_know_their_members_and_the_arrows_in_and_out_of_them(kinds: Any) -> None:
    diagram = compiled(NESTED, kinds)
    by_head = {diagram.nodes[loop.head].id: loop for loop in diagram.loops}
    outer, inner = by_head[NodeID("draft")], by_head[NodeID("check")]

    def names(indices: tuple[int, ...]) -> list[str]:
        return [diagram.nodes[i].id for i in indices]

    def texts(indices: tuple[int, ...]) -> list[str]:
        return [diagram.arrows[i].text for i in indices]

    assert (outer.parent, inner.parent) == (-1, outer.index)
    assert (outer.inner, inner.inner) == ((inner.index,), ())
    assert names(outer.members) == ["draft", "check", "sure", "good"]
    assert names(outer.own) == ["draft", "good"]  # without those of the loop inside
    assert names(inner.own) == names(inner.members) == ["check", "sure"]
    assert texts(outer.back) == ["good.false -> draft"]
    assert texts(inner.back) == ["sure.false -> check"]
    assert sorted(texts(outer.inside)) == [
        "check -> sure", "draft -> check", "sure.false -> check", "sure.true -> good"]
    assert texts(inner.inside) == ["check -> sure"]
    assert texts(outer.exits) == ["good.true -> end"]
    assert texts(inner.exits) == ["sure.true -> good"]
    assert (inner.max_iterations, inner.on_limit) == (7, OnLimit.EXIT)  # as declared
    assert (outer.max_iterations, outer.on_limit) == (LOOP_ITERATIONS_MAX, OnLimit.FAIL)  # as usual
    assert inner.where is not None and inner.where.line == 10
    assert outer.where is None


def test_a_node_is_found_by_id_or_the_nearest_is_named(kinds: Any) -> None:
    diagram = compiled(NESTED, kinds)
    assert diagram.get_node("good").type == "condition"
    with pytest.raises(NoSuchNode, match=r"diagram 'nested' has no node 'god'.*'good'"):
        diagram.get_node("god")
    with pytest.raises(NoSuchNode, match=r"has no node 'xyzzy'$"):
        diagram.get_node("xyzzy")


def test_a_diagram_tells_its_size(kinds: Any) -> None:
    diagram = compiled(NESTED, kinds)
    assert len(diagram) == 6
    assert repr(diagram) == "ExecutableDiagram('nested', 6 nodes, 7 arrows)"


def test_a_map_is_told_from_other_nodes(kinds: Any) -> None:
    diagram = compiled("treadle: 1\nnodes:\n  a: {type: code_job, for_each: '[1]'}\n  b: {type: code_job}\n",
                       kinds)
    assert [node.is_map for node in diagram.nodes] == [True, False]
    assert [node.composite for node in diagram.nodes] == [True, False]


def test_an_arrow_without_a_drawing_is_told_by_its_indices() -> None:
    assert ExecutableArrow(0, 3, 4, "default", "default").text == "3 -> 4"
    drawn = Arrow(NodeID("a"), NodeID("b"), port="true")
    assert ExecutableArrow(0, 3, 4, "true", "default", drawn=drawn).text == "a.true -> b"


def test_an_input_without_a_default_is_required() -> None:
    assert Input("string").required
    assert not Input("string", None).required  # null is a default too


def test_loops_that_have_faults_are_not_linked() -> None:
    a, b = NodeID("a"), NodeID("b")
    spec = DiagramSpec(nodes=(Node(a, "x"), Node(b, "x")), arrows=(Arrow(a, b), Arrow(b, a)))
    with pytest.raises(InvalidDiagram, match="nothing starts the loop of 'a', 'b'"):
        link(spec)


def test_of_several_entered_nodes_the_head_is_the_one_that_all_ways_round_go_through() -> None:
    # start enters both h and x; two rings meet in h: without x, that of h and y still goes round
    names = ["start", "h", "x", "y"]
    found = find_loops(names, [(0, 1), (0, 2), (1, 2), (2, 1), (1, 3), (3, 1)])
    assert found.faults == []
    assert [names[loop.head] for loop in found.loops] == ["h"]


@pytest.mark.parametrize(("entry", "heads"), [("end", "draft"), ("good", "draft")])
def test_a_declared_loop_must_begin_at_a_head(kinds: Any, entry: str, heads: str) -> None:
    text = NESTED[:NESTED.index("loops:")] + f"loops: [{{entry: check}}, {{entry: {entry}}}]\n"
    (fault,) = check(loads(text, file="d.yaml"), kinds).errors
    assert str(fault) == f"d.yaml:10: node '{entry}': '{entry}' is not the head of a loop; " \
                         f"heads are: check, {heads}"


def test_a_declared_loop_in_a_diagram_without_loops(kinds: Any) -> None:
    text = "treadle: 1\nnodes: {a: {type: start}}\nloops:\n  - {entry: a}\n"
    (fault,) = check(loads(text, file="d.yaml"), kinds).errors
    assert str(fault).startswith("d.yaml:4: ")  # where it is declared, not where the node is
    assert "heads are: none: the diagram has no loop" in fault.message
