"""Crash everywhere: is a diagram's outcome the same wherever its process is killed, and what happens twice?

    from treadle.testing.crashes import crash_everywhere

    def test_nothing_is_booked_twice() -> None:
        crashes = crash_everywhere("order.yaml", {"amount": 9}, answers={"ask": "yes"})
        assert crashes.again == {"book": 1, "ask": 1}       # those that a crash interrupted, once more each

The diagram runs once, in durability `strict` on a store in memory. Each time it writes, the store keeps a
picture of what would be on disk. Every picture is then what a killed process leaves: an engine of its own
goes on with it to the end. The kill comes just before the next write, so that as much as can be is lost.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableDiagram, ExecutableNode
from treadle.engine.services import STORE, ServiceRegistry
from treadle.engine.sources import Drawn
from treadle.nodes.base import Body
from treadle.nodes.people.offline.standins import Scripts
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import steps_of
from treadle.store.base import Batch, Signal, Written
from treadle.store.memory import MemoryStore
from treadle.testing.clock import ToyClock
from treadle.testing.diagrams import RUN_S_MAX, Ran, Trial, WatchedEngine
from treadle.testing.faults import dead_owner

_NAME = "x"  # of the execution


class Crash(msgspec.Struct, frozen=True):
    """A place at which the process was killed, and what a resume made of it."""

    after: str
    """What had been written last: `book running`, `book: model 1`."""
    status: ExecutionStatus
    result: Any
    calls: dict[str, int]
    """How often each body and step was begun, before and after the crash together: see `Crashes.calls`."""
    repeated: tuple[str, ...] = ()
    """What was begun once more although it had been recorded. There should be none."""


class Crashes(msgspec.Struct, frozen=True):
    """What became of a diagram that was killed everywhere."""

    ran: Ran
    """Without a crash."""
    calls: dict[str, int]
    """How often each body (by its path) and each step (`path: name`) was begun without a crash."""
    points: tuple[Crash, ...]

    @property
    def again(self) -> dict[str, int]:
        """What was begun more often because of a crash: how many times more, in the worst case."""
        worst: dict[str, int] = {}
        for point in self.points:
            for name, times in point.calls.items():
                more = times - self.calls.get(name, 0)
                if more > worst.get(name, 0):
                    worst[name] = more
        return worst


def crash_everywhere(diagram: Drawn, inputs: Mapping[str, Any] | None = None, *,
                     stubs: Mapping[str, Any] | None = None, answers: Mapping[str, Any] | None = None,
                     signals: Mapping[str, Any] | None = None, config: TreadleConfig = DEFAULT_CONFIG,
                     script: Scripts | None = None, replay: str | Path | None = None,
                     status: str = ExecutionStatus.COMPLETED, seconds_max: float = RUN_S_MAX) -> Crashes:
    """Run a diagram, and once more from each place at which a crash may leave it.

    Takes what `run_diagram` takes; `seconds_max` is for each run, `status` is how the diagram ends.
    AssertionError if a run ends otherwise than the one without a crash, or does again what was recorded.
    """
    return asyncio.run(crash_everywhere_async(
        diagram, inputs, stubs=stubs, answers=answers, signals=signals, config=config,
        script=script, replay=replay, status=status, seconds_max=seconds_max))


async def crash_everywhere_async(diagram: Drawn, inputs: Mapping[str, Any] | None = None, *,
                                 stubs: Mapping[str, Any] | None = None,
                                 answers: Mapping[str, Any] | None = None,
                                 signals: Mapping[str, Any] | None = None,
                                 config: TreadleConfig = DEFAULT_CONFIG,
                                 script: Scripts | None = None,
                                 replay: str | Path | None = None,
                                 status: str = ExecutionStatus.COMPLETED,
                                 seconds_max: float = RUN_S_MAX) -> Crashes:
    """The same for tests that are async themselves."""
    store, clock, people = _Camera(), ToyClock(), {"script": script, "replay": replay}
    engine = store.engine = _Counting(config, dict(stubs or {}), clock, store, people)
    ran = await engine.tried(diagram, inputs, answers=answers, signals=signals, seconds_max=seconds_max,
                             execution_id=_NAME)
    if ran.status != status:
        raise AssertionError(f"without a crash the diagram ended {ran.status}, not {status}: "
                             f"{ran.error or ran.result!r}")
    store.picture("the end")
    compiled = engine.compile(diagram)
    points = []
    for picture in store.pictures:
        kept, status = picture.store, picture.store.load(_NAME)[0].status
        if status.terminal and status is not ExecutionStatus.COMPLETED:
            continue  # a resume of what has failed is another try of it
        once_more = _Counting(config, dict(stubs or {}), clock, kept, people)
        async with once_more:
            handle = await once_more.resume(_NAME, diagram=compiled)
            for name, value in (signals or {}).items():
                if name not in picture.sent:
                    await handle.signal(name, value)
            again = await Trial(once_more, handle, dict(answers or {})).within(seconds_max)
        points.append(_point(picture, again, once_more))
    crashes = Crashes(ran, dict(engine.begun), tuple(points))
    _check(crashes, compiled)
    return crashes


class _Picture:
    """What a store holds after a write, and what had been begun when the next one came."""

    def __init__(self, store: MemoryStore, after: str, sent: set[str]) -> None:
        self.store, self.after, self.sent = store, after, sent
        self.begun: Counter[str] = Counter()
        self.recorded = set(_recorded(store))


class _Camera(MemoryStore):
    """A store that keeps a picture of itself after each write."""

    engine: _Counting

    def __init__(self) -> None:
        super().__init__()
        self.pictures: list[_Picture] = []
        self.sent: set[str] = set()  # the names of signals

    def send(self, signal: Signal) -> int:
        self.sent.add(signal.name)
        return super().send(signal)

    def apply(self, batch: Batch) -> Written:
        begun = Counter(self.engine.begun)
        written = super().apply(batch)
        if batch.cells or batch.executions or batch.created or batch.consumed or batch.context:
            self.picture(_last(batch), begun)
        return written

    def picture(self, after: str, begun: Counter[str] | None = None) -> None:
        """Note what has been begun since the picture before, and take another."""
        if self.pictures:
            self.pictures[-1].begun = Counter(self.engine.begun) if begun is None else begun
        if begun is not None:
            self.pictures.append(_Picture(self._copy(), after, set(self.sent)))

    def _copy(self) -> MemoryStore:
        copy = MemoryStore(self._now)
        if "place" in vars(self):
            vars(copy)["place"] = self.place
        with self._lock:
            copy._sources, copy._blobs = dict(self._sources), dict(self._blobs)
            copy._signals, copy._next_signal = dict(self._signals), self._next_signal
            copy._cached, copy._version = dict(self._cached), self._version
            for name, row in self._rows.items():
                left = copy._rows[name] = type(row)(row.cell, dead_owner(), row.expires)
                left.epoch, left.cells, left.changed = row.epoch, dict(row.cells), dict(row.changed)
                left.context = dict(row.context)
        return copy


class _Counting(WatchedEngine):
    """An engine that counts the bodies and steps that it begins."""

    def __init__(self, config: TreadleConfig, stubs: dict[str, Any], clock: ToyClock, store: MemoryStore,
                 people: Mapping[str, Any]) -> None:
        services = ServiceRegistry()
        services.register(STORE, store)
        super().__init__(config, stubs, clock, services=services, durability="strict", **people)
        self.begun: Counter[str] = Counter()

    def _watched(self, node: ExecutableNode, body: Body) -> Body:
        watched = super()._watched(node, body)

        async def counted(context: Any, inputs: dict[str, Any]) -> Any:
            name = _named(context.execution_id, context.node_id, context.iteration)
            self.begun[name] += 1
            return await watched(_Context(context, name, self.begun), inputs)

        return counted


class _Context:
    """A body's context whose steps are counted."""

    def __init__(self, context: Any, name: str, begun: Counter[str]) -> None:
        self._context, self._name, self._begun = context, name, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    @property
    def steps(self) -> Any:
        return _Steps(self._context.steps, self._name, self._begun)


