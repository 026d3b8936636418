"""A diagram as drawn (`DiagramSpec`), and as it runs (`ExecutableDiagram`): int-indexed arrays, made once."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.node import ERROR, Arrow, Input, Loop, Node
from treadle.diagram.person import Defined, Person
from treadle.diagram.policy import Join, OnError, OnLimit, Policy
from treadle.errors import Fault, NoSuchNode, Where, did_you_mean
from treadle.ids import NodeID


class DiagramSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A diagram as its file or its Python code says it, unchecked. Its paths start from the folder `base`."""

    name: str = "diagram"
    nodes: tuple[Node, ...] = ()
    arrows: tuple[Arrow, ...] = ()
    loops: tuple[Loop, ...] = ()
    inputs: dict[str, Input] = {}
    on_error: OnError = OnError.FAIL
    deadline: float | None = None  # seconds from the start of an execution
    environment_vars: dict[str, str] = {}
    secret_store: str | None = None  # a URL: where `secret://NAME` is looked up
    persons: dict[str, Person] = {}
    person_places: dict[str, Where] = {}  # where each stands in the file, and its keys: `Ann.model`
    open: bool = False  # takes inputs that it does not declare; they are names by themselves in its texts
    page: dict[str, Any] = {}  # what is kept for a page that draws it
    description: str = ""
    base: str = "."
    source: str = ""  # the text it was read from; "" for one built in Python
    where: Where | None = None
    functions: dict[str, Any] = {}  # of a diagram built in Python: the functions its nodes call, by node id


class ExecutableNode(msgspec.Struct, frozen=True):
    """A node that is ready to run. `spec` is its type's struct, `child` the sub-diagram it runs, if any."""

    id: NodeID
    type: str
    index: int
    spec: Any = None
    policy: Policy = Policy()
    child: ExecutableDiagram | None = None
    fingerprint: str = ""  # of its spec and the source of the functions that it names
    lineage: str = ""  # of its fingerprint and its ancestors'
    sees: frozenset[str] = frozenset()  # which names around it its texts mention: inputs, context, index …
    body: str = ""  # with `cache`: the digest of what it performs, wherever it stands
    where: Where | None = None
    function: Any = None  # of a diagram built in Python
    base: str = "."  # the folder that its paths start from
    person: Defined | None = None  # whom it names

    @property
    def is_map(self) -> bool:
        return self.policy.for_each is not None

    @property
    def composite(self) -> bool:
        """Whether it runs nodes of its own instead of a body."""
        return self.child is not None or self.policy.for_each is not None


class ExecutableArrow(msgspec.Struct, frozen=True, gc=False):
    """An arrow between node indices. Loops are named by their index in the diagram; -1 means none."""

    index: int
    source: int
    target: int
    port: str
    input: str
    back_of: int = -1  # the loop that it is a back arrow of
    exits: int = -1  # the outermost loop that it leaves
    enters: tuple[int, ...] = ()  # the loops that it enters, outermost first
    transform: tuple[dict[str, Any], ...] = ()
    content_type: str | None = None
    drawn: Arrow | None = None
    first: bool | None = None  # see `Arrow`

    @property
    def text(self) -> str:
        """The arrow as the diagram's file writes it."""
        return str(self.drawn) if self.drawn is not None else f"{self.source} -> {self.target}"


class ExecutableLoop(msgspec.Struct, frozen=True):
    """A loop: a nested diagram that runs again. `members` includes those of the loops inside it."""

    index: int
    parent: int  # the loop around it, or -1
    head: int
    members: tuple[int, ...]
    own: tuple[int, ...]  # members that are in no loop inside this one
    inner: tuple[int, ...]  # loops directly inside this one
    back: tuple[int, ...]  # its back arrows
    inside: tuple[int, ...]  # arrows between its members, without its own back arrows
    exits: tuple[int, ...]  # arrows that leave it and no loop around it
    max_iterations: int
    on_limit: OnLimit
    where: Where | None = None


