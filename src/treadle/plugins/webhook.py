"""`WebhookNotifier`: tells an URL what happens, as Slack understands it or as data.

    [plugins.WebhookNotifier]
    url = "env:SLACK_URL"
    on = ["execution_failed", "execution_completed"]

Every request has `X-Treadle-Delivery`, which stays the same when it is tried again, and with `secret`
`X-Treadle-Timestamp` (seconds since 1970) and `X-Treadle-Signature`: `sha256=` and the HMAC-SHA256, in hex,
of the timestamp, a dot and the body. `verify` checks it on the other side.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import random
import time
import uuid
from contextlib import AsyncExitStack
from contextvars import Context
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from treadle import __version__
from treadle.errors import PluginError, did_you_mean
from treadle.hooks.sdk import StateHook
from treadle.hooks.specs import FinalReport
from treadle.nodes.http import proxy_of, retry_after, tls
from treadle.state.cell import ErrorInfo, ExecutionState, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus

if TYPE_CHECKING:
    import httpx

HAPPENINGS = (*(f"node_{one}" for one in NodeStatus if one not in (NodeStatus.PENDING, NodeStatus.SCHEDULED)),
              *(f"execution_{one}" for one in ExecutionStatus
                if one.terminal or one is ExecutionStatus.SUSPENDED))
"""What `on` may name."""
MARKS = {"completed": "✅", "failed": "❌", "cancelled": "⛔", "suspended": "⏸"}
TEXT_CHARS_MAX = 3000
"""Characters of one message's text; Slack refuses much longer ones."""
PAUSE_S_MAX = 60.0
"""The longest pause of our own between two tries."""
RETRY_AFTER_S_MAX = 600.0
"""The longest pause that a server may ask for."""
_TRANSIENT = (408, 425, 429)


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What `format = "json"` sends. Instants are seconds since 1970."""

    event: str
    execution_id: str
    status: str
    text: str
    node: str | None = None
    iteration: str | None = None
    attempt: int | None = None
    error: ErrorInfo | None = None
    seconds: float | None = None
    warnings: tuple[str, ...] = ()
    slow_hooks: tuple[str, ...] = ()
    at: float


class _Request(msgspec.Struct, frozen=True):
    event: str
    body: bytes
    delivery: str


class WebhookNotifier(StateHook):
    """Sends a message for each happening that it is asked for. Executions don't wait for it: messages wait in
    a bounded queue, one task sends them in order, and what can't be sent is logged and counted."""

    version = __version__

    def __init__(self, url: str, *, on: tuple[str, ...] = ("node_failed", "execution_failed"),
                 format: Literal["slack", "json"] = "slack", secret: str | None = None, tries_max: int = 5,
                 pause_s: float = 0.5, timeout_s: float = 10.0, queue_max: int = 1000,
                 close_s_max: float = 5.0) -> None:
        """`url` and `secret` may be `env:NAME` or `secret://NAME`. The pause before another try begins at
        `pause_s` and doubles; a server's Retry-After is waited for. When the plugin closes, what waits has
        `close_s_max` seconds to get away."""
        try:
            import httpx  # noqa: F401
        except ImportError:
            raise PluginError("it needs httpx, which is not installed: pip install treadle[http]") from None
        for one in on:
            if one not in HAPPENINGS:
                hint = did_you_mean(one, HAPPENINGS) or f"there is {', '.join(HAPPENINGS)}"
                raise PluginError(f"on = {one!r}: nothing of that name happens: {hint}")
        for name, value in (("tries_max", tries_max), ("pause_s", pause_s), ("timeout_s", timeout_s),
                            ("queue_max", queue_max), ("close_s_max", close_s_max)):
            if value <= 0:
                raise PluginError(f"{name} = {value}: it must be larger than 0")
        if format not in ("slack", "json"):
            raise PluginError(f"format = {format!r}: choose slack or json")
        if "://" in url and not url.startswith(("http://", "https://", "secret://")):
            raise PluginError("url: it must begin with http://, https://, secret:// or env:")
        self.on = frozenset(on)
        self.format, self.tries_max, self.pause_s, self.timeout_s = format, tries_max, pause_s, timeout_s
        self.queue_max, self.close_s_max = queue_max, close_s_max
        self.accepted = self.sent = self.failed = self.dropped = 0
        self._url, self._secret = url, secret
        self._queue: asyncio.Queue[_Request] | None = None
        self._task: asyncio.Task[None] | None = None

    async def post_node_execute(self, node_id: str, previous_state: NodeState,
                                current_state: NodeState) -> None:
        now = current_state
        event = f"node_{now.status}"
        if event not in self.on or previous_state.status is NodeStatus.RETRYING:
            return  # an attempt that is followed by another was told of as `node_retrying`
        turn = f", attempt {now.attempt}" if now.attempt > 1 else ""
        why = f": {now.error}" if now.error is not None else ""
        self._put(Message(
            event=event, execution_id=now.execution_id, status=now.status, node=node_id,
            iteration=now.iteration, attempt=now.attempt, error=_public(now.error),
            seconds=now.execution_time, at=now.ended_at or time.time(),
            text=f"{MARKS.get(now.status, '•')} {node_id} {now.status}{turn} in {now.execution_id}{why}"))

    async def post_state_finalize(self, state: ExecutionState, report: FinalReport) -> None:
        event = f"execution_{state.status}"
        if event not in self.on:
            return
        cell = state.cell
        name, error = ("", None) if cell is None else (cell.name, cell.error)
        seconds = None
        if state.start_time is not None and state.end_time is not None:
            seconds = (state.end_time - state.start_time).total_seconds()
        took = "" if seconds is None else f" after {seconds:.1f} s"
        at = f" at node {error.node}" if error is not None and error.node else ""
        self._put(Message(
            event=event, execution_id=str(state.execution_id), status=state.status, error=_public(error),
            seconds=seconds, warnings=report.warnings,
            slow_hooks=tuple(map(str, report.slow_hooks)), at=time.time(),
            text=f"{MARKS.get(state.status, '•')} {name or 'execution'} {state.status}{took}{at} "
                 f"({state.execution_id})" + (f": {error}" if error is not None else "")))

    async def close(self) -> None:
        """Send what waits, if that can be done in time."""
        if self._task is None or self._queue is None:
            return
        try:
            async with asyncio.timeout(self.close_s_max):
                await self._queue.join()
        except TimeoutError:
            left = self.accepted - self.sent - self.failed
            self.failed += left
            self.logger.error("%d messages were not sent within close_s_max=%g s", left, self.close_s_max)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._task = self._queue = None

    def _put(self, message: Message) -> None:
        if len(message.text) > TEXT_CHARS_MAX:
            message = msgspec.structs.replace(message, text=message.text[:TEXT_CHARS_MAX] + "…")
        said: Any = {"text": escape(message.text, quote=False)} if self.format == "slack" else message
        if self._queue is None:
            self._queue = asyncio.Queue(self.queue_max)
        try:
            self._queue.put_nowait(_Request(message.event, msgspec.json.encode(said), uuid.uuid4().hex))
        except asyncio.QueueFull:
            self.dropped += 1
            if self.dropped in (1, 10, 100, 1000) or self.dropped % 10_000 == 0:
                self.logger.error("%d messages dropped so far: %d wait already (queue_max)", self.dropped,
                                  self.queue_max)
            return
        self.accepted += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(
                self._send_all(self._queue), name="treadle webhook", context=Context())

    async def _send_all(self, queue: asyncio.Queue[_Request]) -> None:
        async with AsyncExitStack() as stack:
            await asyncio.to_thread(tls, True)  # takes 20 ms the first time
            transports = _Transports(stack)
            while True:
                request = await queue.get()
                try:
                    await self._send(transports, request)
                finally:
                    queue.task_done()

    async def _send(self, transports: _Transports, request: _Request) -> None:
        """Send one message, as often as it takes. What goes wrong is logged without the URL's path, which is
        Slack's secret."""
        import httpx

        wait = self.pause_s
        for number in range(1, self.tries_max + 1):
            asked = None
            try:
                # Looked up each time, since a secret may have changed, and in a thread: a store may be far.
                url = httpx.URL(await asyncio.to_thread(self.secret, self._url))
                headers = await asyncio.to_thread(self._headers, request)
                status, asked = await self._post(transports.of(url), url, headers, request.body)
            except (PluginError, httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
                self._gave_up(request, str(error), number)
                return
            except (httpx.TransportError, TimeoutError) as error:
                why = type(error).__name__
            else:
                if 200 <= status < 300:
                    self.sent += 1
                    return
                why = f"status {status}"
                if status < 500 and status not in _TRANSIENT:
                    self._gave_up(request, f"{url.host}: {why}", number)
                    return
            if number == self.tries_max:
                self._gave_up(request, f"{url.host}: {why}", number)
                return
            await asyncio.sleep(max(min(asked or 0.0, RETRY_AFTER_S_MAX), wait * random.uniform(0.5, 1.0)))
            wait = min(wait * 2, PAUSE_S_MAX)

    async def _post(self, transport: httpx.AsyncHTTPTransport, url: httpx.URL, headers: dict[str, str],
                    body: bytes) -> tuple[int, float | None]:
        """The status of the answer, and the seconds that it asks to wait."""
        import httpx

        limits = httpx.Timeout(self.timeout_s).as_dict()
        async with asyncio.timeout(self.timeout_s):
            answer = await transport.handle_async_request(httpx.Request(
                "POST", url, headers=headers, content=body, extensions={"timeout": limits}))
            await answer.aclose()
        return answer.status_code, retry_after(answer.headers.get("retry-after"), time.time())

    def _gave_up(self, request: _Request, why: str, tries: int) -> None:
        self.failed += 1
        self.logger.error("%s was not sent after %d %s: %s", request.event, tries,
                          "try" if tries == 1 else "tries", why)

    def _headers(self, request: _Request) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "User-Agent": f"treadle/{__version__}",
                   "X-Treadle-Event": request.event, "X-Treadle-Delivery": request.delivery}
        if self._secret is not None:
            timestamp = str(int(time.time()))
            headers["X-Treadle-Timestamp"] = timestamp
            headers["X-Treadle-Signature"] = sign(self.secret(self._secret), timestamp, request.body)
        return headers


class _Transports:
    """What carries requests, one for each proxy. A client would log the URL."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._open: dict[str | None, httpx.AsyncHTTPTransport] = {}

    def of(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        import httpx

        proxy = proxy_of(url)
        if proxy not in self._open:
            self._open[proxy] = httpx.AsyncHTTPTransport(verify=tls(True), proxy=proxy)
            self._stack.push_async_callback(self._open[proxy].aclose)
        return self._open[proxy]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The value of `X-Treadle-Signature`."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def verify(secret: str, timestamp: str, signature: str, body: bytes, *, age_s_max: float = 300.0) -> bool:
    """Whether a request is ours and not old, for whoever receives it: `timestamp` and `signature` are its
    headers, `body` is what came, byte for byte."""
    if not timestamp.isdecimal() or abs(time.time() - int(timestamp)) > age_s_max:
        return False
    return hmac.compare_digest(sign(secret, timestamp, body), signature)


def _public(error: ErrorInfo | None) -> ErrorInfo | None:
    """Without the traceback: it has paths and source, which are nobody's business there."""
    return None if error is None else msgspec.structs.replace(error, traceback="")
