"""`treadle.run`: one diagram, from start to result, in a script."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import TreadleError

if TYPE_CHECKING:
    from treadle.engine.engine import Durability
    from treadle.engine.sources import Drawn

T = TypeVar("T")
logger = logging.getLogger("treadle.engine")


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
            return await (await engine.start(diagram, given, **inputs)).result()

    return in_own_loop(main(), config)


def in_own_loop(coro: Coroutine[Any, Any, T], config: TreadleConfig) -> T:
    """Run a coroutine to its end in an event loop of its own; Ctrl-C cancels it.

    What it leaves behind and does not end within `shutdown_s_max` is given up with a warning that names it.
    TreadleError where uvloop is asked for and missing, and inside a running loop.
    """
    from treadle.aio.loops import ManagedEventLoop

    try:
        managed = ManagedEventLoop(config.loop, timeout=config.shutdown_s_max)
        managed.open()
    except RuntimeError as error:
        coro.close()
        raise TreadleError(str(error)) from None
    try:
        return managed.run(coro)
    finally:
        try:
            managed.close()
        except TimeoutError as late:  # it must not stand in for the result
            logger.warning("%s", late)
