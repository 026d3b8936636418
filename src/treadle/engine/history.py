"""What nodes got, for the history of a run as files. It is told on the history's thread, so only what never
changes again is looked at: the inputs of nodes that are neither in a loop, nor a map, nor a sub-diagram, once
they have started.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from treadle.diagram.diagram import ExecutableArrow
from treadle.diagram.node import DEFAULT, stands_in
from treadle.engine.resolver import error_value
from treadle.errors import NoSuchNode
from treadle.kernel.execution import Kernel
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.aio.resources import AsyncResourceManager
    from treadle.engine.engine import Engine
    from treadle.store.history import HistoryWriter
    from treadle.store.manager import StateManager

INPUT_BYTES_MAX = 16 * 1024
"""Of all inputs of a node together; a larger one is named by the node that it comes from."""
ARROWS_MAX = 100
"""Arrows into a node that are looked at."""


def keep(engine: Engine, folder: Path, manager: StateManager, resources: AsyncResourceManager
         ) -> HistoryWriter:
    """Begin a history of what an engine runs; it ends with the engine's resources."""
    from treadle.store.history import HistoryWriter

    history = HistoryWriter(folder, manager, inputs=inputs_in(engine), config=engine.config)
    resources.add_cleanup(history.close)
    resources.add_cleanup(engine.bus.subscribe(history, engine=engine.number).leave)
    return history


def inputs_in(engine: Engine) -> Callable[[str], Callable[[NodeState], bytes | None] | None]:
    """What tells the inputs of an execution that runs here: see `HistoryWriter`."""
    def of_execution(execution_id: str) -> Callable[[NodeState], bytes | None] | None:
        runner = engine._runners.get(execution_id)
        return None if runner is None else partial(_inputs, runner.kernel)

    return of_execution


def _inputs(kernel: Kernel, cell: NodeState) -> bytes | None:
    """A node's inputs by name as JSON, or None if they can't be told here."""
    index = kernel.diagram.index.get(cell.node_id)
    if index is None or kernel.diagram.loop_of[index] >= 0 or cell.status is NodeStatus.SKIPPED:
        return None
    try:
        slot = kernel.find(cell.node_id)
    except NoSuchNode:
        return None
    left = INPUT_BYTES_MAX
    found: dict[str, list[msgspec.Raw]] = {}
    for arrow, source in kernel.inputs(slot, 0, ARROWS_MAX):
        raw = _carried(arrow, source, left)
        left -= len(raw)
        name = DEFAULT if stands_in(arrow.input, arrow.first) else arrow.input
        found.setdefault(name, []).append(msgspec.Raw(raw))
    if kernel.width(slot) > ARROWS_MAX:
        found["…"] = []
    return msgspec.json.encode({name: values[0] if len(values) == 1 else values
                                for name, values in found.items()})


def _carried(arrow: ExecutableArrow, source: NodeState, left: int) -> bytes:
    """What an arrow brings; of a transform, which may be anybody's code, and of what is large only the
    source."""
    raw = source.output
    if source.status is NodeStatus.FAILED:
        with contextlib.suppress(UnicodeEncodeError):  # halves of surrogate pairs in its message
            raw = msgspec.json.encode(error_value(source.error))
    elif raw is None and source.blob is None:
        raw = b"null"
    if raw is None or len(raw) > left or arrow.transform or arrow.content_type:
        return msgspec.json.encode({"$from": source.node_id})
    return raw