class ExecutableDiagram:
    """A checked diagram, compiled to arrays. Immutable; shared by all executions of it.

    `into[i]` and `out[i]` are the indices of the arrows into and out of node `i`; `loop_of[i]` is the
    innermost loop around node `i` or -1; `order` is a topological order of the nodes that ignores back
    arrows. `forward[i]` are the arrows (index, target, port) that deliver as soon as node `i` has ended: all
    but back arrows and those that leave a loop. `catches[i]` says whether node `i` has an `error` arrow;
    `any_join` are the nodes with join `any`. `simple[i]`: node `i` has join `all` and is in no loop;
    `leaf[i]`: it has a body; `ranked`: some node has a priority. `waits[i]`: how many arrows lead into it;
    `sources`: the nodes without any. `around`: of an open diagram, the custom data of its start nodes, by
    name; `exposed`: names of turns, each with the node whose loop it counts.
    """

    __slots__ = (
        "name", "nodes", "arrows", "loops", "index", "into", "out", "loop_of", "order", "inputs", "on_error",
        "deadline", "hash", "spec", "endpoints", "warnings", "forward", "catches", "any_join", "simple",
        "leaf", "ranked", "waits", "sources", "around", "exposed", "__weakref__")

    def __init__(self, *, name: str, nodes: tuple[ExecutableNode, ...], arrows: tuple[ExecutableArrow, ...],
                 loops: tuple[ExecutableLoop, ...], loop_of: tuple[int, ...], order: tuple[int, ...],
                 inputs: dict[str, Input], on_error: OnError, deadline: float | None, hash: str,
                 spec: DiagramSpec, endpoints: tuple[int, ...], warnings: tuple[Fault, ...] = ()) -> None:
        self.name, self.nodes, self.arrows, self.loops = name, nodes, arrows, loops
        self.loop_of, self.order, self.inputs, self.hash = loop_of, order, inputs, hash
        self.on_error, self.deadline, self.spec, self.endpoints = on_error, deadline, spec, endpoints
        self.warnings = warnings
        self.index: dict[str, int] = {node.id: node.index for node in nodes}
        into: list[list[int]] = [[] for _ in nodes]
        out: list[list[int]] = [[] for _ in nodes]
        for arrow in arrows:
            into[arrow.target].append(arrow.index)
            out[arrow.source].append(arrow.index)
        self.into = tuple(map(tuple, into))
        self.out = tuple(map(tuple, out))
        self.waits = tuple(map(len, into))
        self.sources = tuple(i for i, count in enumerate(self.waits) if not count)
        self.forward = tuple(
            tuple((a, arrows[a].target, arrows[a].port) for a in mine
                  if arrows[a].exits < 0 and arrows[a].back_of < 0)
            for mine in out)
        self.any_join = frozenset(node.index for node in nodes if node.policy.join is Join.ANY)
        self.simple = bytearray(loop < 0 and node.policy.join is Join.ALL
                                for node, loop in zip(nodes, loop_of, strict=True))
        self.leaf = bytearray(not node.composite for node in nodes)
        self.ranked = any(node.policy.priority for node in nodes)
        self.catches = tuple(any(arrows[a].port == ERROR for a in mine) for mine in out)
        self.around: dict[str, Any] | None = None if not spec.open else {
            name: value for node in nodes if node.type == "start"
            for name, value in getattr(node.spec, "custom_data", {}).items()}
        self.exposed = tuple((exposed, node.index) for node in nodes
                             if (exposed := getattr(node.spec, "expose_index_as", None)) is not None)

    def get_node(self, node_id: str) -> ExecutableNode:
        """The node with that id; NoSuchNode with the nearest id if there is none."""
        try:
            return self.nodes[self.index[node_id]]
        except KeyError:
            hint = did_you_mean(node_id, self.index)
            raise NoSuchNode(f"diagram {self.name!r} has no node {node_id!r}"
                             + (f": {hint}" if hint else "")) from None

    def __len__(self) -> int:
        return len(self.nodes)

    def __repr__(self) -> str:
        return f"ExecutableDiagram({self.name!r}, {len(self.nodes)} nodes, {len(self.arrows)} arrows)"
