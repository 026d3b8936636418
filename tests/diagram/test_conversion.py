"""Diagrams from one form into another: the same nodes, and every loss named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.formats import loads, read
from treadle.diagram.formats.conversion.forms import Form, convert
from treadle.errors import InvalidDiagram
from treadle.nodes.registry import default_registry

LIGHT = Path(__file__).parents[1] / "acceptance" / "light"
TYPES = default_registry()
EVERYTHING = """\
version: light
name: everything
description: One of each.
metadata: {author: Ann}
persons:
  Ann Lee: {service: openai, model: gpt-5-mini, api_key_id: OPENAI, system_prompt: "You are brief."}
nodes:
- {label: Begin here, type: START, position: {x: 1, y: 2}, custom_data: {limit: 3, topics: [a, b]}}
- {label: "a/b [x]", type: code_job, flipped: [true, false], code: "result = {'n': 1}", timeout: 5}
- label: script
  type: code_job
  props: {language: bash, code: "echo \\"$INPUT_n\\"\\n"}
- {label: check, type: condition, expression: "n.n ** 2 > 3 and not None", flipped: true}
- {label: seen, type: condition, condition_type: check_nodes_executed, node_indices: [script]}
- {label: call, type: api_job, url: "http://localhost/{{n.n}}", method: post, body: {a: "{{n}}"},
   auth_type: bearer, auth_config: {token: env:TOKEN}}
- {label: keep, type: db, operation: write, file: "out/{{limit}}.json", format: json}
- {label: inner, type: sub_diagram, diagram_data: {nodes: [{label: s, type: start}]}, batch: true,
   batch_input_key: topics, batch_parallel: false}
- {label: words, type: template_job, template_content: "{{#each topics}}{{@index}} {{this}}{{/each}}",
   variables: {v: "{{n}}"}}
- {label: ask, type: user_response, prompt: "Go on, {{n}}?", timeout: 60}
- {label: tell, type: hook, hook_type: shell, config: {command: "true"}, metadata: {note: 1}}
- {label: fits, type: json_schema_validator, json_schema: {type: object}, strict_mode: true}
- {label: End, type: endpoint, save_to_file: true, file_name: "{{limit}}.txt"}
connections:
- {from: Begin here, to: "a/b [x]"}
- {from: "a/b [x]", to: check, label: n, content_type: object}
- {from: "check[condtrue]", to: script, label: n}
- {from: check_condfalse, to: seen}
- {from: script, to: call, label: n}
- {from: script, to: keep, type: object}
- {from: Begin_here, to: inner}
- {from: script, to: words, label: n}
- {from: words, to: ask, label: n}
- {from: ask, to: tell}
- {from: tell, to: fits}
- {from: fits, to: End}
"""


def compiled(text: str, format: str = "yaml") -> ExecutableDiagram:
    spec = loads(text, base=str(LIGHT), format=format)  # type: ignore[arg-type]
    return compile_diagram(spec, TYPES)


def texts() -> list[Any]:
    found = [pytest.param(path.read_text(), id=path.name.partition(".")[0])
             for path in sorted(LIGHT.glob("*.yaml"))]
    return [*found, pytest.param(EVERYTHING, id="everything")]


def turned(text: str, to: Form, *, json_: bool = False, into_json: bool = False) -> str:
    return convert(text, to, file=str(LIGHT / "x.yaml"), format="json" if json_ else "yaml",
                   written="json" if into_json else "yaml")[0]


def same(one: ExecutableDiagram, other: ExecutableDiagram) -> None:
    """The same nodes in the same lineages: whatever runs, and whatever is kept of it, is the same."""
    assert [(node.id, node.fingerprint, node.lineage) for node in one.nodes] == [
        (node.id, node.fingerprint, node.lineage) for node in other.nodes]
    assert [node.page for node in one.spec.nodes] == [node.page for node in other.spec.nodes]
    assert one.spec.page == other.spec.page
    assert [(node.label, node.where is None) for node in one.spec.nodes] == [
        (node.label, node.where is None) for node in other.spec.nodes]


@pytest.mark.parametrize("text", texts())
def test_ours_of_a_light_diagram_is_the_same_diagram(text: str) -> None:
    ours = turned(text, "treadle")
    same(compiled(text), compiled(ours))
    assert turned(ours, "treadle") == ours, "written once, it stays"
    assert json.loads(turned(text, "treadle", into_json=True)) == yaml.safe_load(ours)


@pytest.mark.parametrize("text", texts())
def test_and_back_again(text: str) -> None:
    ours = turned(text, "treadle")
    light = turned(ours, "light")
    same(compiled(text), compiled(light))
    assert turned(turned(light, "treadle"), "light") == light


@pytest.mark.parametrize("text", texts())
def test_the_native_form_says_the_same(text: str) -> None:
    native = turned(text, "native", into_json=True)
    same(compiled(text), compiled(native, "json"))
    light = turned(native, "light", json_=True)
    assert turned(light, "native", into_json=True) == native
    assert turned(turned(text, "light"), "light") == turned(text, "light")
    assert yaml.safe_load(light) == yaml.safe_load(turned(text, "light")) | {
        "nodes": yaml.safe_load(light)["nodes"], "connections": yaml.safe_load(light)["connections"]}


def test_what_is_for_the_page_survives() -> None:
    light = yaml.safe_load(turned(turned(EVERYTHING, "native", into_json=True), "light", json_=True))
    nodes = {node["label"]: node for node in light["nodes"]}
    assert nodes["Begin here"]["position"] == {"x": 1, "y": 2}
    assert (nodes["a/b [x]"]["flipped"], nodes["check"]["flipped"]) == ([True, False], True)
    assert (nodes["tell"]["metadata"], light["metadata"]) == ({"note": 1}, {"author": "Ann"})
    assert nodes["script"]["language"] == "bash", "flat, whatever was under props"
    assert light["connections"][3] == {"from": "check[condfalse]", "to": "seen"}
    ours = yaml.safe_load(turned(EVERYTHING, "treadle"))
    assert ours["nodes"]["Begin here"]["page"] == {"position": {"x": 1, "y": 2}}
    assert ours["page"] == {"metadata": {"author": "Ann"}}
    assert ours["nodes"]["a_2f_b _5b_x_5d_"]["label"] == "a/b [x]"


def test_a_number_may_be_a_label() -> None:
    text = """\
