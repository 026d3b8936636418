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
from operator import itemgetter
from typing import Any, Protocol

import msgspec

from treadle.monitor.live.fields import (
    Fields,
    changed_fields,
    context_fields,
    execution_fields,
    node_fields,
    path_of,
)
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


class _Node:
    """A path: its newest cell, and the labels of what of it changed. `past` are its other iterations:
    attempt, version and status of each."""

    __slots__ = ("born", "cell", "fields", "group", "past", "revision")

    def __init__(self, cell: NodeState, group: _Group, revision: int) -> None:
        self.cell, self.group, self.born, self.revision = cell, group, revision, revision
        self.fields: dict[str, int] | None = None  # of each field that changed after it was told
        self.past: dict[str, tuple[int, int, int, str]] | None = None


    def changed(self, since: int, until: int) -> bool:
        """Whether anything of it has a label between these."""
        return since < self.born <= until or (
            self.fields is not None and any(since < label <= until for label in self.fields.values()))


class _Group:
    """The nodes directly inside of a node, or of the diagram (path ""): the one that changed last is the
    last. `counts` are those of all that is inside at any depth, by status."""

    __slots__ = ("around", "counts", "nodes", "path", "touched")

    def __init__(self, path: str, around: _Group | None) -> None:
        self.path = path
        self.around: tuple[_Group, ...] = (self,) if around is None else (self, *around.around)
        self.nodes: dict[str, _Node] = {}
        self.counts: dict[str, int] = {}
        self.touched = False


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
        self._root = _Group("", None)
        self._groups: dict[str, _Group] = {"": self._root}
        self._touched: list[_Group] = []  # groups whose counts have changed since they were last told
        self._past: Counter[str] = Counter()  # iterations that are not their nodes' newest, by status
        self._retries = 0
        self._execution: dict[str, tuple[int, Any]] = {}  # its fields, each with its revision
        self._keys: dict[str, ContextCell] = {}
        self._context: dict[str, tuple[int, Any]] = {name: (0, {}) for name in _SPACES}
        self._stirred: set[str] = set()  # spaces of the context that have changed
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
            for node in group.nodes.values():
                node.born = node.revision = self.revision
                node.fields = None
        self._restless = True

    @property
    def ended(self) -> int:
        """How many nodes have ended, iterations counted singly."""
        return sum(self._root.counts.get(name, 0) + self._past[name] for name in _ENDED)

    @property
    def own(self) -> ExecutionCell | None:
        return self._own

    def _take_node(self, cell: NodeState) -> bool:
        """Whether it changed what is known."""
        path = cell.node_id
        group = self._group(parent_of(path)) if path[-1] == "]" or "/" in path else self._root
        node = group.nodes.get(path)
        if cell.output or cell.meta is not None or cell.items is not None or cell.error is not None:
            cell = bare(cell)
        if node is None:
            group.nodes[path] = _Node(cell, group, self.revision)
            self._count(group, None, cell.status.value)
            self._retries += cell.attempt - 1
            return True
        known = node.cell
        if cell.iteration == known.iteration:
            if (cell.attempt, cell.epoch, cell.seq) <= (known.attempt, known.epoch, known.seq):
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

    def _take_past(self, node: _Node, cell: NodeState) -> bool:
        """An iteration that is not the newest."""
        before = None if node.past is None else node.past.get(cell.iteration)
        if before is not None and before[:3] >= (cell.attempt, cell.epoch, cell.seq):
            return False
        self._retries += self._forget(node, cell)
        self._keep(node, cell)
        return True

    def _forget(self, node: _Node, cell: NodeState) -> int:
        """Take an iteration out of the past ones; how many attempts a cell of it adds to the retries."""
        before = None if node.past is None else node.past.pop(cell.iteration, None)
        if before is None:
            return cell.attempt - 1
        self._past[before[3]] -= 1
        return cell.attempt - before[0]

    def _keep(self, node: _Node, cell: NodeState) -> None:
        if node.past is None:
            node.past = {}
        node.past[cell.iteration] = (cell.attempt, cell.epoch, cell.seq, cell.status.value)
        self._past[cell.status.value] += 1

    def _mark(self, group: _Group, path: str, node: _Node, names: Iterable[str]) -> None:
        """Label what has changed of a node that somebody knows."""
        if node.revision <= self.lead:
            node.revision = self.revision
            del group.nodes[path]
            group.nodes[path] = node
        fields = node.fields
        if fields is None:
            fields = node.fields = {}
        for name in names:
            fields[name] = node.revision

    def _group(self, path: str) -> _Group:
        found = self._groups.get(path)
        if found is None:
            found = self._groups[path] = _Group(path, self._group(parent_of(path)))
        return found

    def _count(self, group: _Group, before: str | None, after: str) -> None:
        if before == after:
            return
        for one in group.around:
            counts = one.counts
            counts[after] = counts.get(after, 0) + 1
            if before is not None:
                counts[before] -= 1
            if not one.touched:
                self._touch(one)

    def _touch(self, group: _Group) -> None:
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
        for group in self._touched:
            group.touched = False
            if not group.path:
                continue
            around = group.around[1]
            node = around.nodes.get(group.path)
            if node is not None and node.born <= self.lead:
                self._mark(around, group.path, node, ("group",))
        self._touched.clear()

    def _settle_execution(self) -> None:
        fields = {} if self._own is None else execution_fields(self._own, self._owner, self._stale)
        counts = {name: count for name, count in self._counts()}
        total = max(self._total(), sum(counts.values()))
        counts["pending"] = total - sum(counts.values())
        fields |= {"counts": {name: count for name, count in counts.items() if count}, "total": total,
                   "done": counts.get("completed", 0), "retries": self._retries, **self._extra}
        told = self._execution
        for name in told.keys() - fields.keys():
            if told[name][1] is not None:
                told[name] = (self.revision, None)
        for name, value in fields.items():
            if name not in told or told[name][1] != value:
                told[name] = (self.revision, value)

    def _counts(self) -> Iterator[tuple[str, int]]:
        for name in self._root.counts.keys() | self._past.keys():
            yield name, self._root.counts.get(name, 0) + self._past[name]

    def _total(self) -> int:
        """How many nodes are known: those of the diagram, of each sub-diagram and map that was opened, and
        turns of loops."""
        sizes = (max(self._size(group), len(group.nodes)) for group in self._groups.values())
        return self._past.total() + sum(sizes)

    def _size(self, group: _Group) -> int:
        """How many nodes are directly inside of it, as far as the diagram or its items say."""
        if group.path and (node := group.around[1].nodes.get(group.path)) is not None \
                and node.cell.items is not None:
            return int(node.cell.items)
        return 0 if self._outline is None else self._outline.size_of(group.path)

    def _settle_space(self, space: str) -> None:
        mine = [self._keys[key] for key in sorted(self._keys) if key.startswith(f"{space}.")]
        self._context[space] = (self.revision, context_fields(mine).get(space, {}))

    def snapshot(self, scope: frozenset[str] = ROOT) -> Update:
        """All that is in a scope. It goes on from `lead`: what it tells beyond that is told once more."""
        self.settle()
        nodes = {path: self._view(node) for group in self._open(scope) for path, node in group.nodes.items()}
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

    def opened(self, groups: frozenset[str]) -> Update:
        """All nodes of groups that a viewer opens, with all their fields."""
        self.settle()
        nodes = {path: self._view(node) for group in self._open(groups) if group.path or ALL in groups
                 for path, node in group.nodes.items()}
        return Update(self.lead, [path_of("nodes", path) for path in nodes], {"nodes": nodes})

    def diff(self, since: int, scope: frozenset[str] = ROOT, limit: int | None = None) -> Update:
        """What has changed since a revision; `sequence` says how far that goes. With a `limit` it goes to
        `lead`, or, for one who is there, as far as so many nodes reach, and a few more."""
        sequence = self.settle()
        changed = [(node.revision, path, node) for group in self._open(scope)
                   for path, node in _since(group, since)]
        if limit is not None and since < self.lead:
            sequence = self.lead
            changed = [one for one in changed if one[0] <= sequence or one[2].changed(since, sequence)]
        elif limit is not None and len(changed) > limit:
            changed.sort(key=_label)
            sequence = changed[limit - 1][0]
            changed = [one for one in changed if one[0] <= sequence]
        self.lead = max(self.lead, sequence)
        mask: list[str] = []
        payload: dict[str, Any] = {}
        for name, (revision, value) in self._execution.items():
            if revision > since:
                mask.append(f"execution.{name}")
                payload.setdefault("execution", {})[name] = value
        if changed:
            payload["nodes"] = {path: self._changes(path, node, since, mask) for _, path, node in changed}
        for space, (revision, value) in self._context.items():
            if revision > since:
                mask.append(f"context.{space}")
                payload.setdefault("context", {})[space] = value
        return Update(sequence, mask, payload)

    def _changes(self, path: str, node: _Node, since: int, mask: list[str]) -> Fields:
        view, place = self._view(node), path_of("nodes", path)
        if node.born > since:
            mask.append(place)
            return view
        names = [name for name, revision in (node.fields or {}).items() if revision > since]
        mask += [f"{place}.{name}" for name in names]
        return {name: view.get(name) for name in names}

    def _view(self, node: _Node) -> Fields:
        path = node.cell.node_id
        view = node_fields(node.cell)
        view["type"] = "" if self._outline is None else self._outline.type_of(path)
        group = self._groups.get(path)
        if group is not None or node.cell.items is not None:
            view["group"] = self._group_view(path, node, group)
        return view

    def _group_view(self, path: str, node: _Node, group: _Group | None) -> Fields:
        counts = {} if group is None else {name: count for name, count in group.counts.items() if count}
        size = int(node.cell.items or b"0") if group is None else self._size(group)
        is_map = node.cell.items is not None or (group is not None and f"{path}[0]" in group.nodes)
        return {"kind": "map" if is_map else "sub", "counts": counts,
                "total": max(size, 0 if group is None else len(group.nodes))}

    def _open(self, scope: frozenset[str]) -> Iterator[_Group]:
        if ALL in scope:
            yield from self._groups.values()
            return
        yield self._root
        for path in scope:
            group = self._groups.get(path)
            if group is not None and path:
                yield group


def _since(group: _Group, since: int) -> Iterator[tuple[str, _Node]]:
    for path, node in reversed(group.nodes.items()):
        if node.revision <= since:
            return
        yield path, node


_label = itemgetter(0)


def _order(cell: NodeState) -> tuple[Any, ...]:
    """Of two iterations of a node the one that counts: in a later round of the execution an edited loop
    begins again from its first."""
    path = cell.node_id
    inside = path[-1] == "]" or "/" in path
    return 0 if inside else cell.round, turn_of(cell)
