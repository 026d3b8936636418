"""What people get wrong: every message says what, where and what to do, and the exit code is 2."""

from __future__ import annotations

import re
import sqlite3
from typing import Any

import pytest

FAULTY = {
    "type.yaml": ("treadle: 1\nnodes:\n  a: {type: code_jop, code: 'return 1'}\n",
                  r"type\.yaml:3: node 'a': there is no node type 'code_jop' \(did you mean 'code_job'\?\)"),
    "key.yaml": ("treadle: 1\nnodes:\n  a:\n    type: sleep\n    secnods: 3\n",
                 r"key\.yaml:5: node 'a': .*'secnods' \(did you mean 'seconds'\?\)"),
    "value.yaml": ("treadle: 1\nnodes:\n  a: {type: start}\n  b:\n    type: start\n    retries: many\n",
                   r"value\.yaml:6: node 'b': retries: .*"),
    "port.yaml": ("treadle: 1\nnodes:\n  a: {type: condition, when: '1 > 0'}\n  b: {type: endpoint}\n"
                  "arrows:\n  - a.ture -> b\n",
                  r"port\.yaml:6: arrow 'a\.ture -> b': .* no port 'ture' \(did you mean 'true'\?\)"),
    "node.yaml": ("treadle: 1\nnodes:\n  alpha: {type: start}\n  b: {type: endpoint, needs: alhpa}\n",
                  r"node\.yaml:4: .*no node 'alhpa' \(did you mean 'alpha'\?\)"),
    "input.yaml": ("treadle: 1\nnodes:\n  a: {type: start}\n  b: {type: code_job, call: 'tasks:helper'}\n"
                   "arrows:\n  - a -> b.rwo\n",
                   r"input\.yaml:6: arrow 'a -> b\.rwo': .* no input 'rwo' \(did you mean 'row'\?\)"),
    "name.yaml": ("treadle: 1\ninputs: {limit: integer}\nnodes:\n"
                  "  a: {type: template_job, text: '{{ inputs.limti }}'}\n",
                  r"name\.yaml:4: node 'a': text: unknown name 'inputs\.limti' \(did you mean 'limit'\?\)"),
    "call.yaml": ("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:frist'}\n",
                  r"call\.yaml:3: node 'a': .*did you mean 'first'\?"),
    "syntax.yaml": ("treadle: 1\nnodes:\n  a: {type: start\n", r"syntax\.yaml:\d+: .*"),
    "json.json": ('{"treadle": 1,\n "nodes": {"a": {"type": "start"},}\n}', r"json\.json:2: .*"),
    "loop.yaml": ("treadle: 1\nnodes:\n  a: {type: template_job, text: x}\n"
                  "  b: {type: template_job, text: y}\n  s: {type: start}\n"
                  "arrows: [s -> a, a -> b, b -> a]\n", r"loop\.yaml:6: .*can't end"),
}


def test_check_finds_each_kind_of_mistake_with_its_line(treadle: Any) -> None:
    for name, (text, _) in FAULTY.items():
        treadle.write(text, name)
    done = treadle("check", *FAULTY)
    assert done.returncode == 2
    for name, (_, pattern) in FAULTY.items():
        assert re.search(f"^{pattern}", done.stdout, re.M), f"{name}:\n{done.stdout}"


def test_all_faults_of_a_file_come_at_once(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: strat}\n  b: {type: sleep}\n"
                  "  c: {type: endpoint, neesd: b}\n")
    done = treadle("check", "diagram.yaml")
    places = [line.split(": ")[0] for line in done.stdout.splitlines()]
    assert places == ["diagram.yaml:3", "diagram.yaml:4", "diagram.yaml:5"]
    assert treadle.here("run", "diagram.yaml").stderr.count("diagram.yaml:") == 3


def test_check_as_json_and_warnings_alone_are_no_failure(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: start}\n  b: {type: start}\n  c: {type: endpoint}\n"
                  "arrows: [a -> c, b -> c]\n", "warned.yaml")
    treadle.write(FAULTY["type.yaml"][0], "type.yaml")
    [warned] = treadle.json("check", "warned.yaml")
    assert treadle.here("check", "warned.yaml").returncode == 0
    assert warned["valid"] is True
    assert [(one["line"], one["node"], one["warning"]) for one in warned["faults"]] == [(6, "c", True)]
    [wrong] = treadle.json("check", "type.yaml")
    assert wrong["valid"] is False
    assert wrong["faults"] == [{
        "file": "type.yaml", "line": 3, "column": 13, "node": "a", "warning": False,
        "message": "there is no node type 'code_jop'", "hint": "did you mean 'code_job'?"}]


