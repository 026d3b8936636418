"""What a diagram must know of node types, as protocols: floor 2 needs nothing above it.

`treadle.nodes.registry.NodeRegistry` is the real one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Protocol

import msgspec

from treadle.diagram.node import Node
from treadle.diagram.transform import Transforms

Template = Annotated[str, msgspec.Meta(extra={"treadle": "template"})]
"""A property that is a text with `{{ expressions }}` in it."""
Expression = Annotated[str, msgspec.Meta(extra={"treadle": "expression"})]
"""A property that is one expression; the braces around it may be left out."""
PersonName = Annotated[str, msgspec.Meta(extra={"treadle": "person"})]
"""A property that names one of the persons of the diagram, or of those around it. One that may be said in
place is `PersonName | Person`."""


class Doubt(msgspec.Struct, frozen=True):
    """What a type warns of at one of its nodes. `at` is the path of the property, as in `tools[1].call`."""

    message: str
    at: str = ""
    hint: str | None = None


class Ports(msgspec.Struct, frozen=True):
    """The names that arrows may use at one node. None means: any name."""

    outputs: tuple[str, ...] | None = ("default",)  # `error` is always there too
    inputs: tuple[str, ...] | None = None
    required: tuple[str, ...] = ()  # inputs without which the node can't run
    accepts_default: bool = True  # whether an unlabelled arrow may enter
    chooses: bool = False  # whether the node can leave ports without a value (conditions): ends loops
    maps: bool = True  # whether `for_each` makes sense; a node that chooses can't be a map in any case
    doubts: tuple[Doubt, ...] = ()  # warnings


class NodeType(Protocol):
    """One type of node, as far as a diagram is concerned."""

    @property
    def name(self) -> str: ...

    @property
    def properties(self) -> type[msgspec.Struct]:
        """The struct that the type's properties convert to, strictly."""

    def ports(self, spec: Any, node: Node, base: str) -> Ports:
        """The ports and inputs of a node with this spec. Raises ValueError or OSError with a message for
        people when what the spec names can't be found (a file, a function)."""

    def sources(self, spec: Any, node: Node, base: str) -> Iterable[str]:
        """The source texts that the node's fingerprint must change with."""

    def child(self, spec: Any, node: Node, base: str) -> Mapping[str, Any] | str | None:
        """The sub-diagram it runs: inline as a map, or the path of its file, or None."""


class NodeTypes(Protocol):
    """Every type of node there is, and what else an arrow may name."""

    @property
    def transforms(self) -> Transforms: ...

    def content_types(self) -> Iterable[str]:
        """The kinds of content that an arrow may ask for."""

    def get(self, name: str) -> NodeType | None: ...
    def names(self) -> Iterable[str]: ...
