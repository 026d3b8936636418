"""The bus announces; nobody who listens can hurt it."""

from __future__ import annotations

import asyncio
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.engine.bus import Backlog, Event, EventBus, EventConsumer, EventType, Queue
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus


def event(
    node: str = "a", seq: int = 1, kind: EventType = EventType.NODE_STARTED, execution: str = "x"
) -> Event:
    status = NodeStatus.RUNNING if kind is EventType.NODE_STARTED else NodeStatus.COMPLETED
    return Event(kind, execution, NodeState(execution, node, seq=seq, status=status), None, float(seq))


class Reader:
    """A queued consumer that can be held up."""

    def __init__(self) -> None:
        self.seen: list[Event] = []
        self.gate = asyncio.Event()

    async def consume(self, event: Event) -> None:
        await self.gate.wait()
        self.seen.append(event)


def test_inline_consumers_see_events_in_the_order_in_which_they_subscribed() -> None:
    bus, seen = EventBus(), []
    bus.subscribe(lambda e: seen.append(("first", e.type)))
    bus.subscribe(lambda e: seen.append(("second", e.type)), types=[EventType.NODE_COMPLETED])

    bus.publish(event())
    bus.publish(event(kind=EventType.NODE_COMPLETED))

    assert seen == [("first", EventType.NODE_STARTED), ("first", EventType.NODE_COMPLETED),
                    ("second", EventType.NODE_COMPLETED)]


def test_a_bus_without_consumers_wants_nothing() -> None:
    bus = EventBus()
    assert not bus.wanted
    subscription = bus.subscribe(lambda e: None)
    assert bus.wanted
    subscription.close()
    assert not bus.wanted


def test_a_subscription_can_be_narrowed_to_one_execution() -> None:
    bus, seen = EventBus(), []
    bus.subscribe(lambda e: seen.append(e.execution_id), execution_id="y")
    bus.publish(event(execution="x"))
    bus.publish(event(execution="y"))
    assert seen == ["y"]


def test_a_queued_consumer_reads_beside_the_engine() -> None:
    async def main() -> None:
        bus, reader = EventBus(), Reader()
        assert isinstance(reader, EventConsumer)
        bus.subscribe(reader)
        bus.publish(event("a"))
        bus.publish(event("b"))
        assert reader.seen == []
        reader.gate.set()
        await bus.drain()
        assert [e.cell.node_id for e in reader.seen if isinstance(e.cell, NodeState)] == ["a", "b"]
        await bus.close()

    asyncio.run(main())


def test_a_slow_consumer_costs_one_event_a_cell() -> None:
    """Beyond its backlog it gets the newest state of each cell, and the cell before the first it missed."""
    async def main() -> None:
        bus, reader = EventBus(backlog_max=2), Reader()
        queue = bus.subscribe(reader)
        for seq in range(1, 1001):
            bus.publish(event("a", seq))
            bus.publish(event("b", seq))
        reader.gate.set()
        await bus.drain()
        last = {e.cell.key: e.cell.seq for e in reader.seen}
        assert len(reader.seen) == 4 and set(last.values()) == {1000}
        assert queue.backlog.joined == 1996
        await bus.close()

    asyncio.run(main())


def test_a_consumer_that_raises_is_counted_and_switched_off(caplog: pytest.LogCaptureFixture) -> None:
    bus, seen = EventBus(errors_max=3), []

    def broken(event: Event) -> None:
        seen.append(event)
        raise RuntimeError("no")

    subscription = bus.subscribe(broken)
    with caplog.at_level(logging.ERROR, "treadle.bus"):
        for _ in range(5):
            bus.publish(event())
    assert len(seen) == subscription.errors == 3
    assert not subscription.active and not bus.wanted
    assert "switched off after 3 errors" in caplog.text


