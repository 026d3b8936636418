"""Which nodes may run, from scratch: the same rule as the kernel's counters, for whoever has only sets.

The kernel never calls this; a property test holds the two together. Topological order: Kahn, "Topological
sorting of large networks", 1962. Cycles are found at compile time (`treadle.diagram.loops`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from treadle.diagram.diagram import ExecutableDiagram
from treadle.diagram.node import DEFAULT, ERROR
from treadle.diagram.policy import Join
from treadle.errors import NoSuchNode, did_you_mean
from treadle.ids import NodeID
from treadle.kernel.control import Mark

_VALUE = "value"
_Carry = str | Mark | None


class DynamicOrderCalculator:
    """The order of one diagram, asked with sets of node ids. It keeps no state between calls."""

    def __init__(self, diagram: ExecutableDiagram) -> None:
        self.diagram = diagram

    def get_ready_nodes(self, completed: Collection[str], failed: Collection[str] = (), *,
                        ports: Mapping[str, str] = {}, skipped: Collection[str] = (),
                        running: Collection[str] = ()) -> list[NodeID]:
        """The nodes that can start now, higher priority first, else in the diagram's order.

        `ports` are the ports that completed nodes chose (`default` where none is given). Nodes in no set have
        not started; those that would be skipped by dead or failed arrows are taken as skipped. A loop is
        taken in the turn that the sets describe, its back arrows ignored unless they carry a value into the
        next. NoSuchNode for an id that the diagram lacks.
        """
        known = self.diagram.index
        for node_id in (*completed, *failed, *skipped, *running):
            if node_id not in known:
                hint = did_you_mean(node_id, known)
                raise NoSuchNode(f"diagram {self.diagram.name!r} has no node {node_id!r}"
                                 + (f": {hint}" if hint else ""))
        look = _Look(self.diagram, completed, failed, ports, skipped, running)
        ready = look.ready()
        nodes = self.diagram.nodes
        return [nodes[i].id for i in sorted(ready, key=lambda i: (-nodes[i].policy.priority, i))]

    def calculate_dependencies(self, node_id: str) -> set[NodeID]:
        """The nodes with an arrow straight into this one, back arrows left out."""
        diagram = self.diagram
        i = diagram.get_node(node_id).index
        arrows = (diagram.arrows[a] for a in diagram.into[i])
        return {diagram.nodes[arrow.source].id for arrow in arrows if arrow.back_of < 0}

    def ancestors(self, node_id: str) -> set[NodeID]:
        """Every node from which an arrow leads here, directly or not, back arrows left out."""
        found: set[NodeID] = set()
        todo = [NodeID(node_id)]
        while todo:
            new = self.calculate_dependencies(todo.pop()) - found
            found |= new
            todo.extend(new)
        return found

    def topological_order(self) -> list[NodeID]:
        """All nodes, each after those it depends on; back arrows don't count."""
        return [self.diagram.nodes[i].id for i in self.diagram.order]

    def cycles(self) -> list[list[NodeID]]:
        """The loops, outermost first, each as its nodes with the head in front."""
        nodes = self.diagram.nodes
        return [[nodes[loop.head].id] + [nodes[i].id for i in loop.members if i != loop.head]
                for loop in self.diagram.loops]

    def priorities(self) -> dict[NodeID, int]:
        """The priority of every node."""
        return {node.id: node.policy.priority for node in self.diagram.nodes}


class _Look:
    """One question: the state of every arrow, found in topological order."""

    def __init__(self, diagram: ExecutableDiagram, completed: Collection[str], failed: Collection[str],
                 ports: Mapping[str, str], skipped: Collection[str], running: Collection[str]) -> None:
        self.diagram = diagram
        index = diagram.index
        self.completed = {index[n] for n in completed}
        self.failed = {index[n] for n in failed}
        self.skipped = {index[n] for n in skipped}
        self.running = {index[n] for n in running}
        self.ports = {index[n]: port for n, port in ports.items() if n in index}
        self.flawed: set[int] = set()

    def ready(self) -> set[int]:
        ready: set[int] = set()
        # Skips spread along arrows and, through the ends of loops, against the order: repeat until they rest.
        while True:
            before = len(self.skipped) + len(self.flawed)
            ready.clear()
            for i in self.diagram.order:
                self._decide(i, ready)
            if len(self.skipped) + len(self.flawed) == before:
                return ready

    def _decide(self, i: int, ready: set[int]) -> None:
        if i in self.completed or i in self.failed or i in self.running:
            return
        carries = [self._carry(a) for a in self.diagram.into[i] if not self._ignored(a)]
        any_join = self.diagram.nodes[i].policy.join is Join.ANY
        if i in self.skipped:
            if not any_join and Mark.FAILED in carries:
                self.flawed.add(i)
            return
        if any_join and _VALUE in carries:
            ready.add(i)
        elif None in carries:
            return
        elif not any_join and Mark.FAILED in carries:
            self.skipped.add(i)
            self.flawed.add(i)
        elif _VALUE in carries or not carries:
            ready.add(i)
        else:
            self.skipped.add(i)

    def _ignored(self, a: int) -> bool:
        return self.diagram.arrows[a].back_of >= 0

    def _carry(self, a: int) -> _Carry:
        arrow = self.diagram.arrows[a]
        if arrow.exits >= 0 and not self._left(arrow.exits):
            return None
        return self._outcome(a)

    def _outcome(self, a: int) -> _Carry:
        arrow = self.diagram.arrows[a]
        i = arrow.source
        if i in self.completed:
            return _VALUE if arrow.port == self.ports.get(i, DEFAULT) else Mark.DEAD
        if i in self.failed:
            if not self.diagram.catches[i]:
                return Mark.FAILED
            return _VALUE if arrow.port == ERROR else Mark.DEAD
        if i in self.skipped:
            return Mark.FAILED if i in self.flawed else Mark.DEAD
        return None

    def _left(self, loop: int) -> bool:
        """Whether a loop has ended: all of its nodes have, and no back arrow carries a value."""
        members = self.diagram.loops[loop].members
        if not all(i in self.completed or i in self.failed or i in self.skipped for i in members):
            return False
        return all(self._outcome(a) != _VALUE for a in self._backs(loop))

    def _backs(self, loop: int) -> Iterable[int]:
        return self.diagram.loops[loop].back
