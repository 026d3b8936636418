"""The run's side of its page: the process that serves it, from its start to its end."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from typing import IO
from urllib.parse import quote

import msgspec

from treadle.cli.serving.apart import SIZE_BYTES, Said, Told
from treadle.errors import InvalidInput, TreadleError
from treadle.nodes.child import FIRST_FREE_FD, Child, how_it_ended, reader
from treadle.undo import undone

END_S_MAX = 5.0
"""How long it has to end, besides the time that its executions may take."""
_START = "import sys; sys.path[:] = {path!r}; from treadle.cli.serving.apart import main; main({channel})"


class Page:
    """A page that a process of its own, `pid`, serves at `link`. `ended` is set when nobody does any more."""

    def __init__(self, child: Child, channel: socket.socket, patience_s: float,
                 say: Callable[[str], None]) -> None:
        self.link, self.pid = "", child.process.pid
        self.ended = asyncio.Event()
        self._child, self._channel, self._patience_s, self._say = child, channel, patience_s, say
        self._ending = False
        self._task = asyncio.create_task(self._watch(), name="the page's process")

    def link_to(self, execution_id: str) -> str:
        """What one opens to see one execution."""
        return f"{self.link}#/executions/{quote(execution_id, safe='')}"

    async def begin(self, told: Told) -> None:
        """Have it serve. InvalidInput if it can't."""
        loop, encoded, answer = asyncio.get_running_loop(), msgspec.msgpack.encode(told), b""
        with contextlib.suppress(ConnectionError):
            await loop.sock_sendall(self._channel, len(encoded).to_bytes(SIZE_BYTES, "big") + encoded)
            while not answer.endswith(b"\n") and (part := await loop.sock_recv(self._channel, 65536)):
                answer += part
        if not answer:
            self._ending = True
            await self.ended.wait()
            raise TreadleError("the process that was to serve the page ended at once: "
                               + how_it_ended(self._child.process.returncode))
        said = msgspec.json.decode(answer, type=Said)
        if said.error:
            raise InvalidInput(said.error)
        self.link = said.link

    async def end(self) -> None:
        """Have what runs there interrupted, and wait until it has ended."""
        self._ending = True
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)  # also where a fork of this process has it, too
        self._channel.close()
        late = asyncio.get_running_loop().call_later(self._patience_s, self._child.kill)
        try:
            await self.ended.wait()
        finally:
            late.cancel()

    async def _watch(self) -> None:
        process = self._child.process
        relays = [asyncio.create_task(self._relay(pipe)) for pipe in (process.stdout, process.stderr)]
        try:
            code = await self._child.exited()
            await asyncio.wait(relays)
            if not self._ending:
                self._say(f"nobody serves the page any more ({how_it_ended(code)}); the run goes on")
        finally:
            for relay in relays:
                relay.cancel()
            self.ended.set()

    async def _relay(self, pipe: IO[bytes] | None) -> None:
        lines, transport = await reader(pipe)
        try:
            while line := await lines.readline():
                self._say(line.decode(errors="replace").rstrip("\n"))
        finally:
            transport.close()


@contextlib.asynccontextmanager
async def apart(told: Told, say: Callable[[str], None]) -> AsyncIterator[Page]:
    """Serve in another process until the block is left; what it has to say goes to `say`. InvalidInput if it
    can't be served, OSError."""
    ours, child = _start()
    page = None
    try:
        page = Page(child, ours, told.config.shutdown_s_max + END_S_MAX, say)
        await page.begin(told)
        yield page
    finally:
        try:
            if page is not None:
                await page.end()
        finally:
            ours.close()
            child.close()


def _start() -> tuple[socket.socket, Child]:
    ours, theirs = socket.socketpair()
    with theirs, undone(ours.close):
        ours.setblocking(False)
        channel = fcntl.fcntl(theirs, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE_FD)
        try:
            return ours, Child([sys.executable, "-c", _START.format(path=sys.path, channel=channel)],
                               keep=(channel,))
        finally:
            os.close(channel)
