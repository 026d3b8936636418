"""The shared context of an execution that runs here: made when it is first asked for, written down in the
order of its commits.

Bodies commit in any thread; the journal belongs to the event loop. What is committed is queued under the
context's lock, and whoever is on the loop next hands all of it over: so a batch holds whole commits, and none
without those before it. A body's end is heard on the loop after the writes that it made, in this order, so
its result is never on disk without them.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treadle.engine.cleaning import clean
from treadle.errors import TransactionError
from treadle.nodes.base import cancelled
from treadle.state.cell import ContextCell, NodeState
from treadle.state.context import (
    SECRETS_KEY,
    SLOW_HOOKS_KEY,
    About,
    Draft,
    SharedContext,
    Snapshot,
    of_bodies,
)

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner


_OURS = frozenset({SECRETS_KEY, SLOW_HOOKS_KEY})


class _Journalled:
    """Commits on their way to the journal, and then to who listens."""

    def __init__(self, runner: WorkflowRunner, cells: Iterable[ContextCell]) -> None:
        self._loop, self._bus, self._now = runner.engine.loop, runner.engine.bus, runner.now
        self._engine = runner.engine.number
        self._share = None if runner.manager is None else runner.manager.share
        self.lock = threading.Lock()
        self._waiting: dict[str, ContextCell] = {}
        self._known = {cell.key: cell for cell in cells}  # the newest of each key
        self._called = False

    def take(self, cells: Sequence[ContextCell]) -> None:
        """Called with the lock held, in the order of commits: the newest cell of a key is the last."""
        self._waiting.update((cell.key, cell) for cell in cells)
        if running() is self._loop:
            self.hand_over()
        elif not self._called:
            self._called = True
            self._loop.call_soon_threadsafe(self._come)

    def _come(self) -> None:
        with self.lock:
            self._called = False
            self.hand_over()

    def hand_over(self) -> None:
        """On the loop, with the lock held."""
        if self._waiting:
            cells, self._waiting = self._waiting, {}
            if self._share is not None:
                self._share(cells.values())
            self._bus.changed(cells.values(), self._known, self._now(), self._engine)
            self._known.update(cells)


def running() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def context_of(runner: WorkflowRunner) -> SharedContext:
    """The shared context of an execution; any thread may ask."""
    found: SharedContext | None = runner.__dict__.get("_shared")
    if found is None:
        # Of two threads that come at once one makes it for nothing.
        found = runner.__dict__.setdefault("_shared", _made(runner))
        assert found is not None
        if "_left" in runner.__dict__:
            found.close(_LEFT)
    return found


_LEFT = "it has ended, or is given back"


class _Clean(SharedContext):
    """Nobody writes a secret into it: see `treadle.engine.secret`."""

    __slots__ = ("runner",)
    runner: weakref.ref[WorkflowRunner]  # who has us: a cycle would leave both to the garbage collector

    def commit(self, draft: Draft) -> None:
        if not _OURS.isdisjoint(draft.writes):
            raise TransactionError(f"{draft.writer} would write {min(_OURS & draft.writes.keys())}, which is "
                                   "the engine's own: choose another name")
        runner = self.runner()
        redactor = None if runner is None else runner.redactor
        if redactor is not None:
            for key in draft.writes:
                if redactor.text(key) != key:
                    raise TransactionError(f"{draft.writer} would write a secret into the name of a key, "
                                           f"{redactor.text(key)!r}: choose another name")
            draft.writes.update({key: clean(redactor, raw) for key, raw in draft.writes.items()
                                 if raw is not None})
        super().commit(draft)

    async def aside(self, commit: Callable[[], None]) -> None:
        """Commit at once, or, if plugins are to be asked before, in a thread. Whoever is cancelled meanwhile
        waits for it: a body's writes come before its end."""
        if self.on_commit is None:
            commit()
            return
        committing = asyncio.ensure_future(asyncio.to_thread(commit))
        try:
            await asyncio.shield(committing)
        except asyncio.CancelledError:
            await asyncio.wait([committing])
            if not committing.cancelled():
                committing.exception()  # it is told to nobody
            raise


def _made(runner: WorkflowRunner, cells: Iterable[ContextCell] = ()) -> SharedContext:
    execution = runner.kernel.execution
    cells = list(cells)
    journal = _Journalled(runner, cells)
    made = _Clean(
        execution.execution_id, epoch=execution.epoch, cells=cells, now=runner.now, config=runner.config,
        lock=journal.lock, sink=journal.take, refuse=_refusal, on_commit=runner.engine.on_mutation)
    made.runner = weakref.ref(runner)
    return made


def _refusal() -> str | None:
    return "its body was cancelled or has timed out" if cancelled() else None


def restore(runner: WorkflowRunner, cells: Sequence[ContextCell]) -> None:
    """Begin with what is recorded; before any body runs."""
    cells = of_bodies(cells)
    if cells:
        runner.__dict__["_shared"] = _made(runner, cells)


def leave(runner: WorkflowRunner) -> None:
    """The execution is about to be given back: what was committed is with the journal, and nothing more will
    be. On the loop."""
    runner.__dict__["_left"] = True  # before the look: a thread may be about to make it
    found: SharedContext | None = runner.__dict__.get("_shared")
    if found is not None:
        found.close(_LEFT)


def cells(runner: WorkflowRunner) -> list[ContextCell]:
    """What the execution's bodies share now."""
    found: SharedContext | None = runner.__dict__.get("_shared")
    return [] if found is None else list(found.cells().values())


def about(runner: WorkflowRunner) -> About:
    """What the execution runs with."""
    found: About | None = runner.__dict__.get("_about")
    if found is None:
        found = About.of(runner.kernel.execution, config_hash=runner.config.config_hash)
        runner.__dict__["_about"] = found
    return found


def _seen(snapshot: Snapshot) -> Mapping[str, Any]:
    return {"artifacts": snapshot.artifacts, "variables": snapshot.variables}


_NOTHING = _seen(SharedContext("").snapshot())


def names(runner: WorkflowRunner) -> Mapping[str, Any]:
    """What expressions see of the context: `artifacts` and `variables` of one moment, to read only."""
    found: SharedContext | None = runner.__dict__.get("_shared")
    return _NOTHING if found is None else _seen(found.snapshot())


def writer_of(cell: NodeState) -> str:
    """Under what name a body's writes are recorded: its path, its iteration unless it is the first, and its
    attempt: `report#1`, `draft@3#2`."""
    turn = "" if cell.iteration == "1" else f"@{cell.iteration}"
    return f"{cell.node_id}{turn}#{cell.attempt}"
