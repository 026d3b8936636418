"""The mirror of one execution: what a viewer may see of it, and at which revision each field last changed.

Pure: no clock, loop or store. Cells come in any order and as often as they like, of each key the largest
version counts (law 1). A revision is a number that grows as cells come. The law that holds all of it
together: for any cells in any order, and any moments of reading, a snapshot with the later differences
applied is the snapshot of now.

`lead` is how far anybody has been told. A change is labelled with its revision, but a node that changes again
before it was told keeps its label: so those who lead are told in parts, what has waited longest first, and
those who follow are brought to the lead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

import msgspec

from treadle.monitor.live.fields import (
    Fields,
    Spending,
    changed_fields,
    context_fields,
    execution_fields,
    node_fields,
    path_of,
)
from treadle.monitor.live.groups import Figures, Group, Node, oldest
from treadle.monitor.views import parent_of
from treadle.state.cell import ContextCell, ExecutionCell, NodeState, turn_of
from treadle.store.base import Owner, bare

ALL = "*"
"""In a scope: every group is open."""
ROOT: frozenset[str] = frozenset()
"""The scope with all groups closed."""
STEP = 16
"""Changes of nodes that share a revision, so that a large difference can be told in parts."""
_ENDED = ("completed", "failed", "skipped", "cancelled")
_SPACES = ("artifacts", "variables", "plugins")


class Outline(Protocol):
    """What is known of an execution's diagram."""

    def type_of(self, path: str) -> str:
        """The type of a node; "" if it is not known."""

    def size_of(self, path: str) -> int:
        """How many nodes the diagram ("") or the sub-diagram at a path has; 0 if it is not known."""


class Update(msgspec.Struct, frozen=True):
    """What has changed up to the revision `sequence`: paths of fields (of a node that is new, its own path),
    and their values; null for a field that is gone."""

    sequence: int
    mask: list[str]
    payload: dict[str, Any]


