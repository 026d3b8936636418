"""The kernel: one execution, decided by facts.

`handle` is the only way to change an execution, and `resume` the only way to bring one back. Both are pure:
no clock, disk, loop or luck; what the kernel can't know arrives in the fact. A resume is not a second
machinery: it runs the diagram again over a *memory* of recorded cells, and a node that memory knows is
adopted instead of performed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram
from treadle.errors import Corruption
from treadle.kernel import facts as f
from treadle.kernel.check import check_kernel
from treadle.kernel.commands import Perform, Step, Wake
from treadle.kernel.control import AnyFrame
from treadle.kernel.moves import illegal
from treadle.kernel.retry import Attempts
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import has_steps

_COMPLETED, _FAILED, _RUNNING = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.RUNNING
_CANCELLED, _SUSPENDED, _RETRYING = NodeStatus.CANCELLED, NodeStatus.SUSPENDED, NodeStatus.RETRYING

CONCURRENCY = 256
"""Bodies of one execution that run at once, unless the engine says otherwise."""


class Kernel(Attempts):
    """One execution of one diagram.

    `concurrency` bounds the bodies that run at once; what else is ready waits in the kernel. With `check`
    every step ends in a check of all invariants. `cell` is the execution's cell as it was created or claimed.
    """

    __slots__ = ("_check",)

    def __init__(self, diagram: ExecutableDiagram, cell: ExecutionCell, *, concurrency: int = CONCURRENCY,
                 check: bool = False) -> None:
        super().__init__(diagram, cell, concurrency)
        self._check = check

    # The two doors

    def handle(self, fact: f.Fact) -> Step:
        """The only way to change an execution. Facts that come after its end change nothing."""
        self._cells, self._before, self._commands, self._changed = [], [], [], None
        self._now = fact.at
        if not self.closed:
            HANDLERS[type(fact)](self, fact)
            self._advance()
        step = Step(self._cells, self._before, self._commands, self._changed)
        if self._check:
            check_kernel(self, step)
        return step

    def resume(self, cells: Iterable[NodeState], at: float, *, clean: bool, reopen: bool = False) -> Step:
        """Bring an execution back from its recorded cells and go on.

        `clean`: the former owner gave it back (a clean interrupt); otherwise it crashed, and the bodies that
        ran count one more claim. `reopen`: an explicit resume of an execution that failed or was cancelled;
        what failed, was cancelled, or was skipped by a failed arrow gets its next attempt with a fresh retry
        budget. So does one that had completed, with a diagram in which something has changed.
        """
        rounds: dict[tuple[str, str], dict[int, int]] = {}
        for cell in cells:
            key = (cell.node_id, cell.iteration)
            known = self._memory.get(key)
            if known is None or cell.attempt > known.attempt:
                self._memory[key] = cell
            tries = rounds.setdefault(key, {})
            tries[cell.round] = tries.get(cell.round, 0) + 1
        self._stepped = {key: cell for key, cell in self._memory.items()
                         if cell.status is _COMPLETED and has_steps(cell.meta)}
        self._used = {key: rounds[key][cell.round] for key, cell in self._memory.items()}
        self._clean = clean
        if reopen:
            self.execution = msgspec.structs.replace(
                self.execution, round=self.execution.round + 1, output=None, blob=None, error=None,
                ended_at=None, started_at=at)
        return self.handle(f.Started(at))

    # Facts

    def _on_started(self, fact: f.Started) -> None:
        if self._root is not None:
            raise Corruption(f"execution {self._id} was started twice")
        before = self.execution
        started = before.started_at if before.started_at is not None else fact.at
        deadline = None if self.diagram.deadline is None else started + self.diagram.deadline
        self._become(ExecutionStatus.RUNNING, started_at=started, deadline_at=deadline)
        if deadline is not None:
            self._commands.append(Wake(-1, deadline))
        self._root = self._open_frame(self.diagram, None, self.execution.round)

    def _on_finished(self, fact: f.Finished) -> None:
        found = self._running(fact.slot, _COMPLETED)
        if found is None:
            return
        frame, i, b = found
        self._busy -= 1  # a leaf's Perform or a composite's Gather
        if self._asked:
            self._asked.discard(fact.slot)
        cell = NodeState(
            b.execution_id, b.node_id, b.iteration, b.attempt, self._epoch, b.seq + 1, _COMPLETED,
            b.scheduled_at, fact.started or b.started_at, fact.at, None, fact.output, fact.blob,
            fact.content_type, fact.meta, None, None, fact.port, b.lineage, b.claims, fact.worker, b.winner,
            None, b.items, b.round)
        self._complete(frame, i, cell, b)

    def _on_failed(self, fact: f.Failed) -> None:
        found = self._running(fact.slot, _FAILED)
        if found is None:
            return
        frame, i, before = found
        self._luck = fact.luck
        self._release_slot(frame, i)
        retries = frame.node(i).policy.for_each is None or frame.item(i) is not None
        self._fail(frame, i, before, fact.error, retryable=fact.retryable and retries, luck=fact.luck,
                   started=fact.started, delay=fact.delay)

    def _on_progressed(self, fact: f.Progressed) -> None:
        found = self._running(fact.slot, _RUNNING)
        if found is not None:
            frame, i, before = found  # it gets on: the crashes so far do not count
            self._emit(frame, i, self._after(before, meta=fact.meta, claims=min(before.claims, 1)), before)

    def _on_expanded(self, fact: f.Expanded) -> None:
        found = self._running(fact.slot, _RUNNING)
        if found is None:
            return
        frame, i, before = found
        self._release_slot(frame, i)
        cell = self._after(before, items=fact.items, started_at=before.started_at or fact.at)
        self._emit(frame, i, cell, before)
        self._open_child(frame, i, fact.count)

    def _on_suspended(self, fact: f.Suspended) -> None:
        found = self._running(fact.slot, _SUSPENDED)
        if found is None:
            return
        frame, i, before = found
        self._release_slot(frame, i)
        frame.status[i] = _SUSPENDED
        self._suspended += 1
        self._emit(frame, i, self._after(before, status=_SUSPENDED, request=fact.request,
                                         wake_at=fact.wake_at, started_at=fact.started or before.started_at),
                   before)
        if fact.wake_at is not None:
            self._commands.append(Wake(fact.slot, fact.wake_at))

    def _on_answered(self, fact: f.Answered) -> None:
        found = self._at(fact.slot)
        if found is None:
            return
        frame, i = found
        b = frame.cells[i]
        if frame.status[i] is not _SUSPENDED or b is None:
            raise illegal(b, frame.path(i), _COMPLETED)
        self._release_slot(frame, i)
        if fact.meta is not None:
            frame.status[i] = _RUNNING
            cell = self._after(b, status=_RUNNING, meta=fact.meta, request=None, wake_at=None, claims=1)
            self._emit(frame, i, cell, b)
            self._busy += 1
            self._commands.append(Perform(fact.slot, cell))
            return
        self._complete(frame, i, self._after(b, status=_COMPLETED, output=fact.output, wake_at=None,
                                             content_type=fact.content_type, ended_at=fact.at), b)

    def _on_woken(self, fact: f.Woken) -> None:
        found = self._at(fact.slot)
        if found is None or found[0].ended:
            return
        frame, i = found
        self._luck = fact.luck
        before, status = frame.cells[i], frame.status[i]
        due = None if before is None else before.wake_at
        if before is None or status not in (_SUSPENDED, _RETRYING, _RUNNING):
            return
        if status is _RUNNING:
            due = self._composite_due(frame, i, before)
        if due is None:
            return
        if fact.at < due:  # a timer that ran early, or one from an earlier turn
            self._commands.append(Wake(fact.slot, due))
            return
        if status is _RETRYING:
            self._release_slot(frame, i)
            frame.tries[i] = frame.tries.get(i, 1) + 1
            self._again(frame, i)
        elif status is _SUSPENDED and f.kind_of(before.request) == "sleep":
            self._on_answered(f.Answered(fact.slot, fact.at, b"null"))
        else:
            self._time_out(frame, i, before, fact.luck)

    def _time_out(self, frame: AnyFrame, i: int, before: NodeState, luck: float) -> None:
        child = frame.children.get(i)
        if child is not None and not child.ended:
            self._stop(child)
            child.ended = True
        since = before.started_at or before.scheduled_at or self._now
        what = "nobody answered" if before.status is _SUSPENDED else "its nodes had not ended"
        error = ErrorInfo("NodeTimeout", f"{what} within {self._now - since:.3g} s", node=before.node_id)
        self._release_slot(frame, i)
        self._fail(frame, i, before, error, retryable=True, luck=luck)

    def _on_cancelled(self, fact: f.Cancelled) -> None:
        self._end(ExecutionStatus.CANCELLED, ErrorInfo("Cancelled", fact.reason))

    def _on_expired(self, fact: f.Expired) -> None:
        due = self.execution.deadline_at
        if due is not None and fact.at < due:
            self._commands.append(Wake(-1, due))
            return
        self._end(ExecutionStatus.FAILED, ErrorInfo(
            "DeadlineExceeded", f"the execution ran longer than its deadline of {self.diagram.deadline} s"))

    def _running(self, slot: int, to: NodeStatus) -> tuple[AnyFrame, int, NodeState] | None:
        """A slot's running cell; None if the fact comes too late, IllegalMove if it makes no sense."""
        root = self._root
        frame: AnyFrame
        if root is not None and 0 <= slot < root.size:
            frame, i = root, slot
        else:
            found = self._at(slot)
            if found is None:
                return None
            frame, i = found
        cell = frame.cells[i]
        if frame.status[i] is _RUNNING and cell is not None:
            return frame, i, cell
        if frame.ended or frame.status[i] is _CANCELLED:
            return None
        raise illegal(cell, frame.path(i), to, [cell] if cell else ())


HANDLERS: dict[type[f.Fact], Callable[[Kernel, Any], None]] = {
    f.Started: Kernel._on_started, f.Finished: Kernel._on_finished, f.Failed: Kernel._on_failed,
    f.Progressed: Kernel._on_progressed, f.Expanded: Kernel._on_expanded,
    f.Suspended: Kernel._on_suspended, f.Answered: Kernel._on_answered, f.Woken: Kernel._on_woken,
    f.Cancelled: Kernel._on_cancelled, f.Expired: Kernel._on_expired}
