"""`serve`: the monitor's page and API, and an engine that runs what is started there."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.common import INTERRUPTED, JsonOption, StoreOption, store_to_look_at
from treadle.cli.render import print_json, say
from treadle.cli.running.progress import Logged, Silent, aside
from treadle.cli.running.served import RateOption
from treadle.config import TreadleConfig, read_limits, read_retention
from treadle.engine.edited import nearby
from treadle.errors import InvalidInput, TreadleError

if TYPE_CHECKING:
    from treadle.engine.engine import Engine
    from treadle.monitor.core import Monitor
    from treadle.monitor.serving import Served
    from treadle.monitor.settings import Settings

RECOVER_S = 15.0
"""How often `--recover` looks for what nobody runs."""
logger = logging.getLogger("treadle.monitor")


def serve(
    files: Annotated[list[str] | None, typer.Argument(
        metavar="FILE", show_default=False,
        help="Diagrams, and folders of them, that can be looked at and started there.")] = None,
    store: StoreOption = None,
    host: Annotated[str, typer.Option(
        metavar="HOST", help="The address to listen at; beyond this machine --token-file is needed.",
    )] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(
        metavar="PORT", min=0, max=65535, show_default=False,
        help="Where to listen there; 0 is any that is free. [default: 8484, or any that is free if it is "
             "taken]")] = None,
    read_only: Annotated[bool, typer.Option(
        "--read-only", help="Only look on: nothing is run or changed, whatever the token.")] = False,
    token_file: Annotated[Path | None, typer.Option(
        metavar="FILE", show_default=False,
        help="The tokens, lines `write TOKEN` and `read TOKEN`, in a file that only you can read. [default: "
             "random ones]")] = None,
    allow_host: Annotated[list[str] | None, typer.Option(
        metavar="NAME", show_default=False,
        help="A name by which browsers reach this server, as often as needed.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(
        metavar="FILE", show_default=False, help="A certificate (PEM): https instead of http.")] = None,
    tls_key: Annotated[Path | None, typer.Option(
        metavar="FILE", show_default=False, help="Its key (PEM), unless it is in the same file.")] = None,
    recover: Annotated[bool, typer.Option(
        "--recover", help="Take over executions that nobody runs any more, and those that are due.")] = False,
    rate: RateOption = 4.0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Open a page that shows every execution live, and lets one act on them. Ends with Ctrl-C.

    The link that is printed has a token: who has it may do what you may. A second link only lets one look on.
    """
    from treadle.engine.run import in_own_loop

    if read_only and recover:
        raise InvalidInput("--read-only runs nothing: leave --recover out")
    config = read_limits(Path.cwd())
    settings = settings_of(host, port, token_file, allow_host, tls_cert, tls_key, read_only=read_only)
    paths = [_path(one) for one in files or ()]

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, _stop, stop)
        async with contextlib.AsyncExitStack() as stack:
            monitor = await stack.enter_async_context(
                _monitor(store, config, paths, rate, read_only=read_only, recover=recover))
            served = await stack.enter_async_context(opened(monitor, settings, chosen=port is not None))
            announce(served, token_file, as_json=as_json, browser=open_)
            await until(stop, served)
            if not as_json:
                say("the monitor ends" + ("" if not monitor.engine or not monitor.engine.running else
                                          ": what runs here is interrupted, and can be resumed"))

    in_own_loop(main(), config)


def _stop(stop: asyncio.Event) -> None:
    if stop.is_set():
        say("treadle: stopped at once; what was not yet recorded runs again at a resume")
        os._exit(INTERRUPTED)
    stop.set()


def _path(said: str) -> Path:
    path = Path(said)
    if not path.exists():
        hint = nearby(path)
        raise InvalidInput(f"{said}: there is no such file or folder" + (f": {hint}" if hint else ""))
    return path


def settings_of(host: str, port: int | None, token_file: Path | None, names: Sequence[str] | None,
                certificate: Path | None, key: Path | None, *, read_only: bool) -> Settings:
    """How the server is reached, and by whom. InvalidInput says what can't be."""
    try:
        from treadle.monitor.serving import PORT
        from treadle.monitor.settings import Settings, is_loopback, read_tokens
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("starlette", "uvicorn", "websockets"):
            raise
        raise InvalidInput("the monitor needs starlette, uvicorn and websockets: "
                           "pip install 'treadle[monitor]'") from None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]  # as it stands in addresses of pages
    if not is_loopback(host) and token_file is None:
        raise InvalidInput(f"--host {host} lets other machines in: give the tokens with --token-file FILE, "
                           "so that they are yours to choose and to withdraw. A file with two fresh ones:\n"
                           "  (umask 077; python -c 'import secrets; [print(k, secrets.token_urlsafe(32)) "
                           "for k in (\"write\", \"read\")]' > tokens)")
    if key is not None and certificate is None:
        raise InvalidInput("--tls-key is of a certificate: give that, too, with --tls-cert")
    for option, path in (("--tls-cert", certificate), ("--tls-key", key)):
        if path is not None and not path.is_file():
            raise InvalidInput(f"{option} {path}: there is no such file")
    for name in names or ():
        if not name.strip("[]") or "/" in name or (":" in name and not name.startswith("[")):
            raise InvalidInput(f"--allow-host {name}: the name alone, without https:// and without a port")
    given: dict[str, Any] = {}
    if token_file is not None:
        given["write_token"], given["read_token"] = read_tokens(token_file)
    if read_only:
        given["write_token"] = ""
        if given.get("read_token") == "":
            raise InvalidInput(f"--read-only needs a line `read TOKEN` in {token_file}")
    return Settings(host=host, port=PORT if port is None else port, names=tuple(names or ()),
                    certificate=certificate, key=key, **given)


