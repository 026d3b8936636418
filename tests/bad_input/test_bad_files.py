"""Diagram files that nobody should write: a fault with its line, exit code 2, at once, in little memory."""

from __future__ import annotations

import codecs
import json
import os
from typing import Any

import pytest

BOMB = "treadle: 1\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True))
RUNS = "treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:first'}\n"


def node(properties: str) -> str:
    return f"treadle: 1\nnodes:\n  a: {{{properties}}}\n"


FILES = [
    ("bomb.yaml", BOMB, "bomb.yaml:"),
    ("deep.yaml", "treadle: 1\nnodes: " + "[" * 100_000, "deep.yaml:2"),
    ("deep.json", '{"treadle": 1, "nodes": ' + "[" * 100_000, "deep.json:1"),
    ("large.yaml", "treadle: 1\nname: x\n" + "# notes\n" * 1_400_000, "large.yaml"),
    ("bytes.yaml", "treadle: 1\nname: \x00\n", "bytes.yaml:2"),
    ("number.yaml", node(f"type: sleep, seconds: {'9' * 5000}"), "number.yaml:3"),
    ("nan.yaml", node("type: sleep, seconds: .nan"), "nan.yaml:3"),
    ("empty.yaml", "", "empty.yaml"),
    ("list.yaml", "- treadle\n", "list.yaml:1"),
    ("prose.yaml", "Dear Sirs\n", "prose.yaml:1: a diagram must be a map"),
    ("tab.yaml", "treadle: 1\nnodes:\n\ta: {type: start}\n", "tab.yaml:3: not YAML: a tab stands here"),
    ("utf16.yaml", RUNS.encode("utf-16"), "save it as UTF-8"),
    ("latin.yaml", "treadle: 1\nname: caf\xe9\n".encode("latin-1"), "latin.yaml:2: not UTF-8"),
    ("picture.yaml", b"\x89PNG\r\n\x1a\n\x00", "picture.yaml:1: not UTF-8"),
    ("lines.yaml", RUNS.replace("code_job", "code_jb").replace("\n", "\r\n"), "lines.yaml:3: node 'a'"),
    ("twice.yaml", RUNS + "  a: {type: start}\n", "twice.yaml:4: key 'a' stands here a second time"),
    ("twice.json", '{"treadle": 1,\n"nodes": {"a": {"type": "start"},\n"a": {"type": "start"}}}',
     "twice.json:3"),
    ("two.yaml", RUNS + "---\n" + RUNS, "two.yaml:4: a second document"),
    ("tag.yaml", "treadle: 1\nnodes: !!python/object/apply:os.system ['id']\n", "means nothing in a diagram"),
    ("itself.yaml", node("type: sub_diagram, diagram: itself.yaml"), "the diagram runs itself"),
    ("minus.yaml", node(f"type: code_job, code: 'result = {'-' * 100_000}1'"),
     "minus.yaml:3: node 'a': the code is nested too deeply"),
    ("null.json", json.dumps({"treadle": 1, "nodes": {"a": {"type": "code_job", "code": "\x00"}}}),
     "null.json:1: node 'a': the code can't be read"),
    ("braces.yaml", node(f"type: condition, when: '{'(' * 3000}1{')' * 3000}'"), "nested too deeply"),
    ("gone.yaml", node("type: code_job, call: 'nowhere:f'"), "gone.yaml:3: node 'a': no module 'nowhere'"),
    ("leaves.yaml", node("type: code_job, call: 'leaves:f'"), "'leaves' of . failed: SystemExit: 5"),
    ("broken.yaml", node("type: code_job, call: 'broken:f'"), "SyntaxError"),
    ("itself2.yaml", RUNS + "arrows: [a -> a]\n", "no arrow enters it from outside"),
    ("minus1.yaml", node("type: sleep, seconds: 1, retries: -1"), "retries must be at least 0"),
]


