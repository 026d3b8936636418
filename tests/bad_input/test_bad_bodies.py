"""Bodies that misbehave: the node fails with a message that says what, where and what to do; the state file
is whole, and when the body is mended a resume goes on without what was done."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .conftest import run, whole

FORKS = """
import os

def bad():
    child = os.fork()
    if child == 0:
        return "child"
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""
SWALLOWS = """
import contextlib, signal, time

def bad():
    with contextlib.suppress(ValueError):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(0.05)
"""
MENDED = "def bad():\n    return 'mended'\n"


def mend(treadle: Any) -> None:
    """The state file is whole, and the execution can be finished; `good` is not performed again."""
    whole(treadle)
    (treadle.folder / "bodies.py").write_text(MENDED)
    resumed = treadle("resume", "x", "--yes")
    assert (resumed.returncode, resumed.stdout) == (0, "mended\n"), resumed.stderr
    assert treadle.log == ["first"]
    whole(treadle)


CASES = {
    "raises": ("def bad():\n    row = {}\n    return row['cost']\n", "", r"bodies\.py\", line 3, in bad"),
    "unserialisable": ("import threading\ndef bad():\n    return threading.Lock()\n", "",
                       r"register_encoder"),
    "exits": ("import sys\ndef bad():\n    sys.exit(3)\n", "",
              r"the body called sys\.exit\(3\)[\s\S]*bodies\.py\", line 3"),
    "hangs": ("import time\ndef bad():\n    time.sleep(60)\n", "isolation: process, timeout: 0.5",
              r"0\.5 s"),
    "hangs_async": ("import asyncio\nasync def bad():\n    await asyncio.sleep(60)\n",
                    "timeout: 0.2", r"0\.2 s"),
    "floods": ("def bad():\n    return len(bytearray(2 << 30))\n",
               "isolation: process, memory_mb_max: 256", r"MemoryError|memory"),
    "dies": ("import os\ndef bad():\n    os._exit(7)\n", "isolation: process", r"exit(ed)?.*7|7"),
    "kills": ("import os, signal\ndef bad():\n    os.kill(os.getpid(), signal.SIGKILL)\n",
              "isolation: process", r"SIGKILL"),
    "stops": ("class Stop(BaseException): pass\ndef bad():\n    raise Stop('now')\n", "",
              r"the body raised Stop\('now'\)"),
    "interrupts": ("def bad():\n    raise KeyboardInterrupt\n", "", r"the body raised KeyboardInterrupt"),
    "stops_inline": ("class Stop(BaseException): pass\nasync def bad():\n    raise Stop('now')\n", "",
                     r"Stop: now"),
    "stops_later": ("import asyncio\nclass Stop(BaseException): pass\nasync def bad():\n"
                    "    await asyncio.sleep(0)\n    raise Stop('now')\n", "", r"Stop: now"),
    "cancels_itself": ("import asyncio\nasync def bad():\n    raise asyncio.CancelledError\n", "",
                       r"CancelledError"),
    "stops_its_process": ("class Stop(BaseException): pass\ndef bad():\n    raise Stop('now')\n",
                          "isolation: process", r"Stop: now"),
    "key": ("def bad():\n    return {object(): 1}\n", "", r"object"),
    "deep": ("def bad():\n    deep = []\n    for _ in range(100_000):\n        deep = [deep]\n"
             "    return deep\n", "", r"nested deeper than 100 levels"),
    "round": ("def bad():\n    ring = []\n    ring.append(ring)\n    return ring\n", "", r"contains itself"),
    "message": ("class Odd(Exception):\n    def __str__(self):\n        raise ValueError\n"
                "def bad():\n    raise Odd\n", "", r"its message can't be shown"),
    "long_message": ("def bad():\n    raise ValueError('x' * 50_000_000)\n", "isolation: process",
                     r"ValueError: x"),
    "surrogate": ("def bad():\n    return [1, '\\ud800']\n", "", r"text at result\[1\] has a lone surrogate"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_body_fails_its_node_and_nothing_else(treadle: Any, case: str) -> None:
    body, properties, says = CASES[case]
    done = run(treadle, body, properties=properties)
    assert done.returncode == 1, done.stderr
    assert "'bad'" in done.stderr
    assert re.search(says, done.stderr), done.stderr
    assert "treadle resume x" in done.stderr or "resume x" in done.stderr, done.stderr
    assert len(done.stderr) < 15_000
    mend(treadle)


def test_a_body_that_swallows_its_cancellation_is_left_behind_and_said(treadle: Any) -> None:
    done = run(treadle, "import asyncio\nasync def bad():\n    while True:\n        try:\n"
                        "            await asyncio.sleep(0.05)\n        except asyncio.CancelledError:\n"
                        "            pass\n", properties="timeout: 0.2, isolation: inline", apart=True)
    assert done.returncode == 1
    assert "'bad'" in done.stderr and "0.2 s" in done.stderr
    mend(treadle)


@pytest.mark.parametrize(("isolation", "says"), [("thread", "timeout of 0.2 s"), ("process", "was killed")])
def test_a_body_that_swallows_whatever_stops_it_neither_answers_nor_holds_the_command(
        treadle: Any, isolation: str, says: str) -> None:
    done = run(treadle, SWALLOWS, properties=f"timeout: 0.2, isolation: {isolation}", apart=True)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    mend(treadle)


@pytest.mark.parametrize("isolation", ["process", "thread", "inline"])
def test_the_copy_that_a_body_forks_neither_answers_nor_stays(treadle: Any, isolation: str) -> None:
    done = run(treadle, FORKS, properties=f"isolation: {isolation}, timeout: 20",
               apart=True)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr  # the status with which the copy ended
    mend(treadle)


def test_values_that_json_can_not_say_come_back_as_they_were(treadle: Any) -> None:
    done = run(treadle, "def bad():\n    return [float('nan'), float('inf'), 10 ** 400, -(2 ** 64)]\n")
    assert done.returncode == 0, done.stderr
    whole(treadle)
    again = treadle("resume", "x")
    assert again.returncode == 0, again.stderr
    assert again.stdout == done.stdout
    assert "nan" in done.stdout.lower() and str(10 ** 400) in done.stdout


def test_a_number_of_more_digits_than_python_prints(treadle: Any) -> None:
    done = run(treadle, "def bad():\n    return {'n': 10 ** 5000, ('a', 1): 2 ** 20_000}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout
    for words in (("resume", "x"), ("show", "x"), ("show", "x", "--node", "bad"), ("show", "x", "--json")):
        shown = treadle(*words)
        assert (shown.returncode, shown.stderr.count("Exceeds")) == (0, 0), shown.stderr
    plain = run(treadle, "def bad():\n    return [10 ** 5000]\n", name="y")
    assert plain.stdout.startswith('[\n  "0x31e2')
    whole(treadle)


def test_a_hundred_megabytes_are_an_output_like_others(treadle: Any) -> None:
    done = run(treadle, "def bad():\n    return 'x' * (100 << 20)\n", words=("--json",), apart=True)
    assert done.returncode == 0, done.stderr[-2000:]
    whole(treadle)
    (treadle.folder / "bodies.py").write_text("def bad():\n    return 'x' * (100 << 20)\n")
    shown = treadle("show", "x")
    assert shown.returncode == 0
    assert len(shown.stdout) < 20_000
