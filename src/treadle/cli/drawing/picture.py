"""What there is to draw of a diagram, whatever the format."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from treadle.diagram.node import DEFAULT
from treadle.diagram.policy import Join

if TYPE_CHECKING:
    from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram, ExecutableNode

DETAIL_CHARS_MAX = 40
_TELLING = ("call", "when", "url", "sql", "path", "file", "command", "text", "template", "prompt", "question",
            "signal", "code")
"""Properties that say most of what a node does, the best first."""


class Shape(msgspec.Struct, frozen=True):
    """A node. `detail` is a few words on what it does, `marks` how it is performed; `child` is the diagram
    that it runs, `loop` the index of the innermost loop around it or -1."""

    id: str
    type: str
    detail: str = ""
    marks: tuple[str, ...] = ()
    child: Picture | None = None
    loop: int = -1


class Edge(msgspec.Struct, frozen=True):
    """An arrow between indices of shapes. `label` is the port it leaves by, unless that is the usual one;
    `back`: it closes a loop."""

    source: int
    target: int
    label: str = ""
    back: bool = False


class Picture(msgspec.Struct, frozen=True):
    """A diagram. `order` has the indices of all shapes, each after those that it has arrows from (back ones
    aside)."""

    name: str
    shapes: tuple[Shape, ...]
    edges: tuple[Edge, ...]
    loops: tuple[str, ...]  # their names
    order: tuple[int, ...]


def picture_of(diagram: ExecutableDiagram, depth: int) -> Picture:
    """What there is to draw; nested diagrams `depth` levels down."""
    loops = tuple(f"loop at {diagram.nodes[one.head].id}, at most {one.max_iterations} times"
                  for one in diagram.loops)
    return Picture(diagram.name,
                   tuple(_shape(node, diagram.loop_of[node.index], depth) for node in diagram.nodes),
                   tuple(_edge(arrow) for arrow in diagram.arrows), loops, diagram.order)


def _shape(node: ExecutableNode, loop: int, depth: int) -> Shape:
    child = None
    if node.child is not None and depth > 0:
        child = picture_of(node.child, depth - 1)
    return Shape(str(node.id), node.type, _detail(node), tuple(_marks(node)), child, loop)


def _detail(node: ExecutableNode) -> str:
    who = "" if node.person is None or node.person.name == node.id else f"{node.person.name}: "
    spec = getattr(node.spec, "llm", None) or node.spec
    for name in _TELLING:
        told = getattr(spec, name, None)
        if isinstance(told, str) and told:
            line = who + " ".join(told.split())
            return line if len(line) <= DETAIL_CHARS_MAX else line[:DETAIL_CHARS_MAX - 1] + "…"
    return who.removesuffix(": ")


def _marks(node: ExecutableNode) -> list[str]:
    policy = node.policy
    return [*(["for each"] if policy.for_each is not None else []),
            *([f"retries: {policy.retries}"] if policy.retries else []),
            *(["the first value"] if policy.join is Join.ANY else [])]


def _edge(arrow: ExecutableArrow) -> Edge:
    port = "" if arrow.port == DEFAULT else arrow.port
    return Edge(arrow.source, arrow.target, port, arrow.back_of >= 0)
