"""What an execution did, as numbers: timings, rates, the path taken, the critical path.

The engine hands every step's cells to `consume`, which only keeps them; all figures are derived when they
are asked for. So tracking costs one list extension a step.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import msgspec

from treadle.ids import NodeID
from treadle.state.cell import NodeState, instant
from treadle.state.envelope import Envelope
from treadle.state.status import NodeStatus

HISTORY_MAX = 200_000
"""Attempts of which a tracker keeps the times; older ones only count."""

# An attempt that is followed by another is first `retrying`, then `failed`: its time counts at the second.
_ENDED = (
    NodeStatus.COMPLETED,
    NodeStatus.FAILED,
    NodeStatus.SKIPPED,
    NodeStatus.CANCELLED,
    NodeStatus.RETRYING,
)


Predecessors = Callable[[str], Sequence[str]]
"""Node id → the ids of the nodes that it has arrows from."""


class NodeTiming(msgspec.Struct, frozen=True, gc=False):
    """One attempt's body: instants in seconds since 1970."""

    node_id: str
    iteration: str
    attempt: int
    status: NodeStatus
    started_at: float
    ended_at: float

    @property
    def seconds(self) -> float:
        return self.ended_at - self.started_at


class ExecutionMetrics(msgspec.Struct, frozen=True):
    """The figures of one execution so far. Times are in seconds; rates are shares of what ended with a
    result."""

    total: int = 0  # attempts that ended, skipped ones included
    completed: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    retried: int = 0
    success_rate: float = 0.0
    failure_rate: float = 0.0
    elapsed_s: float = 0.0  # from the first start to the last end
    busy_s: float = 0.0  # the sum over bodies
    mean_s: float = 0.0
    slowest: tuple[NodeTiming, ...] = ()  # at most ten
    path: tuple[str, ...] = ()  # nodes in the order in which their bodies started
    critical_path: tuple[str, ...] = ()  # the chain of nodes that the end waited for
    critical_s: float = 0.0
    rss_bytes: int = 0  # the largest this process has been

    @property
    def parallelism(self) -> float:
        """Bodies that ran at once, on average."""
        return self.busy_s / self.elapsed_s if self.elapsed_s else 0.0


class ExecutionTracker:
    """Tracks the progress and history of one execution."""

    def __init__(self, predecessors: Predecessors | None = None) -> None:
        self._predecessors = predecessors or (lambda node_id: ())
        self._pending: list[NodeState] = []
        self._history: list[NodeTiming] = []
        self._counts = dict.fromkeys(_ENDED, 0)
        self._open: dict[str, float] = {}
        self._busy = 0.0
        self.consume = self._pending.extend

    def fold(self) -> None:
        """Turn the kept cells into figures. The engine calls it when many wait."""
        pending = self._pending
        history, counts = self._history, self._counts
        for cell in pending:
            status = cell.status
            if status in counts:
                counts[status] += 1
                if (
                    cell.started_at is not None
                    and cell.ended_at is not None
                    and status is not NodeStatus.RETRYING
                ):
                    history.append(NodeTiming(cell.node_id, cell.iteration, cell.attempt, status,
                                              cell.started_at, cell.ended_at))
                    self._busy += cell.ended_at - cell.started_at
        pending.clear()
        if len(history) > HISTORY_MAX:
            del history[:len(history) - HISTORY_MAX]

    def record_node_start(self, node_id: NodeID | str, timestamp: datetime | float) -> None:
        """A body begins. A naive datetime is local time."""
        self._open[node_id] = instant(timestamp) or 0.0

    def record_node_complete(self, node_id: NodeID | str, output: Envelope,
                             timestamp: datetime | float | None = None) -> None:
        """A body ended with this output; an output of content type `error` counts as a failure.

        Without `timestamp` the output's own is taken, or now. ValueError if the node was not started.
        """
        started = self._open.pop(node_id, None)
        if started is None:
            raise ValueError(
                f"node {node_id!r} was not started: record_node_start({node_id!r}, …) comes first"
            )
        ended = instant(timestamp if timestamp is not None else output.timestamp)
        if ended is None:
            ended = datetime.now().timestamp()
        status = NodeStatus.FAILED if output.has_error() else NodeStatus.COMPLETED
        turn = 1 + sum(one.node_id == node_id for one in self._history)
        self._counts[status] += 1
        self._busy += ended - started
        self._history.append(NodeTiming(str(node_id), str(turn), 1, status, started, ended))

    def get_execution_metrics(self) -> ExecutionMetrics:
        """The figures so far."""
        self.fold()
        counts, history = self._counts, self._history
        failed = counts[NodeStatus.FAILED]
        decided = counts[NodeStatus.COMPLETED] + failed
        critical, critical_s = critical_path(history, self._predecessors)
        return ExecutionMetrics(
            total=sum(counts.values()) - counts[NodeStatus.RETRYING],
            completed=counts[NodeStatus.COMPLETED],
            failed=counts[NodeStatus.FAILED],
            skipped=counts[NodeStatus.SKIPPED],
            cancelled=counts[NodeStatus.CANCELLED],
            retried=counts[NodeStatus.RETRYING],
            success_rate=counts[NodeStatus.COMPLETED] / decided if decided else 0.0,
            failure_rate=failed / decided if decided else 0.0,
            elapsed_s=max(t.ended_at for t in history) - min(t.started_at for t in history)
            if history
            else 0.0,
            busy_s=self._busy,
            mean_s=self._busy / len(history) if history else 0.0,
            slowest=tuple(sorted(history, key=lambda t: -t.seconds)[:10]),
            path=tuple(t.node_id for t in sorted(history, key=lambda t: t.started_at)),
            critical_path=critical,
            critical_s=critical_s,
            rss_bytes=_rss_max(),
        )


def critical_path(history: Iterable[NodeTiming], predecessors: Predecessors
                  ) -> tuple[tuple[str, ...], float]:
    """The chain of nodes that the end waited for, walked back from what ended last, and how long it took.

    Each step goes to the predecessor that ended last before the node's start; items and inner nodes count
    for the node of the root diagram that they belong to.
    """
    last: dict[str, list[NodeTiming]] = {}
    for timing in history:
        last.setdefault(timing.node_id.split("/")[0].split("[")[0], []).append(timing)
    if not last:
        return (), 0.0
    name, current = max(((name, max(all, key=lambda t: t.ended_at)) for name, all in last.items()),
                        key=lambda pair: pair[1].ended_at)
    end, path, seen = current.ended_at, [name], {id(current)}
    while True:
        before = [(source, t) for source in predecessors(name) for t in last.get(source, ())
                  if t.ended_at <= current.started_at and id(t) not in seen]
        if not before:
            return tuple(reversed(path)), end - current.started_at
        name, current = max(before, key=lambda pair: pair[1].ended_at)
        seen.add(id(current))
        path.append(name)


def _rss_max() -> int:
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024
