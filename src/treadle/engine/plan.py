"""What a resume does with what is recorded, when the diagram is no longer the one it was recorded with.

A recorded result counts as long as the lineage of its node is the same (see `treadle.diagram.fingerprint`).
The kernel decides that again, node by node, as it replays; a plan says it beforehand, and why.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram, ExecutableNode
from treadle.diagram.fingerprint import lineages
from treadle.diagram.loops import find_loops
from treadle.diagram.person import Defined, Person
from treadle.diagram.policy import OnItemError
from treadle.engine.replay import node_at
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

_ITEM = re.compile(r"\[\d+\]")
_CAUSES_MAX = 3
"""Nodes that are named as the cause of a change further down."""
_NAMED_MAX = 20
"""Nodes that are named in one line."""
_CHARS_MAX = 40
_UNDONE = (NodeStatus.FAILED, NodeStatus.CANCELLED, NodeStatus.RUNNING)


class Change(msgspec.Struct, frozen=True):
    """A node whose recorded results don't count any more: its path, why, and how many results those are (the
    items of a map and the turns of a loop count singly). `own`: the node itself has changed; else it only
    follows one that has, or that is performed again."""

    path: str
    why: str
    results: int
    own: bool = True


class Plan(msgspec.Struct, frozen=True):
    """What a resume keeps and what it does again, by the paths of nodes; items of a map are not told
    apart."""

    kept: tuple[str, ...] = ()
    changed: tuple[Change, ...] = ()
    new: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    again: tuple[str, ...] = ()
    """Not changed, but failed, cancelled or interrupted."""
    kept_results: int = 0

    @property
    def changes(self) -> bool:
        """Whether the diagram differs in anything that counts."""
        return bool(self.changed or self.new or self.removed)

    def __str__(self) -> str:
        """What has changed, in one line, the longest cut short."""
        parts = [f"{one.path} ({one.why})" for one in sorted(self.changed, key=lambda one: not one.own)]
        parts += [f"{path} (new)" for path in self.new] + [f"{path} (removed)" for path in self.removed]
        more = [f"and {len(parts) - _NAMED_MAX:,} more"] if len(parts) > _NAMED_MAX else []
        return ", ".join(parts[:_NAMED_MAX] + more) or "nothing has changed"


class _Place(msgspec.Struct, frozen=True, gc=False):
    """A node by its path without items, and what leads into it."""

    path: str
    node: ExecutableNode
    into: tuple[ExecutableArrow, ...]


def static(path: str) -> str:
    """A path without the numbers of items: `parse[17]` is an item of `parse`."""
    return _ITEM.sub("", path)


def newest(cells: Iterable[NodeState]) -> dict[tuple[str, str], NodeState]:
    """Of each node and iteration the last attempt, by path and iteration: what counts."""
    found: dict[tuple[str, str], NodeState] = {}
    for cell in cells:
        key = (cell.node_id, cell.iteration)
        known = found.get(key)
        if known is None or cell.attempt > known.attempt:
            found[key] = cell
    return found


def handled(diagram: ExecutableDiagram, cell: NodeState) -> bool:
    """Whether a failure went down an `error` arrow, or stands in its map's results."""
    if cell.status is not NodeStatus.FAILED:
        return False
    path = static(cell.node_id)
    node = node_at(diagram, path)
    if cell.node_id.endswith("]"):
        return node is not None and node.policy.on_item_error is OnItemError.COLLECT
    around, _, name = path.rpartition("/")
    owner = node_at(diagram, around) if around else None
    inside = diagram if owner is None else owner.child
    return inside is not None and bool(inside.catches[inside.index[name]])