version: light
nodes:
- {label: 1, type: start}
- {label: 2.5, type: condition, expression: "x > 1"}
- {label: e, type: endpoint}
connections:
- {from: 1, to: 2.5, label: x}
- {from: "2.5[condtrue]", to: e}
"""
    same(compiled(text), compiled(turned(text, "native", into_json=True), "json"))
    same(compiled(text), compiled(turned(text, "treadle")))


@pytest.mark.parametrize("text", ["version: light", "version: native", "treadle: 1\nnodes: {}", ""])
@pytest.mark.parametrize("to", ["treadle", "light", "native"])
def test_nothing_can_t_be_converted(text: str, to: Form) -> None:
    with pytest.raises(InvalidDiagram, match=r"has no nodes|is empty"):
        convert(text, to, file="d.yaml")


def test_it_is_written_as_people_write() -> None:
    """One line for a short node, code as it stands, and needs instead of plain arrows."""
    assert turned("""\
version: light
nodes:
- {label: s, type: start}
- {label: a, type: code_job, code: "x = 1\\nresult = {'x': x}\\n"}
- {label: c, type: condition, expression: "x > 0"}
- {label: e, type: endpoint}
connections:
- {from: s, to: a}
- {from: a, to: c}
- {from: c_condtrue, to: e}
- {from: a, to: e, label: also}
""", "treadle") == """\
treadle: 1
name: x
open: true
nodes:
  s: {type: start}
  a:
    type: code_job
    needs: s
    timeout: 30
    code: |
      x = 1
      result = {'x': x}
  c: {type: condition, needs: a, when: x > 0}
  e: {type: endpoint, needs: c.true}
