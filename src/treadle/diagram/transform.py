"""What an arrow may do to its value on the way: a pipeline of named transforms.

    arrows:
      - {from: fetch, to: report.rows, transform: [{select: body.rows}, {default: []}]}

Transforms are pure functions of the value and their argument. Those of one rule run in the order of their
precedence, rules in the order of the list.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from treadle.diagram.expression import Template, to_json
from treadle.errors import ExpressionError, TreadleError, did_you_mean

_STEP = re.compile(r"\.?([^.\[\]]+)|\[(-?\d+)\]")


class TransformError(TreadleError, ValueError):
    """A value can't be transformed as its arrow says."""


class TransformRule(msgspec.Struct, frozen=True):
    """One transform and its argument, as an arrow says it: `select: body.rows` is `TransformRule("select",
    "body.rows")`."""

    name: str
    argument: Any = None


Transform = Callable[[Any, Any], Any]
"""(value, argument) → value."""
Check = Callable[[Any], str | None]
"""argument → what is wrong with it, or None: found before anything runs."""
Bind = Callable[[Any, str], tuple[Any, str]]
"""(argument, folder of the diagram) → what the transform gets in its place, and the source text that results
depend on. Raises ValueError or OSError for what the argument names and isn't there."""


class Transforms:
    """Transforms by name. Of several in one rule map the one with the lower precedence runs first."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Transform]] = {}
        self._checks: dict[str, Check] = {}
        self._binds: dict[str, Bind] = {}

    def register(self, name: str, transform: Transform, *, precedence: int = 50,
                 check: Check | None = None, bind: Bind | None = None) -> None:
        """Add a transform, or replace the one of that name. `check` looks at the argument in a diagram,
        `bind` finds what it names."""
        self._known[name] = (precedence, transform)
        self._checks[name] = check or (lambda argument: None)
        self._binds.pop(name, None)
        if bind is not None:
            self._binds[name] = bind

    def bound(self, rules: Sequence[Mapping[str, Any]],
              base: str) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...]]:
        """The rules of an arrow with what their arguments name, and the sources of that. Raises what a `bind`
        does."""
        texts: list[str] = []
        made = []
        for rule in rules:
            one = dict(rule)
            for name in one.keys() & self._binds.keys():
                one[name], text = self._binds[name](one[name], base)
                texts.append(text)
            made.append(one)
        return tuple(made), tuple(texts)

    def names(self) -> list[str]:
        """Every transform, in the order in which they run in one rule."""
        return sorted(self._known, key=lambda name: self._known[name][0])

    def faults(self, rules: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str | None]]:
        """What is wrong with the rules of an arrow, each with what to do, if there is a guess."""
        for rule in rules:
            for name, argument in rule.items():
                if name not in self._known:
                    yield f"unknown transform {name!r}", self._hint(name)
                elif (wrong := self._checks[name](argument)) is not None:
                    yield f"transform {name}: {wrong}", None

    def _hint(self, name: str) -> str:
        return did_you_mean(name, self._known) or f"there is: {', '.join(sorted(self._known))}"

    def rules(self, rules: Iterable[TransformRule | Mapping[str, Any]]) -> list[TransformRule]:
        """A pipeline as rules in the order in which they run; ValueError for an unknown transform."""
        flat: list[TransformRule] = []
        for rule in rules:
            several = (
                [rule]
                if isinstance(rule, TransformRule)
                else [TransformRule(k, v) for k, v in rule.items()]
            )
            for one in several:
                if one.name not in self._known:
                    raise TransformError(f"unknown transform {one.name!r}: {self._hint(one.name)}")
            flat.extend(sorted(several, key=lambda one: self._known[one.name][0]))
        return flat

    def apply(self, value: Any, rules: Iterable[TransformRule | Mapping[str, Any]]) -> Any:
        """Run a value through a pipeline. Raises TransformError."""
        for rule in self.rules(rules):
            try:
                value = self._known[rule.name][1](value, rule.argument)
            except TreadleError:
                raise
            except Exception as error:  # foreign code: a registered transform
                raise TransformError(f"transform {rule.name}: {rule.argument!r} of a {type(value).__name__}: "
                                     f"{type(error).__name__}: {error}") from error
        return value


def select(value: Any, path: str) -> Any:
    """The part of a value at a dotted path: `rows[0].name`. TransformError that says where the path ends."""
    done = ""
    for match in _STEP.finditer(path):
        key: Any = match[1] if match[1] is not None else int(match[2])
        try:
            if isinstance(value, Mapping):
                value = value[key if key in value else str(key)]
            elif isinstance(value, Sequence) and not isinstance(value, str):
                value = value[int(key)]
            else:
                value = getattr(value, _public(key))
        except (LookupError, AttributeError, ValueError):
            keys = f"; it has {', '.join(map(str, list(value)[:20]))}" if isinstance(value, Mapping) else ""
            raise TransformError(
                f"select {path!r}: {done or 'the value'} is a {type(value).__name__} without "
                f"{match[0].lstrip('.')!r}{keys}"
            ) from None
        done += match[0]
    return value


def _public(key: Any) -> str:
    if not isinstance(key, str) or key.startswith("_"):
        raise AttributeError(key)
    return key


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(value, Mapping):
        raise TransformError(f"rename wants a map, not a {type(value).__name__}")
    missing = [name for name in names if name not in value]
    if missing:
        raise TransformError(f"rename: the map has no {missing[0]!r}; it has {', '.join(map(str, value))}")
    return {names.get(key, key): one for key, one in value.items()}


_COERCIONS: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list,
                              "object": dict}


def coerce(value: Any, kind: str) -> Any:
    """A value as one of the types of inputs: string, integer, number, boolean, array, object, any.

    Texts are read (`"3"` → 3, `"true"` → True, JSON for arrays and maps), maps and lists become JSON texts;
    TransformError where nothing sensible remains (`"x"` → integer, 3.5 → integer).
    """
    if kind == "any":
        return value
    wanted = _COERCIONS.get(kind)
    if wanted is None:
        raise TransformError(
            f"unknown type {kind!r}: {did_you_mean(kind, _COERCIONS) or ', '.join(_COERCIONS)}"
        )
    if type(value) is wanted:
        return value
    try:
        if wanted is str:
            return to_json(value) if isinstance(value, Mapping | list | tuple) else str(value)
        if isinstance(value, str) and wanted in (list, dict):
            value = json.loads(value)
        if wanted is list and isinstance(value, tuple | set | frozenset):
            return list(value)
        if isinstance(value, float) and wanted is int and not value.is_integer():
            raise ValueError("it has a fraction")
        return msgspec.convert(value, wanted, strict=False)
    except (ValueError, TypeError) as error:
        raise TransformError(f"can't make {kind} of {_short(value)}: {error}") from error


def convert(value: Any, content_type: str) -> Any:
    """A value as an arrow's `content_type` asks for it: `raw_text` (JSON of a map), `object` (JSON is read)
    …"""
    if content_type == "raw_text":
        return value if isinstance(value, str) else to_json(value)
    if content_type == "object" and isinstance(value, str | bytes):
        try:
            return json.loads(value)
        except ValueError as error:
            raise TransformError(
                f"content_type object: the text {_short(value)} is not JSON: {error}"
            ) from error
    if content_type == "conversation_state" and not isinstance(value, Mapping):
        return {
            "messages": [{"role": "user", "content": value if isinstance(value, str) else to_json(value)}]
        }
    if content_type == "binary" and isinstance(value, str):
        return value.encode()
    if content_type == "empty":
        return None
    return value


def _flatten(value: Any, depth: Any) -> Any:
    """Lists in a list become its items, `depth` levels deep (True: one); the keys of maps in a map become
    dotted."""
    levels = 1 if depth is True else int(depth)
    if isinstance(value, Mapping):
        return _dotted(value, levels)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise TransformError(f"flatten wants a list or a map, not a {type(value).__name__}")
    flat = list(value)
    for _ in range(levels):
        if not any(isinstance(one, list | tuple) for one in flat):
            break
        flat = [part for one in flat for part in (one if isinstance(one, list | tuple) else [one])]
    return flat


def _dotted(value: Mapping[str, Any], levels: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, one in value.items():
        if levels and isinstance(one, Mapping) and one:
            found.update({f"{key}.{inner}": part for inner, part in _dotted(one, levels - 1).items()})
        else:
            found[key] = one
    return found


def _merge(value: Any, argument: Any) -> Any:
    """A map with more keys, those of the argument winning; or, for True, a list of maps as one, later ones
    winning."""
    maps = value if argument is True else [value, argument]
    if not isinstance(maps, list | tuple) or not all(isinstance(one, Mapping) for one in maps):
        wanted = "a list of maps" if argument is True else "a map"
        raise TransformError(f"merge wants {wanted}, not {_short(value)}")
    merged: dict[str, Any] = {}
    for one in maps:
        merged.update(one)
    return merged


def _format(value: Any, text: str) -> str:
    names = {k: v for k, v in value.items() if isinstance(k, str)} if isinstance(value, Mapping) else {}
    return Template.compile(text).render({"value": value, **names})


def _wants(what: str, fits: Callable[[Any], bool]) -> Check:
    return lambda argument: None if fits(argument) else f"it takes {what}, not {_short(argument)}"


def _wrong_format(text: Any) -> str | None:
    if not isinstance(text, str):
        return f"it takes a template, not {_short(text)}"
    try:
        Template.compile(text)
    except ExpressionError as error:
        return str(error)
    return None


def _is_levels(argument: Any) -> bool:
    return argument is True or (isinstance(argument, int) and argument > 0)


def _is_names(argument: Any) -> bool:
    return isinstance(argument, Mapping) and all(isinstance(one, str) for one in argument.values())


def default_transforms() -> Transforms:
    """A fresh registry with select, default, rename, merge, flatten, coerce and format; in one rule they run
    in this order."""
    known = Transforms()
    known.register("select", select, precedence=10,
                   check=_wants("a path such as rows[0].name", lambda path: isinstance(path, str)))
    known.register("default", lambda value, argument: argument if value is None else value, precedence=20)
    known.register("rename", _rename, precedence=30, check=_wants("a map of names, old: new", _is_names))
    known.register("merge", _merge, precedence=32,
                   check=_wants("a map, or true", lambda one: one is True or isinstance(one, Mapping)))
    known.register("flatten", _flatten, precedence=34,
                   check=_wants("true, or how many levels", _is_levels))
    known.register("coerce", coerce, precedence=40,
                   check=_wants(f"one of any, {', '.join(_COERCIONS)}",
                                lambda kind: kind == "any" or kind in _COERCIONS))
    known.register("format", _format, precedence=60, check=_wrong_format)
    return known


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
