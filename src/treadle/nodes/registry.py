"""Every type of node there is, and the strategy that performs each."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from treadle.crypto.secrets import SCHEMES
from treadle.diagram.check.people import Wrong
from treadle.diagram.fingerprint import source_of
from treadle.diagram.person import Defined
from treadle.diagram.transform import default_transforms
from treadle.errors import did_you_mean
from treadle.nodes import (
    api_job,
    code_job,
    condition,
    db,
    endpoint,
    hook,
    json_schema_validator,
    person_job,
    sleep,
    start,
    sub_diagram,
    template_job,
    user_response,
    wait_for,
)
from treadle.nodes.base import NodeKind, NodeStrategyProtocol
from treadle.nodes.modules import load_function
from treadle.state.envelope import ContentHandler, ContentType

BUILT_IN = (start, endpoint, person_job, condition, code_job, template_job, db, api_job, hook,
            json_schema_validator, sub_diagram, user_response, wait_for, sleep)
"""A new type is one file: its module goes here."""


_WANTED = "it wants the path of a function, 'module:function'"


class _Call:
    """A function of one value for an arrow, by its path."""

    __slots__ = ("_function", "_path")

    def __init__(self, path: str, function: Callable[[Any], Any]) -> None:
        self._path, self._function = path, function

    def __call__(self, value: Any) -> Any:
        return self._function(value)

    def __repr__(self) -> str:
        return self._path


def _load(path: str, base: str) -> tuple[_Call, str]:
    function = load_function(path, base)
    if inspect.iscoroutinefunction(function):
        raise ValueError(f"transform call: {path} is async, and an arrow does not wait: use a code_job")
    return _Call(path, function), source_of(function)


class NodeRegistry:
    """The types of node by name, `transforms`, those that arrows may name, `secret_schemes`, with which the
    URL of a store of secrets may begin, and content types of its own beside those of the process
    (`ContentType`); what `check` calls `NodeTypes`."""

    def __init__(self, kinds: Iterable[NodeKind] = ()) -> None:
        self.transforms = default_transforms()
        self.transforms.register("call", lambda value, call: call(value), precedence=50, bind=_load,
                                 check=lambda path: None if isinstance(path, str) else _WANTED)
        self.secret_schemes = set(SCHEMES)
        self._kinds: dict[str, NodeKind] = {}
        self._handlers: dict[str, ContentHandler] = {}
        for kind in kinds:
            self.register(kind)

    def person_faults(self, person: Defined) -> Iterator[Wrong]:
        """What is wrong with a person's model and script."""
        from treadle.nodes.people.models import person_faults  # no diagram without people needs it

        return person_faults(person)

    def register(self, kind: NodeKind) -> None:
        """Add a type. ValueError if there is one of that name."""
        if kind.name in self._kinds:
            raise ValueError(f"there is a node type {kind.name!r} already: choose another name")
        self._kinds[kind.name] = kind

    def get(self, name: str) -> NodeKind | None:
        return self._kinds.get(name)

    def names(self) -> list[str]:
        return list(self._kinds)

    def register_content_type(self, name: str, handler: ContentHandler) -> None:
        """Add a content type that only this registry knows. ValueError if the name is taken."""
        if name in self.content_types():
            raise ValueError(f"the content type {name!r} is registered already: choose another name")
        self._handlers[name] = handler

    def content_type(self, name: str) -> ContentHandler:
        """How a kind of content is written down and checked; LookupError names the known ones."""
        own = self._handlers.get(name)
        return ContentType.handler(name) if own is None else own

    def content_types(self) -> list[str]:
        return [*ContentType.names(), *self._handlers]

    def kind(self, name: str) -> NodeKind:
        """The type of that name; LookupError with the nearest one."""
        try:
            return self._kinds[name]
        except KeyError:
            hint = did_you_mean(name, self._kinds) or f"there are {', '.join(self._kinds) or 'none'}"
            raise LookupError(f"no node type {name!r}: {hint}") from None

    def get_strategy(self, node_type: str) -> NodeStrategyProtocol:
        """What performs nodes of a type; LookupError with the nearest one."""
        return self.kind(node_type).strategy


class StrategyRegistry:
    """The strategies alone, for code that drives nodes by itself. Without arguments it has the built-in
    ones."""

    def __init__(self, types: NodeRegistry | None = None) -> None:
        self._types = types if types is not None else default_registry()
        self._added: list[NodeStrategyProtocol] = []

    def register(self, strategy: NodeStrategyProtocol) -> None:
        """Add a strategy; it is asked before older ones and the node types' own."""
        self._added.insert(0, strategy)

    def get_strategy(self, node_type: str) -> NodeStrategyProtocol:
        """What performs nodes of a type; LookupError with the nearest one."""
        for strategy in self._added:
            if strategy.can_handle(node_type):
                return strategy
        return self._types.get_strategy(node_type)



def default_registry() -> NodeRegistry:
    """A fresh registry with the built-in types."""
    return NodeRegistry(module.KIND for module in BUILT_IN)
