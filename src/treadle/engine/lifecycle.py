"""The four phases of an execution's life, as far as plugins take part: initialisation, execution, mutation,
finalisation. `treadle.hooks` says what each hook gets."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.bus import TRANSITIONS, Queue
from treadle.errors import PluginError, TreadleError
from treadle.hooks.calls import joined, slowest_first
from treadle.hooks.specs import SlowHook
from treadle.state import codec
from treadle.state.cell import ContextCell, ExecutionCell, ExecutionState
from treadle.state.context import SLOW_HOOKS_KEY, About
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
    from treadle.engine.engine import Engine
    from treadle.engine.runner import WorkflowRunner
    from treadle.hooks.manager import PluginManager
    from treadle.store.manager import StateManager

logger = logging.getLogger("treadle.engine")


def slow_hooks_in(cells: Iterable[ContextCell]) -> list[SlowHook]:
    """What a recorded context says of slow hooks, the slowest first."""
    raw = next((one.value for one in cells if one.key == SLOW_HOOKS_KEY), None)
    try:
        return [] if raw is None else msgspec.convert(codec.decode(raw), list[SlowHook])
    except msgspec.ValidationError:
        return []  # somebody else wrote there


def plug_in(engine: Engine, plugins: PluginManager | Iterable[object]) -> Lifecycle:
    """Register what plugins bring with them. PluginError."""
    from treadle.hooks.manager import PluginManager

    manager = plugins if isinstance(plugins, PluginManager) else PluginManager(plugins, config=engine.config)
    manager.install(engine.registry)
    return Lifecycle(engine, manager)


class Lifecycle:
    """Tells an engine's plugins where its executions are."""

    def __init__(self, engine: Engine, plugins: PluginManager) -> None:
        self.plugins = plugins
        self._mine = False  # they are for us alone
        self._engine = engine
        plugins.find_secrets(engine.secret_store)
        self._heard: Queue | None = None

    def open(self) -> None:
        """Execution and mutation: from now on plugins hear of transitions, and are asked about writes.
        PluginError if they are another's."""
        if self.plugins.in_use:
            raise PluginError("this PluginManager is that of an open engine: make one for each engine")
        self.plugins.in_use = self._mine = True
        listener = self.plugins.listener
        if listener is not None:
            queue = self._engine.bus.subscribe(listener, TRANSITIONS, engine=self._engine.number)
            assert isinstance(queue, Queue)
            self._heard = queue
        if self.plugins.vetoes:
            self._engine.on_mutation = self.plugins.veto

    async def initialise(self, cell: ExecutionCell, diagram: ExecutableDiagram,
                         inputs: Mapping[str, Any]) -> None:
        """Before an execution is made. PluginError if a plugin refuses it."""
        about = About.of(cell, config_hash=self._engine.config.config_hash)
        await self.plugins.initialize(about.pipeline, diagram, inputs)

    async def finalise(self, runner: WorkflowRunner) -> None:
        """After the run of an execution: hooks hear the last of it, then, unless it was interrupted, that it
        is over."""
        engine, execution = self._engine, runner.kernel.execution
        if execution.status is ExecutionStatus.RUNNING and runner.done.exception() is not None:
            return  # it is no longer ours
        try:
            if execution.status is ExecutionStatus.RUNNING:
                slow = await self.plugins.broken_off(runner.execution_id)
            else:
                slow = await self._report(runner)
            if slow and engine.manager is not None:
                await _record(engine.manager, slow, execution)
        except (TreadleError, OSError) as error:
            logger.error("plugins were not told that execution %s is over: %s", runner.execution_id, error)

    async def _report(self, runner: WorkflowRunner) -> tuple[SlowHook, ...]:
        engine = self._engine
        if self._heard is not None:
            await self._heard.drain()
        if self.plugins.reports:
            state = (await engine.state(runner.execution_id) if engine.manager is not None else
                     ExecutionState.of(runner.kernel.execution, {one.key: one for one in
                                                                 runner.kernel.cells()}))
            state.context = runner.shared.cells()
            metrics = runner.tracker.get_execution_metrics()
        else:  # nobody looks at them: all that is made is the list of slow hooks
            state, metrics = ExecutionState.of(runner.kernel.execution, {}), None
        report = runner.__dict__["report"] = await self.plugins.finalize(state, metrics)
        return report.slow_hooks

    async def close(self) -> None:
        """Let plugins hear what was announced, and close them."""
        if not self._mine:
            return
        try:
            if self._heard is not None:
                await self._heard.drain()
                self._heard.close()
            await self.plugins.close()
        finally:
            self.plugins.in_use = self._mine = False


async def _record(manager: StateManager, slow: Iterable[SlowHook], execution: ExecutionCell) -> None:
    """Write the slow hooks of this run of an execution beside those of the runs before."""
    recorded = await manager.read(manager.store.context, execution.execution_id)
    known: dict[tuple[str, str], SlowHook] = {}
    joined(slow_hooks_in(recorded), known)
    joined(slow, known)
    before = next((one.seq for one in recorded
                   if one.key == SLOW_HOOKS_KEY and one.epoch == execution.epoch), 0)
    value = codec.encode(msgspec.to_builtins(slowest_first(known.values())))
    manager.share([ContextCell(execution.execution_id, SLOW_HOOKS_KEY, execution.epoch, before + 1, value,
                               "treadle", time.time())])
