"""The bus: what happens in executions, announced as typed events in the order it happened.

An *inline* consumer is a plain callable that runs before the engine takes its next step: it must be quick.
Those with the smaller `order` come first; the state manager is before them all (`AsyncStateManager`).
A *queued* one has `async consume(event)` and runs beside the engine. It never slows the engine down: what
it has not read is kept up to `backlog_max` events and joined cell by cell from there (law 1), so that a slow
one sees fewer steps but always the newest state (`Backlog`). A consumer that raises is logged, counted and,
after `errors_max` errors, switched off.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Protocol, runtime_checkable

import msgspec

from treadle.config import DEFAULT_CONFIG
from treadle.errors import did_you_mean
from treadle.foreign import attempt_async
from treadle.state.cell import Cell, CellKey, ContextCell, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

logger = logging.getLogger("treadle.bus")


class EventType(StrEnum):
    """What the bus announces."""

    EXECUTION_STARTED = "execution_started"
    EXECUTION_SUSPENDED = "execution_suspended"
    EXECUTION_COMPLETED = "execution_completed"
    EXECUTION_FAILED = "execution_failed"
    EXECUTION_CANCELLED = "execution_cancelled"
    NODE_STARTED = "node_started"
    NODE_PROGRESSED = "node_progressed"
    NODE_COMPLETED = "node_completed"
    NODE_FAILED = "node_failed"
    NODE_RETRYING = "node_retrying"
    NODE_SKIPPED = "node_skipped"
    NODE_SUSPENDED = "node_suspended"
    NODE_CANCELLED = "node_cancelled"
    CONTEXT_CHANGED = "context_changed"


TRANSITIONS = frozenset(EventType) - {EventType.NODE_PROGRESSED}
"""What changes a status, or the shared context."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One thing that happened: the cell as it is now and the one that it follows, so nothing must be looked
    up."""

    type: EventType
    execution_id: str
    cell: Cell
    before: Cell | None
    at: float  # seconds since 1970
    engine: int = 0  # `Engine.number` of the one that announces it: several may share a bus


@runtime_checkable
class EventConsumer(Protocol):
    """Looks on from beside the engine."""

    async def consume(self, event: Event) -> None:
        """Take one event. The next comes when this returns.

        One that has `async consume_many(events)` as well is given all that waits at once, up to BATCH_MAX
        events, and then those after them.
        """


BATCH_MAX = 1024
"""Events that a consumer of many gets at once."""
ROUTES_MAX = 1000
"""Types of events, by engine, of which a bus keeps who hears them."""
Inline = Callable[[Event], object]
Types = Iterable[EventType | str] | None
"""Types of events by value or name; None for all."""

OF_NODE: dict[NodeStatus, EventType] = {
    NodeStatus.RUNNING: EventType.NODE_STARTED,
    NodeStatus.COMPLETED: EventType.NODE_COMPLETED,
    NodeStatus.FAILED: EventType.NODE_FAILED,
    NodeStatus.RETRYING: EventType.NODE_RETRYING,
    NodeStatus.SKIPPED: EventType.NODE_SKIPPED,
    NodeStatus.SUSPENDED: EventType.NODE_SUSPENDED,
    NodeStatus.CANCELLED: EventType.NODE_CANCELLED,
}
OF_EXECUTION: dict[ExecutionStatus, EventType] = {
    ExecutionStatus.RUNNING: EventType.EXECUTION_STARTED,
    ExecutionStatus.SUSPENDED: EventType.EXECUTION_SUSPENDED,
    ExecutionStatus.COMPLETED: EventType.EXECUTION_COMPLETED,
    ExecutionStatus.FAILED: EventType.EXECUTION_FAILED,
    ExecutionStatus.CANCELLED: EventType.EXECUTION_CANCELLED,
}


def _types(types: Iterable[EventType | str]) -> Iterable[EventType]:
    """Types of events by value or by name; ValueError that says which there are."""
    for one in (types,) if isinstance(types, str) else types:
        if str(one) not in list(EventType):
            hint = did_you_mean(str(one), list(EventType)) or f"there is {', '.join(EventType)}"
            raise ValueError(f"there is no type of event {str(one)!r}: {hint}")
        yield EventType(one)


class Subscription:
    """One consumer's place on the bus. `errors` counts what it raised."""

    def __init__(self, bus: EventBus, consumer: EventConsumer | Inline, types: Types,
                 execution_id: str | None, engine: int | None = None, order: int = 0) -> None:
        self.consumer = consumer
        self.engine = engine
        self.order = order
        self.types = frozenset(EventType) if types is None else frozenset(_types(types))
        self.execution_id = execution_id
        self.errors = 0
        self.active = True
        self._bus = bus

    def hears(self, kind: EventType, engine: int) -> bool:
        """Whether it wants such events of an engine: all of them, or those of one execution."""
        return kind in self.types and self.engine in (None, engine)

    async def leave(self) -> None:
        """Leave the bus once what was published has been read."""
        self.close()

    def close(self) -> None:
        """Leave the bus. What waits in a queue is dropped."""
        self.active = False
        self._bus._remove(self)

    def failed(self, error: BaseException) -> None:
        """Count an error of the consumer; switch it off at the limit."""
        self.errors += 1
        off = self.errors >= self._bus.errors_max
        logger.error("event consumer %r raised %s: %s%s", self.consumer, type(error).__name__, error,
                     f"; it is switched off after {self.errors} errors" if off else "", exc_info=error)
        if off:
            self.close()


