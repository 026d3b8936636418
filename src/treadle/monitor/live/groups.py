"""What a mirror keeps: nodes, and the groups in which they are."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from heapq import merge
from operator import itemgetter

import msgspec

from treadle.monitor.views import parent_of
from treadle.state.cell import NodeState
from treadle.store.base import Tally

LABELS_MIN = 1000
"""Outdated labels that a group may have in any case."""


class Figures(msgspec.Struct, frozen=True):
    """What the engine itself counts, or the store, while there are more cells than there is time to take:
    nodes by status, how many are known (None: it was not counted), and what is inside of maps and
    sub-diagrams by status."""

    counts: dict[str, int]
    known: int | None
    groups: dict[str, dict[str, int]]

    @classmethod
    def of(cls, tally: Tally) -> Figures:
        """Those of a store. A group has all that is inside at any depth."""
        groups: dict[str, Counter[str]] = {}
        for path, counts in tally.groups.items():
            while path:
                groups.setdefault(path, Counter()).update(counts)
                path = parent_of(path)
        return cls(dict(sum(map(Counter, tally.groups.values()), Counter())), None, dict(groups))

    @property
    def told(self) -> int:
        """How many nodes are in `counts`."""
        return sum(self.counts.values())


class Node(msgspec.Struct, gc=False):
    """A path: its newest cell, and the labels of what of it changed: `born`, when it was first told, and
    `fields`, those that changed after that. `past` are its other iterations: attempt, version and status of
    each. There may be 100,000 of them, so the garbage collector lets them alone."""

    cell: NodeState
    born: int
    revision: int
    fields: dict[str, int] | None = None
    past: dict[str, tuple[int, int, int, str]] | None = None

    def changed(self, since: int, until: int) -> bool:
        """Whether anything of it has a label between these."""
        return since < self.born <= until or (
            self.fields is not None and any(since < label <= until for label in self.fields.values()))


class Group:
    """The nodes directly inside of a node, or of the diagram (path ""): the one that changed last is the
    last. `counts` are those of all that is inside at any depth, by status."""

    __slots__ = ("_labels", "around", "counts", "nodes", "path", "touched")

    def __init__(self, path: str, around: Group | None) -> None:
        self.path = path
        self.around: tuple[Group, ...] = (self,) if around is None else (self, *around.around)
        self.nodes: dict[str, Node] = {}
        self.counts: dict[str, int] = {}
        self.touched = False
        # Nodes with their labels as they were given, also where they have others by now; None: nobody asked.
        self._labels: deque[tuple[int, Node]] | None = None

    def labelled(self, node: Node) -> None:
        """A node of it has changed, and is the last to have."""
        if self._labels is not None:
            self._labels.append((node.revision, node))
            if len(self._labels) > LABELS_MIN + 2 * len(self.nodes):
                self._labels = None

    def relabel(self, revision: int) -> None:
        """All that it has is new."""
        self._labels = None
        for node in self.nodes.values():
            node.born = node.revision = revision
            node.fields = None

    def after(self, revision: int) -> Iterator[tuple[int, Node]]:
        """Nodes that have changed since, the longest ago first. Nobody may ask for earlier ones again."""
        labels = self._labels
        if labels is None:
            labels = self._labels = deque((node.revision, node) for _, node in self.since(revision))
            labels.reverse()
        while labels and (labels[0][0] <= revision or labels[0][0] != labels[0][1].revision):
            labels.popleft()
        return (one for one in labels if one[0] == one[1].revision)

    def since(self, revision: int) -> Iterator[tuple[str, Node]]:
        """Nodes that have changed since, the newest first."""
        for path, node in reversed(self.nodes.items()):
            if node.revision <= revision:
                return
            yield path, node


def oldest(groups: Iterable[Group], since: int, limit: int) -> tuple[list[Node], int | None]:
    """Nodes that have changed since a revision, what has waited longest first: `limit` of them, and those of
    the same revision; and up to which revision these are all, None if there are no more."""
    found: list[Node] = []
    upto = -1
    for revision, node in merge(*(group.after(since) for group in groups), key=_label):
        if len(found) >= limit and revision > upto:
            return found, upto
        found.append(node)
        upto = revision
    return found, None


_label = itemgetter(0)
