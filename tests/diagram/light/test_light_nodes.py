"""What each type of node of the light dialect does."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .conftest import Light

ONE = """
    nodes:
    - {{label: s, type: start, custom_data: {data}}}
    - {{label: n, {node}}}
    - {{label: e, type: endpoint}}
    connections:
    - s -> n
    - n -> e
    """


def one(node: str, data: Any = None) -> str:
    """A diagram of one node between a start and an end."""
    return ONE.format(node=node, data=json.dumps(data or {}))


# code


@pytest.mark.parametrize(("code", "result"), [
    ("result = default['x'] + 1", 3), ("return inputs['default']['x']", 2), ("x = 1", None),
    ("if x == 2:\\n  return 'two'\\nreturn 'other'", "two"), ("def f(default): return default['x']", 2),
    ("import math\\nresult = math.sqrt(x + 2)", 2.0)])
def test_python_code(light: Light, code: str, result: Any) -> None:
    assert light.result(one(f'type: code_job, code: "{code}"', {"x": 2})) == result


def test_a_function_of_the_code_or_of_a_file(light: Light) -> None:
    code = "def other(): return 0\\ndef main(x, inputs, **more): return [x, sorted(inputs), more]\\ny = 1"
    text = one(f'type: code_job, code: "{code}", function_name: main').replace("- s -> n", "- s -> n: x\n"
                                                                              "    - s -> n: z")
    assert light.result(text) == [{}, ["x", "z"], {"z": {}}]
    (light.folder / "jobs").mkdir()
    (light.folder / "jobs" / "work.py").write_text("def double(default):\n    return default['x'] * 2\n")
    assert light.result(one("type: code_job, file_path: jobs/work.py, function_name: double", {"x": 4})) == 8
    (light.folder / "jobs" / "plain.py").write_text("result = inputs['default']['x'] + 1\n")
    assert light.result(one("type: code_job, file_path: jobs/plain.py", {"x": 4})) == 5


def test_what_is_known_everywhere_is_known_to_a_function_of_a_file(light: Light) -> None:
    (light.folder / "f.py").write_text("def add(x, y):\n    return x + y\n"
                                       "def more(val, x, who, inputs, other=1):\n"
                                       "    return [val, x, who, inputs, other]\n"
                                       "def near(x, who, other=1):\n    return [x, who, other]\n")
    text = """
        nodes:
        - {label: s, type: start, custom_data: {x: 4, y: 5}}
        - {label: n, type: code_job, file_path: f.py, function_name: add}
        - {label: m, type: code_job, file_path: f.py, function_name: more}
        - {label: o, type: code_job, file_path: f.py, function_name: near}
        - {label: e, type: endpoint}
        connections:
        - s -> n
        - n -> m
        - m -> o
        - m -> e: m
        - o -> e: o
        """
    assert light.result(text, {"who": "Ann"}) == {
        "m": [9, 4, "Ann", {"default": 9}, 1], "o": [4, "Ann", 1]}
    assert light.warnings(text) == ["5: nothing brings its input 'who' (draw an arrow to it: … -> m.who)"]
    assert "more needs 'who'" in light.run(text).error
    labelled = text.replace("s -> n\n", "s -> n: x\n")
    assert light.run(labelled, {"who": "Ann"}).error.startswith("TypeError"), "a label goes before a variable"


def test_bash_code(light: Light) -> None:
    text = one('type: code_job, language: BASH, code: \'echo "$INPUT_v $INPUT_my_name"; pwd | grep -c /\'')
    text = text.replace("- s -> n", "- s -> n: v\n    - s -> n: my name")
    assert light.result(text) == "{} {}\n1"
    (light.folder / "say.sh").write_text("echo from $0; exit 3")
    assert light.run(one("type: code_job, language: bash, file_path: say.sh")).error.startswith(
        "BodyDied: the script ended with exit code 3")


def test_code_that_takes_too_long(light: Light) -> None:
    ran = light.run(one('type: code_job, language: bash, code: sleep 9, timeout: 0.1'))
    assert ran.error == "NodeTimeout: node 'n' ran longer than its timeout of 0.1 s"


# files


def test_an_endpoint_writes_maps_as_json_and_else_texts(light: Light) -> None:
    text = """
        nodes:
        - {label: s, type: start, custom_data: {a: 1}}
        - {label: t, type: template_job, template_content: hi}
        - {label: x, type: endpoint, save_to_file: true, file_name: o/x.txt}
        - {label: y, type: endpoint, save_to_file: true, file_path: "{{a}}.json", file_format: json}
        connections:
        - s -> t
        - s -> x
        - t -> y
        """
    assert light.result(text) == {"x": {"a": 1}, "y": "hi"}
    assert json.loads((light.folder / "o" / "x.txt").read_text()) == {"a": 1}
    assert (light.folder / "1.json").read_text() == "hi"


def test_files_are_read_written_and_changed(light: Light) -> None:
    ran = light.run("""
        nodes:
        - {label: s, type: start, custom_data: {a: {b: 1, c: x}}}
        - {label: w, type: db, operation: write, file: "o/{{name}}.json", format: json}
        - {label: r, type: db, operation: read, file: o/d.json, keys: [a.b, a.c]}
        - {label: ap, type: db, operation: append, file: o/log.txt}
        - {label: u, type: db, operation: update, file: o/d.json}
        - {label: r2, type: db, operation: read, file: [o/d.json]}
        - {label: r3, type: db, operation: read, file: [o/d.json, o/log.txt]}
        - {label: r4, type: db, operation: read, file: "o/*.json", glob: true, serialize_json: true}
        - {label: r5, type: db, operation: read, file: o/d.json, lines: "1:1"}
        - {label: e, type: endpoint}
        connections:
        - {from: s, to: w, content_type: raw_text}
        - w -> r
        - r -> ap
        - ap -> u
        - u -> r2
        - r2 -> r3
        - r3 -> r4
        - r4 -> r5
        - r5 -> e
        """, {"name": "d"})
    assert ran.status == "completed", ran.error
    assert ran.values["r"] == [{"a.b": 1, "a.c": "x"}], "what was a text of JSON is one object in the file"
    whole = {"a": {"b": 1, "c": "x"}, "name": "d", "a.b": 1, "a.c": "x"}
    assert ran.values["r2"] == [whole]
    assert sorted(ran.values["r3"][0]) == ["o/d.json", "o/log.txt"]
    assert ran.values["r3"][0]["o/d.json"] == whole
    assert {name: json.loads(text) for name, text in ran.values["r4"][0].items()} == {"o/d.json": whole}
    assert ran.result == "{\n"


@pytest.mark.parametrize(("node", "error"), [
    ("operation: read, file: no.txt", "FileNotFoundError: no file 'no.txt'"),
    ("operation: read, file: 'no/*', glob: true", "FileNotFoundError: no file matches 'no/*'"),
    ("operation: update, file: no.json, keys: a", "FileNotFoundError: no file 'no.json'"),
    ("operation: read, file: bad.json", "ValueError: file 'bad.json' is not json"),
    ("operation: read, file: good.json, keys: a.x", "LookupError: file 'good.json': key 'a.x'")])
def test_files_that_are_not_as_they_should_be(light: Light, node: str, error: str) -> None:
    (light.folder / "bad.json").write_text("{")
    (light.folder / "good.json").write_text('{"a": 1}')
    assert light.run(one(f"type: db, {node}")).error.startswith(error)


# texts


def test_templates_of_both_engines(light: Light) -> None:
    (light.folder / "letter.txt").write_text("Dear {{name}},{{#each rows}} {{@index}}={{this.x}}{{/each}}")
    data = {"name": "Ann", "rows": [{"x": 1}, {"x": [2]}], "none": False}
    assert light.result(one("type: template_job, template_path: letter.txt", data)) == "Dear Ann, 0=1 1=[2]"
    assert light.result(one(
        "type: template_job, engine: jinja2, output_path: 'o/{{name}}.txt', template_content: "
        "'{{ t }} {{ n + 1 }}{% for row in rows %} {{ row.x }}{% endfor %}', "
        "variables: {t: 'to {{name}}', n: '{{rows[0].x}}'}", data)) == "to Ann 2 1 [2]"
    assert (light.folder / "o" / "Ann.txt").read_text() == "to Ann 2 1 [2]"
    assert light.result(one("type: template_job, template_content: "
                            "'{{#if name}}yes{{/if}}{{#unless none}} no{{/unless}} {{rows[1].x}} {{rows}}'",
                            data)) == 'yes no [2] [{"x": 1}, {"x": [2]}]'
    ran = light.run(one("type: template_job, template_content: '{{nam}}'", data))
    assert "unknown name 'nam' (did you mean 'name'?)" in ran.error


def test_a_schema(light: Light) -> None:
    schema = "{type: object, properties: {a: {type: integer}}, required: [a]}"
    node = f"type: json_schema_validator, json_schema: {schema}"
    assert light.result(one(node, {"a": 1, "b": 2})) == {"a": 1, "b": 2}
    assert "'b' was unexpected" in light.run(one(f"{node}, strict_mode: true", {"a": 1, "b": 2})).error
    assert "$.a: 'x' is not of type 'integer'" in light.run(one(node, {"a": "x"})).error
    (light.folder / "s.json").write_text('{"type": "object", "required": ["z"]}')
    assert "'z' is a required property" in light.run(one(
        "type: json_schema_validator, schema_path: s.json", {})).error


# others


def test_a_person_is_waited_for(light: Light) -> None:
    text = one("type: user_response, prompt: 'Go on with {{topic}}?'", {"topic": "tea"})
    assert light.run(text).status == "suspended"
    assert light.run(text, answers={"n": "yes"}).result == "yes"
    late = light.run(one("type: user_response, prompt: x, timeout: 0.05"))
    assert late.error.startswith("NodeTimeout: nobody answered")


def test_hooks(light: Light) -> None:
    data = {"x": 3}
    assert light.result(one("type: hook, hook_type: shell, config: {command: echo, args: ['hi {{x}}']}",
                            data)) == "hi 3"
    assert light.result(one("type: hook, hook_type: shell, command: 'echo \"$INPUT_default\"'", data)) == (
        '{"x": 3}')
    assert light.result(one("type: hook, hook_type: shell, command: 'echo \"$INPUT_x\"'", data)) == "3"
    assert light.result(one("type: hook, hook_type: shell, command: 'echo \"a  {{x}}\" {{x}}b'", data)) == (
        "a  3 3b")
    assert "`command` is no template" in light.faults(one(
        "type: hook, hook_type: shell, command: 'echo {{x}} | cat'"))[0]
    (light.folder / "told.py").write_text("def tell(default):\n    return [default]\n")
    assert light.result(one("type: hook, hook_type: python, config: {script: told.py, function_name: tell}",
                            data)) == [data]
    (light.folder / "more.py").write_text("def tell(default, loud):\n    return [default, loud]\n")
    assert light.result(one("type: hook, hook_type: python, script: more.py, function: tell, args: {loud: 1}",
                            data)) == [data, 1]
    assert light.result(one("type: hook, hook_type: file, config: {file_path: o/h.json}", data)) == data
    assert json.loads((light.folder / "o" / "h.json").read_text()) == data
    assert light.run(one("type: hook, hook_type: shell, command: exit 4")).error.startswith("BodyDied")


# sub-diagrams


CHILD = """
    version: light
    nodes:
    - {label: s, type: start}
    - {label: w, type: code_job, code: "result = x * 2"}
    - {label: e, type: endpoint}
    connections:
    - s -> w
    - w -> e
    """


@pytest.mark.parametrize("name", ["child", "child.light", "child.light.yaml"])
def test_a_diagram_beside_the_file(light: Light, name: str) -> None:
    light.write(CHILD, "child.light.yaml")
    assert light.result(one(f"type: sub_diagram, diagram_name: {name}", {"x": 4})) == 8


def test_a_diagram_that_is_not_there_or_has_a_fault(light: Light) -> None:
    assert light.faults(one("type: sub_diagram, diagram_name: nobody")) == [
        "4: there is no diagram 'nobody' beside this file (looked for nobody.light.yaml, nobody.yml …)"]
    assert light.faults(one("type: sub_diagram, diagram_name: cse")) == [
        "4: there is no diagram 'cse' beside this file (did you mean 'case'?)"]
    light.write(CHILD.replace("start", "strat"), "child.light.yaml")
    assert light.faults(one("type: sub_diagram, diagram_name: child")) == [
        "3: there is no node type 'strat' (did you mean 'start'?)"]
    assert light.faults(one("type: sub_diagram, diagram_name: case")) == [
        "4: the diagram runs itself: case.light.yaml → case.light.yaml"]


INNER = """{nodes: [{label: s, type: start}, {label: w, type: code_job, code: "result = sum(xs) + k"},
     {label: One, type: endpoint}, {label: Two, type: endpoint}],
     connections: [{from: s, to: w}, {from: w, to: One}, {from: s, to: Two}]}"""


def test_a_diagram_in_the_diagram_with_mappings(light: Light) -> None:
    node = f"type: sub_diagram, diagram_data: {INNER}, input_mapping: {{xs: data.rows, k: 7}}"
    data = {"data": {"rows": [1, 2]}}
    both = {"One": 10, "Two": {"xs": [1, 2], "k": 7}}
    assert light.result(one(node, data)) == both, "several ends are a map"
    mapped = f"{node}, output_mapping: {{total: One, all: result, first: 'Two.xs[0]'}}"
    assert light.result(one(mapped, data)) == {"total": 10, "all": both, "first": 1}
    assert "unknown name 'Three'" in light.run(one(f"{node}, output_mapping: {{total: Three}}", data)).error


BATCH = 'type: sub_diagram, batch: true, diagram_data: {{nodes: [{{label: s, type: start}}, {{label: w, ' \
        'type: code_job, code: "{0}"}}, {{label: e, type: endpoint}}], connections: [{{from: s, to: w}}, ' \
        '{{from: w, to: e}}]}}'


def test_a_batch(light: Light) -> None:
    items = {"items": [{"x": 1}, {"x": 2}, {"x": 3}]}
    assert light.result(one(BATCH.format("result = x * 2"), items)) == [2, 4, 6]
    assert light.result(one(BATCH.format("result = default"), {"items": [1, "two", [3]]})) == [
        {"default": 1}, {"default": "two"}, {"default": [3]}]
    assert light.result(one(BATCH.format("result = x"), {"items": []})) == []
    text = one(f"{BATCH.format('result = x')}, batch_input_key: rows, batch_parallel: false", items)
    assert light.result(text.replace("- s -> n", "- s -> p\n    - p -> n: rows").replace(
        "- {label: e", "- {label: p, type: code_job, code: \"result = inputs['default']['items']\"}\n"
        "    - {label: e", 1)) == [1, 2, 3]


@pytest.mark.parametrize(("data", "error"), [
    ({"items": {"a": 1}}, "unsupported operand type(s) for +: 'dict' and 'list'"),
    ({"items": "abc"}, "can only concatenate str"), ({"items": 3}, "unsupported operand"),
    ({"itemz": []}, "unknown name 'items' (did you mean 'itemz'?)")])
def test_a_batch_of_no_list(light: Light, data: Any, error: str) -> None:
    ran = light.run(one(BATCH.format("result = 1"), data))
    assert ran.status == "failed" and error in ran.error


def test_a_batch_in_which_one_fails(light: Light) -> None:
    ran = light.run(one(BATCH.format("result = 1 / x"), {"items": [{"x": 1}, {"x": 0}]}))
    assert (ran.status, ran.states["n[1]/w"], ran.states["e"]) == ("failed", "failed", "skipped")
    assert ran.error == "ZeroDivisionError: division by zero"


# HTTP


class Echo(BaseHTTPRequestHandler):
    """Says what it was asked, as JSON."""

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        said = json.dumps({"path": self.path, "method": self.command, "body": body,
                           "headers": {name.lower(): text for name, text in self.headers.items()}}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    do_POST = do_PUT = do_GET

    def log_message(self, format: str, *arguments: Any) -> None:
        return


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Echo) as made:
        thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}"
        made.shutdown()
        thread.join()


def test_a_call(light: Light, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "hidden")
    found = light.result(one(f"type: api_job, url: '{server}/{{{{what}}}}', params: {{q: '{{{{n}}}}'}}, "
                             "headers: {X-A: 'is {{what}}'}, auth_type: bearer, "
                             "auth_config: {token: 'env:TOKEN'}, timeout: 5", {"what": "tea", "n": 3}))
    assert (found["path"], found["method"]) == ("/tea?q=3", "GET")
    assert (found["headers"]["x-a"], found["headers"]["authorization"]) == ("is tea", "Bearer [secret TOKEN]")


@pytest.mark.parametrize(("body", "sent", "kind"), [
    ("{a: '{{n}}', b: [1]}", '{"a": 3, "b": [1]}', "application/json"),
    ("'{\"a\": 1}'", '{"a": 1}', "application/json"), ("'{{what}}'", '"tea"', "application/json"),
    ("'say {{what}}'", "say tea", "text/plain; charset=utf-8")])
def test_a_body(light: Light, server: str, body: str, sent: str, kind: str) -> None:
    found = light.result(one(f"type: api_job, method: post, url: '{server}', body: {body}",
                             {"what": "tea", "n": 3}))
    assert (found["method"], found["body"], found["headers"]["content-type"]) == ("POST", sent, kind)


@pytest.mark.parametrize(("auth", "name", "value"), [
    ("auth_type: bearer, auth_config: {token: t0k}", "authorization", "Bearer t0k"),
    ("auth_type: bearer, auth_config: {token: '{{what}}'}", "authorization", "Bearer tea"),
    ("auth_type: basic, auth_config: {username: ann, password: x}", "authorization",
     "Basic " + base64.b64encode(b"ann:x").decode()),
    ("auth_type: api_key, auth_config: {key: k}", "x-api-key", "k"),
    ("auth_type: api_key, auth_config: {api_key: k, header: X-Mine}", "x-mine", "k"),
    ("headers: {Authorization: Bearer mine}", "authorization", "Bearer mine")])
def test_a_secret_in_the_clear_is_sent_as_it_is(light: Light, server: str, auth: str, name: str,
                                                value: str) -> None:
    found = light.result(one(f"type: api_job, url: '{server}', {auth}", {"what": "tea"}))
    assert found["headers"][name] == value


def test_a_hook_by_http(light: Light, server: str) -> None:
    found = light.result(one(f"type: hook, hook_type: http, config: {{url: '{server}/h'}}", {"x": 3}))
    assert (found["method"], found["path"], json.loads(found["body"])) == ("POST", "/h", {"x": 3})
