"""What serves the page of `run --serve`: a process beside the run, so that a run which has no time left does
not notice who looks on.

It follows the store as `treadle serve` does, and has an engine for what is started, resumed or answered on
the page. It is told what to do over a socket (see `Told`), answers with the link, and ends when the socket
does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Literal

import msgspec

from treadle.config import TreadleConfig
from treadle.crypto import hidden
from treadle.errors import TreadleError
from treadle.store import encryption_key

SIZE_BYTES = 4
"""Before what it is told stands how long that is, the largest byte first."""
NICE = 10
"""Where there are fewer cores than work, the run goes before those who look on."""


class Told(msgspec.Struct, frozen=True):
    """How to serve. It goes through the socket, not the command line: keys are in it. `folder` is where the
    run's plugins are, `talking` what its command line says of people, by option."""

    store: str
    config: TreadleConfig
    folder: str
    rate: float
    durability: Literal["batched", "strict"] = "batched"
    environment: dict[str, str] | None = None
    secret_store: str | None = None
    history: str | None = None
    key: str | None = None
    hidden: dict[str, str] = {}
    talking: dict[str, str] = {}


class Said(msgspec.Struct, frozen=True):
    """What it answers, a line of JSON: where the page is, or why there is none."""

    link: str = ""
    error: str = ""


def main(channel: int) -> None:
    """Serve until the other end of the socket is closed."""
    from treadle.engine.run import in_own_loop

    _step_back()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the run's business
    with socket.socket(fileno=channel) as sock:
        told = _read(sock)
        hidden.update(told.hidden)
        try:
            with encryption_key(told.key):
                in_own_loop(_serve(told, sock), told.config)
        except (TreadleError, OSError) as error:
            sock.sendall(msgspec.json.encode(Said(error=str(error))) + b"\n")


def _step_back() -> None:
    """Let others go first: at a lower priority, and without interrupting one who computes (SCHED_BATCH)."""
    os.nice(NICE)
    if sys.platform == "linux":
        with suppress(OSError):  # a container may not allow it
            os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def _read(sock: socket.socket) -> Told:
    with sock.makefile("rb") as file:
        size = int.from_bytes(file.read(SIZE_BYTES), "big")
        return msgspec.msgpack.decode(file.read(size), type=Told)


async def _serve(told: Told, sock: socket.socket) -> None:
    from treadle.cli.running.people import people
    from treadle.cli.serve import acting, opened, settings_of, until

    over, loop = asyncio.Event(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, over.set)
    talking = people(_path(told, "--script"), _path(told, "--record"), _path(told, "--replay"))
    settings = settings_of("127.0.0.1", None, None, None, None, None, read_only=False)
    async with AsyncExitStack() as stack:
        monitor = await stack.enter_async_context(acting(
            told.store, told.config, (), told.rate, folder=Path(told.folder), durability=told.durability,
            environment_vars=told.environment, secret_store=told.secret_store, state_history=told.history,
            **talking.options))
        served = await stack.enter_async_context(opened(monitor, settings, chosen=False))
        sock.setblocking(False)
        await loop.sock_sendall(sock, msgspec.json.encode(Said(served.link)) + b"\n")
        loop.add_reader(sock, over.set)  # nothing more is said: it has ended
        try:
            await until(over, served)
        finally:
            loop.remove_reader(sock)
            sock.setblocking(True)


def _path(told: Told, option: str) -> Path | None:
    return Path(told.talking[option]) if option in told.talking else None
