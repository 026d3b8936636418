"""How an execution is given back: at its end, when it is suspended, when it is interrupted."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING

from treadle.engine import shared
from treadle.errors import StoreError, TreadleError
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner

logger = logging.getLogger("treadle.engine")


def rests(runner: WorkflowRunner) -> bool:
    """Whether nothing but an answer, a signal or a far wake moves the execution on."""
    if runner.kernel.execution.status is not ExecutionStatus.SUSPENDED:
        return False
    wake = runner.timers.nearest
    return wake is None or wake - runner.now() > runner.config.resume_wait_s


def close(runner: WorkflowRunner, status: ExecutionStatus) -> None:
    """The kernel has nothing more to do: the execution ended, or it waits for something from outside."""
    if status is ExecutionStatus.SUSPENDED:
        if runner.inbox.match() or not rests(runner):
            return
        if not runner.by_reference:
            if not runner.parking:
                runner.parking = True
                runner.engine.care(park(runner))
        elif not runner.done.done():  # nobody else could go on with it: tell who waits, and stay
            runner.done.set_result(status)
        return
    runner.stop()
    if runner.suspended_bodies:
        runner.engine.care(leave(runner, status))
        return
    shared.leave(runner)
    if runner.manager is None:
        runner.left(status)
    else:
        runner.manager.release_then(runner.execution_id, partial(runner.left, status))


async def park(runner: WorkflowRunner) -> None:
    """Give a suspended execution back, unless a word for it has come that we have not read."""
    manager = runner.manager
    assert manager is not None
    try:
        runner.deliver(await manager.read(manager.store.signals, [runner.execution_id]))
        await _followed(runner)  # else a wake that the kernel wants might not be known yet
    except StoreError as error:
        logger.warning("signals of execution %s can't be read: %s", runner.execution_id, error)
    runner.parking = False
    if not runner.ended and rests(runner):
        read = runner.inbox.newest
        runner.stop()
        await leave(runner, ExecutionStatus.SUSPENDED)
        runner.engine.care(_go_on(runner, read))


async def _followed(runner: WorkflowRunner) -> None:
    """Return when all that the kernel wants is under way: in `strict` that waits for the disk."""
    ticket = -1
    while (runner._strict or runner._holding) and ticket != runner._ticket and not runner.ended:
        ticket = runner._ticket
        assert runner.manager is not None
        await runner.manager.durable(ticket)


async def _go_on(runner: WorkflowRunner, read: int) -> None:
    """Take the execution up again if a word for it came between the last look and the release: whoever sent
    it saw that we have the execution, and left it to us."""
    manager, engine, name = runner.manager, runner.engine, runner.execution_id
    assert manager is not None
    try:
        signals = await manager.read(manager.store.signals, [name])
        if any(one.id > read for one in signals):
            await engine.resume(name)
    except (TreadleError, OSError) as error:  # the engine closes, or somebody else was faster
        logger.info("execution %s was not taken up again: %s", name, error)


async def leave(runner: WorkflowRunner, status: ExecutionStatus) -> None:
    """Give the execution back once its bodies have stopped and everything of it is on disk."""
    try:
        if runner.suspended_bodies:
            runner.quiet = runner.engine.loop.create_future()
            async with asyncio.timeout(2 * runner.config.cancel_s_max):
                await runner.quiet
    except TimeoutError:
        logger.error("execution %s leaves %d bodies behind", runner.execution_id, runner.suspended_bodies)
    shared.leave(runner)
    try:
        if runner.manager is not None:
            await runner.manager.release(runner.execution_id)  # in the transaction of its last cells
    except OSError as error:  # StoreError: the writer is dead, or the disk is
        runner.lost(error)
    else:
        runner.left(status)
