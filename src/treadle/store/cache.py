"""What is known of executions that somebody reads: a cache for each, with a lock of its own.

An execution gets its cache when it is first read: what the store has, joined (law 1) with what is still on
its way there. From then on every update goes into it when it is queued, so that a read right after an update
sees it, and none of it waits for a disk. An execution that nobody reads costs nothing. A cache that holds
updates which are not written yet is never evicted; the others go when they have not been read for `ttl_s`
seconds, or when there are too many, those read longest ago first.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable, Sequence

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.state.cell import (
    CellKey,
    ExecutionCell,
    ExecutionState,
    NodeState,
    StateHome,
    join_cells,
    turn_of,
)
from treadle.undo import undone


class ExecutionCache:
    """One execution's cells. Every method takes `lock`, which is this execution's alone, for the time of a
    few look-ups; whoever wants several of them to be one step holds it around them."""

    __slots__ = ("_cells", "_latest", "_waiting", "cell", "execution_id", "lock", "pinned", "read_at",
                 "ticket")

    def __init__(self, execution_id: str) -> None:
        self.execution_id = execution_id
        self.lock = threading.RLock()
        self.cell: ExecutionCell | None = None
        self.ticket = 0  # of the newest update in it
        self.read_at = 0.0
        self.pinned = False  # never evicted: updates are made from it
        self._cells: dict[CellKey, NodeState] = {}
        self._latest: dict[str, NodeState] = {}
        self._waiting: deque[tuple[Sequence[NodeState], ExecutionCell | None]] = deque()

    def __len__(self) -> int:
        return len(self._cells)

    def join(self, cells: Iterable[NodeState], execution: ExecutionCell | None = None, *,
             ticket: int = 0) -> None:
        """Take cells in, in any order and any number of times. `ticket` is the update's that they are of;
        0 for cells that the store has."""
        with self.lock:
            self._take()
            self._join(cells, execution, ticket)

    def offer(self, cells: Sequence[NodeState], execution: ExecutionCell | None, ticket: int) -> None:
        """The same without ever waiting for the lock: if somebody holds it, the cells are taken in when it is
        asked for next."""
        self.ticket = max(self.ticket, ticket)
        self._waiting.append((cells, execution))
        if self.lock.acquire(blocking=False):
            try:
                self._take()
            finally:
                self.lock.release()

    def _take(self) -> None:
        while self._waiting:
            self._join(*self._waiting.popleft(), 0)

    def _join(self, cells: Iterable[NodeState], execution: ExecutionCell | None, ticket: int) -> None:
        self.ticket = max(self.ticket, ticket)
        if execution is not None:
            self.cell = execution if self.cell is None else join_cells(self.cell, execution)
        for cell in cells:
            known = self._cells.get(cell.key)
            joined = self._cells[cell.key] = cell if known is None else join_cells(known, cell)
            newest = self._latest.get(cell.node_id)
            if newest is None or turn_of(joined) >= turn_of(newest):
                self._latest[cell.node_id] = joined

    def get_node_state(self, node_id: str, iteration: str | None = None,
                       attempt: int | None = None) -> NodeState | None:
        """The newest cell of a node, or of one of its iterations or attempts; None if there is none."""
        with self.lock:
            self._take()
            if iteration is None and attempt is None:
                return self._latest.get(node_id)
            if iteration is not None and attempt is not None:
                return self._cells.get(CellKey(self.execution_id, node_id, iteration, attempt))
            found = [cell for cell in self._cells.values()
                     if cell.node_id == node_id and iteration in (None, cell.iteration)
                     and attempt in (None, cell.attempt)]
        return max(found, key=turn_of, default=None)

    def state(self, home: StateHome | None = None) -> ExecutionState | None:
        """All of it as it is now; None as long as the execution's own cell is not known."""
        with self.lock:
            self._take()
            return None if self.cell is None else ExecutionState.of(self.cell, dict(self._cells), home)


Read = Callable[[str], Awaitable[tuple[ExecutionCell, Sequence[NodeState]]]]
Pending = Callable[[str], tuple[ExecutionCell | None, list[NodeState], int]]


