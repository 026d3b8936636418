"""Elastic actors: the tasks in which bodies run.

A `NodeActor` is one asyncio task that takes ready commands and awaits their bodies one after another. It
starts another actor when work is waiting and a body is about to suspend it; so a body that never suspends
costs no task, and as many bodies run at once as the kernels have released. All actors of an engine share
one time budget a turn of the event loop; when it is spent, one of them lets the loop breathe and the others
end.

Bodies must not see each other's context variables: each is driven in a context of its own (`Drive`), which
costs a fraction of a task.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

from treadle import failpoints
from treadle.engine.capture import Capture, Speaker
from treadle.errors import NodeTimeout
from treadle.foreign import attempt_async
from treadle.kernel.commands import Expand, Gather, Perform

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner
    from treadle.store.manager import StateManager

logger = logging.getLogger("treadle.engine")

Work = Perform | Expand | Gather

IN_A_ROW_MAX = 16
"""How many nodes follow each other at once, each made ready by the one before, while other work waits its
turn: what an execution needs is still in the processor's cache, a cell is often written once instead of
twice, and of many executions the first are done early instead of all at the end."""


class Drive:
    """A coroutine that has already suspended once, driven in a context of its own. Await it once.

    `doomed`: it has ignored its cancellation for too long; at the next chance it is closed, whatever it
    catches.
    """

    __slots__ = ("coroutine", "doomed", "run", "waiting")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any], waiting: Any) -> None:
        self.coroutine, self.run, self.waiting = coroutine, run, waiting
        self.doomed = False

    def __await__(self) -> Generator[Any, Any, Any]:
        run, coroutine, waiting = self.run, self.coroutine, self.waiting
        send, throw = coroutine.send, coroutine.throw
        while True:
            try:
                value = yield waiting
            except GeneratorExit:
                self.close()
                raise
            except BaseException as error:
                if self.doomed:
                    self.close()
                    raise
                try:
                    waiting = run(throw, error)
                except StopIteration as stop:
                    return stop.value
            else:
                try:
                    waiting = run(send, value)
                except StopIteration as stop:
                    return stop.value

    def close(self) -> None:
        """End the coroutine. One that ignores even `GeneratorExit` is let go."""
        try:
            self.run(self.coroutine.close)
        except RuntimeError as error:  # "coroutine ignored GeneratorExit", or the body's own: it isn't quoted
            logger.error("a body ignored that it was closed and is let go (%s)", type(error).__name__)


class Performance:
    """A body that is suspended: how to stop it."""

    __slots__ = (
        "_cancels",
        "_grace",
        "_loop",
        "_task",
        "_timer",
        "cancelled",
        "drive",
        "path",
        "timed_out",
        "timeout",
    )

    def __init__(self, task: asyncio.Task[None], drive: Drive, path: str, grace: float) -> None:
        self._task, self.drive, self.path, self._grace = task, drive, path, grace
        self._loop = task.get_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._cancels = 0
        self.cancelled = False
        self.timed_out = False
        self.timeout: float | None = None

    def limit(self, seconds: float | None, elapsed: float) -> None:
        """Let the body time out `seconds` after its start; None takes the limit away."""
        if self._timer is not None and not self.timed_out:
            self._timer.cancel()
            self._timer = None
        self.timeout = seconds
        if seconds is not None:
            self._timer = self._loop.call_later(max(0.0, seconds - elapsed), self._expire)

    def cancel(self) -> None:
        """Stop the body; what it still returns is dropped."""
        if not self.cancelled:
            self.cancelled = True
            self._stop()

    def _expire(self) -> None:
        self.timed_out = True
        self._stop()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(self._grace, self._doom)
        self._cancels += 1
        self._task.cancel()

    def _doom(self) -> None:
        logger.warning(
            "node %r ignored its cancellation for %g s (cancel_s_max): its body is closed by force",
            self.path,
            self._grace,
        )
        self.drive.doomed = True
        self._cancels += 1
        self._task.cancel()

    def ended(self) -> None:
        """The body is over: take back what was asked of the task."""
        if self._timer is not None:
            self._timer.cancel()
        for _ in range(self._cancels):
            self._task.uncancel()


class NodeActor:
    """All actors of one engine: `put` hands them work. `turn_s` is their common time budget a turn of the
    loop."""

    __slots__ = (
        "_active",
        "_breathing",
        "capture",
        "_grace",
        "_loop",
        "_manager",
        "_ready",
        "_tasks",
        "_turn_ends",
        "_turn_open",
        "_turn_s",
    )

    def __init__(
        self, *, turn_s: float = 0.004, grace_s: float = 5.0, manager: StateManager | None = None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._ready: deque[tuple[WorkflowRunner, Work]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._active = 0  # actors that run or will run in this turn: not suspended in a body
        self._breathing = False
        self._turn_open = False
        self._turn_ends = 0.0
        self._turn_s, self._grace, self._manager = turn_s, grace_s, manager
        self.capture = Capture(manager)

    def put(self, runner: WorkflowRunner, command: Work) -> None:
        """Perform a command soon. Called by runners, on the loop."""
        self._ready.append((runner, command))
        if not self._active:
            self._spawn()

    async def breathe(self) -> None:
        """Within long work of the engine itself: let the loop turn if the budget of this turn is spent."""
        if monotonic() >= self._turn_ends:
            if self._turn_open:
                await asyncio.sleep(0)
            if not self._turn_open:
                self._open_turn()

    async def close(self, timeout: float) -> int:
        """Wait until every actor has ended; how many have not."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        self.capture.close()
        return len(self._tasks)

    def _spawn(self) -> None:
        self._active += 1
        task = self._loop.create_task(self._act(), name="treadle actor")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _open_turn(self) -> None:
        self._turn_open = True
        self._turn_ends = monotonic() + self._turn_s
        self._loop.call_soon(self._close_turn)

    def _close_turn(self) -> None:
        self._turn_open = False
        self._turn_ends = 0.0

    async def _act(self) -> None:
        """One actor. It may end at any time: there is another, or nothing to do, or `put` starts one."""
        ready, manager = self._ready, self._manager
        handover = None if manager is None else manager.handover
        speaker, home = self.capture.speaker()
        row = 0  # nodes that were put before their turn, one after another
        try:
            while ready:
                now = monotonic()
                if handover is not None and now >= handover.at:
                    handover.pause()
                if now >= self._turn_ends:
                    if self._turn_open:
                        if self._breathing:
                            return
                        self._breathing = True
                        try:
                            await asyncio.sleep(0)
                        finally:
                            self._breathing = False
                        continue
                    self._open_turn()
                if manager is not None and manager.congested:
                    await manager.room()
                    continue
                runner, command = ready.popleft()
                if (runner.ended or runner.touched) and runner.refuses(command):
                    continue
                if failpoints.armed:
                    failpoints.hit("perform.before")
                run = home.copy().run  # a context of its own for each body; in all of them `speaker` speaks
                speaker.cell = command.cell
                started = runner.now()
                try:
                    try:
                        coroutine = runner.begin(command)
                        waiting = run(coroutine.send, None)
                    except StopIteration as stop:
                        if speaker.heard:
                            speaker.end()
                            speaker, home = self.capture.speaker()
                        speaker.cell = None
                        behind = len(ready)
                        runner.returned(command, started, stop.value)
                        if len(ready) == behind + 1 and row < IN_A_ROW_MAX:
                            ready.rotate()  # the one node that follows is next
                            row += 1
                        else:
                            row = 0
                    except KeyboardInterrupt:
                        raise
                    except BaseException as error:  # foreign code
                        if speaker.heard:
                            speaker.end()
                            speaker, home = self.capture.speaker()
                        speaker.cell = None
                        runner.raised(command, started, error)
                    else:
                        theirs = speaker  # and of whatever the body has started
                        speaker, home = self.capture.speaker()
                        drive = Drive(coroutine, run, waiting)
                        await self._suspended(runner, command, started, drive, theirs)
                except Exception as error:  # ours: it must end this execution, and not the others
                    runner.broken(error)
                if failpoints.armed:
                    failpoints.hit("perform.after")
        finally:
            self._active -= 1
            if ready and not self._active:  # ended by an error, or cancelled from outside
                self._spawn()

    async def _suspended(self, runner: WorkflowRunner, command: Work, started: float, drive: Drive,
                         speaker: Speaker) -> None:
        """Wait for a body, with another actor in this one's place."""
        task = asyncio.current_task()
        assert task is not None
        self._active -= 1
        performance = Performance(task, drive, command.cell.node_id, self._grace)
        runner.suspended(command, performance, started)
        if self._ready and not self._active:
            self._spawn()
        try:
            result, error = await attempt_async(lambda: drive)
        finally:
            self._active += 1
            performance.ended()
            runner.resumed(command, performance)
            if speaker.heard:
                speaker.end()
        if performance.cancelled:
            return
        if performance.timed_out:
            error = NodeTimeout(f"node {command.cell.node_id!r} ran longer than its timeout of "
                                f"{performance.timeout:g} s")
        elif isinstance(error, asyncio.CancelledError) and task.cancelling():
            raise error  # somebody ends our task, not the body: the loop is being closed
        if error is None:
            runner.returned(command, started, result)
        else:
            runner.raised(command, started, error)
