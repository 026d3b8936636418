"""The server: HTTP/1.1 on a socket of this machine, in a thread with a loop of its own."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any

import msgspec

from treadle.errors import TreadleError
from treadle.foreign import attempt
from treadle.testing.llm import chat
from treadle.testing.llm.replies import Asked, Reply, reply_of

BODY_BYTES_MAX = 64 * 1024 * 1024
"""A request that is larger is refused with 413."""
_HEAD_BYTES_MAX = 64 * 1024
_START_S_MAX = 10.0

Answer = Callable[[Asked], Any]


class LLMServer:
    """Serves in a `with`. Each answer is for one request, in order, in the forms that `reply_of` reads; a
    function of the request (`Asked`) as the only one answers all. Without any it says r1, r2, r3, …

    A request for which no answer is left gets a 400 that says so. With a `key`, a request without it gets a
    401. What a function raises is a 500 for the client, and raised again when the `with` ends.
    """

    def __init__(self, *answers: Any, key: str | None = None, models: Iterable[str] = ("test-model",),
                 host: str = "127.0.0.1", port: int = 0) -> None:
        self.requests: list[Asked] = []
        """All that came, in order."""
        self.at_once_max = 0
        """The most requests that were under way at the same time."""
        self.dropped = 0
        """Replies that the client did not read to their end."""
        self._answers, self._next = list(answers), 0
        self._function: Answer | None = None
        if len(answers) == 1 and callable(answers[0]):
            self._function = answers[0]
        self._key, self._models, self._host, self._port = key, tuple(models), host, port
        self._under_way = 0
        self._lock = threading.Lock()
        self._failures: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, name="treadle llm server", daemon=True)
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._broken: BaseException | None = None

    @property
    def url(self) -> str:
        """What a client takes as `base_url`."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def prompts(self) -> list[str]:
        """The last message of the user in each request for a completion."""
        return [asked.prompt for asked in self.requests if asked.path.endswith("/chat/completions")]

    def say(self, *answers: Any) -> None:
        """Add answers behind those that are left."""
        with self._lock:
            self._answers.extend(answers)

    def __enter__(self) -> LLMServer:
        self._thread.start()
        if not self._started.wait(_START_S_MAX):
            raise TreadleError(f"the LLM server has not started within {_START_S_MAX:g} s")
        if self._broken is not None:
            raise self._broken
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._loop is not None and self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._failures and error is None:
            raise self._failures[0]

    # In the thread

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except OSError as error:  # the port is taken
            self._broken = error
            self._started.set()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        open_ones: set[asyncio.Task[None]] = set()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            open_ones.add(task)
            try:
                await self._connection(reader, writer)
                writer.close()  # what was written still goes out
                await writer.wait_closed()
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ValueError):
                writer.transport.abort()  # the client has gone or speaks no HTTP, or we go
            finally:
                open_ones.discard(task)

        server = await asyncio.start_server(connected, self._host, self._port, limit=_HEAD_BYTES_MAX,
                                            backlog=2048)
        self._port = server.sockets[0].getsockname()[1]
        self._loop = asyncio.get_running_loop()
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(open_ones):
            task.cancel()
        if open_ones:
            await asyncio.wait(open_ones)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.LimitOverrunError:
                return
            lines = head.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ", 2)
            headers = {name.lower(): value.strip() for name, _, value in
                       (line.partition(":") for line in lines[1:] if line)}
            raw = await _body(reader, headers)
            if raw is None:
                await _send(writer, 413, chat.error(413, f"more than {BODY_BYTES_MAX} bytes"))
                return
            with self._lock:
                asked = Asked(len(self.requests) + 1, method, target.partition("?")[0], headers, raw,
                              _decoded(raw), time.monotonic())
                self.requests.append(asked)
            self._under_way += 1
            self.at_once_max = max(self.at_once_max, self._under_way)
            try:
                goes_on = await self._answer(asked, writer)
            except ConnectionError:
                self.dropped += 1
                raise
            finally:
                self._under_way -= 1
            if not goes_on or headers.get("connection", "").lower() == "close":
                return

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> bool:
        """Reply to one request; False closes the connection."""
        if self._key is not None and asked.key != self._key:
            await _send(writer, 401, chat.error(
                401, "no key came" if asked.key is None else "a wrong key came"))
        elif asked.path.endswith("/models") and asked.method == "GET":
            await _send(writer, 200, chat.models(self._models))
        elif not asked.path.endswith("/chat/completions") or asked.method != "POST":
            await _send(writer, 404, chat.error(
                404, f"there is no {asked.method} {asked.path}; there is POST /v1/chat/completions and "
                     "GET /v1/models"))
        elif not isinstance(asked.body, dict):
            await _send(writer, 400, chat.error(400, "the body is no JSON object"))
        else:
            return await self._reply(asked, await self._chosen(asked), writer)
        return True

    async def _chosen(self, asked: Asked) -> Reply:
        reply, error = attempt(self._told, asked)
        if error is None:
            return reply  # type: ignore[no-any-return]
        self._failures.append(error)
        return Reply(status=500, text=f"the test's answer failed: {type(error).__name__}: {error}")

    def _told(self, asked: Asked) -> Reply:
        with self._lock:
            self._next = at = self._next + 1
            left = self._answers[at - 1:at]
        if self._function is not None:
            return reply_of(self._function(asked))
        if left:
            return reply_of(left[0](asked) if callable(left[0]) else left[0])
        if not self._answers:
            return reply_of(f"r{at}")
        return Reply(status=400, text=f"the server was given {len(self._answers)} answers, and this is "
                                      f"request {at}")

    async def _reply(self, asked: Asked, reply: Reply, writer: asyncio.StreamWriter) -> bool:
        headers = dict(reply.headers)
        if reply.retry_after_text is not None:
            headers["Retry-After"] = reply.retry_after_text
        if reply.after:
            await asyncio.sleep(reply.after)
        if reply.body is not None or reply.status != 200 or not asked.stream:
            document: Any = reply.body
            if document is None:
                document = chat.whole(asked, reply) if reply.status == 200 else chat.error(
                    reply.status, reply.text or HTTPStatus(reply.status).phrase)
            await _send(writer, reply.status, document, headers, reply.content_type,
                        half=reply.cut is not None)
            return reply.cut is None
        writer.write(_head(200, {**headers, "Content-Type": reply.content_type or "text/event-stream",
                                 "Transfer-Encoding": "chunked"}))
        # The first event holds no token yet.
        for at, event in enumerate(chat.streamed(asked, reply), -1):
            if reply.cut is not None and at >= reply.cut:
                await writer.drain()
                return False
            if reply.every and at > 0:
                await writer.drain()
                await asyncio.sleep(reply.every)
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes | None:
    """The body of a request; None if it is too large."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        pieces: list[bytes] = []
        while size := int((await reader.readline()).split(b";")[0], 16):
            if size + sum(map(len, pieces)) > BODY_BYTES_MAX:
                return None
            pieces.append(await reader.readexactly(size))
            await reader.readline()
        await reader.readline()
        return b"".join(pieces)
    size = int(headers.get("content-length", 0))
    return None if size > BODY_BYTES_MAX else await reader.readexactly(size)


def _decoded(raw: bytes) -> Any:
    try:
        return msgspec.json.decode(raw) if raw else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
             *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _send(writer: asyncio.StreamWriter, status: int, document: Any,
                headers: dict[str, str] | None = None, content_type: str | None = None, *,
                half: bool = False) -> None:
    """A whole answer: bytes and text as they are, else JSON; of a `half` one the second half is missing."""
    body = document.encode() if isinstance(document, str) else (
        document if isinstance(document, bytes) else msgspec.json.encode(document))
    writer.write(_head(status, {**(headers or {}), "Content-Type": content_type or "application/json",
                                "Content-Length": str(len(body))}))
    writer.write(body[:len(body) // 2] if half else body)
    await writer.drain()
