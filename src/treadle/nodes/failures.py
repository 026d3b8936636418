"""Errors as they are recorded, and as they cross from a child process."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

import treadle
from treadle import errors
from treadle.config import DEFAULT_CONFIG
from treadle.foreign import attempt
from treadle.state.cell import ErrorInfo

MESSAGE_CHARS_MAX = 4096
_OURS = tuple(os.path.join(folder, "") for folder in treadle.__path__)
_MACHINERY = ("<frozen importlib", *(
    os.path.join(os.path.dirname(os.__file__), *part) for part in (
        ("asyncio", ""), ("concurrent", ""), ("importlib", ""), ("threading.py",), ("contextlib.py",))))
_JINJA = f"{os.sep}jinja2{os.sep}"


class RemoteError(errors.TreadleError):
    """An exception of a body in another process. `kind` is the name of its type, `trace` its traceback
    there."""

    def __init__(self, kind: str, message: str, trace: str = "", *, retryable: bool | None = None,
                 retry_after: float | None = None) -> None:
        super().__init__(f"{kind}: {message}" if message else kind)
        self.kind, self.message, self.trace, self.retry_after = kind, message, trace, retry_after
        if retryable is not None:  # the engine asks whether an exception has a word to say on this
            self.retryable = retryable


def error_info(error: BaseException, node: str | None = None,
               bytes_max: int = DEFAULT_CONFIG.error_bytes_max) -> ErrorInfo:
    """An exception as it is recorded: its type's name, its message, the frames of the user's code."""
    chars = min(MESSAGE_CHARS_MAX, bytes_max // 2)
    if isinstance(error, RemoteError):
        return ErrorInfo(error.kind, _short(error.message, chars), _short(error.trace, bytes_max // 2), node)
    message = _short(message_of(error), chars)
    return ErrorInfo(type(error).__name__, message, trace_of(error, bytes_max), node,
                     _details(error, bytes_max))


def _details(error: BaseException, bytes_max: int) -> dict[str, Any] | None:
    """The details of an error of ours, as they come back from the store; None if they are none or too
    large."""
    if not isinstance(error, errors.TreadleError) or error.details is None:
        return None
    try:
        # A lone surrogate in it would spoil a batch later.
        raw = json.dumps(error.details, ensure_ascii=False).encode(errors="replace")
        found: dict[str, Any] = json.loads(raw)
    except (TypeError, ValueError, RecursionError):
        return None
    return found if len(raw) <= bytes_max else None


def message_of(error: BaseException) -> str:
    """What an exception says. The message of our own errors may have several lines."""
    return said_by(lambda: str(error), "its message can't be shown")


def said_by(tell: Callable[[], str], instead: str) -> str:
    """What foreign code says of itself, its `__str__` or its source loader; or `instead` and why it can't."""
    text, broken = attempt(tell)
    return f"{instead}: {type(broken).__name__}" if broken is not None else str(text)


def trace_of(error: BaseException, bytes_max: int = DEFAULT_CONFIG.error_bytes_max) -> str:
    """The traceback of an exception and its causes without the engine's frames; "" if nothing else is
    left."""
    return _short(said_by(lambda: _trace(error), "no traceback"), bytes_max // 2)


def _trace(error: BaseException) -> str:
    parts: list[str] = []
    seen: set[int] = set()
    spoken = False  # whether any code but ours had a part in it
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        frames = [frame for frame in traceback.extract_tb(one.__traceback__)
                  if not _is_machinery(frame.filename)]
        said = "".join(traceback.format_exception_only(type(one), one))
        cause, context = one.__cause__, None if one.__suppress_context__ else one.__context__
        if frames:
            said = "Traceback (most recent call last):\n" + "".join(traceback.format_list(frames)) + said
        spoken = spoken or bool(frames)
        parts.append(said)
        if cause is not None:
            parts.append("\nThe above exception was the direct cause of the following exception:\n\n")
        elif context is not None:
            parts.append("\nDuring handling of the above exception, another exception occurred:\n\n")
        one = cause or context
    # From the first cause to the error itself, as Python prints it.
    return "".join(reversed(parts)) if spoken else ""


def _is_machinery(file: str) -> bool:
    return file.startswith(_OURS) or file.startswith(_MACHINERY) or file == "<template>" or _JINJA in file


def _short(text: str, chars_max: int) -> str:
    if not text.isascii():
        text = text.encode(errors="backslashreplace").decode()
    if len(text) <= chars_max:
        return text
    half = chars_max // 2
    return f"{text[:half]}\n… {len(text) - 2 * half} characters left out …\n{text[-half:]}"
