"""Find the loops of a graph: a loop is a nested diagram that runs again.

A loop is a strongly connected component (Tarjan, "Depth-first search and linear graph algorithms", 1972, made
iterative). Its *head* is its node with arrows from outside; arrows into the head from within are *back
arrows*, and whatever still cycles without them is a nested loop, found by the same rule. Of several
candidates the head is the only one whose removal leaves no cycle, else the one that the diagram names
(`loop.entry`); failing that the loop is a fault. A head has no arrow from within left, so it heads one loop
only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import msgspec

from treadle.diagram.node import Loop
from treadle.errors import Fault


class FoundLoop(msgspec.Struct):
    """A loop by indices; see `treadle.diagram.diagram.ExecutableLoop` for the words."""

    index: int
    parent: int
    head: int
    members: tuple[int, ...]
    back: tuple[int, ...]
    declared: Loop | None = None


class Structure(msgspec.Struct):
    """What a graph's cycles amount to. `loop_of` is by node; `back_of`, `exits`, `enters` are by arrow."""

    loops: list[FoundLoop]
    loop_of: list[int]
    back_of: list[int]
    exits: list[int]
    enters: list[tuple[int, ...]]
    order: list[int]  # topological, ignoring back arrows; shorter than the graph if faults left a cycle
    faults: list[Fault]

    def around(self, node: int) -> list[int]:
        """The loops around a node, innermost first."""
        chain = []
        loop = self.loop_of[node]
        while loop >= 0:
            chain.append(loop)
            loop = self.loops[loop].parent
        return chain


def find_loops(names: Sequence[str], arrows: Sequence[tuple[int, int]],
               declared: Sequence[Loop] = ()) -> Structure:
    """Find loops, heads, back arrows and an order. `arrows` are (source, target) indices into `names`."""
    index = {name: place for place, name in enumerate(names)}
    by_head = {index[loop.entry]: loop for loop in declared if loop.entry in index}
    finder = _Finder(names, arrows, by_head)
    if len(finder.order()) < len(names):
        finder.search(range(len(names)), parent=-1)
    return finder.structure(declared)


