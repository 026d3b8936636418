"""The state manager: everything that is to be durable goes through here, and nobody waits for it.

`record` keeps cells by key, the newest of each (the join), until a batch is due: when `batch_size` updates wait, the
oldest has waited `batch_interval`, on flush and on stop. The loop seals a batch, one writer thread writes it as one
transaction. While the thread is busy the backlog joins into the next batch, so batches grow with the load and
those who wait for an fsync together are committed together.

The class has two faces. `StateManager(store=…)` serves an engine with many executions. `StateManager(execution_id=…)`
is the documented queue for one execution: it creates or claims it at `start`, and an update makes the next whole cell
from the cached one.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from treadle import failpoints
from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import LeaseLost, NoSuchExecution, StoreClosed, StoreError
from treadle.state import codec
from treadle.state.cell import CellKey, ErrorInfo, ExecutionCell, NodeState, instant, join_cells
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Batch, Lease, Store, Written
from treadle.store.owner import this_owner
from treadle.store.writer import Job, Writer

_T = TypeVar("_T")
logger = logging.getLogger("treadle.store")

UNCHANGED: Final[Any] = msgspec.UNSET
"""What an argument of `update_node_state` means that is left out."""
CELL_BYTES = 200
"""What a cell counts beside its payloads."""
_ALIASES = {"completed_at": "ended_at", "failed_at": "ended_at", "last_error": "error"}
_INSTANTS = ("scheduled_at", "started_at", "ended_at", "wake_at")


class StateUpdate(msgspec.Struct, frozen=True):
    """One request to change a cell: which one, and its fields by name."""

    node_id: str
    iteration: str
    attempt: int | None
    changes: dict[str, Any]


class Sealed:
    """A batch on its way, with what must be told when it has arrived."""

    __slots__ = ("batch", "counts", "size", "ticket", "updates")

    def __init__(self, batch: Batch, counts: dict[CellKey, int], updates: int, ticket: int, size: int) -> None:
        self.batch, self.counts, self.updates, self.ticket, self.size = batch, counts, updates, ticket, size


class StateManager:
    """See the module. All methods belong to the event loop that called `start`, `update_node_state` excepted."""

    def __init__(self, execution_id: str | None = None, *, store: Store | None = None, run_id: str | None = None,
                 batch_size: int | None = None, batch_interval: float | None = None,
                 config: TreadleConfig = DEFAULT_CONFIG) -> None:
        if store is None:
            from treadle.store import default_store_url, open_store
            store = open_store(default_store_url())
            self._owns_store = True
        else:
            self._owns_store = False
        self.store = store
        self.config = config
        self.execution_id = execution_id or run_id
        self.batch_size = batch_size or config.batch_size
        self.batch_interval = config.batch_interval_s if batch_interval is None else batch_interval
        self.owner = this_owner()
        self.leases: dict[str, Lease] = {}
        self.stats: dict[str, int] = {"updates_queued": 0, "updates_processed": 0, "batches_written": 0, "errors": 0,
                                      "rows_written": 0, "retries": 0}
        self._dirty: dict[CellKey, NodeState] = {}
        self._originals: dict[CellKey, int] = {}  # updates behind a dirty cell, where more than one
        self._executions: dict[str, ExecutionCell] = {}
        self._consumed: list[int] = []
        self._blobs: list[tuple[str, bytes]] = []
        self._created: list[tuple[ExecutionCell, str]] = []
        self._released: list[Lease] = []
        self._taken: set[str] = set()  # ids that somebody had already
        self._bytes = 0
        self._strict = False
        self._urgent = False  # somebody waits: seal as soon as the writer is free
        self._exact = batch_size is not None
        self._queued = 0  # updates in the dirty cells
        self._ticket = 0
        self._flushed = 0  # the last ticket that is on disk
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._flight: deque[Sealed] = deque()
        self._flight_cells = 0
        self._flight_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._room: asyncio.Event = asyncio.Event()
        self._cache: dict[CellKey, NodeState] = {}  # cells of the documented face
        self._latest: dict[str, NodeState] = {}
        self._lost: dict[str, int] = {}
        self._on_lost: Callable[[str, int], None] | None = None
        self._on_dead: Callable[[BaseException], None] | None = None
        self._on_written: Callable[[], None] | None = None
        self._seen_version = 0
        self._renewed = 0.0
        self._dead: BaseException | None = None
        self._closing = False
        self._stopped: asyncio.Future[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None
        self._thread = 0
        self.congested = False

    # Life

    async def start(self) -> None:
        """Start the writer thread; with an `execution_id`, create or claim that execution and load its cells."""
        if self._loop is not None:
            raise StoreClosed("a StateManager is started once: make a new one")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._writer = Writer(self.store, self._tell, idle=self._idle, idle_s=self.config.watch_interval_s,
                              pause_s_max=self.config.write_retry_s_max)
        self._readers = ThreadPoolExecutor(2, thread_name_prefix="treadle reader")
        self._renewed = time.monotonic()
        self._writer.start()
        if self.execution_id is not None:
            try:
                await self._open_own(self.execution_id)
            except BaseException:
                await self.stop()
                raise

    async def _open_own(self, execution_id: str) -> None:
        try:
            await self.claim(execution_id)
        except NoSuchExecution:
            await self.create(ExecutionCell(execution_id, epoch=1, status=ExecutionStatus.RUNNING,
                                            created_at=time.time()), "")
        _, cells = await self.read(self.store.load, execution_id)
        for cell in cells:
            self._remember(cell)

    async def stop(self, timeout: float | None = None) -> None:
        """Write what waits, end the thread, give the leases back. Never raises for a slow disk: what could not be
        written within `timeout` seconds stays queued (see `queue_depth`), and a second `stop` tries again."""
        if self._loop is None or self._writer is None:
            return
        if self._stopping is None or self._stopping.done() and self.queue_depth and self._writer.alive:
            self._closing = True
            self._stopping = self._loop.create_task(self._stop(), name="treadle stop")
        patience = self.config.stop_s_max if timeout is None else timeout
        # The flush goes on whatever happens to whoever waits for it: a stop that is cancelled half-way loses nothing.
        interrupted: asyncio.CancelledError | None = None
        until = self._loop.time() + patience
        while not self._stopping.done():
            left = until - self._loop.time()
            if left <= 0:
                break
            try:
                await asyncio.wait({self._stopping}, timeout=left)
            except asyncio.CancelledError as error:
                interrupted = error
        if not self._stopping.done():
            logger.warning("%d updates are not written after %g s (%s): they stay queued, stop again to write them",
                           self.queue_depth, patience, self._writer.trouble or "the disk is slow")
        if interrupted is not None:
            raise interrupted

    async def _stop(self) -> None:
        writer = self._writer
        assert writer is not None
        try:
            self._released.extend(self.leases.values())
            self.leases.clear()
            await self._soon()
        except StoreError as error:
            logger.error("stopped with %d updates unwritten: %s", self.queue_depth, error)
        writer.stop()
        while writer.alive:
            await asyncio.sleep(0.001)
        if self._readers is not None:
            self._readers.shutdown(wait=False)
        if self._owns_store:
            self.store.close()

    @property
    def queue_depth(self) -> int:
        """Updates that are not on disk yet."""
        return self._queued + sum(one.updates for one in self._flight)

    @property
    def trouble(self) -> str | None:
        """Why the store can't be written at the moment, or None."""
        return None if self._writer is None else self._writer.trouble

    # Executions

    async def create(self, cell: ExecutionCell, source: str) -> Lease:
        """Write a new execution, claimed for us; durable on return. ValueError if the id is taken."""
        self._created.append((cell, source))
        await self._soon()
        if cell.execution_id in self._taken:
            self._taken.discard(cell.execution_id)
            raise ValueError(f"there is an execution {cell.execution_id!r} already: choose another id")
        lease = self.leases[cell.execution_id] = Lease(cell.execution_id, 1)
        return lease

    async def claim(self, execution_id: str) -> Lease:
        """Take an execution over: `LeaseHeld` that names a live owner, `NoSuchExecution`."""
        lease: Lease = await self.call(self.store.claim, execution_id, self.owner, self.config.lease_s)
        self.leases[execution_id] = lease
        self._lost.pop(execution_id, None)
        return lease

    async def release(self, execution_id: str) -> None:
        """Write what waits of an execution and give its lease back."""
        lease = self.leases.pop(execution_id, None)
        if lease is not None:
            self._released.append(lease)
            await self._soon()

    async def _soon(self) -> None:
        """Have what waits written with the next batch, shared with whoever else waits, and wait for it."""
        self._ticket += 1
        self._urgent = True
        await self.durable(self._ticket)

    def on_lost(self, callback: Callable[[str, int], None]) -> None:
        """Call back with (execution id, epoch that holds it now) when somebody took an execution from us."""
        self._on_lost = callback

    def on_dead(self, callback: Callable[[BaseException], None]) -> None:
        """Call back when the writer has died: nothing is written any more."""
        self._on_dead = callback

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call back on the loop after another process has written; None ends it."""
        self._on_written = callback

    # Recording: the hot path

    def record(self, cells: Sequence[NodeState], execution: ExecutionCell | None = None, *,
               consumed: Sequence[int] = (), blobs: Sequence[tuple[str, bytes]] = (), strict: bool = False) -> int:
        """Queue a step. Its cells are written in one transaction; the ticket is for `when_durable`.

        The caller is the one owner of the cells' executions, so a later cell of a key is the larger version: the join
        is to keep it. Raises StoreError if the writer is dead.
        """
        if self._dead is not None:
            raise StoreError(f"the state writer has died: {self._dead}") from self._dead
        dirty = self._dirty
        size = 0
        for c in cells:
            key = (c.execution_id, c.node_id, c.iteration, c.attempt)
            if key in dirty:
                self._originals[key] = self._originals.get(key, 1) + 1
            dirty[key] = c  # type: ignore[index]
            if c.output is not None:
                size += len(c.output)
            if c.items is not None or c.request is not None:
                size += len(c.items or b"") + len(c.request or b"")
        count = len(cells)
        if execution is not None:
            self._executions[execution.execution_id] = execution
        if consumed:
            self._consumed.extend(consumed)
        if blobs:
            self._blobs.extend(blobs)
            size += sum(len(content) for _, content in blobs)
        self._queued += count
        self.stats["updates_queued"] += count
        self._bytes += size + CELL_BYTES * count
        self._ticket += 1
        if strict:
            self._strict = self._urgent = True
            if not self._flight:
                self._seal()
        elif len(dirty) >= self.batch_size or self._bytes >= self.config.batch_bytes_max or (
                self._exact and self._queued >= self.batch_size):
            self._seal()
        if self._timer is None and (dirty or self._executions or self._consumed):
            assert self._loop is not None
            self._timer = self._loop.call_later(self.batch_interval, self._due)
        return self._ticket

    def _due(self) -> None:
        self._timer = None
        if len(self._flight) < 2:
            self._seal()
        else:
            self._urgent = True  # what waits meanwhile joins into the same batch

    def _seal(self) -> None:
        self._urgent = False
        if not (self._dirty or self._executions or self._consumed or self._blobs or self._created or self._released):
            if not self._flight:
                self._arrived(self._ticket)
            return
        if failpoints.armed:
            failpoints.hit("seal.before")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch = Batch(list(self._dirty.values()), list(self._executions.values()), self._consumed, self._blobs,
                      self._strict, self._created, self._released, self.owner, self.config.lease_s)
        sealed = Sealed(batch, self._originals, self._queued, self._ticket, self._bytes)
        self._dirty, self._originals, self._executions, self._consumed, self._blobs = {}, {}, {}, [], []
        self._created, self._released = [], []
        self._flight_cells += len(batch.cells)
        self._flight_bytes += self._bytes
        self._bytes = self._queued = 0
        self._strict = False
        self._flight.append(sealed)
        assert self._writer is not None
        self._writer.put(Job(batch, None, self._written))
        if self._flight_cells > self.config.backlog_cells_max or self._flight_bytes > self.config.backlog_bytes_max:
            self.congested = True
            self._room.clear()
        if failpoints.armed:
            failpoints.hit("seal.after")

    def _tell(self, job: Job) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(job.done, job)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            pass

    def _written(self, job: Job) -> None:
        """A batch came back from the writer."""
        sealed = self._flight.popleft()
        self._flight_cells -= len(sealed.batch.cells)
        self._flight_bytes -= sealed.size
        if job.error is not None:
            self._die(job.error, sealed)
            return
        written: Written = job.result
        bad = sum(sealed.counts.get(key, 1) for key, _ in written.failed)
        for key, reason in written.failed:
            logger.error("the cell %s can't be written and is left out: %s", tuple(key), reason)
        if written.refused:
            bad += sum(sealed.counts.get(cell.key, 1) for cell in sealed.batch.cells
                       if cell.execution_id in written.refused)
            for execution_id, epoch in written.refused.items():
                self._lose(execution_id, epoch)
        self._taken.update(written.taken)
        self.stats["updates_processed"] += sealed.updates - bad
        self.stats["errors"] += bad
        self.stats["batches_written"] += 1
        self.stats["rows_written"] += len(sealed.batch.cells) - len(written.failed)
        if self.congested and self._flight_cells <= self.config.backlog_cells_max // 2 and \
                self._flight_bytes <= self.config.backlog_bytes_max // 2:
            self.congested = False
            self._room.set()
        if self._urgent:
            self._seal()
        self._arrived(sealed.ticket)

    def _arrived(self, ticket: int) -> None:
        self._flushed = ticket
        while self._waiting and self._waiting[0][0] <= ticket:
            self._waiting.popleft()[1]()

    def _die(self, error: BaseException, sealed: Sealed) -> None:
        self._dead = error
        self._queued += sealed.updates
        logger.critical("the state writer has died, %d updates are not written: %s", self.queue_depth, error)
        if self._on_dead is not None:
            self._on_dead(error)
        waiting, self._waiting = self._waiting, deque()
        for _, callback in waiting:
            callback()
        self._room.set()

    def _lose(self, execution_id: str, epoch: int) -> None:
        self.leases.pop(execution_id, None)
        if execution_id not in self._lost:
            self._lost[execution_id] = epoch
            if self._on_lost is not None:
                self._on_lost(execution_id, epoch)

    # Waiting

    def when_durable(self, ticket: int, callback: Callable[[], None]) -> None:
        """Call back on the loop once the batch with this ticket is committed (fsynced, if it was strict)."""
        if ticket <= self._flushed:
            callback()
        else:
            self._waiting.append((ticket, callback))

    async def durable(self, ticket: int) -> None:
        """Wait until the batch with this ticket is committed. StoreError if the writer has died."""
        if ticket > self._flushed:
            assert self._loop is not None
            done = self._loop.create_future()
            self._urgent = True
            if not self._flight:
                self._seal()
            self.when_durable(ticket, lambda: None if done.done() else done.set_result(None))
            await done
        if self._dead is not None and ticket > self._flushed:
            raise StoreError(f"the state writer has died: {self._dead}") from self._dead

    async def flush(self, sync: bool = False) -> None:
        """Write what waits; return when it is committed (with `sync`: fsynced)."""
        if sync:
            self._strict = True
        self._seal()
        if self._flight:
            await self.durable(self._flight[-1].ticket)

    async def room(self) -> None:
        """Wait while the backlog is over its limits."""
        while self.congested and self._dead is None:
            self._room.clear()
            await self._room.wait()

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a writing method of the store on the writer thread."""
        assert self._loop is not None and self._writer is not None
        done: asyncio.Future[_T] = self._loop.create_future()

        def finish(job: Job) -> None:
            if done.done():
                return
            if job.error is not None:
                done.set_exception(job.error)
            else:
                done.set_result(job.result)

        self._writer.put(Job(None, lambda: function(*args), finish))
        return await done

    async def read(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a reading method of the store on a reader thread."""
        assert self._loop is not None and self._readers is not None
        return await self._loop.run_in_executor(self._readers, function, *args)

    def _idle(self) -> None:
        """On the writer thread, every `watch_interval_s`: renew leases that are due, see whether others wrote."""
        now = time.monotonic()
        leases = list(self.leases.values())
        if now - self._renewed >= self.config.lease_s / 3:
            self._renewed = now
            if leases:
                try:
                    lost = self.store.renew(leases, self.owner, self.config.lease_s)
                except Exception as error:  # noqa: BLE001 - a busy store: the next tick tries again
                    self._renewed = now - self.config.lease_s / 3 + 0.5
                    logger.warning("leases could not be renewed, trying again: %s", error)
                else:
                    for execution_id in lost:
                        self._post(self._lose, execution_id, 0)
        if self._on_written is not None:
            version = self.store.version()
            if version != self._seen_version:
                self._seen_version = version
                self._post(self._announce)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            pass

    def _announce(self) -> None:
        if self._on_written is not None:
            self._on_written()

    # The documented face: updates of one execution

    async def update_node_state(self, node_id: str, *, status: NodeStatus | str = UNCHANGED,
                                iteration: str = "1", attempt: int | None = None, **changes: Any) -> None:
        """Queue the next cell of a node; returns at once.

        Fields are those of `NodeState`, with `completed_at` and `failed_at` for `ended_at` and `last_error` for
        `error`. An argument left out means "unchanged", None clears; `attempt` opens or names an attempt (by default
        the newest). Instants are datetimes or seconds. `output` is any value the codec knows. From another thread the
        update is handed to the manager's loop and awaited there. StoreClosed after `stop`; LeaseLost when another
        owner took the execution over; ValueError or TypeError for a wrong argument.
        """
        update = StateUpdate(node_id, iteration, attempt, self._changes(status, changes))
        if threading.get_ident() != self._thread and self._loop is not None:
            future = asyncio.run_coroutine_threadsafe(self._apply(update), self._loop)
            await asyncio.wrap_future(future)
            return
        self._update(update)

    async def _apply(self, update: StateUpdate) -> None:
        self._update(update)

    def _changes(self, status: NodeStatus | str, changes: dict[str, Any]) -> dict[str, Any]:
        known = NodeState.__struct_fields__
        out: dict[str, Any] = {}
        if status is not UNCHANGED:
            out["status"] = NodeStatus(status)
        for name, value in changes.items():
            field = _ALIASES.get(name, name)
            if field not in known or field in ("execution_id", "epoch", "seq"):
                raise TypeError(f"a cell has no field {name!r}; fields are {', '.join(known)}")
            if value is None or value is UNCHANGED:
                if value is None:
                    out[field] = None
            elif field in _INSTANTS:
                out[field] = instant(value)
            elif field == "error":
                out[field] = value if isinstance(value, ErrorInfo) else ErrorInfo("Error", str(value))
            elif field in ("output", "meta", "request", "items"):
                out[field] = codec.encode(value)
            else:
                out[field] = value
        return out

    def _update(self, update: StateUpdate) -> None:
        execution_id = self.execution_id
        if execution_id is None:
            raise TypeError("update_node_state needs a StateManager made with an execution_id")
        if self._loop is None or self._closing:
            raise StoreClosed(f"the state manager of {execution_id} is {'stopped' if self._closing else 'not started'}: "
                              "the update was refused")
        if execution_id in self._lost:
            raise LeaseLost(f"execution {execution_id} was taken over by another owner: the update was refused")
        newest = self._latest.get(update.node_id)
        attempt = update.attempt if update.attempt is not None else (
            newest.attempt if newest is not None and newest.iteration == update.iteration else 1)
        key = CellKey(execution_id, update.node_id, update.iteration, attempt)
        known = self._cache.get(key)
        epoch = self.leases[execution_id].epoch
        if known is None:
            cell = NodeState(execution_id, update.node_id, update.iteration, attempt, epoch, 1, **update.changes)
        else:
            cell = msgspec.structs.replace(known, epoch=epoch, seq=known.seq + 1, **update.changes)
        self._remember(cell)
        self.record([cell])

    def _remember(self, cell: NodeState) -> None:
        known = self._cache.get(cell.key)
        self._cache[cell.key] = cell if known is None else join_cells(known, cell)
        newest = self._latest.get(cell.node_id)
        if newest is None or _order(cell) >= _order(newest):
            self._latest[cell.node_id] = self._cache[cell.key]

    def get_node_state(self, node_id: str, iteration: str | None = None, attempt: int | None = None) -> NodeState | None:
        """The newest cell of a node, or of one of its iterations or attempts; frozen. None if there is none."""
        if iteration is None and attempt is None:
            return self._latest.get(node_id)
        found = [cell for cell in self._cache.values()
                 if cell.node_id == node_id and iteration in (None, cell.iteration) and attempt in (None, cell.attempt)]
        return max(found, key=_order, default=None)


def _order(cell: NodeState) -> tuple[tuple[int, ...], int]:
    return tuple(int(turn) for turn in cell.iteration.split(".")), cell.attempt
