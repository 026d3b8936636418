"""What an arrow may do to its value on the way: a pipeline of named transforms.

    arrows:
      - {from: fetch, to: report.rows, transform: [{select: body.rows}, {default: []}]}

Transforms are pure functions of the value and their argument. Those of one rule run in the order of their
precedence, rules in the order of the list.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, time
from typing import Any

import msgspec

from treadle.diagram.expression import Template, to_json
from treadle.errors import ExpressionError, TreadleError, did_you_mean
from treadle.foreign import attempt

_STEP = re.compile(r"""\.([^.\[\]]+)|\[(-?\d+)\]|\[(\*)\]|\['([^']+)'\]|\["([^"]+)"\]""")
_EACH = object()


class TransformError(TreadleError, ValueError):
    """A value can't be transformed as its arrow says."""


class NotThere(TransformError):
    """A path leads to a part that a map, a list or null doesn't have. A `default` that follows stands in for
    it."""


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
        known = self.rules(rules)
        for rule, following in zip(known, [*known[1:], None], strict=True):
            given = value
            value, error = attempt(self._known[rule.name][1], given, rule.argument)
            if isinstance(error, NotThere) and following is not None and following.name == "default":
                continue
            if isinstance(error, TreadleError):
                raise error
            if error is not None:
                raise TransformError(f"transform {rule.name}: {rule.argument!r} of a {type(given).__name__}: "
                                     f"{type(error).__name__}: {error}") from error
        return value


@functools.lru_cache(maxsize=1024)
def _steps(path: str) -> tuple[tuple[str, Any], ...]:
    """A path as its steps, each with its text: a key, an index or `_EACH`. TransformError for what is no
    path."""
    text = path if path.startswith("[") or not path else f".{path}"
    found: list[tuple[str, Any]] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise TransformError(f"select {path!r}: it is no path: write one such as rows[0].name, "
                                 "rows[*].name or ['a.b'].c")
        key: Any = _EACH if match[3] else int(match[2]) if match[2] else match[1] or match[4] or match[5]
        found.append((match[0] if found else match[0].lstrip("."), key))
        at = match.end()
    return tuple(found)


def select(value: Any, path: str) -> Any:
    """The part of a value at a dotted path: `rows[0].name`, `['a.b']`; `rows[*].name` is a list, the name of
    each row. TransformError that says where the path ends, `NotThere` if something could be there."""
    return _select(value, path, _steps(path), "")


def _select(value: Any, path: str, steps: Sequence[tuple[str, Any]], done: str) -> Any:
    for number, (text, key) in enumerate(steps):
        if key is _EACH:
            if not isinstance(value, Sequence) or isinstance(value, str | bytes):
                raise TransformError(f"select {path!r}: {done or 'the value'} is a {type(value).__name__}, "
                                     "and `[*]` wants a list")
            return [_select(one, path, steps[number + 1:], f"{done}[{index}]")
                    for index, one in enumerate(value)]
        try:
            if isinstance(value, Mapping):
                value = value[key if key in value else str(key)]
            elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
                value = value[int(key)]
            else:
                value = getattr(value, _public(key))
        except (LookupError, AttributeError, ValueError):
            keys = f"; it has {', '.join(map(str, list(value)[:20])) or 'nothing'}" if isinstance(
                value, Mapping) else ""
            may_be = value is None or isinstance(value, Mapping | list | tuple)
            raise (NotThere if may_be else TransformError)(
                f"select {path!r}: {done or 'the value'} is a {type(value).__name__} without "
                f"{text.lstrip('.')!r}{keys}"
            ) from None
        done += text
    return value


def _public(key: Any) -> str:
    if not isinstance(key, str) or key.startswith("_"):
        raise AttributeError(key)
    return key


def _rename(value: Any, names: Mapping[str, str]) -> Any:
    """Other names for the keys of a map, or of each map in a list."""
    if isinstance(value, list | tuple) and all(isinstance(one, Mapping) for one in value):
        return [_rename(one, names) for one in value]
    if not isinstance(value, Mapping):
        raise TransformError(f"rename wants a map or a list of maps, not {_short(value)}")
    missing = [name for name in names if name not in value]
    if missing:
        raise TransformError(f"rename: the map has no {missing[0]!r}; it has {', '.join(map(str, value))}")
    renamed: dict[Any, Any] = {}
    for key, one in value.items():
        _put(renamed, names.get(key, key), one, "rename")
    return renamed


