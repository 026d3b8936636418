"""An engine for plain tests: open, on a loop of its own, with a clock that can be put forward.

    with Bench() as bench:
        handle = bench.start("reminder.yaml", {"to": "Ada"})
        bench.skip(86_400)                                   # its `sleep` of a day is over
        assert bench.run(handle.result()) == "Ada was reminded"

The loop runs only inside `run`, `start` and `skip`. In pytest it is the fixture `treadle_engine`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from treadle.aio.loops import ManagedEventLoop
from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.engine.handle import Handle
from treadle.engine.services import STORE, ServiceRegistry
from treadle.engine.sources import Drawn
from treadle.errors import TreadleError
from treadle.nodes.people.offline.standins import Scripts, standins
from treadle.state.status import ExecutionStatus
from treadle.store.memory import MemoryStore
from treadle.testing.clock import ToyClock
from treadle.testing.diagrams import RUN_S_MAX, WatchedEngine
from treadle.undo import undone

T = TypeVar("T")
_LOOK_S = 0.001


class Bench:
    """An open engine on a store in memory. Leaving the `with` closes both, whatever still runs.

    Whatever takes longer than `seconds_max` of real time is a TimeoutError that names what is under way.
    """

    def __init__(self, *, config: TreadleConfig = DEFAULT_CONFIG, seconds_max: float = RUN_S_MAX,
                 base: Path | None = None, clock: ToyClock | None = None, store: MemoryStore | None = None
                 ) -> None:
        self.clock = clock or ToyClock()
        services = ServiceRegistry()
        if store is not None:
            services.register(STORE, store)
        self.engine = WatchedEngine(config, {}, self.clock, services=services)
        self.seconds_max = seconds_max
        self._base = base
        self._loop = ManagedEventLoop("asyncio", timeout=config.shutdown_s_max)

    def __enter__(self) -> Bench:
        self._loop.open()
        with undone(self._loop.close):
            self.run(self.engine.__aenter__())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        try:
            self._loop.run(self.engine.__aexit__(None, None, None))
        finally:
            self._loop.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the engine's loop and return what it gives. TreadleError in an `async` test."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            pass
        else:
            coroutine.close()
            raise TreadleError(
                "this engine has a loop of its own, and one is running here already. In an async test write: "
                "async with treadle.Engine.open('memory:') as engine: …")
        return self._loop.run(self._limited(coroutine))

    def start(self, diagram: Drawn, inputs: Mapping[str, Any] | None = None) -> Handle:
        """Start an execution of a diagram: one drawn in Python, or a file's path; a relative one starts at
        `base`."""
        if self._base is not None and isinstance(diagram, str | PathLike):
            diagram = self._base / diagram
        return self.run(self.engine.start(diagram, inputs))

    def script(self, persons: Scripts) -> None:
        """What persons say from now on: `{"Ann": ["Tea.", …]}`, a function for each, or a file."""
        if self._base is not None and isinstance(persons, str | Path):
            persons = self._base / persons
        self.engine.standins = standins(persons)

    def skip(self, seconds: float) -> None:
        """Put the clock forward: sleeps, back-offs, time-outs of waits and deadlines that are due end now.

        Before and after, it waits until no body is under way and all executions wait or have ended.
        """
        self.run(self._skip(seconds))

    async def _skip(self, seconds: float) -> None:
        await self._rest()
        self.clock.skipped_s += seconds
        for runner in list(self.engine._runners.values()):
            if "timers" in runner.__dict__:
                runner.timers.again()
        await self._rest()

    async def _rest(self) -> None:
        """Wait until nothing goes on but by the clock, or by an answer."""
        while True:
            await asyncio.sleep(_LOOK_S)  # meanwhile the loop calls what is due
            running = [runner for runner in self.engine._runners.values() if not runner.ended]
            if not self.engine.busy and all(
                    runner.kernel.execution.status is ExecutionStatus.SUSPENDED
                    or ("timers" in runner.__dict__ and runner.timers.nearest is not None)
                    for runner in running):
                return

    async def _limited(self, coroutine: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self.seconds_max) as limit:
                return await coroutine
        except TimeoutError:
            if not limit.expired():
                raise
            busy = [f"{path} of {name}" for name, runner in self.engine._runners.items()
                    for path in runner.performing(20)]
            waits = [f"{name} ({runner.kernel.execution.status.value})"
                     for name, runner in self.engine._runners.items()]
            raise TimeoutError(
                f"not done within seconds_max={self.seconds_max:g} s; bodies under way: "
                f"{', '.join(busy) or 'none'}; executions: {', '.join(waits) or 'none'}. What waits for a "
                "time goes on after skip(seconds)") from None