class _Steps:
    def __init__(self, steps: Any, name: str, begun: Counter[str]) -> None:
        self._steps, self._name, self._begun = steps, name, begun

    def __getattr__(self, name: str) -> Any:
        return getattr(self._steps, name)

    async def run(self, name: str, make: Any, **options: Any) -> Any:
        async def counted() -> Any:
            self._begun[f"{self._name}: {name}"] += 1
            return await make()

        return await self._steps.run(name, counted, **options)


def _named(execution_id: str, path: str, iteration: str) -> str:
    """A node in words; one of a diagram that a body runs with the execution that it is in."""
    inner = "" if execution_id == _NAME else f"{execution_id.removeprefix(_NAME + '.')}: "
    return f"{inner}{path}" if iteration == "1" else f"{inner}{path} ({iteration})"


def _last(batch: Batch) -> str:
    """What a batch wrote last, in words."""
    if not batch.cells:
        return "the start"
    cell = batch.cells[-1]
    name, steps = _named(cell.execution_id, cell.node_id, cell.iteration), steps_of(cell.meta).steps
    if cell.status is NodeStatus.RUNNING and steps:
        return f"{name}: {steps[-1].name}"
    return f"{name} {cell.status.value}"


def _recorded(store: MemoryStore) -> list[str]:
    """The bodies and steps whose results a store holds."""
    names = []
    for row in store._rows.values():
        for cell in row.cells.values():
            name = _named(cell.execution_id, cell.node_id, cell.iteration)
            if cell.status is NodeStatus.COMPLETED:
                names.append(name)
            names += [f"{name}: {step.name}" for step in steps_of(cell.meta).steps if step.error is None]
    return names


def _point(picture: _Picture, ran: Ran, engine: _Counting) -> Crash:
    calls = picture.begun + engine.begun
    repeated = tuple(sorted(name for name in engine.begun if name in picture.recorded))
    return Crash(picture.after, ran.status, _outcome(ran), dict(calls), repeated)


def _outcome(ran: Ran) -> Any:
    return ran.result if ran.error is None else ran.error


def _check(crashes: Crashes, diagram: ExecutableDiagram) -> None:
    ran, expected = crashes.ran, _outcome(crashes.ran)
    for point in crashes.points:
        where = f"diagram {diagram.name!r}, killed after {point.after!r} was written"
        assert not point.repeated, f"{where}: what was recorded is done again: {', '.join(point.repeated)}"
        assert (point.status, point.result) == (ran.status, expected), (
            f"{where}: it ended {point.status.value} with {point.result!r}, and without a crash "
            f"{ran.status.value} with {expected!r}")