def _put(found: dict[Any, Any], key: Any, value: Any, name: str) -> None:
    if key in found:
        raise TransformError(f"{name}: two keys would both be {key!r}, and one of them lost")
    found[key] = value


_COERCIONS: dict[str, Any] = {"string": str, "integer": int, "number": float, "boolean": bool, "array": list,
                              "object": dict}
_TAKES = {"integer": "a whole number, or a text of one", "number": "a number, or a text of one",
          "boolean": "true, false, 1, 0, or a text of these",
          "array": "a list, or a text of JSON that is one", "object": "a map, or a text of JSON that is one"}


def coerce(value: Any, kind: str) -> Any:
    """A value as one of the types of inputs: string, integer, number, boolean, array, object, any.

    Texts are read (`"3"` → 3, `"true"` → True, JSON for arrays and maps); maps, lists, true and false become
    texts of JSON, times ISO texts; TransformError where nothing sensible remains (`"x"` → integer, 3.5 →
    integer, null → anything).
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
        if value is None:
            raise ValueError("let a `default` stand in for null before")
        if wanted is str:
            return _text(value)
        if wanted is list and isinstance(value, tuple | set | frozenset):
            return list(value)
        if isinstance(value, float) and wanted is int and not value.is_integer():
            raise ValueError("it has a fraction")
        return _read(value, kind)
    except (ValueError, TypeError) as error:
        raise TransformError(f"can't make {kind} of {_short(value)}: {error}") from None


def _read(value: Any, kind: str) -> Any:
    wanted = _COERCIONS[kind]
    try:
        read = value
        if isinstance(value, str):
            read = json.loads(value) if wanted in (list, dict) else value.strip()
        return msgspec.convert(read, wanted, strict=False)
    except (ValueError, TypeError):
        raise ValueError(f"it takes {_TAKES[kind]}") from None


def _text(value: Any) -> str:
    """A value as a text: what JSON has as JSON, the rest as people write it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes | bytearray):
        return _decoded(value)
    if isinstance(value, date | time):
        return value.isoformat()
    if value is None or isinstance(value, bool | Mapping | list | tuple | set | frozenset):
        return to_json(value)
    return str(value)


def _decoded(value: bytes | bytearray) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no text in UTF-8 (byte {error.start})") from None


def convert(value: Any, content_type: str) -> Any:
    """A value as an arrow's `content_type` asks for it: `raw_text` (JSON of a map, bytes as UTF-8), `object`
    (JSON is read), `binary` (a text in UTF-8, JSON of a map), `conversation_state` (a text is what the user
    said), `empty` (null). Others leave it as it is. TransformError."""
    try:
        if content_type == "raw_text":
            return _text(value)
        if content_type == "object" and isinstance(value, str | bytes | bytearray):
            return json.loads(value)
        if content_type == "binary" and isinstance(value, str | Mapping | list | tuple):
            return _text(value).encode()
    except ValueError as error:
        what = f"the text {_short(value)} is not JSON" if content_type == "object" else _short(value)
        raise TransformError(f"content_type {content_type}: {what}: {error}") from None
    if content_type == "conversation_state":
        return _conversation(value)
    return None if content_type == "empty" else value


def _conversation(value: Any) -> Any:
    if isinstance(value, Mapping) and "messages" in value:
        return value
    messages = list(value) if isinstance(value, list | tuple) else [value]
    if not messages or not all(isinstance(one, Mapping) and "role" in one for one in messages):
        messages = [{"role": "user", "content": _text(value)}]
    return {"messages": messages}


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
            for inner, part in _dotted(one, levels - 1).items():
                _put(found, f"{key}.{inner}", part, "flatten")
        else:
            _put(found, key, one, "flatten")
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
    try:
        return Template.compile(text).render({"value": value, **names})
    except ExpressionError as error:
        raise TransformError(f"format: {error}") from None


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


def _wrong_path(path: Any) -> str | None:
    if not isinstance(path, str):
        return f"it takes a path such as rows[0].name, not {_short(path)}"
    try:
        _steps(path)
    except TransformError as error:
        return str(error).removeprefix(f"select {path!r}: ")
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
                   check=_wrong_path)
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
