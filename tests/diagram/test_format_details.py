"""Diagram files: short forms, labels, tags and values that do not fit."""

from __future__ import annotations

from enum import Enum
from typing import Any, Literal

import msgspec
import pytest

from treadle.diagram.formats import Format, dumps, loads
from treadle.diagram.formats.reading import fits
from treadle.diagram.formats.values import convert_struct
from treadle.errors import InvalidDiagram


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Paint(msgspec.Struct):
    colour: Colour = Colour.RED
    size: Literal["small", "large"] = "small"
    glossy: bool = False
    under: Paint | None = None


def faults(text: str) -> list[str]:
    with pytest.raises(InvalidDiagram) as caught:
        loads("treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint}}\n" + text, file="d.yaml")
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(("text", "fault"), [
    ("arrows: 3", "'arrows' must be a list, not a number"),
    ("arrows: {a: b}", "'arrows' must be a list, not a map"),
    ("loops: a", "'loops' must be a list, not a text"),
    ("loops: [a]", "a loop must be a map, not a text"),
])
def test_lists_are_lists(text: str, fault: str) -> None:
    (found,) = faults(text)
    assert found == f"d.yaml:3: {fault}"


def test_one_transform_needs_no_list() -> None:
    spec = loads("treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint}}\n"
                 "arrows: [{from: a, to: b, transform: {select: x, default: 1}}]\n")
    assert spec.arrows[0].transform == ({"select": "x", "default": 1},)


@pytest.mark.parametrize(("value", "kind", "fit"), [
    (1, "number", True), (1.5, "number", True), (True, "number", False), ("1", "number", False),
    (1.0, "integer", False), (True, "boolean", True), ([], "object", False), (None, "any", True),
])
def test_what_fits_a_type_of_input(value: Any, kind: str, fit: bool) -> None:
    assert fits(value, kind) is fit


@pytest.mark.parametrize("format", ["yaml", "json"])
def test_a_label_that_is_no_id_is_written_back(format: Format) -> None:
    spec = loads('treadle: 1\nnodes: {"read/parse": {type: start}, b: {type: endpoint, needs: read/parse}}\n')
    again = loads(dumps(spec, format), format=format)
    assert [(node.id, node.label) for node in again.nodes] == [(node.id, node.label) for node in spec.nodes]
    assert spec.nodes[0].label == "read/parse" != spec.nodes[0].id
    assert [str(arrow) for arrow in again.arrows] == [str(arrow) for arrow in spec.arrows]


def test_core_tags_say_what_a_scalar_is() -> None:
    spec = loads("treadle: 1\nnodes:\n  a: {type: start, custom_data: {i: !!int 3, f: !!float 3, "
                 "s: !!str 3, b: !!bool true, n: !!null ''}}\n")
    data = spec.nodes[0].properties["custom_data"]
    assert data == {"i": 3, "f": 3.0, "s": "3", "b": True, "n": None}
    assert {key: type(one) for key, one in data.items()} == {
        "i": int, "f": float, "s": str, "b": bool, "n": type(None)}


def test_words_that_are_no_choice_are_answered_with_the_choices() -> None:
    _, wrong = convert_struct({"colour": "rad", "size": "larg", "glossy": "yes"}, Paint)
    assert [(one.path, one.message, one.hint) for one in wrong] == [
        ("colour", "'rad' is not one of red, blue", "did you mean 'red'?"),
        ("size", "'larg' is not one of small, large", "did you mean 'large'?"),
        ("glossy", "expected true or false, not a text", "write true or false")]


def test_data_that_nests_without_end_is_a_fault() -> None:
    deep: dict[str, Any] = {}
    deep["under"] = deep
    _, (wrong,) = convert_struct(deep, Paint)
    assert (wrong.path, wrong.message) == ("under", "nested too deeply")
