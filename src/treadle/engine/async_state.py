"""`AsyncStateManager`: the state manager as a consumer on the bus.

The engine itself records before it publishes (law 2) and needs none. This is for code that drives nodes by
itself and announces them on a bus of its own.
"""

from __future__ import annotations

import msgspec

from treadle.engine.bus import Event
from treadle.state.cell import ExecutionCell
from treadle.store.base import Lease
from treadle.store.manager import StateManager


class AsyncStateManager:
    """Writes the cells of the events it reads, in batches, at most `batch_interval` (0.1 s) late.

    An execution is created, or claimed, with the first event that carries its own cell; cells of nodes that
    come before that are refused with ValueError.
    """

    def __init__(self, manager: StateManager) -> None:
        self.manager = manager
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
            raise ValueError(
                f"a node of execution {event.execution_id!r} was announced before the execution itself"
            )
        else:
            self.manager.record([msgspec.structs.replace(cell, epoch=lease.epoch)])

    async def stop(self, timeout: float = 10.0) -> None:
        """Write what waits and give the executions back."""
        await self.manager.stop(timeout=timeout)
