"""`check` on what files seldom hold: nested properties, inline diagrams, data that only Python can make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.diagram.check import check, check_file
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.fingerprint import identify
from treadle.diagram.formats import loads
from treadle.diagram.node import Node
from treadle.diagram.types import Expression, Template
from treadle.ids import NodeID
from treadle.nodes.registry import default_registry


class Case(msgspec.Struct, frozen=True):
    when: Expression
    say: Template = ""


class Cases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    first: Case
    cases: list[Case] = []


def said(text: str, kinds: Any) -> list[str]:
    return [str(fault) for fault in check(loads("treadle: 1\n" + text, file="d.yaml"), kinds).faults]


def test_expressions_in_structs_inside_of_properties_are_checked(kinds: Any) -> None:
    kind = type(kinds.get("text"))("cases", Cases)
    types = type(kinds)(kind)
    known = "artifacts, attempt, inputs, iteration, nodes, variables"
    assert said("nodes:\n  a:\n    type: cases\n    first: {when: 'x > 1'}\n    cases:\n"
                "      - {when: 'true', say: 'plain'}\n      - {when: 'true', say: '{{ y }}'}\n", types) == [
        f"d.yaml:5: node 'a': first.when: unknown name 'x' (there is: {known})",
        f"d.yaml:8: node 'a': cases[1].say: unknown name 'y' (there is: {known})"]


def test_a_file_beyond_its_limit_is_a_fault_and_not_an_exception(kinds: Any, tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    path.write_text("treadle: 1\nnodes: {a: {type: start}}\n")
    found = check_file(path, kinds, config=TreadleConfig(diagram_bytes_max=10))
    (fault,) = found.errors
    assert "has more than 10 bytes" in fault.message and "diagram_bytes_max" in fault.message
    assert fault.where is not None and fault.where.file == str(path)


def helper() -> int:
    return 1


def other() -> int:
    return 2


def test_the_source_of_a_function_that_was_given_is_in_the_fingerprint(kinds: Any) -> None:
    def lineage(function: Any) -> str:
        spec = DiagramSpec(nodes=(Node(NodeID("a"), "code_job"),), functions={"a": function})
        return identify(check(spec, kinds)).lineages[NodeID("a")]

    assert lineage(helper) == lineage(helper)
    assert lineage(helper) != lineage(other)


def test_properties_that_only_python_can_make_are_converted_too(kinds: Any) -> None:
    thing = object()
    nodes = (Node(NodeID("a"), "code_job", {"arguments": {"thing": thing}}),
             Node(NodeID("b"), "code_job", {"arguments": {"thing": thing}, "memory_mb": "x"}))
    found = check(DiagramSpec(nodes=nodes), kinds)
    assert found.specs[NodeID("a")].arguments["thing"] is thing
    assert [str(fault) for fault in found.faults] == ["node 'b': memory_mb: expected an integer, not a text"]


def test_the_item_of_a_map_is_unknown_elsewhere(kinds: Any) -> None:
    assert said("nodes:\n  a: {type: text, text: '{{ item }}{{ index }}'}\n", kinds) == [
        f"d.yaml:3: node 'a': text: unknown name '{name}' (only a node with for_each has it)"
        for name in ("index", "item")]


def test_an_inline_diagram_that_is_no_plain_data_is_a_fault(kinds: Any) -> None:
    inline = {"nodes": {"x": {"type": "start", "custom_data": {"thing": object()}}}}
    found = check(DiagramSpec(nodes=(Node(NodeID("a"), "sub_diagram", {"diagram": inline}),)), kinds)
    (fault,) = found.errors
    assert fault.message.startswith("the inline diagram is no plain data: ")


def test_an_inline_diagram_may_hold_lists(kinds: Any) -> None:
    inline = {"nodes": {"x": {"type": "start"}, "y": {"type": "endpoint"}}, "arrows": ["x -> y"]}
    found = check(DiagramSpec(nodes=(Node(NodeID("a"), "sub_diagram", {"diagram": inline}),)), kinds)
    assert found.faults == ()
    assert [str(arrow) for arrow in found.children[NodeID("a")].spec.arrows] == ["x -> y"]


@pytest.mark.parametrize(("mapping", "fault"), [
    ("{}", "its diagram needs the input 'limit' (write: inputs: {limit: …})"),
    ("{limit: '3'}", ""),
])
def test_a_sub_diagram_gets_the_inputs_that_it_needs(kinds: Any, mapping: str, fault: str) -> None:
    found = said("nodes:\n  a: {type: sub_diagram, diagram: {inputs: {limit: integer, more: {default: 1}}, "
                 f"nodes: {{x: {{type: start}}}}}}, inputs: {mapping}}}\n", kinds)
    assert found == ([f"d.yaml:3: node 'a': {fault}"] if fault else [])


def test_a_kept_result_that_depends_on_the_shared_context_is_warned_of(kinds: Any) -> None:
    assert said("nodes:\n  a: {type: text, cache: true, text: '{{ variables.n }}'}\n"
                "  b: {type: text, text: '{{ variables.n }}'}\n"
                "  variables: {type: text, text: 'x'}\n"
                "  c: {type: text, cache: true, text: '{{ variables }}', needs: variables}\n", kinds) == [
        "d.yaml:3: warning: node 'a': text: it sees 'variables', which may change, and its result is kept by "
        "its inputs alone (give what it needs along an arrow, or leave cache out)"]


@pytest.mark.parametrize(("node", "found"), [
    ({"code": "artifacts['x'] = 1"}, "artifacts"), ({"code": "context.variables"}, "context.variables"),
    ({"code": "my.artifacts"}, None)])
def test_code_that_uses_it_is_warned_of_where_its_result_is_kept(node: dict[str, str],
                                                                found: str | None) -> None:
    text = msgspec.json.encode({"type": "code_job", "cache": True, **node}).decode()
    faults = said(f"nodes:\n  a: {text}\n", default_registry())
    assert faults == ([] if found is None else [
        f"d.yaml:3: warning: node 'a': its code uses {found}, and its result is kept by its inputs alone "
        "(where a kept result is used it reads and writes nothing)"])
