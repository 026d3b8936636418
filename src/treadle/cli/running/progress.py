"""How a run looks while it is under way: a live view on a terminal, plain lines elsewhere, or nothing.

A view is asked to look at the execution some times a second, and gets failures and retries as they come;
nothing else of a node ever reaches it, so that watching costs the run next to nothing.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import os
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

from treadle.cli.render import per_second, say, seconds, spent, spoken
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.engine.bus import Event
    from treadle.engine.handle import Handle
    from treadle.store.base import LogLine

LIVE_INTERVAL_S = 0.125
LINES_INTERVAL_S = 0.5
PROGRESS_EVERY_S = 10.0
"""How often plain lines say how far it is."""
LINES_A_SECOND_MAX = 10
"""Failures and retries that plain lines name; the others of that second are counted."""
SAID_A_LOOK_MAX = 200
"""Lines of bodies that the live view shows each time it looks; of more, the last."""
RUNNING_SHOWN = 4
TALKING_SHOWN = 4
"""Nodes whose words the live view shows while they come."""
TAIL_CHARS = 2000
"""Of a text that is still coming, its end: so much is a line of JSON told."""
TALKING_INTERVAL_S = 0.25
GRAPH_NODES_MAX = 200
"""Of larger diagrams no terminal shows the graph."""


class View(Protocol):
    """What looks on at a run. All of it is called on the event loop."""

    interval_s: float
    fed: bool  # whether it wants to be told what viewers of the monitor are

    def begin(self, handle: Handle, text: str) -> None:
        """The execution is about to run; `text` says which."""

    def take(self, message: str) -> None:
        """What viewers of the monitor are told, as JSON. Only for views with `fed`."""

    def note(self, event: Event) -> None:
        """An attempt failed, or another is due."""

    def line(self, text: str) -> None:
        """Something to be said at once, such as a warning."""

    def said(self, line: LogLine) -> None:
        """A body printed or logged a line."""

    def look(self, handle: Handle) -> None:
        """See how far it is."""

    def close(self) -> None:
        """It is over: leave the terminal clean. A second call does nothing."""


def view_for(*, live: bool | None, as_json: bool) -> View:
    """The view that fits: `live` None means live on a terminal; where it is asked for and there is none,
    lines of JSON."""
    terminal = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
    if live and (as_json or not terminal):
        return JsonLines()
    if as_json:
        return Silent()
    return Live() if terminal and live is not False else Lines()


async def follow(view: View, handle: Handle) -> None:
    """Let a view look on until this is cancelled."""
    while True:
        view.look(handle)
        await asyncio.sleep(view.interval_s)


class Logged(logging.Handler):
    """Says through a view, in a `with`, what Treadle logs from `warning` on, and plugins from `info` on."""

    def __init__(self, view: View) -> None:
        super().__init__(logging.INFO)
        self._view = view
        self._plugins = logging.getLogger("treadle.plugins")
        self._level = self._plugins.level

    def __enter__(self) -> None:
        logging.getLogger("treadle").addHandler(self)
        if self._level == logging.NOTSET:
            self._plugins.setLevel(logging.INFO)

    def __exit__(self, *_: object) -> None:
        logging.getLogger("treadle").removeHandler(self)
        self._plugins.setLevel(self._level)

    def emit(self, record: logging.LogRecord) -> None:
        _, ours, plugin = record.name.partition("treadle.plugins.")
        grave = record.levelno >= logging.WARNING
        if grave or ours:
            level = f"{record.levelname.lower()}: " if grave else ""
            who = f"plugin {plugin}: " if ours else ""
            self._view.line(f"{level}{who}{record.getMessage()}")


class _Aside:
    """Says through a view what hooks of plugins print: stdout is for the result."""

    repeats = True

    def __init__(self, view: View) -> None:
        self._view = view
        self._partial = ""

    def printed(self, stream: str, text: str) -> bool:
        if stream == "stderr":
            return True  # also what the view says
        *lines, self._partial = (self._partial + text).split("\n")
        for line in lines:
            self._view.line(f"plugin: {line}")
        return False

    def logged(self, level: str, logger: str, text: str) -> None:
        pass  # it goes where records of that logger go


def aside(view: View) -> contextvars.Context:
    """A context for the hooks of plugins."""
    from treadle.nodes import speech

    home = contextvars.Context()
    home.run(speech.speaking.set, _Aside(view))
    return home


class Silent:
    """For programs: nothing but what is wrong."""

    interval_s = 60.0
    fed = False

    def begin(self, handle: Handle, text: str) -> None:
        _listen(self)

    def take(self, message: str) -> None:
        pass

    def note(self, event: Event) -> None:
        pass

    def line(self, text: str) -> None:
        say(text)

    def said(self, line: LogLine) -> None:
        pass  # `treadle logs` has it

    def look(self, handle: Handle) -> None:
        pass

    def close(self) -> None:
        pass


class Lines:
    """For logs: the start, what bodies say, failures and retries, and now and then how far it is."""

    interval_s = LINES_INTERVAL_S
    fed = False

    def __init__(self) -> None:
        self._second = 0
        self._said = self._unsaid = 0
        self._next = time.monotonic() + PROGRESS_EVERY_S
        self._pace = Pace()

    def begin(self, handle: Handle, text: str) -> None:
        say(text)
        _listen(self)

    def take(self, message: str) -> None:
        pass

    def note(self, event: Event) -> None:
        text = noted(event)
        if text is None:
            return
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._said = now, 0
        if self._said < LINES_A_SECOND_MAX:
            self._said += 1
            say(text)
        else:
            self._unsaid += 1

    def line(self, text: str) -> None:
        say(text)

    def said(self, line: LogLine) -> None:
        say(spoken(line, sys.stderr))

    def look(self, handle: Handle) -> None:
        self._rest()
        self._pace.look(handle.counts)
        if time.monotonic() >= self._next:
            self._next += PROGRESS_EVERY_S
            taken = spent(handle.spent)
            say(f"{self._pace.text()}{taken and f', {taken}'}; {under_way(handle)}")

    def close(self) -> None:
        self._rest()

    def _rest(self) -> None:
        if self._unsaid and int(time.monotonic()) != self._second:
            say(f"… and {self._unsaid} more failures and retries")
            self._unsaid = 0


class Live:
    """For a terminal: the graph with the state of each node, how far it is, the last errors, in place."""

    interval_s = LIVE_INTERVAL_S
    fed = True

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as Display

        from treadle.cli.running.screen import Screen

        self._pace = Pace()
        self._screen = Screen()
        self._display = Display(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._drawing = False
        self._said: list[str] = []

    def begin(self, handle: Handle, text: str) -> None:
        from treadle.nodes import speech

        say(text)
        diagram = handle.diagram
        if diagram is not None and len(diagram) <= GRAPH_NODES_MAX:
            from treadle.cli.drawing.picture import picture_of
            from treadle.cli.running.screen import Screen

            self._screen = Screen(picture_of(diagram, 0))
        self._display.start()
        self._drawing = True
        speech.install()  # before the display's own stand-ins, which would show what bodies say as its own
        _listen(self)
        self.look(handle)

    def take(self, message: str) -> None:
        self._screen.take_text(message)

    def note(self, event: Event) -> None:
        text = noted(event)
        if text is not None:
            self._screen.complain(text)

    def line(self, text: str) -> None:
        self._display.console.print(text, markup=False, highlight=False)

    def said(self, line: LogLine) -> None:
        if self._drawing:
            self._said.append(spoken(line, sys.stderr))
        else:
            say(spoken(line, sys.stderr))

    def _speak(self) -> None:
        """Show what bodies said since the last look, all at once: each time is a drawing."""
        said, self._said = self._said, []
        if len(said) > SAID_A_LOOK_MAX:
            said = [f"… {len(said) - SAID_A_LOOK_MAX} more lines: treadle logs", *said[-SAID_A_LOOK_MAX:]]
        if said:
            self._display.console.print("\n".join(said), markup=False, highlight=False, soft_wrap=True)

    def look(self, handle: Handle) -> None:
        self._speak()
        pace = self._pace
        pace.look(handle.counts)
        cell = handle.cell
        self._screen.execution.update(
            name=cell.name, status=cell.status.value, done=pace.done, total=pace.known, rate=pace.rate,
            started_at=cell.started_at, ended_at=cell.ended_at)
        self._screen.under_way = under_way(handle)
        self._screen.talking = [(named(path, turn), text) for path, turn, text in handle.shown(TALKING_SHOWN)]
        self._screen.spent = spent(handle.spent)
        self._display.update(self._screen, refresh=True)

    def close(self) -> None:
        from treadle.nodes import speech

        if self._drawing:
            self._drawing = False
            self._speak()
            self._display.stop()
            speech.uninstall()


class JsonLines:
    """For programs that look on: a line of JSON for each change, as viewers of the monitor get them, for what
    is said, and for what persons are just saying."""

    interval_s = TALKING_INTERVAL_S
    fed = True

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], str] = {}

    def begin(self, handle: Handle, text: str) -> None:
        self._say({"event_type": "begin", "execution_id": handle.execution_id, "message": text})
        _listen(self)

    def take(self, message: str) -> None:
        say(message)

    def note(self, event: Event) -> None:
        pass  # a message says it

    def line(self, text: str) -> None:
        self._say({"event_type": "message", "message": text})

    def said(self, line: LogLine) -> None:
        self._say({"event_type": "log", "execution_id": line.execution_id, "node": line.node_id,
                   "iteration": line.iteration, "attempt": line.attempt, "stream": line.stream,
                   "level": line.level, "text": line.text})

    def look(self, handle: Handle) -> None:
        now = {(path, turn): text for path, turn, text in handle.shown(SAID_A_LOOK_MAX)}
        for (path, turn), text in now.items():
            if text != self._told.get((path, turn)):
                self._say({"event_type": "partial", "execution_id": handle.execution_id, "node": path,
                           "iteration": turn, "text": text[-TAIL_CHARS:], **handle.spent})
        self._told = now

    def close(self) -> None:
        pass

    def _say(self, message: dict[str, object]) -> None:
        say(json.dumps({**message, "timestamp": time.time()}))


def _listen(view: View) -> None:
    from treadle.engine.capture import show_by

    show_by(view.said)


class Pace:
    """How far an execution is, and how fast it goes: nodes a second over the last looks."""

    WINDOW_S = 3.0

    def __init__(self) -> None:
        self.done = self.known = 0
        self._troubles = ""
        self._began = time.monotonic()
        self._looks: deque[tuple[float, int]] = deque()

    def look(self, counts: dict[str, int]) -> None:
        now = time.monotonic()
        self.done = sum(counts.get(name, 0) for name in ("completed", "failed", "skipped"))
        self.known = max(counts.get("known", 0), self.done)
        self._troubles = "".join(f", {counts[name]} {name}" for name in ("failed", "retrying", "suspended")
                                 if counts.get(name))
        self._looks.append((now, self.done))
        while len(self._looks) > 2 and now - self._looks[1][0] > self.WINDOW_S:
            self._looks.popleft()

    @property
    def rate(self) -> float:
        """Nodes a second."""
        now = time.monotonic()
        since, before = self._looks[0] if self._looks else (now, self.done)
        return (self.done - before) / max(now - since, 1e-3)

    def text(self) -> str:
        took = seconds(time.monotonic() - self._began)
        return f"{self.done}/{self.known} nodes, {per_second(self.rate)}, {took}{self._troubles}"


def under_way(handle: Handle) -> str:
    """What runs at the moment, or what is waited for."""
    running = handle.counts.get("running", 0)
    names = handle.running(RUNNING_SHOWN)
    if names:
        more = f" and {running - len(names)} more" if running > len(names) else ""
        return f"running: {', '.join(names)}{more}"
    waiting = handle.waiting()
    if waiting:
        return "waiting: " + ", ".join(f"{path} ({request.get('kind', '?')})" for path, _, request
                                       in waiting[:RUNNING_SHOWN])
    return f"running: {running}"


def named(path: str, iteration: str) -> str:
    """A node, and in which turn it is."""
    return path if iteration == "1" else f"{path} #{iteration}"


def noted(event: Event) -> str | None:
    """A failure or retry in one line; None for what was said before."""
    cell, before = event.cell, event.before
    if not isinstance(cell, NodeState):
        return None
    error = str(cell.error).partition("\n")[0][:200] if cell.error is not None else "failed"
    turn = f" (iteration {cell.iteration})" if cell.iteration != "1" else ""
    if cell.status is NodeStatus.RETRYING:
        wait = f", again in {seconds(max(0.0, (cell.wake_at or event.at) - event.at))}"
        return f"retry: {cell.node_id}{turn}: attempt {cell.attempt}: {error}{wait}"
    if isinstance(before, NodeState) and before.status is NodeStatus.RETRYING:
        return None  # it is history now; the retry was said
    return f"failed: {cell.node_id}{turn}: {error}"