@pytest.mark.parametrize(("name", "text", "says"), FILES, ids=[name for name, _, _ in FILES])
def test_a_file_that_nobody_should_write(treadle: Any, name: str, text: str | bytes, says: str) -> None:
    (treadle.folder / "leaves.py").write_text("raise SystemExit(5)\n")
    (treadle.folder / "broken.py").write_text("def f(:\n")
    (treadle.folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = treadle("run", name)
    said = done.stderr + done.stdout
    assert done.returncode == 2, said[-3000:]
    assert says in said, said[-3000:]
    assert "Traceback" not in said and len(said) < 4000
    assert not treadle.store.exists() or treadle.json("list") == []


ODD = [
    ("bom.yaml", codecs.BOM_UTF8 + RUNS.encode()),
    ("lines.yaml", RUNS.replace("\n", "\r\n").encode()),
    ("it's \"a\" file; rm -rf *.yaml", RUNS.encode()),
    ("größe-日本.yaml", RUNS.encode()),
    ("no_suffix", RUNS.encode()),
    ("words.yaml", RUNS.replace("  a:", "  größe 日本:").encode()),
    ("signs.yaml", RUNS.replace("  a:", '  "../a/b[1]\\e[31m":').encode()),
    ("numbers.yaml", RUNS.replace("  a:", "  1:").encode()),
    ("long.json", json.dumps({"treadle": 1, "nodes": {"n" * 5000: {
        "type": "code_job", "call": "tasks:first"}}}).encode()),
]


@pytest.mark.parametrize(("name", "text"), ODD, ids=range(len(ODD)))
def test_an_odd_file_that_is_in_order_runs(treadle: Any, name: str, text: bytes) -> None:
    (treadle.folder / name).write_bytes(text)
    done = treadle("run", name, "--execution-id", "x")
    assert (done.returncode, done.stdout) == (0, "one\n"), done.stderr[-3000:]
    assert treadle.log == ["first"]
    for words in (("show", "x"), ("list",), ("show", "x", "--json")):
        shown = treadle(*words)
        assert shown.returncode == 0, shown.stderr[-3000:]
        assert "\x1b" not in shown.stdout


def test_what_is_no_file(treadle: Any) -> None:
    (treadle.folder / "folder.yaml").mkdir()
    (treadle.folder / "ring.yaml").symlink_to("rang.yaml")
    (treadle.folder / "rang.yaml").symlink_to("ring.yaml")
    (treadle.folder / "lost.yaml").symlink_to("nowhere")
    treadle.write(RUNS)
    for name, says in (("folder.yaml", "Is a directory"), ("ring.yaml", "Too many levels of symbolic links"),
                       ("lost.yaml", "No such file"), ("diagrm.yaml", "did you mean 'diagram.yaml'"),
                       (os.devnull, "the diagram is empty"), ("/dev/zero", "diagram_bytes_max")):
        done = treadle("run", name)
        assert done.returncode == 2 and says in done.stderr, (name, done.stderr)
        assert says.startswith("did you") or "did you mean" not in done.stderr
    assert not treadle.store.exists()


@pytest.mark.parametrize(("properties", "says"), [
    ("type: template_job, text: "
     "'{% for i in range(10**5) %}{% for j in range(10**5) %}{% endfor %}{% endfor %}'",
     "template_turns_max"),
    ("type: template_job, text: '{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}'", "itself too deeply"),
    ("type: template_job, text: \"{{ 'x' * 10**10 }}\"", "expression_result_max"),
    ("type: template_job, text: \"{{ 'x'.ljust(10**10) }}\"", "expression_result_max"),
    ("type: template_job, text: '{{ range(10**19) | list }}'", "too large"),
    ("type: template_job, text: '{% include \"/etc/passwd\" %}'", "no template file '/etc/passwd'"),
    ("type: template_job, text: '{{ [1].__class__ }}'", "unsafe"),
    ("type: condition, when: '{{ 1 / 0 }}'", "division by zero"),
    ("type: code_job, code: 'result = 1', for_each: '{{ 5 }}'", "a map goes over a list or a map"),
])
def test_a_template_that_never_ends_or_grows_fails_its_node(treadle: Any, properties: str, says: str) -> None:
    treadle.write(node(properties))
    done = treadle("run", "diagram.yaml", "--execution-id", "x")
    assert done.returncode == 1 and "node 'a'" in done.stderr and says in done.stderr, done.stderr
    treadle.write(RUNS)
    mended = treadle("resume", "x", "--yes")
    assert (mended.returncode, mended.stdout) == (0, "one\n"), mended.stderr


def test_a_wait_beyond_every_calendar_is_a_long_wait(treadle: Any) -> None:
    treadle.write(node("type: sleep, seconds: 1.0e+300"))
    done = treadle("run", "diagram.yaml", "--execution-id", "x")
    assert done.returncode == 3 and "waits until 999" in done.stderr, done.stderr
    assert "waits until 999" in treadle("show", "x").stdout
    treadle.write(node("type: user_response, prompt: Well?, timeout: 1.0e+300"))
    assert treadle("run", "diagram.yaml").returncode == 3


def test_inputs_of_the_command_line_that_nobody_should_give(treadle: Any) -> None:
    treadle.write("treadle: 1\ninputs: {n: integer}\nnodes: {a: {type: start}}\n")
    for value in ("1e999", "NaN", "[" * 50_000, "\udcff", "9" * 5000, "", "1.5"):
        done = treadle("run", "diagram.yaml", "-i", f"n={value}")
        assert done.returncode == 2, (value[:20], done.stderr[-1000:])
        assert "'n'" in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr) < 2000
    for words, says in (("-i n", "write it as -i name=value"), ("-i =1", "write it as -i name=value"),
                        ("-i n=1 -i n=1", "given twice"), ("", "needs the input 'n'"),
                        ("-i n=1 -i m=1", "has no input 'm'"), ("-i n=@gone", "@gone: No such file")):
        done = treadle("run", "diagram.yaml", *words.split())
        assert done.returncode == 2 and says in done.stderr, (words, done.stderr)
