"""`treadle run` and `treadle resume`: results, exit codes, what is printed where."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

SUM = """
treadle: 1
name: sum
inputs:
  a: {type: integer}
  b: {type: any, default: 2}
  rows: {type: array, default: []}
nodes:
  add: {type: template_job, text: "{{ inputs.a + inputs.b + inputs.rows | length }}"}
  done: {type: endpoint, needs: add}
"""
ASK = """
treadle: 1
name: ask
nodes:
  ask: {type: user_response, prompt: "How many?", schema: {type: integer}}
  done: {type: endpoint, needs: ask}
"""


def test_a_result_goes_to_stdout_and_everything_else_to_stderr(treadle: Any) -> None:
    done = treadle("run", treadle.write(SUM), "-i", "a=1")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert re.search(r"^execution \w+ of 'sum' runs, in .*runs\.db$", done.stderr, re.M)
    assert "completed in" in done.stderr and "2 completed" in done.stderr


def test_inputs_are_read_as_their_declared_types(treadle: Any) -> None:
    (treadle.folder / "rows.json").write_text("[1, 2, 3]")
    words = ("run", treadle.write(SUM), "-i", "a=10")
    assert treadle.json(*words, "-i", "b=0.5", "-i", "rows=@rows.json")["output"] == "13.5"
    assert treadle.json(*words, "-i", "rows=[1]")["output"] == "13"


def test_the_document_of_a_run(treadle: Any) -> None:
    done = treadle.here("run", treadle.write(SUM), "-i", "a=1", "--json", "--execution-id", "mine")
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document.pop("seconds") > 0
    assert document.pop("counts")["completed"] == 2
    assert document == {"execution_id": "mine", "name": "sum", "status": "completed", "output": "3",
                        "error": None, "waiting": [], "slow_hooks": []}


def test_an_id_that_is_taken_is_refused(treadle: Any) -> None:
    treadle.here("run", treadle.write(SUM), "-i", "a=1", "--execution-id", "mine")
    again = treadle.here("run", "diagram.yaml", "-i", "a=1", "--execution-id", "mine")
    assert again.returncode == 2
    assert "mine" in again.stderr and "Traceback" not in again.stderr


def test_a_failure_shows_the_frames_of_the_user_and_none_of_ours(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  sum up: {type: code_job, call: 'tasks:boom'}\n")
    done = treadle("run", "diagram.yaml")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "node 'sum up': ValueError: invalid literal for int() with base 10: 'none'" in done.stderr
    assert 'in helper' in done.stderr and 'return int(row["cost"])' in done.stderr
    assert "treadle/engine" not in done.stderr and "treadle/nodes" not in done.stderr
    assert re.search(r"treadle resume \w+$", done.stderr, re.M)


def test_the_document_of_a_failure(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:boom'}\n")
    done = treadle.here("run", "diagram.yaml", "--json")
    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert (document["status"], document["output"]) == ("failed", None)
    assert document["error"]["type"] == "ValueError"
    assert document["error"]["node"] == "a"


def test_retries_and_failures_are_said_as_they_come(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n"
                  "  call: {type: code_job, call: 'tasks:flaky', retries: 3, backoff: 0.01}\n")
    done = treadle.here("run", "diagram.yaml")
    assert (done.returncode, done.stdout) == (0, "3\n")
    retries = [line for line in done.stderr.splitlines() if line.startswith("retry: call: attempt")]
    assert len(retries) == 2 and "ConnectionError: no line, again in" in retries[0]
    assert "failed:" not in done.stderr


def test_a_run_that_waits_for_a_person_ends_with_3_and_says_how_to_go_on(treadle: Any) -> None:
    """The commands that it prints are the ones that finish it."""
    done = treadle("run", treadle.write(ASK))
    assert (done.returncode, done.stdout) == (3, "")
    assert "node 'ask' waits for an answer: How many?" in done.stderr
    said = re.findall(r"treadle (answer|resume) (.*)$", done.stderr, re.M)
    assert [verb for verb, _ in said] == ["answer", "resume"]
    answered = treadle("answer", *said[0][1].replace("VALUE", "42").split())
    assert answered.returncode == 0, answered.stderr
    resumed = treadle("resume", *said[1][1].split())
    assert (resumed.returncode, resumed.stdout) == (0, "42\n")


def test_the_document_of_a_suspension(treadle: Any) -> None:
    done = treadle.here("run", treadle.write(ASK), "--json")
    document = json.loads(done.stdout)
    assert (done.returncode, document["status"]) == (3, "suspended")
    assert document["waiting"] == [{"node": "ask", "iteration": "1", "kind": "answer", "prompt": "How many?",
                                    "schema": {"type": "integer"}, "wake_at": None}]


def test_a_short_sleep_is_waited_for_and_a_long_one_is_not(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  nap: {type: sleep, seconds: 0.05}\n", "nap.yaml")
    treadle.write("treadle: 1\nnodes:\n  winter: {type: sleep, seconds: 5000}\n", "winter.yaml")
    assert treadle.here("run", "nap.yaml").returncode == 0
    long = treadle.here("run", "winter.yaml")
    assert long.returncode == 3
    assert re.search(r"node 'winter' waits until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", long.stderr)


def test_a_completed_execution_is_not_run_again(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:first'}\n")
    treadle("run", "diagram.yaml", "--execution-id", "once")
    again = treadle("resume", "once")
    assert (again.returncode, again.stdout) == (0, "one\n")
    assert treadle.log == ["first"]


def test_a_failed_execution_tries_only_what_failed_again(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:first'}\n"
                  "  b: {type: code_job, code: 'return int(open(\"n\").read())', needs: a}\n")
    assert treadle("run", "diagram.yaml", "--execution-id", "x").returncode == 1
    (treadle.folder / "n").write_text("7")
    again = treadle("resume", "x")
    assert (again.returncode, again.stdout) == (0, "7\n")
    assert treadle.log == ["first"]


def test_on_error_continue_lets_the_rest_run_and_a_resume_remembers_it(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  bad: {type: code_job, call: 'tasks:boom'}\n"
                  "  slow: {type: sleep, seconds: 0.1}\n"
                  "  after: {type: code_job, call: 'tasks:first', needs: slow}\n")
    run = ("run", "diagram.yaml", "--on-error", "continue", "--execution-id", "x")
    for command in (run, ("resume", "x")):
        assert treadle.here(*command).returncode == 1
        nodes = {one["node"]: one["status"] for one in treadle.json("show", "x")["node_states"]}
        assert nodes == {"bad": "failed", "slow": "completed", "after": "completed"}


def test_durability_memory_leaves_no_store(treadle: Any) -> None:
    words = ("run", treadle.write(SUM), "-i", "a=1", "--durability", "memory")
    done = treadle.here(*words)
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert not treadle.store.exists()
    assert treadle.here(*words, "--store", "x").returncode == 2


@pytest.mark.parametrize("durability", ["strict", "batched"])
def test_every_durable_mode_leaves_the_result_in_the_store(treadle: Any, durability: str) -> None:
    treadle.here("run", treadle.write(SUM), "-i", "a=1", "--durability", durability, "--execution-id", "x",
            "--concurrency", "2")
    assert treadle.json("show", "x")["output"] == "3"


def test_an_unambiguous_prefix_of_an_id_is_enough(treadle: Any) -> None:
    treadle.write(SUM)
    treadle.here("run", "diagram.yaml", "-i", "a=1", "--execution-id", "abc1")
    treadle.here("run", "diagram.yaml", "-i", "a=2", "--execution-id", "abd2")
    assert treadle.here("resume", "abc").stdout == "3\n"
    ambiguous = treadle.here("resume", "ab")
    assert ambiguous.returncode == 2
    assert "ab" in ambiguous.stderr


def test_warnings_of_the_diagram_are_said(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: start}\n  b: {type: start}\n  c: {type: endpoint}\n"
                  "arrows: [a -> c, b -> c]\n")
    done = treadle.here("run", "diagram.yaml")
    assert done.returncode == 0
    assert "diagram.yaml:6: warning: node 'c': two arrows without a label" in done.stderr
