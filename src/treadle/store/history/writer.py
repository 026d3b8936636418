"""From the bus to the files, by one thread.

The event loop only keeps the cells in a list; ten times a second it hands them over once the store has them.
The thread writes file by file; what comes while it is busy joins what waits (law 1), so that an attempt which
began and ended meanwhile is written once. Nothing of this holds an execution up.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Protocol, TypeVar

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import NoSuchExecution, StoreError, TreadleError
from treadle.state.cell import Cell, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import is_partial
from treadle.store.base import Store
from treadle.store.history.folder import Seal
from treadle.store.history.recording import Recording
from treadle.store.history.sealing import seal_of
from treadle.store.manager import StateManager

logger = logging.getLogger("treadle.history")

INTERVAL_S = 0.1
"""How long the oldest cell waits on the loop."""
RETRY_S = 1.0
"""How long the thread waits after an error, a full disk for one."""
CONTEXT_S = 1.0
"""How often, at most, it is looked whether the shared context has changed."""
BUSY_CELLS = 500
"""Cells in one hand-over that tell of a busy engine; while it is, the thread works `SLICE_S` and keeps still
for `PAUSE_S`, by turns."""
SLICE_S, PAUSE_S = 0.01, 0.05
FINALS = 50
"""Final files that are made in one go."""

OPEN_MAX = 100
"""Executions that are kept open while they are suspended."""
_PASSING = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE, errno.EROFS, errno.ESTALE)
_T = TypeVar("_T")
Inputs = Callable[[NodeState], bytes | None]
"""Tells what a node got: JSON, by name."""
_Key = tuple[str, object]
_Queue = SimpleQueue[list[NodeState | ExecutionCell] | Callable[[], None]]


class Announced(Protocol):
    """What an event says."""

    @property
    def execution_id(self) -> str: ...
    @property
    def cell(self) -> Cell: ...


class HistoryWriter:
    """Writes a folder for every execution that is announced; a queued consumer for one bus, on one loop.

    `manager` is what the executions are recorded with; where its store is encrypted, so are the files. Close
    the writer when the bus is quiet and before the manager stops. `inputs` gives, for an execution that runs,
    what tells the inputs of its nodes; that is called on the thread.
    """

    def __init__(self, folder: str | Path, manager: StateManager, *, seal: Seal | None = None,
                 inputs: Callable[[str], Inputs | None] = lambda execution_id: None,
                 config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self.folder = Path(folder)
        self.stats = {"written": 0, "joined": 0, "errors": 0}
        self._manager, self._config = manager, config
        self._seal = seal or seal_of(manager.store)
        self._inputs = inputs
        self._tellers: dict[str, Inputs | None] = {}  # by execution, until the thread is done with it
        self._next: list[NodeState | ExecutionCell] = []
        self._timer: asyncio.TimerHandle | None = None
        self._queue: _Queue = SimpleQueue()
        self._thread: _Thread | None = None
        self._closed = False

    async def consume(self, event: Announced) -> None:
        """Keep a cell for the thread; of the shared context it asks the store."""
        await self.consume_many((event,))

    async def consume_many(self, events: Sequence[Announced]) -> None:
        """The same with all that waits on the bus at once."""
        keep = self._next.append
        for event in events:
            cell = event.cell
            if type(cell) is NodeState:
                if cell.status is not NodeStatus.RUNNING or not is_partial(cell.meta):
                    keep(cell)
            elif type(cell) is ExecutionCell:
                keep(cell)
                if not cell.status.terminal:
                    self._tellers[cell.execution_id] = self._inputs(cell.execution_id)
        if self._timer is None and self._next:
            self._timer = asyncio.get_running_loop().call_later(INTERVAL_S, self._hand_over)

    def _hand_over(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._next and not self._closed:
            cells, self._next = self._next, []
            self._begin()
            # What the store never gets is not in the history either: a resume would know nothing of it.
            self._manager.when_durable(self._manager.ticket, partial(self._queue.put, cells))

    def _begin(self) -> _Thread:
        if self._thread is None:
            self._thread = _Thread(self._queue, self.folder, self._manager.store, self._seal, self._config,
                                   self._tellers, self.stats)
            self._thread.start()
        return self._thread

    def complete(self, execution_id: str) -> None:
        """Have an execution's files completed from the store, also of one that is over and announces nothing.
        `drain` waits for that."""
        self._begin().asked.append(execution_id)
        self._queue.put([])

    async def drain(self) -> None:
        """Return when what was announced is in files; or, if they can't be written, when that was tried."""
        self._hand_over()
        try:
            await self._manager.flush()
        except StoreError as error:
            logger.error("the store has not got everything, and so the history hasn't: %s", error)
        if self._thread is not None and not self._closed:
            await self._told(self._thread.drain)

    async def close(self) -> None:
        """Write the rest, complete what has not ended, and end the thread. A second call does nothing."""
        if self._closed:
            return
        try:
            await self.drain()
        finally:
            self._closed = True
            if self._thread is not None:
                await self._told(self._thread.finish)

    async def _told(self, ask: Callable[[Callable[[], None]], None]) -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

        self._queue.put(partial(ask, tell))
        if self._thread is not None and not self._thread.ended:
            await done.wait()

    def __repr__(self) -> str:
        return f"HistoryWriter({str(self.folder)!r})"