class Backlog:
    """Events that wait to be read: the first `size_max` as they came; from there on one a cell, the newest;
    and when those are `size_max`, too, one an execution, from the one that has waited longest on. Only of
    more executions than that are events left out, and then it is said and counted."""

    def __init__(self, size_max: int) -> None:
        self._size_max = size_max
        self._waiting: deque[Event] = deque()
        # By execution (two engines may have the same id), then by cell.
        self._joined: dict[tuple[str, int], dict[CellKey | str, Event]] = {}
        self._size = 0  # events in there
        self.joined = 0  # events that a later one stands for
        self.left_out = 0  # events of executions of which the reader hears nothing more

    def put(self, event: Event) -> None:
        if not self._joined and len(self._waiting) < self._size_max:
            self._waiting.append(event)
            return
        mine = self._joined.setdefault((event.execution_id, event.engine), {})
        known = mine.pop(event.cell.key, None)
        if known is not None:
            self.joined += 1
            event = msgspec.structs.replace(event, before=known.before)
        else:
            self._size += 1
        mine[event.cell.key] = event
        if self._size > self._size_max:
            self._shrink()

    def _shrink(self) -> None:
        for execution, events in self._joined.items():
            if len(events) > 1:
                # That of the execution itself stands for those of its nodes.
                own = [one for one in events.values() if isinstance(one.cell, ExecutionCell)]
                newest = own[-1] if own else next(reversed(events.values()))
                self._joined[execution] = {newest.cell.key: newest}
                self.joined += len(events) - 1
                self._size -= len(events) - 1
                if self._size <= self._size_max // 2:
                    return
        while self._size > self._size_max:
            if not self.left_out:
                logger.error("a consumer of events is %d executions behind (event_backlog_max): what came "
                             "first is left out", self._size)
            del self._joined[next(iter(self._joined))]
            self._size -= 1
            self.left_out += 1

    def pop(self) -> Event:
        """The next event; IndexError if there is none."""
        self._fill()
        return self._waiting.popleft()

    def take(self, most: int) -> list[Event]:
        """The next events, at most so many."""
        self._fill()
        waiting = self._waiting
        if len(waiting) > most:
            return [waiting.popleft() for _ in range(most)]
        taken = list(waiting)
        waiting.clear()
        return taken

    def _fill(self) -> None:
        if not self._waiting:
            for events in self._joined.values():
                self._waiting.extend(events.values())
            self._joined.clear()
            self._size = 0

    def __len__(self) -> int:
        return len(self._waiting) + self._size


