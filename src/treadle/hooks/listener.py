"""From the bus to the hooks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from treadle.hooks.calls import Transition
from treadle.hooks.lanes import Lane
from treadle.state.cell import NodeState

HANDOVER_S = 0.01
"""How long a transition waits for others before the hooks get it."""
BATCH_MAX = 256
"""Transitions that are handed over at once."""


class Happening(Protocol):
    """An event of the bus, as far as hooks are concerned."""

    @property
    def cell(self) -> object: ...
    @property
    def before(self) -> object: ...


class Listener:
    """Hands transitions of nodes to the hooks, many at a time: to wake a thread for each costs more than the
    hooks do. `consume` returns at once unless too many wait."""

    def __init__(self, put: Callable[[Sequence[Transition]], list[Lane]], backlog_max: int) -> None:
        self._put = put
        self._batch: list[Transition] = []
        self._batch_max = min(BATCH_MAX, max(1, backlog_max // 2))
        self._timer: asyncio.TimerHandle | None = None

    async def consume(self, event: Happening) -> None:
        await self.consume_many((event,))

    async def consume_many(self, events: Sequence[Happening]) -> None:
        for event in events:
            cell, before = event.cell, event.before
            if type(cell) is not NodeState:
                continue
            if before is None:
                before = NodeState(cell.execution_id, cell.node_id, cell.iteration, cell.attempt, cell.epoch,
                                   0, round=cell.round)
            self._batch.append((cell.node_id, before, cell))  # type: ignore[arg-type]  # a cell of its kind
            if len(self._batch) >= self._batch_max:
                for lane in self.hand_over():
                    await asyncio.sleep(0)  # a long backlog must not hold the loop up
                    await lane.room()
        if self._batch and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HANDOVER_S, self.hand_over)

    def hand_over(self) -> list[Lane]:
        """Let go of what has gathered; where it went."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._batch = self._batch, []
        return self._put(batch) if batch else []

    def __repr__(self) -> str:
        return "the hooks of plugins"
