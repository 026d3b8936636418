"""What is known of an execution that is asked for again and again: each look reads only what is new."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable

from treadle.engine.tracker import ExecutionMetrics, ExecutionTracker
from treadle.monitor.live.fields import Fields
from treadle.monitor.live.mirror import Mirror, Outline
from treadle.state.cell import CellKey, ExecutionCell, NodeState
from treadle.store.base import Mark, Store, Summary

CELL_BYTES = 700
"""What a cell takes besides its output."""
METRICS_REST = 10.0
"""Metrics of an execution that runs stay as they are for so many times as long as they took."""

Predecessors = Callable[[str], Iterable[str]]


class Seen:
    """An execution as of the last look. Threads may share it. `cells` is a new list after each change."""

    def __init__(self, execution_id: str) -> None:
        self._id = execution_id
        self._lock = threading.Lock()
        self._own: ExecutionCell | None = None
        self._by_key: dict[CellKey, NodeState] = {}
        self._mark: Mark | None = None
        self._mirror: Mirror | None = None
        self._tracker: ExecutionTracker | None = None
        self._metrics: ExecutionMetrics | None = None
        self._outdated = False  # whether cells have come since these
        self._rest_until = 0.0
        self._drawn = ""  # the diagram by which mirror and tracker were made
        self.cells: list[NodeState] = []
        self.size = 0  # about, in bytes

    @classmethod
    def of(cls, cell: ExecutionCell, cells: Iterable[NodeState]) -> Seen:
        """What was read at once."""
        seen = cls(cell.execution_id)
        seen._own = cell
        seen._join(cells)
        return seen

    @property
    def cell(self) -> ExecutionCell:
        assert self._own is not None, "nobody has looked"
        return self._own

    def look(self, store: Store, cell: ExecutionCell) -> None:
        """Read what is new; `cell` is the execution's own, read just before. What has ended is read once."""
        with self._lock:
            if self._own == cell and cell.status.terminal:
                return
            found = store.changes(self._id, self._mark, whole=True)
            if found.complete:
                self._by_key, self.cells, self.size = {}, [], 0
                self._forget()
            self._join(found.cells)
            self._mark = found.mark
            if cell.diagram != self._drawn:
                self._forget()
            elif self._own is not None and cell.round != self._own.round:
                self._tracker = self._metrics = None
            self._own = cell

    def _forget(self) -> None:
        self._mirror = self._tracker = self._metrics = None

    def _join(self, cells: Iterable[NodeState]) -> None:
        if not self._by_key and self._mirror is None and self._tracker is None:  # the first look: many
            self._by_key = {cell.key: cell for cell in cells}
            self.cells = list(self._by_key.values())
            self.size = sum(map(_bytes, self.cells))
            return
        fresh = []
        for cell in cells:
            known = self._by_key.get(cell.key)
            if known is None or cell.version > known.version:
                self._by_key[cell.key] = cell
                self.size += _bytes(cell) - (0 if known is None else _bytes(known))
                fresh.append(cell)
        if not fresh:
            return
        self.cells = list(self._by_key.values())
        if self._mirror is not None:
            self._mirror.take(fresh)
        if self._tracker is not None:
            self._tracker.consume(self._own_cells(fresh))
            self._outdated = True

    def _own_cells(self, cells: Iterable[NodeState]) -> Iterable[NodeState]:
        """Those that it did itself since it began: a fork keeps cells of its parent, one that was reopened
        those that it had before, with their instants."""
        began = self.cell.started_at
        if began is None or (self.cell.parent is None and self.cell.round == 1):
            return cells
        return (cell for cell in cells if cell.ended_at is None or cell.ended_at >= began)

    def _mirrored(self, outline: Outline) -> Mirror:
        if self._mirror is None:
            self._mirror = Mirror(self._id, outline)
            self._mirror.take(self.cells)
            self._drawn = self.cell.diagram
        self._mirror.take((self.cell,))
        return self._mirror

    def execution(self, outline: Outline, summary: Summary) -> Fields:
        """What a viewer sees of the execution itself."""
        with self._lock:
            mirror = self._mirrored(outline)
            mirror.head(summary.owner, summary.stale)
            return mirror.execution()

    def newest(self, outline: Outline, group: str) -> list[NodeState]:
        """The newest cell of each node directly in a group, or of all."""
        with self._lock:
            return self._mirrored(outline).newest(group)

    def views(self, outline: Outline, paths: Iterable[str]) -> dict[str, Fields]:
        """What a viewer sees of these nodes."""
        with self._lock:
            return self._mirrored(outline).views(paths)

    def metrics(self, predecessors: Predecessors) -> ExecutionMetrics:
        """Its figures; of an execution with many cells that runs they may be some seconds old."""
        with self._lock:
            if self._tracker is None:
                self._tracker = ExecutionTracker(lambda node: list(predecessors(node)))
                self._tracker.consume(self._own_cells(self.cells))
                self._drawn = self.cell.diagram
            begun = time.monotonic()
            if self._metrics is None or (self._outdated and (
                    begun >= self._rest_until or self.cell.status.terminal)):
                self._metrics, self._outdated = self._tracker.get_execution_metrics(), False
                self._rest_until = begun + (time.monotonic() - begun) * METRICS_REST
            return self._metrics


def _bytes(cell: NodeState) -> int:
    return CELL_BYTES + len(cell.output or b"") + len(cell.items or b"")
