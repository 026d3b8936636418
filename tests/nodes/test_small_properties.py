"""Properties that say a little more of a node: of code, files, templates and schemas."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Perform = Any
Write = Callable[[str, str], Path]


def test_code_can_say_which_of_its_functions_to_call(perform_warm: Perform) -> None:
    perform, code = perform_warm, "def one(x): return [1, x]\ndef two(x, **more): return [2, x, more]\n"
    assert perform("code_job", {"default": 5}, code=code, function="one") == [1, 5]
    assert perform("code_job", {"x": 5, "y": 6}, code=code, function="two") == [2, 5, {"y": 6}]
    assert perform("code_job", {"x": 5}, code=f"{code}one") == [1, 5], "or name it in its last line"
    with pytest.raises(ValueError, match="no function 'ono': did you mean 'one'"):
        perform("code_job", code=code, function="ono")
    with pytest.raises(ValueError, match="no function 'f': it has none"):
        perform("code_job", code="x = 1", function="f")
    with pytest.raises(ValueError, match="belongs to `file` and `code`"):
        perform.ports("code_job", call="m:f", function="f")


def test_a_text_of_json_can_be_written_as_what_it_says(perform: Perform, write: Write) -> None:
    path = write("a.json", "{}")
    for value, found in (('{"a": 1}', {"a": 1}), ("[1]", [1]), ("{a", "{a"), ("7", "7"),
                         ({"b": 2}, {"b": 2})):
        perform("db", {"default": value}, operation="write", file="a.json", parse=True)
        assert json.loads(path.read_text()) == found
    perform("db", {"default": '{"c": [3]}'}, operation="update", file="a.json", key="b", parse=True)
    assert json.loads(path.read_text()) == {"b": {"c": [3]}}
    perform("db", {"default": '{"x": 1}'}, operation="write", file="a.json")
    assert json.loads(path.read_text()) == '{"x": 1}', "unless it is asked for it stays a text"


def test_an_update_without_a_key_sets_the_keys_of_a_map(perform: Perform, write: Write) -> None:
    path = write("a.yaml", "# who\nname: Ann  # she\nage: 3\n")
    assert perform("db", {"default": {"age": 4, "a.b": 1}}, operation="update", file="a.yaml") == {
        "age": 4, "a.b": 1}
    assert path.read_text() == "# who\nname: Ann  # she\nage: 4\na.b: 1\n"
    with pytest.raises(ValueError, match=r"'a\.yaml': without `key` its keys are set, and the value is"):
        perform("db", {"default": 3}, operation="update", file="a.yaml")
    write("l.json", "[1]")
    with pytest.raises(ValueError, match="and the file is a list, not a map"):
        perform("db", {"default": {"a": 1}}, operation="update", file="l.json")


def test_several_places_of_a_file(perform: Perform, write: Write) -> None:
    write("a.json", '{"a": {"b": 1}, "c": [2, 3]}')
    assert perform("db", operation="read", file="a.json", key=["a.b", "c[1]"]) == {"a.b": 1, "c[1]": 3}
    assert perform("db", operation="read", file="a.json", key=["a"]) == {"a": {"b": 1}}
    with pytest.raises(LookupError, match=r"key 'a\.x'"):
        perform("db", operation="read", file="a.json", key=["a.b", "a.x"])
    with pytest.raises(ValueError, match="update takes one `file` and one `key`"):
        perform("db", {"default": 1}, operation="update", file="a.json", key=["a", "b"])
    with pytest.raises(ValueError, match="is no place"):
        perform.ports("db", operation="read", file="a.json", key=["a", "b["])


def test_an_endpoint_may_say_the_format_of_its_file(perform: Perform, tmp_path: Path) -> None:
    perform("endpoint", {"default": {"a": 1}}, save_to="x.txt", save_as="yaml")
    assert (tmp_path / "x.txt").read_text() == "a: 1\n"
    perform("endpoint", {"default": {"a": 1}}, save_to="x.csv", save_as="text")
    assert json.loads((tmp_path / "x.csv").read_text()) == {"a": 1}
    perform("endpoint", {"default": "as it is"}, save_to="x.json", save_as="json")
    assert (tmp_path / "x.json").read_text() == "as it is"


def test_a_template_may_have_variables(perform: Perform) -> None:
    variables = {"who": "to {{ name }}", "n": "{{ rows | length }}", "own": [1, "{{ name }}"], "name": "lost"}
    assert perform("template_job", {"name": "Ann", "rows": [1, 2]}, variables=variables,
                   text="{{ who }} {{ n + 1 }} {{ own }} {{ name }}") == 'to Ann 3 [1, "Ann"] Ann'
    with pytest.raises(ValueError, match="template"):
        perform.ports("template_job", text="x", variables={"a": "{{ b"})


SCHEMA = {"type": "object", "properties": {
    "a": {"type": "object", "properties": {"x": {}}},
    "b": {"type": "array", "items": {"properties": {"y": {}}}},
    "c": {"properties": {}, "additionalProperties": True},
    "d": {"allOf": [{"properties": {"z": {}}}], "properties": {"w": {}}},
    "e": {"enum": [{"properties": {"k": 1}}]}}}


@pytest.mark.parametrize(("value", "fits"), [
    ({"a": {"x": 1}, "b": [{"y": 1}], "c": {"q": 1}, "d": {"z": 1}}, True), ({"q": 1}, False),
    ({"a": {"q": 1}}, False), ({"b": [{"q": 1}]}, False), ({"d": {"z": 1, "w": 1}}, True),
    ({"e": {"properties": {"k": 1}}}, True)])
def test_a_strict_schema_allows_what_it_names(perform: Perform, value: Any, fits: bool) -> None:
    assert perform("json_schema_validator", {"default": value}, schema=SCHEMA) == value
    if fits:
        assert perform("json_schema_validator", {"default": value}, schema=SCHEMA, strict=True) == value
    else:
        with pytest.raises(ValueError, match="Additional properties are not allowed"):
            perform("json_schema_validator", {"default": value}, schema=SCHEMA, strict=True)
