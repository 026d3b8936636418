"""How things look as text: values, times, tables, faults, failures."""

from __future__ import annotations

import json
import os
import re
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TextIO

from treadle.engine.showing import blobs_as_maps, message_of, plain
from treadle.errors import (
    InvalidDiagram,
    InvalidInput,
    LeaseHeld,
    NoSuchExecution,
    NoSuchNode,
    StoreError,
    TreadleError,
)
from treadle.state.cell import ErrorInfo

if TYPE_CHECKING:
    from treadle.store.base import LogLine

WRONG_USAGE = (InvalidDiagram, InvalidInput, NoSuchExecution, NoSuchNode, LeaseHeld, StoreError)
"""Errors that end with exit code 2: nothing was run."""
_CONTROLS = re.compile(
    "\x1b\\[[0-9;:]*(?P<color>m)"
    "|(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?"
    "|(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x9f]")
"""What a terminal obeys instead of showing it, colours apart."""
_OVERWRITTEN = re.compile(r"[^\r\n]*\r(?=[^\r\n])|\r")
TEXT_MAX = 4000
"""Characters of one value that `show` prints, unless it is asked for JSON."""
COLORS = {"completed": "32", "failed": "31", "cancelled": "31", "running": "36", "retrying": "33",
          "suspended": "33", "skipped": "2", "stale": "35"}


def say(text: str = "") -> None:
    """A line for the person at the terminal; results go to stdout, everything else here."""
    print(text, file=sys.stderr, flush=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    print(json.dumps(plain(document), ensure_ascii=False, indent=2))


def result_text(value: Any) -> str:
    """A result for stdout: a text as it is, a blob as one line, anything else as JSON."""
    from treadle.state.blob import Blob

    if isinstance(value, Blob):
        from treadle.config import size_text
        found = blobs_as_maps(value)
        return (f"{value.name or 'blob'}, {size_text(value.size)}, SHA-256 {value.digest}, "
                f"{found['path'] or 'in no open store'}")
    return value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False, indent=2)


def shortened(value: Any, chars_max: int = TEXT_MAX) -> str:
    """A value's text, cut where it is too long to read."""
    text = result_text(value)
    if len(text) <= chars_max:
        return text
    return f"{text[:chars_max]}\n… {len(text) - chars_max} more characters (--json prints all)"


def counted(number: int, what: str) -> str:
    """A number of something: `1 row`, `2,000 rows`."""
    return f"{number:,} {what}" + ("" if number == 1 else "s")


def per_second(rate: float) -> str:
    """How many in a second: `0.25/s`, `1,050/s`."""
    return f"{rate:,.0f}/s" if rate >= 1000 else f"{rate:.3g}/s"


def spent(sums: Mapping[str, float]) -> str:
    """Tokens and cost in words; "" if there are none."""
    tokens, cost = sums.get("tokens", 0.0), sums.get("cost", 0.0)
    return "" if not tokens else f"{tokens:,.0f} tokens" + (f", ${cost:.4f}" if cost else "")


def achieved(counts: Mapping[str, int], sums: Mapping[str, float]) -> str:
    """What became of nodes, and what their models took, in words."""
    parts = [f"{counts[name]} {name}" for name in ("completed", "failed", "skipped", "suspended", "retrying")
             if counts.get(name)]
    return ", ".join([*(parts or ["no node ended"]), *([taken] if (taken := spent(sums)) else [])])


# Times