class ExecutionStateCache:
    """The caches of executions by id. `get` belongs to one event loop; a cache itself may be used anywhere.

    `read` reads an execution from the store; `pending` gives what is queued for it and up to which ticket;
    `written` tells up to which ticket updates are on disk. `stats` counts hits, misses and evictions.
    """

    def __init__(self, read: Read, *, pending: Pending = lambda execution_id: (None, [], 0),
                 written: Callable[[], int] = lambda: 0, config: TreadleConfig = DEFAULT_CONFIG,
                 now: Callable[[], float] = time.monotonic) -> None:
        self.ttl_s = config.state_cache_ttl_s
        self.stats = {"hits": 0, "misses": 0, "evicted": 0}
        self._read, self._pending, self._written, self._now = read, pending, written, now
        self._executions_max = config.state_cache_executions_max
        self._cells_max = config.state_cache_cells_max
        self._caches: OrderedDict[str, ExecutionCache] = OrderedDict()  # those read longest ago first
        self._loading: dict[str, asyncio.Task[ExecutionCache]] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._caches)

    def __contains__(self, execution_id: object) -> bool:
        return execution_id in self._caches

    async def get(self, execution_id: str) -> ExecutionCache:
        """An execution's cache, read from the store if need be; NoSuchExecution.

        Who waits for one execution waits for no other, and several who want the same one share one read.
        """
        task, found = self._loading.get(execution_id), self._caches.get(execution_id)
        if found is not None and task is None:
            self.stats["hits"] += 1
            return self._touch(found)
        if task is None:
            self.stats["misses"] += 1
            task = self._loading[execution_id] = asyncio.get_running_loop().create_task(
                self._load(execution_id), name=f"treadle read {execution_id}")
            task.add_done_callback(lambda _: self._loading.pop(execution_id, None))
        return await asyncio.shield(task)

    async def _load(self, execution_id: str) -> ExecutionCache:
        cache = self.open(execution_id)  # from here on it is fed, so that nothing slips through the read
        with undone(self._caches.pop, execution_id, None):
            own, cells = await self._read(execution_id)
        cache.join(cells, own)
        self.clean_up()
        return cache

    def open(self, execution_id: str) -> ExecutionCache:
        """A cache with what is queued for an execution, and nothing of what the store has."""
        found = self._caches.get(execution_id)
        if found is None:
            found = self._caches[execution_id] = ExecutionCache(execution_id)
            own, cells, ticket = self._pending(execution_id)
            found.join(cells, own, ticket=ticket)
        return self._touch(found)

    def feed(self, cells: Sequence[NodeState], execution: ExecutionCell | None, ticket: int) -> None:
        """Updates have been queued: take in those of executions that are cached."""
        for execution_id in {cell.execution_id for cell in cells} | (
                set() if execution is None else {execution.execution_id}):
            cache = self._caches.get(execution_id)
            if cache is not None:
                own = execution if execution is not None and execution.execution_id == execution_id else None
                cache.offer([cell for cell in cells if cell.execution_id == execution_id], own, ticket)

    def drop(self, execution_id: str) -> None:
        """Forget an execution: its owner is another one now, it was deleted, or a cell could not be
        written."""
        self._caches.pop(execution_id, None)

    def dirty(self, cache: ExecutionCache) -> bool:
        """Whether a cache has updates that are not on disk yet."""
        return cache.ticket > self._written()

    def clean_up(self) -> int:
        """Evict what has not been read for `ttl_s` seconds, and the oldest of too many; how many went. What
        is dirty stays. Called by itself, too."""
        now = self._now()
        cells = sum(len(cache) for cache in self._caches.values())
        gone = 0
        for execution_id, cache in list(self._caches.items()):
            crowded = cells > self._cells_max or len(self._caches) > self._executions_max
            if not crowded and now - cache.read_at < self.ttl_s:
                break  # those behind it were read later
            if cache.pinned or self.dirty(cache) or execution_id in self._loading:
                continue
            del self._caches[execution_id]
            cells -= len(cache)
            gone += 1
        self.stats["evicted"] += gone
        return gone

    def close(self) -> None:
        """Forget everything."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._caches.clear()

    def _touch(self, cache: ExecutionCache) -> ExecutionCache:
        cache.read_at = self._now()
        self._caches.move_to_end(cache.execution_id)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self.ttl_s / 4, self._cleaning)
        return cache

    def _cleaning(self) -> None:
        self._timer = None
        self.clean_up()
        if self._caches:
            self._timer = asyncio.get_running_loop().call_later(self.ttl_s / 4, self._cleaning)
