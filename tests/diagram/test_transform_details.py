"""Each transform and content type by itself: what it makes of a value, and what it says if it can't."""

from __future__ import annotations

import dataclasses
from datetime import datetime
from typing import Any

import pytest

from treadle.diagram.transform import (
    TransformError,
    TransformRule,
    coerce,
    convert,
    default_transforms,
    select,
)


@dataclasses.dataclass
class Page:
    title: str
    _secret: str = "s"


@pytest.mark.parametrize(("value", "path", "part"), [
    ({"rows": [{"name": "a"}, {"name": "b"}]}, "rows[1].name", "b"),
    ([1, 2, 3], "[-1]", 3),
    ([[1], [2]], "1[0]", 2),
    ({"1": "one"}, "[1]", "one"), ({"a.b": {"c[0]": 1}}, "['a.b'][\"c[0]\"]", 1),
    ({"rows": [{"name": "a"}, {"name": "b"}]}, "rows[*].name", ["a", "b"]),
    ([[[1], [2]], [[3]]], "[*][*][0]", [[1, 2], [3]]), ([], "[*].name", []), ({"a": 1}, "", {"a": 1}),
    (Page("home"), "title", "home"),
])
def test_select_takes_the_part_at_a_path(value: Any, path: str, part: Any) -> None:
    assert select(value, path) == part


