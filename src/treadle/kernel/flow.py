"""How values, deaths and failures travel along arrows, round loops, and in and out of nested frames.

Nothing here recurses along the graph: what has ended waits in `_settled` until `_advance` passes it on, so a
chain of a hundred thousand skips is a loop and not a stack. Costs are O(arrows) in total: counters, never a
rescan.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram, ExecutableLoop
from treadle.diagram.node import DEFAULT, ERROR
from treadle.diagram.policy import Join, OnError, OnItemError, OnLimit
from treadle.kernel.commands import Cancel, Close, Command, Gather
from treadle.kernel.control import (
    DEAD,
    FAILED,
    NOTHING,
    PENDING,
    AnyFrame,
    Carry,
    Frame,
    Frames,
    MapFrame,
    Ready,
    Turn,
)
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

_COMPLETED, _FAILED, _SKIPPED = NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED
_SCHEDULED, _RUNNING, _CANCELLED = NodeStatus.SCHEDULED, NodeStatus.RUNNING, NodeStatus.CANCELLED
_SUSPENDED, _RETRYING = NodeStatus.SUSPENDED, NodeStatus.RETRYING

PORTION = 1000
"""Arrows of one node that are delivered in one go."""


class Flow(Frames, ABC):
    """Frames and what travels in them. `Kernel` adds facts, attempts and the execution's own state."""

    # More than 30 attributes without slots would cost a dictionary each, and every look-up a hash.
    __slots__ = (
        "_aborts", "_asked", "_before", "_busy", "_cells", "_changed", "_commands", "_epoch", "_id",
        "_memory", "_now", "_ready", "_retrying", "_settled", "_suspended", "_wide", "closed", "completed",
        "diagram", "execution", "failed", "skipped", "told")

    def __init__(self, diagram: ExecutableDiagram, cell: ExecutionCell) -> None:
        super().__init__()
        self.diagram = diagram
        self.execution = cell
        self._id = cell.execution_id
        self._epoch = cell.epoch
        self._now = 0.0
        self._ready = Ready()
        self._settled: list[tuple[AnyFrame, int]] = []
        self._aborts: list[AnyFrame] = []
        self._wide: deque[tuple[Frame, int, int]] = deque()  # fan-outs, and how far each was delivered
        self._memory: dict[tuple[str, str], NodeState] = {}  # recorded cells that a replay has not met yet
        self._asked: set[int] = set()  # composites whose Expand or Gather is out
        self._busy = 0  # Perform, Expand and Gather that are out
        self._suspended = 0
        self._retrying = 0
        # Cells of completed bodies with steps as they came; a later one of a path and iteration replaces the
        # former.
        self.told: list[NodeState] = []
        self.completed = self.failed = self.skipped = 0
        # Of the step that is being made; `handle` makes them anew.
        self._cells: list[NodeState]
        self._before: list[NodeState | None]
        self._commands: list[Command]
        self._changed: ExecutionCell | None = None  # the execution's cell, if this step changed it
        self.closed = False

    # What Kernel decides

    @abstractmethod
    def _adopt(self, frame: AnyFrame, i: int) -> bool:
        """Take over what memory holds of a node that is ready; False if it must be performed."""

    @abstractmethod
    def _skip(self, frame: Frame, i: int, flawed: bool) -> None:
        """Record that a node is skipped."""

    @abstractmethod
    def _composite_failed(self, frame: AnyFrame, i: int, error: ErrorInfo) -> None:
        """A composite's inner nodes have failed it."""

    # Frames

    def _open_frame(self, block: ExecutableDiagram, owner: tuple[AnyFrame, int] | None, round: int) -> Frame:
        frame = Frame(block, self._next, owner=owner, round=round)
        self._register(frame)
        for turn in frame.loops:
            if turn.loop.parent < 0:
                frame.first_turn(turn)
                for i in turn.loop.members:
                    frame.count(i)
        if not frame.open:
            self._frame_ended(frame)
        # Only loops make nodes ready that have arrows: their first turn ignores the back arrows.
        for i in range(frame.size) if frame.loops else block.sources:
            if not frame.pending[i] and frame.status[i] is PENDING:
                self._resolve(frame, i)
        return frame

    def _open_map(self, owner: tuple[Frame, int], size: int, window: int, round: int) -> None:
        frame = MapFrame(owner, self._next, size, window, round)
        if size:
            self._register(frame)
            self._open_items(frame)
        else:
            self._frame_ended(frame)

    def _open_items(self, frame: MapFrame) -> None:
        while frame.opened < frame.size and frame.open < frame.window:
            i = frame.opened
            frame.opened += 1
            frame.open += 1
            self._arrive(frame, i)

    # Arrows

    def _arrive(self, frame: AnyFrame, i: int) -> None:
        """A node is ready."""
        frame.status[i] = _SCHEDULED
        frame.scheduled[i] = self._now
        if not self._memory or not self._adopt(frame, i):
            self._ready.push(frame.base + i, frame.node(i).policy.priority)

    def _pass_on(self, frame: AnyFrame, i: int) -> None:
        """A node has ended: tell its arrows, then the loop or frame around it."""
        if type(frame) is MapFrame:
            self._item_ended(frame, i)
            return
        assert type(frame) is Frame
        block = frame.block
        forward, loop = block.forward[i], block.loop_of[i]
        if frame.status[i] is not _COMPLETED:
            for a, target, _ in forward:
                self._carry(frame, a, target, self._outcome(frame, a))
        elif len(forward) <= PORTION or loop >= 0 or block.ranked:
            self._deliver(frame, i, forward)
        else:
            self._wide.append((frame, i, 0))
        if loop < 0:
            frame.open -= 1
            if not frame.open:
                self._frame_ended(frame)
        else:
            self._count_down(frame, frame.loops[loop])

    def _deliver_more(self) -> None:
        """The next portion of a wide fan-out: one step for all of it would hold the event loop up."""
        frame, i, start = self._wide.popleft()
        if frame.ended:
            return
        forward, stop = frame.block.forward[i], start + PORTION
        if stop < len(forward):
            self._wide.appendleft((frame, i, stop))
        self._deliver(frame, i, forward[start:stop])

    def _deliver(self, frame: Frame, i: int, forward: Sequence[tuple[int, int, str]]) -> None:
        """Put a completed node's value on the arrows of the port that it chose, and kill the others.

        The plain case of `_carry` stands here once more: it is most of what a wide fan-out costs.
        """
        cell = frame.cells[i]
        assert cell is not None
        block, port = frame.block, cell.port or DEFAULT
        arrows, pending, simple, bad = frame.arrows, frame.pending, block.simple, frame.bad
        quick = not self._memory and not block.ranked
        status, scheduled, now, base, push = (
            frame.status, frame.scheduled, self._now, frame.base, self._ready.plain.append)
        for a, target, leaving in forward:
            if leaving != port or not simple[target] or arrows[a] is not None:
                self._carry(frame, a, target, cell if leaving == port else DEAD)
                continue
            arrows[a] = cell
            left = pending[target] - 1
            pending[target] = left
            if not left:
                if quick and not bad[target]:
                    status[target] = _SCHEDULED
                    scheduled[target] = now
                    push(base + target)
                else:
                    self._resolve(frame, target)

    def _outcome(self, frame: Frame, a: int) -> Carry:
        """What an arrow carries, given how its source ended."""
        arrow = frame.block.arrows[a]
        i = arrow.source
        if a in frame.forced:
            return frame.forced[a]
        status, cell = frame.status[i], frame.cells[i]
        if status is _COMPLETED and cell is not None:
            return cell if arrow.port == (cell.port or DEFAULT) else DEAD
        if status is _FAILED and cell is not None:
            if not frame.block.catches[i]:
                return FAILED
            return cell if arrow.port == ERROR else DEAD
        return FAILED if frame.flawed[i] else DEAD

    def _carry(self, frame: Frame, a: int, target: int, carry: Carry) -> None:
        """An arrow is decided."""
        if frame.arrows[a] is not None:
            return
        frame.arrows[a] = carry
        if frame.status[target] is not PENDING or a in frame.dropped.get(target, NOTHING):
            return
        frame.pending[target] -= 1
        if carry is DEAD or carry is FAILED:
            frame.bad[target] = 1
        elif target in frame.block.any_join and self._wins(frame, a, target):
            frame.winners[target] = a
            self._arrive(frame, target)
            return
        if not frame.pending[target]:
            self._resolve(frame, target)

    def _wins(self, frame: Frame, a: int, target: int) -> bool:
        """Whether a value may start a join-any node; in a replay only the recorded winner may."""
        recorded = self._memory.get((frame.path(target), frame.iteration(target))) if self._memory else None
        if recorded is None or recorded.winner is None or recorded.lineage != frame.node(target).lineage:
            return True
        return recorded.winner == frame.block.arrows[a].text

    def _winner(self, frame: AnyFrame, i: int) -> str | None:
        if type(frame) is not Frame or i not in frame.winners:
            return None
        return frame.block.arrows[frame.winners[i]].text

    def _resolve(self, frame: Frame, i: int) -> None:
        """No arrow into a node is pending any more."""
        dropped = frame.dropped.get(i, NOTHING)
        into = frame.block.into[i]
        if not frame.bad[i] and frame.block.simple[i]:
            self._arrive(frame, i)
            return
        effective = [a for a in into if a not in dropped]
        valued = [a for a in effective if isinstance(frame.arrows[a], NodeState)]
        if frame.node(i).policy.join is Join.ANY and effective:
            if valued:  # the recorded winner is gone: take the first
                frame.winners[i] = valued[0]
                self._arrive(frame, i)
            else:
                self._skip(frame, i, flawed=False)
        elif any(frame.arrows[a] is FAILED for a in effective):
            self._skip(frame, i, flawed=True)
        elif valued or (not effective and self._needs_nothing(frame, i)):
            self._arrive(frame, i)
        else:
            self._skip(frame, i, flawed=False)

    def _needs_nothing(self, frame: Frame, i: int) -> bool:
        """Whether a node without arrows in effect starts: it has none, or a first turn's back arrows only."""
        block = frame.block
        loop = block.loop_of[i]
        if loop < 0 or not block.into[i]:
            return True
        turn = frame.loops[loop]
        return turn.turn == 1 and all(block.arrows[a].back_of == loop for a in block.into[i])

    # Loops

    def _count_down(self, frame: Frame, turn: Turn) -> None:
        turn.open -= 1
        if not turn.open:
            self._turn_ended(frame, turn)

    def _turn_ended(self, frame: Frame, turn: Turn) -> None:
        """All nodes of a loop's turn have ended: run again if a back arrow carries a value, else leave."""
        loop = turn.loop
        back = {a: self._outcome(frame, a) for a in loop.back}
        carrying = [a for a, carry in back.items() if isinstance(carry, NodeState)]
        if carrying and turn.turn < loop.max_iterations:
            for i in loop.members:
                child = frame.children.get(i)
                if child is not None:
                    self._forget(child)
            frame.next_turn(turn, back)
            self._gone += len(loop.members)
            for i in loop.members:
                frame.count(i)
            for i in loop.members:
                if not frame.pending[i] and frame.status[i] is PENDING:
                    self._resolve(frame, i)
            return
        if carrying:
            self._at_limit(frame, loop, carrying)
        for a in loop.exits:
            arrow = frame.block.arrows[a]
            if arrow.back_of < 0:
                self._carry(frame, a, arrow.target, self._outcome(frame, a))
        if loop.parent >= 0:
            self._count_down(frame, frame.loops[loop.parent])
        else:
            frame.open -= 1
            if not frame.open:
                self._frame_ended(frame)

    def _at_limit(self, frame: Frame, loop: ExecutableLoop, carrying: list[int]) -> None:
        """A loop wants one turn more than it may have: fail the frame, or push the back arrow's value out."""
        block = frame.block
        members = set(loop.members)
        leaving = {i: [a for a in block.out[i] if block.arrows[a].target not in members]
                   for i in loop.members}
        if loop.on_limit is OnLimit.EXIT:
            for a in carrying:
                value = self._outcome(frame, a)
                for source in (block.arrows[a].source, loop.head):
                    out = [b for b in leaving[source] if block.arrows[b].port != ERROR]
                    if out:
                        frame.forced.update(dict.fromkeys(out, value))
                        break
            return
        for out in leaving.values():
            frame.forced.update(dict.fromkeys(out, FAILED))
        head = block.nodes[loop.head].id
        where = f" ({loop.where})" if loop.where else ""
        error = ErrorInfo(
            "LoopLimit", f"the loop at {frame.prefix}{head}{where} wanted iteration "
            f"{loop.max_iterations + 1} of at most {loop.max_iterations}; raise the limit with "
            f"loops: [{{entry: {head}, max_iterations: N}}], or let the last value out with on_limit: exit",
            node=frame.prefix + head)
        self._fail_frame(frame, loop.head, error)

    # The ends of frames

    def _fail_frame(self, frame: Frame, i: int, error: ErrorInfo) -> None:
        """Note a failure that nothing catches; with `on_error: fail` it ends the frame once it has spread."""
        frame.failures.append((i, frame.iteration(i), error))
        if frame.block.on_error is OnError.FAIL:
            self._aborts.append(frame)

    def _frame_ended(self, frame: AnyFrame) -> None:
        """Every node of a frame has ended."""
        if frame.ended:
            return
        frame.ended = True
        error = min(frame.failures, key=lambda f: f[:2])[2] if frame.failures else None
        if frame.owner is None:
            self._root_ended(error)
        elif error is not None:
            self._composite_failed(*frame.owner, error)
        else:
            owner, i = frame.owner
            cell = owner.cells[i]
            assert cell is not None
            self._busy += 1
            self._asked.add(owner.base + i)
            self._commands.append(Gather(owner.base + i, cell))

    def _item_ended(self, frame: MapFrame, i: int) -> None:
        frame.open -= 1
        cell = frame.cells[i]
        if frame.status[i] is _FAILED and frame.node(i).policy.on_item_error is OnItemError.FAIL:
            assert cell is not None and cell.error is not None
            frame.failures.append((i, "", cell.error))
            if frame.owner[0].block.on_error is OnError.FAIL:
                self._aborts.append(frame)
                return
        if frame.opened < frame.size:
            self._open_items(frame)
        elif not frame.open:
            self._frame_ended(frame)

    def _abort(self, frame: AnyFrame) -> None:
        """End a frame by its failure: what is running, retrying or suspended is cancelled."""
        if not frame.ended:
            self._stop(frame)
            self._frame_ended(frame)

    def _stop(self, frame: AnyFrame) -> None:
        """Cancel whatever is under way in a frame and inside it; what had not started stays pending."""
        for i in list(frame.live()):
            status, cell = frame.status[i], frame.cells[i]
            if status is _SCHEDULED and (cell is None or cell.status.terminal):
                frame.status[i] = PENDING
            if status is PENDING or cell is None or cell.status.terminal:
                continue
            child = frame.children.get(i)
            if child is not None and not child.ended:
                self._stop(child)
                child.ended = True
            if status is not _SCHEDULED:
                self._release_slot(frame, i)
                self._commands.append(Cancel(frame.base + i))
            frame.status[i] = _CANCELLED
            self._emit(frame, i, self._ended_cell(cell, _CANCELLED, cell.error), cell)

    def _release_slot(self, frame: AnyFrame, i: int) -> None:
        """Take a node that leaves `running`, `suspended` or `retrying` out of the counts."""
        status = frame.status[i]
        slot = frame.base + i
        if status is _SUSPENDED:
            self._suspended -= 1
        elif status is _RETRYING:
            self._retrying -= 1
        elif slot in self._asked:
            self._asked.discard(slot)
            self._busy -= 1
        elif status is _RUNNING and not self._is_composite(frame, i):
            self._busy -= 1

    # Cells

    def _is_composite(self, frame: AnyFrame, i: int) -> bool:
        if type(frame) is Frame:
            return not frame.block.leaf[i]
        return frame.node(i).child is not None

    def _ended_cell(self, before: NodeState, status: NodeStatus, error: ErrorInfo | None,
                    started: float | None = None, retryable: bool | None = None) -> NodeState:
        b = before
        return NodeState(
            b.execution_id, b.node_id, b.iteration, b.attempt, self._epoch, b.seq + 1, status, b.scheduled_at,
            started or b.started_at, b.ended_at or self._now, None, None, None, None, b.meta, error,
            b.retryable if retryable is None else retryable, None, b.lineage, b.claims, b.worker, b.winner,
            b.request, b.items, b.round)

    def _emit(self, frame: AnyFrame, i: int, cell: NodeState, before: NodeState | None) -> None:
        frame.cells[i] = cell
        self._cells.append(cell)
        self._before.append(before)
        if frame.log is not None:
            frame.log[(cell.node_id, cell.iteration)] = cell

    # The execution

    def _root_ended(self, error: ErrorInfo | None) -> None:
        self._close(ExecutionStatus.COMPLETED if error is None else ExecutionStatus.FAILED, error)

    def _end(self, status: ExecutionStatus, error: ErrorInfo) -> None:
        if self._root is not None:
            self._stop(self._root)
            self._root.ended = True
        self._close(status, error)

    def _close(self, status: ExecutionStatus, error: ErrorInfo | None) -> None:
        self.closed = True
        self._become(status, error=error, ended_at=self._now)
        self._commands.append(Close(status, error))

    def _become(self, status: ExecutionStatus, **changes: Any) -> None:
        if status is not self.execution.status or changes:
            self.execution = self._changed = msgspec.structs.replace(
                self.execution, status=status, seq=self.execution.seq + 1, epoch=self._epoch, **changes)

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes (items, inner nodes, turns of loops) ended how, are under way, and are known."""
        known = self._gone + sum(frame.size for frame in self._frames if frame is not None)
        return {"known": known, "completed": self.completed, "failed": self.failed, "skipped": self.skipped,
                "running": self._busy, "ready": len(self._ready), "suspended": self._suspended,
                "retrying": self._retrying}
