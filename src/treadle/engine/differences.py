"""What differs between two recorded executions."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.node import Node
from treadle.engine.plan import newest
from treadle.engine.showing import plain
from treadle.ids import is_node_id, parse_iteration
from treadle.state import codec
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.context import of_bodies
from treadle.state.difference import ABSENT, Difference, differences

if TYPE_CHECKING:
    from treadle.store.base import Store

PATHS_MAX = 1000
"""Differences within one output that are named; the others are counted."""
COMPARED_BYTES_MAX = 64 * 1024 * 1024
"""Outputs that are larger are said to differ, and not where."""
RATIO, SECONDS = 2.0, 0.1
"""A time is worth a word if one is so many times the other, and so much longer."""


class Recorded(msgspec.Struct):
    """An execution, and the store that it is in."""

    store: Any  # Store
    cell: ExecutionCell
    cells: list[NodeState]
    context: list[ContextCell] = []

    @classmethod
    def load(cls, store: Store, execution_id: str) -> Recorded:
        """The execution whose id begins so. NoSuchExecution."""
        name = store.summary(execution_id).cell.execution_id
        return cls(store, *store.load(name), store.context(name))

    @property
    def seconds(self) -> float | None:
        """From its start to its end."""
        if self.cell.started_at is None or self.cell.ended_at is None:
            return None
        return self.cell.ended_at - self.cell.started_at


class Values(msgspec.Struct, frozen=True):
    """How two values differ: the first places, and how many there are. `note` stands for values that are too
    large, or that can't be read."""

    places: list[Difference] = []
    count: int = 0
    note: str = ""

    def __bool__(self) -> bool:
        return bool(self.count or self.note)


class NodeDifference(msgspec.Struct, frozen=True):
    """How the last attempts of a node in one iteration differ. A field that is None is the same on both
    sides. `only` is "a" or "b" if the other execution has no such cell."""

    node: str
    iteration: str
    only: str | None = None
    status: tuple[str, str] | None = None
    attempts: tuple[int, int] | None = None
    port: tuple[str, str] | None = None
    error: tuple[str | None, str | None] | None = None
    output: Values = Values()
    seconds: tuple[float, float] | None = None
    """Only where they are worth a word; times never make executions different."""

    @property
    def differs(self) -> bool:
        return bool(self.only or self.status or self.attempts or self.port or self.error or self.output)


class Drawn(msgspec.Struct, frozen=True):
    """How two diagrams differ. `changed`: nodes of both, each with what about them changed."""

    added: list[str] = []
    removed: list[str] = []
    changed: dict[str, str] = {}
    other: list[str] = []  # what isn't about a node

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.other)


class Compared(msgspec.Struct, frozen=True):
    """All that differs between executions `a` and `b`."""

    status: tuple[str, str] | None
    error: tuple[str | None, str | None] | None
    diagram: Drawn
    inputs: Values
    context: Values
    output: Values
    nodes: list[NodeDifference]
    alike: int  # nodes, iterations counted singly, that are the same

    @property
    def differs(self) -> bool:
        """Whether anything but times is different."""
        return bool(self.status or self.error or self.diagram or self.inputs or self.context or self.output
                    or any(one.differs for one in self.nodes))


def compare(a: Recorded, b: Recorded) -> Compared:
    """Compare two executions: diagram, inputs, shared context, nodes, result. Tracebacks and instants don't
    count."""
    mine, theirs = newest(a.cells), newest(b.cells)
    keys = dict.fromkeys([*sorted(mine, key=lambda key: _place(mine[key])),
                          *sorted(theirs, key=lambda key: _place(theirs[key]))])
    found = [_node(a, b, *key, mine.get(key), theirs.get(key)) for key in keys]
    told = [one for one in found if one.differs or one.seconds]
    return Compared(
        _pair(a.cell.status.value, b.cell.status.value), _pair(_error(a.cell.error), _error(b.cell.error)),
        _drawn(a, b), _values(a, b, (a.cell.inputs, None), (b.cell.inputs, None)), _context(a, b),
        _values(a, b, (a.cell.output, a.cell.blob), (b.cell.output, b.cell.blob)), told,
        sum(not one.differs for one in found))


