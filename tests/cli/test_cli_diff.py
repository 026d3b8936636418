"""`diff`: what differs between two executions is printed, and nothing else."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

FIRST = """
treadle: 1
name: sums
inputs:
  n: {type: integer, default: 3}
  more: {type: object, default: {a: [1, 2]}}
nodes:
  rows: {type: code_job, isolation: thread, code: "return {'rows': [{'id': i, 'v': i} for i in range(100)]}"}
  parse: {type: code_job, isolation: thread, code: "return item * 2", for_each: "{{ range(inputs.n) }}"}
  many: {type: condition, when: "{{ parse | length > 3 }}", needs: parse}
  yes: {type: template_job, text: "many", needs: many.true}
  no: {type: template_job, text: "few", needs: many.false}
  done: {type: endpoint, join: any, needs: ["yes", "no"]}
"""


@pytest.fixture
def ran(treadle: Any) -> Any:
    """Executions a and b of one diagram, that differ in nothing."""
    treadle.write(FIRST)
    for name in ("a", "b"):
        assert treadle.here("run", "diagram.yaml", "--execution-id", name).returncode == 0
    took(treadle, 0.01)
    return treadle


def took(treadle: Any, seconds: float, name: str = "%") -> None:
    """Let all bodies have taken so long, however busy the machine was."""
    connection = apsw.Connection(str(treadle.store))
    connection.execute("UPDATE node_states SET ended_at = started_at + ? WHERE execution_id LIKE ?",
                       (seconds, name))
    connection.close()


def test_equal_executions_have_no_difference(ran: Any) -> None:
    done = ran.here("diff", "a", "b")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].startswith("A: a  sums  completed, took ")
    assert done.stdout.splitlines()[-1].startswith("no difference: diagram, inputs, context, 9 nodes and the")
    assert len(done.stdout.splitlines()) == 4
    document = ran.json("diff", "a", "b")
    assert document["same"] is True
    assert (document["inputs"], document["output"], document["nodes"]) == (None, None, [])
    assert document["alike"] == 9


def test_inputs_outputs_ports_and_what_only_one_has(ran: Any) -> None:
    ran.here("run", "diagram.yaml", "--execution-id", "c", "-i", "n=4", "-i", 'more={"a": [1, 5], "b": null}')
    took(ran, 0.01)
    done = ran.here("diff", "a", "c")
    assert done.returncode == 1
    text = done.stdout
    assert "diagram\n" not in text
    assert [line.split() for line in text.partition("inputs")[2].splitlines()[1:4]] == [
        ["n", "3", "4"], ["more.a[1]", "2", "5"], ["more.b", "(none)", "null"]]
    rows = {tuple(line.split()) for line in text.splitlines()}
    assert {("parse", "1", "output", "[3]", "(none)", "6"), ("many", "1", "port", "false", "true"),
            ("no", "1", "status", "completed", "skipped"), ("parse[3]", "1", "only", "in", "B"),
            ("done", "1", "output", "few", "many"), ("4", "nodes", "are", "the", "same")} <= rows
    assert not any(row[:1] in [("rows",), ("parse[0]",)] for row in rows)
    document = ran.json("diff", "a", "c")
    assert document["inputs"]["places"][2] == {"path": "more.b", "b": None}
    nodes = {one["node"]: one for one in document["nodes"]}
    assert nodes["many"]["port"] == ["false", "true"]
    assert nodes["parse[3]"]["only"] == "b"
    assert document["output"] == {"count": 1, "note": None, "places": [{"path": "", "a": "few", "b": "many"}]}


SHARES = """
treadle: 1
inputs: {n: {type: integer, default: 3}}
nodes:
  a: {type: code_job, call: "shares:write", isolation: inline}
"""
WRITE = """
def write(context):
    n = context.execution_inputs["n"]
    context.variables.update(rows=[{"id": 1}, {"id": n}], same="always")
    context.artifacts[f"file{n}"] = "x"
    context.plugin("Tally")["n"] = n
