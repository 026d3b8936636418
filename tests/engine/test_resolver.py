"""What nodes get: values by input, transformed."""

from __future__ import annotations

from typing import Any

import pytest

from treadle.diagram.compile import link
from treadle.diagram.diagram import DiagramSpec, ExecutableArrow
from treadle.diagram.node import Arrow, Node
from treadle.diagram.transform import TransformError, TransformRule, coerce, convert, select
from treadle.engine.context import ExecutionContext
from treadle.engine.resolver import (
    RuntimeResolver,
    error_value,
    turn,
)
from treadle.ids import NodeID
from treadle.state.cell import ErrorInfo
from treadle.state.envelope import EnvelopeFactory


def arrow(input: str = "default", **more: Any) -> ExecutableArrow:
    return ExecutableArrow(0, 0, 1, "default", input, drawn=Arrow(NodeID("a"), NodeID("b")), **more)


def test_values_go_to_their_inputs() -> None:
    inputs = RuntimeResolver().inputs([(arrow("x"), 1), (arrow(), 2)])
    assert inputs == {"x": 1, "default": 2}


def test_two_values_on_one_input_make_a_list_in_arrow_order() -> None:
    inputs = RuntimeResolver().inputs([(arrow(), [1]), (arrow("y"), 0), (arrow(), 2), (arrow(), 3)])
    assert inputs == {"default": [[1], 2, 3], "y": 0}


@pytest.mark.parametrize("others", [[], [("default", 2)]])
def test_first_stands_in_for_default(others: list[tuple[str, int]]) -> None:
    pairs = [(arrow("first"), 1), *((arrow(name), value) for name, value in others)]
    assert RuntimeResolver().inputs(pairs) == {"default": 1}


def test_an_arrow_converts_and_then_transforms() -> None:
    one = arrow(content_type="object", transform=({"select": "rows[1].name"}, {"format": "<{{ value }}>"}))
    assert RuntimeResolver().inputs([(one, '{"rows": [{}, {"name": "Ann"}]}')]) == {"default": "<Ann>"}


def test_a_failing_transform_names_its_arrow() -> None:
    with pytest.raises(
        TransformError, match=r"arrow 'a -> b': select 'rows': the value is a dict without 'rows'; it has"
    ):
        RuntimeResolver().inputs([(arrow(transform=({"select": "rows"},)), {"row": 1})])


def test_rules_of_one_map_run_by_precedence_and_a_list_is_a_pipeline() -> None:
    resolver = RuntimeResolver()
    resolver.transforms.register("double", lambda value, argument: value * 2, precedence=45)
    assert (
        resolver.apply_transformations({"n": "4"}, [{"double": True, "coerce": "integer", "select": "n"}])
        == 8
    )
    assert (
        resolver.apply_transformations(
            {"n": "4"}, [{"select": "n"}, {"double": True}, {"coerce": "integer"}]
        )
        == 44
    )
    assert resolver.apply_transformations(None, [TransformRule("default", 7)]) == 7
    assert resolver.apply_transformations({"a": 1, "b": 2}, [TransformRule("rename", {"a": "x"})]) == {
        "x": 1,
        "b": 2,
    }


def test_an_unknown_transform_is_an_error_with_a_hint() -> None:
    with pytest.raises(TransformError, match="unknown transform 'selct': did you mean 'select'"):
        RuntimeResolver().apply_transformations(1, [{"selct": "x"}])


def test_a_registered_transform_that_raises_is_a_transform_error() -> None:
    resolver = RuntimeResolver()
    resolver.transforms.register("broken", lambda value, argument: value / argument)
    with pytest.raises(TransformError, match="transform broken: 0 of a int: ZeroDivisionError"):
        resolver.apply_transformations(1, [{"broken": 0}])


@pytest.mark.parametrize(("value", "path", "found"), [
    ({"a": {"b": [10, 20]}}, "a.b[-1]", 20), ([{"x": 1}], "[0].x", 1), ({"1": "one"}, "[1]", "one"),
    ([5, 6], "1", 6),
])
def test_select(value: Any, path: str, found: Any) -> None:
    assert select(value, path) == found


@pytest.mark.parametrize(
    ("value", "path"), [({}, "a"), ([1], "[3]"), ("text", "[0]"), (object(), "__class__")]
)
def test_select_says_where_the_path_ends(value: Any, path: str) -> None:
    with pytest.raises(TransformError, match="select"):
        select(value, path)


@pytest.mark.parametrize(
    ("value", "kind", "result"),
    [
        ("3", "integer", 3),
        (3.0, "integer", 3),
        ("2.5", "number", 2.5),
        ("true", "boolean", True),
        (4, "string", "4"),
        ({"a": 1}, "string", '{"a": 1}'),
        ("[1, 2]", "array", [1, 2]),
        ((1, 2), "array", [1, 2]),
        ('{"a": 1}', "object", {"a": 1}),
        (object, "any", object),
    ],
)
def test_coerce(value: Any, kind: str, result: Any) -> None:
    made = coerce(value, kind)
    assert made == result and type(made) is type(result)


@pytest.mark.parametrize(
    ("value", "kind"), [("x", "integer"), (3.5, "integer"), ("[1", "array"), (5, "object"), ("x", "boolen")]
)
def test_coerce_refuses_what_makes_no_sense(value: Any, kind: str) -> None:
    with pytest.raises(TransformError):
        coerce(value, kind)


def test_content_types_convert() -> None:
    assert convert({"a": [1]}, "raw_text") == '{"a": [1]}'
    assert convert("x", "raw_text") == "x"
    assert convert('{"a": 1}', "object") == {"a": 1}
    assert convert("hi", "conversation_state") == {"messages": [{"role": "user", "content": "hi"}]}
    assert (
        convert("é", "binary") == b"\xc3\xa9"
        and convert(1, "empty") is None
        and convert(1, "variable") == 1
    )
    with pytest.raises(TransformError, match="is not JSON"):
        convert("hello", "object")


def test_an_error_travels_as_a_map() -> None:
    assert error_value(ErrorInfo("ValueError", "boom", node="a")) == {
        "type": "ValueError", "message": "boom", "node": "a", "traceback": ""}


def test_the_turn_is_that_of_the_innermost_loop() -> None:
    assert (turn("1"), turn("2.7")) == (1, 7)


def test_resolve_inputs_takes_what_a_context_holds_and_keeps_it() -> None:
    nodes = tuple(Node(NodeID(name), "code_job") for name in ("choose", "b", "join"))
    arrows = (
        Arrow(NodeID("choose"), NodeID("join"), "true", "yes"),
        Arrow(NodeID("b"), NodeID("join"), input="b"),
        Arrow(NodeID("choose"), NodeID("b"), "false"),
    )
    diagram = link(DiagramSpec(nodes=nodes, arrows=arrows))
    context = ExecutionContext(diagram, "x")
    resolver = RuntimeResolver()
    join = diagram.get_node("join")

    assert resolver.resolve_inputs(join, context) == {}
    context.store_output("choose", EnvelopeFactory.create([1], "choose", port="true"))
    context.store_output("b", EnvelopeFactory.text("hi", "b"))
    found = resolver.resolve_inputs(join, context)
    assert found == {"yes": [1], "b": "hi"}
    assert resolver.resolve_inputs(join, context) == found and len(context.resolved) == 2
    assert resolver.resolve_inputs(diagram.get_node("b"), context) == {}
    context.store_output("b", EnvelopeFactory.text("ho", "b"))
    assert resolver.resolve_inputs(join, context)["b"] == "ho"
