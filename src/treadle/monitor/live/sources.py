"""What fills a mirror: the store, which other processes write, and the engine in this process.

Another process's execution is read again when the store's `version` has changed: new rows, and those that
were still open. While it writes very much they are counted, and some of the newest read, the others once
there is time: to read them all would take of the machine what it needs to make them.

Of one that runs here the journal is tapped instead: its batches are handed over as they are sealed, and what
waits for the next one is looked at when a message is due. So the engine does nothing more for a node that is
watched.

A loop that has no time left makes more cells than could be taken beside it. Then, and while nobody can take a
message, batches are let go of: the engine's own figures are told, and some of the newest nodes; the rest is
read from the store when there is time again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from treadle.engine.plan import static
from treadle.engine.replay import node_at
from treadle.errors import StoreError
from treadle.monitor.core import Monitor
from treadle.monitor.drawn import Known
from treadle.monitor.live.groups import Figures
from treadle.monitor.live.mirror import Mirror
from treadle.state.cell import ContextCell, ExecutionCell, NodeState
from treadle.store.base import NEWEST, Batch, Changes, Mark, Tally

if TYPE_CHECKING:
    from treadle.store.manager import StateManager

AnyCell = NodeState | ExecutionCell | ContextCell
PIECE = 256
"""Cells that are taken in one go."""
BREATH_S = 0.003
"""How long cells are taken before others get on."""
UNSEALED_MAX = 1000
"""Cells that are looked at before they are sealed; more are sealed soon anyway."""
HELD_MAX = 8000
"""Cells that wait to be taken; the store has those that are more."""
WAITING_MAX = 200
"""Pieces of them that wait longer."""
POUR, POUR_S = 4000.0, 0.125
"""So many cells a second of another process, or what comes in so much time: it wants the machine for
itself."""
FIRST_ROUND = 1
"""In later ones a node that had ended may run again: not what is counted and left alone."""
COUNT_SHARE = 0.005
"""How much of the loop's time counting the items of maps may take."""
LOOK_S = 1.0
"""How often an execution's own row is read though nothing was written: an owner that is gone writes
nothing."""


def replaced(execution_id: str) -> str:
    """What is said to those who watched it."""
    return f"execution {execution_id} was deleted, and another one has its id: look again"