"""


def test_what_bodies_share_is_compared_place_by_place(treadle: Any) -> None:
    treadle.write(WRITE, "shares.py")
    treadle.write(SHARES)
    for name, n in (("a", 3), ("b", 3), ("c", 4)):
        assert treadle.here("run", "diagram.yaml", "--execution-id", name, "-i", f"n={n}").returncode == 0
    assert treadle.here("diff", "a", "b").returncode == 0
    done = treadle.here("diff", "a", "c")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.partition("\ncontext")[2].splitlines()[1:5]]
    assert rows == [["artifacts.file3", "x", "(none)"], ["artifacts.file4", "(none)", "x"],
                    ["plugins.Tally.n", "3", "4"], ["variables.rows[1].id", "3", "4"]]
    document = treadle.json("diff", "a", "c")["context"]
    assert document["count"] == 4
    assert document["places"][1] == {"path": "artifacts.file4", "b": "x"}


def test_a_diagram_that_changed(ran: Any) -> None:
    changed = FIRST.replace("'v': i}", "'v': i + 1}").replace("needs: parse}", "needs: parse, retries: 2}")
    changed = changed.replace("  no:", "  none: {type: start}\n  no:")
    ran.here("run", ran.write(changed, "second.yaml"), "--execution-id", "c")
    done = ran.here("diff", "a", "c")
    assert done.returncode == 1
    assert done.stdout.partition("diagram\n")[2].splitlines()[:3] == [
        "  none: added", "  rows: changed: code", "  many: changed: retries: 0 → 2"]
    assert "output rows[4].v" in done.stdout and "output rows[5].v" not in done.stdout
    assert "output … 95 more" in done.stdout
    assert "output rows[99].v" in ran.here("diff", "a", "c", "--all").stdout
    back = ran.json("diff", "c", "a")
    assert back["diagram"] == {"added": [], "removed": ["none"], "other": [],
                               "changed": {"rows": "code", "many": "retries: 2 → 0"}}


def test_code_that_changed_beside_an_unchanged_file_is_told_by_its_lineage(treadle: Any) -> None:
    code = "def one():\n    return 1\n\n\ndef two(default):\n    return default\n"
    treadle.write(code, "mine.py")
    treadle.write("treadle: 1\nnodes:\n  one: {type: code_job, call: 'mine:one'}\n"
                  "  two: {type: code_job, call: 'mine:two', needs: one}\n")
    treadle("run", "diagram.yaml", "--execution-id", "a")
    treadle.write(code.replace("return 1", "return 2"), "mine.py")
    treadle("run", "diagram.yaml", "--execution-id", "b")
    document = treadle.json("diff", "a", "b")
    assert document["diagram"]["changed"] == {"one": "its code, or a file that it names"}


def test_errors_and_attempts(treadle: Any) -> None:
    text = "treadle: 1\nnodes: {a: {type: code_job, call: 'tasks:flaky', retries: 5, backoff: 0}}\n"
    treadle.here("run", treadle.write(text, "good.yaml"), "--execution-id", "a")
    treadle.here("run", treadle.write(text.replace("5", "1"), "bad.yaml"), "--execution-id", "b")
    done = treadle.here("diff", "a", "b")
    assert done.returncode == 1
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["a", "1", "status", "completed", "failed"] in rows
    assert ["a", "1", "attempts", "3", "2"] in rows
    assert ["a", "1", "error", "(none)", "ConnectionError:", "no", "line"] in rows
    assert treadle.json("diff", "a", "b")["status"] == ["completed", "failed"]


def test_turns_of_a_loop_are_compared_one_by_one(treadle: Any) -> None:
    text = """
treadle: 1
inputs: {most: {type: integer, default: 2}}
nodes:
  count: {type: code_job, isolation: thread, code: "return (last if last else 0) + 1", needs: []}
  more: {type: condition, when: "{{ count < inputs.most }}"}
  begin: {type: code_job, isolation: thread, code: "return 0"}
arrows:
  - begin -> count.last
  - count -> more
  - more.true -> count.last
"""
    treadle.write(text)
    for name, most in (("a", "2"), ("b", "3")):
        done = treadle.here("run", "diagram.yaml", "--execution-id", name, "-i", f"most={most}")
        assert done.returncode == 0, done.stderr
    nodes = {(one["node"], one["iteration"]): one for one in treadle.json("diff", "a", "b")["nodes"]}
    assert nodes["more", "2"]["port"] == ["false", "true"]
    assert nodes["count", "3"]["only"] == "b"
    assert ("count", "2") not in nodes


def test_large_outputs_are_compared_and_long_lists_are_cut(treadle: Any) -> None:
    treadle.write("""
treadle: 1
inputs: {k: {type: integer}}
nodes:
  k: {type: template_job, text: "{{ inputs.k }}"}
  big: {type: code_job, isolation: thread, code: "return ['x' * 50 + str(i // int(k)) for i in range(3000)]"}
  each: {type: template_job, text: "{{ item // inputs.k }}", for_each: "{{ range(100) }}"}
arrows: [k -> big.k, k -> each.k]
""")
    for k in ("1", "2"):
        done = treadle.here("run", "diagram.yaml", "--execution-id", f"k{k}", "-i", f"k={k}")
        assert done.returncode == 0, done.stderr
    said = treadle.here("diff", "k1", "k2").stdout
    assert "output … 2994 more" in said
    items = [line.split()[0] for line in said.splitlines() if line.startswith("each[")]
    assert items == sorted(items, key=lambda path: int(path[5:-1]))
    assert "more lines (--all prints them)" in said
    assert len(said.splitlines()) < 90
    assert len(treadle.here("diff", "k1", "k2", "--all").stdout.splitlines()) > 1000
    big = next(one for one in treadle.json("diff", "k1", "k2")["nodes"] if one["node"] == "big")
    assert (big["output"]["count"], len(big["output"]["places"])) == (2999, 1000)


def test_times_are_said_and_make_no_difference(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes: {a: {type: code_job, isolation: thread, code: 'return 1'}}\n")
    for name, seconds in (("a", 0.4), ("b", 0.01)):
        treadle.here("run", "diagram.yaml", "--execution-id", name)
        took(treadle, seconds, name)
    node = treadle.json("diff", "a", "b")["nodes"][0]
    assert node["status"] is None and node["seconds"] == pytest.approx([0.4, 0.01], abs=1e-3)
    assert "time" in treadle.here("diff", "a", "b").stdout


@pytest.mark.parametrize(("words", "says"), [
    (("diff", "a", "c"), "has no execution 'c'"),
    (("diff", "a", "b", "--other-store", "none.db"), "there is no store none.db"),
])
def test_a_mistake_is_answered_in_a_line(ran: Any, words: tuple[str, ...], says: str) -> None:
    done = ran.here(*words)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert says in done.stderr
