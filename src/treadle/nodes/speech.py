"""Who is speaking: what bodies print and log, told apart by the context in which they do it.

While anybody listens, `sys.stdout` and `sys.stderr` are stand-ins that ask a context variable whose words
these are, and a log record is looked at where it is made. Nothing here touches a body that says nothing.
Words without a speaker go where they always went; so do those of threads that a body starts by itself, since
they begin with an empty context, and what is written to the file descriptors directly.
"""

from __future__ import annotations

import codecs
import logging
import re
import sys
import threading
from contextvars import ContextVar
from typing import Any, Protocol, TextIO

from treadle.nodes.failures import said_by
from treadle.nodes.modules import ROOT

OWN_LOGGER = "treadle"
"""What this logger and those below it say is ours, not a body's."""


class Listener(Protocol):
    """Who takes down what a body says. Called in whatever thread the body speaks."""

    @property
    def repeats(self) -> bool:
        """Whether what a handler of `logging` prints of a record goes on to the real stream."""

    def printed(self, stream: str, text: str) -> bool:
        """A body wrote to `stdout` or `stderr`: any piece of text. Whether it goes on to the real stream."""

    def logged(self, level: str, logger: str, text: str) -> None:
        """A body logged a record."""


speaking: ContextVar[Listener | None] = ContextVar("treadle_speaking", default=None)
"""Who listens to the code that runs in this context."""


class _Installed:
    """What stands in for the process's own, as long as `count` listeners are open."""

    lock = threading.Lock()
    count = 0
    otherwise: Listener | None = None  # who listens where no context says
    factory: Any = None  # of log records, before ours


def install(otherwise: Listener | None = None) -> None:
    """Put the stand-ins in place. Each call needs its `uninstall`, in whatever order. `otherwise` listens to
    code whose context names nobody: for a process that serves one body at a time."""
    with _Installed.lock:
        _Installed.count += 1
        if otherwise is not None:
            _Installed.otherwise = otherwise
        for name in ("stdout", "stderr"):  # again each time: a test runner swaps them as it goes
            stream = getattr(sys, name)
            if stream is not None and type(stream) is not Stream:
                setattr(sys, name, Stream(name, stream))
        if _Installed.factory is None:
            _Installed.factory = logging.getLogRecordFactory()
            logging.setLogRecordFactory(_record)


def uninstall() -> None:
    """Take the stand-ins away after the last listener. Who holds on to one, or has put another in
    front of it, finds that it only passes on what it gets."""
    with _Installed.lock:
        _Installed.count -= 1
        if _Installed.count:
            return
        _Installed.otherwise = None
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if type(stream) is Stream:
                setattr(sys, name, stream.real)
        if logging.getLogRecordFactory() is _record:
            logging.setLogRecordFactory(_Installed.factory)
            _Installed.factory = None


class Stream:
    """Stands in for `sys.stdout` or `sys.stderr`: the real one, but for what a body writes."""

    def __init__(self, name: str, real: TextIO) -> None:
        self._name = name
        self.real = real

    def write(self, text: str) -> int:
        listener = speaking.get() or _Installed.otherwise
        if listener is None or type(text) is not str:
            return self.real.write(text)
        if sys._getframe(1).f_code is _EMIT:
            goes_on = listener.repeats  # it was heard already, as a record
        else:
            goes_on = listener.printed(self._name, text)
        return self.real.write(text) if goes_on else len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "real":  # a copy that is being made
            raise AttributeError(name)
        return getattr(self.real, name)


_OF_A_FOLDER = re.compile(rf"{ROOT}\.\w+\.")
"""How the names of modules in a diagram's folder begin."""
_EMIT = logging.StreamHandler.emit.__code__


def _record(*args: Any, **keywords: Any) -> logging.LogRecord:
    record: logging.LogRecord = (_Installed.factory or logging.LogRecord)(*args, **keywords)
    listener = speaking.get() or _Installed.otherwise
    if listener is not None and _is_a_bodys(record.name):
        listener.logged(record.levelname, _OF_A_FOLDER.sub("", record.name), _message(record))
    return record


def _is_a_bodys(logger: Any) -> bool:
    """A record that is being copied has no name yet."""
    return isinstance(logger, str) and logger != OWN_LOGGER and not logger.startswith(OWN_LOGGER + ".")


def _message(record: logging.LogRecord) -> str:
    # `logging` complains on its own of what can't be put together.
    text = said_by(record.getMessage, f"{record.msg!r} can't be put together")
    if record.exc_info and record.exc_info[0] is not None:
        text = f"{text}\n{logging.Formatter().formatException(record.exc_info)}"
    return text


class Heard:
    """What a command writes to a pipe, piece by piece, on behalf of the body that made this."""

    def __init__(self, stream: str) -> None:
        self._stream, self._listener = stream, speaking.get()
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode

    def take(self, data: bytes) -> None:
        if self._listener is not None:
            text = self._decode(data)
            if text:
                self._listener.printed(self._stream, text)
