"""`AsyncStateManager`: the state manager as the first consumer on the way of whatever happens.

The engine hands it whole steps (`take`) before it publishes them (law 2): the cells of a step are written
together or not at all, which single events could not promise. Code that drives nodes by itself subscribes it
to a bus of its own, and it writes what the events carry (`consume`). Either way it is a thin front of the one
`StateManager`: buffered, and written in batches at most `batch_interval` (0.1 s) late.
"""

from __future__ import annotations

import msgspec

from treadle.engine.bus import Event
from treadle.state.cell import ContextCell, ExecutionCell
from treadle.store.base import Lease
from treadle.store.manager import StateManager


class AsyncStateManager:
    """Writes steps of an engine, and the cells of events.

    With events, an execution is created, or claimed, by the first that carries its own cell; cells of nodes
    that come before that are refused with ValueError.
    """

    def __init__(self, manager: StateManager) -> None:
        self.manager = manager
        self.take = manager.record  # itself, not a method around it: it is on the way of every node
        self._leases: dict[str, Lease] = {}

    async def start(self) -> None:
        await self.manager.start()

    async def consume(self, event: Event) -> None:
        """Queue an event's cell; it is on disk within the interval, or when `stop` returns."""
        cell, lease = event.cell, self._leases.get(event.execution_id)
        if isinstance(cell, ExecutionCell):
            if lease is None:
                try:
                    lease = await self.manager.create(msgspec.structs.replace(cell, epoch=1), "")
                except ValueError:  # it exists
                    lease = await self.manager.claim(cell.execution_id)
                self._leases[cell.execution_id] = lease
            self.manager.record([], msgspec.structs.replace(cell, epoch=lease.epoch))
        elif lease is None:
            what = "the context" if isinstance(cell, ContextCell) else "a node"
            raise ValueError(
                f"{what} of execution {event.execution_id!r} was announced before the execution itself"
            )
        elif isinstance(cell, ContextCell):
            self.manager.share([msgspec.structs.replace(cell, epoch=lease.epoch)])
        else:
            self.manager.record([msgspec.structs.replace(cell, epoch=lease.epoch)])

    async def stop(self, timeout: float = 10.0) -> None:
        """Write what waits and give the executions back."""
        await self.manager.stop(timeout=timeout)
