"""Diagrams that a body runs: executions of their own, which the body waits for.

The kernel knows nothing of them. A body that is performed again finds the execution that it had started, and
goes on with that.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from treadle.errors import InvalidInput, NoSuchExecution
from treadle.nodes.people.offline.standins import inner

if TYPE_CHECKING:
    from treadle.engine.context import NodeContext
    from treadle.engine.handle import Handle

_OTHER = re.compile(r"[^\w.-]+")
_ID_CHARS = 180


def id_of(context: NodeContext, name: str) -> str:
    """The id of the execution that a body runs under a name: the same for all its attempts, another one after
    an edit of its node."""
    cell = context.cell
    whole = f"{cell.node_id}.{cell.iteration}.{name}.{(cell.lineage or '')[:8]}"
    return f"{cell.execution_id}.{_OTHER.sub('-', whole)}"[:_ID_CHARS].rstrip(".")


async def execute(context: NodeContext, diagram: str, inputs: Mapping[str, Any], name: str) -> Any:
    """See `treadle.nodes.base.BodyContext`."""
    runner = context.runner
    engine, child = runner.engine, id_of(context, name)
    handle = engine.handle(child)
    if handle is None and engine.manager is not None:
        try:
            await engine.manager.read(engine.manager.store.summary, child)
        except NoSuchExecution:
            pass
        else:
            handle = await engine.resume(child)
    if handle is None:
        token = inner.set(True)
        try:
            handle = await engine.start(context.path(diagram), inputs, execution_id=child)
        finally:
            inner.reset(token)
    try:
        return await handle.result()
    except asyncio.CancelledError:
        if runner.kernel.closed or not runner.ended:  # else the engine stops, and a resume goes on with both
            engine.care(_cancel(handle, f"{context.node_id} of execution {context.execution_id} stopped"))
        raise


async def _cancel(handle: Handle, reason: str) -> None:
    try:
        await handle.cancel(reason)
    except (InvalidInput, NoSuchExecution):  # it has ended meanwhile
        pass