@pytest.mark.parametrize(("value", "path", "message"), [
    ({"body": {"a": 1}}, "body.b", "select 'body.b': body is a dict without 'b'; it has a"),
    ([1], "[3]", r"the value is a list without '\[3\]'"),
    ([1], "x", "the value is a list without 'x'"),
    (Page("home"), "_secret", "the value is a Page without '_secret'"),
    ("text", "[0]", r"the value is a str without '\[0\]'"), ({}, "a", "a dict without 'a'; it has nothing"),
    ([{"a": 1}, {}], "[*].a", r"select '\[\*\].a': \[1\] is a dict without 'a'"),
    ({"a": 1}, "a[*]", r"a is a int, and `\[\*\]` wants a list"),
    ({"a": 1}, "a[", r"it is no path: write one such as rows\[0\].name"), ({"a": 1}, "a..b", "it is no path"),
])
def test_select_says_where_the_path_ends(value: Any, path: str, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        select(value, path)


def test_rename_changes_keys_and_keeps_the_rest() -> None:
    apply = default_transforms().apply
    assert apply({"a": 1, "b": 2}, [{"rename": {"a": "x"}}]) == {"x": 1, "b": 2}
    with pytest.raises(TransformError, match="rename: the map has no 'c'; it has a, b"):
        apply({"a": 1, "b": 2}, [{"rename": {"c": "x"}}])
    assert apply([{"a": 1}, {"a": 2}], [{"rename": {"a": "x"}}]) == [{"x": 1}, {"x": 2}]
    assert apply({"a": 1, "b": 2}, [{"rename": {"a": "b", "b": "a"}}]) == {"b": 1, "a": 2}
    with pytest.raises(TransformError, match="rename: two keys would both be 'b', and one of them lost"):
        apply({"a": 1, "b": 2}, [{"rename": {"a": "b"}}])
    with pytest.raises(TransformError, match=r"rename wants a map or a list of maps, not \[1\]"):
        apply([1], [{"rename": {"c": "x"}}])


@pytest.mark.parametrize(("value", "kind", "made"), [
    ("x", "any", "x"), (3, "integer", 3), ("3", "integer", 3), (3.0, "integer", 3), ("2.5", "number", 2.5),
    ("true", "boolean", True), (3, "string", "3"), ({"a": [1]}, "string", '{"a": [1]}'),
    (" 3 ", "integer", 3), (False, "string", "false"), (b"\xc3\xa9", "string", "é"),
    ([None], "string", "[null]"), (datetime(2024, 1, 2, 3), "string", "2024-01-02T03:00:00"),
    ("[1, 2]", "array", [1, 2]), ((1, 2), "array", [1, 2]), ('{"a": 1}', "object", {"a": 1}),
])
def test_coerce_makes_a_value_of_a_type(value: Any, kind: str, made: Any) -> None:
    found = coerce(value, kind)
    assert found == made and type(found) is type(made)


@pytest.mark.parametrize(("value", "kind", "message"), [
    ("x", "integer", "can't make integer of 'x'"),
    (3.5, "integer", "can't make integer of 3.5: it has a fraction"),
    ("{", "object", "can't make object of '{'"), (None, "string", "let a `default` stand in for null before"),
    ("yes", "boolean", "'yes': it takes true, false, 1, 0, or a text of these"),
    ("a,b", "array", "it takes a list, or a text of JSON that is one"),
    (b"\xff", "string", "no text in UTF-8"),
    ("x", "intger", "unknown type 'intger': did you mean 'integer'"),
])
def test_coerce_refuses_where_nothing_sensible_remains(value: Any, kind: str, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        coerce(value, kind)


@pytest.mark.parametrize(("value", "content_type", "made"), [
    (b"\xc3\xa9", "raw_text", "é"), (None, "raw_text", "null"), ({"a": "é"}, "binary", b'{"a": "\xc3\xa9"}'),
    ([{"role": "user", "content": "x"}], "conversation_state",
     {"messages": [{"role": "user", "content": "x"}]}),
    ({"a": 1}, "conversation_state", {"messages": [{"role": "user", "content": '{"a": 1}'}]}),
    ("x", "raw_text", "x"), ({"a": 1}, "raw_text", '{"a": 1}'),
    ('{"a": 1}', "object", {"a": 1}), (b"[1]", "object", [1]), ({"a": 1}, "object", {"a": 1}),
    ("hi", "conversation_state", {"messages": [{"role": "user", "content": "hi"}]}),
    ([1], "conversation_state", {"messages": [{"role": "user", "content": "[1]"}]}),
    ({"messages": []}, "conversation_state", {"messages": []}),
    ("é", "binary", b"\xc3\xa9"), (b"x", "binary", b"x"), ("x", "empty", None),
])
def test_a_content_type_makes_the_value_what_it_says(value: Any, content_type: str, made: Any) -> None:
    assert convert(value, content_type) == made


def test_a_text_that_is_not_json_is_no_object() -> None:
    with pytest.raises(TransformError, match=r"content_type object: the text '\{' is not JSON"):
        convert("{", "object")


def test_a_default_stands_in_for_a_part_that_is_not_there() -> None:
    apply = default_transforms().apply
    for value in ({}, {"a": None}, {"a": {}}, {"a": {"b": None}}, None):
        assert apply(value, [{"select": "a.b"}, {"default": 7}]) == 7
        assert apply(value, [{"select": "a.b", "default": 7}]) == 7
    assert apply([], [{"select": "[0]", "default": 7}]) == 7
    with pytest.raises(TransformError, match="the value is a str without 'a'"):  # it could never be there
        apply("text", [{"select": "a", "default": 7}])
    with pytest.raises(TransformError, match="the value is a dict without 'a'"):
        apply({}, [{"select": "a"}, {"format": "{{ value }}"}, {"default": 7}])


def test_no_key_is_lost_when_maps_are_flattened() -> None:
    with pytest.raises(TransformError, match=r"flatten: two keys would both be 'a\.b'"):
        default_transforms().apply({"a.b": 1, "a": {"b": 2}}, [{"flatten": True}])


def test_format_knows_the_value_and_the_keys_of_a_map() -> None:
    apply = default_transforms().apply
    assert apply(3, [TransformRule("format", "<{{ value }}>")]) == "<3>"
    assert apply({"a": 1, 2: 3}, [{"format": "{{ a }} of {{ value | length }}"}]) == "1 of 2"
    assert list(default_transforms().faults([{"format": "{{ a }}"}])) == []
    with pytest.raises(TransformError, match=r"format: .*unknown name 'a'"):
        apply(3, [{"format": "{{ a }}"}])


def test_an_unknown_transform_and_one_that_fails_are_named() -> None:
    transforms = default_transforms()
    with pytest.raises(TransformError, match="unknown transform 'selct': did you mean 'select'"):
        transforms.apply({}, [{"selct": "a"}])
    transforms.register("share", lambda value, argument: value / argument)
    with pytest.raises(TransformError, match="transform share: 0 of a int: ZeroDivisionError: ") as caught:
        transforms.apply(1, [{"share": 0}])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
