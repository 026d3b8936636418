"""The four phases of an execution's life, as far as plugins take part: initialisation, execution, mutation,
finalisation. `treadle.hooks` says what each hook gets."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.bus import Queue
from treadle.errors import TreadleError
from treadle.state.cell import ExecutionCell, ExecutionState
from treadle.state.context import About

if TYPE_CHECKING:
    from treadle.engine.engine import Engine
    from treadle.engine.runner import WorkflowRunner
    from treadle.hooks.manager import PluginManager

logger = logging.getLogger("treadle.engine")


class Lifecycle:
    """Tells an engine's plugins where its executions are."""

    def __init__(self, engine: Engine, plugins: PluginManager) -> None:
        self.plugins = plugins
        self._engine = engine
        plugins.find_secrets(engine.secret_store)
        self._heard: Queue | None = None

    def open(self) -> None:
        """Execution and mutation: from now on plugins hear of transitions, and are asked about writes."""
        listener = self.plugins.listener
        if listener is not None:
            queue = self._engine.bus.subscribe(listener)
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
        """After the run of an execution: hooks hear the last of it, then that it is over."""
        engine = self._engine
        try:
            if self._heard is not None:
                await self._heard.drain()
            state = (await engine.state(runner.execution_id) if engine.manager is not None else
                     ExecutionState.of(runner.kernel.execution, {one.key: one for one in
                                                                 runner.kernel.cells()}))
            state.context = runner.shared.cells()
            await self.plugins.finalize(state, runner.tracker.get_execution_metrics())
        except (TreadleError, OSError) as error:
            logger.error("plugins were not told that execution %s is over: %s", runner.execution_id, error)

    async def close(self) -> None:
        """Let plugins hear what was announced, and close them."""
        if self._heard is not None:
            await self._heard.drain()
            self._heard.close()
        await self.plugins.close()
