"""Where two values differ, field by field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from treadle.errors import NotEncodable
from treadle.state import codec

ABSENT: Any = msgspec.UNSET
"""What stands for a value that is not there."""


class Difference(msgspec.Struct, frozen=True):
    """A place (`rows[0].name`; "" is the whole) and what each value has there; `ABSENT` for nothing."""

    path: str
    a: Any
    b: Any


def differences(a: Any, b: Any, most: int = 1000) -> tuple[list[Difference], int]:
    """The first differences of two values in their order, `most` of them, and how many there are in all.

    Maps are compared by their keys, lists by their places; types count (1 is not 1.0, nor true).
    """
    found: list[Difference] = []
    count = 0
    for one in _walk("", a, b):
        if count < most:
            found.append(one)
        count += 1
    return found, count


def _walk(path: str, a: Any, b: Any) -> Iterator[Difference]:
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in [*a, *(key for key in b if key not in a)]:
            where = f"{path}.{key}" if path else str(key)
            yield from _walk(where, a.get(key, ABSENT), b.get(key, ABSENT))
    elif isinstance(a, list | tuple) and type(a) is type(b):
        for index in range(max(len(a), len(b))):
            yield from _walk(f"{path}[{index}]", a[index] if index < len(a) else ABSENT,
                             b[index] if index < len(b) else ABSENT)
    elif not _equal(a, b):
        yield Difference(path, a, b)


def _equal(a: Any, b: Any) -> bool:
    """Whether both are written alike: foreign types may say anything of their equality."""
    if a is b:
        return True
    if a is ABSENT or b is ABSENT or type(a) is not type(b):
        return False
    if isinstance(a, str | int | bytes):
        return bool(a == b)
    try:
        return codec.encode(a) == codec.encode(b)
    except NotEncodable:
        return False
