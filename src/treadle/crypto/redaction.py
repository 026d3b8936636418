"""Keeping secrets out of what is recorded: a `Redactor` knows those that an execution has used."""

from __future__ import annotations

import html
import json
import logging
import re
import threading
from base64 import b64encode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus

CHARS_MIN = 4
"""A shorter secret can't be redacted: it would be found everywhere."""
LINE_CHARS_MIN = 16
"""A line of a secret of several lines (a private key) is redacted on its own from this length on."""
_FILLER = "REDACTED"
logger = logging.getLogger("treadle.secrets")


class Redactor:
    """What one execution's secrets are replaced with `[secret NAME]` by. Safe in every thread.

    A secret is found as it is, JSON-escaped, URL-encoded, in HTML, as Python's `repr`, in hex, and in base64,
    there also as a part of something longer (`user:password`). In base64 and hex it is overwritten in its own
    length, so that what it stands in can still be decoded.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # values and what stands for them
        self._marks: dict[str, str] = {}  # the same for every form of them
        self._text: re.Pattern[str] | None = None
        self._raw: re.Pattern[bytes] | None = None

    def know(self, name: str, value: str) -> None:
        """A secret is about to be used."""
        if value in self._known:
            return
        with self._lock:
            if len(value) < CHARS_MIN:
                self._known[value] = ""
                logger.warning("the secret %s has fewer than %d characters: it can't be kept out of what is "
                               "recorded", name, CHARS_MIN)
                return
            mark = f"[secret {name}]"
            marks = {**self._marks, **dict(_forms(value, mark))}
            for line in (value.strip(), *value.splitlines()):
                if (LINE_CHARS_MIN if "\n" in value.strip() else CHARS_MIN) <= len(line) < len(value):
                    marks.update(_forms(line, mark))
            self._marks = marks
            longest = sorted(marks, key=len, reverse=True)
            self._text = re.compile("|".join(map(re.escape, longest)))
            self._raw = re.compile(b"|".join({
                re.escape(raw) for one in longest for raw in _escapes(one)}))
            self._known[value] = mark

    def text(self, text: str) -> str:
        """A text without secrets; the same object if it had none."""
        pattern = self._text
        return text if pattern is None else pattern.sub(self._mark, text)

    def _mark(self, found: re.Match[str]) -> str:
        return self._marks[found[0]]

    def redact(self, raw: bytes) -> bytes:
        """Encoded JSON without secrets; the same object if it had none. A number that is one becomes a
        text."""
        pattern = self._raw
        if pattern is None or pattern.search(raw) is None:
            return raw
        clean = self.value(json.loads(raw))
        return json.dumps(clean, ensure_ascii=False, separators=(",", ":")).encode("utf-8")

    def value(self, value: Any) -> Any:
        """Data as JSON has it, without secrets."""
        if isinstance(value, str):
            return self.text(value)
        if isinstance(value, dict):
            return {self.text(key): self.value(one) for key, one in value.items()}
        if isinstance(value, list):
            return list(map(self.value, value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            clean = self.text(str(value))
            return value if clean == str(value) else clean
        return value


def _forms(value: str, mark: str) -> Iterator[tuple[str, str]]:
    """The texts as which a value may be met, and what replaces each."""
    raw = value.encode("utf-8", "surrogatepass")
    plain = {value, repr(value)[1:-1], html.escape(value), html.escape(value, quote=False)}
    for ascii_only in (True, False):  # also in JSON in JSON
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        plain |= {once, json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    for safe in ("", "/", "/:@"):
        plain.add(quote(raw, safe=safe))
    plain.add(quote_plus(raw))
    for one in plain:
        yield one, mark
        if "%" in one:
            yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), one), mark
    for one in (raw.hex(), raw.hex().upper()):
        yield one, _filler(len(one), "0")
    for one in _base64(raw):
        if len(one) >= CHARS_MIN:
            yield one, _filler(len(one))
            url = one.translate(str.maketrans("+/", "-_"))
            yield url, _filler(len(one))


def _base64(raw: bytes) -> Iterator[str]:
    """What of base64 is this value's alone, at each of the three ways in which it may lie in a longer one."""
    for before in range(3):
        text = b64encode(bytes(before) + raw).decode()
        first = -(-before * 8 // 6)
        last = (before + len(raw)) * 8 // 6
        yield text[first:last]


def _filler(length: int, text: str = _FILLER) -> str:
    return (text * (length // len(text) + 1))[:length]


def _escapes(text: str) -> Iterator[bytes]:
    """A text as it stands in JSON, and in JSON in JSON."""
    for ascii_only in (True, False):
        one = text
        for _ in range(2):
            one = json.dumps(one, ensure_ascii=ascii_only)[1:-1]
            yield one.encode("utf-8", "surrogatepass")
