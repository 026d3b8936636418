"""What light diagrams do when they run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Light


# values on their way


def test_two_unlabelled_values_are_a_list_in_arrow_order(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: a, type: code_job, code: "result = 'A'"}
        - {label: b, type: code_job, language: bash, code: "sleep 0.2; echo B"}
        - {label: e, type: endpoint}
        connections:
        - b -> e
        - a -> e
        """) == ["B", "A"]


def test_a_back_arrow_replaces_the_values_that_it_stands_for(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: one, type: code_job, code: "result = {'n': 0}"}
        - {label: two, type: code_job, code: "result = {'n': 5}"}
        - label: step
          type: code_job
          code: "d = inputs['default']\\nd0 = d[0] if type(d) is list else d
                 \\nresult = {'n': d0['n'] + 1, 'was': str(d)}"
        - {label: c, type: condition, expression: "n >= 2"}
        - {label: e, type: endpoint}
        connections:
        - one -> step
        - two -> step
        - step -> c
        - c[condfalse] -> step
        - c[condtrue] -> e
        """)
    assert [one["was"] for one in ran.values["step"]] == ["[{'n': 0}, {'n': 5}]", str(ran.values["step"][0])]


@pytest.mark.parametrize(("made", "kind", "found"), [
    ({"x": [1, "é"]}, "raw_text", '{"x": [1, "é"]}'), ("text", "raw_text", "text"), (3, "raw_text", "3"),
    (None, "raw_text", "null"), ('{"x": 1}', "object", {"x": 1}), ("[1]", "object", [1]),
    ({"x": 1}, "object", {"x": 1}), (3, "object", 3), ("7", "object", 7),
    ("hi", "conversation_state", {"messages": [{"role": "user", "content": "hi"}]}),
    ({"x": 1}, "conversation_state", {"messages": [{"role": "user", "content": '{"x": 1}'}]}),
    ("x", "empty", None), ({"x": 1}, "variable", {"x": 1}), ("x", "generic", "x"),
    ("é", "binary", "é".encode()), ({"x": 1}, "binary", b'{"x": 1}')])
def test_a_content_type_converts(light: Light, made: Any, kind: str, found: Any) -> None:
    ran = light.run(f"""
        nodes:
        - {{label: a, type: code_job, code: {json.dumps(f"result = {made!r}")}}}
        - {{label: e, type: endpoint}}
        connections: [{{from: a, to: e, content_type: {kind}}}]
        """)
    assert (ran.status, ran.result) == ("completed", found)


def test_a_text_that_is_no_json_is_an_error(light: Light) -> None:
    ran = light.run("""
        nodes: [{label: a, type: code_job, code: "result = 'nope'"}, {label: e, type: endpoint}]
        connections: [{from: a, to: e, content_type: object}]
        """)
    assert (ran.status, ran.states["e"]) == ("failed", "failed")
    assert ran.error == ("TransformError: arrow 'a -> e': content_type object: the text 'nope' is not JSON: "
                         "Expecting value: line 1 column 1 (char 0)")


def test_what_a_condition_hands_on_is_converted_too(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: a, type: code_job, code: "result = '{\\"x\\": 5}'"}
        - {label: c, type: condition, expression: "x > 3"}
        - {label: d, type: condition, expression: "x > 9"}
        - {label: e, type: endpoint}
        - {label: f, type: endpoint}
        connections:
        - {from: a, to: c, type: object}
        - c[condtrue] -> d
        - d[condtrue] -> e
        - d[condfalse] -> f: v
        """) == {"x": 5}


# names


def test_inputs_and_custom_data_are_names_everywhere(light: Light) -> None:
    text = """
        nodes:
        - {label: s, type: start, custom_data: {topic: cats, n: 2}}
        - {label: t, type: template_job, template_content: "{{topic}} {{n}} {{who}}"}
        - {label: p, type: code_job, code: "result = [topic, n, who, inputs]"}
        - {label: b, type: code_job, language: bash, code: 'echo "$INPUT_topic $INPUT_n $INPUT_default"'}
        - {label: c, type: condition, expression: "who == 'Ann' and n == 7"}
        - {label: e, type: endpoint}
        connections:
        - s -> t
        - t -> p
        - p -> b
        - b -> c
        - c[condtrue] -> e
        """
    ran = light.run(text, {"who": "Ann", "n": 7})
    assert ran.values["s"] == [{"topic": "cats", "n": 7, "who": "Ann"}]
    assert ran.values["t"] == ["cats 7 Ann"]
    assert ran.values["p"] == [["cats", 7, "Ann", {"default": "cats 7 Ann"}]]
    assert ran.result == 'cats 7 ["cats", 7, "Ann", {"default": "cats 7 Ann"}]'


