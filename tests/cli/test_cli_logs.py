"""`treadle logs`, and where the words of bodies go during a run."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

from treadle.cli.render import spoken
from treadle.cli.running import progress
from treadle.cli.running.progress import Live
from treadle.store.base import LogLine

from .conftest import Command

TALK = """
treadle: 1
nodes:
  pick: {type: code_job, call: "talk:pick"}
  each: {type: code_job, call: "talk:each", for_each: "{{ pick }}", isolation: process, needs: pick}
  done: {type: endpoint, needs: each}
"""
MODULE = '''
import logging
import sys

def pick():
    print("one", "two")
    print("trouble", file=sys.stderr)
    logging.getLogger(__name__).warning("with care\\nand twice")
    return [5]

def each(item):
    print("item", item)
    return item
'''


def a_talk(treadle: Command) -> str:
    (treadle.folder / "talk.py").write_text(MODULE)
    return treadle.write(TALK)


def test_a_result_stays_alone_on_stdout_whatever_bodies_print(treadle: Command) -> None:
    done = treadle("run", a_talk(treadle))
    assert (done.returncode, done.stdout) == (0, "[\n  5\n]\n")
    assert done.stderr.splitlines()[1:-1] == [
        "pick | one two", "pick | trouble", "pick | WARNING talk: with care", "pick | and twice",
        "each[0] | item 5"]
    document = treadle("run", "diagram.yaml", "--json")
    assert json.loads(document.stdout)["status"] == "completed"
    assert document.stderr == ""
    assert "pick | one two" in treadle("run", "diagram.yaml", "--durability", "memory").stderr


def test_logs_has_it_later_in_order_with_time_node_and_stream(treadle: Command) -> None:
    treadle("run", a_talk(treadle), "--execution-id", "x", "--json")
    lines = treadle.here("logs", "x").stdout.splitlines()
    assert [line[24:] for line in lines] == [
        "pick | one two", "pick | stderr trouble", "pick | WARNING talk: with care", "pick | and twice",
        "each[0] | item 5"]
    assert all(line[4] == line[7] == "-" and line[19] == "." for line in lines)
    assert len(treadle.here("logs", "x", "--node", "each").stdout.splitlines()) == 1
    assert treadle.json("logs", "x", "--node", "pick")[2] == {
        "at": treadle.json("logs", "x")[2]["at"], "node": "pick", "iteration": "1", "attempt": 1,
        "stream": "log", "level": "WARNING", "logger": "talk", "text": "with care\nand twice"}
    followed = treadle.here("logs", "x", "--follow", "--json").stdout.splitlines()
    assert [json.loads(line)["text"] for line in followed][-1] == "item 5"


def test_who_asks_for_nothing_is_told_so(treadle: Command) -> None:
    treadle("run", a_talk(treadle), "--execution-id", "x")
    wrong = treadle.here("logs", "x", "--node", "pikc")
    assert wrong.returncode == 2 and "did you mean 'pick'?" in wrong.stderr
    nothing = treadle.here("logs", "x", "--attempt", "2")
    silence = "nothing was printed or logged there\n"
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", silence)
    assert treadle.here("logs", "x", "--node", "done").stderr == silence
    assert "has no execution 'y'" in treadle.here("logs", "y").stderr
    assert treadle.here("logs", "x", "--attempt", "0").returncode == 2


def test_follow_prints_as_it_comes_and_ends_with_the_execution(treadle: Command) -> None:
    (treadle.folder / "slow.py").write_text('''
import time
from pathlib import Path

def work():
    print("before")
    while not Path(__file__).with_name("go").exists():
        time.sleep(0.02)
    print("after")
''')
    child = treadle.begin("run", treadle.write(
        "treadle: 1\nnodes: {work: {type: code_job, call: 'slow:work', isolation: process}}"),
        "--execution-id", "x")
    treadle.until(lambda: treadle.store.exists() and treadle.here("logs", "x").stdout, "it said something")
    following = treadle.begin("logs", "x", "--follow")
    assert following.stdout is not None
    assert following.stdout.readline().endswith("work | before\n")
    (treadle.folder / "go").touch()
    rest, said = following.communicate(timeout=30)
    assert rest.endswith("work | after\n") and rest.count("\n") == 1
    assert (following.returncode, said) == (0, "")
    assert child.wait(timeout=30) == 0


def test_follow_ends_where_nobody_runs_it(treadle: Command) -> None:
    treadle("run", treadle.write("treadle: 1\nnodes: {ask: {type: user_response, prompt: 'Well?'}}"),
            "--execution-id", "x")
    done = treadle.here("logs", "x", "--follow")
    assert (done.returncode, done.stderr) == (0, "nobody runs execution x at the moment: it is suspended\n")


def test_on_a_terminal_words_stand_above_what_is_drawn(treadle: Command) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "treadle", "run", a_talk(treadle)], cwd=treadle.folder,
                             env={**treadle.environment, "TERM": "xterm"}, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    screen = b""
    while part := _read(ours):
        screen += part
    os.close(ours)
    assert child.communicate(timeout=30)[0] == b"[\n  5\n]\n"
    assert child.returncode == 0
    text = screen.decode()
    for line in ("pick | one two", "pick | trouble", "pick | WARNING talk: with care", "each[0] | item 5"):
        assert text.count(line) == 1, line


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's way to say that the other end is closed
        return b""


def test_of_very_many_words_the_live_view_shows_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(progress, "SAID_A_LOOK_MAX", 2)
    view = Live()
    view._drawing = True
    for number in range(5):
        view.said(a_line(f"line {number}"))
    view._speak()
    view._drawing = False  # it is over, and bodies that are being stopped have last words
    view.said(a_line("goodbye"))
    assert screen.getvalue() == "… 3 more lines: treadle logs\nn | line 3\nn | line 4\nn | goodbye\n"


def a_line(text: str, **fields: Any) -> LogLine:
    return LogLine(**{"execution_id": "x", "node_id": "n", "iteration": "1", "attempt": 1, "at": 0.0,
                      "stream": "stdout", "text": text, **fields})


@pytest.mark.parametrize("line, text", [
    (a_line("plain"), "n | plain"),
    (a_line("again", iteration="2.1", attempt=3), "n (iteration 2.1) (attempt 3) | again"),
    (a_line("3 lines left out", stream="note"), "n | … 3 lines left out"),
])
def test_a_line_stands_behind_its_node(line: LogLine, text: str) -> None:
    assert spoken(line, io.StringIO()) == text
    assert spoken(line, io.StringIO(), alone=True).endswith(text)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "shown"), [
    ("plain ü 🚀\ttab", "plain ü 🚀\ttab"), ("a\r\nb", "a\nn | b"), ("10%\r20%\r", "20%"),
    ("\x1b[31mred", "\x1b[31mred\x1b[0m"), ("\x1b[2J\x1b[Hgone?", "gone?"), ("\x1b[?1049hb", "b"),
    ("\x1b]0;title\x07t", "t"), ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x1bcreset", "reset"), ("\x9b2Jc", "c"), ("a\x08\x07b\x1b", "ab"), ("\x1b[>4;2mm", "m")])
def test_what_bodies_say_does_not_command_the_terminal(said: str, shown: str) -> None:
    line = a_line(said)
    assert spoken(line, Terminal()) == f"n | {shown}"
    assert spoken(line, io.StringIO()) == "n | " + said.replace("\n", "\nn | ")
