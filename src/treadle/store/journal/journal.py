"""The single way to the disk: cells go in from the event loop, one writer thread makes transactions of them.

`record` keeps cells by key, the newest of each (the join), until a batch is due: when `batch_size` updates
wait, the oldest has waited `batch_interval`, on flush and on stop. The loop seals a batch, one writer thread
writes it as one transaction. While the thread is busy the backlog joins into the next batch, so batches grow
with the load and those who wait for an fsync together are committed together.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from treadle import failpoints
from treadle.aio.manager import get_loop_manager
from treadle.config import TreadleConfig
from treadle.errors import StoreClosed, StoreError
from treadle.ids import check_execution_id
from treadle.state.cell import CellKey, ContextCell, ExecutionCell, NodeState
from treadle.store.base import Batch, Lease, Store, Written
from treadle.store.cache import ExecutionStateCache
from treadle.store.journal.handover import EVERY_S, Handover
from treadle.store.journal.trouble import Trouble
from treadle.store.journal.watch import Watch
from treadle.store.journal.writer import Job, Sealed, Writer
from treadle.store.owner import this_owner

_T = TypeVar("_T")
logger = logging.getLogger("treadle.store")

CELL_BYTES = 200
"""What a cell counts beside its payloads."""
BATCH_MIN = 800
"""Cells that make a batch while the writer has nothing to do: so most is written when the work is done."""
LOOK_EVERY = 32
"""After how many cells more to look again whether a busy writer is free."""


class Journal:
    """The engine's face of `StateManager`. All methods belong to the event loop that called `start`."""

    cache: ExecutionStateCache
    _on_seal: Callable[[Batch], None]  # first of all it is the store's `seal`

    def __init__(self, store: Store, *, batch_size: int | None, batch_interval: float | None,
                 config: TreadleConfig) -> None:
        self.store = store
        self.config = config
        self.batch_size = batch_size or config.batch_size
        self.batch_interval = config.batch_interval_s if batch_interval is None else batch_interval
        self.owner = this_owner()
        self.leases: dict[str, Lease] = {}
        self.stats: dict[str, int] = {"updates_queued": 0, "updates_processed": 0, "batches_written": 0,
                                      "errors": 0, "rows_written": 0, "retries": 0}
        self.congested = False
        self._dirty, self._executions = dict[CellKey, NodeState](), dict[str, ExecutionCell]()
        self._originals: dict[CellKey, int] = {}  # updates behind a dirty cell, where more than one
        self._next = self._new_batch()  # all but its cells and executions
        self._unmade, self._undrawn = dict[str, Exception](), set[str]()  # new executions: see Written
        self._making = set[str]()  # ids on their way
        self._bytes, self._urgent = 0, False  # somebody waits: seal as soon as the writer is free
        self._exact = batch_size is not None
        self._batch_min = self.batch_size if self._exact else min(BATCH_MIN, self.batch_size)
        self._look_at = self._batch_min  # dirty cells at which to look whether a batch is due
        self._bytes_max = config.batch_bytes_max
        self._queued = 0  # updates in the dirty cells
        self._ticket = self._flushed = 0  # the newest, and the newest that is on disk
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._awaited, self._flight = set[asyncio.Future[None]](), deque[Sealed]()
        self._flight_cells = self._flight_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._pausing: asyncio.TimerHandle | None = None
        self._room, self._lost = asyncio.Event(), dict[str, int]()
        self._on_lost: Callable[[str, int], None] | None = None
        self._on_dead: Callable[[BaseException], None] | None = None
        self._on_signal: Callable[[], None] | None = None
        self._watch = Watch(store, self.owner, self.leases, config,
                            lost=lambda lease: self._post(self._lose_lease, lease),
                            heard=lambda: self._post(self._heard))
        self._trouble, self._closing, self._thread = Trouble(lambda: self.queue_depth), False, 0
        self._dead: BaseException | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._writer: Writer | None = None
        self._readers: ThreadPoolExecutor | None = None

    # Life

    async def start(self) -> None:
        """Start the writer thread."""
        if self._loop is not None:
            raise StoreClosed("a StateManager is started once: make a new one")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._writer = Writer(
            self.store, self._tell, idle=self._watch.turn, idle_s=self._watch.idle_s,
            pause_s_max=self.config.write_retry_s_max, retried=lambda: self._post(self._retried))
        self.handover = Handover(self._writer)
        self._readers = get_loop_manager().register_executor(
            ThreadPoolExecutor(2, thread_name_prefix="treadle reader"))
        self._writer.start()

    async def stop(self, timeout: float | None = None) -> None:
        """Write what waits, end the thread, give the leases back. Never raises for a slow disk: what could
        not be written within `timeout` seconds stays queued (see `queue_depth`), and a second `stop` waits
        for it again."""
        if self._loop is None or self._writer is None:
            return
        if self._stopping is None:
            self._closing = True
            self._stopping = self._loop.create_task(self._stop(), name="treadle stop")
        patience = self.config.stop_s_max if timeout is None else timeout
        # The flush goes on whatever happens to whoever waits for it: a stop cancelled half-way loses nothing.
        interrupted: asyncio.CancelledError | None = None
        until = self._loop.time() + patience
        while not self._stopping.done() and (left := until - self._loop.time()) > 0:
            try:
                await asyncio.wait({self._stopping}, timeout=left)
            except asyncio.CancelledError as error:
                interrupted = error
        if not self._stopping.done():
            logger.warning("%d updates are not written after %g s (%s): they wait, stop again for them",
                           self.queue_depth, patience, self._writer.trouble or "the disk is slow")
        if interrupted is not None:
            raise interrupted

    async def _stop(self) -> None:
        writer = self._writer
        assert writer is not None
        try:
            await self.call(lambda: None)  # what was put before, a claim perhaps, is done
            self._next.released.extend(self.leases.values())
            self.leases.clear()
            await self._soon()
        except StoreError as error:
            logger.error("stopped with %d updates unwritten: %s", self.queue_depth, error)
        await self.call(lambda: None)
        writer.stop()
        if self._readers is not None:
            self._readers.shutdown(wait=False)

    @property
    def queue_depth(self) -> int:
        """Updates that are not on disk yet."""
        return self._queued + sum(one.updates for one in self._flight)

    @property
    def trouble(self) -> str | None:
        """Why the store can't be written at the moment, or None."""
        return None if self._writer is None else self._writer.trouble

    # Executions

    async def create(self, cell: ExecutionCell, source: str, cells: Sequence[NodeState] = (), *,
                     context: Sequence[ContextCell] = (), draw: Callable[[], str] | None = None) -> Lease:
        """Write a new execution, claimed for us, with the cells that it begins with; committed on return.
        `draw` gives a source that the store had until a prune. ValueError if the id is taken, or no id."""
        check_execution_id(cell.execution_id)
        if cell.execution_id in self._making:  # by its id a batch tells what it made: for one, once
            raise ValueError(f"there is an execution {cell.execution_id!r} already: choose another id")
        self._making.add(cell.execution_id)
        self._next.begin(cell, source, cells, context)
        await self._soon()
        self._making.discard(cell.execution_id)  # if cancelled it stays: the row comes
        if cell.execution_id in self._unmade:
            raise self._unmade.pop(cell.execution_id)
        lease = self.leases[cell.execution_id] = Lease(cell.execution_id, 1)
        if cell.execution_id in self._undrawn and draw is not None:
            await self.call(self.store.redraw, lease, cell, draw())
        self._undrawn.discard(cell.execution_id)
        return lease

    async def claim(self, execution_id: str) -> Lease:
        """Take an execution over: `LeaseHeld` that names a live owner, `NoSuchExecution`."""
        def take() -> Lease:
            # Noted on the thread: a claim that is cancelled while it waits is renewed and given back all the
            # same.
            lease = self.store.claim(execution_id, self.owner, self.config.lease_s)
            self.leases[execution_id] = lease
            self._lost.pop(execution_id, None)
            return lease

        return await self.call(take)

    async def release(self, execution_id: str) -> None:
        """Write what waits of an execution and give its lease back."""
        if self._release(execution_id):
            await self.durable(self._ticket)

    def release_then(self, execution_id: str, callback: Callable[[], None]) -> None:
        """The same for who doesn't wait: call back once it is done; never, if the writer dies."""
        if self._release(execution_id):
            self._seal_soon()
        self.when_durable(self._ticket, callback)

    def _release(self, execution_id: str) -> bool:
        lease = self.leases.pop(execution_id, None)
        if lease is not None:
            self._next.released.append(lease)
            self._ticket += 1
        return lease is not None

    async def _soon(self) -> None:
        """Have what waits written with the next batch, shared with whoever else waits, and wait for it."""
        self._ticket += 1
        await self.durable(self._ticket)

    def on_lost(self, callback: Callable[[str, int], None]) -> None:
        """Call back with (execution id, its epoch now or 0) when an execution was taken over."""
        self._on_lost = callback

    def on_dead(self, callback: Callable[[BaseException], None]) -> None:
        """Call back when the writer has died: nothing is written any more."""
        self._on_dead = callback

    def watch(self, callback: Callable[[], None] | None) -> None:
        """Call back on the loop after somebody has sent a signal; None ends it."""
        self._on_signal, self._watch.wanted = callback, callback is not None
        if callback is not None and self._writer is not None:
            self._writer.wake()

    # Recording: the hot path

    def record(self, cells: Sequence[NodeState], execution: ExecutionCell | None = None, *,
               consumed: Sequence[int] = (), blobs: Sequence[tuple[str, bytes]] = (),
               strict: bool = False) -> int:
        """Queue a step. Its cells are written in one transaction; the ticket is for `when_durable`.

        The caller is the one owner of the cells' executions, so a later cell of a key is the larger version:
        the join is to keep it. StoreError if the writer is dead.
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
            self._next.consumed.extend(consumed)
        if blobs:
            self._next.blobs.extend(blobs)
            size += sum(len(content) for _, content in blobs)
        self._queued += count
        self.stats["updates_queued"] += count
        self._bytes += size + CELL_BYTES * count
        self._ticket += 1
        if self.cache:  # nearly always empty: only what somebody reads is cached
            self.cache.feed(cells, execution, self._ticket)
        if strict:
            self._next.sync = self._urgent = True
            if self.free():
                self._seal()
        elif self._bytes >= self._bytes_max or (self._exact and self._queued >= self.batch_size):
            self._seal()
        elif len(dirty) >= self._look_at:
            if self.free() or len(dirty) >= self.batch_size:
                self._seal()
            else:
                self._look_at = min(len(dirty) + LOOK_EVERY, self.batch_size)
        if self._timer is None and (dirty or self._executions or self._next.consumed):
            assert self._loop is not None
            self._timer = self._loop.call_later(self.batch_interval, self._due)
        return self._ticket

    def free(self) -> bool:
        """Whether no batch is being written."""
        return self._writer is None or self._writer.idle

    def _seal_soon(self) -> None:
        """Seal when whoever is ready to has said what it wants written, and the writer is free."""
        if not self._urgent:
            self._urgent = True
            assert self._loop is not None
            self._loop.call_soon(self._seal_urgent)

    def _seal_urgent(self) -> None:
        if self._urgent and self.free():
            self._seal()

    def _due(self) -> None:
        self._timer = None
        if len(self._flight) < 2:
            self._seal()
        else:
            self._urgent = True  # what waits meanwhile joins into the same batch

    def _new_batch(self) -> Batch:
        return Batch([], owner=self.owner, lease_s=self.config.lease_s)

    def _seal(self) -> None:
        self._urgent = False
        if self._dead is not None:
            return
        if not (self._dirty or self._executions or self._next.wanted):
            self._urgent = bool(self._flight)  # nothing more to write: whoever waits, waits for those
            if not self._flight:
                self._arrived(self._ticket)
            return
        if failpoints.armed:
            failpoints.hit("seal.before")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._next = self._next, self._new_batch()
        batch.cells, batch.executions = list(self._dirty.values()), list(self._executions.values())
        self._on_seal(batch)
        self._flight.append(Sealed(batch, self._originals, self._queued, self._ticket, self._bytes))
        self._flight_cells += len(batch.cells)
        self._flight_bytes += self._bytes
        self._dirty, self._originals, self._executions = {}, {}, {}
        self._bytes = self._queued = 0
        self._look_at = self._batch_min
        assert self._writer is not None
        self._writer.put(Job(batch, None, self._written))
        self.handover.sealed(len(batch.cells) + len(batch.created))
        if self._pausing is None and self._loop is not None:
            self._pausing = self._loop.call_later(EVERY_S, self._pause)
        if self._flight_cells > self.config.backlog_cells_max or \
                self._flight_bytes > self.config.backlog_bytes_max:
            self.congested = True
            self._room.clear()
        if failpoints.armed:
            failpoints.hit("seal.after")

    def _pause(self) -> None:
        self._pausing = None
        if self._flight and self._loop is not None:
            self.handover.pause()
            self._pausing = self._loop.call_later(EVERY_S, self._pause)

    # What came back from the writer

    def _tell(self, job: Job) -> None:
        self._post(job.done, job)

    def _post(self, function: Callable[..., None], *args: Any) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:  # the loop is closed: nobody is left to tell
            pass

    def _written(self, job: Job) -> None:
        """A batch came back from the writer."""
        sealed = self._flight.popleft()
        self._flight_cells -= len(sealed.batch.cells)
        self._flight_bytes -= sealed.size
        if job.error is not None:
            self._queued += sealed.updates
            self._die(job.error)
            return
        self._trouble.over()
        written: Written = job.result
        self.handover.written(len(sealed.batch.cells), job.seconds)
        bad = sum(sealed.counts.get(key, 1) for key, _ in written.failed)
        for key, reason in written.failed:
            logger.error("the cell %s can't be written and is left out: %s", tuple(key), reason)
            self.cache.drop(key.execution_id)
        if written.refused:
            gone = {cell.key for cell in sealed.batch.cells
                    if written.refused.get(cell.execution_id, cell.epoch) != cell.epoch}
            bad += sum(sealed.counts.get(key, 1) for key in gone)
            for execution_id, epoch in written.refused.items():
                self._lose(execution_id, epoch)
        self._unmade.update(written.not_created())
        self._undrawn.update(written.undrawn)
        self.stats["updates_processed"] += sealed.updates - bad
        self.stats["errors"] += bad
        self.stats["batches_written"] += 1
        self.stats["rows_written"] += len(sealed.batch.cells) - len(written.failed)
        if self.congested and self._flight_cells <= self.config.backlog_cells_max // 2 and \
                self._flight_bytes <= self.config.backlog_bytes_max // 2:
            self.congested = False
            self._room.set()
        if self._urgent and self.free():
            self._seal()
        self._arrived(sealed.ticket)

    def _arrived(self, ticket: int) -> None:
        self._flushed = max(self._flushed, ticket)
        while self._waiting and self._waiting[0][0] <= ticket:
            self._waiting.popleft()[1]()

    def _die(self, error: BaseException) -> None:
        """Nothing is written any more: who waits is told, and what waits for a commit never comes about."""
        if self._dead is not None:
            return
        self._dead = error
        self._waiting.clear()
        logger.critical("the state writer has died, %d updates are not written: %s", self.queue_depth, error)
        if self._on_dead is not None:
            self._on_dead(error)
        for future in self._awaited:
            if not future.done():
                future.set_result(None)
        self._room.set()

    def _lose(self, execution_id: str, epoch: int) -> None:
        lease = self.leases.get(execution_id)
        if lease is not None and lease.epoch == epoch:
            return  # late cells of an earlier claim of ours
        self.leases.pop(execution_id, None)
        self.cache.drop(execution_id)
        if execution_id not in self._lost:
            self._lost[execution_id] = epoch
            if self._on_lost is not None:
                self._on_lost(execution_id, epoch)

    def _lose_lease(self, lease: Lease) -> None:
        if self.leases.get(lease.execution_id) is lease:
            self._lose(lease.execution_id, 0)

    # Waiting

    def when_durable(self, ticket: int, callback: Callable[[], None]) -> None:
        """Call back on the loop once the batch with this ticket is committed (fsynced, if it was strict);
        never, if the writer dies."""
        if ticket <= self._flushed:
            callback()
        else:
            self._waiting.append((ticket, callback))

    async def durable(self, ticket: int) -> None:
        """Wait until the batch with this ticket is committed. StoreError if the writer has died."""
        if ticket > self._flushed and self._dead is None:
            assert self._loop is not None
            done: asyncio.Future[None] = self._loop.create_future()
            self._awaited.add(done)
            try:
                if not self._flight or ticket > self._flight[-1].ticket:
                    self._seal_soon()
                self.when_durable(ticket, lambda: None if done.done() else done.set_result(None))
                await done
            finally:
                self._awaited.discard(done)
        if self._dead is not None and ticket > self._flushed:
            raise StoreError(f"the state writer has died: {self._dead}") from self._dead

    async def flush(self, sync: bool = False) -> None:
        """Write what waits; return when it and all before it is committed (with `sync`: fsynced)."""
        if sync:
            self._next.sync = True
            self._ticket += 1  # also where nothing waits: what was committed before is fsynced
        self._seal()
        if self._flight:
            await self.durable(self._flight[-1].ticket)
        elif self._dead is not None:
            raise StoreError(f"the state writer has died: {self._dead}") from self._dead

    async def room(self) -> None:
        """Wait while the backlog is over its limits."""
        while self.congested and self._dead is None:
            self._room.clear()
            await self._room.wait()

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Run a writing method of the store on the writer thread."""
        if self._loop is None or self._writer is None:
            raise StoreClosed("the state manager is not started")
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
        if self._loop is None or self._readers is None:
            raise StoreClosed("the state manager is not started")
        return await self._loop.run_in_executor(self._readers, function, *args)

    def _retried(self) -> None:
        self.stats["retries"] += 1
        self._trouble.met(self.trouble)

    def _heard(self) -> None:
        if self._on_signal is not None:
            self._on_signal()