def seconds(number: float | None) -> str:
    """A duration: `3.2 ms`, `4.71 s`, `2 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    if number is None:
        return ""
    if number < 0.9995:
        return f"{number * 1000:.3g} ms"
    if number < 59.95:
        return f"{number:.3g} s"
    whole = round(number)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60:02} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def ago(instant: float | None) -> str:
    """How long ago an instant was."""
    return "" if instant is None else f"{seconds(max(0.0, round(time.time() - instant)))} ago"


def local(instant: float | None) -> str:
    """An instant in local time, to the second."""
    return "" if instant is None else datetime.fromtimestamp(instant).astimezone().isoformat(" ", "seconds")


def iso(instant: float | None) -> str | None:
    """An instant for programs: ISO 8601 in UTC."""
    if instant is None:
        return None
    return datetime.fromtimestamp(instant, UTC).isoformat(timespec="microseconds")


# What bodies say

def spoken(line: LogLine, stream: TextIO, *, alone: bool = False) -> str:
    """A line for a stream, behind the node that said it; where it stands `alone`, with its time and stream
    as well."""
    turn = f" (iteration {line.iteration})" if line.iteration != "1" else ""
    retry = f" (attempt {line.attempt})" if line.attempt != 1 else ""
    head = f"{line.node_id}{turn}{retry} | "
    kind = f"{line.level} {line.logger}: " if line.stream == "log" else "… " if line.stream == "note" else ""
    if alone:
        at = datetime.fromtimestamp(line.at).astimezone().isoformat(" ", "milliseconds")[:23]
        head = f"{at} {head}" + {"stdout": "", "stderr": "stderr "}.get(line.stream, "")
    return head + f"{kind}{tame(line.text, stream)}".replace("\n", f"\n{head}")


def tame(text: str, stream: TextIO | None = None) -> str:
    """A text of somebody else's for a terminal, without what moves the cursor, clears the screen, sets the
    title or overwrites the line. With a `stream` only if that is a terminal, and colours stay."""
    if text.isprintable() or (stream is not None and not stream.isatty()):
        return text
    kept = _CONTROLS.sub(lambda found: found[0] if found["color"] and stream else "", text)
    kept = _OVERWRITTEN.sub("", kept)
    return f"{kept}\x1b[0m" if "\x1b[" in kept else kept


# Tables

def colored(text: str, status: str, stream: TextIO = sys.stdout) -> str:
    """A status in its color, where the stream is a terminal that wants colors."""
    code = COLORS.get(status)
    if code is None or os.environ.get("NO_COLOR") or not stream.isatty():
        return text
    return f"\x1b[{code}m{text}\x1b[0m"


def table(headers: Sequence[str], rows: Sequence[Sequence[str]], *, status: int = -1) -> str:
    """Rows under headers, aligned by spaces; the column `status` gets colors. Texts are cut to one line."""
    cells = [[_one_line(text) for text in row] for row in rows]
    widths = [max(len(row[k]) for row in (list(headers), *cells)) for k in range(len(headers))]
    lines = ["  ".join(name.ljust(width) for name, width in zip(headers, widths, strict=True)).rstrip()]
    for row in cells:
        parts = [text.ljust(width) for text, width in zip(row, widths, strict=True)]
        if status >= 0:
            parts[status] = colored(parts[status], row[status])
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def _one_line(text: str) -> str:
    first, newline, _ = text.partition("\n")
    return f"{first[:159]}…" if len(first) > 160 or newline else first


# Errors

def failure(error: ErrorInfo | None) -> str:
    """Why something failed: node, type, message, and the user's own frames."""
    if error is None:
        return "no error was recorded"
    at = f"node {error.node!r}: " if error.node else ""
    trace = error.traceback.rstrip()
    if not trace or error.traceback.count("\n") < 2:
        return f"{at}{error}"
    return f"{at}{error}\n" + "\n".join(f"  {line}" for line in trace.splitlines())


def report(error: BaseException, *, as_json: bool, debug: bool = False) -> int:
    """Say what went wrong in few lines; returns the exit code."""
    ours = not isinstance(error, TreadleError | OSError | ValueError | LookupError)
    code = 2 if isinstance(error, (*WRONG_USAGE, OSError, ValueError)) else 1
    if as_json:
        document: dict[str, Any] = {"type": type(error).__name__, "message": message_of(error)}
        if isinstance(error, InvalidDiagram):
            document["faults"] = error.faults
        print_json({"status": "refused" if code == 2 else "error", "error": document})
    if debug:
        traceback.print_exception(error)
    elif ours:
        say(f"treadle: {type(error).__name__}: {error}\n  This is a fault of Treadle's own. "
            "TREADLE_DEBUG=1 shows where it is; please report it.")
    else:
        say(prefixed(message_of(error)))
    return code


def prefixed(message: str) -> str:
    """A message under the command's name; one with several lines has them below."""
    return f"treadle: {message}" if "\n" not in message else "treadle:\n" + "\n".join(
        f"  {line}" for line in message.splitlines())
