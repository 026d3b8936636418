"""What a function's signature says of a node: names, types, defaults; and whether one type can go where
another is."""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from treadle.errors import Fault, InvalidDiagram, Where, did_you_mean

SPECIAL = ("context", "inputs")
"""Parameters that the engine fills: what is known of the attempt, and all inputs as a map."""
ITEM = "item"


class Signature(msgspec.Struct, frozen=True):
    """The parameters that a drawing may fill, in order, with their types and defaults; and the type of the
    result."""

    names: tuple[str, ...]
    kinds: dict[str, Any]
    defaults: dict[str, Any]
    returns: Any = Any
    rest: bool = False  # takes **kwargs

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """TypeError for positional-only parameters: a node's inputs come by name."""
        try:
            hints = typing.get_type_hints(function)
        except (NameError, AttributeError, TypeError, SyntaxError):  # names that only a type checker can see
            hints = {}
        names, defaults, rest = [], {}, False
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise TypeError(f"parameter {name!r} of {function.__qualname__} is positional only: "
                                "a node's inputs come by name")
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = True
            elif parameter.kind is not parameter.VAR_POSITIONAL and name not in SPECIAL:
                names.append(name)
                if parameter.default is not parameter.empty:
                    defaults[name] = parameter.default
        return cls(tuple(names), hints, defaults, hints.get("return", Any), rest)

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], label: str, where: Where, *,
             is_map: bool) -> dict[str, Any]:
        """Arguments by name. InvalidDiagram names every one that is unknown, doubled or missing."""
        faults = []
        if len(args) > len(self.names):
            faults.append(Fault(f"{len(args)} arguments for {self}", node=label, where=where))
        given = dict(zip(self.names, args, strict=False))
        for name, value in kwargs.items():
            if name in given:
                faults.append(Fault(f"two values for parameter {name!r}", node=label, where=where))
            elif name not in self.names and not self.rest:
                hint = did_you_mean(name, self.names) or f"there is: {', '.join(self.names) or 'none'}"
                faults.append(Fault(f"there is no parameter {name!r}", node=label, where=where, hint=hint))
            given[name] = value
        item = self.item(given) if is_map else None
        for name in self.names:
            if name not in given and name not in self.defaults and name != item:
                faults.append(Fault(f"no value for parameter {name!r}", node=label, where=where))
        if faults:
            raise InvalidDiagram(faults)
        return given

    def item(self, given: Mapping[str, Any]) -> str | None:
        """The parameter that a map's item goes to."""
        free = [name for name in self.names if name not in given]
        return ITEM if ITEM in free else free[0] if free else None

    def __str__(self) -> str:
        parts = [f"{name}: {shown(self.kinds[name])}" if name in self.kinds else name for name in self.names]
        return f"({', '.join(parts)})"


def type_of(value: Any) -> Any:
    """The type of a constant, as far as `assignable` needs it."""
    if isinstance(value, list) and value:
        kinds = {type(one) for one in value}
        return list[kinds.pop()] if len(kinds) == 1 else list  # type: ignore[misc]
    return type(value)


def shown(kind: Any) -> str:
    """A type as one writes it."""
    if isinstance(kind, type) and not typing.get_args(kind):
        return "None" if kind is type(None) else kind.__name__
    return str(kind).replace("typing.", "").replace("collections.abc.", "")


def item_of(kind: Any) -> Any:
    """The type of a list's items: Any if unknown, None if it isn't a list at all."""
    kind = _plain(kind)
    origin, args = typing.get_origin(kind) or kind, typing.get_args(kind)
    if _is_union(kind):
        items = [item_of(one) for one in args]
        return Any if any(one is not None for one in items) else None
    if origin is Any or not isinstance(origin, type):
        return Any
    if issubclass(origin, str | bytes) or not issubclass(origin, collections.abc.Iterable):
        return Any if origin is object else None
    if origin is tuple:
        return args[0] if len(args) == 2 and args[1] is Ellipsis else Any
    return args[0] if len(args) == 1 else Any


def assignable(kind: Any, wanted: Any) -> bool:
    """Whether a value of one type can go where another is expected. What can't be decided can."""
    kind, wanted = _plain(kind), _plain(wanted)
    if kind is Any or wanted is Any or wanted is object or kind is object:
        return True
    if _is_union(kind):
        return any(assignable(one, wanted) for one in typing.get_args(kind))
    if _is_union(wanted):
        return any(assignable(kind, one) for one in typing.get_args(wanted))
    origin, target = typing.get_origin(kind) or kind, typing.get_origin(wanted) or wanted
    if (
        not isinstance(origin, type)
        or not isinstance(target, type)
        or _structural(origin)
        or _structural(target)
    ):
        return True
    if target in (float, complex) and origin in (int, float):
        return True
    try:
        if not issubclass(origin, target):
            return False
    except TypeError:  # a class that refuses the question
        return True
    inner, outer = typing.get_args(kind), typing.get_args(wanted)
    if len(inner) != len(outer) or Ellipsis in (*inner, *outer):
        return True
    return all(assignable(one, other) for one, other in zip(inner, outer, strict=True))


def _plain(kind: Any) -> Any:
    """A type without what says nothing about the class: Annotated, NewType, Literal; None as a class."""
    while True:
        if kind is None:
            return type(None)
        origin = typing.get_origin(kind)
        if origin is typing.Annotated:
            kind = typing.get_args(kind)[0]
        elif origin is typing.Literal:
            kinds = {type(one) for one in typing.get_args(kind)}
            return kinds.pop() if len(kinds) == 1 else Any
        elif isinstance(kind, typing.NewType):
            kind = kind.__supertype__
        else:
            return kind


def _is_union(kind: Any) -> bool:
    return typing.get_origin(kind) in (typing.Union, types.UnionType)


def _structural(kind: type) -> bool:
    """Protocols and typed maps: what fits them can't be told from the class."""
    return getattr(kind, "_is_protocol", False) or typing.is_typeddict(kind)
