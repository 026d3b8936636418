"""Where a type of node has expressions, templates and persons among its properties."""

from __future__ import annotations

import functools
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from treadle.diagram.person import Person

PERSON = "person"
_SHARING = re.compile(r"\bcontext\.(?:artifacts|variables|plugin|snapshot|transaction|update)\b")
_SHARED = re.compile(r"(?<![\w.])(?:artifacts|variables)\b")

@functools.lru_cache(maxsize=256)
def _fields(kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    """The types of the fields that can hold texts, by the name that they have in a file."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)
            if _may_hold(hints[field.name])}


def _may_hold(kind: Any) -> bool:
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        said = any(isinstance(one, msgspec.Meta) and one.extra and "treadle" in one.extra for one in args[1:])
        return said or _may_hold(args[0])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return bool(_fields(kind))
    return any(_may_hold(one) for one in args)


def texts_of(value: Any, kind: Any, path: str) -> Iterator[tuple[str, Any, str]]:
    """The expressions, templates and persons in plain data of a type: (which of these, text, path). A person
    is its name, or the map that says it in place."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        found = [one.extra["treadle"] for one in args[1:]
                 if isinstance(one, msgspec.Meta) and one.extra and "treadle" in one.extra]
        if found and isinstance(value, str):
            yield found[0], value, path
        else:
            yield from texts_of(value, args[0], path)
    elif origin in (typing.Union, types.UnionType):
        for one in args:
            yield from texts_of(value, one, path)
    elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        if kind is Person and isinstance(value, dict):
            yield PERSON, value, path
        for key, field in _fields(kind).items() if isinstance(value, dict) else ():
            if key in value:
                yield from texts_of(value[key], field, f"{path}.{key}" if path else key)
    elif isinstance(value, dict) and len(args) == 2:
        for key, one in value.items():
            yield from texts_of(one, args[1], f"{path}.{key}")
    elif isinstance(value, list | tuple) and args:
        for index, one in enumerate(value):
            yield from texts_of(one, args[0], f"{path}[{index}]")


def shared(properties: Mapping[str, Any], sources: Sequence[str]) -> str | None:
    """What of the shared context a node's code names."""
    found = next(filter(None, map(_SHARING.search, sources)), None)
    if found is None and "code" in properties:
        found = next(filter(None, map(_SHARED.search, sources)), None)
    return None if found is None else found[0]
