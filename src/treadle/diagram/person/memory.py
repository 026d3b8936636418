"""What a person remembers: the words of `memory`."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from treadle.errors import did_you_mean

Kind = Literal["none", "own", "all", "window", "summary"]
_WORDS: tuple[Kind, ...] = ("none", "own", "all", "window", "summary")
_SIZED = {"window": "how many messages, as in window(10)", "summary": "how many tokens, as in summary(2000)"}
_TEXT = re.compile(r"([a-z_]+)\s*(?:\(\s*([0-9]{1,9})\s*\))?", re.ASCII)
KNOWN = "none, own, all, window(n) or summary(tokens)"


class Memory(msgspec.Struct, frozen=True):
    """Nothing; a person's own conversation; everybody's; its last `size` messages; or as much of it as fits
    into `size` tokens, and a summary of what was before."""

    kind: Kind = "own"
    size: int = 0

    def __str__(self) -> str:
        return f"{self.kind}({self.size})" if self.kind in _SIZED else self.kind


def read_memory(text: str) -> Memory:
    """A memory as a diagram says it. ValueError says what to write."""
    match = _TEXT.fullmatch(text.strip())
    word = match[1] if match else text
    kind = next((one for one in _WORDS if one == word), None)
    if match is None or kind is None:
        near = did_you_mean(word, _WORDS)
        raise ValueError(f"{text!r} is no memory: {near or f'write {KNOWN}'}")
    size = match[2]
    if kind in _SIZED and not int(size or 0):
        raise ValueError(f"{text!r} must say {_SIZED[kind]}")
    if kind not in _SIZED and size is not None:
        raise ValueError(f"{text!r}: {kind} has no size: write {kind}")
    return Memory(kind, int(size or 0))
