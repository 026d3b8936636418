"""A file's values, each with the place where it stands; and the limits that keep a file from being a bomb."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.config import TreadleConfig
from treadle.errors import Fault, Where

PLACES_DEPTH_MAX = 4
"""How deep inside a property the places of its parts are remembered for messages."""


class Value(msgspec.Struct, gc=False):
    """A value of a file. `data` is None, a bool, number or text, a list of values, or a map of them by
    text."""

    data: Any
    where: Where
    keys: dict[str, Where] = {}  # of a map: where each key stands
    size: int = 1  # values in it, itself included
    depth: int = 1  # levels of nesting, its own included

    def plain(self) -> Any:
        """The value without places. Its depth is bounded by `diagram_depth_max`, so recursion is safe."""
        if isinstance(self.data, list):
            return [one.plain() for one in self.data]
        if isinstance(self.data, dict):
            return {key: one.plain() for key, one in self.data.items()}
        return self.data

    def places(self, path: str, found: dict[str, Where], levels: int = PLACES_DEPTH_MAX) -> None:
        """Note where this value and its parts stand, under paths like `cases[2].label`."""
        found[path] = self.where
        if levels and isinstance(self.data, list):
            for index, one in enumerate(self.data):
                one.places(f"{path}[{index}]", found, levels - 1)
        elif levels and isinstance(self.data, dict):
            for key, one in self.data.items():
                one.places(f"{path}.{key}", found, levels - 1)


class Unreadable(Exception):
    """The rest of a text can't be read; `fault` says why."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(str(fault))
        self.fault = fault


class _Open(msgspec.Struct):
    """A list or map that is being read."""

    value: Value
    anchor: str | None
    key: str | None = None
    key_where: Where | None = None
    merges: bool = False
    merged: list[Value] = []


class TreeBuilder:
    """Puts values together from a flat stream of calls, so that no depth of nesting can exhaust the stack.

    A key of a map is announced by `key`, as its text. `Unreadable` ends the reading; other faults are
    collected. A key that `merges` merges maps into the one that it stands in.
    """

    def __init__(self, config: TreadleConfig, faults: list[Fault]) -> None:
        self.config, self.faults = config, faults
        self.root: Value | None = None
        self._stack: list[_Open] = []
        self._anchors: dict[str, Value | None] = {}
        self._count = 0

    @property
    def wants_key(self) -> bool:
        """Whether the next scalar is the key of a map."""
        top = self._stack[-1] if self._stack else None
        return top is not None and isinstance(top.value.data, dict) and top.key is None

    def key(self, text: str, where: Where, *, merges: bool = False) -> None:
        top = self._stack[-1]
        self._legible(text, where)
        top.key, top.key_where, top.merges = text, where, merges
        first = None if merges else top.value.keys.get(text)
        if first is not None:
            self.faults.append(Fault(f"key {text!r} stands here a second time", where=where,
                                     hint=f"the first is in line {first.line}"))

    def scalar(self, data: Any, where: Where, anchor: str | None = None) -> None:
        self._tally(1, where)
        if isinstance(data, str):
            self._legible(data, where)
        value = Value(data, where)
        if anchor is not None:
            self._anchors[anchor] = value
        self._add(value)

    def open(self, data: list[Any] | dict[str, Any], where: Where, anchor: str | None = None) -> None:
        if self.wants_key:
            raise Unreadable(Fault("a key must be a text, not a list or map", where=where))
        self._tally(1, where)
        if len(self._stack) >= self.config.diagram_depth_max:
            self._exceeded("diagram_depth_max", "the file nests more deeply than that", where)
        if anchor is not None:
            self._anchors[anchor] = None
        self._stack.append(_Open(Value(data, where), anchor, merged=[]))

    def close(self) -> None:
        top = self._stack.pop()
        value = top.value
        for merged in top.merged:
            for key, one in merged.data.items():
                if key not in value.data:
                    value.data[key], value.keys[key] = one, merged.keys[key]
        parts = value.data if isinstance(value.data, list) else value.data.values()
        value.size = 1 + sum(one.size for one in parts)
        value.depth = 1 + max((one.depth for one in parts), default=0)
        if top.anchor is not None:
            self._anchors[top.anchor] = value
        self._add(value)

    def alias(self, name: str, where: Where) -> None:
        if name not in self._anchors:
            raise Unreadable(Fault(f"alias *{name} has no anchor &{name} before it", where=where))
        value = self._anchors[name]
        if value is None:
            raise Unreadable(Fault(f"alias *{name} stands inside its own anchor", where=where))
        self._tally(value.size, where)
        if len(self._stack) + value.depth > self.config.diagram_depth_max:
            self._exceeded("diagram_depth_max", f"alias *{name} nests more deeply than that", where)
        if self.wants_key:
            raise Unreadable(Fault("a key must be a text, not an alias", where=where))
        self._add(value)

    def _add(self, value: Value) -> None:
        if not self._stack:
            self.root = value
            return
        top = self._stack[-1]
        if isinstance(top.value.data, list):
            top.value.data.append(value)
            return
        assert top.key is not None and top.key_where is not None
        if top.merges:
            self._merge(top, value)
        else:
            top.value.data.setdefault(top.key, value)
            top.value.keys.setdefault(top.key, top.key_where)
        top.key = None

    def _merge(self, top: _Open, value: Value) -> None:
        maps = value.data if isinstance(value.data, list) else [value]
        if all(isinstance(one.data, dict) for one in maps):
            top.merged.extend(maps)
        else:
            self.faults.append(Fault("'<<' takes a map, or a list of maps, to merge into this one",
                                     where=value.where))

    def _tally(self, size: int, where: Where) -> None:
        self._count += size
        if self._count > self.config.diagram_values_max:
            self._exceeded("diagram_values_max", "the file has more values than that", where)

    def _exceeded(self, limit: str, what: str, where: Where) -> None:
        raise Unreadable(Fault(str(self.config.exceeded(limit, what)), where=where))

    def _legible(self, text: str, where: Where) -> None:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise Unreadable(Fault("half of a surrogate pair is not a character", where=where)) from None


def located(data: Any, where: Where) -> Value:
    """Plain data as values that all stand at one place. RecursionError if it is too deep."""
    if isinstance(data, Mapping):
        return Value({str(key): located(one, where) for key, one in data.items()}, where,
                     {str(key): where for key in data})
    if isinstance(data, list | tuple):
        return Value([located(one, where) for one in data], where)
    return Value(data, where)
