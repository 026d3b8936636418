"""`watch`, and how an execution looks on a terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from treadle.cli.drawing.picture import Edge, Picture, Shape
from treadle.cli.running.screen import Screen

HELD = """
treadle: 1
name: held
nodes:
  first: {type: code_job, call: "tasks:first"}
  hold: {type: code_job, call: "tasks:hold", needs: first}
  done: {type: endpoint, needs: hold}
"""
FAILS = """
treadle: 1
name: fails
nodes:
  boom: {type: code_job, call: "tasks:boom"}
  done: {type: endpoint, needs: boom}
"""


def test_an_execution_of_another_process_is_watched_to_its_end(treadle: Any) -> None:
    treadle.write(HELD)
    treadle.begin("run", "diagram.yaml", "--execution-id", "w")
    treadle.until_held()
    watching = treadle.begin("watch", "w")
    first = watching.stdout.readline()
    treadle.let_go()
    rest, errors = watching.communicate(timeout=60)
    assert (watching.returncode, errors) == (0, "")
    messages = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert messages[0]["event_type"] == "snapshot" and messages[-1]["event_type"] == "end"
    state: dict[str, Any] = {}
    for message in messages:
        for path, fields in (message.get("payload") or {}).get("nodes", {}).items():
            state.setdefault(path, {}).update(fields)
    assert {path: node["status"] for path, node in state.items()} == {
        "first": "completed", "hold": "completed", "done": "completed"}


def test_one_that_has_ended_is_shown_once(treadle: Any) -> None:
    treadle.write(FAILS)
    treadle.here("run", "diagram.yaml", "--execution-id", "f")
    done = treadle.here("watch", "f")
    assert done.returncode == 1
    snapshot = json.loads(done.stdout.splitlines()[0])
    assert snapshot["payload"]["nodes"]["boom"]["error"]["type"] == "ValueError"


@pytest.mark.parametrize(("words", "says"), [
    (("watch", "none"), "has no execution 'none'"),
    (("watch", "f", "--vis-update-rate", "0"), "greater than or equal to 0.1"),
    (("watch", "f", "--store", "none.db"), "there is no store none.db"),
])
def test_a_mistake_is_named(treadle: Any, words: tuple[str, ...], says: str) -> None:
    treadle.write(FAILS)
    treadle.here("run", "diagram.yaml", "--execution-id", "f")
    done = treadle.here(*words)
    assert done.returncode == 2 and says in done.stderr


def test_it_needs_nothing_of_the_server(treadle: Any) -> None:
    treadle.write(FAILS)
    treadle.here("run", "diagram.yaml", "--execution-id", "f")
    program = ("import sys\n"
               "for name in ('starlette', 'uvicorn', 'websockets'): sys.modules[name] = None\n"
               "from treadle.cli.main import main\nsys.exit(main(['watch', 'f']))")
    done = subprocess.run([sys.executable, "-c", program], cwd=treadle.folder, env=treadle.environment,
                          capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, "")


def drawn(screen: Screen, height: int, width: int = 90) -> list[str]:
    console = Console(width=width, height=height, force_terminal=True, color_system=None)
    with console.capture() as captured:
        console.print(screen)
    return [line.rstrip() for line in captured.get().splitlines()]


def graph() -> Picture:
    return Picture("d", tuple(Shape(name, "code_job") for name in ("a", "m", "ask", "e")),
                   (Edge(0, 1), Edge(0, 2), Edge(1, 3), Edge(2, 3)), (), (0, 1, 2, 3))


def test_the_graph_with_the_state_of_each_node() -> None:
    screen, now = Screen(graph()), time.time()
    screen.take({"execution": {"name": "d", "status": "suspended", "done": 23, "total": 64, "retries": 2},
                 "nodes": {"a": {"status": "completed", "started_at": now - 9, "ended_at": now - 4},
                           "m": {"status": "completed", "group": {"total": 60, "counts": {
                               "completed": 20, "failed": 2, "running": 8}}},
                           "ask": {"status": "suspended", "request": {"prompt": "Shall we?"}}}})
    error = {"type": "ValueError", "message": "boom\nx"}
    screen.take({"nodes": {"m[3]": {"status": "failed", "error": error}}})
    assert drawn(screen, 30) == [
        "‖ d suspended  ━━━━━━━━━━╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌╌ 23/64  2 retries",
        "✓  a    5 s", "├─╮", "✓ │  m    ━━━━━━╌╌╌╌╌╌╌╌╌╌ 22/60, 2 failed", "│ ‖  ask  waits for Shall we?",
        "├─╯", "·  e", "  ✗ m[3]: ValueError: boom"]


def test_where_the_graph_has_no_room_what_matters_comes_first() -> None:
    screen = Screen(graph())
    screen.take({"execution": {"name": "d", "status": "completed", "done": 30, "total": 33},
                 "nodes": {**{f"n{one}": {"status": "completed"} for one in range(30)},
                           "bad": {"status": "failed"}, "stopped": {"status": "cancelled", "attempt": 2}}})
    assert drawn(screen, 7) == [
        "✓ d completed  ━━━━━━━━━━━━━━━━━━━━━━━━━╌╌╌ 30/33", "✗ bad", "⊘ stopped  attempt 2",
        "  ✗ 1 failed  ⊘ 1 cancelled  ✓ 30 completed"]


def test_long_names_leave_room_for_what_is_said_of_their_nodes() -> None:
    long, wide = "a very long name " * 8, "長い名前" * 12
    picture = Picture("d", tuple(Shape(name, "code_job") for name in (long, wide, "m")), (), (), (0, 1, 2))
    group = {"status": "running", "group": {"total": 60, "counts": {"completed": 15}}}
    for screen in (Screen(picture), Screen()):  # the graph, and a list of nodes
        screen.take({"execution": {"name": long, "status": "running", "done": 45, "total": 180},
                     "nodes": {name: group for name in (long, wide, "m")}})
        for width in (90, 60, 30):
            lines = drawn(screen, 30, width)
            assert all(cell_len(line) <= width for line in lines)
            assert "45/180" in lines[0], lines
            assert sum("15/60" in line for line in lines) == 3, lines


def test_nothing_runs_in_an_execution_whose_owner_is_gone() -> None:
    screen = Screen(graph())
    screen.take({"execution": {"name": "d", "status": "stale"}, "nodes": {"a": {"status": "running"}}})
    assert drawn(screen, 30)[1].startswith("?  a")


def test_a_terminal_that_knows_only_ascii() -> None:
    screen = Screen(graph(), ascii_only=True)
    screen.take({"execution": {"name": "d", "status": "failed", "done": 1, "total": 2}, "nodes": {
        "a": {"status": "failed", "error": {"type": "E", "message": "m"}}}})
    text = drawn(screen, 30)
    assert "\n".join(text).isascii() and text[1].startswith("x  a") and text[-1] == "  x a: E: m"


def test_what_is_gone_is_forgotten() -> None:
    screen = Screen()
    screen.take({"nodes": {"a": {"status": "running"}}})
    screen.take({"nodes": {"a": None}})
    assert screen.nodes == {}
