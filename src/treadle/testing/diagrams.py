"""Test a diagram: run it in memory, with stubs for some nodes, answers for those who ask, and no waiting.

    from treadle.testing.diagrams import run_diagram

    def test_a_large_order_is_asked_about() -> None:
        ran = run_diagram("order.yaml", {"amount": 9}, stubs={"book": {"number": 7}}, answers={"ask": "yes"})
        assert ran.status == "completed"
        assert ran.order == ["start", "ask", "book", "done"]
        assert ran.calls["book"] == [{"amount": 9}]

Waits of the engine (back-offs, sleeps, time-outs of a wait, deadlines) pass at once when no body is under
way: the execution's clock is put forward. A body that sleeps by itself takes the time that it takes.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableDiagram, ExecutableNode
from treadle.engine.bus import Event, EventType
from treadle.engine.engine import Engine
from treadle.engine.handle import Handle
from treadle.engine.sources import Drawn
from treadle.errors import NoSuchNode, did_you_mean
from treadle.nodes.base import Body, result_of
from treadle.nodes.people.offline.standins import Scripts
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import steps_of
from treadle.testing.clock import ToyClock

RUN_S_MAX = 30.0
"""Seconds of real time after which a diagram under test is taken to hang."""

_AGES_S = 1e12  # no wait for a time is so long that the execution would be given back

_ITEM = re.compile(r"\[\d+\]")


class Said(msgspec.Struct, frozen=True):
    """What a person answered once: a text, an object, or the tools that it wanted called."""

    person: str
    said: Any
    node: str
    iteration: str


class Ran(msgspec.Struct, frozen=True):
    """What an execution came to. Nodes are named by their paths: `report`, `parse[17]`, `sub/inner`."""

    status: ExecutionStatus
    result: Any
    error: str | None
    """Why it did not complete: the node, the place and the reason; what it waits for, if it is suspended."""
    outputs: dict[str, Any]
    """The value of each node that completed, of its last iteration."""
    order: list[str]
    """The nodes as they completed, one entry an iteration."""
    calls: dict[str, list[dict[str, Any]]]
    """The inputs that each body was called with, attempt by attempt; items of a map are under the map's
    name."""
    cells: dict[str, NodeState]
    """The last cell of each node: status, attempt, iteration, error, times."""
    skipped_s: float
    """The seconds that the clock was put forward."""
    said: list[Said] = []
    """What persons answered, in order."""


def run_diagram(diagram: Drawn, inputs: Mapping[str, Any] | None = None, *,
                stubs: Mapping[str, Any] | None = None, answers: Mapping[str, Any] | None = None,
                signals: Mapping[str, Any] | None = None, script: Scripts | None = None,
                replay: str | Path | None = None, config: TreadleConfig = DEFAULT_CONFIG,
                seconds_max: float = RUN_S_MAX) -> Ran:
    """Run a diagram (a file's path, or one drawn in Python) to its end and return what happened.

    A stub stands for a node's body: a value, or a function of the node's inputs (a map) that returns the
    value or raises. An answer is a value, or a function of the request. `signals` are sent at the start.
    `script` and `replay` are those of `Engine.open`. A failure is told, not raised. Raises InvalidDiagram,
    InvalidInput, NoSuchNode for a stub or an answer of no node, TimeoutError after `seconds_max`.
    """
    return asyncio.run(run_diagram_async(
        diagram, inputs, stubs=stubs, answers=answers, signals=signals, script=script, replay=replay,
        config=config, seconds_max=seconds_max))


async def run_diagram_async(diagram: Drawn, inputs: Mapping[str, Any] | None = None, *,
                            stubs: Mapping[str, Any] | None = None, answers: Mapping[str, Any] | None = None,
                            signals: Mapping[str, Any] | None = None,
                            script: Scripts | None = None, replay: str | Path | None = None,
                            config: TreadleConfig = DEFAULT_CONFIG, seconds_max: float = RUN_S_MAX) -> Ran:
    """The same for tests that are async themselves."""
    engine = WatchedEngine(config, dict(stubs or {}), ToyClock(), script=script, replay=replay)
    return await engine.tried(diagram, inputs, answers=answers, signals=signals, seconds_max=seconds_max)


class WatchedEngine(Engine):
    """An engine on a store in memory that writes down what bodies are called with, and performs stubs in
    their place. It keeps executions that wait for a time, so that the clock can be put forward for them."""

    def __init__(self, config: TreadleConfig, stubs: dict[str, Any], clock: ToyClock, **options: Any) -> None:
        self.toy = clock
        patient = msgspec.structs.replace(config, resume_wait_s=_AGES_S)
        super().__init__("memory:", config=patient, clock=clock, check=True, **options)
        self.diagrams.around = self._watched
        self.stubs = stubs
        self.calls: dict[str, list[dict[str, Any]]] = {}
        self.busy = 0  # bodies under way
        self.idle: Callable[[], None] = lambda: None

    async def tried(self, diagram: Drawn, inputs: Mapping[str, Any] | None, *,
                    answers: Mapping[str, Any] | None, signals: Mapping[str, Any] | None,
                    seconds_max: float, execution_id: str | None = None) -> Ran:
        """Open the engine, run one execution to its end, and close it."""
        async with self:
            compiled = self.compile(diagram)
            for names, what in ((self.stubs, "stub"), (answers or {}, "answer")):
                check_names(compiled, names, what)
            handle = await self.start(compiled, inputs, execution_id=execution_id)
            trial = Trial(self, handle, dict(answers or {}))
            for name, value in (signals or {}).items():
                await handle.signal(name, value)
            return await trial.within(seconds_max)

    def _watched(self, node: ExecutableNode, body: Body) -> Body:
        async def watched(context: Any, inputs: dict[str, Any]) -> Any:
            path = _ITEM.sub("", context.node_id)
            self.calls.setdefault(path, []).append(dict(inputs))
            self.busy += 1
            try:
                if path not in self.stubs:
                    return await body(context, inputs)
                value = self.stubs[path]
                if callable(value):
                    value = value(dict(inputs))
                    if inspect.isawaitable(value):
                        value = await value
                return result_of(value, context)
            finally:
                self.busy -= 1
                self.idle()

        return watched


class Trial:
    """One execution under test: answers who asks, and puts the clock forward when all wait."""

    def __init__(self, engine: WatchedEngine, handle: Handle, answers: dict[str, Any]) -> None:
        self.engine, self.handle, self.answers = engine, handle, answers
        self.order: list[str] = []
        self._answered: set[tuple[str, str, str]] = set()
        self._answering: set[asyncio.Task[None]] = set()
        engine.bus.subscribe(self._seen)
        engine.idle = self._look_soon
        self._look_soon()

    async def within(self, seconds_max: float) -> Ran:
        """Run it to its end. TimeoutError that names what is under way."""
        try:
            async with asyncio.timeout(seconds_max):
                return await self.run()
        except TimeoutError:
            busy = ", ".join(self.handle.running()) or "nothing"
            raise TimeoutError(f"the diagram had not ended within seconds_max={seconds_max:g} s; under way: "
                               f"{busy}") from None

    async def run(self) -> Ran:
        """Run it to its end."""
        while True:
            status = await self.handle.wait()
            self._answer()
            if status is not ExecutionStatus.SUSPENDED or not self._answering:
                return await self._ran(status)
            await asyncio.gather(*self._answering)

    async def _ran(self, status: ExecutionStatus) -> Ran:
        result = error = None
        if status is ExecutionStatus.COMPLETED:
            result = await self.handle.result()
        else:
            error = str(self.handle._failure(status))
        _, cells = self.engine.store.load(self.handle.execution_id)
        last: dict[str, NodeState] = {}
        for cell in sorted(cells, key=lambda cell: (_turns(cell.iteration), cell.attempt)):
            last[cell.node_id] = cell
        outputs = {path: await self.engine.values.load(cell) for path, cell in last.items()
                   if cell.status is NodeStatus.COMPLETED}
        return Ran(status, result, error, outputs, self.order, self.engine.calls, last,
                   self.engine.toy.skipped_s, _said(cells))

    def _seen(self, event: Event) -> None:
        if event.type is EventType.NODE_COMPLETED and isinstance(event.cell, NodeState):
            self.order.append(event.cell.node_id)
        self._look_soon()

    def _look_soon(self) -> None:
        # Two turns of the loop later: what this step made ready has begun by then.
        self.engine.loop.call_soon(self.engine.loop.call_soon, self._look)

    def _look(self) -> None:
        """If nothing is under way, answer who asks; if nobody does, go to the next instant that is waited
        for."""
        runner = self.handle._runner
        if self.engine.busy or runner is None or runner.ended:
            return
        self._answer()
        if self._answering or "timers" not in runner.__dict__:
            return
        at = runner.timers.nearest
        if at is not None:
            self.engine.toy.skipped_s += max(0.0, at - self.engine.toy.now())
            runner.timers.again()
            self.engine.loop.call_later(0.001, self._look)  # what was due may have been answered before

    def _answer(self) -> None:
        for path, iteration, request in self.handle.waiting():
            name = _ITEM.sub("", path)
            key = path if path in self.answers else name
            question = (path, iteration, str(request.get("step", "")))  # a body may ask several times
            if key in self.answers and question not in self._answered:
                self._answered.add(question)
                value = self.answers[key]
                self._spawn(self.handle.answer(path, value(request) if callable(value) else value, iteration))

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        task = self.engine.loop.create_task(coroutine)
        self._answering.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._answering.discard(task)
        self._look_soon()


def _said(cells: Iterable[NodeState]) -> list[Said]:
    """What persons answered, by the steps of the last attempt of each turn of each node."""
    newest: dict[tuple[str, str], NodeState] = {}
    for cell in cells:
        known = newest.get((cell.node_id, cell.iteration))
        if known is None or cell.attempt > known.attempt:
            newest[cell.node_id, cell.iteration] = cell
    found = [(step.ended_at, Said(str(step.meta.get("person", "")), _words(step.result()), cell.node_id,
                                  cell.iteration))
             for cell in newest.values() for step in steps_of(cell.meta).steps
             if step.kind == "model" and step.error is None]
    return [one for _, one in sorted(found, key=lambda pair: pair[0])]


def _words(value: Any) -> Any:
    """The answer in a step: its text, or what it wants called."""
    answer = value.get("answer") if isinstance(value, dict) else None
    if not isinstance(answer, dict):
        return value
    calls = [{"tool": one["tool"], "arguments": one.get("arguments") or {}}
             for one in answer.get("calls") or ()]
    return answer.get("content", "") if not calls else calls[0] if len(calls) == 1 else calls


def _turns(iteration: str) -> tuple[int, ...]:
    return tuple(int(part) for part in iteration.split(".") if part)


def check_names(compiled: ExecutableDiagram, names: Mapping[str, Any], what: str) -> None:
    for name in names:
        first = _ITEM.sub("", name.split("/")[0])
        if first not in compiled.index:
            there = did_you_mean(first, compiled.index) or f"there are {', '.join(compiled.index)}"
            raise NoSuchNode(f"{what} {name!r}: diagram {compiled.name!r} has no node {first!r}: {there}")