class _Finder:
    def __init__(self, names: Sequence[str], arrows: Sequence[tuple[int, int]],
                 declared: Mapping[int, Loop]) -> None:
        self.names, self.arrows, self.declared = names, arrows, declared
        self.out: list[list[int]] = [[] for _ in names]
        self.into: list[list[int]] = [[] for _ in names]
        for index, (source, target) in enumerate(arrows):
            self.out[source].append(index)
            self.into[target].append(index)
        self.loops: list[FoundLoop] = []
        self.loop_of = [-1] * len(names)
        self.back_of = [-1] * len(arrows)
        self.faults: list[Fault] = []

    def search(self, nodes: Iterable[int], parent: int) -> None:
        """Find the loops among nodes, ignoring back arrows found so far; then the loops inside each."""
        todo: list[tuple[Iterable[int], int]] = [(nodes, parent)]
        while todo:
            among, around = todo.pop()
            for members in self._components(among):
                head = self._head(members)
                if head is None:
                    continue
                inside = set(members)
                back = tuple(a for a in self.into[head]
                             if self.back_of[a] < 0 and self.arrows[a][0] in inside)
                index = len(self.loops)
                self.loops.append(FoundLoop(
                    index, around, head, tuple(sorted(members)), back, self.declared.get(head)))
                for arrow in back:
                    self.back_of[arrow] = index
                for node in members:
                    self.loop_of[node] = index
                todo.append((members, index))

    def _components(self, nodes: Iterable[int]) -> Iterator[list[int]]:
        """The components that cycle."""
        among = nodes if isinstance(nodes, range) else set(nodes)
        for component in self._tarjan(among):
            if len(component) > 1 or component[0] in self._next(component[0], among):
                yield component

    def _next(self, node: int, among: Collection[int]) -> Iterator[int]:
        return (self.arrows[a][1] for a in self.out[node]
                if self.back_of[a] < 0 and self.arrows[a][1] in among)

    def _tarjan(self, among: Collection[int]) -> Iterator[list[int]]:
        found: dict[int, int] = {}
        low: dict[int, int] = {}
        stack: list[int] = []
        on_stack: set[int] = set()
        for root in among:
            if root in found:
                continue
            work = [(root, self._next(root, among))]
            found[root] = low[root] = len(found)
            stack.append(root)
            on_stack.add(root)
            while work:
                node, following = work[-1]
                for after in following:
                    if after not in found:
                        found[after] = low[after] = len(found)
                        stack.append(after)
                        on_stack.add(after)
                        work.append((after, self._next(after, among)))
                        break
                    if after in on_stack:
                        low[node] = min(low[node], found[after])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == found[node]:
                        component: list[int] = []
                        while not component or component[-1] != node:
                            component.append(stack.pop())
                            on_stack.discard(component[-1])
                        yield component

    def _head(self, members: list[int]) -> int | None:
        inside = set(members)
        entered = [n for n in sorted(members)
                   if any(self.back_of[a] >= 0 or self.arrows[a][0] not in inside for a in self.into[n])]
        if len(entered) == 1:
            return entered[0]
        breaking = [n for n in entered if self._acyclic(inside - {n})]
        if len(breaking) == 1:
            return breaking[0]
        named = [n for n in (entered or sorted(members)) if n in self.declared]
        if len(named) == 1:
            return named[0]
        around = ", ".join(repr(self.names[n]) for n in sorted(members)[:8])
        around += " …" if len(members) > 8 else ""
        if not entered:
            message = f"nothing starts the loop of {around}: no arrow enters it from outside"
        else:
            several = ", ".join(repr(self.names[n]) for n in (breaking or entered)[:8])
            message = f"the loop of {around} has no clear head: {several} could each be it"
        first = self.names[(breaking or entered or sorted(members))[0]]
        self.faults.append(Fault(message, node=first, hint=f"name it: loops: [{{entry: {first}}}]"))
        return None

    def _acyclic(self, among: set[int]) -> bool:
        return next(self._components(among), None) is None

    def structure(self, declared: Sequence[Loop]) -> Structure:
        heads, names = {self.names[loop.head] for loop in self.loops}, set(self.names) if declared else set()
        for loop in declared:
            if loop.entry in names and loop.entry not in heads and not self.faults:
                known = ", ".join(sorted(heads)) or "none: the diagram has no loop"
                self.faults.append(Fault(f"{loop.entry!r} is not the head of a loop; heads are: {known}",
                                         node=loop.entry, where=loop.where))
        structure = Structure(self.loops, self.loop_of, self.back_of, [], [], self.order(), self.faults)
        if not self.loops:
            structure.exits, structure.enters = [-1] * len(self.arrows), [()] * len(self.arrows)
            return structure
        for index, (source, target) in enumerate(self.arrows):
            leaving, entering = self._crossing(structure, index, source, target)
            structure.exits.append(leaving[-1] if leaving else -1)
            structure.enters.append(tuple(reversed(entering)))
        return structure

    def _crossing(self, structure: Structure, arrow: int, source: int,
                  target: int) -> tuple[list[int], list[int]]:
        """The loops an arrow leaves and enters, innermost first. A back arrow leaves those inside its own."""
        if self.loop_of[source] < 0 and self.loop_of[target] < 0:
            return [], []
        before, after = structure.around(source), structure.around(target)
        if self.back_of[arrow] >= 0:
            return before[:before.index(self.back_of[arrow])], []
        return [loop for loop in before if loop not in after], [loop for loop in after if loop not in before]

    def order(self) -> list[int]:
        """Kahn's algorithm ("Topological sorting of large networks", 1962), ties in file order. Back arrows
        count for nothing; what is on another cycle, or behind one, is left out."""
        left = [0] * len(self.names)
        for index, (_, target) in enumerate(self.arrows):
            left[target] += self.back_of[index] < 0
        ready = deque(node for node, count in enumerate(left) if not count)
        order = []
        while ready:
            node = ready.popleft()
            order.append(node)
            for arrow in self.out[node]:
                if self.back_of[arrow] < 0:
                    target = self.arrows[arrow][1]
                    left[target] -= 1
                    if not left[target]:
                        ready.append(target)
        return order
