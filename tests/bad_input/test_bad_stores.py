"""A store in trouble: locked, shared, and a clock that jumps. Nothing is lost."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from typing import Any

from .conftest import whole

MANY = """
treadle: 1
nodes:
  many: {type: code_job, code: "result = str(index) * 12000", for_each: "{{ range(200) | list }}"}
  done: {type: code_job, code: "result = len(many)", needs: many}
"""


def test_another_program_locks_the_file_for_a_while(treadle: Any) -> None:
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:hold'}\n"
                  "  b: {type: code_job, call: 'tasks:first', needs: a}\n"
                  "  done: {type: endpoint, needs: b}\n")
    child = treadle.begin("run", "diagram.yaml", "--execution-id", "x", "--durability", "strict")
    treadle.until_held()
    other = sqlite3.connect(treadle.store, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        treadle.let_go()
        treadle.until(lambda: "ended hold" in treadle.log, "the body ended")
        try:
            child.communicate(timeout=2)  # the time for which the other holds the lock
            raise AssertionError("it ended before it could write")
        except subprocess.TimeoutExpired:
            assert "first" not in treadle.log  # strict: nothing follows before it is on disk
        other.execute("COMMIT")
    finally:
        other.close()
    stdout, stderr = child.communicate(timeout=30)
    assert (child.returncode, stdout) == (0, "one\n"), stderr
    whole(treadle)


def test_two_processes_run_in_one_file(treadle: Any) -> None:
    treadle.write(MANY)
    children = [treadle.begin("run", "diagram.yaml", "--execution-id", name) for name in ("x", "y")]
    for child in children:
        stdout, stderr = child.communicate(timeout=60)
        assert (child.returncode, stdout) == (0, "200\n"), stderr
    assert {one["status"] for one in treadle.json("list")} == {"completed"}
    whole(treadle)
    taken = treadle("run", "diagram.yaml", "--execution-id", "x")
    assert taken.returncode == 2
    assert "x" in taken.stderr and "Traceback" not in taken.stderr


def test_the_clock_jumps_back(treadle: Any) -> None:
    """An execution of tomorrow is resumed today: its waits are not negative and its lease is not for ever."""
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'tasks:hold'}\n"
                  "  nap: {type: sleep, seconds: 0.1, needs: a}\n"
                  "  done: {type: code_job, code: 'result = 5', needs: nap}\n")
    (treadle.folder / "tomorrow.py").write_text(
        "import sys, time\nnow = time.time\ntime.time = lambda: now() + 86400\n"
        "from treadle.cli.main import main\nsys.exit(main(sys.argv[1:]))\n")
    child = subprocess.Popen([sys.executable, "tomorrow.py", "run", "diagram.yaml", "--execution-id", "x"],
                             cwd=treadle.folder, env=treadle.environment, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    treadle.children.append(child)
    treadle.until_held()
    os.kill(child.pid, 9)
    child.communicate()
    treadle.let_go()
    resumed = treadle("resume", "x")
    assert (resumed.returncode, resumed.stdout) == (0, "5\n"), resumed.stderr
    [line] = treadle.json("list")
    assert line["status"] == "completed"
    whole(treadle)


def test_the_clock_jumps_back_while_it_runs(treadle: Any) -> None:
    """Waits and retries go by time that passes; no duration is negative, then or in what a reader sees."""
    (treadle.folder / "clock.py").write_text(
        "import time\nnow = time.time\n\nasync def back():\n    time.time = lambda: now() - 86400\n\n"
        "async def flaky(context):\n    if context.attempt < 3:\n        raise ConnectionError\n"
        "    return 7\n")
    treadle.write("treadle: 1\nnodes:\n  a: {type: code_job, call: 'clock:back'}\n"
                  "  nap: {type: sleep, seconds: 0.1, needs: a}\n"
                  "  again: {type: code_job, call: 'clock:flaky', retries: 3, backoff: 0.05, needs: nap}\n"
                  "  done: {type: endpoint, needs: again}\n")
    done = treadle.apart("run", "diagram.yaml", "--execution-id", "x", "--durability", "strict")
    assert (done.returncode, done.stdout) == (0, "7\n"), done.stderr
    assert re.search(r"completed in [\d.]+ m?s:", done.stderr), done.stderr
    shown = treadle.json("show", "x")
    assert {cell["node"] for cell in shown["node_states"]} == {"a", "nap", "again", "done"}
    for cell in shown["node_states"]:
        assert cell["started_at"] <= cell["ended_at"] and cell["seconds"] >= 0
    for words in (("show", "x"), ("list",)):
        assert not re.search(r" -\d", treadle(*words).stdout)
    whole(treadle)
