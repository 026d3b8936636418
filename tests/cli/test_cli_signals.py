"""Interrupts, kills, two processes at one execution, and words from another process."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from .conftest import execution_in

HOLD = """
treadle: 1
name: held
nodes:
  a: {type: code_job, call: "tasks:first"}
  b: {type: code_job, call: "tasks:hold", needs: a}
  done: {type: endpoint, needs: b}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_the_state_and_the_message_says_how_to_go_on(treadle: Any, number: int) -> None:
    child = treadle.begin("run", treadle.write(HOLD), "--durability", "batched")
    treadle.until_held()
    child.send_signal(number)
    stdout, stderr = child.communicate(timeout=30)
    name = execution_in(stderr)
    assert (child.returncode, stdout) == (130, "")
    assert f"go on with: treadle resume {name}" in stderr
    assert "Traceback" not in stderr
    states = {one["node"]: one["status"] for one in treadle.json("show", name)["node_states"]}
    assert states == {"a": "completed", "b": "running"}
    treadle.let_go()
    resumed = treadle("resume", name)
    assert (resumed.returncode, resumed.stdout) == (0, "hold\n")
    assert treadle.log == ["first", "began hold", "began hold", "ended hold"]


@pytest.mark.parametrize("words", [["nodes"], ["run", "diagram.yaml"], ["list", "--json"], ["bogus"]])
def test_who_calls_main_gets_the_signals_back(treadle: Any, words: list[str]) -> None:
    """Else the process would end, without a word, at its next write to a socket whose reader has left."""
    treadle.write("treadle: 1\nnodes: {a: {type: template_job, text: hello}}\n")
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
    before = [signal.getsignal(number) for number in numbers]
    treadle(*words)
    assert [signal.getsignal(number) for number in numbers] == before
    assert signal.getsignal(signal.SIGPIPE) != signal.SIG_DFL


@pytest.mark.parametrize("words", [["run", "diagram.yaml"], ["run", "diagram.yaml", "--json"],
                                   ["cancel", "nobody", "--json"], ["bogus", "--json"]])
def test_a_reader_who_left_is_no_failure_of_what_was_done(treadle: Any, words: list[str]) -> None:
    treadle.write("treadle: 1\nnodes: {a: {type: template_job, text: \"{{ 'hello' * 100000 }}\"}}\n")
    child = treadle.begin(*words)
    child.stdout.close()
    assert (child.wait(30), "Traceback" in child.stderr.read()) == (-signal.SIGPIPE, False)


def test_a_second_interrupt_ends_at_once(treadle: Any) -> None:
    """A body that ignores its cancellation holds the first one up, and not the second."""
    treadle.write("treadle: 1\nnodes:\n"
                  "  stubborn: {type: code_job, isolation: inline, call: 'stubborn:stay'}\n")
    treadle.write("import asyncio\nfrom pathlib import Path\nHERE = Path(__file__).parent\n"
                  "async def stay():\n    while True:\n        try:\n            (HERE / 'here').touch()\n"
                  "            await asyncio.sleep(60)\n        except asyncio.CancelledError:\n"
                  "            (HERE / 'told').touch()\n", "stubborn.py")
    child = treadle.begin("run", "diagram.yaml")
    treadle.until_held()
    child.send_signal(signal.SIGINT)
    treadle.until((treadle.folder / "told").exists, "the body was cancelled")
    child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=30)
    assert child.returncode == 130
    assert "stopped at once" in stderr and "Traceback" not in stderr


def test_after_kill_9_a_resume_runs_only_what_was_not_recorded(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HOLD), "--durability", "strict", "--execution-id", "x")
    treadle.until_held()
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    [line] = treadle.json("list")
    assert (line["status"], line["completed"]) == ("stale", 1)
    treadle.let_go()
    resumed = treadle("resume", "x")
    assert (resumed.returncode, resumed.stdout) == (0, "hold\n")
    assert treadle.log == ["first", "began hold", "began hold", "ended hold"]


def test_of_two_that_run_one_execution_the_second_is_refused_with_the_owners_name(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HOLD), "--execution-id", "x")
    treadle.until_held()
    refused = treadle("resume", "x")
    assert refused.returncode == 2
    assert f"process {child.pid} on {os.uname().nodename}" in refused.stderr
    treadle.let_go()
    stdout, _ = child.communicate(timeout=30)
    assert (child.returncode, stdout) == (0, "hold\n")


def test_cancel_reaches_the_process_that_runs_it(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HOLD), "--execution-id", "x")
    treadle.until_held()
    done = treadle("cancel", "x", "--reason", "too dear")
    _, stderr = child.communicate(timeout=30)
    assert (done.returncode, child.returncode) == (0, 1)
    assert "cancelled" in stderr and "too dear" in stderr
    assert treadle.json("list")[0]["status"] == "cancelled"
    assert treadle.log == ["first", "began hold"]
    assert treadle("cancel", "x").returncode == 2


def test_cancel_of_what_nobody_runs(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes: {ask: {type: user_response}}\n")
    assert treadle("run", "diagram.yaml", "--execution-id", "x").returncode == 3
    assert treadle.json("cancel", "x") == {"execution_id": "x", "status": "cancelled"}
    [ask] = treadle.json("show", "x")["node_states"]
    assert ask["status"] == "cancelled"


def test_answers_and_signals_reach_a_running_process(treadle: Any) -> None:
    """Beside a body that runs, so that the execution is not given back meanwhile."""
    treadle.write("treadle: 1\nnodes:\n  b: {type: code_job, call: 'tasks:hold'}\n"
                  "  ask: {type: user_response, schema: {type: string}}\n"
                  "  wait: {type: wait_for, signal: paid, needs: ask}\n"
                  "  free: {type: code_job, code: 'open(\"go\", \"w\"); result = [ask, wait]'}\n"
                  "  done: {type: endpoint, needs: free}\narrows: [ask -> free.ask, wait -> free.wait]\n")
    child = treadle.begin("run", "diagram.yaml", "--execution-id", "x", "--json")
    treadle.until_held()
    early = treadle("signal", "x", "paid", '{"euros": 5}')
    answered = treadle("answer", "x", "ask", "7")
    assert (early.returncode, answered.returncode) == (0, 0), early.stderr + answered.stderr
    assert f"process {child.pid}" in answered.stderr
    stdout, stderr = child.communicate(timeout=30)
    assert child.returncode == 0, stderr
    assert '"7"' in stdout and '"euros": 5' in stdout


def test_a_wait_for_a_signal_across_processes(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  wait: {type: wait_for, signal: go}\n"
                  "  done: {type: endpoint, needs: wait}\n")
    done = treadle("run", "diagram.yaml", "--execution-id", "x")
    assert (done.returncode, "treadle signal x go VALUE" in done.stderr) == (3, True)
    assert treadle("resume", "x").returncode == 3
    assert treadle("signal", "x", "go", "@@home").returncode == 0
    resumed = treadle("resume", "x")
    assert (resumed.returncode, resumed.stdout) == (0, "@home\n")
