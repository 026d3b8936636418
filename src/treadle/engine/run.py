"""`treadle.run`: one diagram, from start to result, in a script."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import TreadleError

if TYPE_CHECKING:
    from treadle.engine.engine import Durability
    from treadle.engine.sources import Drawn


def run(diagram: Drawn, given: Mapping[str, Any] | None = None, /, *, store: str | None = None,
        durability: Durability = "memory", config: TreadleConfig = DEFAULT_CONFIG, **inputs: Any) -> Any:
    """Run a diagram and return its result. Inputs come by name, or as the map `given`, whose names may be any
    text. With `store` its state is kept there (durability `batched` unless said).

    Raises InvalidDiagram, InvalidInput, ExecutionFailed. In a notebook, or anywhere inside a running event
    loop, use the engine itself: the error says how.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise TreadleError(
            "treadle.run() starts an event loop of its own, and one is running here already (as in a "
            "notebook). Write instead:\n    async with treadle.Engine.open(…) as engine:\n"
            "        handle = await engine.start(diagram, …)\n        result = await handle.result()"
        )
    if store is not None and durability == "memory":
        durability = "batched"
    from treadle.engine.engine import Engine

    async def main() -> Any:
        async with Engine.open(store, config=config, durability=durability) as engine:
            return await (await engine.start(diagram, {**(given or {}), **inputs})).result()

    with asyncio.Runner(loop_factory=loop_factory(config)) as runner:
        return runner.run(main())


def loop_factory(config: TreadleConfig) -> Any:
    """What makes the event loops of a configuration, for `asyncio.Runner`; None is the default of asyncio."""
    if config.loop == "asyncio":
        return None
    try:
        import uvloop
    except ImportError:
        if config.loop == "uvloop":
            raise TreadleError("loop='uvloop', but uvloop is not installed: pip install uvloop") from None
        return None
    return uvloop.new_event_loop
