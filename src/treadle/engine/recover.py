"""Bringing executions back: compile what the store keeps of their diagram, claim, load, go on.

What the store keeps of a diagram is its text, with what it takes to read it again; of a diagram built in
Python its spec as JSON with the import paths of its functions.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from treadle.diagram import formats
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.types import NodeTypes
from treadle.engine.handle import Handle
from treadle.engine.values import decode
from treadle.errors import InvalidDiagram, LeaseHeld, StoreError, TreadleError
from treadle.nodes.modules import looking_once
from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Store, Summary

if TYPE_CHECKING:
    from treadle.diagram.builder import Diagram
    from treadle.engine.engine import Engine

Drawn: TypeAlias = "ExecutableDiagram | DiagramSpec | Diagram | str | Path"
"""What can be started: a file, a diagram from Python, or a compiled one."""

logger = logging.getLogger("treadle.engine")
RECOVERED_MAX = 10_000
"""Executions that one start of an engine takes over."""


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the table `diagrams` keeps. `base` is the folder that the diagram's paths start from."""

    text: str
    format: Literal["yaml", "json"] = "yaml"
    file: str = ""
    base: str = "."
    python: bool = False  # built in Python: functions that have no import path are missing in the text
    spec: msgspec.Raw = msgspec.Raw(b"null")  # the same as data: reading it costs a hundredth


def digest_of(source: str) -> str:
    """The key of a source in the table `diagrams`."""
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def compile_drawn(diagram: Drawn, types: NodeTypes) -> ExecutableDiagram:
    """A diagram as it runs. Raises InvalidDiagram with all faults, OSError."""
    if isinstance(diagram, ExecutableDiagram):
        return diagram
    if isinstance(diagram, DiagramSpec):
        spec = diagram
    elif isinstance(diagram, str | Path):
        spec = formats.load(Path(diagram))
    else:
        from treadle.diagram.builder import Diagram

        if not isinstance(diagram, Diagram):
            raise TypeError("a diagram is a file's path, a Diagram or a DiagramSpec, "
                            f"not a {type(diagram).__name__}")
        spec = diagram.spec()
    from treadle.diagram.compile import compile_diagram

    with looking_once():
        return compile_diagram(spec, types)


def source_of(spec: DiagramSpec) -> str:
    """The source of a spec, as text."""
    base = str(Path(spec.base).absolute())
    data = _as_data(spec, base)
    if spec.source:
        file = spec.where.file if spec.where is not None else ""
        source = Source(spec.source, "json" if file.endswith(".json") else "yaml", file, base)
    else:
        source = Source("" if data else formats.dumps(spec, "json"), "json", spec.name, base, python=True)
    if data:
        source = msgspec.structs.replace(source, spec=msgspec.Raw(data))
    return msgspec.json.encode(source).decode()


def _as_data(spec: DiagramSpec, base: str) -> bytes:
    """A spec as JSON, or b"" if that would not give the same spec again."""
    values: Iterator[Any] = chain((node.properties for node in spec.nodes),
                                  (arrow.transform for arrow in spec.arrows if arrow.transform),
                                  (one.default for one in spec.inputs.values() if not one.required))
    try:
        if not all(_survives(value) for value in values):
            return b""
        return msgspec.json.encode(msgspec.structs.replace(spec, source="", functions={}, base=base))
    except (TypeError, ValueError, RecursionError):
        return b""


def _survives(value: Any) -> bool:
    """Whether JSON gives a value back as it was."""
    plain = msgspec.json.decode(msgspec.json.encode(value))
    return bool(plain == (list(value) if isinstance(value, tuple) else value))


def compile_stored(text: str, types: NodeTypes) -> ExecutableDiagram:
    """Compile what the store keeps. Raises InvalidDiagram."""
    from treadle.diagram.compile import compile_diagram

    source = msgspec.json.decode(text, type=Source)
    try:
        if bytes(source.spec) != b"null":
            spec = msgspec.structs.replace(
                msgspec.json.decode(source.spec, type=DiagramSpec), source=source.text
            )
        else:
            spec = formats.loads(
                source.text, file=source.file or "<stored>", base=source.base, format=source.format
            )
        with looking_once():
            return compile_diagram(spec, types)
    except InvalidDiagram as error:
        if source.python:
            error.add_note(
                "The diagram was built in Python: if its functions can't be imported again, hand the diagram "
                "in: engine.resume(execution_id, diagram=diagram)."
            )
        raise


async def resume(engine: Engine, execution_id: str, diagram: Drawn | None = None) -> Handle:
    """Claim an execution, load it and go on; see `Engine.resume`."""
    manager = engine.manager
    if manager is None:
        raise TreadleError("durability `memory` has no store to resume from")
    store = manager.store
    cell = (await manager.read(store.summary, execution_id)).cell
    if diagram is not None:
        compiled = await asyncio.to_thread(engine.compile, diagram)
    else:
        compiled = await asyncio.to_thread(
            compile_stored, await manager.read(store.source, cell.diagram), engine.registry)
    if cell.status is ExecutionStatus.COMPLETED:
        raw = await engine.values.raw(cell.output, cell.blob)
        return Handle(engine, None, cell=cell, result=None if raw is None else decode(raw))
    lease = await manager.claim(cell.execution_id)
    try:
        cell, cells = await manager.read(store.load, cell.execution_id)
        signals = await manager.read(store.signals, [cell.execution_id])
    except BaseException:
        await manager.release(cell.execution_id)
        raise
    cell = msgspec.structs.replace(cell, epoch=lease.epoch)
    reopen = cell.status in (ExecutionStatus.FAILED, ExecutionStatus.CANCELLED)
    runner = engine.launch(compiled, cell, cells, clean=lease.clean, reopen=reopen, signals=signals)
    return Handle(engine, runner)


async def recover(engine: Engine) -> list[Handle]:
    """Take over what nobody runs any more: executions whose owner is gone, and suspended ones that are due
    or have been answered. One that can't be taken over is reported, and the others go on."""
    manager = engine.manager
    if manager is None:
        return []
    store = manager.store
    stale = [
        one.cell.execution_id
        for one in await manager.read(_listed, store, ExecutionStatus.RUNNING)
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