def test_a_label_goes_before_a_key_and_that_before_a_variable(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: s, type: start, custom_data: {x: start, y: start, z: start}}
        - {label: x, type: code_job, code: "result = {'x': 'key', 'y': 'key'}"}
        - {label: y, type: code_job, code: "result = 'label'"}
        - {label: t, type: template_job, template_content: "{{x}} {{y}} {{z}}"}
        - {label: e, type: endpoint}
        connections:
        - s -> x
        - s -> y
        - x -> t
        - y -> t: x
        - t -> e
        """) == "label key start"


def test_an_unknown_name_is_an_error_and_never_false(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start, custom_data: {score: 3}}
        - {label: c, type: condition, expression: "scor > 3 or True"}
        - {label: e, type: endpoint}
        connections:
        - s -> c
        - c[condfalse] -> e
        """)
    assert (ran.status, ran.states["c"], ran.states["e"]) == ("failed", "failed", "skipped")
    assert "unknown name 'scor' (did you mean 'score'?)" in ran.error


def test_the_node_before_is_no_name_and_hides_nothing(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: list, type: code_job, code: "result = [3, 4]"}
        - {label: sum, type: code_job, code: "result = sum(inputs['default']) + len(list('ab'))"}
        - {label: e, type: endpoint}
        connections:
        - list -> sum
        - sum -> e
        """) == 9
    ran = light.run("""
        nodes: [{label: a, type: start}, {label: c, type: condition, expression: "a != 1"}]
        connections: [{from: a, to: c}]
        """)
    assert "unknown name 'a'" in ran.error


def test_labels_that_are_no_names(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: a, type: code_job, code: "result = {'z': 2}"}
        - {label: b, type: code_job, code: "result = [my_thing, inputs['my thing'], iteration, nodes, first]"}
        - label: t
          type: template_job
          template_content: "{{my thing}} {{[my thing].z}} {{iteration}} {{inputs}}"
        - {label: e, type: endpoint}
        connections:
        - a -> b: my thing
        - a -> b: iteration
        - a -> b: nodes
        - a -> b: first
        - a -> t: my thing
        - a -> t: iteration
        - a -> t: inputs
        - b -> e: b
        - t -> e: t
        """) == {"b": [{"z": 2}] * 5, "t": '{"z": 2} 2 {"z": 2} {"z": 2}'}


def test_several_starts_each_with_its_own_data(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: s1, type: start, custom_data: {x: 1}}
        - {label: s2, type: start, custom_data: {y: 2}}
        - {label: m, type: code_job, code: "result = [inputs, x, y]"}
        - {label: e, type: endpoint}
        connections:
        - s1 -> m: a
        - s2 -> m: b
        - m -> e
        """) == [{"a": {"x": 1}, "b": {"y": 2}}, 1, 2]


# conditions and loops


def test_the_turn_is_a_name_in_the_loop_and_behind_it(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start}
        - {label: step, type: code_job, language: bash, code: "echo $INPUT_idx"}
        - {label: c, type: condition, expression: "idx >= 2", expose_index_as: idx, skippable: true}
        - {label: t, type: template_job, template_content: "last {{idx}}"}
        - {label: e, type: endpoint}
        connections:
        - s -> step
        - step -> c
        - c[condfalse] -> step
        - c[condtrue] -> t
        - t -> e
        """)
    assert (ran.values["step"], ran.result) == (["0", "1", "2"], "last 2")