def test_an_invalid_diagram_as_json(treadle: Any) -> None:
    treadle.write(FAULTY["type.yaml"][0])
    document = treadle.json("run", "diagram.yaml")
    assert document["status"] == "refused"
    assert document["error"]["type"] == "InvalidDiagram"
    assert document["error"]["faults"][0]["where"]["line"] == 3


@pytest.mark.parametrize(("words", "says"), [
    (("run", "diagarm.yaml"), "diagarm.yaml: No such file or directory: did you mean 'diagram.yaml'?"),
    (("check", "diagarm.yaml"), "can't be read: No such file or directory (did you mean 'diagram.yaml'?)"),
    (("run", "."), ".: Is a directory"),
    (("run", "diagram.yaml", "-i", "n"), "-i n: write it as -i name=value"),
    (("run", "diagram.yaml", "-i", "n=1", "-i", "n=2"), "is given twice"),
    (("run", "diagram.yaml", "-i", "n=@nothing.json"), "@nothing.json: No such file or directory"),
    (("run", "diagram.yaml", "-i", "nn=1"), "has no input 'nn': did you mean 'n'?"),
    (("run", "diagram.yaml", "-i", "n=many"), "input 'n' of diagram 'd': can't make integer of 'many'"),
    (("run", "diagram.yaml", "--durability", "certain"), "'certain'"),
    (("run", "diagram.yaml", "--concurrency", "0"), "--concurrency"),
    (("rum", "diagram.yaml"), "rum"),
    (("run",), "FILE"),
    (("list", "--store", "runs.bd"), "there is no store runs.bd"),
    (("resume", "x", "--store", "notes.txt"), "notes.txt"),
    (("run", "diagram.yaml", "-i", "n=1", "--store", "postgresql://here/x"), "postgresql stores are not"),
    (("list", "--status", "faild"), "there is no status 'faild': did you mean 'failed'?"),
    (("list", "--store", "."), "is a folder: name the file in it"),
    (("nodes", "sleeep"), "there is no node type 'sleeep': did you mean 'sleep'?"),
])
def test_wrong_usage_ends_with_2_and_a_few_lines(treadle: Any, words: tuple[str, ...], says: str) -> None:
    treadle.write("treadle: 1\nname: d\ninputs: {n: integer}\nnodes: {a: {type: start}}\n")
    treadle.write("These are notes, and no store.\n" * 100, "notes.txt")
    if words[0] == "list" and "--store" not in words:
        treadle.here("run", "diagram.yaml", "-i", "n=1")
    done = treadle.here(*words)
    said = done.stderr + done.stdout
    assert done.returncode == 2, said
    assert says in said
    assert "Traceback" not in said
    assert len(said.splitlines()) <= 6


@pytest.mark.parametrize(("words", "says"), [
    (("logs", "x", "--attempt", "0"), "'--attempt': Input should be greater than or equal to 1"),
    (("diff", "x"), "Missing argument 'B'"), (("list", "--limmit", "3"), "No such option: --limmit"),
])
def test_wrong_usage_as_json(treadle: Any, words: tuple[str, ...], says: str) -> None:
    document = treadle.json(*words)
    assert (document["status"], document["error"]["type"]) == ("refused", "Usage")
    assert says in document["error"]["message"]


def test_an_execution_that_is_not_there(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes: {a: {type: start}, b: {type: user_response, needs: a}}\n")
    treadle("run", "diagram.yaml", "--execution-id", "mine")
    for words in (("show", "nime"), ("resume", "nime"), ("cancel", "nime"), ("answer", "nime", "b", "1"),
                  ("signal", "nime", "go")):
        done = treadle.here(*words)
        assert done.returncode == 2, words
        assert "'nime'" in done.stderr and "Traceback" not in done.stderr
    for words, says in (
            (("answer", "mine", "bb", "1"), "has no node 'bb': did you mean 'b'? (who waits: b)"),
            (("answer", "mine", "a", "1"), "does not wait for an answer: it is completed (who waits: b)"),
            (("show", "mine", "--node", "bb"), "has no cell of node 'bb': did you mean 'b'?")):
        done = treadle.here(*words)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_a_store_of_somebody_else_is_left_alone(treadle: Any) -> None:
    other = treadle.folder / "other.db"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    before = other.read_bytes()
    treadle.write("treadle: 1\nnodes: {a: {type: start}}\n")
    done = treadle("run", "diagram.yaml", "--store", "other.db")
    assert done.returncode == 2
    assert "other.db" in done.stderr
    assert other.read_bytes() == before
