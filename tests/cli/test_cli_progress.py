"""The views of a run, looked at directly, and how values and times are said."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, datetime
from typing import Any

import pytest

from treadle.cli.common import parse_inputs, parse_value, say_command
from treadle.cli.render import failure, report, result_text, seconds, shortened, table
from treadle.cli.running import progress
from treadle.cli.running.progress import JsonLines, Lines, Live, Logged, Pace, Silent, noted, view_for
from treadle.cli.running.screen import ERRORS_SHOWN
from treadle.diagram.node import Input
from treadle.engine.bus import Event, EventType
from treadle.engine.showing import message_of, plain
from treadle.errors import InvalidDiagram, InvalidInput, NoSuchNode, StoreFull
from treadle.state.cell import ErrorInfo, ExecutionCell, ItemError, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import LogLine


class Handle:
    """As much of a handle as a view sees."""

    def __init__(self, **counts: int) -> None:
        self.counts = {"known": 0, "completed": 0, "failed": 0, "skipped": 0, "running": 0, "suspended": 0,
                       "retrying": 0, **counts}
        self.cell = ExecutionCell("x", name="d", status=ExecutionStatus.RUNNING)
        self.execution_id = "x"
        self.diagram: Any = None
        self.names: list[str] = []
        self.waits: list[tuple[str, str, dict[str, Any]]] = []
        self.says: list[tuple[str, str, str]] = []
        self.spent = {"tokens": 0.0, "cost": 0.0}

    def shown(self, limit: int = 20) -> list[tuple[str, str, str]]:
        return self.says[:limit]

    def running(self, limit: int = 20) -> list[str]:
        return self.names[:limit]

    def waiting(self) -> list[tuple[str, str, dict[str, Any]]]:
        return self.waits


def event(status: NodeStatus, before: NodeStatus = NodeStatus.RUNNING, **fields: Any) -> Event:
    old = NodeState("x", "call", status=before)
    new = NodeState("x", "call", status=status, error=ErrorInfo("ValueError", "boom\nmore"), **fields)
    return Event(EventType.NODE_FAILED, "x", new, old, 10.0)


def test_failures_and_retries_in_a_line() -> None:
    assert noted(event(NodeStatus.FAILED)) == "failed: call: ValueError: boom"
    assert noted(event(NodeStatus.FAILED, iteration="2.1")) == (
        "failed: call (iteration 2.1): ValueError: boom")
    assert noted(event(NodeStatus.RETRYING, attempt=2, wake_at=12.5)) == (
        "retry: call: attempt 2: ValueError: boom, again in 2.5 s")
    assert noted(event(NodeStatus.FAILED, before=NodeStatus.RETRYING)) is None
    assert noted(Event(EventType.EXECUTION_FAILED, "x", ExecutionCell("x"), None, 1.0)) is None


def test_plain_lines_name_so_many_failures_a_second_and_count_the_others(
        capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    view = Lines()
    view.begin(Handle(), "execution x runs")  # type: ignore[arg-type]
    for _ in range(25):
        view.note(event(NodeStatus.FAILED))
    now[0] += 1
    view.look(Handle())  # type: ignore[arg-type]
    said = capsys.readouterr().err.splitlines()
    assert said == ["execution x runs", *["failed: call: ValueError: boom"] * 10,
                    "… and 15 more failures and retries"]
    now[0] += 10
    handle = Handle(known=30, completed=5, failed=1, running=9)
    handle.names = ["a", "b"]
    view.look(handle)  # type: ignore[arg-type]
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("6/30 nodes, ") and line.endswith("1 failed; running: a, b and 7 more")


def test_the_live_view_draws_a_bar_what_runs_and_the_last_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    view = Live()
    handle = Handle(known=100, completed=40, failed=2, running=3)
    handle.names = ["measure[7]"]
    view.begin(handle, "execution x runs")  # type: ignore[arg-type]
    for node in range(5):
        view.note(event(NodeStatus.FAILED, iteration=str(node + 2)))
    view.line("warning: [not markup]")
    drawn = view._display.console
    with drawn.capture() as captured:
        drawn.print(view._screen)
    view.close()
    view.close()
    said = captured.get()
    assert "42/100" in said and "d running" in said
    assert "running: measure[7] and 2 more" in said
    assert said.count("ValueError: boom") == ERRORS_SHOWN
    assert "warning: [not markup]" in screen.getvalue()


def test_the_live_view_shows_what_persons_are_saying_and_what_it_took(
        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    view = Live()
    handle = Handle(known=2, running=2)
    handle.says = [("ann", "1", "Tea\nis a drink."), ("bob", "3", "word " * 200 + "the end")]
    handle.spent = {"tokens": 12345.0, "cost": 0.0321}
    view.begin(handle, "execution x runs")  # type: ignore[arg-type]
    with view._display.console.capture() as captured:
        view._display.console.print(view._screen)
    view.close()
    said = captured.get().splitlines()
    assert "12,345 tokens, $0.0321" in said[0]
    assert said[-2].rstrip() == "  ann Tea is a drink."
    assert said[-1].startswith("  bob #3 …") and said[-1].rstrip().endswith("word the end")


def test_lines_of_json_tell_a_text_while_it_comes(capsys: pytest.CaptureFixture[str]) -> None:
    view, handle = JsonLines(), Handle()
    view.look(handle)  # type: ignore[arg-type]
    for text in ("Te", "Te", "Tea.", "x" * 5000):
        handle.says = [("ann", "2", text)]
        handle.spent = {"tokens": 7.0, "cost": 0.0}
        view.look(handle)  # type: ignore[arg-type]
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [one["text"] for one in lines] == ["Te", "Tea.", "x" * 2000]
    assert (lines[0]["event_type"], lines[0]["node"], lines[0]["iteration"], lines[0]["tokens"]) == (
        "partial", "ann", "2", 7.0)


def test_lines_of_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    view = JsonLines()
    view.begin(Handle(), "execution x runs")  # type: ignore[arg-type]
    view.take('{"event_type":"snapshot"}')
    view.line("warning: slow")
    view.said(LogLine("x", "a", "1", 1, 2.0, "stdout", "hello"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(one["event_type"], one.get("message") or one.get("text")) for one in lines] == [
        ("begin", "execution x runs"), ("snapshot", None), ("message", "warning: slow"), ("log", "hello")]


def test_a_view_says_what_is_waited_for() -> None:
    handle = Handle()
    handle.waits = [("ask", "1", {"kind": "answer"})]
    assert progress.under_way(handle) == "waiting: ask (answer)"  # type: ignore[arg-type]
    assert progress.under_way(Handle()) == "running: 0"  # type: ignore[arg-type]


def test_the_pace_forgets_what_is_long_ago(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    pace = Pace()
    for done in (500, 500, 500, 500, 510, 520, 530):  # a resume begins with 500
        pace.look({"completed": done, "known": 1000})
        now[0] += 1
    now[0] -= 1
    assert pace.text() == "530/1000 nodes, 7.5/s, 6 s"


def test_which_view_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(view_for(live=None, as_json=False), Lines)  # not a terminal here
    assert isinstance(view_for(live=True, as_json=False), JsonLines)
    assert isinstance(view_for(live=True, as_json=True), JsonLines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(view_for(live=None, as_json=False), Live)
    assert isinstance(view_for(live=False, as_json=False), Lines)
    assert isinstance(view_for(live=None, as_json=True), Silent)


def test_warnings_that_are_logged_pass_through_the_view(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    handler = Logged(Silent())
    handler.handle(logging.LogRecord("treadle", logging.WARNING, "", 0, "slow %s", ("disk",), None))
    assert capsys.readouterr().err == "warning: slow disk\n"


@pytest.mark.parametrize(("number", "text"), [
    (None, ""), (0.0, "0 ms"), (0.0032, "3.2 ms"), (4.714, "4.71 s"), (59.4, "59.4 s"), (125, "2 min 05 s"),
    (12_000, "3 h 20 min"), (187_200, "2 d 4 h")])
def test_durations(number: float | None, text: str) -> None:
    assert seconds(number) == text


def test_values_as_json_can_hold_them() -> None:
    value = {"when": datetime(2026, 1, 2, tzinfo=UTC), "row": (1, 2),
             "bad": ItemError(0, ErrorInfo("E", "m")), "far": [math.inf]}
    assert plain(value) == {"when": "2026-01-02T00:00:00Z", "row": [1, 2],
                            "bad": {"index": 0, "error": {"type": "E", "message": "m"}}, "far": ["inf"]}
    assert result_text("as it is") == "as it is"
    assert result_text([1]) == "[\n  1\n]"
    assert shortened("x" * 5000).endswith("… 1000 more characters (--json prints all)")


def test_tables_are_aligned_and_keep_to_one_line() -> None:
    assert table(("A", "LONG"), [("1", "x\ny"), ("22", "z" * 200)]).splitlines() == [
        "A   LONG", "1   x…", "22  " + "z" * 159 + "…"]


def test_failures_show_the_users_frames() -> None:
    assert failure(None) == "no error was recorded"
    assert failure(ErrorInfo("E", "m", node="a")) == "node 'a': E: m"
    trace = "Traceback (most recent call last):\n  File \"t.py\", line 1\nE: m\n"
    assert failure(ErrorInfo("E", "m", trace, "a")).splitlines()[1] == "  Traceback (most recent call last):"


def test_errors_say_what_and_end_with_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    cases: list[tuple[BaseException, int, str]] = [
        (InvalidInput("no"), 2, "treadle: no"), (NoSuchNode("gone"), 2, "treadle: gone"),
        (StoreFull("disk full"), 2, "treadle: disk full"), (InvalidDiagram([]), 2, "treadle: InvalidDiagram"),
        (FileNotFoundError(2, "No such file", "x.yaml"), 2, "treadle: x.yaml: No such file"),
        (InvalidInput("one\ntwo"), 2, "treadle:\n  one\n  two")]
    for error, code, said in cases:
        assert report(error, as_json=False) == code
        assert capsys.readouterr().err.rstrip() == said
    assert report(RuntimeError("oops"), as_json=False) == 1
    assert "a fault of Treadle's own" in capsys.readouterr().err
    assert report(RuntimeError("oops"), as_json=False, debug=True) == 1
    assert "RuntimeError: oops" in capsys.readouterr().err
    noted_error = InvalidInput("no")
    noted_error.add_note("but so")
    assert message_of(noted_error) == "no\nbut so"


def test_values_from_the_command_line(tmp_path: Any) -> None:
    (tmp_path / "a.yaml").write_text("k: [1]\n")
    (tmp_path / "a.txt").write_text("text")
    assert [parse_value(text) for text in ("1", "true", "x y", '{"a": null}', "@@home")] == [
        1, True, "x y", {"a": None}, "@home"]
    assert parse_value(f"@{tmp_path}/a.yaml") == {"k": [1]}
    assert parse_value(f"@{tmp_path}/a.txt") == "text"
    with pytest.raises(InvalidInput, match="not json"):
        (tmp_path / "b.json").write_text("{")
        parse_value(f"@{tmp_path}/b.json")
    declared = {"s": Input("string"), "v": Input("any")}
    assert parse_inputs(["s=1", "v=1", "other=[1]"], declared) == {"s": "1", "v": 1, "other": [1]}
    assert parse_inputs(["s=a=b"], declared) == {"s": "a=b"}


def test_commands_can_be_pasted() -> None:
    assert say_command("answer", "x", "a b", store="my store.db") == (
        "treadle answer x 'a b' --store 'my store.db'")
