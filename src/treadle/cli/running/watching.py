"""`watch`: an execution that any process runs, live in a terminal; and what feeds the live view of a run."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from treadle.cli.common import (
    INTERRUPTED,
    ExecutionArgument,
    JsonOption,
    StoreOption,
    say_command,
    store_to_look_at,
)
from treadle.cli.render import failure, prefixed, say, seconds
from treadle.config import read_limits
from treadle.errors import NoSuchExecution, StoreError
from treadle.state.cell import ErrorInfo
from treadle.state.status import ExecutionStatus, NodeStatus

if TYPE_CHECKING:
    from treadle.cli.drawing.picture import Picture
    from treadle.cli.running.screen import Screen
    from treadle.engine.engine import Engine
    from treadle.monitor.core import Monitor
    from treadle.monitor.live.wire import Message as Sendable

RateOption = Annotated[float, typer.Option(
    "--vis-update-rate", metavar="HZ", min=0.1, max=60,
    help="How often changes are shown, in a second; none waits for more than 0.2 s unless this is less "
         "than 4.")]


class _Wire:
    """What a viewer is sent, to be taken one by one. It is free when all was taken."""

    def __init__(self) -> None:
        self._sent: asyncio.Queue[str] = asyncio.Queue()

    @property
    def free(self) -> bool:
        return self._sent.empty()

    def send(self, message: Sendable) -> None:
        self._sent.put_nowait(message.text.decode())

    async def drained(self) -> None:
        await self._sent.join()

    async def next(self) -> str:
        message = await self._sent.get()
        self._sent.task_done()
        return message


async def messages(monitor: Monitor, execution_id: str, *, rate: float = 4.0) -> AsyncGenerator[str]:
    """What a viewer of an execution is told, from the snapshot on. The last message before it can't go on is
    an error. NoSuchExecution, StoreError."""
    from treadle.monitor.live.channel import PERIOD_S_MAX, PERIOD_S_MIN, Hub
    from treadle.monitor.live.wire import Viewer

    channel = await Hub.of(monitor).execution(execution_id)
    wire = _Wire()
    viewer = Viewer(wire, max(PERIOD_S_MIN, 1 / rate if rate < 4.0 else min(1 / rate, PERIOD_S_MAX)))
    channel.join(viewer, None)
    try:
        while viewer.code is None or not wire.free:
            yield await wire.next()
    finally:
        channel.leave(viewer)


async def picture_of(monitor: Monitor, execution_id: str) -> Picture | None:
    """The graph of an execution's diagram; None if it can't be compiled here."""
    from treadle.cli.drawing.picture import picture_of as drawn

    cell = (await monitor.read(monitor.store.summary, execution_id)).cell
    known = await monitor.read(monitor.drawings.of, monitor.store, cell.diagram)
    return None if known is None or known.compiled is None else drawn(known.compiled, 0)


async def feed(engine: Engine, execution_id: str, take: Callable[[str], None]) -> None:
    """Tell a view of this process's own run what viewers are told, until this is cancelled."""
    from treadle.monitor.core import Monitor

    async with Monitor(engine.store, engine=engine, config=engine.config) as monitor, \
            contextlib.aclosing(messages(monitor, execution_id)) as stream:
        async for text in stream:
            take(text)


def watch(
    execution_id: ExecutionArgument,
    store: StoreOption = None,
    rate: RateOption = 4.0,
    as_json: JsonOption = False,
) -> None:
    """Watch an execution until it ends, whoever runs it: its graph, how far it is, the last errors.

    With --json, and where the output is no terminal, a line of JSON for each change. Ends as `run` would
    have: 0 completed, 1 failed or cancelled; Ctrl-C ends the watching, not the execution.
    """
    from treadle.engine.run import in_own_loop

    found = store_to_look_at(store)
    try:
        lines = as_json or not sys.stdout.isatty()
        raise typer.Exit(in_own_loop(_Watch(found, store, rate, lines).run(execution_id),
                                     read_limits(Path.cwd())))
    finally:
        found.close()


