"""The state manager on somebody's own bus."""

from __future__ import annotations

import asyncio

from treadle.engine.async_state import AsyncStateManager
from treadle.engine.bus import Event, EventBus, EventConsumer, EventType
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import MemoryStore, StateManager


def test_what_is_announced_is_written() -> None:
    async def main() -> None:
        store, bus = MemoryStore(), EventBus(errors_max=100)
        states = AsyncStateManager(StateManager(store=store))
        assert isinstance(states, EventConsumer)
        await states.start()
        subscription = bus.subscribe(states)
        stray = NodeState("other", "a", status=NodeStatus.RUNNING)
        bus.publish(Event(EventType.NODE_STARTED, "other", stray, None, 0.0))
        begun = ExecutionCell("x", status=ExecutionStatus.RUNNING, name="mine")
        bus.publish(Event(EventType.EXECUTION_STARTED, "x", begun, None, 1.0))
        for seq, (kind, status) in enumerate([(EventType.NODE_STARTED, NodeStatus.RUNNING),
                                              (EventType.NODE_COMPLETED, NodeStatus.COMPLETED)], 1):
            cell = NodeState("x", "a", seq=seq, status=status)
            bus.publish(Event(kind, "x", cell, None, float(seq)))
        await bus.drain()
        assert subscription.errors == 1
        await states.stop()

        execution, cells = store.load("x")
        assert execution.name == "mine" and [cell.status for cell in cells] == [NodeStatus.COMPLETED]
        await bus.close()

        again = AsyncStateManager(StateManager(store=store))
        await again.start()
        await again.consume(Event(EventType.EXECUTION_STARTED, "x", execution, None, 3.0))
        await again.consume(Event(EventType.NODE_STARTED, "x", NodeState("x", "b"), None, 3.0))
        await again.stop()
        assert {cell.epoch for cell in store.load("x")[1]} == {1, 2}

    asyncio.run(main())
