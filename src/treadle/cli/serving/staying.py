"""What follows while the page stays: others may go on with the execution, the page's own process too."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from treadle.engine.handle import Handle
from treadle.engine.inbox import request_of
from treadle.engine.plan import newest
from treadle.engine.values import decode
from treadle.errors import NoSuchExecution
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Summary

if TYPE_CHECKING:
    from treadle.cli.running.served import Here
    from treadle.cli.serving.page import Page
    from treadle.engine.engine import Engine

LOOK_S = 0.05
"""How often it is looked whether the store has changed."""


async def stay(engine: Engine, handle: Handle, status: ExecutionStatus, interrupted: asyncio.Event,
               page: Page | Here) -> tuple[Handle, ExecutionStatus, float]:
    """Keep the page while the execution waits for somebody, or goes on by what somebody did there; on a
    terminal after it has ended, too; until an interrupt. Returns what became of it meanwhile, and for how
    many seconds nothing has moved since."""
    manager, name = engine.manager, handle.execution_id
    assert manager is not None
    moved, version, seen = time.monotonic(), None, handle.cell
    waits = (ExecutionStatus.SUSPENDED, ExecutionStatus.RUNNING)

    async def look() -> None:
        nonlocal seen, moved, status
        found: Summary = await manager.read(manager.store.summary, name)
        if found.cell.version != seen.version:
            seen, moved = found.cell, time.monotonic()
            status = _status(found)

    try:
        while not (interrupted.is_set() or page.ended.is_set()) and (sys.stderr.isatty() or status in waits):
            now = await manager.read(manager.store.version)
            if now != version:
                version = now
                await look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await _either(interrupted.wait(), page.ended.wait())
        await page.end()
        await look()
        if seen.version != handle.cell.version:
            handle = Recorded(engine, *await manager.read(manager.store.load, name),
                              result=await _result(engine, seen))
    except NoSuchExecution:
        pass  # somebody deleted it on the page
    return handle, status, time.monotonic() - moved


def _status(found: Summary) -> ExecutionStatus:
    """The status of an execution as an engine would leave it."""
    status = found.cell.status
    return ExecutionStatus.RUNNING if status is ExecutionStatus.PENDING else status


async def _result(engine: Engine, cell: ExecutionCell) -> Any:
    raw = await engine.values.raw(cell.output, cell.blob)
    return None if raw is None else decode(raw)


class Recorded(Handle):
    """An execution as another engine has left it."""

    def __init__(self, engine: Engine, cell: ExecutionCell, cells: list[NodeState], *, result: Any) -> None:
        super().__init__(engine, None, cell=cell, result=result)
        self._newest = list(newest(cells).values())

    @property
    def counts(self) -> dict[str, int]:
        return dict(Counter(one.status.value for one in self._newest))

    def waiting(self) -> list[tuple[str, str, dict[str, Any]]]:
        return [(one.node_id, one.iteration,
                 {**request_of(one), **({} if one.wake_at is None else {"wake_at": one.wake_at})})
                for one in self._newest if one.status is NodeStatus.SUSPENDED]


async def _either(*waits: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of these."""
    tasks = [asyncio.ensure_future(one) for one in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