def test_a_queued_consumer_that_raises_is_switched_off_too(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bus = EventBus(errors_max=2)

        class Broken:
            async def consume(self, event: Event) -> None:
                raise RuntimeError("no")

        subscription = bus.subscribe(Broken())
        for _ in range(5):
            bus.publish(event())
        await bus.drain()
        assert subscription.errors == 2 and not subscription.active
        await bus.close()

    asyncio.run(main())


def test_an_async_consumer_can_only_be_queued() -> None:
    async def main() -> None:
        with pytest.raises(TypeError, match="can only be queued"):
            EventBus().subscribe(Reader(), queued=False)

    asyncio.run(main())


def test_a_callable_can_be_queued() -> None:
    async def main() -> None:
        bus, seen = EventBus(), []
        bus.subscribe(seen.append, queued=True)
        bus.publish(event())
        assert seen == []
        await bus.drain()
        assert len(seen) == 1
        await bus.close()

    asyncio.run(main())


def test_a_stream_ends_when_its_execution_does() -> None:
    async def main() -> None:
        bus = EventBus()
        stream = bus.stream(execution_id="x")
        bus.publish(event("a"))
        bus.publish(event("b", execution="y"))
        bus.publish(event("c"))
        bus.finish("x")
        bus.publish(event("d"))
        assert [e.cell.node_id async for e in stream] == ["a", "c"]
        assert not bus.wanted

    asyncio.run(main())


def test_a_start_that_is_recorded_again_is_no_news() -> None:
    bus, seen = EventBus(), []
    bus.subscribe(seen.append)
    first = NodeState("x", "m", status=NodeStatus.RUNNING)
    again = NodeState("x", "m", seq=2, status=NodeStatus.RUNNING, items=b"[1]")
    done = NodeState("x", "m", seq=3, status=NodeStatus.COMPLETED)
    bus.announce([first, again, done], [None, first, again], 1.0)
    assert [e.type for e in seen] == [EventType.NODE_STARTED, EventType.NODE_COMPLETED]
    assert seen[1].before is again


def test_inline_consumers_come_in_their_declared_order() -> None:
    bus, seen = EventBus(), []
    for name, order in (("last", 9), ("second", 0), ("first", -1), ("third", 0)):
        bus.subscribe(lambda event, name=name: seen.append(name), order=order)  # type: ignore[misc]
    bus.publish(event("a"))
    assert seen == ["first", "second", "third", "last"]


@given(st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from("abc."), st.booleans()), max_size=120),
       st.integers(1, 6))
def test_a_backlog_is_bounded_and_loses_no_count(steps: list[tuple[str, str, bool]], size_max: int) -> None:
    backlog, read, newest = Backlog(size_max), list[Event](), dict[str, int]()
    for seq, (execution, name, reads) in enumerate(steps, 1):
        newest[execution] = seq
        if name == ".":
            cell = ExecutionCell(execution, seq=seq, status=ExecutionStatus.RUNNING)
            backlog.put(Event(EventType.EXECUTION_STARTED, execution, cell, None, float(seq)))
        else:
            backlog.put(event(name, seq, execution=execution))
        assert len(backlog) <= 2 * size_max
        if reads:
            read.append(backlog.pop())
    while backlog:
        read.append(backlog.pop())
    assert len(read) + backlog.joined + backlog.left_out == len(steps)
    if size_max >= 3:  # as many as there are executions
        assert not backlog.left_out
        assert {one.execution_id for one in read} == set(newest)
    last: dict[tuple[str, object], float] = {}
    for one in read:
        key = (one.execution_id, one.cell.key)
        assert one.at > last.get(key, 0), "a cell's events come in their order"
        last[key] = one.at


def test_a_reader_that_is_hopelessly_behind_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    backlog = Backlog(2)
    for k in range(6):
        backlog.put(event("a", execution=f"e{k}"))
    assert (len(backlog), backlog.left_out) == (4, 2)
    assert caplog.text.count("executions behind") == 1


def test_every_event_for_a_queue_is_accounted_for() -> None:
    async def main() -> None:
        bus, gate = EventBus(backlog_max=3), asyncio.Event()

        class Slow:
            async def consume(self, event: Event) -> None:
                await gate.wait()

        queue = bus.subscribe(Slow())
        assert isinstance(queue, Queue)
        for k in range(20):
            bus.publish(event(f"n{k % 4}"))
            await asyncio.sleep(0)
        stats = queue.stats
        assert stats["consumed"] + stats["joined"] + stats["waiting"] == 20 and stats["joined"] > 0
        gate.set()
        await bus.drain()
        assert queue.stats["waiting"] == 0
        assert queue.stats["consumed"] + queue.stats["joined"] == 20
        await bus.close()

    asyncio.run(main())


def test_a_consumer_whose_own_task_is_cancelled_is_counted_and_goes_on() -> None:
    async def main() -> None:
        bus, seen = EventBus(), []

        class Odd:
            async def consume(self, event: Event) -> None:
                seen.append(event)
                if len(seen) == 1:
                    raise asyncio.CancelledError
                if len(seen) == 2:
                    raise SystemExit(3)

        def odd(event: Event) -> None:
            raise asyncio.CancelledError

        queue, inline = bus.subscribe(Odd()), bus.subscribe(odd)
        for k in range(3):
            bus.publish(event(f"n{k}"))
        await bus.drain()
        assert (len(seen), queue.errors, inline.errors) == (3, 2, 3)
        await bus.close()

    asyncio.run(main())


def test_a_coroutine_function_is_queued_and_awaited_and_what_is_no_consumer_refused() -> None:
    async def main() -> None:
        bus, seen = EventBus(), []

        async def look(event: Event) -> None:
            await asyncio.sleep(0)
            seen.append(event)

        bus.subscribe(look)
        bus.publish(event("a"))
        await bus.drain()
        assert len(seen) == 1
        with pytest.raises(TypeError, match="can only be queued"):
            bus.subscribe(look, queued=False)
        with pytest.raises(TypeError, match="42 is no consumer"):
            bus.subscribe(42)  # type: ignore[arg-type]
        await bus.close()

    asyncio.run(main())
