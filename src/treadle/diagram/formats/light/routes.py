"""Connections as arrows: where they lead, what they convert, and the loops that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import msgspec

from treadle.diagram.formats.light.labels import INTO, OUT, End
from treadle.diagram.formats.light.templates import spelled
from treadle.diagram.formats.tree import Value
from treadle.diagram.formats.values import convert_value
from treadle.diagram.loops import Structure, find_loops
from treadle.diagram.node import DEFAULT, FIRST, Arrow, Loop, Node
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnLimit
from treadle.errors import did_you_mean
from treadle.ids import NodeID

if TYPE_CHECKING:
    from treadle.diagram.formats.light.reader import Reader

CONNECTION_KEYS = ("from", "to", "label", "content_type", "type", "position", "flipped", "metadata")
CONTENT_TYPES = ("raw_text", "object", "conversation_state", "variable", "generic", "empty", "binary")
_T = TypeVar("_T")
LOOP_KEYS = ("entry", "max_iterations", "on_limit")


class Routes:
    """The arrows of one file. `finished` and `loops` are for when the nodes are read."""

    def __init__(self, reader: Reader, connections: Sequence[Value]) -> None:
        self.reader = reader
        self.arrows: list[Arrow] = []
        self.into: dict[NodeID, list[int]] = {}  # by node, its arrows' places
        for one in connections:
            arrow = self.arrow(one)
            if arrow is not None:
                self.into.setdefault(arrow.target, []).append(len(self.arrows))
                self.arrows.append(arrow)

    def arrow(self, entry: Value) -> Arrow | None:
        reader = self.reader
        if not reader.is_map(entry, "a connection"):
            return None
        parts = reader.known(entry, "a connection", CONNECTION_KEYS)
        ends = []
        for key in ("from", "to"):
            text = reader.text(parts.get(key), key)
            if not text.strip():
                if key not in parts or isinstance(parts[key].data, str | None):
                    reader.fault(f"the connection has no {key!r}", entry.where,
                                 "write: {from: Label, to: Label}")
                continue
            end = reader.labels.find(text)
            if isinstance(end, tuple):
                reader.fault(f"{key}: {end[0]}", parts[key].where, end[1])
            else:
                ends.append(end)
        if len(ends) < 2:
            return None
        source, target = ends
        label = reader.text(parts.get("label"), "label").strip()
        port = self.handle(source, OUT, parts["from"])
        into = self.handle(target, INTO, parts["to"])
        if port is None or into is None:
            return None
        label = "" if label == DEFAULT else label
        first = into == FIRST if label and FIRST in (into, label) else None
        return Arrow(source=source.node, target=target.node, port=port, input=label or into, first=first,
                     content_type=self.content_type(parts), where=entry.where)

    def handle(self, end: End, known: dict[str, str], value: Value) -> str | None:
        if not end.handle:
            return DEFAULT
        found = known.get(end.handle.lower())
        if found is None:
            self.reader.fault(f"{value.data!r}: there is no handle {end.handle!r} where an arrow "
                              f"{'leaves' if known is OUT else 'enters'}", value.where,
                              did_you_mean(end.handle, known) or f"there is: {', '.join(known)}"
                              + ("; a name in the target is the connection's `label`" * (known is INTO)))
        return found

    def content_type(self, parts: dict[str, Value]) -> str | None:
        found: list[str] = []
        for key in ("content_type", "type"):
            if key not in parts or parts[key].data is None:
                continue
            text = self.reader.text(parts[key], key).strip().lower()
            if text not in CONTENT_TYPES:
                self.reader.fault(
                    f"{key}: there is no content type {parts[key].plain()!r}", parts[key].where,
                    did_you_mean(text, CONTENT_TYPES) or f"there is: {', '.join(CONTENT_TYPES)}")
            else:
                found.append(text)
        if len(set(found)) > 1:
            self.reader.fault("content_type and type are two names of one thing, and differ",
                              parts["type"].where, "leave one out")
        return found[0] if found else None

    def finished(self) -> tuple[Arrow, ...]:
        """The arrows, with the content types that conditions hand on; faults for ports that aren't there."""
        kinds = self.reader.kinds
        names: dict[tuple[NodeID, str], str] = {}
        for k, arrow in enumerate(self.arrows):
            other = names.setdefault((arrow.target, spelled(arrow.input)), arrow.input)
            if other != arrow.input:
                self.reader.fault(f"the labels {other!r} and {arrow.input!r} are one name in texts",
                                  arrow.where, "rename one", self.reader.labels.named(arrow.target))
            chooses = kinds[arrow.source] == "condition"
            source, target = map(self.reader.labels.named, (arrow.source, arrow.target))
            label = f"connection '{source} -> {target}'"
            if chooses and arrow.port == DEFAULT:
                self.reader.fault(f"{label}: it leaves a condition, and doesn't say which way", arrow.where,
                                  f"write {source}[condtrue] or {source}[condfalse]")
                self.arrows[k] = msgspec.structs.replace(arrow, port="true")  # it is said once
            elif not chooses and arrow.port in ("true", "false"):
                self.reader.fault(f"{label}: only a condition has the handle cond{arrow.port}", arrow.where)
                self.arrows[k] = msgspec.structs.replace(arrow, port=DEFAULT)
        bare = {k for k, arrow in enumerate(self.arrows)
                if kinds[arrow.source] == "condition" and arrow.content_type is None}
        while fresh := {k: kind for k in bare if (kind := self.shared(self.arrows[k].source)) is not None}:
            for k, kind in fresh.items():  # conditions may follow each other
                self.arrows[k] = msgspec.structs.replace(self.arrows[k], content_type=kind)
            bare -= fresh.keys()
        return tuple(self.arrows)

    def shared(self, node: NodeID) -> str | None:
        """The content type that all arrows into a node have."""
        found = {self.arrows[k].content_type for k in self.into.get(node, ())}
        return found.pop() if len(found) == 1 else None

    # loops

    def loops(self, nodes: Sequence[Node], arrows: Sequence[Arrow], said: Value | None) -> tuple[Loop, ...]:
        """What our diagram says about its loops: the head of each that has no clear one is the first in the
        file, and a loop in which somebody may be asked more often has as many turns."""
        own = {loop.entry: loop for loop in self.said(said)}
        found = dict(own)
        index = {node.id: k for k, node in enumerate(nodes)}
        pairs = [(index[arrow.source], index[arrow.target]) for arrow in arrows]
        names = [node.id for node in nodes]
        starts = "start" in self.reader.kinds.values()
        while True:
            structure = find_loops(names, pairs, tuple(found.values()))
            heads = [NodeID(fault.node) for fault in structure.faults if fault.node in index]
            fresh = [head for head in heads if head not in found and (
                not starts or self.begun(index[head], structure, pairs))]
            if not fresh:
                break
            found.update((head, Loop(head, where=nodes[index[head]].where)) for head in fresh)
        for loop in structure.loops:
            turns = max(nodes[k].properties.get("asks_max", 0) for k in loop.members) + 1
            head = nodes[loop.head]
            if turns > LOOP_ITERATIONS_MAX + 1 and head.id not in own:
                found[head.id] = Loop(head.id, turns, where=head.where)
        self.exhausted(nodes, structure)
        return tuple(found.values())

    def begun(self, head: int, structure: Structure, pairs: Sequence[tuple[int, int]]) -> bool:
        """Whether something leads to the loop of a node: another loop around it, or an arrow."""
        cycle = self.cycle(head, pairs)
        return structure.loop_of[head] >= 0 or any(
            target in cycle and source not in cycle for source, target in pairs)

    def cycle(self, node: int, pairs: Sequence[tuple[int, int]]) -> set[int]:
        """The nodes that a node reaches and that reach it."""
        ways = []
        for here, there in ((0, 1), (1, 0)):
            out: dict[int, list[int]] = {}
            for pair in pairs:
                out.setdefault(pair[here], []).append(pair[there])
            seen, waiting = {node}, [node]
            while waiting:
                for after in out.get(waiting.pop(), ()):
                    if after not in seen:
                        seen.add(after)
                        waiting.append(after)
            ways.append(seen)
        return ways[0] & ways[1]

    def exhausted(self, nodes: Sequence[Node], structure: Structure) -> None:
        """Faults for conditions that ask whether people's limits are reached, where nobody can be asked."""
        kinds = self.reader.kinds
        for k, node in enumerate(nodes):
            members = (one for loop in structure.around(k) for one in structure.loops[loop].members)
            if node.properties.get("exhausted") and not any(
                    kinds[nodes[one].id] == "person_job" for one in members):
                self.reader.fault("condition_type: detect_max_iterations stands in no loop with a "
                                  "person_job, so nobody's limit can be reached", node.where,
                                  "lead condfalse back to a person_job before it", node.label or node.id)

    def said(self, value: Value | None) -> list[Loop]:
        found: list[Loop] = []
        for one in self.reader.listed(value, "loops"):
            if not self.reader.is_map(one, "a loop"):
                continue
            parts = self.reader.known(one, "a loop", LOOP_KEYS)
            end = self.reader.labels.find(self.reader.text(parts.get("entry"), "entry"))
            if isinstance(end, tuple):
                self.reader.fault(f"loops: {end[0]}", one.where, end[1])
                continue
            limit, on_limit = LOOP_ITERATIONS_MAX, OnLimit.FAIL
            if "max_iterations" in parts:
                limit = self.converted(parts["max_iterations"], int, "max_iterations") or limit
            if "on_limit" in parts:
                on_limit = self.converted(parts["on_limit"], OnLimit, "on_limit") or on_limit
            found.append(Loop(end.node, limit, on_limit, one.where))
        return found

    def converted(self, value: Value, kind: type[_T], what: str) -> _T | None:
        found, wrong = convert_value(value.plain(), kind)
        if wrong is not None:
            self.reader.fault(f"{what}: {wrong.message}", value.where, wrong.hint)
        return found if wrong is None else None

