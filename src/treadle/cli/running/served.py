"""`run --serve`: the monitor beside a run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.errors import InvalidInput
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
    from treadle.engine.bus import Event
    from treadle.engine.engine import Engine
    from treadle.engine.handle import Handle
    from treadle.monitor.serving import Served

ServeOption = Annotated[bool, typer.Option(
    "--serve", help="Show the run on a page, live; a terminal keeps the page until Ctrl-C.")]
RateOption = Annotated[float, typer.Option(
    "--vis-update-rate", metavar="HZ", min=0.1, max=60,
    help="How often a viewer of the page hears of changes, in a second; none waits for more than 0.2 s "
         "unless this is less than 4.")]


@contextlib.asynccontextmanager
async def beside(engine: Engine, rate: float | None) -> AsyncIterator[Served | None]:
    """The monitor of an engine at this machine's own address, with random tokens; none without a rate."""
    if rate is None:
        yield None
        return
    if engine.manager is None:
        raise InvalidInput("--serve shows what is recorded, and --durability memory records nothing: choose "
                           "batched or strict")
    from treadle.cli.serve import opened, settings_of
    from treadle.monitor.core import Monitor

    settings = settings_of("127.0.0.1", None, None, None, None, None, read_only=False)
    async with Monitor(engine.store, engine=engine, rate_hz=rate, config=engine.config) as monitor, \
            opened(monitor, settings, chosen=False) as served:
        yield served


async def stay(engine: Engine, handle: Handle, status: ExecutionStatus,
               interrupted: asyncio.Event) -> tuple[Handle, ExecutionStatus, float]:
    """Keep the page while the execution waits for somebody, and on a terminal after it has ended, too; until
    an interrupt. Returns what became of it meanwhile, and for how many seconds nothing has moved since."""
    name, moved, found = handle.execution_id, asyncio.Event(), handle
    last = time.monotonic()

    def note(event: Event) -> None:
        nonlocal found
        found = engine.handle(name) or found
        moved.set()

    subscription = engine.bus.subscribe(note, queued=False, execution_id=name)
    try:
        while not interrupted.is_set() and (sys.stderr.isatty() or status is ExecutionStatus.SUSPENDED):
            await _first(moved.wait(), interrupted.wait())
            moved.clear()
            ended = await _first(found.wait(), interrupted.wait())
            status = found.status if ended else ExecutionStatus.RUNNING
            last = last if interrupted.is_set() and ended else time.monotonic()
    finally:
        subscription.close()
    return found, status, time.monotonic() - last


async def _first(one: Coroutine[Any, Any, object], other: Coroutine[Any, Any, object]) -> bool:
    """Wait for either; whether it is the first that is done."""
    tasks = asyncio.ensure_future(one), asyncio.ensure_future(other)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        return tasks[0].done()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