class Mirror:
    """See the module. `outline` may come later: see `draw`."""

    def __init__(self, execution_id: str, outline: Outline | None = None) -> None:
        self.execution_id = execution_id
        self.revision = 0
        self._outline = outline
        self.lead = 0
        self._own: ExecutionCell | None = None
        self._owner: Owner | None = None
        self._stale = False
        self._extra: Fields = {}  # what no cell says: last_log, rate
        self._root = Group("", None)
        self._groups: dict[str, Group] = {"": self._root}
        self._touched: list[Group] = []  # groups whose counts have changed since they were last told
        self._counted: list[Node] = []  # nodes of these at the last look
        self._past: Counter[str] = Counter()  # iterations that are not their nodes' newest, by status
        self._retries = 0
        self._spending = Spending()
        self._before: dict[tuple[str, str], int] = {}  # attempts before the first that is known of a turn
        self._execution: dict[str, tuple[int, Any]] = {}  # its fields, each with its revision
        self._keys: dict[str, ContextCell] = {}
        self._context: dict[str, tuple[int, Any]] = {name: (0, {}) for name in _SPACES}
        self._stirred: set[str] = set()  # spaces of the context that have changed
        self.figures: Figures | None = None
        self._restless = True  # whether anything has changed since the last look

    # What comes in

    def take(self, cells: Iterable[NodeState | ExecutionCell | ContextCell]) -> None:
        """Join cells."""
        self.revision += 1
        left = STEP
        for cell in cells:
            if type(cell) is NodeState:
                if self._take_node(cell):
                    left -= 1
                    if not left:
                        self.revision, left = self.revision + 1, STEP
            elif isinstance(cell, ExecutionCell):
                if self._own is None or cell.version > self._own.version:  # some come bare: not `join_cells`
                    self._own = cell
            elif isinstance(cell, ContextCell):
                known = self._keys.get(cell.key)
                if known is None or cell.version > known.version:
                    self._keys[cell.key] = cell
                    self._stirred.add(cell.key.partition(".")[0])
        self._restless = True

    def head(self, owner: Owner | None, stale: bool) -> None:
        """Who runs the execution, and whether it says running though nobody does."""
        if (owner, stale) != (self._owner, self._stale):
            self._owner, self._stale = owner, stale
            self._restless = True

    def tell(self, name: str, value: Any) -> None:
        """A field of the execution that no cell says."""
        if self._extra.get(name) != value:
            self._extra[name] = value
            self._restless = True

    def draw(self, outline: Outline) -> None:
        """The diagram is known, or is another one: what nodes are is told again."""
        self._outline = outline
        self.revision += 1
        for group in self._groups.values():
            group.relabel(self.revision)
        self._restless = True

    def count_by(self, figures: Figures | None) -> None:
        """Tell these figures instead of those of the cells that came, until there are others, or none."""
        before, self.figures = self.figures, figures
        groups = dict[str, dict[str, int]]() if figures is None else figures.groups
        known = dict[str, dict[str, int]]() if before is None else before.groups
        for path in known.keys() | groups.keys():
            group = self._group(path)
            if groups.get(path) != known.get(path) and not group.touched:
                self._touch(group)
        self._restless = self._restless or figures is not before

    @property
    def ended(self) -> int:
        """How many nodes have ended, iterations counted singly."""
        if self.figures is not None:
            return sum(self.figures.counts.get(name, 0) for name in _ENDED)
        return sum(self._root.counts.get(name, 0) + self._past[name] for name in _ENDED)

    @property
    def own(self) -> ExecutionCell | None:
        return self._own

    def _take_node(self, cell: NodeState) -> bool:
        """Whether it changed what is known."""
        path = cell.node_id
        group = self._group(parent_of(path)) if path[-1] == "]" or "/" in path else self._root
        node = group.nodes.get(path)
        if node is not None and cell.iteration == node.cell.iteration and (
                cell.attempt, cell.epoch, cell.seq) == (node.cell.attempt, node.cell.epoch, node.cell.seq):
            return False
        if cell.output or cell.meta is not None or cell.items is not None or cell.error is not None:
            cell = bare(cell)
            if cell.meta is not None:
                self._spending.note(cell)
        if node is None:
            node = group.nodes[path] = Node(cell, self.revision, self.revision)
            group.labelled(node)
            self._count(group, None, cell.status.value)
            self._retries += self._first(cell)
            return True
        known = node.cell
        if cell.iteration == known.iteration:
            if (cell.attempt, cell.epoch, cell.seq) <= (known.attempt, known.epoch, known.seq):
                self._earlier(cell)
                return False
            self._retries += cell.attempt - known.attempt
        elif _order(cell) < _order(known):
            return self._take_past(node, cell)
        else:
            self._retries += self._forget(node, cell)
            self._keep(node, known)
        self._count(group, known.status.value, cell.status.value)
        node.cell = cell
        if node.born <= self.lead:
            self._mark(group, path, node, changed_fields(known, cell))
        return True

    def _take_past(self, node: Node, cell: NodeState) -> bool:
        """An iteration that is not the newest."""
        before = None if node.past is None else node.past.get(cell.iteration)
        if before is not None and before[:3] >= (cell.attempt, cell.epoch, cell.seq):
            self._earlier(cell)
            return False
        self._retries += self._forget(node, cell)
        self._keep(node, cell)
        return True

    def _forget(self, node: Node, cell: NodeState) -> int:
        """Take an iteration out of the past ones; how many attempts a cell of it adds to the retries."""
        before = None if node.past is None else node.past.pop(cell.iteration, None)
        if before is None:
            return self._first(cell)
        self._past[before[3]] -= 1
        return cell.attempt - before[0]

    def _first(self, cell: NodeState) -> int:
        """Note the first attempt that is seen of an iteration; how many there were before."""
        if cell.attempt > 1:
            self._before[cell.node_id, cell.iteration] = cell.attempt - 1
        return cell.attempt - 1

    def _earlier(self, cell: NodeState) -> None:
        """An attempt that is not the newest."""
        key = (cell.node_id, cell.iteration)
        if self._before.get(key, 0) >= cell.attempt:
            self._before[key] = cell.attempt - 1

    def _keep(self, node: Node, cell: NodeState) -> None:
        if node.past is None:
            node.past = {}
        node.past[cell.iteration] = (cell.attempt, cell.epoch, cell.seq, cell.status.value)
        self._past[cell.status.value] += 1

    def _mark(self, group: Group, path: str, node: Node, names: Iterable[str]) -> None:
        """Label what has changed of a node that somebody knows."""
        if node.revision <= self.lead:
            node.revision = self.revision
            del group.nodes[path]
            group.nodes[path] = node
            group.labelled(node)
        fields = node.fields
        if fields is None:
            fields = node.fields = {}
        for name in names:
            fields[name] = node.revision

    def _group(self, path: str) -> Group:
        found = self._groups.get(path)
        if found is None:
            found = self._groups[path] = Group(path, self._group(parent_of(path)))
        return found

    def _count(self, group: Group, before: str | None, after: str) -> None:
        if before == after:
            return
        for one in group.around:
            counts = one.counts
            counts[after] = counts.get(after, 0) + 1
            if before is not None:
                counts[before] -= 1
            if not one.touched:
                self._touch(one)

    def _touch(self, group: Group) -> None:
        group.touched = True
        self._touched.append(group)

    # What goes out

    def settle(self) -> int:
        """Work out what follows from what came in; the revision that can be read now."""
        if self._restless:
            self._restless = False
            self.revision += 1
            self._settle_groups()
            self._settle_execution()
            for space in self._stirred:
                self._settle_space(space)
            self._stirred.clear()
        return self.revision

    def _settle_groups(self) -> None:
        self._counted.clear()
        for group in self._touched:
            group.touched = False
            if not group.path:
                continue
            around = group.around[1]
            node = around.nodes.get(group.path)
            if node is not None and node.born <= self.lead:
                self._mark(around, group.path, node, ("group",))
                self._counted.append(node)
        self._touched.clear()

    def _settle_execution(self) -> None:
        fields = {} if self._own is None else execution_fields(self._own, self._owner, self._stale)
        figures = self.figures
        counts = self._counts() if figures is None else dict(figures.counts)
        if figures is None or figures.known is None:
            total = max(self._total(), sum(counts.values()))
        else:
            total = figures.known
        counts["pending"] = total - sum(counts.values())
        fields |= {"counts": {name: count for name, count in counts.items() if count}, "total": total,
                   "done": counts.get("completed", 0), "retries": self._own_retries(), **self._extra,
                   **self._spending.fields(self._own)}
        told = self._execution
        for name in told.keys() - fields.keys():
            if told[name][1] is not None:
                told[name] = (self.revision, None)
        for name, value in fields.items():
            if name not in told or told[name][1] != value:
                told[name] = (self.revision, value)

    def _own_retries(self) -> int:
        """A fork begins with the last attempts of its parent, which are numbered on and are none of its."""
        fork = self._own is not None and self._own.parent is not None
        return self._retries - sum(self._before.values()) if fork else self._retries

    def _counts(self) -> dict[str, int]:
        names = self._root.counts.keys() | self._past.keys()
        return {name: self._root.counts.get(name, 0) + self._past[name] for name in names}

    def _total(self) -> int:
        """How many nodes are known: those of the diagram, of each sub-diagram and map that was opened, and
        turns of loops."""
        sizes = (max(self._size(group), len(group.nodes)) for group in self._groups.values())
        return self._past.total() + sum(sizes)

    def _size(self, group: Group) -> int:
        """How many nodes are directly inside of it, as far as the diagram or its items say."""
        if group.path and (node := group.around[1].nodes.get(group.path)) is not None \
                and node.cell.items is not None:
            return int(node.cell.items)
        return 0 if self._outline is None else self._outline.size_of(group.path)

    def _settle_space(self, space: str) -> None:
        mine = [self._keys[key] for key in sorted(self._keys) if key.startswith(f"{space}.")]
        self._context[space] = (self.revision, context_fields(mine).get(space, {}))

    def snapshot(self, scope: frozenset[str] = ROOT, most: int | None = None) -> Update:
        """All that is in a scope, or so many nodes of it, the first of `paths`. It goes on from `lead`: what
        it tells beyond that is told once more."""
        self.settle()
        found = (one for group in self._open(scope) for one in group.nodes.items())
        nodes = {path: self._view(node) for path, node in islice(found, most)}
        execution = self.execution()
        context = {space: value for space, (_, value) in self._context.items()}
        return Update(self.lead, [], {"execution": execution, "nodes": nodes, "context": context})

    def execution(self) -> Fields:
        """What is to be seen of the execution itself."""
        self.settle()
        return {name: value for name, (_, value) in self._execution.items() if value is not None}

    def newest(self, group: str) -> list[NodeState]:
        """The newest cell of each node directly in a group, or of all nodes, without its output."""
        found = self._groups.values() if group == ALL else filter(None, [self._groups.get(group)])
        return [node.cell for one in found for node in one.nodes.values()]

    def views(self, paths: Iterable[str]) -> dict[str, Fields]:
        """All that is to be seen of these nodes, those that are there."""
        found = ((path, self._groups.get(parent_of(path))) for path in paths)
        return {path: self._view(group.nodes[path]) for path, group in found
                if group is not None and path in group.nodes}

    def paths(self, scope: frozenset[str], *, root: bool = True) -> list[str]:
        """The paths of all nodes in a scope; `root`: those of the root, too."""
        return [path for group in self._open(scope) if root or group.path or ALL in scope
                for path in group.nodes]

    def whole(self, paths: Iterable[str]) -> Update:
        """Nodes with all their fields, as of this revision."""
        self.settle()
        nodes = self.views(paths)
        return Update(self.revision, [path_of("nodes", path) for path in nodes], {"nodes": nodes})

    def diff(self, since: int, scope: frozenset[str] = ROOT, limit: int | None = None) -> Update:
        """What has changed since a revision; `sequence` says how far that goes. With a `limit` it goes to
        `lead`, or, for one who is there, as far as so many nodes reach, and a few more."""
        sequence = self.settle()
        if limit is not None and since == self.lead:
            found, upto = oldest(self._open(scope), since, limit)
            changed = [(node.cell.node_id, node) for node in found]
            if upto is not None:  # counts don't wait behind nodes; they are told once more in their turn
                told, opened = {path for path, _ in changed}, scope | {""}
                seen = (node for node in self._counted
                        if ALL in scope or parent_of(node.cell.node_id) in opened)
                changed += [(node.cell.node_id, node) for node in islice(seen, limit)
                            if node.cell.node_id not in told]
            sequence = sequence if upto is None else upto
        else:
            changed = [one for group in self._open(scope) for one in group.since(since)]
            if limit is not None:
                sequence = self.lead
                changed = [one for one in changed
                           if one[1].revision <= sequence or one[1].changed(since, sequence)]
        self.lead = max(self.lead, sequence)
        mask: list[str] = []
        payload: dict[str, Any] = {}
        for name, (revision, value) in self._execution.items():
            if revision > since:
                mask.append(f"execution.{name}")
                payload.setdefault("execution", {})[name] = value
        if changed:
            payload["nodes"] = {path: self._changes(path, node, since, mask) for path, node in changed}
        for space, (revision, value) in self._context.items():
            if revision > since:
                mask.append(f"context.{space}")
                payload.setdefault("context", {})[space] = value
        return Update(sequence, mask, payload)

    def _changes(self, path: str, node: Node, since: int, mask: list[str]) -> Fields:
        view, place = self._view(node), path_of("nodes", path)
        if node.born > since:
            mask.append(place)
            return view
        names = [name for name, revision in (node.fields or {}).items() if revision > since]
        mask += [f"{place}.{name}" for name in names]
        return {name: view.get(name) for name in names}

    def _view(self, node: Node) -> Fields:
        path = node.cell.node_id
        view = node_fields(node.cell)
        view["type"] = "" if self._outline is None else self._outline.type_of(path)
        group = self._groups.get(path)
        if group is not None or node.cell.items is not None:
            view["group"] = self._group_view(path, node, group)
        return view

    def _group_view(self, path: str, node: Node, group: Group | None) -> Fields:
        counts = {} if group is None else {name: count for name, count in group.counts.items() if count}
        if self.figures is not None and path in self.figures.groups:
            counts = {name: count for name, count in self.figures.groups[path].items() if count}
        size = int(node.cell.items or b"0") if group is None else self._size(group)
        is_map = node.cell.items is not None or (group is not None and f"{path}[0]" in group.nodes)
        return {"kind": "map" if is_map else "sub", "counts": counts,
                "total": max(size, 0 if group is None else len(group.nodes))}

    def _open(self, scope: frozenset[str]) -> Iterator[Group]:
        if ALL in scope:
            yield from self._groups.values()
            return
        yield self._root
        for path in scope:
            group = self._groups.get(path)
            if group is not None and path:
                yield group


def _order(cell: NodeState) -> tuple[Any, ...]:
    """Of two iterations of a node the one that counts: in a later round of the execution an edited loop
    begins again from its first."""
    path = cell.node_id
    inside = path[-1] == "]" or "/" in path
    return 0 if inside else cell.round, turn_of(cell)
