"""Going on with recorded executions: resume, plan, fork, and the recovery of what nobody runs any more."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.diagram.diagram import ExecutableDiagram
from treadle.engine.composite import complete_inputs
from treadle.engine.fork import Cut, changed_inputs, seeing, taken_over
from treadle.engine.handle import Handle
from treadle.engine.plan import Plan, newest, plan_of, static
from treadle.engine.prepared import options_for
from treadle.engine.replay import node_at
from treadle.engine.secret import prime
from treadle.engine.shared import restore
from treadle.engine.sources import Drawn, compile_stored, key_of, source_of
from treadle.engine.values import decode
from treadle.errors import DiagramChanged, InvalidDiagram, InvalidInput, LeaseHeld, StoreError, TreadleError
from treadle.state import codec
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.context import SLOW_HOOKS_KEY
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Store, Summary
from treadle.undo import undone_async

if TYPE_CHECKING:
    from treadle.engine.engine import Engine
    from treadle.store.manager import StateManager

logger = logging.getLogger("treadle.engine")
RECOVERED_MAX = 10_000
"""Executions that one start of an engine takes over."""


async def resume(engine: Engine, execution_id: str, diagram: Drawn | None = None, *,
                 strict: bool = False) -> Handle:
    """Claim an execution, load it and go on; see `Engine.resume`."""
    store = _manager(engine).store
    cell = (await _manager(engine).read(store.summary, execution_id)).cell
    drawn = await _drawn(engine, cell, diagram)
    completed = cell.status is ExecutionStatus.COMPLETED
    if completed and not (drawn.handed and await _edited(engine, cell, drawn)):
        raw = await engine.values.raw(cell.output, cell.blob)
        return Handle(engine, None, cell=cell, result=None if raw is None else decode(raw))
    return await _take_over(engine, cell, drawn, strict=strict)


async def plan(engine: Engine, execution_id: str, diagram: Drawn | None = None) -> Plan:
    """See `Engine.plan`."""
    cell = (await _manager(engine).read(_manager(engine).store.summary, execution_id)).cell
    return await _plan(engine, cell, await _drawn(engine, cell, diagram))


async def fork(engine: Engine, execution_id: str, *, at: str | None, given: Mapping[str, Any],
               diagram: Drawn | None, new_id: str | None) -> Handle:
    """See `Engine.fork`."""
    manager = _manager(engine)
    cell = (await manager.read(manager.store.summary, execution_id)).cell
    drawn = await _drawn(engine, cell, diagram)
    cell, cells = await manager.read(manager.store.load, cell.execution_id)
    compiled, before = drawn.compiled, codec.decode(cell.inputs)
    inputs = complete_inputs(compiled.inputs, _declared(before, compiled) | dict(given),
                             f"diagram {compiled.name!r}", known_only=not compiled.spec.open)
    changed = changed_inputs(_declared(before, compiled), inputs)
    cut = Cut(compiled, at, seeing(compiled, changed) if at is None else ())
    new_id, now = new_id or engine.clock.new_execution_id(), engine.clock.now()
    taken = taken_over(cells, compiled, cut, new_id, now)
    context = [msgspec.structs.replace(one, execution_id=new_id, epoch=1)
               for one in await manager.read(manager.store.context, cell.execution_id)
               if one.key != SLOW_HOOKS_KEY]
    if cell.status is ExecutionStatus.COMPLETED and at is None and not changed and not (
            await _plan(engine, cell, drawn)).changes:
        raise InvalidInput(f"execution {cell.execution_id} has completed, and this would be its copy: say "
                           "where to begin (a node), or give another input or an edited diagram")
    new = ExecutionCell(new_id, epoch=1, name=compiled.name, diagram=drawn.digest,
                        inputs=codec.encode(inputs), created_at=now,
                        options=options_for(engine, compiled, cell), parent=cell.execution_id)
    await engine.initialise(new, compiled, inputs)
    known = await prime(engine, compiled, new, context)
    lease = await manager.create(new, drawn.source, taken, context=context,
                                 draw=lambda: drawn.source or source_of(compiled.spec))
    new = msgspec.structs.replace(new, epoch=lease.epoch)
    runner = engine.launch(compiled, new, taken, clean=True, reopen=False, signals=[], known=known)
    restore(runner, context)
    return Handle(engine, runner)


class _Drawing(msgspec.Struct, frozen=True):
    """The diagram that an execution goes on with. `source` is "" if the store has it."""

    compiled: ExecutableDiagram
    digest: str
    source: str = ""
    handed: bool = False  # by the caller: it may be another than the recorded one


def _manager(engine: Engine) -> StateManager:
    if engine.manager is None:
        raise TreadleError("durability `memory` has no store to resume from")
    return engine.manager


async def _drawn(engine: Engine, cell: ExecutionCell, diagram: Drawn | None) -> _Drawing:
    if diagram is None:
        return _Drawing(await _recorded(engine, cell), cell.diagram)

    def draw() -> _Drawing:
        compiled = engine.compile(diagram)
        digest, source = key_of(compiled)
        return _Drawing(compiled, digest, "" if digest == cell.diagram else source, handed=True)

    return await asyncio.to_thread(draw)


async def _recorded(engine: Engine, cell: ExecutionCell) -> ExecutableDiagram:
    manager = _manager(engine)
    text = await manager.read(manager.store.source, cell.diagram)
    return await asyncio.to_thread(compile_stored, text, engine.registry)


async def _plan(engine: Engine, cell: ExecutionCell, drawn: _Drawing) -> Plan:
    manager = _manager(engine)
    _, cells = await manager.read(manager.store.load, cell.execution_id)
    before: ExecutableDiagram | None
    try:
        same = drawn.digest == cell.diagram
        before = drawn.compiled if same else await _recorded(engine, cell)
    except InvalidDiagram:  # what it names is gone: the plan says less
        before = None
    return await asyncio.to_thread(plan_of, cells, drawn.compiled, before)


async def _edited(engine: Engine, cell: ExecutionCell, drawn: _Drawing) -> bool:
    """Whether the diagram differs from the recorded one in anything that counts. Mostly the results alone
    tell, and the recorded one need not be compiled again."""
    manager = _manager(engine)
    _, cells = await manager.read(manager.store.load, cell.execution_id)
    if (await asyncio.to_thread(plan_of, cells, drawn.compiled)).changed:
        return True
    return (await _plan(engine, cell, drawn)).changes


async def _take_over(engine: Engine, cell: ExecutionCell, drawn: _Drawing, *, strict: bool) -> Handle:
    manager = _manager(engine)
    store, compiled = manager.store, drawn.compiled
    lease = await manager.claim(cell.execution_id)
    async with undone_async(manager.release, cell.execution_id):
        if strict and (found := await _plan(engine, cell, drawn)).changes:
            raise DiagramChanged(f"the diagram of execution {cell.execution_id} is not the one that it was "
                                 f"recorded with: {found}")
        cell, cells = await manager.read(store.load, cell.execution_id)
        signals = await manager.read(store.signals, [cell.execution_id])
        context = await manager.read(store.context, cell.execution_id)
        cell = msgspec.structs.replace(cell, epoch=lease.epoch)
        if drawn.source:
            cell = msgspec.structs.replace(cell, seq=cell.seq + 1, diagram=drawn.digest,
                                           inputs=_inputs_anew(cell, compiled))
            await manager.call(store.redraw, lease, cell, drawn.source)
            manager.record(_without_place(cells, compiled, lease.epoch, engine.clock.now()))
        known = await prime(engine, compiled, cell, context)
    reopen = cell.status.terminal
    runner = engine.launch(compiled, cell, cells, clean=lease.clean, reopen=reopen, signals=signals,
                           known=known)
    restore(runner, context)  # before its bodies run: they begin in a later turn of the loop
    return Handle(engine, runner)


def _declared(inputs: Mapping[str, Any], diagram: ExecutableDiagram) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if diagram.spec.open or name in diagram.inputs}


def _inputs_anew(cell: ExecutionCell, diagram: ExecutableDiagram) -> bytes:
    """The recorded inputs for an edited diagram: what it doesn't declare is left out, what is new has its
    default."""
    recorded: dict[str, Any] = codec.decode(cell.inputs)
    try:
        return codec.encode(complete_inputs(
            diagram.inputs, _declared(recorded, diagram), f"the edited diagram {diagram.name!r}",
            known_only=not diagram.spec.open))
    except InvalidInput as error:
        error.add_note("A resume goes on with the inputs that were given at the start: give new ones a "
                       "default, or fork the execution with other inputs.")
        raise


def _without_place(cells: Iterable[NodeState], diagram: ExecutableDiagram, epoch: int,
                   at: float) -> list[NodeState]:
    """What waits or runs at nodes that the diagram no longer has, cancelled."""
    return [msgspec.structs.replace(cell, status=NodeStatus.CANCELLED, epoch=epoch, seq=cell.seq + 1,
                                    ended_at=at, wake_at=None, request=None)
            for cell in newest(cells).values()
            if not cell.status.terminal and node_at(diagram, static(cell.node_id)) is None]


async def recover(engine: Engine) -> list[Handle]:
    """Take over what nobody runs any more: executions whose owner is gone, and suspended ones that are due
    or have been answered. One that can't be taken over is reported, and the others go on."""
    manager = engine.manager
    if manager is None:
        return []
    store = manager.store
    stale = [
        one.cell.execution_id
        for status in (ExecutionStatus.RUNNING, ExecutionStatus.PENDING)
        for one in await manager.read(_listed, store, status)
        if one.stale
    ]
    waiting = [one.cell for one in await manager.read(_listed, store, ExecutionStatus.SUSPENDED)]
    answered = {
        one.execution_id for one in await manager.read(store.signals, [c.execution_id for c in waiting])
    }
    due = [c.execution_id for c in waiting if c.execution_id in answered or await _due(engine, c)]
    handles = []
    for execution_id in [*stale, *due]:
        try:
            handles.append(await resume(engine, execution_id))
        except LeaseHeld as error:
            logger.info("execution %s is not recovered: %s", execution_id, error)
        except (StoreError, InvalidDiagram, OSError) as error:
            logger.error("execution %s can't be recovered: %s", execution_id, error)
    return handles


def _listed(store: Store, status: ExecutionStatus) -> list[Summary]:
    return store.executions(status=status, limit=RECOVERED_MAX)


async def _due(engine: Engine, cell: ExecutionCell) -> bool:
    """Whether a suspended execution has a wake that is near or past."""
    assert engine.manager is not None
    _, cells = await engine.manager.read(engine.manager.store.load, cell.execution_id)
    until = engine.clock.now() + engine.config.resume_wait_s
    return any(one.status in (NodeStatus.SUSPENDED, NodeStatus.RETRYING) and one.wake_at is not None
               and one.wake_at <= until for one in cells)
