"""How a node's inputs reach a function's parameters. The plan is made once per node; a call only follows it.

1. An input with a label goes to the parameter of that name; a node's `arguments` are constants by name.
2. `context` gets the `BodyContext`, `inputs` all inputs as a map, `**kwargs` the labelled inputs that are
   left.
3. In a map the item goes to the parameter `item`, else to the first parameter that is still free, and the
   unlabelled value to nobody but `inputs`: it usually is the whole list.
4. Otherwise the unlabelled value (`default`) goes to the one parameter that is still free. If several are,
   each gets the value of the source node that it is named like; when none is named so, the first gets it.
"""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from treadle.diagram.node import DEFAULT
from treadle.diagram.types import Ports
from treadle.nodes.base import BodyContext

CONTEXT = "context"
INPUTS = "inputs"
ITEM = "item"

Arguments = Callable[[BodyContext, dict[str, Any]], dict[str, Any]]


# Reading a signature takes 20 µs, and one function may stand behind thousands of nodes.
_known: weakref.WeakKeyDictionary[Callable[..., Any], Signature] = weakref.WeakKeyDictionary()


class Signature(msgspec.Struct, frozen=True):
    """What matters of a function's signature: names in order, and those that have no default."""

    name: str
    names: tuple[str, ...] = ()  # without `context` and `inputs`
    required: frozenset[str] = frozenset()
    context: bool = False
    inputs: bool = False
    rest: bool = False  # takes **kwargs

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """ValueError if the function can't be inspected or takes positional-only parameters."""
        try:
            found = _known.get(function)
        except TypeError:  # it can't be hashed or weakly referenced
            return cls._read(function)
        if found is None:
            found = cls._read(function)
            try:
                _known[function] = found
            except TypeError:
                pass
        return found

    @classmethod
    def _read(cls, function: Callable[..., Any]) -> Signature:
        name = getattr(function, "__qualname__", repr(function))
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError) as error:
            raise ValueError(f"the parameters of {name} can't be read ({error}): wrap it in a Python "
                             "function") from None
        names: list[str] = []
        required: set[str] = set()
        special: set[str] = set()
        rest = False
        for parameter in parameters:
            if parameter.kind is parameter.POSITIONAL_ONLY:
                raise ValueError(f"parameter {parameter.name!r} of {name} is positional only: inputs are "
                                 "handed over by name, so wrap the function in one with named parameters")
            if parameter.kind is parameter.VAR_KEYWORD:
                rest = True
            elif parameter.kind is not parameter.VAR_POSITIONAL:
                if parameter.name in (CONTEXT, INPUTS):
                    special.add(parameter.name)
                else:
                    names.append(parameter.name)
                    if parameter.default is parameter.empty:
                        required.add(parameter.name)
        return cls(name, tuple(names), frozenset(required), CONTEXT in special, INPUTS in special, rest)

    def ports(self, constants: Mapping[str, Any], *, is_map: bool) -> Ports:
        """The inputs that arrows may name. What the unlabelled value or a map's item can fill isn't
        required."""
        free = [name for name in self.names if name in self.required and name not in constants]
        open_ended = self.rest or self.inputs
        names = tuple(name for name in self.names if name not in constants)
        return Ports(inputs=None if open_ended else names,
                     required=tuple(name for name in free if not (is_map and name == ITEM)))


def plan(signature: Signature, constants: Mapping[str, Any] | None = None, *,
         is_map: bool = False) -> Arguments:
    """The function that turns inputs into keyword arguments. TypeError at the call for what is missing."""
    fixed = dict(constants or {})
    unknown = [name for name in fixed if name not in signature.names]
    if unknown and not signature.rest:
        raise ValueError(f"{signature.name} has no parameter {unknown[0]!r}; it has "
                         f"{', '.join(signature.names) or 'none'}")
    open_names = tuple(name for name in signature.names if name not in fixed)
    if not open_names and not (signature.context or signature.inputs or signature.rest):
        return lambda context, inputs: fixed
    if len(open_names) == 1 and not (is_map or signature.context or signature.inputs or signature.rest):
        return _single(signature, open_names[0], fixed)
    return _general(signature, open_names, fixed, is_map)


def _single(signature: Signature, name: str, fixed: dict[str, Any]) -> Arguments:
    """The commonest shape, without loops: one parameter."""
    required = name in signature.required

    def arguments(context: BodyContext, inputs: dict[str, Any]) -> dict[str, Any]:
        if name in inputs:
            return {**fixed, name: inputs[name]}
        if DEFAULT in inputs:
            return {**fixed, name: inputs[DEFAULT]}
        if required:
            raise _missing(signature, [name], inputs)
        return fixed

    return arguments


def _general(signature: Signature, open_names: tuple[str, ...], fixed: dict[str, Any],
             is_map: bool) -> Arguments:
    known = frozenset(open_names)

    def arguments(context: BodyContext, inputs: dict[str, Any]) -> dict[str, Any]:
        given = {name: value for name, value in inputs.items() if name in known}
        free = [name for name in open_names if name not in given]
        if is_map:
            if ITEM in free:
                given[ITEM] = context.item
            elif free:
                given[free[0]] = context.item
        elif free and DEFAULT in inputs and DEFAULT not in known:
            _unlabelled(given, free, context, inputs)
        missing = [name for name in free if name not in given and name in signature.required]
        if missing:
            raise _missing(signature, missing, inputs)
        if signature.rest:
            given.update({name: value for name, value in inputs.items()
                          if name not in given and name != DEFAULT and name not in fixed})
        if signature.context:
            given[CONTEXT] = context
        if signature.inputs:
            given[INPUTS] = inputs
        return {**fixed, **given}

    return arguments


def _unlabelled(given: dict[str, Any], free: list[str], context: BodyContext, inputs: dict[str, Any]) -> None:
    if len(free) > 1:
        sources = context.names(inputs)["nodes"]
        named = [name for name in free if name in sources]
        if named:
            given.update({name: sources[name] for name in named})
            return
    given[free[0]] = inputs[DEFAULT]


def _missing(signature: Signature, missing: list[str], inputs: Mapping[str, Any]) -> TypeError:
    names = ", ".join(map(repr, missing))
    there = ", ".join(map(repr, inputs)) or "no input"
    return TypeError(f"{signature.name} needs {names}, but the node got {there}: label an arrow (`a -> node."
                     f"{missing[0]}`), set it in `arguments`, or give the parameter a default")