class Drawing:
    """An outline of a stored diagram: see `treadle.monitor.live.mirror.Outline`."""

    def __init__(self, known: Known | None) -> None:
        self._known = known
        self._types = {} if known is None else {str(node.id): node.type for node in known.spec.nodes}
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
        self.held = 0  # cells in them
        self.came = 0  # cells that have come since the last drain
        self._waiting: deque[Sequence[AnyCell]] = deque()  # ours, in pieces of one kind
        self._newest: list[AnyCell] = []  # of those that were let go of
        self._gone = -1  # the ticket of what was let go of and is to be read from the store; -1: nothing
        self._flood = False
        self._ticket = -1
        self._mark: Mark | None = None
        self._tally: Tally | None = None  # another process's, while it is counted
        self._version = -1
        self._looked = self._counted = 0.0
        self._drawn: str | None = None  # the hash of the diagram that the mirror knows
        self._lines = False  # whether lines were logged here since the last look
        self._replaced = False  # whether it was deleted, and another has its id
        self.pours = False  # whether another process writes very much
        engine = monitor.engine
        self._manager: StateManager | None = None if engine is None else engine.manager
        self._untap: Callable[[], None] | None = None
        self.tap()
        self._before = self._manager.ticket if self._manager is not None and self.local else -1

    def tap(self) -> None:
        """Hear of what is recorded here from now on; what was meanwhile is in the store."""
        if self._manager is not None and self._untap is None:
            self._untap = self._manager.tap(self._sealed)
            if self._mark is not None and self.local:
                self._gone = self._manager.ticket

    def rest(self) -> None:
        """Hear of nothing more: nobody looks. Who comes back wants to see what is there then."""
        self._looked = 0.0
        if self._untap is not None:
            self._untap()
            self._untap = None
            self._batches.clear()
            self._waiting.clear()
            self.held = 0

    @property
    def behind(self) -> bool:
        """Whether more has been recorded than was taken."""
        return self._lacks or self._mirror.figures is not None

    @property
    def _lacks(self) -> bool:
        return bool(self._waiting) or self._gone >= 0

    @property
    def local(self) -> bool:
        """Whether the engine in this process runs it."""
        return self._manager is not None and self._id in self._manager.leases

    def wants(self, version: int) -> bool:
        """Whether the store must be read."""
        if self._mark is None or self._lines or self._replaced or (self._gone >= 0 and not self._flood):
            return True
        late = time.monotonic() - self._looked >= LOOK_S
        counting = self.pours or self._tally is not None
        return not self.local and (version != self._version or late or counting)

    # What this process's engine records

    def _sealed(self, batch: Batch) -> None:
        """A batch goes to the writer."""
        self._batches.append(batch)
        self.held += len(batch.cells)
        self.came += len(batch.cells)
        if self._flood or self.held > HELD_MAX:
            self._let_go()

    def _let_go(self) -> None:
        """Keep no more than the newest nodes of what waits."""
        manager = self._manager
        assert manager is not None
        for batch in reversed(self._batches):
            newest = self._mine(batch.cells[-NEWEST:])
            if newest:
                self._newest = newest
                break
        self._waiting = deque(one for one in self._waiting if type(one[0]) is not NodeState)
        for batch in self._batches:
            self._add_others(batch)
        self._batches.clear()
        self.held, self._gone = 0, manager.ticket

    def drain(self, budget_s: float, *, sealed: bool = False, flood: bool = False) -> None:
        """Take what this process's engine has recorded, for at most so long; what is left comes next time.
        `sealed`: not what waits for the next batch, which would be taken again with it. `flood`: of nodes
        only the newest, with figures for all. On the loop."""
        manager, mirror = self._manager, self._mirror
        self._flood = flood and self.local
        if manager is None or not (self._batches or self._waiting or self.came or mirror.figures is not None
                                   or manager.ticket != self._ticket):
            return
        self._ticket, self.came = manager.ticket, 0
        if self._flood:
            self._let_go()
            self._take(self._newest)
            self._newest = []
        else:
            for batch in self._batches:
                self._add(batch.cells)
                self._add(batch.begun)
                self._add_others(batch)
            self._batches.clear()
            self.held = 0
        until = time.thread_time() + budget_s
        while self._waiting and time.thread_time() < until:
            mirror.take(self._waiting.popleft())
        if not (self._waiting or sealed or self._flood):
            nodes, executions, context = manager.unsealed()
            if len(nodes) <= UNSEALED_MAX:
                self._take(self._mine([*nodes, *executions, *context]))
        if len(self._waiting) > WAITING_MAX:
            self._waiting.clear()
            self._gone = manager.ticket
        if self._flood or (mirror.figures is not None and self._lacks):
            self._count()
        elif self._tally is None:
            mirror.count_by(None)
        if self.local:
            mirror.head(manager.owner, False)

    def _take(self, cells: list[AnyCell]) -> None:
        if cells:
            self._mirror.take(cells)

    def _count(self) -> None:
        """Tell the engine's own figures; items of maps as often as there is time for."""
        engine = self._monitor.engine
        handle = None if engine is None else engine.handle(self._id)
        if handle is None:
            return
        counts = handle.counts
        known = counts.pop("known", 0)
        counts["running"] += counts.pop("ready", 0)
        maps = {} if self._mirror.figures is None else dict(self._mirror.figures.groups)
        begun = time.thread_time()
        if begun >= self._counted:
            maps |= handle.maps()
            self._counted = begun + (time.thread_time() - begun) / COUNT_SHARE
        self._mirror.count_by(Figures(counts, known, maps))

    def _add_others(self, batch: Batch) -> None:
        """All of a batch but its nodes."""
        self._add(batch.executions)
        self._replaced = self._replaced or any(map(self._is_other, self._mine(batch.executions)))
        self._add([*batch.context.values(), *batch.begun_context])
        self._lines = self._lines or any(line.execution_id == self._id for line in batch.logs)

    def _add(self, cells: Sequence[AnyCell]) -> None:
        for start in range(0, len(cells), PIECE):
            piece = self._mine(cells[start:start + PIECE])
            if piece:
                self._waiting.append(piece)

    def _is_other(self, cell: AnyCell) -> bool:
        """Whether it is of an execution that was made with the same id after this one was deleted."""
        own = self._mirror.own
        return own is not None and isinstance(cell, ExecutionCell) and cell.created_at != own.created_at

    def _mine(self, cells: Iterable[AnyCell]) -> list[AnyCell]:
        mine = self._id
        return [cell for cell in cells if cell.execution_id == mine]

    # What the store has

    async def read(self, version: int) -> float:
        """Take what the store has that is new; how long the loop worked at that. NoSuchExecution,
        StoreError."""
        monitor, mirror = self._monitor, self._mirror
        cells = self._mark is None or not self.local or self._gone >= 0
        if cells and self._manager is not None:
            await self._written(self._manager)
        seconds, self._looked = time.monotonic() - self._looked, time.monotonic()
        self._version, self._lines = version, False
        first = self._mark is None
        counted = (self._tally or Tally()) if self.pours else None
        found = await monitor.read(
            partial(monitor.store.changes, self._id, self._mark, cells=cells, counted=counted))
        if first:  # what was on its way to the store as we came is read later
            self._gone = max(self._gone, self._before)
        if self._replaced or self._is_other(found.own):
            raise StoreError(replaced(self._id))
        own, figures = found.own, None if found.tally is None else Figures.of(found.tally)
        self.pours = self._came(found, figures) > POUR * min(seconds, POUR_S) and (
            own.round == FIRST_ROUND and not own.status.terminal and not self.local)
        self._mark, self._tally = found.mark, found.tally
        begun, spent = time.thread_time(), 0.0
        mirror.take(chain([own], found.context))
        for start in range(0, len(found.cells), PIECE):
            mirror.take(found.cells[start:start + PIECE])
            if time.thread_time() - begun >= BREATH_S:  # the first look at a large one brings very many
                spent += time.thread_time() - begun
                await asyncio.sleep(0)
                begun = time.thread_time()
        if figures is not None or not self._lacks:
            mirror.count_by(figures)
        spent += time.thread_time() - begun
        if not self.local:
            mirror.head(found.owner, found.stale)
        mirror.tell("last_log", found.last_log)
        if self._drawn != own.diagram:
            self._drawn = own.diagram
            mirror.draw(Drawing(await monitor.read(monitor.drawings.of, monitor.store, own.diagram)))
        return spent

    def _came(self, found: Changes, figures: Figures | None) -> int:
        """How many nodes another process has begun since the last look, of which this is what was found."""
        before = self._mirror.figures
        if figures is None:
            return len(found.cells) if self._tally is None else 0  # 0: what had been counted was read now
        return figures.told - (0 if before is None or self._tally is None else before.told)

    async def _written(self, manager: StateManager) -> None:
        """Wait until the store has what was let go of."""
        gone, self._gone = self._gone, -1
        if gone >= 0:
            done = asyncio.get_running_loop().create_future()
            manager.when_durable(gone, lambda: None if done.done() else done.set_result(None))
            if not (await asyncio.wait({done}, timeout=LOOK_S))[0]:
                self._gone = max(self._gone, gone)  # the disk is slow, or the writer dead: once more, later
