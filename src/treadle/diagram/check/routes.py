"""Which ways values can take through a diagram: loops that never end, branches that meet, doubled inputs.

A node's *branches* are the choices that must have been made for it to run at all: {(condition, port)}. Two
arrows exclude each other when they need different ports of one node. A node with several arrows runs when
any of them is live, so its branches are those that all of its arrows share.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.loops import FoundLoop, Structure, find_loops
from treadle.diagram.node import DEFAULT, ERROR, stands_in
from treadle.diagram.policy import LOOP_ITERATIONS_MAX, Join, OnLimit
from treadle.diagram.types import Ports
from treadle.errors import Fault
from treadle.ids import NodeID

BRANCHES_MAX = 64
"""Choices that are remembered of one node; with more than that a warning may be missed or needless."""
PAIRS_MAX = 32
"""Arrows into one node that are compared with each other for warnings."""

Branches = frozenset[tuple[int, str]]


def route_faults(spec: DiagramSpec, ports: Mapping[NodeID, Ports]) -> tuple[Structure, list[Fault]]:
    """The loops of a diagram whose arrows all have ends, and what is wrong with its ways."""
    routes = _Routes(spec, ports)
    return routes.structure, routes.faults


class _Routes:
    def __init__(self, spec: DiagramSpec, ports: Mapping[NodeID, Ports]) -> None:
        self.spec, self.ports = spec, ports
        index = {node.id: i for i, node in enumerate(spec.nodes)}
        self.pairs = [(index[arrow.source], index[arrow.target]) for arrow in spec.arrows]
        loops = [loop for loop in spec.loops if loop.entry in index]
        self.structure = find_loops([node.id for node in spec.nodes], self.pairs, loops)
        self.faults = [self.placed(fault, index) for fault in self.structure.faults]
        self.out: list[list[int]] = [[] for _ in spec.nodes]
        self.into: list[list[int]] = [[] for _ in spec.nodes]
        for arrow, (source, target) in enumerate(self.pairs):
            self.out[source].append(arrow)
            self.into[target].append(arrow)
        self.chooses = [
            (found := ports.get(node.id)) is None or found.chooses for node in spec.nodes
        ]  # unknown: the benefit of doubt
        self.catches = [
            any(spec.arrows[arrow].port == ERROR for arrow in self.out[i]) for i in range(len(spec.nodes))
        ]
        for loop in self.structure.loops:
            self.ends(loop)
        if not self.structure.faults:
            self.meetings()

    def placed(self, fault: Fault, index: Mapping[NodeID, int]) -> Fault:
        if fault.where is not None or fault.node not in index:
            return fault
        where = self.spec.nodes[index[NodeID(fault.node or "")]].where
        return Fault(fault.message, fault.node, where, fault.hint, fault.warning)

    def ends(self, loop: FoundLoop) -> None:
        """A fault if nothing on the way round can choose to leave: the loop would only end at its limit,
        failing."""
        if loop.declared is not None and loop.declared.on_limit is OnLimit.EXIT:
            return  # so many turns and no more is what it is for
        members, back = set(loop.members), set(loop.back)
        certain, waiting = (
            {loop.head},
            [loop.head],
        )  # nodes that run in every iteration unless something fails
        while waiting:
            node = waiting.pop()
            if self.chooses[node] or self.catches[node]:
                continue
            for arrow in self.out[node]:
                if arrow in back:
                    names = " → ".join(repr(self.spec.nodes[i].id) for i in sorted(members)[:8])
                    limit = loop.declared.max_iterations if loop.declared else LOOP_ITERATIONS_MAX
                    drawn = self.spec.arrows[arrow]
                    head = self.spec.nodes[loop.head].id
                    self.faults.append(
                        Fault(
                            f"the loop of {names} can't end: nothing on its way round can choose "
                            f"another way, so it "
                            f"would fail after {limit} iterations",
                            node=head,
                            where=drawn.where,
                            hint=f"put a condition before '{drawn}', or say on_limit: exit for a "
                            f"fixed number of turns",
                        )
                    )
                    return
                target = self.pairs[arrow][1]
                if target in members and target not in certain:
                    certain.add(target)
                    waiting.append(target)

    def meetings(self) -> None:
        """Warn where values meet in a way that is seldom meant."""
        reached: dict[int, Branches] = {}
        for node in self.structure.order:
            before = [a for a in self.into[node] if self.structure.back_of[a] < 0]
            if len(before) < 2:
                reached[node] = self.taken(before[0], reached) if before else frozenset()
                continue
            needs = {arrow: self.taken(arrow, reached) for arrow in before}
            reached[node] = frozenset.intersection(*needs.values())
            self.doubled(before[:PAIRS_MAX], needs)
            if self.spec.nodes[node].policy.join is Join.ALL:
                self.beside(before[:PAIRS_MAX], needs)
        for arrow, drawn in enumerate(self.spec.arrows):
            once = drawn.first or stands_in(drawn.input, drawn.first)
            if once and not self.structure.enters[arrow]:
                self.faults.append(Fault(f"arrow '{drawn}' enters no loop, so 'first' means nothing",
                                         node=drawn.target, where=drawn.where, warning=True))

    def taken(self, arrow: int, reached: Mapping[int, Branches]) -> Branches:
        source = self.pairs[arrow][0]
        found = reached.get(source, frozenset())
        if (self.chooses[source] or self.catches[source]) and len(found) < BRANCHES_MAX:
            return found | {(source, self.spec.arrows[arrow].port)}
        return found

    def doubled(self, arrows: list[int], needs: Mapping[int, Branches]) -> None:
        for one, other in combinations(arrows, 2):
            first, second = self.spec.arrows[one], self.spec.arrows[other]
            if first.input == second.input and not _exclude(needs[one], needs[other]) \
                    and (first.source, first.port) != (second.source, second.port):
                what = "without a label" if first.input == DEFAULT else f"to {first.input!r}"
                self.faults.append(Fault(
                    f"two arrows {what}: '{first}' and '{second}'; their values become a list in this order",
                    node=first.target, where=second.where, warning=True,
                    hint=f"give one a label: {second.source} -> {second.target}.name"))
                return

    def beside(self, arrows: list[int], needs: Mapping[int, Branches]) -> None:
        for one in arrows:
            source = self.pairs[one][0]
            known = self.ports.get(self.spec.nodes[source].id)
            drawn = self.spec.arrows[one]
            if known is None or not known.chooses or drawn.port == ERROR:
                continue
            for other in arrows:
                if all(node != source for node, _ in needs[other]) and not _exclude(needs[one], needs[other]):
                    live = self.spec.arrows[other]
                    self.faults.append(Fault(
                        f"it runs even when '{drawn}' is dead, because '{live}' is live either way",
                        node=drawn.target, where=drawn.where, warning=True,
                        hint="lead the other arrow through the condition too, if it should not"))
                    return


def _exclude(one: Branches, other: Branches) -> bool:
    chosen = dict(one)
    return any(node in chosen and chosen[node] != port for node, port in other)