def document(a: Recorded, b: Recorded, found: Compared) -> dict[str, Any]:
    """What differs, as plain data. `places` has the first thousand; one that has no `a` or no `b` is missing
    there."""
    return {
        "same": not found.differs,
        **{name: {"execution_id": one.cell.execution_id, "name": one.cell.name,
                  "status": one.cell.status.value, "seconds": one.seconds}
           for name, one in (("a", a), ("b", b))},
        "status": found.status, "error": found.error, "inputs": _told(found.inputs),
        "context": _told(found.context), "output": _told(found.output),
        "diagram": {"added": found.diagram.added, "removed": found.diagram.removed,
                    "changed": found.diagram.changed, "other": found.diagram.other},
        "nodes": [{"node": one.node, "iteration": one.iteration, "only": one.only, "status": one.status,
                   "attempts": one.attempts, "port": one.port, "error": one.error,
                   "output": _told(one.output), "seconds": one.seconds} for one in found.nodes],
        "alike": found.alike}


def _told(values: Values) -> dict[str, Any] | None:
    if not values:
        return None
    return {"count": values.count, "note": values.note or None, "places": [
        {"path": one.path, **{name: plain(value) for name, value in (("a", one.a), ("b", one.b))
                              if value is not ABSENT}} for one in values.places]}


# Nodes

def _node(a: Recorded, b: Recorded, path: str, iteration: str, mine: NodeState | None,
          theirs: NodeState | None) -> NodeDifference:
    if mine is None or theirs is None:
        return NodeDifference(path, iteration, only="b" if mine is None else "a")
    return NodeDifference(
        path, iteration, None, _pair(mine.status.value, theirs.status.value),
        _pair(mine.attempt, theirs.attempt), _pair(mine.port or "default", theirs.port or "default"),
        _pair(_error(mine.error), _error(theirs.error)),
        _values(a, b, (mine.output, mine.blob), (theirs.output, theirs.blob)),
        _notable(mine.execution_time, theirs.execution_time))


def _place(cell: NodeState) -> tuple[float, list[int], list[str | int]]:
    """In the order in which they began; of several, that of their numbers."""
    at = next((at for at in (cell.scheduled_at, cell.started_at, cell.ended_at) if at is not None), 0.0)
    parts = re.split(r"(\d+)", cell.node_id)
    return at, [*parse_iteration(cell.iteration)], [int(one) if one.isdecimal() else one for one in parts]


def _pair(a: Any, b: Any) -> tuple[Any, Any] | None:
    return None if a == b else (a, b)


def _error(error: ErrorInfo | None) -> str | None:
    return None if error is None else str(error)


def _notable(a: float | None, b: float | None) -> tuple[float, float] | None:
    if a is None or b is None or abs(a - b) < SECONDS or max(a, b) < RATIO * min(a, b):
        return None
    return a, b


def _values(a: Recorded, b: Recorded, mine: tuple[bytes | None, str | None],
            theirs: tuple[bytes | None, str | None]) -> Values:
    """What differs between two recorded values, each its bytes or a blob's digest."""
    if mine == theirs:
        return Values()
    try:
        left, right = _raw(a, *mine), _raw(b, *theirs)
        if left == right:
            return Values()
        if max(len(left or b""), len(right or b"")) > COMPARED_BYTES_MAX:
            return Values(note=f"{len(left or b'')} and {len(right or b'')} bytes that differ")
        places, count = differences(ABSENT if left is None else codec.decode(left),
                                    ABSENT if right is None else codec.decode(right), PATHS_MAX)
        return Values(places, count)
    except (KeyError, ValueError, RecursionError) as error:
        return Values(note=f"they can't be compared: {error}")


def _context(a: Recorded, b: Recorded) -> Values:
    """What differs in what their bodies share at the end: artifacts, variables, data of plugins."""
    left, right = ({one.key: one.value for one in of_bodies(each.context) if one.value is not None}
                   for each in (a, b))
    places: list[Difference] = []
    count = 0
    for key in sorted(left.keys() | right.keys()):
        found = _values(a, b, (left.get(key), None), (right.get(key), None))
        if found.note:
            return Values(note=f"{key}: {found.note}")
        for one in found.places[:PATHS_MAX - len(places)]:
            dot = "." if one.path and not one.path.startswith("[") else ""
            places.append(msgspec.structs.replace(one, path=f"{key}{dot}{one.path}"))
        count += found.count
    return Values(places, count)