class Queue(Subscription):
    """A queued consumer: a backlog, and one task that empties it."""

    def __init__(self, bus: EventBus, consumer: EventConsumer, types: Types,
                 execution_id: str | None, engine: int | None = None) -> None:
        super().__init__(bus, consumer, types, execution_id, engine)
        self.consumed = 0
        self._target = consumer
        self._many = getattr(consumer, "consume_many", None)
        self._awake = False  # whether the task knows that there is something
        self.backlog = Backlog(bus.backlog_max)
        self._arrived = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def put(self, event: Event) -> None:
        self.backlog.put(event)
        if self._awake:
            return
        self._awake = True
        self._idle.clear()
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._feed(), name=f"events to {self.consumer!r}"
            )
        self._arrived.set()

    async def _feed(self) -> None:
        while self.active:
            while self.backlog and self.active:
                _, error = await attempt_async(self._next)
                if isinstance(error, asyncio.CancelledError) and self._task is not None and (
                        self._task.cancelling()):
                    raise error
                if error is not None:  # it may be the end of a task of the consumer's own
                    self.failed(error)
            self._awake = False
            self._idle.set()
            self._arrived.clear()
            await self._arrived.wait()

    async def _next(self) -> None:
        if self._many is None:
            event = self.backlog.pop()
            self.consumed += 1
            await self._target.consume(event)
        else:
            events = self.backlog.take(BATCH_MAX)
            self.consumed += len(events)
            await self._many(events)

    @property
    def stats(self) -> dict[str, int]:
        """Events by what became of them: `consumed`, `joined` with a later one, `waiting`, `left_out`;
        the sum is what was published for it. `errors` counts what it raised."""
        return {"consumed": self.consumed, "joined": self.backlog.joined, "waiting": len(self.backlog),
                "left_out": self.backlog.left_out, "errors": self.errors}

    async def drain(self) -> None:
        """Return when the consumer has read everything, or is switched off."""
        if self._task is not None and self.active:
            await self._idle.wait()

    async def leave(self) -> None:
        """Read what was published, then leave the bus."""
        await self.drain()
        self.close()

    def close(self) -> None:
        super().close()
        self._idle.set()
        if self._task is not None:
            self._task.cancel()


class EventStream:
    """Events as an async iterator; it ends with its execution's run, or when it is closed."""

    def __init__(self, bus: EventBus, types: Types, execution_id: str | None,
                 engine: int | None = None) -> None:
        self.execution_id, self.engine = execution_id, engine
        self._backlog = Backlog(bus.backlog_max)
        self._arrived = asyncio.Event()
        self._finished = False
        self._bus = bus
        self._subscription = bus.subscribe(self._put, types, execution_id=execution_id, engine=engine)
        bus._streams.add(self)

    def _put(self, event: Event) -> None:
        self._backlog.put(event)
        self._arrived.set()

    def finish(self) -> None:
        """Nothing more comes; what waits can still be read."""
        self._finished = True
        self._arrived.set()
        self._subscription.close()
        self._bus._streams.discard(self)

    async def aclose(self) -> None:
        """Leave the bus."""
        self.finish()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        while not self._backlog:
            if self._finished:
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()
        return self._backlog.pop()


