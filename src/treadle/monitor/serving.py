"""The server in this event loop: its socket, its link, its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from urllib.parse import quote

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from treadle.errors import InvalidInput
from treadle.monitor.app import create_app
from treadle.monitor.core import Monitor
from treadle.monitor.live.socket import FrameProtocol
from treadle.monitor.settings import Settings

PORT = 8484
"""Where the monitor is, unless it is taken."""
END_S_MAX = 2.0
"""How long requests that are under way may take when the server ends."""
UNREAD_S_MAX = 0.3
"""How long those have who don't read what they asked for."""
MESSAGE_BYTES_MAX = 64 * 1024
"""A message of a viewer."""
CONNECTIONS_MAX = 1000
"""At once; fewer where this process may not have twice as many files open."""
HEAD_S_MAX = 10.0
"""How long the head of a request may take to come."""
WAITING_MAX = 200
"""Connections of one address that have not sent one yet."""


class Served:
    """A server that answers."""

    def __init__(self, settings: Settings, port: int, task: asyncio.Task[None]) -> None:
        self.settings, self.port, self._task = settings, port, task

    @property
    def url(self) -> str:
        """Its address, without a token."""
        host = "localhost" if self.settings.host in ("0.0.0.0", "::", "") else self.settings.host
        host = self.settings.names[0] if self.settings.names and not self.settings.local else host
        scheme = "https" if self.settings.secure else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{self.port}"

    @property
    def link(self) -> str:
        """What one opens: it lets one in, to write if anybody may."""
        return self._with(self.settings.write_token or self.settings.read_token)

    def link_to(self, execution_id: str) -> str:
        """The same for the page of one execution."""
        return f"{self.link}#/executions/{quote(execution_id, safe='')}"

    @property
    def reading_link(self) -> str:
        """The same for those who may only look."""
        return self._with(self.settings.read_token)

    def _with(self, token: str) -> str:
        return f"{self.url}/?token={quote(token, safe='')}"

    async def wait(self) -> None:
        """Wait until the server has ended. OSError, or what else ended it."""
        await asyncio.shield(self._task)


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # signals are the business of whoever runs the loop


class _Http(AutoHTTPProtocol):  # type: ignore[misc,valid-type]
    """uvicorn's own, which waits for a request's head as long as it takes: so a few idle connections would
    keep all others out."""

    waiting: dict[str, int]  # connections by address: see `_impatient`
    _head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        self._wait()
        if self.waiting[self._address] > WAITING_MAX or len(self.connections) > self.limit_concurrency:
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_protocol() is not self or (
                self.cycle is not None and not self.cycle.response_complete):
            self._stop_waiting()
        elif self._head is None:
            self._wait()  # for the next one, which has begun

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self.waiting[self._address] = self.waiting.get(self._address, 0) + 1
        self._head = self.loop.call_later(HEAD_S_MAX, self.transport.abort)

    def _stop_waiting(self) -> None:
        if self._head is None:
            return
        self._head.cancel()
        self._head = None
        left = self.waiting.pop(self._address) - 1
        if left:
            self.waiting[self._address] = left


def _impatient() -> type[_Http]:
    """The protocol of one server."""
    return type("Http", (_Http,), {"waiting": {}})


def _connections_max() -> int:
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS_MAX if files == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, files // 2)


def _worth_saying(record: logging.LogRecord) -> bool:
    """To uvicorn it is an error of the application that a WebSocket was refused with an HTTP answer, and that
    a request was cut off by the end of the server."""
    cut = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not cut and record.getMessage() != "ASGI callable returned without completing handshake."


logging.getLogger("uvicorn.error").addFilter(_worth_saying)


@contextlib.asynccontextmanager
async def serve(monitor: Monitor, settings: Settings) -> AsyncIterator[Served]:
    """Serve a monitor that is open, until the block is left. InvalidInput says what is wrong with the
    settings, OSError that the port is taken."""
    listening = _bound(settings)
    try:
        config = uvicorn.Config(
            create_app(monitor, settings), lifespan="off", log_config=None, access_log=False,
            server_header=False, ws=FrameProtocol, ws_max_size=MESSAGE_BYTES_MAX,
            ws_per_message_deflate=False,
            http=_impatient(), limit_concurrency=_connections_max(),
            timeout_graceful_shutdown=int(END_S_MAX), proxy_headers=False,
            ssl_certfile=None if settings.certificate is None else str(settings.certificate),
            ssl_keyfile=None if settings.key is None else str(settings.key))
        try:
            config.load()
        except (ssl.SSLError, OSError) as error:
            files = " and ".join(str(one) for one in (settings.certificate, settings.key) if one is not None)
            raise InvalidInput(f"TLS: {files}: {error}: it takes a certificate and its key, both PEM, the "
                               "key without a passphrase") from None
        server = _Server(config)
        task = asyncio.get_running_loop().create_task(server.serve([listening]), name="treadle monitor")
        try:
            await _started(server, task)
            yield Served(settings, listening.getsockname()[1], task)
        finally:
            server.should_exit = True
            await asyncio.wait({task}, timeout=UNREAD_S_MAX)
            for connection in list(server.server_state.connections):
                if connection.transport.get_write_buffer_size():
                    connection.transport.abort()
            await asyncio.wait({task}, timeout=END_S_MAX + 1)
            if not task.done():
                server.force_exit = True
                task.cancel()
                await asyncio.wait({task})
    finally:
        listening.close()


async def _started(server: uvicorn.Server, task: asyncio.Task[None]) -> None:
    while not server.started:
        done, _ = await asyncio.wait({task}, timeout=0.005)
        if done:
            task.result()
            raise OSError("the server ended before it began")


def _bound(settings: Settings) -> socket.socket:
    try:
        found = socket.getaddrinfo(settings.host or None, settings.port, type=socket.SOCK_STREAM,
                                   flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError, OverflowError):
        raise InvalidInput(f"--host {settings.host}: there is no such address here") from None
    family, kind, protocol, _, address = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(256)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