def _raw(recorded: Recorded, output: bytes | None, blob: str | None) -> bytes | None:
    raw: bytes | None = output if blob is None else recorded.store.blob(blob)
    return raw


# Diagrams

def _drawn(a: Recorded, b: Recorded) -> Drawn:
    old, new = _spec(a), _spec(b)
    if old is None or new is None:
        same = a.cell.diagram == b.cell.diagram
        return Drawn(other=[] if same else ["a source that is missing, or can't be read any more"])
    were: dict[str, Node] = {node.id: node for node in old.nodes}
    are: dict[str, Node] = {node.id: node for node in new.nodes}
    into_old, into_new = _into(old), _into(new)
    changed: dict[str, str] = {}
    for node_id in were:
        if node_id in are:
            said = list(_changes(were[node_id], are[node_id]))
            if into_old[node_id] != into_new[node_id]:
                said.append("arrows")
            who = are[node_id].properties.get("person")
            if isinstance(who, str) and old.persons.get(who) != new.persons.get(who):
                said.append(f"person {who}")
            if said:
                changed[node_id] = ", ".join(dict.fromkeys(said))
    added = [one for one in are if one not in were]
    fresh = {*changed, *added, *(one for one in were if one not in are)}
    for node_id in _code_changed(a, b, new, fresh):
        changed.setdefault(node_id, "its code, or a file that it names")
    other = [name for name in ("name", "inputs", "loops", "on_error", "deadline")
             if _bare(getattr(old, name)) != _bare(getattr(new, name))]
    return Drawn(added, [one for one in were if one not in are], changed, other)


def _spec(recorded: Recorded) -> DiagramSpec | None:
    from treadle.engine.looking import spec_of
    from treadle.engine.sources import Source

    try:
        return spec_of(msgspec.json.decode(recorded.store.source(recorded.cell.diagram), type=Source))
    except (KeyError, msgspec.DecodeError):
        return None


def _changes(was: Node, now: Node) -> Iterator[str]:
    if was.type != now.type:
        yield f"type: {was.type} → {now.type}"
        return
    for one in differences(was.properties, now.properties)[0]:
        yield one.path.partition(".")[0].partition("[")[0]
    for name in was.policy.__struct_fields__:
        old, new = getattr(was.policy, name), getattr(now.policy, name)
        if old != new:
            yield f"{name}: {old} → {new}" if not isinstance(old, msgspec.Struct) else name


def _into(spec: DiagramSpec) -> Mapping[str, list[str]]:
    """The arrows into each node, as texts."""
    found: dict[str, list[str]] = defaultdict(list)
    for arrow in spec.arrows:
        found[arrow.target].append(f"{arrow} {arrow.transform} {arrow.content_type}")
    for arrows in found.values():
        arrows.sort()
    return found


def _bare(value: Any) -> Any:
    """A part of a diagram without the places in its file."""
    plain = msgspec.to_builtins(value)
    if isinstance(plain, list | tuple):
        return [{key: each for key, each in one.items() if key != "where"} for one in plain]
    return plain


def _code_changed(a: Recorded, b: Recorded, spec: DiagramSpec, fresh: set[str]) -> Iterable[str]:
    """Nodes that are drawn the same and follow nothing that changed, and yet have another lineage: what they
    name has changed. The nodes of a loop have one lineage, so there it may be any of them."""
    mine, theirs = _lineages(a), _lineages(b)
    moved = {one for one in mine if one in theirs and mine[one] != theirs[one]}
    sources: dict[str, set[str]] = defaultdict(set)
    for arrow in spec.arrows:
        sources[arrow.target].add(arrow.source)
    first = sorted(one for one in moved - fresh if not sources[one] & (moved | fresh))
    return first or ([] if fresh else sorted(moved))


def _lineages(recorded: Recorded) -> dict[str, str]:
    """The lineage of each node of the diagram itself that has been reached."""
    return {cell.node_id: cell.lineage for cell in recorded.cells
            if cell.lineage is not None and is_node_id(cell.node_id)}