class _Thread(threading.Thread):
    """Takes cells, and what else is to be done, out of a queue."""

    def __init__(self, queue: _Queue, folder: Path,
                 store: Store, seal: Seal, config: TreadleConfig, inputs: dict[str, Inputs | None],
                 stats: dict[str, int]) -> None:
        super().__init__(name="treadle history", daemon=True)
        self._queue, self._folder, self._store = queue, folder, store
        self._seal, self._config, self._inputs, self._stats = seal, config, inputs, stats
        self._waiting: dict[_Key, NodeState | ExecutionCell] = {}
        self._open: dict[str, Recording] = {}
        self._looked: dict[str, float] = {}  # when the context was read last
        self._told: list[Callable[[], None]] = []  # who waits until all is written
        self._busy_until = self._since = 0.0  # since when it has worked without a pause
        self.asked: list[str] = []  # executions that are to be completed
        self._given_up: set[str] = set()
        self._over: Callable[[], None] | None = None  # the one to tell at the end
        self.ended = False

    def run(self) -> None:
        try:
            while self._over is None:
                self._take(block=not (self._waiting or self._told))
                if self._turn():
                    continue
                told, self._told = self._told, []
                for tell in told:
                    tell()
            self._complete()
        finally:  # also after a fault of ours nobody must wait for ever
            self.ended = True
            self._take(block=False)
            for waiting in (*self._told, self._over):
                if waiting is not None:
                    waiting()

    def _turn(self) -> bool:
        """Do a little; whether there is more to do at once."""
        try:
            return self._work()
        except OSError as error:
            self._stats["errors"] += 1
            if self._stats["errors"] == 1:
                logger.error("the history in %s can't be written (%s): the executions go on, and it is tried "
                             "again every %g s", self._folder, error, RETRY_S)
            if not self._told:
                time.sleep(RETRY_S)
            return False

    def _take(self, *, block: bool) -> None:
        """Join what has come with what waits."""
        # With an execution open, the context is looked after also when nothing comes.
        patience = (CONTEXT_S if self._open else None) if block else self._pause()
        try:
            found = self._queue.get(block or patience is not None, patience)
            while True:
                if callable(found):
                    found()
                else:
                    self._join(found)
                found = self._queue.get_nowait()
        except Empty:
            pass

    def _join(self, cells: list[NodeState | ExecutionCell]) -> None:
        waiting = self._waiting
        before = len(waiting) + len(cells)
        for cell in cells:
            if isinstance(cell, NodeState):
                waiting[cell.execution_id, cell.key] = cell
            else:  # its end must not take the place of its beginning
                waiting[cell.execution_id, cell.status.terminal] = cell
        self._stats["joined"] += before - len(waiting)
        if len(cells) >= BUSY_CELLS:
            self._busy_until = time.monotonic() + 3 * INTERVAL_S

    def _pause(self) -> float | None:
        """How long to keep still, if at all: the loop of a busy engine needs the interpreter more."""
        now = time.monotonic()
        if now >= self._busy_until or self._told or now - self._since < SLICE_S:
            return None
        self._since = now + PAUSE_S
        return PAUSE_S

    def drain(self, done: Callable[[], None]) -> None:
        self._told.append(done)

    def finish(self, done: Callable[[], None]) -> None:
        self._over = done

    def _complete(self) -> None:
        """Write the rest, and complete from the store what is not over: not all that changes is announced."""
        try:
            while self._waiting:
                self._work()
            for recording in list(self._open.values()):
                self._guarded(recording.cell.execution_id, self._put_aside, recording)
        except OSError as error:
            logger.error("the history in %s lacks %d states: %s", self._folder, len(self._waiting), error)

    # Work

    def _work(self) -> bool:
        """Write one file, or a few that cost little; whether there is more to do at once."""
        for key, cell in self._waiting.items():
            self._guarded(cell.execution_id, self._write, cell)
            del self._waiting[key]
            self._stats["written"] += 1
            return True
        while self.asked:
            self._guarded(self.asked[-1], self._go_through, self.asked[-1])
            self.asked.pop()
        for recording in list(self._open.values()):
            if self._guarded(recording.cell.execution_id, self._look_after, recording):
                return True
        return False

    def _guarded(self, execution_id: str, act: Callable[[_T], bool], what: _T) -> bool:
        """Do something for one execution. OSError if trying again may help; what else is wrong with its
        history ends that, and no other."""
        try:
            return execution_id not in self._given_up and act(what)
        except (OSError, TreadleError, ValueError) as error:
            if isinstance(error, OSError) and error.errno in _PASSING:
                raise
            logger.error("the history of execution %s ends here, the execution goes on: %s: %s", execution_id,
                         type(error).__name__, error)
            self._given_up.add(execution_id)
            self._forget(execution_id)
            return False

    def _write(self, cell: NodeState | ExecutionCell) -> bool:
        name = cell.execution_id
        recording = self._open.get(name)
        if recording is None:
            recording = self._opened(cell)
            if recording is None:
                return False
            self._open[name] = recording
        if isinstance(cell, NodeState):
            inputs = self._inputs.get(name)
            recording.put(cell, None if inputs is None else inputs(cell))
            return True
        recording.put_execution(cell)
        if cell.status.terminal:
            self._rest(recording)
            self._forget(name)
        elif cell.status is ExecutionStatus.SUSPENDED and len(self._open) > OPEN_MAX:
            self._put_aside(recording)
        return True

    def _look_after(self, recording: Recording) -> bool:
        """What is done when no cells wait."""
        if recording.put_finals(FINALS):
            return True
        name, now = recording.cell.execution_id, time.monotonic()
        if self._told or now - self._looked.get(name, 0.0) >= CONTEXT_S:
            self._looked[name] = now
            recording.put_context()
        return False

    def _go_through(self, execution_id: str) -> bool:
        """Complete what is not under way here: that completes itself."""
        if execution_id not in self._open:
            self._rest(Recording.go_on(self._folder, execution_id, self._store, self._seal, self._config))
        return True

    def _put_aside(self, recording: Recording) -> bool:
        """Go on with an execution later, or elsewhere."""
        recording.complete(*self._store.load(recording.cell.execution_id))
        self._rest(recording)
        self._forget(recording.cell.execution_id)
        return True

    def _forget(self, execution_id: str) -> None:
        self._open.pop(execution_id, None)
        self._inputs.pop(execution_id, None)
        self._looked.pop(execution_id, None)

    def _opened(self, cell: NodeState | ExecutionCell) -> Recording | None:
        """The recording of an execution that we meet for the first time."""
        where = (self._store, self._seal, self._config)
        if isinstance(cell, ExecutionCell) and cell.epoch == 1 and cell.parent is None \
                and not cell.status.terminal:
            return Recording.begin(self._folder, cell, *where)
        try:
            return Recording.go_on(self._folder, cell.execution_id, *where)
        except NoSuchExecution:  # it was pruned
            return None

    def _rest(self, recording: Recording) -> None:
        recording.put_finals()
        recording.put_context()
        recording.folder.sync()
