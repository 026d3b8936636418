"""Compiled diagrams at hand: what an engine finds out about one, once for all its executions."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from treadle.diagram.diagram import ExecutableDiagram, ExecutableNode
from treadle.engine import sources
from treadle.engine.cache import ResultCache
from treadle.engine.context import remember
from treadle.engine.sources import Drawn
from treadle.nodes.base import Body, NodeStrategyProtocol
from treadle.nodes.modules import looking_once
from treadle.nodes.registry import NodeRegistry
from treadle.state.cell import ExecutionCell
from treadle.state.context import About, options_of

if TYPE_CHECKING:
    from treadle.engine.engine import Engine
    from treadle.engine.surroundings import Named
    from treadle.store.manager import StateManager

FROZEN_NODES_MIN = 5000
"""From this size on a compiled diagram is taken out of the garbage collector's sight while the engine is
open."""


class Prepared:
    """What is known of one compiled diagram."""

    __slots__ = ("bodies", "digest", "functions", "options", "secrets", "source")

    def __init__(self) -> None:
        self.digest = ""  # the key of its source in the store; "" until it is started here
        self.options = b""  # of an execution of it here: see `options_for`
        self.source = ""  # the source itself as long as our store may not have it
        self.functions: dict[tuple[str, str], Any] = {}  # what its nodes call, each looked for once
        self.secrets: tuple[Named, ...] | None = None  # those that it names, once they were looked for
        self.bodies: dict[int, Body] = {}  # its bound strategies by `id(node)`, filled as nodes are performed


def options_for(engine: Engine, diagram: ExecutableDiagram, before: ExecutionCell | None = None) -> bytes:
    """What is recorded of how an execution of a diagram runs on an engine. A fork has what the one `before`
    it was given, too."""
    prepared = engine.diagrams.of(diagram)
    if before is None and prepared.options:
        return prepared.options
    spec, given = diagram.spec, None if before is None else About.of(before)
    given_vars = {**dict.fromkeys(() if given is None else given.given_vars), **engine.environment_vars}
    given_store = bool(engine.secret_store) or (given is not None and given.given_store)
    more: dict[str, Any] = {**({"given_vars": list(given_vars)} if given_vars else {}),
                            **({"given_store": True} if given_store else {})}
    options = options_of(
        engine.durability, config_hash=engine.config.config_hash,
        environment_vars={**spec.environment_vars, **({} if given is None else given.environment_vars),
                          **engine.environment_vars},
        secret_store=engine.secret_store or (given and given.secret_store) or spec.secret_store,
        active_plugins=engine.active_plugins, **more)
    if before is None:
        prepared.options = options
    return options


class Diagrams:
    """The diagrams of an engine, as long as somebody uses them. `manager` is None in durability `memory`."""

    def __init__(self, registry: NodeRegistry) -> None:
        self.manager: StateManager | None = None
        self.around: Callable[[ExecutableNode, Body], Body] | None = None  # wraps every body: for tests
        self._registry = registry
        self._known: weakref.WeakKeyDictionary[ExecutableDiagram, Prepared] = weakref.WeakKeyDictionary()
        self._cache: ResultCache | None = None
        self._frozen = False  # whether we, and nobody else, froze objects

    def compile(self, diagram: Drawn) -> ExecutableDiagram:
        """A diagram as it runs. Raises InvalidDiagram, OSError."""
        compiled = sources.compile_drawn(diagram, self._registry)
        if compiled not in self._known:
            if len(compiled) >= FROZEN_NODES_MIN:
                # Walking a large graph that never changes is what makes the collector hold the loop up.
                gc.collect()
                self._frozen = self._frozen or not gc.get_freeze_count()
                gc.freeze()
            self.of(compiled)
        remember(compiled)
        return compiled

    async def prepare(self, diagram: Drawn) -> tuple[ExecutableDiagram, Prepared]:
        """Compile a diagram, and find the key of its source; what is large is not done on the loop."""
        if isinstance(diagram, ExecutableDiagram):
            known = self._known.get(diagram)
            if known is not None and known.digest:
                return diagram, known

        def prepare() -> tuple[ExecutableDiagram, Prepared]:
            compiled = self.compile(diagram)
            prepared = self._known[compiled]
            prepared.source = "" if self.manager is None else sources.source_of(compiled.spec)
            prepared.digest = sources.digest_of(prepared.source)
            return compiled, prepared

        small = isinstance(diagram, ExecutableDiagram) and len(diagram) < FROZEN_NODES_MIN
        return prepare() if small else await asyncio.to_thread(prepare)

    def of(self, diagram: ExecutableDiagram) -> Prepared:
        """What was found out about a compiled diagram."""
        found = self._known.get(diagram)
        if found is None:
            found = self._known[diagram] = Prepared()
        return found

    def with_key(self, digest: str) -> ExecutableDiagram | None:
        """The diagram that was started here whose source has that key. Threads may ask."""
        for reference in self._known.keyrefs():
            diagram = reference()
            known = None if diagram is None else self._known.get(diagram)
            if known is not None and known.digest == digest:
                return diagram
        return None

    def bind(self, prepared: Prepared, node: ExecutableNode) -> Body:
        """What performs a node: its strategy's `bind`, or its `execute`."""
        strategy = self._registry.get_strategy(node.type)
        bind = getattr(strategy, "bind", None)
        if bind is None:
            body: Body = partial(_execute, strategy, node)
        else:
            with looking_once(prepared.functions):
                body = bind(node)
        if node.policy.cache and self.manager is not None:
            if self._cache is None:
                self._cache = ResultCache(self.manager)
            body = self._cache.around(node, body)
        if self.around is not None:
            body = self.around(node, body)
        prepared.bodies[id(node)] = body
        return body

    def close(self) -> None:
        """Give the garbage collector back what was taken out of its sight."""
        if self._frozen:
            gc.unfreeze()


async def _execute(strategy: NodeStrategyProtocol, node: ExecutableNode, context: Any,
                   inputs: dict[str, Any]) -> Any:
    return await strategy.execute(node, context, inputs)