arrows:
- a -> e.also
"""


LABELS = st.text(st.sampled_from("ab _~[]/-.ü1"), min_size=1, max_size=5).map(str.strip).filter(bool)
PAGE = st.fixed_dictionaries({}, optional={
    "position": st.just({"x": 1, "y": 2}), "flipped": st.booleans(), "metadata": st.just({"k": [1]})})


@st.composite
def diagrams(draw: st.DrawFn) -> dict[str, Any]:
    labels = draw(st.lists(LABELS, min_size=1, max_size=5, unique=True))
    nodes = [{"label": label, "type": draw(st.sampled_from(["start", "endpoint", "condition", "person_job"])),
              **draw(PAGE)} for label in labels]
    for node in nodes:
        if node["type"] == "condition":
            node["expression"] = "1 > 0"
        if node["type"] == "person_job":
            node |= {"person": "P", "default_prompt": "hi {{x}}"}
    ends = [(one, other) for one in nodes for other in nodes if one is not other]
    connections = []
    for one, other in draw(st.lists(st.sampled_from(ends), max_size=4)) if ends else ():
        port = draw(st.sampled_from(["[condtrue]", "[condfalse]"])) if one["type"] == "condition" else ""
        into = draw(st.sampled_from(["", "[first]"])) if other["type"] == "person_job" else ""
        more = draw(st.fixed_dictionaries({}, optional={
            "label": st.sampled_from(["x", "my x", "first"]), "content_type": st.just("object")}))
        connections.append({"from": one["label"] + port, "to": other["label"] + into, **more})
    return {"version": "light", "name": "d", "persons": {"P": {"model": "script"}}, "nodes": nodes,
            "connections": connections}


@given(diagrams())
def test_any_diagram_survives_the_native_form(light: dict[str, Any]) -> None:
    text = json.dumps(light)
    _, faults = read(text, format="json")
    if any(not fault.warning for fault in faults):  # labels that one may take for each other
        return
    native = turned(text, "native", json_=True, into_json=True)
    again = json.loads(turned(native, "light", json_=True, into_json=True))
    assert again == light
    specs = [read(one, format="json")[0] for one in (text, native)]
    assert _plain(specs[0]) == _plain(specs[1])


@given(diagrams())
def test_any_diagram_survives_ours(light: dict[str, Any]) -> None:
    text = json.dumps(light)
    spec, faults = read(text, format="json")
    if any(not fault.warning for fault in faults):
        return
    ours = turned(text, "treadle", json_=True)
    assert turned(ours, "treadle") == ours
    back = turned(ours, "light")
    for one in (read(ours)[0], read(back)[0]):
        assert _plain(one, by_target=True) == _plain(spec, by_target=True)


def _plain(spec: DiagramSpec | None, *, by_target: bool = False) -> Any:
    assert spec is not None
    arrows = sorted(spec.arrows, key=lambda arrow: arrow.target) if by_target else spec.arrows
    return ([(node.id, node.label, node.type, node.properties, node.policy, node.page)
             for node in spec.nodes],
            [(str(arrow), arrow.input == "first" if arrow.first is None else arrow.first, arrow.content_type)
             for arrow in arrows], spec.persons,
            [(loop.entry, loop.max_iterations) for loop in spec.loops])


def test_what_the_dialect_has_no_words_for_is_named_with_its_line() -> None:
    text = """\
treadle: 1
inputs: {n: integer}
deadline: 3
persons:
  Ann: {model: "openai:m", memory: all}
nodes:
  begin: {type: start}
  go: {type: code_job, code: "1", retries: 2, needs: begin}
  c: {type: condition, switch: go, cases: [a], needs: go}
  z: {type: sleep, seconds: 3, needs: c.a}
  t: {type: condition, when: "{{ go | upper }}", needs: go}
  p: {type: template_job, text: "{{ iteration }}", output_path: "{{ a + 1 }}"}
arrows:
- {from: go, to: t.x, transform: [{select: a}]}
"""
    with pytest.raises(InvalidDiagram) as caught:
        convert(text, "light", file="d.yaml")
    assert [str(fault) for fault in caught.value.faults] == [
        "d.yaml:1: the light dialect has no 'deadline'",
        "d.yaml:5: person 'Ann': the light dialect has no 'memory'",
        "d.yaml:8: node 'go': the light dialect has no 'retries' of a code_job",
        "d.yaml:9: node 'c': the light dialect has no 'switch' of a condition",
        "d.yaml:9: node 'c': the light dialect has no 'cases' of a condition",
        "d.yaml:10: node 'z': the light dialect has no node type 'sleep'",
        "d.yaml:10: arrow 'c.a -> z': the light dialect has no port 'a'",
        "d.yaml:11: node 't': its texts ask for the node 'go', and the light dialect knows labels only "
        "(label the arrow: go -> t.go)",
        "d.yaml:11: node 't': when: the light dialect has no filter `upper`",
        "d.yaml:12: node 'p': its texts ask for 'iteration', and the light dialect has no such name",
        "d.yaml:12: node 'p': output_path: the light dialect has no computing in templates, only names such "
        "as a.b[0].c",
        "d.yaml:14: arrow 'go -> t.x': the light dialect has no 'transform'"]


def test_a_node_that_a_text_asks_for_becomes_the_label_of_its_arrow() -> None:
    ours = """\
