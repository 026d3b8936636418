"""Attempts: how a node's body is begun, begun again, ended, and taken over from what was recorded; and when
the next one is due."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram
from treadle.diagram.policy import LATEST, Backoff, OnItemError, Policy
from treadle.kernel.commands import Close, Expand, Perform, Wake
from treadle.kernel.control import AnyFrame, Frame, MapFrame
from treadle.kernel.flow import Flow
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

_COMPLETED, _FAILED, _SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
_SCHEDULED, _RUNNING, _CANCELLED = NodeStatus.SCHEDULED, NodeStatus.RUNNING, NodeStatus.CANCELLED
_SUSPENDED, _RETRYING = NodeStatus.SUSPENDED, NodeStatus.RETRYING

CLAIMS_MAX = 3
"""Starts of one attempt's body; a crash during the last of them fails the attempt with `CrashLoop`."""
MAP_WINDOW = 1000
"""Items of one map that are open at once, so that a wide map is released in chunks."""


def retry_at(policy: Policy, tries: int, kind: str, retryable: bool, at: float, luck: float,
             delay: float | None = None) -> float | None:
    """The instant of the next attempt, or None if there is none.

    `tries` counts the attempts of this round, the failed one included; `kind` is the error's type name,
    `luck` a number in [0, 1); `delay` seconds, if the body asked for them, replace the back-off.
    """
    if tries > policy.retries or not retryable:
        return None
    if policy.retry_on and kind not in policy.retry_on:
        return None
    wait = pause(policy.backoff, tries, luck) if delay is None else max(0.0, delay)
    return min(at + wait, LATEST)


def pause(backoff: Backoff, tries: int, luck: float) -> float:
    """Seconds to wait after the `tries`-th failure: exponential, capped, spread by ± jitter of itself."""
    try:
        seconds = min(backoff.max, backoff.initial * backoff.factor ** (tries - 1))
    except OverflowError:
        seconds = backoff.max
    return max(0.0, seconds * (1.0 + backoff.jitter * (2.0 * luck - 1.0)))


class Attempts(Flow):
    """What `Kernel` does with nodes that are ready. `concurrency` bounds the bodies that run at once."""

    __slots__ = ("_clean", "_concurrency", "_luck", "_stepped", "_used")

    def __init__(self, diagram: ExecutableDiagram, cell: ExecutionCell, concurrency: int) -> None:
        super().__init__(diagram, cell)
        self._concurrency = concurrency
        self._clean = True  # whether what was interrupted had been given back
        self._luck = 0.5
        # Recorded cells of completed bodies with steps, by path and iteration
        self._stepped: dict[tuple[str, str], NodeState] = {}
        self._used: dict[tuple[str, str], int] = {}  # attempts of the recorded round, by path and iteration

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
            self._now, meta=b.meta, lineage=frame.node(i).lineage, claims=claims,
            winner=self._winner(frame, i), items=b.items, round=frame.round)
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
        if before.meta is not None:  # it has steps
            self.told.append(cell)
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
        if self._stepped and status.terminal:
            self._tell(frame, i)
        return True

    def _tell(self, frame: AnyFrame, i: int) -> None:
        """Tell the steps of what is taken over as ended, and of the bodies inside it."""
        path, turns = frame.path(i), frame.turns_of(i)
        if not self._is_composite(frame, i):
            key = (path, turns or "1")
            if key in self._stepped:
                self.told.append(self._stepped[key])
            return
        inside = (f"{path}[", f"{path}/")
        for key, cell in self._stepped.items():
            if key[0].startswith(inside) and (not turns or f"{key[1]}.".startswith(f"{turns}.")):
                self.told.append(cell)

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
        frame.cells[i] = msgspec.structs.replace(recorded if cell is None else cell, items=None, meta=None)

    def _after(self, cell: NodeState, **changes: Any) -> NodeState:
        """The cell that follows another of the same attempt."""
        return msgspec.structs.replace(cell, seq=cell.seq + 1, epoch=self._epoch, **changes)
