"""Keeping secrets out of what is recorded: a `Redactor` knows those that an execution has used."""

from __future__ import annotations

import html
import json
import logging
import re
import threading
from base64 import b32encode, b64encode
from collections.abc import Callable, Iterable, Iterator
from typing import Any, AnyStr, Generic
from urllib.parse import quote, quote_plus, unquote
from weakref import WeakValueDictionary

CHARS_MIN = 4
"""A shorter secret can't be redacted: it would be found everywhere."""
LINE_CHARS_MIN = 16
"""A line of a secret of several lines (a private key) is redacted on its own from this length on."""
HALF_CHARS_MIN = 6
"""So much of a secret is redacted where a text was cut."""
CASES_CHARS_MIN = 8
"""From this length on a secret is found in capital and in small letters, too."""
NEEDLE_CHARS_MIN = 4
"""A shorter run of letters and digits is no help in the search for what it is a part of."""
PATTERNS_MAX = 64
"""Patterns that are kept, for different sets of secrets in one text."""
_RUN, _RAW_RUN = re.compile(r"[A-Za-z0-9]+"), re.compile(rb"[A-Za-z0-9]+")
_FILLER = "REDACTED"
_PASSWORD = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@:\s]*:([^/?#\s]*)@[^@]*", re.IGNORECASE)
_URL_SAFE = str.maketrans("+/", "-_")
logger = logging.getLogger("treadle.secrets")


class _Search(Generic[AnyStr]):
    """Finds any of many texts in another. Of each the longest run of letters and digits, in small letters, is
    its needle: most forms of a secret share theirs, and where it isn't, they are not. So the time it takes is
    that of a few quick looks for each secret, and not of an expression with all forms of all."""

    def __init__(self, sought: Iterable[AnyStr], runs: re.Pattern[AnyStr], bar: AnyStr) -> None:
        self._bar: AnyStr = bar  # between alternatives of an expression
        self._needles: dict[AnyStr, list[AnyStr]] = {}
        self._others: list[AnyStr] = []  # which have none
        self._patterns: dict[tuple[AnyStr, ...], re.Pattern[AnyStr]] = {}
        for one in sought:
            run = max(runs.findall(one), key=len, default=one[:0])
            if len(run) < NEEDLE_CHARS_MIN:
                self._others.append(one)
            else:
                self._needles.setdefault(run.lower(), []).append(one)

    def in_(self, text: AnyStr) -> re.Pattern[AnyStr] | None:
        """What finds those that may be in a text; None if there are none."""
        small = text.lower()
        needles = [one for one in self._needles if one in small]
        others = [one for one in self._others if one in text]
        if not needles and not others:
            return None
        key = tuple(needles + others)
        found = self._patterns.get(key)
        if found is None:
            some = others + [one for needle in needles for one in self._needles[needle]]
            found = re.compile(self._bar.join(map(re.escape, sorted(some, key=len, reverse=True))))
            if len(self._patterns) >= PATTERNS_MAX:
                self._patterns.clear()
            self._patterns[key] = found
        return found


class _Sought:
    """The forms of some secrets, ready to be found: executions with the same ones share this."""

    def __init__(self, known: Iterable[tuple[str, str]]) -> None:
        self.marks: dict[str, str] = {}  # what each form is replaced by
        for value, mark in known:
            for part in (value, *_parts(value)) if mark else ():
                self.marks.update(_forms(part, mark))
        self.chars_max = max(map(len, self.marks), default=0)
        self.text = _Search(self.marks, _RUN, "|")
        self.raw = _Search({raw for one in self.marks for raw in _escapes(one)}, _RAW_RUN, b"|")

    def mark(self, found: re.Match[str]) -> str:
        return self.marks[found[0]]


_NOTHING = _Sought(())
_shared: WeakValueDictionary[tuple[tuple[str, str], ...], _Sought] = WeakValueDictionary()


class Redactor:
    """What one execution's secrets are replaced with `[secret NAME]` by. Safe in every thread.

    A secret is found as it is, in capital and in small letters, JSON-escaped, URL-encoded, in HTML, quoted
    for a shell, as Python's `repr` and `ascii`, in hex, base32 and base64, in the last two also as a part of
    something longer (`user:password`). In these three it is overwritten in its own length, so that what it
    stands in can still be decoded. Of a URL its password is a secret, too, and of a secret of several lines
    each long one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, str] = {}  # values and what stands for them; "" for those that are too short
        self._sought: _Sought | None = _NOTHING  # None: not all that is known is sought yet

    @property
    def chars_max(self) -> int:
        """Of the longest text that is sought."""
        return (self._sought or self.ready()).chars_max

    def know(self, name: str, value: str) -> None:
        """A secret is about to be used."""
        if value in self._known:
            return
        with self._lock:
            if len(value) < CHARS_MIN:
                self._known[value] = ""
                logger.warning("the secret %s has fewer than %d characters: it can't be kept out of what is "
                               "recorded", name, CHARS_MIN)
            else:
                self._known[value], self._sought = f"[secret {name}]", None

    def ready(self) -> _Sought:
        """Get ready to look for what is known: for long secrets that takes a while."""
        with self._lock:
            if self._sought is None:
                known = tuple(self._known.items())
                self._sought = _shared.get(known) or _Sought(known)
                _shared[known] = self._sought
            return self._sought

    def text(self, text: str) -> str:
        """A text without secrets; the same object if it had none."""
        sought = self._sought or self.ready()
        pattern = sought.text.in_(text)
        return text if pattern is None else pattern.sub(sought.mark, text)

    def cut(self, text: str) -> str:
        """A text from which some was left out where it has an ellipsis, and perhaps at its end, without the
        halves of secrets that may be left there."""
        first, *others = text.split("…")
        return "…".join([self._open(first), *(self._open(self._open(one, start=True)) for one in others)])

    def _open(self, text: str, *, start: bool = False) -> str:
        """A text without the first part of a secret at its end, or the last part of one at its start. Spaces
        there don't count."""
        bare = text.lstrip() if start else text.rstrip()
        sought = self._sought or self.ready()
        near = bare[:sought.chars_max] if start else bare[-sought.chars_max:]
        for form, mark in sought.marks.items():
            if (form[-HALF_CHARS_MIN:] if start else form[:HALF_CHARS_MIN]) not in near:
                continue
            for size in range(min(len(form) - 1, len(bare)), HALF_CHARS_MIN - 1, -1):
                if start and bare.startswith(form[-size:]):
                    return text[:len(text) - len(bare)] + mark + bare[size:]
                if not start and bare.endswith(form[:size]):
                    return bare[:-size] + mark + text[len(bare):]
        return text

    def redact(self, raw: bytes) -> bytes:
        """Encoded JSON without secrets; the same object if it had none. A number that is one becomes a
        text."""
        pattern = (self._sought or self.ready()).raw.in_(raw)
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


def _parts(value: str) -> Iterator[str]:
    """What of a secret is one, too."""
    for line in (value.strip(), *value.splitlines()):
        if (LINE_CHARS_MIN if "\n" in value.strip() else CHARS_MIN) <= len(line) < len(value):
            yield line
    found = _PASSWORD.fullmatch(value.strip())
    for one in () if found is None else (found[1], unquote(found[1])):
        if len(one) >= CHARS_MIN:
            yield one


def _forms(value: str, mark: str) -> Iterator[tuple[str, str]]:
    """The texts as which a value may be met, and what replaces each."""
    raw = value.encode("utf-8", "surrogatepass")
    plain = {value, repr(value)[1:-1], ascii(value)[1:-1], repr(raw)[2:-1], html.escape(value),
             html.escape(value, quote=False), value.replace("'", "'\"'\"'"), value.replace("'", "'\\''")}
    if len(value) >= CASES_CHARS_MIN:
        plain |= {value.upper(), value.lower()}
    for ascii_only in (True, False):  # also in JSON in JSON
        once = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        plain |= {once, once.replace("/", "\\/"), json.dumps(once, ensure_ascii=ascii_only)[1:-1]}
    for safe in ("", "/", "/:@"):
        plain.add(quote(raw, safe=safe))
    plain.add(quote_plus(raw))
    for one in plain:
        yield one, mark
        if "%" in one:
            yield re.sub(r"%[0-9A-F]{2}", lambda found: found[0].lower(), one), mark
    for one in (raw.hex(), raw.hex().upper()):
        yield one, _filler(len(one), "0")
    for encode, bits in (b64encode, 6), (b32encode, 5):
        for one in _encoded(raw, encode, bits):
            if len(one) >= CHARS_MIN:
                for text in (one, one.translate(_URL_SAFE)) if bits == 6 else (one, one.lower()):
                    yield text, _filler(len(text))


def _encoded(raw: bytes, encode: Callable[[bytes], bytes], bits: int) -> Iterator[str]:
    """What of base64 (6 bits to a letter) or base32 (5) is this value's alone, at each of the ways in which
    it may lie in a longer one."""
    for before in range(3 if bits == 6 else 5):
        text = encode(bytes(before) + raw).decode()
        first = -(-before * 8 // bits)
        last = (before + len(raw)) * 8 // bits
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
