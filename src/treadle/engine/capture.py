"""What bodies print and log, written down per attempt: `treadle logs`, `Engine.logs`.

A `Speaker` stands in the context of a body, so who says something is known wherever it is said: in the loop,
in an executor's thread, by a child process on the body's behalf. Its lines go to the journal, which writes
them with its next batch. They are side effects: a crash may lose the last of them.

An attempt that says more than `log_bytes_max` has the first half of that written as it comes; of the rest the
last half is kept until its end, and what was left out between them is counted.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from treadle.config import DEFAULT_CONFIG
from treadle.nodes import speech
from treadle.state.cell import NodeState
from treadle.store.base import LogLine

if TYPE_CHECKING:
    from treadle.crypto.redaction import Redactor
    from treadle.store.manager import StateManager

LINE_BYTES = 16
"""What a line counts beside its text, so that empty lines are limited, too."""

LEFT_MAX = 1000
"""Executions that have left, and whose secrets are still kept out of what their threads may say."""

View = Callable[[LogLine], None]


class _Shown:
    """Who shows the lines of this process instead of the streams that they were written to."""

    by: View | None = None
    engines = 0  # that are open


def show_by(view: View) -> None:
    """Have every line shown by `view`, called on the event loop, instead of passing it on to the real stream,
    until the last engine closes. For a program that draws on the terminal itself."""
    _Shown.by = view if _Shown.engines else None


class Capture:
    """Listens to the bodies of one engine. Made on its loop; without a manager it only serves a view."""

    def __init__(self, manager: StateManager | None) -> None:
        config = DEFAULT_CONFIG if manager is None else manager.config
        self.half_bytes = config.log_bytes_max // 2
        self.line_chars = max(1, min(config.log_line_chars_max, self.half_bytes // 5))
        self.lock = threading.RLock()  # a destructor may print while we write down what somebody else did
        self._manager = manager
        self._loop = asyncio.get_running_loop()
        self._thread, self._process = threading.get_ident(), os.getpid()
        self._home = contextvars.copy_context()  # in which nobody speaks
        self._home.run(speech.speaking.set, None)
        self._lines: list[LogLine] = []
        self._due = False
        self.redactors: dict[str, Redactor] = {}  # by execution: see `treadle.engine.secret`
        self._left: deque[tuple[str, Redactor]] = deque()
        self._open = True
        speech.install()
        _Shown.engines += 1

    @property
    def listens(self) -> bool:
        """Whether anybody wants to know; nobody does in a process that a body forked."""
        wanted = self._manager is not None or _Shown.by is not None
        return wanted and self._open and os.getpid() == self._process

    def speaker(self) -> tuple[Speaker, contextvars.Context]:
        """A fresh speaker, and a context in which it speaks, to be copied for each body."""
        speech.speaking.set(None)  # a body may have started the actor that asks
        speaker = Speaker(self)
        home = contextvars.copy_context()
        home.run(speech.speaking.set, speaker)
        return speaker, home

    def close(self) -> None:
        """Write down what has been said so far, and listen no more."""
        if self._open:
            self.drain()
            self._open = False
            speech.uninstall()
            _Shown.engines -= 1
            if not _Shown.engines:
                _Shown.by = None

    def take(self, line: LogLine) -> None:
        """A line, in any thread. Needs the lock."""
        self._lines.append(line)
        if self._due:
            return
        self._due = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self.drain, context=self._home)
            return
        try:
            self._loop.call_soon_threadsafe(self.drain, context=self._home)
        except RuntimeError:  # the loop is closed: an abandoned thread goes on talking
            self._lines.clear()

    def _clean(self, line: LogLine) -> LogLine:
        redactor = self.redactors.get(line.execution_id)
        if redactor is None:
            return line
        level = None if line.level is None else redactor.text(line.level)
        name = None if line.logger is None else redactor.text(line.logger)
        return msgspec.structs.replace(line, text=redactor.text(line.text), level=level, logger=name)

    def left(self, execution_id: str) -> None:
        """An execution with secrets has left: threads that it abandoned may go on talking for a while."""
        self._left.append((execution_id, self.redactors[execution_id]))
        if len(self._left) > LEFT_MAX:
            before, redactor = self._left.popleft()
            if self.redactors.get(before) is redactor:
                del self.redactors[before]

    def drain(self) -> None:
        """Hand over what has come. On the loop."""
        with self.lock:
            lines, self._lines, self._due = self._lines, [], False
        if self.redactors:
            lines = list(map(self._clean, lines))
        if not lines or not self._open:
            return
        if self._manager is not None:
            self._manager.say(lines)
        if _Shown.by is not None:  # not here: it may fail, and we may be in the middle of a step
            self._loop.call_soon(_show, _Shown.by, lines, context=self._home)


def _show(view: View, lines: list[LogLine]) -> None:
    for line in lines:
        view(line)


class Speaker:
    """What one attempt says. `cell` is that attempt; while it is None, nobody speaks.

    An actor uses one for body after body as long as they say nothing and don't suspend: setting `cell` is all
    that a silent body costs. (A task that such a body leaves behind would speak in the name of a later one.)
    """

    __slots__ = ("_capture", "_dropped", "_dropped_bytes", "_kept", "_kept_bytes", "_partial", "_said_bytes",
                 "cell", "heard")

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self.cell: NodeState | None = None
        self.heard = False  # whether there is anything to end

    def _begin(self) -> None:
        self.heard = True
        self._partial: dict[str, str] = {}  # of each stream, the line that has no end yet
        self._said_bytes = 0
        self._kept: deque[tuple[LogLine, int]] = deque()  # the last of what is too much
        self._kept_bytes = 0
        self._dropped = self._dropped_bytes = 0

    @property
    def repeats(self) -> bool:
        return _Shown.by is None or self.cell is None or not self._capture.listens

    def printed(self, stream: str, text: str) -> bool:
        capture = self._capture
        if self.cell is None or not capture.listens:
            return True
        with capture.lock:
            if not self.heard:
                self._begin()
            limit = 2 * capture.half_bytes
            if capture.redactors:
                text = self._cleaned(stream, text)  # whole: half a secret is one too
            if len(text) > 2 * limit:  # all between would be left out anyhow
                self._feed(stream, text[:limit])
                self._drop(text.count("\n", limit, -limit), len(text) - 2 * limit)
                text = text[-limit:]
            self._feed(stream, text)
        return _Shown.by is None

    def logged(self, level: str, logger: str, text: str) -> None:
        capture = self._capture
        if self.cell is None or not capture.listens:
            return
        with capture.lock:
            if not self.heard:
                self._begin()
            if capture.redactors:
                text = self._cleaned("log", text)
            for part in self._broken(text):
                self._line("log", part, level, logger)

    def end(self) -> None:
        """The attempt is over: write down what was kept. Words that still come have what its limit leaves."""
        capture = self._capture
        with capture.lock:
            for stream, text in self._partial.items():
                self._line(stream, _overwritten(text))
            self._partial.clear()
            if self._dropped or self._dropped_bytes:
                self._note()
            for line, _ in self._kept:
                capture.take(line)
            self._kept.clear()
            self._kept_bytes = self._dropped = self._dropped_bytes = 0
        capture.drain()

    def _held(self) -> int:
        """So many characters at the end of what came may be the beginning of a secret."""
        assert self.cell is not None
        redactor = self._capture.redactors.get(self.cell.execution_id)
        return 0 if redactor is None else max(0, redactor.chars_max - 1)

    def _cleaned(self, stream: str, text: str) -> str:
        """A text with what its line has before it, without the secrets that are known by now."""
        assert self.cell is not None
        redactor = self._capture.redactors.get(self.cell.execution_id)
        if redactor is None:
            return text
        before = self._partial.pop(stream, "")  # clean, but for a secret that only begins in it
        clean = max(0, len(before) - self._held())
        return before[:clean] + redactor.text(before[clean:] + text)

    def _feed(self, stream: str, text: str) -> None:
        *lines, rest = (self._partial.pop(stream, "") + text).split("\n")
        for line in lines:
            for part in self._broken(_overwritten(line)):
                self._line(stream, part)
        again = rest.rfind("\r", 0, -1)
        if again >= 0:  # a progress bar draws over what it wrote before
            rest = rest[again:]
        hold = max(0, len(rest) - self._held()) if self._capture.redactors else len(rest)
        *full, last = self._broken(rest[:hold])
        for part in full:
            self._line(stream, part)
        rest = last + rest[hold:]
        if rest:
            self._partial[stream] = rest

    def _broken(self, text: str) -> list[str]:
        """A text in pieces that are not too long for a line."""
        size = self._capture.line_chars
        if len(text) <= size:
            return [text]
        return [text[start:start + size] for start in range(0, len(text), size)]

    def _line(self, stream: str, text: str, level: str | None = None, logger: str | None = None) -> None:
        cell = self.cell
        assert cell is not None
        line = LogLine(cell.execution_id, cell.node_id, cell.iteration, cell.attempt, time.time(), stream,
                       text, level, logger, epoch=cell.epoch)
        size = LINE_BYTES + (len(text) if text.isascii() else len(text.encode(errors="surrogatepass")))
        half = self._capture.half_bytes
        if not self._kept and not self._dropped and self._said_bytes + size <= half:
            self._said_bytes += size
            self._capture.take(line)
            return
        self._kept.append((line, size))
        self._kept_bytes += size
        while self._kept_bytes > half:
            _, size = self._kept.popleft()
            self._kept_bytes -= size
            self._drop(1, size - LINE_BYTES)

    def _drop(self, lines: int, size: int) -> None:
        self._dropped += lines
        self._dropped_bytes += size

    def _note(self) -> None:
        """Say, in the place of what is left out, how much that is."""
        cell = self.cell
        assert cell is not None
        at = self._kept[0][0].at if self._kept else time.time()
        many = "1 line" if self._dropped == 1 else f"{self._dropped} lines"
        self._capture.take(LogLine(
            cell.execution_id, cell.node_id, cell.iteration, cell.attempt, at, "note",
            f"{many} of {self._dropped_bytes} bytes left out: the limit log_bytes_max is "
            f"{2 * self._capture.half_bytes}", epoch=cell.epoch))


def _overwritten(line: str) -> str:
    """What a terminal shows of a line in which carriage returns start over."""
    return line.rstrip("\r").rpartition("\r")[2] if "\r" in line else line
