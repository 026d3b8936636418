"""What fills a mirror: the store, which other processes write, and the engine in this process.

Another process's execution is read again when the store's `version` has changed: new rows, and those that
were still open. Of one that runs here the journal is tapped instead: its batches are handed over as they are
sealed, and what waits for the next one is looked at when a message is due. So the engine does nothing more
for a node that is watched.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from treadle.engine.plan import static
from treadle.engine.replay import node_at
from treadle.monitor.core import Monitor
from treadle.monitor.drawn import Known
from treadle.monitor.live.mirror import Mirror
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.base import Batch, Mark

if TYPE_CHECKING:
    from treadle.store.manager import StateManager

AnyCell = NodeState | ExecutionCell | ContextCell
PIECE = 256
"""Cells that are taken in one go."""
UNSEALED_MAX = 1000
"""Cells that are looked at before they are sealed; more are sealed soon anyway."""
WAITING_MAX = 200
"""Pieces that wait before they are joined."""
LOOK_S = 1.0
"""How often an execution's own row is read though nothing was written: an owner that is gone writes
nothing."""


class Drawing:
    """An outline of a stored diagram: see `treadle.monitor.live.mirror.Outline`."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._types: dict[str, str] = {}
        self._sizes: dict[str, int] = {}

    def type_of(self, path: str) -> str:
        path = static(path) if path[-1:] == "]" or "/" in path else path
        found = self._types.get(path)
        if found is None:
            found = self._types[path] = "" if self._known is None else self._known.type_of(path)
        return found

    def size_of(self, path: str) -> int:
        key = path if not path.endswith("]") else f"{static(path)}[]"
        found = self._sizes.get(key)
        if found is None:
            found = self._sizes[key] = self._size(path)
        return found

    def _size(self, path: str) -> int:
        if self._known is None:
            return 0
        if not path:
            return len(self._known.spec.nodes)
        node = None if self._known.compiled is None else node_at(self._known.compiled, static(path))
        if node is None or node.child is None or (node.is_map and not path.endswith("]")):
            return 0
        return len(node.child)


class Source:
    """Fills the mirror of one execution. `version` is the hub's count of changes of the store."""

    def __init__(self, monitor: Monitor, mirror: Mirror) -> None:
        self._monitor, self._mirror, self._id = monitor, mirror, mirror.execution_id
        self._batches: list[Batch] = []
        self._waiting: deque[list[AnyCell]] = deque()  # ours, in pieces
        self._joined_at = WAITING_MAX
        self._ticket = -1
        self._mark: Mark | None = None
        self._version = -1
        self._looked = 0.0
        self._drawn: str | None = None  # the hash of the diagram that the mirror knows
        self._lines = False  # whether lines were logged here since the last look
        engine = monitor.engine
        self._manager: StateManager | None = None if engine is None else engine.manager
        self._leave = None if self._manager is None else self._manager.tap(self._batches.append)

    def close(self) -> None:
        if self._leave is not None:
            self._leave()

    @property
    def behind(self) -> bool:
        """Whether more has been recorded than was taken."""
        return bool(self._waiting)

    @property
    def local(self) -> bool:
        """Whether the engine in this process runs it."""
        return self._manager is not None and self._id in self._manager.leases

    def wants(self, version: int) -> bool:
        """Whether the store must be read."""
        if self._mark is None or self._lines:
            return True
        late = time.monotonic() - self._looked >= LOOK_S
        return not self.local and (version != self._version or late)

    def drain(self, budget_s: float, *, sealed: bool = False) -> int:
        """Take what this process's engine has recorded, for at most so long; what is left comes next time.
        `sealed`: not what waits for the next batch, which would be taken again with it. How many cells have
        come. On the loop."""
        manager = self._manager
        if manager is None or not (self._batches or self._waiting or manager.ticket != self._ticket):
            return 0
        self._ticket = manager.ticket
        came = sum(len(batch.cells) for batch in self._batches)
        for batch in self._batches:
            self._add(batch.cells)
            self._add(batch.begun)
            self._add([*batch.executions, *batch.context.values(), *batch.begun_context])
            self._lines = self._lines or any(line.execution_id == self._id for line in batch.logs)
        self._batches.clear()
        until = time.thread_time() + budget_s
        while self._waiting:
            self._mirror.take(self._waiting.popleft())
            if time.thread_time() >= until:
                break
        if not self._waiting and not sealed:
            nodes, executions, context = manager.unsealed()
            if len(nodes) <= UNSEALED_MAX:
                self._mirror.take(self._mine([*nodes, *executions, *context]))
        self._join()
        if self.local:
            self._mirror.head(manager.owner, False)
        return came

    def _add(self, cells: Sequence[AnyCell]) -> None:
        for start in range(0, len(cells), PIECE):
            piece = self._mine(cells[start:start + PIECE])
            if piece:
                self._waiting.append(piece)

    def _mine(self, cells: Iterable[AnyCell]) -> list[AnyCell]:
        mine = self._id
        return [cell for cell in cells if cell.execution_id == mine]

    def _join(self) -> None:
        """Where very much waits, keep the newest cell of each key: then it is no more than the state."""
        if len(self._waiting) > self._joined_at:
            cells = {cell.key: cell for piece in self._waiting for cell in piece}  # later ones are newer
            self._waiting.clear()
            self._add(list(cells.values()))
            self._joined_at = max(WAITING_MAX, 2 * len(self._waiting))

    async def read(self, version: int) -> None:
        """Take what the store has that is new. NoSuchExecution, StoreError."""
        monitor, mirror = self._monitor, self._mirror
        local = self.local
        cells = self._mark is None or not local
        self._version, self._looked, self._lines = version, time.monotonic(), False
        found = await monitor.read(partial(monitor.store.changes, self._id, self._mark, cells=cells))
        self._mark = found.mark
        mirror.take(chain([found.own], found.cells, found.context))
        if not self.local:
            mirror.head(found.owner, found.stale)
        mirror.tell("last_log", found.last_log)
        if self._drawn != found.own.diagram:
            self._drawn = found.own.diagram
            mirror.draw(Drawing(await monitor.read(monitor.drawings.of, monitor.store, found.own.diagram)))