@contextlib.asynccontextmanager
async def _monitor(url: str | None, config: TreadleConfig, files: Sequence[Path], rate: float, *,
                   read_only: bool, recover: bool) -> AsyncIterator[Monitor]:
    from treadle.monitor.core import Monitor

    if not read_only:
        async with acting(url, config, files, rate, recover=recover) as monitor:
            yield monitor
        return
    store = store_to_look_at(url)
    try:
        async with Monitor(store, rate_hz=rate, config=config, files=files) as monitor:
            yield monitor
    finally:
        store.close()


@contextlib.asynccontextmanager
async def acting(url: str | None, config: TreadleConfig, files: Sequence[Path], rate: float, *,
                 folder: Path | None = None, recover: bool = False, **more: Any) -> AsyncIterator[Monitor]:
    """A monitor with an engine of its own, which has the plugins of a folder (None: the working folder).
    `more` is for the engine: see `Engine.open`."""
    from treadle.crypto.secrets import ENV, Secrets
    from treadle.engine.capture import show_by
    from treadle.engine.engine import Engine
    from treadle.hooks.manager import PluginManager
    from treadle.monitor.core import Monitor
    from treadle.store import default_store_url

    here = Path.cwd() if folder is None else folder
    found, view = read_retention(Path.cwd()), Silent()
    plugins = PluginManager.discover(here, config=config, secrets=lambda said: secrets.resolve(said))
    secrets = Secrets(more.get("secret_store") or ENV, made=plugins.secret_stores())
    plugins.home = aside(view)
    async with Engine.open(url or default_store_url(), config=config, plugins=plugins, recover=recover,
                           retention=None if found is None else found[0], **more) as engine, \
            Monitor(engine.store, engine=engine, rate_hz=rate, config=config, files=files) as monitor:
        show_by(view.said)  # what bodies say is on the page
        task = asyncio.create_task(_recover(engine)) if recover else None
        try:
            with Logged(view):
                yield monitor
        finally:
            if task is not None:
                task.cancel()
                await asyncio.wait({task})


async def _recover(engine: Engine) -> None:
    from treadle.engine.recover import recover

    for handle in engine.recovered:
        say(f"goes on with execution {handle.execution_id} of {handle.cell.name!r}")
    while True:
        await asyncio.sleep(RECOVER_S)
        try:
            for handle in await recover(engine):
                say(f"goes on with execution {handle.execution_id} of {handle.cell.name!r}")
        except (TreadleError, OSError) as error:
            logger.error("nothing can be recovered at the moment: %s", error)


@contextlib.asynccontextmanager
async def opened(monitor: Monitor, settings: Settings, *, chosen: bool) -> AsyncIterator[Served]:
    """Serve. A port that nobody chose may be another one if it is taken."""
    import msgspec

    from treadle.monitor.serving import serve as serve_monitor

    async with contextlib.AsyncExitStack() as stack:
        try:
            served = await stack.enter_async_context(serve_monitor(monitor, settings))
        except OSError as error:
            if isinstance(error, TreadleError) or error.errno not in (errno.EADDRINUSE, errno.EACCES,
                                                                     errno.EADDRNOTAVAIL):
                raise
            if chosen or error.errno != errno.EADDRINUSE:
                hint = ("give an address of this machine with --host, 0.0.0.0 is all of them"
                        if error.errno == errno.EADDRNOTAVAIL else
                        "choose another with --port, 0 is any that is free")
                raise InvalidInput(f"{settings.host}:{settings.port} can't be used ({error.strerror}): {hint}"
                                   ) from None
            free = msgspec.structs.replace(settings, port=0)
            served = await stack.enter_async_context(serve_monitor(monitor, free))
        yield served


def announce(served: Served, token_file: Path | None = None, *, as_json: bool = False,
             browser: bool = False) -> None:
    """Say where the page is, and that what can be seen of it by others is not secret if it isn't. Tokens of a
    file are not said: they last, and what is said may stay in a log."""
    settings = served.settings
    if as_json:
        print_json({"url": served.url, "link": served.link, "port": served.port,
                    "reading_link": served.reading_link if settings.read_token else None})
    elif token_file is not None:
        say(f"the monitor is at  {served.url}/?token=…  with a token of {token_file}")
    else:
        say(f"the monitor is at  {served.link}")
        if settings.write_token and settings.read_token:
            say(f"to look on only:   {served.reading_link}")
    if not settings.local and not settings.names and not as_json:
        say("other machines reach it by this machine's address, and by names that --allow-host gives")
    if not settings.local and not settings.secure:
        say("warning: without --tls-cert whoever is on the way can read all of it, the token too")
    if browser:
        import webbrowser

        webbrowser.open(served.link)


async def until(stop: asyncio.Event, served: Served) -> None:
    """Wait for a signal, or for what ends the server."""
    waiting = asyncio.create_task(stop.wait())
    ended = asyncio.create_task(served.wait())
    await asyncio.wait({waiting, ended}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    ended.cancel()
    if ended.done() and not ended.cancelled():
        ended.result()
