"""The kernel's invariants, checked as a whole: after every step in tests, on request in production.

They are stated from scratch (by a scan), never by the counters that they check.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.diagram.policy import Join
from treadle.errors import Corruption
from treadle.kernel.control import NOTHING, PENDING, AnyFrame, Frame
from treadle.kernel.moves import MOVES, illegal
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.kernel.commands import Step
    from treadle.kernel.execution import Kernel


def check_kernel(kernel: Kernel, step: Step) -> None:
    """Raise `Corruption` or `IllegalMove` if a step broke what must always hold."""
    _check_step(kernel, step)
    if kernel.closed:
        return
    busy = suspended = retrying = 0
    for frame in kernel._frames:
        if frame is None or frame.ended:
            continue
        if isinstance(frame, Frame):
            _check_frame(frame)
        for i in frame.live():
            status = frame.status[i]
            busy += status is NodeStatus.RUNNING and not kernel._is_composite(frame, i)
            suspended += status is NodeStatus.SUSPENDED
            retrying += status is NodeStatus.RETRYING
            early = status in (PENDING, NodeStatus.SCHEDULED)
            _must(early or frame.cells[i] is not None, frame, i, "has no cell")
    busy += len(kernel._asked)
    counted = (kernel._busy, kernel._suspended, kernel._retrying)
    if counted != (busy, suspended, retrying):
        there = (busy, suspended, retrying)
        raise Corruption(f"counts of busy, suspended, retrying are {counted}, but {there} are there")
    if not (busy or suspended or retrying or kernel._ready) and kernel._root is not None:
        raise Corruption(f"execution {kernel.execution.execution_id} is stuck: nothing runs, waits or is "
                         "ready, and it hasn't ended")


def _check_step(kernel: Kernel, step: Step) -> None:
    for cell, before in zip(step.cells, step.before, strict=True):
        known = NodeStatus.PENDING if before is None else before.status
        if cell.status not in MOVES[known]:
            raise illegal(before, cell.node_id, cell.status)
        if before is not None and (before.key != cell.key or before.version >= cell.version):
            raise Corruption(f"{cell.key} at {cell.version} doesn't follow {before.key} at {before.version}")
    if step.execution is not None and step.execution.epoch != kernel.execution.epoch:
        raise Corruption("a step wrote under another epoch")


def _check_frame(frame: Frame) -> None:
    block = frame.block
    for i, status in enumerate(frame.status):
        dropped = frame.dropped.get(i, NOTHING)
        into = [frame.arrows[a] for a in block.into[i] if a not in dropped]
        waiting = sum(carry is None for carry in into)
        if status is PENDING:
            counted = frame.pending[i]
            _must(counted == waiting, frame, i, f"counts {counted} pending arrows, {waiting} are")
            _must(waiting > 0, frame, i, "is pending, but no arrow into it is")
        elif status is not NodeStatus.SKIPPED:
            early = frame.node(i).policy.join is Join.ANY
            _must(early or not waiting, frame, i, "has started, but an arrow into it is pending")
    for turn in frame.loops:
        loop = turn.loop
        left = sum(not _terminal(frame, i) for i in loop.own)
        left += sum(frame.loops[k].open > 0 for k in loop.inner)
        if turn.open != left:
            raise Corruption(f"the loop at {frame.path(loop.head)} counts {turn.open} open parts, {left} are")
    left = sum(not _terminal(frame, i) for i in range(frame.size) if block.loop_of[i] < 0)
    left += sum(turn.open > 0 for turn in frame.loops if turn.loop.parent < 0)
    if frame.open != left:
        raise Corruption(f"the frame {frame.prefix!r} counts {frame.open} open parts, {left} are")


def _terminal(frame: Frame, i: int) -> bool:
    return frame.status[i].terminal


def _must(holds: bool, frame: AnyFrame, i: int, what: str) -> None:
    if not holds:
        raise Corruption(f"node {frame.path(i)!r} {what}")