treadle: 1
name: x
nodes:
  begin: {type: start, custom_data: {n: 3}}
  c: {type: condition, when: "begin.n > 2", needs: begin}
  t: {type: template_job, text: "{{ c.n }} of {{ default.n }}", needs: c.true}
"""
    with pytest.raises(InvalidDiagram, match=r"node 't': its texts ask .*\(label the arrow: c -> t.c\)"):
        turned(ours, "light")
    light = yaml.safe_load(turned(ours.replace("default", "c"), "light"))
    assert light["connections"] == [{"from": "begin", "to": "c", "label": "begin"},
                                    {"from": "c[condtrue]", "to": "t", "label": "c"}]


def test_what_would_be_read_as_something_else_is_named() -> None:
    """A file never says less than it was made of: what is written is read again and compared."""
    text = """\
treadle: 1
nodes:
  a: {type: start}
  c: {type: condition, when: "x > 1"}
  e: {type: endpoint}
arrows:
- {from: a, to: c.x, content_type: object}
- c.true -> e
"""
    with pytest.raises(InvalidDiagram) as caught:
        convert(text, "light", file="d.yaml")
    assert [str(fault) for fault in caught.value.faults] == [
        "d.yaml:8: arrow 'c.true -> e': the light dialect would make it 'c.true -> e' with content_type "
        "object"]
    text = "treadle: 1\nnodes:\n  e: {type: person_job, person: P, prompt: hi, output: no model}\n"
    with pytest.raises(InvalidDiagram, match=r"d.yaml:3: node 'e': in the light dialect, text_format: it "):
        convert(text, "light", file="d.yaml")


def test_inputs_become_variables_and_the_data_of_a_start() -> None:
    ours = """\
treadle: 1
inputs: {n: {default: 3}, who: string}
nodes:
  begin: {type: start, custom_data: {k: 1}}
  c: {type: condition, when: "inputs.n > 2", needs: begin}
  t: {type: template_job, text: "{{ inputs.who }} inputs.n", needs: c.true}
