"""`run --serve`: the monitor beside a run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from treadle.cli.running.run import Performance
    from treadle.cli.serving.apart import Told
    from treadle.cli.serving.page import Page
    from treadle.engine.engine import Engine

ServeOption = Annotated[bool, typer.Option(
    "--serve", help="Show the run on a page, live; a terminal keeps the page until Ctrl-C.")]
RateOption = Annotated[float, typer.Option(
    "--vis-update-rate", metavar="HZ", min=0.1, max=60,
    help="How often a viewer of the page hears of changes, in a second; none waits for more than 0.2 s "
         "unless this is less than 4.")]


class Here:
    """A page that this process serves: of a run that leaves nothing behind, so that no other could see it."""

    def __init__(self, link_to: Callable[[str], str]) -> None:
        self.link_to = link_to
        self.ended = asyncio.Event()

    async def end(self) -> None:
        """It ends with the run."""


@contextlib.asynccontextmanager
async def beside(engine: Engine, rate: float | None, run: Performance,
                 url: str | None) -> AsyncIterator[Page | Here | None]:
    """The page of a run at this machine's own address, with random tokens; none without a rate. Another
    process serves it, or this one where no other can see the store."""
    if rate is None:
        yield None
    elif url is not None and url != "memory:":
        from treadle.cli.serving.page import apart

        async with apart(_told(run, url, rate), run.view.line) as page:
            yield page
    else:
        from treadle.cli.serve import opened, settings_of
        from treadle.monitor.core import Monitor

        settings = settings_of("127.0.0.1", None, None, None, None, None, read_only=False)
        async with Monitor(engine.store, engine=engine, rate_hz=rate, config=engine.config) as monitor, \
                opened(monitor, settings, chosen=False) as served:
            yield Here(served.link_to)


def _told(run: Performance, url: str, rate: float) -> Told:
    """What the other process has to know: its engine is as that of the run."""
    from treadle.cli.serving.apart import Told
    from treadle.crypto import hidden
    from treadle.store import key_around

    return Told(
        url, run.config, str(run.folder.absolute()), rate,
        "strict" if run.durability == "strict" else "batched",
        None if run.environment is None else dict(run.environment), run.secret_store,
        None if run.history is None else str(run.history), key_around(), dict(hidden),
        dict(zip(run.talking.words[::2], run.talking.words[1::2], strict=True)))
