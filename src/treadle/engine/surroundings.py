"""What the nodes of a diagram have around them: variables, and where secrets are looked up.

A sub-diagram's own `environment_vars` and `secret_store` hold for its nodes and those inside of them; what it
doesn't say is that of the diagram around it. What was given for the whole execution goes before both. A
variable that names a secret is looked up where it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.crypto.secrets import ENV, SECRET, is_reference
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.engine import shared

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner
    from treadle.state.context import About

_ENV_TOO = frozenset({"auth", "env", "tools", "url"})
"""The properties in which `env:NAME` is looked up, too; elsewhere it may be any text."""
_USER = "auth.basic.user"  # not kept out of results
_ASKED = re.compile(r"""\bsecret\(\s*["']((?:secret://|env:)[^"']+)["']""")


class Given(msgspec.Struct, frozen=True):
    """The variables of the nodes in a diagram, and their store of secrets: its URL, and the folder that
    relative paths in it begin at. `origins` are those around them from which variables come that name a
    secret."""

    variables: Mapping[str, str]
    store: str
    base: str
    origins: Mapping[str, Given] = {}

    def inside(self, spec: DiagramSpec, about: About) -> Given:
        """The same in a diagram that is inside of this one."""
        store, base = self.store, self.base
        if spec.secret_store is not None and not about.given_store:
            store, base = spec.secret_store, spec.base
        fixed = about.given_vars
        own = {name: text for name, text in spec.environment_vars.items() if name not in fixed}
        if not own and (store, base) == (self.store, self.base):
            return self
        origins = {name: self.origins.get(name, self) for name, text in self.variables.items()
                   if name not in own and is_reference(text)}
        return Given({**self.variables, **own}, store, base, origins)


class Named(msgspec.Struct, frozen=True):
    """The secrets that a diagram names: references, and the diagrams from the outermost to the one in which
    they stand."""

    specs: tuple[DiagramSpec, ...]
    references: tuple[str, ...]


def outermost(about: About, spec: DiagramSpec) -> Given:
    """What is around the nodes of an execution's own diagram."""
    return Given(about.environment_vars, about.secret_store or ENV, spec.base)


def around(runner: WorkflowRunner, slot: int) -> Given:
    """What is around a node that runs. Any thread may ask."""
    kernel = runner.kernel
    specs: list[DiagramSpec] = []  # from the inside
    while slot >= 0:
        spec = kernel.diagram_of(slot).spec
        if not specs or specs[-1] is not spec:  # an item of a map, and the map
            specs.append(spec)
        slot = kernel.owner(slot)
    known: dict[tuple[int, ...], Given] = runner.__dict__.setdefault("_given", {})
    key = tuple(map(id, specs))
    found = known.get(key)
    if found is None:
        found = known[key] = within(shared.about(runner), [kernel.diagram.spec, *reversed(specs[:-1])])
    return found


def within(about: About, specs: list[DiagramSpec]) -> Given:
    """What is around the nodes of the last of some diagrams, each inside of the one before."""
    found = outermost(about, specs[0])
    for spec in specs[1:]:
        found = found.inside(spec, about)
    return found


def named_in(diagram: ExecutableDiagram, specs: tuple[DiagramSpec, ...] = ()) -> Iterator[Named]:
    """The secrets that a diagram and those in it name, in nodes and variables."""
    specs = (*specs, diagram.spec)
    found = dict.fromkeys(_in_nodes(diagram.spec))
    if found or any(map(is_reference, diagram.spec.environment_vars.values())):
        yield Named(specs, tuple(found))
    for node in diagram.nodes:
        if node.child is not None:
            yield from named_in(node.child, specs)


def _in_nodes(spec: DiagramSpec) -> Iterator[str]:
    if spec.source and SECRET not in spec.source and ENV not in spec.source:
        return
    for node in spec.nodes:
        for key, value in node.properties.items():
            if key != "diagram":  # it is a diagram of its own
                yield from _in(value, key)


def _in(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, str):
        if value.startswith(SECRET):
            if is_reference(value):
                yield value
        elif value.startswith(ENV):
            if at.partition(".")[0] in _ENV_TOO and at != _USER and is_reference(value):
                yield value
        elif "secret(" in value:
            yield from filter(is_reference, _ASKED.findall(value))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _in(one, f"{at}.{key}")
    elif isinstance(value, list):
        for one in value:
            yield from _in(one, at)