"""
    text, faults = convert(ours, "light", file="d.yaml")
    assert [str(fault) for fault in faults] == [
        "d.yaml:1: warning: the light dialect knows no types of inputs: who"]
    light = yaml.safe_load(text)
    assert light["nodes"][0]["custom_data"] == {"n": 3, "k": 1}
    assert (light["nodes"][1]["expression"], light["nodes"][2]["template_content"]) == (
        "n > 2", "{{ who }} inputs.n")
    nobody = ours.replace("{type: start, custom_data: {k: 1}}", "{type: endpoint}")
    with pytest.raises(InvalidDiagram, match="custom_data of a start node, and there is none for n"):
        convert(nobody, "light", file="d.yaml")
    hidden = ours.replace(", needs: c.true", "") + "arrows:\n- c.true -> t.n\n"
    with pytest.raises(InvalidDiagram, match="node 't': the label 'n' of an arrow would hide the input"):
        convert(hidden, "light", file="d.yaml")


@pytest.mark.parametrize("properties", [
    '{type: api_job, url: "http://localhost", text: "[1]"}', '{type: api_job, url: u, text: "{{ a }}"}',
    '{type: api_job, url: u, json: "q", method: GET}', '{type: api_job, url: u, json: "{{ a }}"}',
    '{type: code_job, call: "tasks:find"}', "{type: code_job, file: a.py, function: f, arguments: {k: 1}}",
    "{type: condition, llm: {person: P, question: 'ok {{ x }}?', tries: 1}}",
    "{type: condition, llm: {person: P, question: ok, tries: 1, memory: window(3)}}",
    "{type: condition, llm: {person: P, question: ok, tries: 1, memory: own}}",
    "{type: person_job, person: P, memory: own}",
    '{type: code_job, code: "1", timeout: 2.5}',
    "{type: endpoint, save_to: a.json}", "{type: endpoint, save_to: a.csv, save_as: csv}",
    "{type: person_job, person: P}", "{type: person_job, person: P, memory: window(3), asks_max: 100}",
    '{type: sub_diagram, diagram: {nodes: {a: {type: start}}}}',
    "{type: hook, kind: shell, command: ls, result: output, retries: 2}"])
def test_what_only_looks_different_can_be_said(properties: str) -> None:
    light = turned(f"treadle: 1\npersons: {{P: {{model: script}}}}\nnodes:\n  n: {properties}\n", "light")
    assert turned(turned(light, "treadle"), "light") == light


NATIVE = """{
  "nodes": {
    "n1": {"type": "start", "label": "begin", "data": {}},
    "n2": {"type": "endpoint", "data": {"label": "begin", "flipped": true, "nope": 1}, "speed": 3},
    "n3": {"id": "n4", "type": "endpoint"}
  },
  "handles": {
    "h1": {"node_id": "n1", "label": "default", "direction": "output", "data_type": "any"},
    "h2": {"node_id": "n2", "label": "default", "direction": "input"},
    "h3": {"node_id": "n9", "label": "default", "direction": "inwards"}
  },
  "arrows": {
    "a1": {"source": "h1", "target": "h2", "content_type": null, "data": {"branch": "true"}},
    "a2": {"source": "h2", "target": "h7"},
    "a3": {"source": "n1_default_output", "target": "n3_default_input"},
    "a4": {"target": "h2", "execution_priority": 2}
  },
  "persons": {"p": {"label": "P", "llm_config": 3}}
}
"""


def test_faults_of_the_native_form_have_their_lines() -> None:
    spec, faults = read(NATIVE, file="d.json", format="json")
    assert [str(fault) for fault in faults] == [
        "d.json:18: person 'p': llm_config must be a map",
        "d.json:5: nodes: the id 'n4' stands under the key 'n3'",
        "d.json:4: node 'n2' has no key 'speed' (there is: id, label, type, position, flipped, metadata, "
        "data, props)",
        "d.json:10: handle 'h3': there is no node 'n9'",
        "d.json:10: handle 'h3': its direction is input or output, not 'inwards'",
        "d.json:14: arrow 'a2': an arrow leaves by no input, and 'h2' is one",
        "d.json:14: arrow 'a2': there is no handle 'h7'",
        "d.json:16: arrow 'a4' has no source (name a handle)",
        "d.json:16: warning: arrow 'a4': execution_priority means nothing here",
        "d.json:18: person 'P' has no model (write: model: its name)",
        "d.json:4: node 'begin~1': an endpoint has no property 'nope' (there is: file_format, file_name, "
        "file_path, save_to_file)"]
    assert spec is not None
    assert [(node.label or node.id, node.page) for node in spec.nodes] == [
        ("begin", {}), ("begin~1", {"flipped": True}), ("n3", {})]


def test_lists_of_entries_with_ids_are_read_too() -> None:
    """As programs export it: lists, and a type name in every map."""
    text = json.dumps({
        "version": "native",
        "nodes": [{"__typename": "Node", "id": "n1", "type": "start", "data": {"label": "s"}},
                  {"id": "n2", "type": "person_job",
                   "data": {"label": "w", "person": "p1", "default_prompt": "x"}}],
        "handles": [{"id": "o", "node_id": "n1", "label": "default", "direction": "output"},
                    {"id": "i", "node_id": "n2", "label": "first", "direction": "input"}],
        "arrows": [{"id": "a", "source": "o", "target": "i", "label": "topic"}],
        "persons": [{"id": "p1", "label": "Ann", "llm_config": {"service": "openai", "model": "m"}}]})
    assert yaml.safe_load(turned(text, "light", json_=True)) == {
        "version": "light", "persons": {"Ann": {"service": "openai", "model": "m"}},
        "nodes": [{"label": "s", "type": "start"},
                  {"label": "w", "type": "person_job", "person": "Ann", "default_prompt": "x"}],
        "connections": [{"from": "s", "to": "w[first]", "label": "topic"}]}
    nodes = [{"type": "start"}, {"id": "a"}, {"id": "a"}]
    _, faults = read(json.dumps({"nodes": nodes, "handles": 3, "arrows": {}}), format="json")
    assert [fault.message for fault in faults][:3] == [
        "an entry of nodes has no id", "nodes: the id 'a' stands here a second time",
        "'handles' must be a map"]
