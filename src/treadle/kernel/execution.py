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
from treadle.diagram.policy import OnItemError
from treadle.errors import Corruption
from treadle.kernel import facts as f
from treadle.kernel.check import check_kernel
from treadle.kernel.commands import Close, Expand, Perform, Step, Wake
from treadle.kernel.control import AnyFrame, Frame, MapFrame
from treadle.kernel.flow import Flow
from treadle.kernel.moves import illegal
from treadle.kernel.retry import retry_at
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

_COMPLETED, _FAILED, _SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
_SCHEDULED, _RUNNING, _CANCELLED = NodeStatus.SCHEDULED, NodeStatus.RUNNING, NodeStatus.CANCELLED
_SUSPENDED, _RETRYING = NodeStatus.SUSPENDED, NodeStatus.RETRYING

CLAIMS_MAX = 3
"""Starts of one attempt's body; a crash during the last of them fails the attempt with `CrashLoop`."""
MAP_WINDOW = 1000
"""Items of one map that are open at once, so that a wide map is released in chunks."""
CONCURRENCY = 256
"""Bodies of one execution that run at once, unless the engine says otherwise."""


class Kernel(Flow):
    """One execution of one diagram.

    `concurrency` bounds the bodies that run at once; what else is ready waits in the kernel. With `check`
    every step ends in a check of all invariants. `cell` is the execution's cell as it was created or claimed.
    """

    __slots__ = ("_check", "_clean", "_concurrency", "_luck", "_used")

    def __init__(self, diagram: ExecutableDiagram, cell: ExecutionCell, *, concurrency: int = CONCURRENCY,
                 check: bool = False) -> None:
        super().__init__(diagram, cell)
        self._concurrency = concurrency
        self._check = check
        self._clean = True  # whether what was interrupted had been given back
        self._luck = 0.5
        self._used: dict[tuple[str, str], int] = {}  # attempts of the recorded round, by path and iteration

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

    # Attempts

    def _advance(self) -> None:
        settled, aborts, ready = self._settled, self._aborts, self._ready
        plain, ranked, wide = ready.plain, ready.ranked, self._wide
        while True:
            while settled or aborts:
                if settled:
                    frame, i = settled.pop()
                    if not frame.ended:
                        self._pass_on(frame, i)
                else:
                    self._abort(aborts.pop())
            if self.closed:
                break
            if wide and len(plain) < self._concurrency:
                self._deliver_more()
                continue
            if not (plain or ranked) or self._busy >= self._concurrency:
                break
            self._start(ready.pop() if ranked else plain.popleft())
        if self.closed:
            return
        if self._busy or self._retrying:
            if self.execution.status is ExecutionStatus.SUSPENDED:
                self._become(ExecutionStatus.RUNNING)
        elif self._suspended:
            self._become(ExecutionStatus.SUSPENDED)
            self._commands.append(Close(ExecutionStatus.SUSPENDED))

    def _start(self, slot: int) -> None:
        """Begin an attempt: the first, the next, or the recorded one that was interrupted once more."""
        root = self._root
        frame: AnyFrame
        if root is not None and slot < root.size:
            frame, i = root, slot
        else:
            found = self._at(slot)
            if found is None:
                return
            frame, i = found
        if frame.status[i] is not _SCHEDULED or frame.ended:
            return
        node, b = frame.node(i), frame.cells[i]
        composite = node.composite and self._is_composite(frame, i)
        if b is not None:
            self._start_over(frame, i, b, composite)
            return
        plain = frame is root and not frame.loops  # of most nodes: path and iteration take no looking up
        cell = NodeState(
            self._id, node.id if plain else frame.path(i), "1" if plain else frame.iteration(i), 1,
            self._epoch, 1, _RUNNING, frame.scheduled[i], self._now, None, None, None, None, None, None,
            None, None, None, node.lineage, 0 if composite else 1, None,
            self._winner(frame, i) if frame.winners else None, None, None, frame.round)
        if composite:
            self._begin(frame, i, cell, None, composite)
            return
        # _begin and _emit once more, for most nodes there are
        frame.status[i] = _RUNNING
        frame.cells[i] = cell
        self._cells.append(cell)
        self._before.append(None)
        if frame.log is not None:
            frame.log[(cell.node_id, cell.iteration)] = cell
        self._busy += 1
        self._commands.append(Perform(slot, cell))

    def _start_over(self, frame: AnyFrame, i: int, b: NodeState, composite: bool) -> None:
        """Begin the attempt after a recorded one, or once more the one that was interrupted."""
        again = b.status is _RUNNING
        claims = 0 if composite else 1
        if again and not composite:
            claims = b.claims if self._clean else b.claims + 1
            if claims > CLAIMS_MAX:
                self._crash_loop(frame, i, b)
                return
        if b.status is _RETRYING:  # history only now: a crash before this point must retry it still
            self._emit(frame, i, self._ended_cell(b, _FAILED, b.error), b)
        attempt, seq = (b.attempt, b.seq + 1) if again else (b.attempt + 1, 1)
        cell = NodeState(
            self._id, b.node_id, b.iteration, attempt, self._epoch, seq, _RUNNING, frame.scheduled[i],
            self._now, lineage=frame.node(i).lineage, claims=claims, winner=self._winner(frame, i),
            items=b.items, round=frame.round)
        self._begin(frame, i, cell, b if again else None, composite)

    def _begin(self, frame: AnyFrame, i: int, cell: NodeState, before: NodeState | None,
               composite: bool) -> None:
        frame.status[i] = _RUNNING
        self._emit(frame, i, cell, before)
        slot = frame.base + i
        if not composite:
            self._busy += 1
            self._commands.append(Perform(slot, cell))
        elif cell.items is None and frame.item(i) is None:
            self._busy += 1
            self._asked.add(slot)
            self._commands.append(Expand(slot, cell))
        else:
            self._open_child(frame, i, None)

    def _again(self, frame: AnyFrame, i: int) -> None:
        """Make the next attempt of a node ready. A composite keeps what its inner nodes have completed."""
        child = frame.children.pop(i, None)
        if child is not None:
            self._memory.update(child.log or {})
            self._forget(child)
        frame.status[i] = _SCHEDULED
        frame.scheduled[i] = self._now
        self._ready.push(frame.base + i, frame.node(i).policy.priority)

    def _open_child(self, frame: AnyFrame, i: int, count: int | None) -> None:
        """Open the frame of a composite whose items or inputs are known."""
        node, cell, slot = frame.node(i), frame.cells[i], frame.base + i
        assert cell is not None
        if isinstance(frame, Frame) and node.policy.for_each is not None:
            assert cell.items is not None
            size = len(msgspec.json.decode(cell.items, type=list[msgspec.Raw])) if count is None else count
            window = min(node.policy.concurrency or MAP_WINDOW, MAP_WINDOW)
            self._open_map((frame, i), size, window, cell.attempt)
            return
        assert node.child is not None
        if node.policy.timeout is not None:
            self._commands.append(Wake(slot, (cell.started_at or self._now) + node.policy.timeout))
        self._open_frame(node.child, (frame, i), cell.attempt)

    def _composite_due(self, frame: AnyFrame, i: int, cell: NodeState) -> float | None:
        timeout = frame.node(i).policy.timeout
        if timeout is None or not isinstance(frame.children.get(i), Frame):
            return None
        return (cell.started_at or 0.0) + timeout

    def _complete(self, frame: AnyFrame, i: int, cell: NodeState, before: NodeState) -> None:
        frame.status[i] = _COMPLETED
        self.completed += 1
        frame.cells[i] = cell
        self._cells.append(cell)
        self._before.append(before)
        if frame.log is not None:
            frame.log[(cell.node_id, cell.iteration)] = cell
        if frame.children and (child := frame.children.pop(i, None)) is not None:
            self._forget(child)
        self._settled.append((frame, i))

    def _fail(self, frame: AnyFrame, i: int, b: NodeState, error: ErrorInfo, *, retryable: bool, luck: float,
              started: float | None = None, delay: float | None = None) -> None:
        """An attempt failed: another is due, or the node has failed."""
        if error.node is None:
            error = msgspec.structs.replace(error, node=b.node_id)
        policy, tries = frame.node(i).policy, frame.tries.get(i, 1)
        wake = retry_at(policy, tries, error.type, retryable, self._now, luck, delay)
        if wake is not None:
            frame.status[i] = _RETRYING
            self._retrying += 1
            cell = self._ended_cell(b, _RETRYING, error, started, retryable)
            self._emit(frame, i, msgspec.structs.replace(cell, wake_at=wake), b)
            self._commands.append(Wake(frame.base + i, wake))
            return
        frame.status[i] = _FAILED
        self.failed += 1
        self._emit(frame, i, self._ended_cell(b, _FAILED, error, started, retryable), b)
        self._failed_for_good(frame, i, error)

    def _failed_for_good(self, frame: AnyFrame, i: int, error: ErrorInfo) -> None:
        self._settled.append((frame, i))
        if isinstance(frame, Frame) and not frame.block.catches[i]:
            self._fail_frame(frame, i, error)

    def _composite_failed(self, frame: AnyFrame, i: int, error: ErrorInfo) -> None:
        before = frame.cells[i]
        assert before is not None
        is_map = isinstance(frame, Frame) and frame.node(i).policy.for_each is not None
        self._fail(frame, i, before, error, retryable=not is_map, luck=self._luck)

    def _crash_loop(self, frame: AnyFrame, i: int, before: NodeState) -> None:
        frame.status[i] = _RUNNING
        error = ErrorInfo(
            "CrashLoop", f"its body was started {before.claims} times and its process died each time; it is "
            "not started again. Look for what kills the process (memory, a native extension), then resume")
        self._fail(frame, i, before, error, retryable=False, luck=self._luck)

    def _skip(self, frame: Frame, i: int, flawed: bool) -> None:
        frame.status[i] = _SKIPPED
        frame.flawed[i] = flawed
        self.skipped += 1
        self._settled.append((frame, i))
        node, path, iteration = frame.node(i), frame.path(i), frame.iteration(i)
        recorded = self._memory.pop((path, iteration), None) if self._memory else None
        if recorded is not None:
            if recorded.status is _SKIPPED and recorded.lineage == node.lineage:
                self._remember(frame, i, recorded)
                return
            self._retire(frame, i, recorded)
        attempt = 1 if recorded is None else recorded.attempt + 1
        self._emit(frame, i, NodeState(
            self._id, path, iteration, attempt, self._epoch, status=_SKIPPED, ended_at=self._now,
            lineage=node.lineage, round=frame.round), None)

    # Replay

    def _adopt(self, frame: AnyFrame, i: int) -> bool:
        node = frame.node(i)
        key = (frame.path(i), frame.iteration(i))
        recorded = self._memory.pop(key, None)
        if recorded is None:
            return False
        self._remember(frame, i, recorded)
        same_round = recorded.round >= frame.round
        frame.tries[i] = self._used.get(key, 1) if same_round else 1
        if recorded.lineage != node.lineage:
            self._retire(frame, i, recorded)
            return False
        status = recorded.status
        if status is _COMPLETED:
            frame.status[i] = status
            self.completed += 1
            self._settled.append((frame, i))
        elif status is _FAILED and (same_round or self._handled(frame, i)):
            frame.status[i] = status
            self.failed += 1
            self._failed_for_good(frame, i, recorded.error or ErrorInfo("Unknown", "", node=recorded.node_id))
        elif status in (_SUSPENDED, _RETRYING):
            frame.status[i] = status
            self._suspended += status is _SUSPENDED
            self._retrying += status is _RETRYING
            if recorded.wake_at is not None:
                self._commands.append(Wake(frame.base + i, recorded.wake_at))
        elif status is _RUNNING and self._is_composite(frame, i) and (
                recorded.items or frame.item(i) is not None):
            frame.status[i] = status
            self._open_child(frame, i, None)
        else:
            if status is not _RUNNING:
                frame.tries[i] = 1
            return False
        return True

    def _remember(self, frame: AnyFrame, i: int, recorded: NodeState) -> None:
        frame.cells[i] = recorded
        if frame.log is not None:
            frame.log[(recorded.node_id, recorded.iteration)] = recorded

    def _handled(self, frame: AnyFrame, i: int) -> bool:
        """Whether a failure went down an `error` arrow, or stands in its map's results."""
        if isinstance(frame, MapFrame):
            return frame.node(i).policy.on_item_error is OnItemError.COLLECT
        return frame.block.catches[i]

    def _retire(self, frame: AnyFrame, i: int, recorded: NodeState) -> None:
        """An attempt that the diagram has outgrown: it is history, and so are its items."""
        if not recorded.status.terminal:
            self._emit(frame, i, self._ended_cell(recorded, _CANCELLED, recorded.error), recorded)
        cell = frame.cells[i]
        frame.cells[i] = msgspec.structs.replace(recorded if cell is None else cell, items=None)

    def _after(self, cell: NodeState, **changes: Any) -> NodeState:
        """The cell that follows another of the same attempt."""
        return msgspec.structs.replace(cell, seq=cell.seq + 1, epoch=self._epoch, **changes)


HANDLERS: dict[type[f.Fact], Callable[[Kernel, Any], None]] = {
    f.Started: Kernel._on_started, f.Finished: Kernel._on_finished, f.Failed: Kernel._on_failed,
    f.Expanded: Kernel._on_expanded, f.Suspended: Kernel._on_suspended, f.Answered: Kernel._on_answered,
    f.Woken: Kernel._on_woken, f.Cancelled: Kernel._on_cancelled, f.Expired: Kernel._on_expired}
