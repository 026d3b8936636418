"""What a light file says, and what is wrong with it: each fault with its line and what to do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from treadle.diagram.formats import dumps, load, loads
from treadle.errors import InvalidDiagram

if TYPE_CHECKING:
    from .conftest import Light


def spec_of(light: Light, text: str) -> Any:
    return load(light.write(text))


def test_a_light_file_is_a_diagram_like_any_other(light: Light) -> None:
    spec = spec_of(light, """
        version: Light
        name: two
        description: what for
        metadata: {author: Ann}
        nodes:
        - {label: begin, type: START, custom_data: {n: 1}, position: {x: 10, y: 20}}
        - label: go on
          type: Code_Job
          flipped: true
          props: {code: "result = n", timeout: 5}
        - {label: done, type: endpoint}
        connections:
        - begin -> go on: seed
        - {from: go on, to: done, type: raw_text}
        """)
    assert (spec.name, spec.description, spec.open, spec.page) == (
        "two", "what for", True, {"metadata": {"author": "Ann"}})
    assert [(node.id, node.type) for node in spec.nodes] == [
        ("begin", "start"), ("go on", "code_job"), ("done", "endpoint")]
    assert spec.nodes[0].page == {"position": {"x": 10, "y": 20}}
    assert (spec.nodes[1].policy.timeout, spec.nodes[1].page) == (5, {"flipped": True})
    assert [(str(arrow), arrow.content_type) for arrow in spec.arrows] == [
        ("begin -> go on.seed", None), ("go on -> done", "raw_text")]
    assert [node.where.line for node in spec.nodes] == [6, 7, 11]
    assert loads(dumps(spec)).nodes == tuple(
        type(node)(**{**{name: getattr(node, name) for name in node.__struct_fields__},
                      "where": mine.where, "places": mine.places})
        for node, mine in zip(spec.nodes, loads(dumps(spec)).nodes, strict=True))


def test_it_may_be_json(light: Light) -> None:
    path = light.folder / "x.light.json"
    path.write_text(json.dumps({"version": "light", "nodes": [{"label": "s", "type": "start"}]}))
    assert [node.id for node in load(path).nodes] == ["s"]


def test_flat_goes_before_props_and_dots_make_maps(light: Light) -> None:
    spec = spec_of(light, """
        nodes:
        - {label: a, type: start, custom_data.x.y: 1, custom_data.z: 2}
        - {label: b, type: start, custom_data: {x: 1}, props: {custom_data: {y: 2}, trigger_mode: manual}}
        - {label: c, type: start, custom_data.x.y: 1, props: {custom_data: {x: {z: 2}}}}
        - {label: d, type: code_job, code: "1", timeout: null, props: {code: "2"}}
        - {label: e, type: start, custom_data.x: 1, props.custom_data: {x: 0, y: 2}}
        """)
    assert spec.nodes[4].properties["custom_data"] == {"x": 1, "y": 2}
    assert [node.properties.get("custom_data") for node in spec.nodes[:3]] == [
        {"x": {"y": 1}, "z": 2}, {"x": 1}, {"x": {"z": 2, "y": 1}}]
    assert (spec.nodes[3].properties, spec.nodes[3].policy.timeout) == ({"code": "1"}, 30)


def test_a_dotted_key_that_meets_no_map(light: Light) -> None:
    assert light.faults("nodes: [{label: a, type: start, custom_data: 3, custom_data.x: 1}]") == [
        "2: 'custom_data.x': 'custom_data' is no map (write it in one way)",
        "2: custom_data: expected a text or a map, not an integer"]


@pytest.mark.parametrize(("end", "found"), [
    ("Check It[condtrue]", "Check It.true"), ("Check_It_condtrue", "Check It.true"),
    ("Check It condfalse", "Check It.false"), ("Check_It[condFalse]", "Check It.false"),
    ("Check It[error]", "Check It.error")])
def test_handles_that_arrows_leave_by(light: Light, end: str, found: str) -> None:
    spec = spec_of(light, f"""
        nodes: [{{label: Check It, type: condition, expression: "1"}}, {{label: e, type: endpoint}}]
        connections: [{{from: "{end}", to: e}}]
        """)
    assert str(spec.arrows[0]) == f"{found} -> e"


@pytest.mark.parametrize(("end", "found"), [
    ("Write", "Write"), ("Write[default]", "Write"), ("Write_first", "Write.first"),
    ("Write Draft", "Write Draft"), ("Write_Draft", "Write Draft"),
    ("Write_Draft_first", "Write Draft.first"),
    ("is_first", "is_first"), ("is_first_first", "is_first.first"), ("a.b[0]", "a_2e_b_5b_0_5d_"),
    ("a.b[0][first]", "a_2e_b_5b_0_5d_.first"), ("größe 本", "größe 本"), ("größe_本", "größe 本")])
def test_the_longest_label_wins(light: Light, end: str, found: str) -> None:
    labels = ("Write", "Write Draft", "is_first", "is", "a.b[0]", "größe 本")
    nodes = "".join(f"\n- {{label: '{label}', type: endpoint}}" for label in labels)
    spec = spec_of(light, f"version: light\nnodes:{nodes}\nconnections: [{{from: Write, to: '{end}'}}]")
    assert str(spec.arrows[0]) == f"Write -> {found}"


def test_a_label_may_stand_twice_if_nobody_asks_which(light: Light) -> None:
    text = """
        nodes:
        - {label: s, type: start}
        - {label: A, type: endpoint}
        - {label: A, type: endpoint}
        - {label: A~1, type: endpoint}
        connections:
        - s -> A~1
        - s -> A~2
        """
    assert light.faults(text) == []
    assert [node.label or node.id for node in spec_of(light, text).nodes] == ["s", "A", "A~2", "A~1"]
    assert light.faults(text.replace("A~2\n", "A~2\n        - s -> A\n")) == [
        "10: to: 2 nodes have the label 'A', those in lines 4 and 5 (rename one, here too)"]


def test_a_name_that_two_labels_could_be(light: Light) -> None:
    assert light.faults("""
        nodes: [{label: s, type: start}, {label: a_b c, type: endpoint}, {label: a b_c, type: endpoint}]
        connections: [{from: s, to: a_b_c}]
        """) == ["3: to: 'a_b_c' could be 'a_b c' or 'a b_c' (write the label as it is)"]


def test_labels_may_be_numbers(light: Light) -> None:
    spec = spec_of(light, "nodes: [{label: 1, type: start}, {label: 2.5, type: endpoint}]\n"
                          "connections: [{from: 1, to: 2.5}]")
    assert [str(arrow) for arrow in spec.arrows] == ["1 -> 2_2e_5"]


def test_a_label_wins_over_the_handle_first(light: Light) -> None:
    spec = spec_of(light, """
        nodes: [{label: s, type: start}, {label: p, type: endpoint}]
        connections:
        - s -> p[first]
        - s -> p[first]: topic
        - s -> p: first
        - s -> p: default
        """)
    assert [(arrow.input, arrow.first) for arrow in spec.arrows] == [
        ("first", None), ("topic", True), ("first", False), ("default", None)]


def test_conditions_hand_on_the_type_that_all_their_arrows_have(light: Light) -> None:
    spec = spec_of(light, """
        nodes:
        - {label: s, type: start}
        - {label: c, type: condition, expression: "1"}
        - {label: d, type: condition, expression: "1"}
        - {label: m, type: condition, expression: "1"}
        - {label: e, type: endpoint}
        connections:
        - {from: s, to: c, content_type: object}
        - c[condtrue] -> d
        - {from: "c[condfalse]", to: e, content_type: raw_text}
        - d[condtrue] -> e: a
        - {from: s, to: m, label: x, content_type: object}
        - s -> m: y
        - m[condtrue] -> e: b
        """)
    assert [arrow.content_type for arrow in spec.arrows] == [
        "object", "object", "raw_text", "object", "object", None, None]


def test_of_several_heads_of_a_loop_the_first_in_the_file_is_it(light: Light) -> None:
    text = """
        nodes:
        - {{label: s, type: start}}
        - {{label: {0}, type: code_job, code: "1"}}
        - {{label: {1}, type: code_job, code: "1"}}
        - {{label: c, type: condition, expression: "1"}}
        connections:
        - s -> a
        - s -> b
        - a -> b: x
        - b -> c
        - c[condfalse] -> a: y
        """
    assert light.faults(text.format("a", "b")) == light.faults(text.format("b", "a")) == []
    assert [loop.entry for loop in spec_of(light, text.format("a", "b")).loops] == ["a"]
    assert [loop.entry for loop in spec_of(light, text.format("b", "a")).loops] == ["b"]


def test_a_loop_may_turn_as_often_as_its_people_may_be_asked(light: Light) -> None:
    text = """
        persons: {P: {model: script}}
        nodes:
        - {label: s, type: start}
        - {label: a, type: person_job, person: P, max_iteration: 150}
        - {label: b, type: person_job, person: P}
        - {label: c, type: condition, condition_type: detect_max_iterations}
        connections:
        - s -> a
        - s -> b
        - a -> b: x
        - b -> c
        - c[condfalse] -> a: y
        """
    assert [(loop.entry, loop.max_iterations) for loop in spec_of(light, text).loops] == [("a", 151)]
    said = text.replace("        nodes:", "        loops: [{entry: a, max_iterations: 7, on_limit: exit}]\n"
                                           "        nodes:")
    assert [(loop.max_iterations, loop.on_limit) for loop in spec_of(light, said).loops] == [(7, "exit")]
    wrong = said.replace("entry: a", "entry: q")
    assert light.faults(wrong) == ["3: loops: there is no node 'q' (there is: s, a, b, c)"]
    assert light.faults(said.replace("7", "many").replace("exit", "exi")) == [
        "3: max_iterations: expected an integer, not a text",
        "3: on_limit: 'exi' is not one of fail, exit (did you mean 'exit'?)"]


def test_a_loop_that_nothing_starts(light: Light) -> None:
    loop = """
        nodes:
        - {label: a, type: code_job, code: "1"}
        - {label: c, type: condition, expression: "1"}
        connections:
        - a -> c
        - c[condfalse] -> a
        """
    assert light.faults(loop) == [], "without any start the first in the file begins"
    assert light.faults(loop.replace("nodes:", "nodes:\n        - {label: s, type: start}")) == [
        "4: nothing starts the loop of 'a', 'c': no arrow enters it from outside (name it: loops: "
        "[{entry: a}])"]


def test_persons_and_their_keys(light: Light) -> None:
    spec = spec_of(light, """
        persons:
          Ann: {service: openai, model: gpt-5-mini, api_key_id: K, system_prompt: "You like {{topic}}."}
          Bob: {service: Claude, model: opus, api_key_id: second}
          Eve: {service: ollama, model: qwen3, api_key_id: "env:MINE"}
          Tom: {model: script}
        api_keys:
          second: {service: anthropic, key: "env:ANTHROPIC_API_KEY"}
        nodes: [{label: s, type: start}]
        """)
    assert [(one.model, one.api_key) for one in spec.persons.values()] == [
        ("openai:gpt-5-mini", "secret://K"), ("anthropic:opus", "env:ANTHROPIC_API_KEY"),
        ("ollama:qwen3", "env:MINE"), ("script", None)]
    assert spec.persons["Ann"].system_prompt == "You like {{ topic }}."


def test_a_key_in_the_clear_is_not_quoted(light: Light) -> None:
    found = light.faults("""
        persons: {Ann: {service: openai, model: m, api_key_id: K}}
        api_keys: {K: sk-1234}
        nodes: [{label: s, type: start}]
        """)
    assert found == ["3: api key 'K' must name a secret, as in env:NAME or secret://NAME: a key itself has "
                     "no place in a diagram"]


def test_faults_of_the_whole_file(light: Light) -> None:
    assert light.faults("""
        nmae: x
        nodes:
        - {label: s, type: start, custom_dat: {a: 1}, trigger_mode: hook}
        - {lable: x, type: endpoint}
        - {label: y, type: endpont}
        - {label: z}
        - text
        connections:
        - {from: s, to: y, lbael: z}
        - {from: s, two: y}
        - {from: s, to: nobdy}
        - {from: s, to: "y[foo]"}
        - {from: "s[condtrue]", to: y, label: a}
        - {from: s, to: y, label: b, content_type: objekt}
        - {from: s, to: y, label: c, content_type: object, type: raw_text}
        persons:
          P: {servce: openai}
          Q: {service: opnai, model: m}
        """) == [
        "2: a light diagram has no key 'nmae' (did you mean 'name'?)",
        "4: a start has no property 'custom_dat' (did you mean 'custom_data'?)",
        "5: the node has no label (is 'lable' meant for it?)",
        "5: an endpoint has no property 'lable' (did you mean 'label'?)",
        "6: there is no node type 'endpont' (did you mean 'endpoint'?)",
        "7: the node has no type (there is: start, endpoint, person_job, condition, code_job, api_job, db, "
        "sub_diagram, template_job, user_response, hook, json_schema_validator)",
        "8: a node must be a map, not 'text'",
        "10: a connection has no key 'lbael' (did you mean 'label'?)",
        "11: a connection has no key 'two' (did you mean 'to'?)",
        "11: the connection has no 'to' (write: {from: Label, to: Label})",
        "12: to: there is no node 'nobdy' (there is: s, line 5, y, z)",
        "13: 'y[foo]': there is no handle 'foo' where an arrow enters (there is: default, first; a name in "
        "the target is the connection's `label`)",
        "14: connection 's -> y': only a condition has the handle condtrue",
        "15: content_type: there is no content type 'objekt' (did you mean 'object'?)",
        "16: content_type and type are two names of one thing, and differ (leave one out)",
        "18: person 'P' has no key 'servce' (did you mean 'service'?)",
        "18: person 'P' has no model (write: model: its name)",
        "19: person 'Q': there is no service 'opnai' (did you mean 'openai'?)"]


def test_faults_of_nodes(light: Light) -> None:
    (light.folder / "bad.txt").write_bytes(b"\xff\xfe")
    found = light.faults("""
        nodes:
        - {label: a, type: start, trigger_mode: hook}
        - {label: b, type: start, custom_data: "[1]"}
        - {label: c, type: endpoint, save_to_file: true}
        - {label: d, type: code_job, language: typescript, code: x}
        - {label: e, type: code_job, code: x, file_path: y}
        - {label: f, type: code_job, code: "def main(): return 1", function_name: man}
        - {label: g, type: code_job, language: bash, code: ls, function_name: x}
        - {label: h, type: condition}
        - {label: i, type: condition, expression: "x >"}
        - {label: j, type: condition, condition_type: llm_decision, judge_by: x}
        - {label: k, type: condition, condition_type: detect_max_iterations}
        - {label: l, type: condition, condition_type: check_nodes_executed, node_indices: [a, q]}
        - {label: m, type: template_job, template_path: no.txt}
        - {label: n, type: template_job, template_path: bad.txt}
        - {label: o, type: template_job, template_content: "{{#if x}}{{/each}}"}
        - {label: p, type: db, operation: read}
        - {label: r, type: hook, hook_type: shell, url: x}
        - {label: t, type: api_job, url: "http://x", auth_type: bearer, auth_config: {tokn: x}}
        - {label: u, type: api_job, url: "http://x", auth_type: basic, auth_config: {username: x}}
        - {label: v, type: sub_diagram}
        - {label: w, type: sub_diagram, diagram_data: {nodes: [{label: x, type: strat}]}}
        - {label: x, type: person_job, default_prompt: x, memorize_to: requirements}
        - {label: y, type: json_schema_validator, json_schema: "{"}
        - {label: z, type: code_job, code: x, timeout: soon, expose_index_as: x}
        """)
    assert [text.partition(":")[0] for text in found] == [
        "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19", "19",
        "20", "21", "22", "23", "24", "25", "26", "26"]
    for part in ("trigger_mode: hook waits", "custom_data must be a map", "save_to_file needs file_name",
                 "'typescript' is not run here (there is python and bash)",
                 "needs `code` or `file_path`, not both", "no function 'man': did you mean 'main'?",
                 "function_name is for python", "custom needs `expression`", "invalid syntax",
                 "llm_decision needs `person` and `judge_by`", "in no loop with a person_job",
                 "node_indices: there is no node 'q'", "file 'no.txt' can't be read",
                 "file 'bad.txt' is no UTF-8 text", "{{/each}} where {{/if}} was expected",
                 "a db needs `file`", "url is not for hook_type: shell (there is: command", "needs `command`",
                 "auth_config has no 'tokn' for bearer (did you mean 'token'?)",
                 "needs auth_config.password", "needs `diagram_name` or `diagram_data`",
                 "there is no node type 'strat'", "a person_job needs `person`",
                 "the text is no JSON", "timeout: expected a number",
                 "a code_job has no property 'expose_index_as'"):
        assert any(part in text for text in found), part


def test_what_is_only_a_warning(light: Light) -> None:
    text = """
        nodes:
        - {label: s, type: start}
        - {label: a, type: api_job, url: "http://x", auth_type: bearer, auth_config: {token: t0k}}
        - {label: e, type: endpoint, file_name: x}
        connections:
        - s -> e
        - a -> e
        """
    assert light.faults(text) == []
    assert light.warnings(text) == [
        "4: auth_config holds a secret in the clear, which everybody sees who sees the diagram (write "
        "env:NAME in auth_config, and set that variable)",
        "5: file_name means nothing without save_to_file: true",
        "8: two arrows without a label: 's -> e' and 'a -> e'; their values become a list in this order "
        "(give one a label: a -> e.name)"]


@pytest.mark.parametrize(("text", "message"), [
    ("", "the diagram is empty (begin with: version: light)"), ("# only this", "the diagram is empty"),
    ("version: light", "the diagram has no nodes"), ("- a", "a diagram must be a map, not a list"),
    ("version: light\nnodes: 3", "'nodes' must be a list"),
    ("version: readable\nnodes: []", "'version: readable' is no dialect that is read here"),
    ("version: light\nnodes: [{label: a, type: start}]\nconnections: {a: b}",
     "'connections' must be a list")])
def test_what_is_hardly_a_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.light.yaml"
    path.write_text(text)
    with pytest.raises(InvalidDiagram) as caught:
        load(path)
        from treadle.diagram.check import check
        from treadle.nodes.registry import default_registry
        check(load(path), default_registry()).raise_if_invalid()
    assert message in str(caught.value)


@pytest.mark.parametrize(("node", "message"), [
    ("type: endpoint, save_to_file: true, file_name: a, file_path: b", "are two names of one property"),
    ("type: person_job, person: P, default_prompt: a, prompt_file: b", "say either `default_prompt` or"),
    ("type: person_job, person: P, text_format: '{\"a'", "text_format: the text is no JSON"),
    ("type: person_job, person: P, text_format: 'class X(BaseModel): pass'", "put classes into a module"),
    ("type: person_job, person: P, first_only_prompt: a, first_prompt_file: b", "not both"),
    ("type: person_job, person: P, text_format: '{}', text_format_file: b", "not both"),
    ("type: condition, condition_type: llm_decision, person: P, judge_by: a, judge_by_file: b",
     "say either `judge_by` or"),
    ("type: condition, expression: '1', expose_index_as: my name", "'my name' can't be a name"),
    ("type: api_job, url: 'http://x', headers: '[1]'", "headers must be a map"),
    ("type: api_job, url: 'http://x', auth_type: basic, auth_config: {username: a, password: '{{b}}'}",
     "can be no template"),
    ("type: api_job, url: 'http://x', auth_type: bearer, auth_config: {token: [1]}", "token must be a text"),
    ("type: db, operation: read, file: a, sub_type: memory", "sub_type: 'memory' is not known here"),
    ("type: sub_diagram, diagram_name: no/where", "there is no diagram 'no/where' beside this file"),
    ("type: hook, hook_type: shell, command: ls, args: {a: 1}", "args must be a list for hook_type: shell"),
    ("type: hook, hook_type: shell, command: 'say \"{{a}}'", "`command` is no template"),
    ("type: hook, hook_type: http", "hook_type: http needs `url`"),
    ("type: hook, hook_type: file", "hook_type: file needs `file_path`"),
    ("type: hook, hook_type: python, script: a.py, args: [a]", "args must be a map for hook_type: python"),
    ("type: hook, hook_type: shell, config: 3", "config must be a map, not 3"),
    ("type: [start]", "type must be a text, not ['start']")])
def test_more_faults_of_nodes(light: Light, node: str, message: str) -> None:
    found = light.faults(f"persons: {{P: {{model: script}}}}\nnodes: [{{label: n, {node}}}]")
    assert [text for text in found if message in text and text.startswith("3: ")], found


@pytest.mark.parametrize(("node", "message"), [
    ("type: condition, expression: '1', judge_by: x", "judge_by belongs to condition_type: llm_decision"),
    ("type: api_job, url: 'http://x', auth_config: {token: x}", "auth_config means nothing without"),
    ("type: sub_diagram, diagram_data: {nodes: [{label: a, type: start}]}, batch_parallel: true",
     "batch_parallel means nothing without batch: true")])
def test_more_warnings(light: Light, node: str, message: str) -> None:
    text = f"nodes: [{{label: n, {node}}}]"
    assert light.faults(text) == [] and any(message in one for one in light.warnings(text))


def test_all_that_a_hook_may_say(light: Light) -> None:
    spec = spec_of(light, """
        nodes:
        - {label: a, type: hook, hook_type: shell, command: ls, env: {A: "{{x}}"}, cwd: ".", timeout: 3}
        - {label: b, type: hook, hook_type: webhook, config: {url: "http://x", method: put, headers: {A: b},
           body: {c: "{{d}}"}, retry_count: 2, retry_delay: 1.5}}
        - {label: c, type: hook, hook_type: file, file_path: x.txt, format: text}
        """)
    a, b, c = spec.nodes
    assert a.properties == {"kind": "shell", "result": "output", "command": "ls", "env": {"A": "{{ x }}"},
                            "cwd": "."}
    assert b.properties == {"kind": "http", "result": "output", "url": "http://x", "method": "PUT",
                            "headers": {"A": "b"}, "body": {"c": "{{ d }}"}}
    assert (a.policy.timeout, b.policy.retries, b.policy.backoff.initial) == (3, 2, 1.5)
    assert (c.type, c.properties) == ("db", {"operation": "write", "parse": True, "file": "x.txt",
                                             "format": "text"})


def test_labels_that_are_the_same_id(light: Light) -> None:
    assert light.faults("nodes: [{label: a/b, type: start}, {label: a_2f_b, type: start}]") == [
        "2: the labels 'a_2f_b' and 'a/b' are the same id 'a_2f_b' (rename one)"]


def test_ends_that_are_nobody(light: Light) -> None:
    assert light.faults("""
        nodes: [{label: s, type: start}, {label: c d, type: condition, expression: "1"}]
        connections:
        - {from: "x[condtrue]", to: s}
        - {from: c_d, to: [s]}
        - c_d -> s
        loops: [3]
        persons: {A: 3, B: {model: m}, C: {service: openai, model: m, api_key_id: a b}}
        """) == [
        "4: from: there is no node 'x' (there is: s, c d)",
        "5: to must be a text, not ['s']",
        "6: connection 'c d -> s': it leaves a condition, and doesn't say which way (write c d[condtrue] or "
        "c d[condfalse])",
        "6: arrow 'c d.true -> s': node 's' takes no unlabelled input (it has no inputs)",
        "7: a loop must be a map, not 3",
        "8: person 'A' must be a map, not 3",
        "8: person 'B' has no service (there is: openai, anthropic, claude, google, gemini, ollama)",
        "8: api_key_id: 'a b' can't be the name of a secret (say in api_keys what it stands for)"]
