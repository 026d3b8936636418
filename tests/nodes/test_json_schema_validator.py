"""`json_schema_validator` lets pass what its schema allows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle import Engine
from treadle.diagram.check import check
from treadle.diagram.formats import loads
from treadle.nodes.json_schema_validator import InvalidValue
from treadle.nodes.registry import default_registry

Perform = Any
Write = Callable[[str, str], Path]
KIND = "json_schema_validator"
ORDER = {"type": "object", "required": ["id"],
         "properties": {"id": {"type": "integer"}, "to": {"type": "string", "format": "ipv4"}}}


def test_a_value_passes_unchanged(perform: Perform) -> None:
    assert perform(KIND, {"default": {"id": 1}}, schema=ORDER) == {"id": 1}
    assert perform(KIND, {"a": 1, "b": (2,)}, schema={"required": ["a"]}) == {"a": 1, "b": (2,)}


def test_a_failure_names_places_and_counts_the_rest(perform: Perform) -> None:
    with pytest.raises(InvalidValue, match=r"in 3 places: \$\[0\]: 'a' .*; and 2 more") as caught:
        perform(KIND, {"default": ["a", "b", "c"]}, schema={"items": {"type": "integer"}}, errors_max=1)
    assert caught.value.retryable is False


def test_an_invalid_value_may_leave_by_a_port(perform: Perform) -> None:
    found = perform.envelope(KIND, {"default": {"to": 3, "id": "x"}}, schema=ORDER, on_invalid="port")
    assert found.port == "invalid"
    assert found.body["value"] == {"to": 3, "id": "x"}
    assert [(one["path"], one["rule"]) for one in found.body["errors"]] == [
        ("$.id", "type"), ("$.to", "type")]
    assert perform.envelope(KIND, {"default": {"id": 1}}, schema=ORDER, on_invalid="port").port == "default"


def test_an_error_arrow_carries_the_errors_as_data(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("""
treadle: 1
nodes:
  begin: {type: start, custom_data: {a/b: [1, x], who: Ann}}
  valid:
    type: json_schema_validator
    needs: begin
    errors_max: 1
    schema: {properties: {a/b: {items: {$ref: "#/$defs/n"}}, who: {const: Bob}}, $defs: {n: {type: integer}}}
  bad: {type: template_job, text: "{{ valid.details.errors[0].path }} {{ valid.details.more }}"}
  whole: {type: endpoint}
  said: {type: endpoint, needs: bad}
arrows: [valid.error -> bad, valid.error -> whole]
""")
    found = run(tmp_path / "d.yaml")
    assert found["said"] == "$['a/b'][1] 1"
    assert found["whole"]["type"] == "InvalidValue" and "in 2 places" in found["whole"]["message"]
    assert found["whole"]["details"] == {"more": 1, "errors": [{
        "path": "$['a/b'][1]", "message": "'x' is not of type 'integer'", "rule": "type",
        "schema_path": "#/properties/a~1b/items/type"}]}


def test_every_item_of_a_map_is_checked(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text("""
treadle: 1
nodes:
  begin: {type: start, custom_data: {rows: [{id: 1}, {id: x}, {}]}}
  valid:
    type: json_schema_validator
    for_each: begin.rows
    on_item_error: collect
    needs: begin
    schema: {required: [id], properties: {id: {type: integer}}}
  done: {type: endpoint, needs: valid}
""")
    good, wrong, missing = run(tmp_path / "d.yaml")
    assert good == {"id": 1}
    assert "$.id: 'x' is not of type 'integer'" in wrong.message
    assert missing.error.details["errors"][0]["schema_path"] == "#/required"


def test_an_item_leaves_by_no_port_of_its_own() -> None:
    text = f"treadle: 1\nnodes: {{v: {{type: {KIND}, schema: true, on_invalid: port, for_each: x}}}}\n"
    faults = str(check(loads(text), default_registry()).errors)
    assert "on_item_error: collect" in faults


def run(file: Path) -> Any:
    async def script() -> Any:
        async with Engine.open(f"sqlite:///{file.parent}/runs.db") as engine:
            return await (await engine.start(file)).result()

    return asyncio.run(script())


def test_formats_count_unless_told_otherwise(perform: Perform) -> None:
    value = {"default": {"id": 1, "to": "1.2.3"}}
    with pytest.raises(InvalidValue, match=r"\$\.to: '1.2.3' is not a 'ipv4'"):
        perform(KIND, value, schema=ORDER)
    assert perform(KIND, value, schema=ORDER, formats=False) == value["default"]


def test_a_schema_may_be_a_file_of_an_older_draft(perform: Perform, write: Write) -> None:
    write("s.yaml", "$schema: http://json-schema.org/draft-07/schema#\nitems: [{type: integer}]\n")
    assert perform(KIND, {"default": [1, "x"]}, schema_file="s.yaml") == [1, "x"]
    with pytest.raises(InvalidValue, match=r"of 's.yaml' in 1 place: \$\[0\]"):
        perform(KIND, {"default": ["x"]}, schema_file="s.yaml")
    assert "draft-07" in perform.sources(KIND, schema_file="s.yaml")[0]


@pytest.mark.parametrize(("schema", "line", "said"), [
    ("\n      properties:\n        a: {type: intger}", 7, "at properties.a.type: 'intger' is not valid"),
    ("{$ref: 'https://example.org/s.json'}", 5, "nothing is fetched from elsewhere"),
    ("{$ref: '#/$defs/no'}", 5, "there is no such place in it"),
    ("{$schema: 'https://json-schema.org/draft/2020-13/schema'}", 5, "did you mean"),
    ("{properties: {a: {type: objct}}}", 5, "any of the given schemas: did you mean 'object'?"),
])
def test_check_finds_a_bad_schema(schema: str, line: int, said: str) -> None:
    spec = loads(f"treadle: 1\nnodes:\n  a:\n    type: {KIND}\n    schema: {schema}\n")
    (fault,) = check(spec, default_registry()).errors
    assert said in fault.message
    assert fault.where is not None
    assert fault.where.line == line


def test_a_reference_inside_works(perform: Perform) -> None:
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "array", "items": {"$ref": "#/$defs/t"}}}}
    assert perform(KIND, {"default": [[], [[]]]}, schema=tree) == [[], [[]]]


@pytest.mark.parametrize("properties", [{}, {"schema": True, "schema_file": "s.json"},
                                        {"schema": True, "errors_max": 0}, {"schema_file": "s.txt"}])
def test_mistakes_are_told(perform: Perform, properties: Any) -> None:
    with pytest.raises(ValueError, match=r"schema|errors_max"):
        perform.ports(KIND, **properties)
