"""What the light dialect's documentation shows its users, and the traps in their files."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import read

HEAD = "version: light\npersons: {P: {service: openai, model: m}}\n"


def reading(nodes: str, base: str = ".", connections: str = "[]") -> tuple[DiagramSpec, list[str]]:
    text = f"{HEAD}nodes:\n{textwrap.indent(textwrap.dedent(nodes), '- ')}\nconnections: {connections}\n"
    spec, faults = read(text, file="x.light.yaml", base=base)
    assert spec is not None
    return spec, [str(fault) for fault in faults]


def properties(node: str, base: str = ".") -> dict[str, Any]:
    spec, faults = reading(node, base)
    assert faults == []
    return spec.nodes[0].properties


@pytest.mark.parametrize(("said", "found"), [
    ("{label: a, type: code_job, code_type: python, filePath: a.py, functionName: go}",
     {"file": "a.py", "function": "go"}),
    ("{label: a, type: code_job, code: files/code/a.py, function_name: go}",
     {"file": "files/code/a.py", "function": "go"}),
    ("{label: a, type: db, operation: read, source_details: a.txt}", {"operation": "read", "file": "a.txt"}),
    ("{label: a, type: json_schema_validator, schema: {type: object}, strict: true}",
     {"schema": {"type": "object"}, "strict": True}),
    ("{label: a, type: endpoint, save_to_file: true, file_path: a.md, file_format: md}",
     {"save_to": "a.md", "save_as": "text"}),
    ("{label: a, type: person_job, person: P, default_prompt: x, tools: none, memorize_to: ALL_MESSAGES}",
     {"person": "P", "prompt": "x", "asks_max": 100, "memory": "all"}),
    ("{label: a, type: api_job, url: u, body: '{{{x}}}'}",
     {"url": "u", "method": "GET", "text": "{{ '{' }}{{ x }}}"}),
])
def test_documented_names_and_forms_are_known(said: str, found: dict[str, Any]) -> None:
    assert properties(said) == found


def test_both_names_of_one_property_must_agree() -> None:
    assert properties("{label: a, type: db, operation: read, file: a, source_details: a}")["file"] == "a"
    _, faults = reading("{label: a, type: db, operation: read, file: a, source_details: b}")
    assert faults == ["x.light.yaml:4: node 'a': source_details and file are two names of one property "
                      "(leave one out)"]


def test_what_is_for_the_page_may_stand_among_the_properties() -> None:
    spec, faults = reading(
        "{label: a, type: start, props: {flipped: true, position: {x: 1}}, metadata: {k: 1}}")
    assert (spec.nodes[0].page, faults) == ({"position": {"x": 1}, "flipped": True, "metadata": {"k": 1}}, [])


def test_an_editor_s_schema_is_no_fault() -> None:
    text = f"$schema: https://example.com/light.json\n{HEAD}nodes: [{{label: a, type: start}}]\n"
    assert read(text)[1] == []


def test_prompt_files_are_found_where_the_dialect_keeps_them(tmp_path: Path) -> None:
    (tmp_path / "files" / "prompts").mkdir(parents=True)
    (tmp_path / "files" / "prompts" / "ask.txt").write_text("Dear {{who}}")
    said = "{label: a, type: person_job, person: P, prompt_file: ask.txt}"
    assert properties(said, str(tmp_path))["prompt"] == "Dear {{ who }}"
    (tmp_path / "ask.txt").write_text("Here")
    assert properties(said, str(tmp_path))["prompt"] == "Here"


def test_what_a_model_would_choose_to_remember_is_a_warning() -> None:
    spec, faults = reading("{label: a, type: person_job, person: P, default_prompt: x, memorize_to: tests}")
    assert faults == [
        "x.light.yaml:4: warning: node 'a': memorize_to: 'tests': no model chooses here what is remembered; "
        "it is all of the person's own conversation (write GOLDFISH (nothing), or at_most: how many "
        "messages)"]
    assert "memory" not in spec.nodes[0].properties


def test_single_braces_in_a_file_s_name_are_text_with_a_warning() -> None:
    """Each turn of a loop would write the same file."""
    _, faults = reading('{label: a, type: db, operation: write, file: "out/{index}.txt"}')
    assert faults == ["x.light.yaml:4: warning: node 'a': file: {index} is text, and the same for every "
                      "value (write {{index}})"]
    assert properties('{label: a, type: db, operation: write, file: "out/{{index}}.txt"}')["file"] == (
        "out/{{ index }}.txt")


def test_labels_that_are_one_name_in_texts_are_a_fault() -> None:
    _, faults = reading("{label: a, type: start}\n{label: b, type: endpoint}",
                        connections="[{from: a, to: b, label: my var}, {from: a, to: b, label: my-var}, "
                                    "{from: a, to: b, label: my var}]")
    assert [fault for fault in faults if "warning" not in fault] == [
        "x.light.yaml:6: node 'b': the labels 'my var' and 'my-var' are one name in texts (rename one)"]
