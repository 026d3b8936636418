"""Node types for tests of diagrams: as small as the protocol allows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pytest

from treadle.diagram.node import Node
from treadle.diagram.transform import default_transforms
from treadle.diagram.types import Expression, Ports, Template


class Code(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    call: str | None = None
    function: str | None = None
    arguments: dict[str, Any] = {}
    memory_mb: int = 64
    isolation: str | None = None


class Condition(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    when: Expression | None = None
    switch: Expression | None = None
    cases: list[str] = []


class Text(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: Template = ""
    parts: list[Template] = []
    names: dict[str, Expression | Any] = {}


class Sub(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    diagram: str | dict[str, Any]
    inputs: dict[str, Expression] = {}


class Start(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    custom_data: dict[str, Any] = {}


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Kind:
    def __init__(self, name: str, properties: type[msgspec.Struct], ports: Ports | None = None) -> None:
        self.name, self.properties, self._ports = name, properties, ports or Ports()

    def ports(self, spec: Any, node: Node, base: str) -> Ports:
        if isinstance(spec, Condition):
            outputs = (*spec.cases, "else") if spec.switch else ("true", "false")
            return Ports(outputs=outputs, chooses=True)
        if isinstance(spec, Code) and spec.call == "missing":
            raise ValueError("there is no function 'missing'")
        return self._ports

    def sources(self, spec: Any, node: Node, base: str) -> Iterable[str]:
        return ()

    def child(self, spec: Any, node: Node, base: str) -> Mapping[str, Any] | str | None:
        return spec.diagram if isinstance(spec, Sub) else None


class Kinds:
    def __init__(self, *kinds: Kind) -> None:
        self._kinds = {kind.name: kind for kind in kinds}
        self.transforms = default_transforms()

    def get(self, name: str) -> Kind | None:
        return self._kinds.get(name)

    def names(self) -> Iterable[str]:
        return self._kinds

    def content_types(self) -> Iterable[str]:
        return ["raw_text", "object"]


_KINDS = Kinds(
    Kind("code_job", Code), Kind("condition", Condition), Kind("text", Text), Kind("sub_diagram", Sub),
    Kind("start", Start, Ports(inputs=(), accepts_default=False, maps=False)), Kind("endpoint", Nothing),
    Kind("picky", Nothing, Ports(inputs=("left", "right"), required=("left",))))


@pytest.fixture(scope="session")
def kinds() -> Kinds:
    return _KINDS
