"""A recorded diagram only to look at: its shape, from what the store has of it.

Nothing that the diagram names is imported, neither functions nor plugins: who looks at a store runs none of
its code. Files of sub-diagrams are read, as text. What comes out can be drawn and walked, and has no
fingerprints: it can't be run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG
from treadle.diagram import formats
from treadle.diagram.compile import link
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.node import Node
from treadle.engine.sources import Source
from treadle.errors import Fault, InvalidDiagram, Where
from treadle.ids import NodeID

RUNS = "sub_diagram"
"""The type of node whose property `diagram` is drawn, too."""


def spec_of(source: Source) -> DiagramSpec | None:
    """A recorded diagram as it was written; None if it can't be read. msgspec.DecodeError."""
    if bytes(source.spec) != b"null":
        return msgspec.structs.replace(msgspec.json.decode(source.spec, type=DiagramSpec), source=source.text)
    return formats.read(source.text, file=source.file or "<stored>", base=source.base,
                        format=source.format)[0]


def outlined(spec: DiagramSpec) -> tuple[ExecutableDiagram | None, tuple[Fault, ...]]:
    """A diagram's nodes, arrows, loops and sub-diagrams; None if they don't fit together. The faults are
    those of what could not be drawn."""
    faults: list[Fault] = []
    home = (os.path.abspath(spec.where.file),) if spec.where and spec.where.file else ()
    try:
        return _Outlining(faults).diagram(spec, home), tuple(faults)
    except InvalidDiagram as error:
        return None, error.faults


class _Outlining:
    def __init__(self, faults: list[Fault]) -> None:
        self.faults = faults
        self.files: dict[str, ExecutableDiagram] = {}

    def diagram(self, spec: DiagramSpec, around: tuple[str, ...]) -> ExecutableDiagram:
        known = {node.id for node in spec.nodes}
        loose = [one for one in spec.arrows if not {one.source, one.target} <= known]
        if loose or len(known) < len(spec.nodes):
            raise InvalidDiagram([Fault(f"arrow {one}: it has no end", where=one.where) for one in loose]
                                 or [Fault("two nodes have one id", where=spec.where)])
        children: dict[NodeID, ExecutableDiagram] = {}
        for node in spec.nodes:
            inner = node.properties.get("diagram") if node.type == RUNS else None
            if inner is None:
                continue
            try:
                child = self.child(node, inner, spec, around)
            except InvalidDiagram as error:
                self.faults += [msgspec.structs.replace(one, warning=True) for one in error.faults]
            except (OSError, ValueError) as error:
                self.faults.append(Fault(f"its diagram can't be read: {error}", node=node.id,
                                         where=node.where, warning=True))
            else:
                children[node.id] = child
        return link(spec, children=children)

    def child(self, node: Node, inner: Any, spec: DiagramSpec, around: tuple[str, ...]) -> ExecutableDiagram:
        if len(around) >= DEFAULT_CONFIG.depth_max:
            raise ValueError("too many diagrams inside one another")
        if isinstance(inner, Mapping):
            where = node.where or Where()
            read, faults = formats.from_map(inner, where=where, base=spec.base, name=node.id)
            if read is None:
                raise InvalidDiagram(faults)
            return self.diagram(read, (*around, f"{where.file}#{node.id}"))
        path = os.path.normpath(os.path.join(spec.base, str(inner)))
        home = os.path.abspath(path)
        if home in around:
            raise ValueError("it runs itself")
        if home not in self.files:
            self.files[home] = self.diagram(formats.load(path), (*around, home))
        return self.files[home]