class _Watch:
    """One watching, up to its exit code."""

    def __init__(self, store: Any, url: str | None, rate: float, lines: bool) -> None:
        self._store, self._url, self._rate, self._lines = store, url, rate, lines

    async def run(self, execution_id: str) -> int:
        from treadle.monitor.core import Monitor

        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with Monitor(self._store, rate_hz=self._rate) as monitor:
            name = (await monitor.read(self._store.summary, execution_id)).cell.execution_id
            task = asyncio.create_task(self._follow(monitor, name))
            waiting = asyncio.create_task(stop.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            if not task.done():
                task.cancel()
                await asyncio.wait({task})
                say(f"no longer watched; what runs goes on. Watch it again:  {self._command('watch', name)}")
                return INTERRUPTED
            return task.result()

    async def _follow(self, monitor: Monitor, name: str) -> int:
        with contextlib.ExitStack() as stack:
            take: Callable[[str], None] = _print
            if not self._lines:
                screen = stack.enter_context(_shown(await picture_of(monitor, name)))
                take = screen.take_text
                listening = asyncio.create_task(_listen(monitor, name, screen))
                stack.callback(listening.cancel)
            known: dict[str, Any] = {}
            async with contextlib.aclosing(messages(monitor, name, rate=self._rate)) as stream:
                async for text in stream:
                    take(text)
                    message = msgspec.json.decode(text)
                    known.update((message.get("payload") or {}).get("execution") or {})
                    if message["event_type"] == "error":
                        raise StoreError(message["message"])
                    if message["event_type"] == "end":
                        break
        return self._end(name, known)

    def _end(self, name: str, known: dict[str, Any]) -> int:
        from treadle.cli.running.run import EXIT_CODES

        status = ExecutionStatus(known["status"])
        if not self._lines:
            begun, ended = known.get("started_at") or known.get("created_at"), known.get("ended_at")
            took = "" if begun is None or ended is None else f" after {seconds(ended - begun)}"
            say(f"{status.value}{took}")
            if known.get("error"):
                error = known["error"]
                say(prefixed(failure(ErrorInfo(error["type"], error["message"], node=error.get("node")))))
            say(f"  look closer:  {self._command('show', name)}")
        return EXIT_CODES[status]

    def _command(self, verb: str, name: str) -> str:
        return say_command(verb, name, store=self._url)


def _print(text: str) -> None:
    print(text, flush=True)


async def _listen(monitor: Monitor, execution_id: str, screen: Screen) -> None:
    """Show what bodies say while it comes: messages tell only how much that is."""
    from treadle.cli.running.progress import TALKING_INTERVAL_S, TALKING_SHOWN, named
    from treadle.state.steps import steps_of

    while True:
        paths = [path for path, one in screen.nodes.items()
                 if one.get("status") == "running" and one.get("partial")][:TALKING_SHOWN]
        said = []
        if paths:
            try:
                seen = await monitor.read(monitor.seen, execution_id)
            except (StoreError, NoSuchExecution):
                return  # messages tell of it
            newest = {cell.node_id: cell for cell in seen.cells if cell.node_id in paths
                      and cell.status is NodeStatus.RUNNING}
            said = [(named(path, cell.iteration), text) for path, cell in newest.items()
                    if (text := steps_of(cell.meta).partial)]
        screen.talking = said
        await asyncio.sleep(TALKING_INTERVAL_S)


@contextlib.contextmanager
def _shown(picture: Picture | None) -> Iterator[Screen]:
    """A screen that is drawn in place until this is left."""
    from rich.console import Console
    from rich.live import Live

    from treadle.cli.running.progress import LIVE_INTERVAL_S
    from treadle.cli.running.screen import Screen

    screen = Screen(picture)
    with Live(screen, console=Console(), refresh_per_second=1 / LIVE_INTERVAL_S, transient=False,
              vertical_overflow="crop"):
        yield screen
