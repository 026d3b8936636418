"""`treadle convert`: a diagram in another form, or the names of what that form can't say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LIGHT = """\
version: light
name: small
nodes:
- {label: s, type: start, position: {x: 1, y: 2}, custom_data: {n: 2}}
- {label: twice, type: code_job, code: "result = n * 2"}
- {label: c, type: condition, expression: "default > 3"}
- {label: e, type: endpoint}
connections:
- {from: s, to: twice, label: unused}
- {from: twice, to: c}
- {from: "c[condtrue]", to: e}
"""


def test_each_form_runs_and_gives_the_same(treadle: Any) -> None:
    treadle.write(LIGHT, "small.light.yaml")
    for form, name in (("treadle", "small.yaml"), ("light", "again.light.yaml"), ("native", "small.json")):
        done = treadle("convert", "small.light.yaml", "--to", form, "-o", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"wrote {name}\n")
    shown = [treadle("run", name).stdout for name in (
        "small.light.yaml", "small.yaml", "again.light.yaml", "small.json")]
    assert shown == ["4\n"] * 4
    native = json.loads((treadle.folder / "small.json").read_text())
    assert native["nodes"]["node_0"]["position"] == {"x": 1, "y": 2}
    again = treadle("convert", "small.json", "--to", "light").stdout
    assert again == (treadle.folder / "again.light.yaml").read_text()
    assert treadle("check", "small.light.yaml", "small.yaml", "small.json").returncode == 0


def test_it_goes_to_stdout_in_ours_as_yaml(treadle: Any) -> None:
    treadle.write(LIGHT, "small.light.yaml")
    done = treadle("convert", "small.light.yaml")
    assert done.stdout.startswith("treadle: 1\nname: small\nopen: true\nnodes:\n  s: {type: start, ")
    assert json.loads(treadle("convert", "small.light.yaml", "--format", "json").stdout)["name"] == "small"
    assert json.loads(treadle("convert", "small.light.yaml", "--to", "native").stdout)["version"] == "native"


def test_what_can_t_be_said_is_named_and_nothing_is_written(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: start}\n  b: {type: sleep, seconds: 1, needs: a}\n")
    done = treadle("convert", "diagram.yaml", "--to", "light", "-o", "out.light.yaml")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "treadle: diagram.yaml:4: node 'b': the light dialect has no node type 'sleep'\n"
    assert not (treadle.folder / "out.light.yaml").exists()


def test_a_warning_is_said_and_the_file_written(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: start}\n"
                  "  b: {type: db, operation: write, file: x.txt, needs: a}\n")
    done = treadle("convert", "diagram.yaml", "--to", "light", "-o", "sub/out.light.yaml")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "diagram.yaml:4: warning: node 'b': a text that is JSON is written as a text by this node, and as "
        "what it says by the dialect",
        "wrote sub/out.light.yaml", "paths in it start from its own folder now, and were meant from ."]


def test_mistakes(treadle: Any) -> None:
    treadle.write(LIGHT, "small.light.yaml")

    def said(*words: str) -> str:
        done = treadle("convert", *words)
        assert (done.returncode, done.stdout) == (2, "")
        return str(done.stderr)

    assert said("small.light.yaml", "--to", "lihgt") == "treadle: --to lihgt: did you mean 'light'?\n"
    assert said("small.light.yaml", "--format", "xml") == "treadle: --format xml: there is yaml, json\n"
    assert said("small.light.yml") == (
        "treadle: small.light.yml: the file can't be read: No such file or directory "
        "(did you mean 'small.light.yaml'?)\n")
    assert said("small.light.yaml", "-o", "small.light.yaml") == (
        "treadle: --output small.light.yaml is the file itself: name another\n")
    assert said("small.light.yaml", "-o", ".") == "treadle: --output . is a folder: name a file in it\n"
    treadle.write(LIGHT.replace("twice, to", "thrice, to"), "bad.light.yaml")
    assert "bad.light.yaml:10: from: there is no node 'thrice'" in said("bad.light.yaml")
    treadle.write("- [", "broken.yaml")
    assert "broken.yaml:" in said("broken.yaml")


def test_persons_and_decisions_say_the_same_in_each_form(treadle: Any) -> None:
    folder = Path(__file__).parents[1] / "acceptance" / "light"
    treadle.write((folder / "12_llm_decision_loop.light.yaml").read_text(), "x.light.yaml")
    treadle.write('P: [d1, "NO", d2, "YES"]\n', "script.yaml")
    for form, name in (("treadle", "x.yaml"), ("native", "x.json")):
        assert treadle("convert", "x.light.yaml", "--to", form, "-o", name).returncode == 0
    for name in ("x.light.yaml", "x.yaml", "x.json"):
        done = treadle("run", name, "--script", "script.yaml", "--execution-id", name)
        assert (done.returncode, done.stdout) == (0, "d2\n")
        states = treadle.json("show", name)["node_states"]
        assert [(one["node"], one["iteration"], one["port"]) for one in states if one["node"] in "wc"] == [
            ("w", "1", None), ("c", "1", "false"), ("w", "2", None), ("c", "2", "true")]