def plan_of(cells: Iterable[NodeState], diagram: ExecutableDiagram,
            before: ExecutableDiagram | None = None) -> Plan:
    """The plan for recorded cells and the diagram that goes on with them.

    `before` is the diagram that they were recorded with, compiled anew, if it can be: without it a change has
    no reason, and what is new isn't told from what had not been reached.
    """
    recorded: dict[str, list[NodeState]] = {}
    for cell in newest(cells).values():
        if cell.status is not NodeStatus.SKIPPED:  # that is no result: it follows from the others
            recorded.setdefault(static(cell.node_id), []).append(cell)
    places = {place.path: place for place in _places(diagram)}
    were = {} if before is None else places if before is diagram else {
        place.path: place for place in _places(before)}
    stale: dict[str, int] = {}
    kept, again, results = [], [], 0
    for path, place in places.items():
        mine = recorded.get(path, [])
        gone = [cell for cell in mine if cell.lineage != place.node.lineage]
        if gone:
            stale[path] = _results(gone)
            continue
        done = [cell for cell in mine if cell.status is NodeStatus.COMPLETED]
        if done:
            kept.append(path)
            results += _results(done)
        if any(cell.status in _UNDONE and not handled(diagram, cell) for cell in mine):
            again.append(path)
    began = {path: max(cell.started_at or 0.0 for cell in mine) for path, mine in recorded.items()}
    recoded = () if before is None or not stale else _recoded(before, recorded, began)
    reasons = _Reasons(places, were, set(stale), again, set(recoded), began)
    reasons.find(diagram, "")
    return Plan(
        tuple(kept), tuple(Change(path, *reasons.why(path, count)) for path, count in stale.items()),
        tuple(_outermost(path for path in places if were and path not in were and path not in recorded)),
        tuple(_outermost(path for path in recorded if path not in places and (not were or path in were))),
        tuple(again), results)


def _results(cells: Collection[NodeState]) -> int:
    """How many results these are. A map is its items: its own cell, which holds them all, is none beside
    them."""
    return sum(cell.node_id.endswith("]") for cell in cells) or len(cells)


def _places(diagram: ExecutableDiagram, prefix: str = "") -> Iterator[_Place]:
    for i, node in enumerate(diagram.nodes):
        path = prefix + node.id
        yield _Place(path, node, tuple(diagram.arrows[a] for a in diagram.into[i]))
        if node.child is not None:
            yield from _places(node.child, path + "/")


def _recoded(before: ExecutableDiagram, recorded: Mapping[str, Sequence[NodeState]],
             began: Mapping[str, float], prefix: str = "", around: str = "") -> Iterator[str]:
    """The nodes whose code, or a file that they name, is no longer what it was: with the lineages that their
    ancestors had, the recorded diagram gives them another lineage than they have. (The nodes of a loop have
    one lineage, so there nobody can tell; nor where an ancestor was performed anew in the meantime.)"""
    had = {node.id: cells[0].lineage for node in before.nodes
           if (cells := recorded.get(prefix + node.id)) and cells[0].lineage is not None}
    names = [node.id for node in before.nodes]
    structure = find_loops(names, [(arrow.source, arrow.target) for arrow in before.arrows],
                           before.spec.loops)
    entries, now = lineages(before.spec, {node.id: node.fingerprint for node in before.nodes}, structure,
                            around=around, recorded=had)
    for i, node in enumerate(before.nodes):
        if before.loop_of[i] >= 0:
            continue
        if node.child is not None:
            yield from _recoded(node.child, recorded, began, f"{prefix}{node.id}/", entries[node.id])
        elif node.id in had and had[node.id] != now[node.id] and not _since(before, i, prefix, began):
            yield prefix + node.id


def _since(diagram: ExecutableDiagram, i: int, prefix: str, began: Mapping[str, float]) -> list[str]:
    """The nodes right before a node that were performed after it, as a resume does that is interrupted."""
    sources = (prefix + diagram.nodes[diagram.arrows[a].source].id for a in diagram.into[i])
    at = began.get(prefix + diagram.nodes[i].id, 0.0)
    return [path for path in sources if began.get(path, 0.0) > at]


def _outermost(paths: Iterable[str]) -> Iterator[str]:
    found: set[str] = set()
    for path in paths:
        if not any(path[:at] in found for at in (m.start() for m in re.finditer("/", path))):
            found.add(path)
            yield path


