"""What a node gets: the values on its arrows by input name, transformed, and the names its expressions see.

- An arrow's value goes to its input (`a -> b.text` to `text`, an unlabelled one to `default`). Two values
  on one input make a list in arrow order.
- A value on the input `first` stands in for `default` in the iteration in which it arrives.
- A failed node on an `error` arrow gives its error as a map: `type`, `message`, `node`, `traceback`.
- An arrow's `content_type` converts its value; its `transform` is a pipeline of rules (`TransformRule`).
- Names of expressions: the labels, the ids of the nodes that the values came from, `inputs` (the
  execution's, or the sub-diagram's own), `nodes` (those ids again, for ids that are no names), `iteration`
  (the turn of the innermost loop, from 1), `attempt`, and in a map `item` and `index`. Labels win over ids,
  and the words above over both.

Every consumer gets its own decoding of a recorded value, so no two nodes share a mutable object.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableArrow, ExecutableNode
from treadle.diagram.expression import Template, to_json
from treadle.diagram.node import DEFAULT, FIRST
from treadle.errors import TreadleError, did_you_mean
from treadle.state.cell import ErrorInfo

if TYPE_CHECKING:
    from treadle.engine.context import ExecutionContext

Pair = tuple[ExecutableArrow, Any]
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


class Transforms:
    """Transforms by name. Of several in one rule map the one with the lower precedence runs first."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[int, Transform]] = {}

    def register(self, name: str, transform: Transform, *, precedence: int = 50) -> None:
        """Add a transform, or replace the one of that name."""
        self._known[name] = (precedence, transform)

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
                    hint = (
                        did_you_mean(one.name, self._known) or f"there are {', '.join(sorted(self._known))}"
                    )
                    raise TransformError(f"unknown transform {one.name!r}: {hint}")
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


def default_transforms() -> Transforms:
    """select, default, rename, coerce, format; in one rule map they run in this order."""
    transforms = Transforms()
    transforms.register("select", select, precedence=10)
    transforms.register(
        "default", lambda value, argument: argument if value is None else value, precedence=20
    )
    transforms.register("rename", _rename, precedence=30)
    transforms.register("coerce", coerce, precedence=40)
    transforms.register(
        "format",
        lambda value, text: Template.compile(text).render(
            {
                "value": value,
                **(
                    {k: v for k, v in value.items() if isinstance(k, str)}
                    if isinstance(value, Mapping)
                    else {}
                ),
            }
        ),
        precedence=60,
    )
    return transforms


def error_value(error: ErrorInfo | None) -> dict[str, Any]:
    """What travels on an `error` arrow."""
    if error is None:
        return {"type": "Unknown", "message": "", "node": None, "traceback": ""}
    return {"type": error.type, "message": error.message, "node": error.node, "traceback": error.traceback}


class RuntimeResolver:
    """Resolves what nodes get. One per engine."""

    def __init__(self, transforms: Transforms | None = None, config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self.transforms = transforms or default_transforms()
        self.config = config

    def apply_transformations(self, value: Any, rules: Iterable[TransformRule | Mapping[str, Any]]) -> Any:
        """Run a value through a pipeline of rules, in order. Raises TransformError."""
        return self.transforms.apply(value, rules)

    def resolve_inputs(self, node: ExecutableNode, context: ExecutionContext) -> dict[str, Any]:
        """All inputs of a node, from the outputs that a context holds. Cached until one of those outputs
        changes.

        An arrow whose source has no output yet, or chose another port, gives nothing.
        """
        diagram = context.diagram
        found = []
        for a in diagram.into[node.index]:
            arrow = diagram.arrows[a]
            output = context.get_output(diagram.nodes[arrow.source].id)
            if output is not None and arrow.port == (output.port or DEFAULT):
                found.append((arrow, output))
        key = (node.id, tuple(output.id for _, output in found))
        cached = context.resolved.get(key)
        if cached is None:
            cached = context.resolved[key] = self.inputs([(arrow, output.body) for arrow, output in found])
        return dict(cached)

    def inputs(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Values by input name, from (arrow, value) pairs in arrow order. Raises TransformError."""
        if len(pairs) == 1:
            arrow, value = pairs[0]
            if arrow.transform or arrow.content_type:
                value = self._along(arrow, value)
            return {DEFAULT if arrow.input == FIRST else arrow.input: value}
        inputs: dict[str, Any] = {}
        lists: set[str] = set()
        for arrow, value in pairs:
            if arrow.transform or arrow.content_type:
                value = self._along(arrow, value)
            name = arrow.input
            if name not in inputs:
                inputs[name] = value
            elif name in lists:
                inputs[name].append(value)
            else:
                inputs[name] = [inputs[name], value]
                lists.add(name)
        if FIRST in inputs:
            inputs[DEFAULT] = inputs.pop(FIRST)
        return inputs

    def _along(self, arrow: ExecutableArrow, value: Any) -> Any:
        try:
            if arrow.content_type:
                value = convert(value, arrow.content_type)
            return self.transforms.apply(value, arrow.transform) if arrow.transform else value
        except TransformError as error:
            raise TransformError(f"arrow {arrow.text!r}: {error}") from error


def turn(iteration: str) -> int:
    """The turn of the innermost loop: 2 of "1.2"."""
    return int(iteration.rpartition(".")[2])


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
