"""The handle of one execution: wait for it, watch it, answer it, cancel it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from treadle.engine.bus import EventStream, EventType
from treadle.engine.inbox import ANSWER, CANCEL, SIGNAL, request_of
from treadle.engine.tracker import ExecutionMetrics
from treadle.errors import ExecutionFailed
from treadle.state.cell import ErrorInfo, ExecutionCell
from treadle.state.context import Snapshot, snapshot_of
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import LOG_LINES, LogLine

if TYPE_CHECKING:
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.engine.engine import Engine
    from treadle.engine.runner import WorkflowRunner
    from treadle.hooks.specs import FinalReport

_ENDED = (NodeStatus.COMPLETED, NodeStatus.FAILED, NodeStatus.SKIPPED)


class Handle:
    """One execution, as `Engine.start` and `Engine.resume` give it."""

    def __init__(self, engine: Engine, runner: WorkflowRunner | None, *, cell: ExecutionCell | None = None,
                 result: Any = None) -> None:
        self._engine = engine
        self._runner = runner
        self._cell = cell
        self._result = result  # of an execution that had completed before

    @property
    def execution_id(self) -> str:
        return self.cell.execution_id

    @property
    def cell(self) -> ExecutionCell:
        """The execution's own cell, as it is now."""
        if self._runner is not None:
            return self._runner.kernel.execution
        assert self._cell is not None
        return self._cell

    @property
    def status(self) -> ExecutionStatus:
        return self.cell.status

    @property
    def error(self) -> ErrorInfo | None:
        """Why it failed or was cancelled."""
        return self.cell.error

    @property
    def counts(self) -> dict[str, int]:
        """How many nodes (items and inner nodes too) are in which state, and how many are known so far."""
        return self._runner.kernel.counts if self._runner is not None else {}

    def maps(self) -> dict[str, dict[str, int]]:
        """How many items have ended how, of each map under way (but not of maps of diagrams), by its
        path."""
        found = self._runner.kernel.maps() if self._runner is not None else ()
        return {path: {status.value: items.count(status) for status in _ENDED} for path, items in found}

    @property
    def diagram(self) -> ExecutableDiagram | None:
        """The diagram as it runs; None of an execution that had ended before."""
        return None if self._runner is None else self._runner.kernel.diagram

    def running(self, limit: int = 20) -> list[str]:
        """The paths of nodes whose bodies are under way, those that began first, at most `limit`."""
        return self._runner.performing(limit) if self._runner is not None else []

    def shown(self, limit: int = 20) -> list[tuple[str, str, str]]:
        """What bodies under way have shown of their results so far, at most `limit` of them: path, iteration,
        text."""
        recorders = () if self._runner is None else self._runner.recorders.values()
        return list(islice((one for recorder in recorders if (one := recorder.shown)[2]), limit))

    @property
    def spent(self) -> dict[str, float]:
        """`tokens` and `cost` (US dollars) of all that its bodies have recorded so far."""
        return dict(self._runner.spent) if self._runner is not None else {"tokens": 0.0, "cost": 0.0}

    def metrics(self) -> ExecutionMetrics:
        """Timings, rates, the path taken and the critical path, of what this process performed."""
        return (
            self._runner.tracker.get_execution_metrics() if self._runner is not None else ExecutionMetrics()
        )

    @property
    def report(self) -> FinalReport | None:
        """What plugins were told when the run was over, with slow hooks; None before that (it is there when
        the engine has closed), and without plugins."""
        found: FinalReport | None = None if self._runner is None else self._runner.__dict__.get("report")
        return found

    def events(self, types: Iterable[EventType | str] | None = None) -> EventStream:
        """What happens from now on, for `async for`. It ends when the engine is done with the execution."""
        stream = self._engine.bus.stream(types, execution_id=self.execution_id, engine=self._engine.number)
        if self._runner is None or self._runner.done.done():
            stream.finish()
        return stream

    async def logs(self, *, node: str | None = None, attempt: int | None = None, since: LogLine | None = None,
                   limit: int = LOG_LINES) -> list[LogLine]:
        """What its bodies have printed and logged so far: see `Engine.logs`."""
        return await self._engine.logs(self.execution_id, node=node, attempt=attempt, since=since,
                                       limit=limit)

    async def context(self) -> Snapshot:
        """What its bodies share, as it is now."""
        if self._runner is not None:
            return self._runner.shared.snapshot()
        manager = self._engine.manager
        assert manager is not None
        return snapshot_of(await manager.read(manager.store.context, self.execution_id))

    async def wait(self) -> ExecutionStatus:
        """Wait until the engine is done with the execution, its last cell on disk; returns the status.

        `suspended`: only an answer, a signal or a wake later than `resume_wait_s` moves it on. `running`:
        it was interrupted, and a resume goes on. Raises LeaseLost and StoreError.
        """
        while self._runner is not None:
            runner = self._runner
            status = await asyncio.shield(runner.done)
            if runner is self._runner:
                return status
        return self.cell.status

    async def result(self) -> Any:
        """Wait for the execution's value: its endpoint's, or a map by endpoint if there are several.

        Raises ExecutionFailed if it failed, was cancelled or interrupted, or is suspended with nothing in
        sight that would wake it: the message says what it waits for.
        """
        status = await self.wait()
        if status is not ExecutionStatus.COMPLETED:
            raise self._failure(status)
        if self._runner is None:
            return self._result
        return await self._runner.result()

    async def cancel(self, reason: str = "") -> None:
        """Cancel the execution and wait until it has stopped. One that has ended stays as it is."""
        if not self.status.terminal:
            await self._send(CANCEL, value=reason)
            await self.wait()

    async def answer(self, node: str, value: Any, iteration: str | None = None) -> None:
        """Answer a node that waits, or will wait; durable on return.

        Raises InvalidInput if the answer does not fit the node's schema or the node has ended, NoSuchNode.
        """
        step = self._runner.inbox.check(node, iteration, value) if self._runner is not None else ""
        await self._send(ANSWER, name=step, node=node, iteration=iteration or "", value=value)

    async def signal(self, name: str, value: Any = None) -> None:
        """Send a named signal: the first node that waits for it, now or later, takes it. Durable on
        return."""
        await self._send(SIGNAL, name=name, value=value)

    def waiting(self) -> list[tuple[str, str, dict[str, Any]]]:
        """The nodes that wait, each as (path, iteration, request); with `wake_at` where a time ends the
        wait."""
        if self._runner is None:
            return []
        kernel = self._runner.kernel
        cells = [kernel.cell(slot) for slot in kernel.waiting()]
        return [
            (
                cell.node_id,
                cell.iteration,
                {**request_of(cell), **({} if cell.wake_at is None else {"wake_at": cell.wake_at})},
            )
            for cell in cells
            if cell is not None
        ]

    async def _send(
        self, kind: str, *, name: str = "", node: str = "", iteration: str = "", value: Any = None
    ) -> None:
        runner = self._runner
        await self._engine.send(
            self.execution_id, kind, name=name, node=node, iteration=iteration, value=value
        )
        if runner is not None and runner.ended and not runner.kernel.closed:
            await runner.done  # it was given back while suspended: take it again
            woken = await self._engine.resume(self.execution_id)
            self._runner, self._cell, self._result = woken._runner, woken._cell, woken._result

    def _failure(self, status: ExecutionStatus) -> ExecutionFailed:
        cell = self.cell
        name = f"execution {cell.execution_id} of {cell.name!r}"
        node = kind = None
        if status is ExecutionStatus.SUSPENDED:
            waits = "; ".join(f"node {path!r} (iteration {iteration}) for {request.get('kind', 'something')} "
                              f"{request.get('name') or request.get('prompt') or ''}".rstrip()
                              for path, iteration, request in self.waiting())
            message = f"{name} is suspended, it waits: {waits}. Answer or signal it, then ask again"
        elif status is ExecutionStatus.RUNNING:
            saved = self._engine.manager is not None
            message = f"{name} was interrupted. " + (
                "Its state is saved: resume it" if saved else "Nothing of it is saved (durability memory)")
        else:
            error = cell.error
            node, kind = (error.node, error.type) if error is not None else (None, "")
            at = f" at node {node!r}" if node else ""
            message = (
                f"{name} {'was ' if status is ExecutionStatus.CANCELLED else ''}{status.value}{at}: {error}"
            )
        failed = ExecutionFailed(message, execution_id=cell.execution_id, status=status.value, node_id=node,
                                 kind=kind or "")
        if cell.error is not None and cell.error.traceback:
            failed.add_note(f"in node {node!r}:\n{cell.error.traceback}")  # Python shows it below the message
        return failed

    def __repr__(self) -> str:
        return f"Handle({self.execution_id!r}, {self.status.value!r})"