class _Reasons:
    """Why recorded results don't count any more: by a node's own change, or by one that it follows."""

    def __init__(self, places: dict[str, _Place], were: dict[str, _Place], stale: set[str],
                 again: list[str], recoded: set[str], began: Mapping[str, float]) -> None:
        self._places, self._were, self._stale = places, were, stale
        self._recoded, self._began = recoded, began
        self._own: dict[str, str] = {}
        self._causes: dict[str, tuple[str, ...]] = {path: (path,) for path in again}

    def why(self, path: str, results: int) -> tuple[str, int, bool]:
        """What a `Change` says beside the path."""
        own = self._own.get(path)
        return own or "it follows " + ", ".join(self._causes[path]), results, own is not None

    def find(self, diagram: ExecutableDiagram, prefix: str) -> None:
        """All of a diagram, in topological order: what a node follows is known before it."""
        for i in diagram.order:
            self._own_change(prefix + diagram.nodes[i].id)
        for i in diagram.order:
            path = prefix + diagram.nodes[i].id
            if path not in self._stale:
                continue
            child = diagram.nodes[i].child
            if path in self._own:
                self._causes[path] = (path,)
            else:
                self._follow(diagram, i, prefix)
            if child is not None:
                self.find(child, path + "/")

    def _follow(self, diagram: ExecutableDiagram, i: int, prefix: str) -> None:
        node = diagram.nodes[i]
        path = prefix + node.id
        causes: dict[str, None] = {}
        for a in diagram.into[i]:
            source = diagram.nodes[diagram.arrows[a].source].id
            causes.update(dict.fromkeys(self._causes.get(prefix + source, ())))
        loop = diagram.loop_of[i]
        while loop >= 0:
            fellows = (prefix + diagram.nodes[m].id for m in diagram.loops[loop].members)
            causes.update((one, None) for one in fellows if one in self._own)
            loop = diagram.loops[loop].parent
        if not causes and prefix and node.child is None:
            causes.update(dict.fromkeys(self._causes.get(prefix[:-1], ())))
        if diagram.loop_of[i] < 0:
            causes = causes or dict.fromkeys(_since(diagram, i, prefix, self._began))
        self._causes[path] = tuple(causes)[:_CAUSES_MAX] or (path,)
        if not causes:
            self._own[path] = (self._hidden(node, path) if diagram.loop_of[i] < 0
                               else "the code, or a file, of a node in its loop")

    def _hidden(self, node: ExecutableNode, path: str) -> str:
        """What has changed where the diagram says the same of a node."""
        if node.child is None:
            return _beside(node)
        inside = []
        for one in node.child.nodes:
            self._own_change(f"{path}/{one.id}")
            if f"{path}/{one.id}" in self._own:
                inside.append(one.id)
        inside = inside or [one.id for one in node.child.nodes if f"{path}/{one.id}" in self._stale]
        return "inside it: " + ", ".join(inside[:_CAUSES_MAX]) if inside else "what is inside it"

    def _own_change(self, path: str) -> None:
        place, was = self._places[path], self._were.get(path)
        if path not in self._stale or was is None:
            return
        parts = list(_differences(was.node, place.node))
        if was.into is not place.into and _drawn(was.into) != _drawn(place.into):
            parts.append("its arrows")
        if not parts and path in self._recoded:
            parts.append(_beside(place.node))
        if parts:
            self._own[path] = ", ".join(parts)


def _beside(node: ExecutableNode) -> str:
    """What a node depends on beside what the diagram says of it."""
    called = getattr(node.spec, "call", None)
    return f"the code of {called}" if called else "the code or a file that it names"


_fields = functools.cache(msgspec.structs.fields)


def _differences(was: ExecutableNode, now: ExecutableNode) -> Iterator[str]:
    if was.type != now.type:
        yield f"its type: {was.type} → {now.type}"
        return
    if was.person is not now.person and was.person is not None and now.person is not None:
        yield from _of_person(was.person, now.person)
    if was.spec is now.spec and was.policy is now.policy:
        return  # most nodes of a large diagram whose file is the same
    for field in _fields(type(now.spec)) if isinstance(now.spec, msgspec.Struct) else ():
        old, new = getattr(was.spec, field.name, None), getattr(now.spec, field.name)
        if old != new and not (now.child is not None and isinstance(new, dict)):  # its nodes say it
            yield _difference(field.encode_name, old, new)
    for name in ("join", "for_each", "on_item_error"):
        old, new = getattr(was.policy, name), getattr(now.policy, name)
        if old != new:
            yield _difference(name, old, new)


def _of_person(was: Defined, now: Defined) -> Iterator[str]:
    """What has changed of the person whom a node asks, if it still is the one of that name."""
    for name in Person.__struct_fields__ if was.name == now.name else ():
        old, new = getattr(was, name), getattr(now, name)
        if old != new and name != "api_key":
            yield _difference(f"person {now.name}: {name}", old, new) if name != "settings" else (
                f"its person {now.name}: settings")


def _difference(name: str, old: object, new: object) -> str:
    said = f"{_short(old)} → {_short(new)}"
    return f"its {name}: {said}" if len(said) <= 2 * _CHARS_MAX and "\n" not in said else f"its {name}"


def _short(value: object) -> str:
    return "none" if value is None else str(value)


def _drawn(arrows: Iterable[ExecutableArrow]) -> list[tuple[str, str]]:
    return sorted((arrow.text, str((arrow.drawn and arrow.drawn.transform, arrow.content_type)))
                  for arrow in arrows)
