"""What every part of the monitor is given: the store to read, the engine that acts, the limits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from contextvars import copy_context
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import TreadleError
from treadle.monitor.api.seen import Seen
from treadle.monitor.drawn import Drawings
from treadle.monitor.views import state_of
from treadle.state.cell import ExecutionCell
from treadle.store.base import Store
from treadle.undo import undone_async

if TYPE_CHECKING:
    from treadle.engine.engine import Engine

THREADS_MAX = 8
"""Reads of the store at once; more wait."""
KEPT_MAX, KEPT_BYTES_MAX = 1000, 192 * 1024 * 1024
"""Executions that were asked for and stay in memory, and what they take, about."""
SIZES_S, SIZED = 0.2, 10
"""How long a look for sizes may take, about, and how many one statement tells."""
SIZE_AGE_S = 10.0
"""How old the size of an execution that hasn't ended may be."""
SIZES_MAX = 20_000
"""Sizes that stay in memory."""

P = ParamSpec("P")
T = TypeVar("T")


class Refused(TreadleError):
    """A request that can't be answered: the HTTP status, why, and what to do."""

    def __init__(self, status: int, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.hint = status, kind, hint


class Monitor:
    """Use it with `async with`. `store` is read by threads, never on the loop; a URL is opened here, and
    closed at the end. `engine` starts, resumes and forks executions in this process; None: those are refused.
    `files` are diagrams, and folders of diagrams, that may be looked at and started. `rate_hz` is how often a
    viewer hears of changes."""

    def __init__(self, store: Store | str | Path, *, engine: Engine | None = None, rate_hz: float = 4.0,
                 config: TreadleConfig = DEFAULT_CONFIG, files: Sequence[Path] = ()) -> None:
        self._given, self._store = store, None if isinstance(store, str | Path) else store
        self.engine, self.rate_hz, self.config, self.files = engine, rate_hz, config, tuple(files)
        self.drawings = Drawings(None if engine is None else engine.diagrams)
        self.live: Any = None
        """What `monitor.live` keeps: the mirrors and who looks at them."""
        self._seen: OrderedDict[str, Seen] = OrderedDict()
        self._sizes: OrderedDict[str, tuple[tuple[float | None, tuple[int, int]], float, int]] = OrderedDict()
        self._lock = threading.Lock()
        self.pruning = threading.Lock()
        """Held by who deletes."""
        self._threads: ThreadPoolExecutor | None = None
        self._end = AsyncExitStack()

    async def __aenter__(self) -> Monitor:
        self._threads = ThreadPoolExecutor(THREADS_MAX, thread_name_prefix="treadle monitor")
        self.at_the_end(self._end_threads)
        if self._store is None:
            from treadle.store import open_store

            async with undone_async(self._end.aclose):
                self._store = await self.read(open_store, str(self._given))
            self.at_the_end(partial(asyncio.to_thread, self._store.close))
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        await self._end.aclose()
        if isinstance(self._given, str | Path):
            self._store = None

    async def _end_threads(self) -> None:
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, cancel_futures=True)

    def at_the_end(self, cleanup: Callable[[], Awaitable[None]]) -> None:
        """Await what this gives when the monitor is left; the last comes first."""
        self._end.push_async_callback(cleanup)

    @property
    def store(self) -> Store:
        if self._store is None:
            raise TreadleError("this monitor is not open: use it inside `async with Monitor(…) as monitor:`")
        return self._store

    async def read(self, function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what reads the store, in a thread of the monitor's own."""
        if self._threads is None:
            raise TreadleError("this monitor is not open: use it inside `async with Monitor(…) as monitor:`")
        call = partial(copy_context().run, partial(function, *args, **kwargs))
        return await asyncio.get_running_loop().run_in_executor(self._threads, call)

    def acting(self) -> Engine:
        """The engine; Refused if there is none."""
        if self.engine is None:
            raise Refused(409, "NoEngine", "this monitor only looks on: it has no engine to run executions",
                          "use `treadle serve` without --read-only, or the command line")
        return self.engine

    # Reading: in a thread

    def sizes(self, cells: Sequence[ExecutionCell], for_s: float = SIZES_S) -> dict[str, int]:
        """About how many bytes executions take, as `Store.sizes` says. What would take longer than that is
        left out, and told another time: what was found once is kept. Of one that runs it may be old."""
        now, found = time.monotonic(), {}
        with self._lock:
            for cell in cells:
                known = self._sizes.get(cell.execution_id)
                if known is not None and known[0] == state_of(cell) and (
                        cell.status.terminal or now - known[1] < SIZE_AGE_S):
                    found[cell.execution_id] = known[2]
        todo = [cell for cell in cells if cell.execution_id not in found]
        while todo and time.monotonic() - now <= for_s:
            some, todo = todo[:SIZED], todo[SIZED:]
            sizes = self.store.sizes([cell.execution_id for cell in some])
            found |= sizes
            with self._lock:
                for cell in some:
                    if cell.execution_id in sizes:
                        self._sizes[cell.execution_id] = state_of(cell), now, sizes[cell.execution_id]
                        self._sizes.move_to_end(cell.execution_id)
                while len(self._sizes) > SIZES_MAX:
                    self._sizes.popitem(last=False)
        return found

    def seen(self, execution_id: str, own: ExecutionCell | None = None) -> Seen:
        """An execution and its cells as they are now; `own` is its cell if that was just read.
        NoSuchExecution."""
        cell = self.store.summary(execution_id).cell if own is None else own
        with self._lock:
            seen = self._seen.setdefault(cell.execution_id, Seen(cell.execution_id))
            self._seen.move_to_end(cell.execution_id)
        seen.look(self.store, cell)
        with self._lock:
            while len(self._seen) > KEPT_MAX or sum(one.size for one in self._seen.values()) > KEPT_BYTES_MAX:
                self._seen.popitem(last=False)
        return seen