class EventBus:
    """Where events are announced. `publish` is called on the event loop, by the engine or by anybody."""

    def __init__(self, *, backlog_max: int = DEFAULT_CONFIG.event_backlog_max,
                 errors_max: int = DEFAULT_CONFIG.consumer_errors_max) -> None:
        self.backlog_max, self.errors_max = backlog_max, errors_max
        self.wanted = False  # whether anybody listens: without listeners no event is even built
        self._inline: tuple[Subscription, ...] = ()
        self._queued: tuple[Queue, ...] = ()
        self._streams: set[EventStream] = set()
        self._types: frozenset[EventType] = frozenset()  # that anybody listens for
        self._routes: dict[tuple[EventType, int], tuple[list[Subscription], list[Queue]]] = {}

    def stream(
        self, types: Types = None, *, execution_id: str | None = None, engine: int | None = None
    ) -> EventStream:
        """Listen with `async for`; from this call on nothing is missed."""
        return EventStream(self, types, execution_id, engine)

    def finish(self, execution_id: str, engine: int = 0) -> None:
        """An execution's run is over: streams that listen to it end."""
        for stream in [one for one in self._streams
                       if one.execution_id == execution_id and one.engine in (None, engine)]:
            stream.finish()

    def subscribe(self, consumer: EventConsumer | Inline, types: Types = None, *,
                  queued: bool | None = None, execution_id: str | None = None,
                  engine: int | None = None, order: int = 0) -> Subscription:
        """Add a consumer. One with `consume` is queued, a callable is inline (`queued=True` makes a queue
        before a callable too).

        Inline ones are called by their `order`, those with the same one as they subscribed. `types`,
        `execution_id` and `engine` (`Engine.number`) narrow what a consumer gets. Close the subscription to
        leave.
        """
        is_consumer = isinstance(consumer, EventConsumer)
        if queued is False and is_consumer:
            raise TypeError(
                f"{consumer!r} has an async consume(): it can only be queued; for an inline consumer "
                "subscribe a plain callable"
            )
        if not is_consumer and not callable(consumer):
            raise TypeError(f"{consumer!r} is no consumer of events: it has no async consume(event), and "
                            "can't be called")
        waits = not is_consumer and inspect.iscoroutinefunction(consumer)
        if waits and queued is False:
            raise TypeError(f"{consumer!r} is a coroutine function: it can only be queued; for an inline "
                            "consumer give a plain function")
        if queued or is_consumer or waits:
            target = consumer if isinstance(consumer, EventConsumer) else _Called(consumer)
            queue = Queue(self, target, types, execution_id, engine)
            self._queued += (queue,)
            self._listen()
            return queue
        subscription = Subscription(self, consumer, types, execution_id, engine, order)
        self._inline = tuple(sorted((*self._inline, subscription), key=lambda one: one.order))
        self._listen()
        return subscription

    def publish(self, event: Event) -> None:
        """Announce an event: inline consumers have seen it when this returns, queued ones will."""
        if not self.wanted:
            return
        route = self._routes.get((event.type, event.engine)) or self._route(event.type, event.engine)
        for one in route[0]:
            if one.execution_id is None or one.execution_id == event.execution_id:
                try:
                    one.consumer(event)  # type: ignore[operator]  # subscribe() made sure
                except (Exception, asyncio.CancelledError, SystemExit) as error:  # foreign code
                    one.failed(error)
        for queue in route[1]:
            if queue.execution_id is None or queue.execution_id == event.execution_id:
                queue.put(event)

    def _route(self, kind: EventType, engine: int) -> tuple[list[Subscription], list[Queue]]:
        """Who hears such events of an engine: looked up once, until somebody comes or goes."""
        if len(self._routes) >= ROUTES_MAX:
            self._routes.clear()
        route = ([one for one in self._inline if one.hears(kind, engine)],
                 [one for one in self._queued if one.hears(kind, engine)])
        self._routes[kind, engine] = route
        return route

    def announce(self, cells: Iterable[NodeState], before: Iterable[NodeState | None], at: float,
                 engine: int = 0) -> None:
        """Publish what a step did to nodes. A second start of a running cell is no news."""
        types = self._types
        for cell, former in zip(cells, before, strict=True):
            if former is None or former.status is not cell.status:
                kind = OF_NODE[cell.status]
            elif former.meta is not cell.meta:
                kind = EventType.NODE_PROGRESSED
            else:
                continue
            if kind in types:  # an event that nobody wants isn't built
                self.publish(Event(kind, cell.execution_id, cell, former, at, engine))

    def changed(self, cells: Iterable[ContextCell], before: Mapping[str, ContextCell], at: float,
                engine: int = 0) -> None:
        """Publish what a commit did to the shared context of an execution."""
        if EventType.CONTEXT_CHANGED in self._types:
            for cell in cells:
                self.publish(Event(EventType.CONTEXT_CHANGED, cell.execution_id, cell, before.get(cell.key),
                                   at, engine))

    async def drain(self) -> None:
        """Return when every queued consumer has read what was published."""
        for queue in self._queued:
            await queue.drain()

    async def close(self) -> None:
        """Stop feeding: queues end, their tasks with them."""
        for stream in list(self._streams):
            stream.finish()
        tasks = [queue._task for queue in self._queued if queue._task is not None]
        for one in (*self._inline, *self._queued):
            one.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _remove(self, subscription: Subscription) -> None:
        self._inline = tuple(one for one in self._inline if one is not subscription)
        self._queued = tuple(one for one in self._queued if one is not subscription)
        self._listen()

    def _listen(self) -> None:
        self._routes = {}
        self._types = frozenset().union(*(one.types for one in (*self._inline, *self._queued)))
        self.wanted = bool(self._types)


class _Called:
    """A plain callable behind a queue."""

    def __init__(self, function: Inline) -> None:
        self._function = function

    async def consume(self, event: Event) -> None:
        result = self._function(event)
        if inspect.isawaitable(result):
            await result

    def __repr__(self) -> str:
        return repr(self._function)