def test_nested_loops_each_with_their_turn(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start}
        - {label: outer, type: template_job, template_content: "{{i}}"}
        - {label: inner, type: template_job, template_content: "{{i}}.{{j}}"}
        - {label: ci, type: condition, expression: "j >= 1", expose_index_as: j}
        - {label: co, type: condition, expression: "i >= 2", expose_index_as: i}
        - {label: e, type: endpoint}
        connections:
        - s -> outer
        - outer -> inner
        - inner -> ci
        - ci[condfalse] -> inner
        - ci[condtrue] -> co
        - co[condfalse] -> outer
        - co[condtrue] -> e
        """)
    assert ran.values["outer"] == ["0", "1", "2"]
    assert ran.values["inner"] == ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]
    assert ran.result == "2.1"


def test_two_loops_may_count_by_the_same_name(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: a, type: template_job, template_content: "{{i}}"}
        - {label: ca, type: condition, expression: "i >= 2", expose_index_as: i}
        - {label: between, type: template_job, template_content: "{{i}}"}
        - {label: b, type: template_job, template_content: "{{i}}"}
        - {label: cb, type: condition, expression: "i >= 1", expose_index_as: i}
        - {label: e, type: template_job, template_content: "{{i}}"}
        connections:
        - a -> ca
        - ca[condfalse] -> a
        - ca[condtrue] -> between
        - between -> b
        - b -> cb
        - cb[condfalse] -> b
        - cb[condtrue] -> e
        """)
    assert (ran.values["a"], ran.values["between"]) == (["0", "1", "2"], ["2"])
    assert (ran.values["b"], ran.result) == (["0", "1"], "1")


def test_a_diamond_in_a_loop_and_two_ways_back(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start, custom_data: {n: 0}}
        - {label: step, type: code_job, code: "result = {'n': inputs['default']['n'] + 1}"}
        - {label: odd, type: condition, expression: "n % 2 == 1"}
        - {label: a, type: code_job, code: "result = {'n': v['n'] + 1}"}
        - {label: m, type: code_job, code: "result = {'n': v['n'], 'from': sorted(inputs)}"}
        - {label: more, type: condition, expression: "n < 6"}
        - {label: e, type: endpoint}
        connections:
        - s -> step
        - step -> odd
        - odd[condtrue] -> a: v
        - odd[condfalse] -> step
        - a -> m: v
        - m -> more
        - more[condtrue] -> step
        - more[condfalse] -> e
        """)
    assert [one["n"] for one in ran.values["step"]] == [1, 3, 5]
    assert ran.result == {"n": 6, "from": ["v"]}


def test_a_value_for_the_first_turn_only(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start}
        - {label: step, type: code_job, code: "result = sorted(inputs)"}
        - {label: c, type: condition, expression: "i >= 1", expose_index_as: i}
        - {label: e, type: endpoint}
        connections:
        - s -> step[first]: seed
        - s -> step_first
        - s -> step: keep
        - step -> c
        - c[condfalse] -> step: back
        - c[condtrue] -> e
        """)
    assert ran.values["step"] == [["default", "keep", "seed"], ["back", "keep"]]


def test_a_condition_with_several_inputs_gives_them_by_name(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: a, type: code_job, language: bash, code: "echo 1"}
        - {label: b, type: code_job, language: bash, code: "echo 2"}
        - {label: c, type: condition, expression: "l + r == '12'"}
        - {label: e, type: endpoint}
        connections:
        - a -> c: l
        - b -> c: r
        - c[condtrue] -> e
        """) == {"l": "1", "r": "2"}


def test_whether_nodes_were_executed(light: Light) -> None:
    text = """
        nodes:
        - {label: s, type: start}
        - {label: a, type: code_job, language: bash, code: "echo a"}
        - {label: c, type: condition, condition_type: check_nodes_executed, node_indices: [a, b b]}
        - {label: b b, type: code_job, language: bash, code: "echo b"}
        - {label: e, type: endpoint}
        connections:
        - s -> a
        - a -> c
        - c[condfalse] -> b_b
        - b_b -> a
        - c[condtrue] -> e
        """
    ran = light.run(text)
    assert (len(ran.values["a"]), len(ran.values["b b"]), ran.result) == (2, 1, "a")
    assert light.run(text.replace(", node_indices: [a, b b]", "")).values["c"] == ["a"], "a has run"


def test_a_diagram_without_a_start(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: step, type: code_job, code: "result = [*inputs.get('default', []), idx]"}
        - {label: c, type: condition, expression: "idx == 2", expose_index_as: idx}
        - {label: e, type: endpoint}
        connections:
        - step -> c
        - c[condfalse] -> step
        - c[condtrue] -> e
        """) == [0, 1, 2]


def test_an_error_can_be_caught(light: Light) -> None:
    assert light.result("""
        nodes:
        - {label: a, type: code_job, code: "raise ValueError('boom')"}
        - {label: t, type: template_job, template_content: "{{type}}: {{message}}"}
        - {label: e, type: endpoint}
        connections:
        - a[error] -> t
        - t -> e
        """) == "ValueError: boom"
