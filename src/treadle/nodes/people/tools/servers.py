"""MCP servers and their tools.

A `Connection` lives in a task of its own, since the client's task groups must be left where they were
entered, and calls come from anywhere.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.config import TreadleConfig
from treadle.crypto.secrets import is_reference
from treadle.errors import did_you_mean
from treadle.foreign import attempt_async
from treadle.nodes import speech
from treadle.nodes.auth import asked
from treadle.nodes.base import BodyContext
from treadle.nodes.people.tools.base import ToolServerError
from treadle.nodes.people.tools.results import failed, result_of
from treadle.nodes.people.tools.specs import McpItem, Server

if TYPE_CHECKING:
    from mcp.client import Client
    from mcp_types import CallToolResult, LoggingMessageNotificationParams
    from mcp_types import Tool as Listed

    from treadle.nodes.people.tools.stdio import Program

_INHERITED = ("PATH", "HOME")
_PASSING, _UNKNOWN = frozenset((408, 425, 429)), frozenset((401, 403))
_PAGES_MAX = 100
"""Pages of a server's list of tools."""
_CLOSE_S = 5.0


class Servers:
    """The servers of one engine: each is started for the first node of an execution that wants it, and lent
    to the others of that execution. One that is broken is closed, and one that nobody has used for
    `tool_idle_s`."""

    def __init__(self) -> None:
        self._lent: dict[Any, Lent] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def borrow(self, server: Server, context: BodyContext) -> Lent:
        """A server that runs, or is started now. Give it back."""
        key = (context.execution_id, context.path("."), msgspec.json.encode(server))
        lent = self._lent.get(key)
        if lent is None or lent.broken:
            lent = self._lent[key] = Lent(key, Connection(server, context))
        lent.users += 1
        if lent.idle is not None:
            lent.idle.cancel()
        return lent

    def give_back(self, lent: Lent, idle_s: float) -> None:
        """Nobody waits for its end."""
        lent.users -= 1
        if not lent.users:
            lent.idle = asyncio.get_running_loop().call_later(
                0.0 if lent.broken else idle_s, self._end, lent)

    def _end(self, lent: Lent) -> None:
        if self._lent.get(lent.key) is lent:
            del self._lent[lent.key]
        task = asyncio.get_running_loop().create_task(lent.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def aclose(self) -> None:
        """Close all of them, at once."""
        for lent in list(self._lent.values()):
            if lent.idle is not None:
                lent.idle.cancel()
            self._end(lent)
        if self._closing:
            await asyncio.wait(set(self._closing))


class Lent:
    """A server that is lent, and to how many."""

    def __init__(self, key: Any, connection: Connection) -> None:
        self.key, self.connection = key, connection
        self.users = 0
        self.idle: asyncio.TimerHandle | None = None
        self._opening = asyncio.ensure_future(connection.open())
        self._opening.add_done_callback(_heard)

    @property
    def broken(self) -> bool:
        """Whether the next who wants it needs another one."""
        failed = self._opening.done() and (self._opening.cancelled() or self._opening.exception() is not None)
        return failed or self.connection.broken

    async def opened(self) -> Connection:
        """When it has started. What it prints is said by the body that asks. ToolServerError."""
        await asyncio.shield(self._opening)  # others wait for it, too
        self.connection.listen()
        return self.connection

    async def aclose(self) -> None:
        """End it, wherever it is."""
        self._opening.cancel()
        await asyncio.wait([self._opening])
        await self.connection.aclose()


def _heard(task: asyncio.Future[Any]) -> None:
    if not task.cancelled():
        task.exception()  # who waited has it, if anybody did


class Connection:
    """One server. `open` it, and `aclose` it."""

    def __init__(self, server: Server, context: BodyContext) -> None:
        self._server, self._context = server, context
        self._config: TreadleConfig = context.config
        self._program: Program | None = None
        self._refusal: tuple[int, str] | None = None  # the last error of HTTP: its status, and Retry-After
        self._refusals = 0
        self._opened = False
        self.broken = False
        self.tools: list[Listed] = []
        self._listener = speech.speaking.get()
        self._stop = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ready: asyncio.Future[tuple[Client, list[Listed]]] = asyncio.get_running_loop().create_future()

    async def open(self) -> None:
        """Start it, and ask what it can do. ToolServerError."""
        seconds = self._config.tool_start_s_max
        given = await self._given()
        await asyncio.to_thread(_import)  # half a second
        # In this context: what the server prints is said by this body.
        self._task = asyncio.create_task(self._serve(given), name=f"mcp {self._server.shown}")
        try:
            async with asyncio.timeout(seconds):
                _, self.tools = await self._ready
        except TimeoutError:
            self._refusal = None  # of a question that servers may refuse
            raise await self._error(f"did not start in {seconds:g} s (tool_start_s_max)") from None
        self._opened = True

    def listen(self) -> None:
        """What it says from here on is said by the body that asks for this."""
        self._listener = speech.speaking.get()
        if self._program is not None:
            self._program.listen()

    async def call(self, name: str, arguments: dict[str, Any], timeout: float | None) -> CallToolResult:
        """Call one of its tools. ToolServerError; MCPError is the tool's own."""
        import httpx2
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED, REQUEST_TIMEOUT
        from pydantic import ValidationError

        client, _ = self._ready.result()
        refusals = self._refusals
        seconds = self._config.tool_s_max if timeout is None else timeout
        scope = asyncio.timeout(seconds)
        try:
            async with scope:
                result: CallToolResult = await client.call_tool(name, arguments)
                return result
        except TimeoutError:
            if not scope.expired():
                raise
            self._refusal = None
            limit = "its timeout" if timeout is not None else "tool_s_max"
            raise await self._error(f"gave no answer to {name!r} in {seconds:g} s ({limit})") from None
        except ValidationError as error:
            raise await self._error(f"answered {name!r} with nonsense: {_first(error)}") from None
        except (httpx2.HTTPError, OSError) as error:
            raise await self._error(f"can't be reached: {_first(error)}") from None
        except MCPError as error:
            if error.code in (CONNECTION_CLOSED, REQUEST_TIMEOUT) or self._refusals > refusals:
                raise await self._error(f"was lost while it ran {name!r}", lost=True) from None
            raise

    async def aclose(self) -> None:
        """End it; it has a moment to do so by itself."""
        self._stop.set()
        if self._task is not None:
            late = {self._task}
            if self._opened:
                _, late = await asyncio.wait(late, timeout=_CLOSE_S)
            for task in late:  # it never came up, or won't go
                task.cancel()
                await asyncio.wait([task], timeout=_CLOSE_S)

    async def _serve(self, given: Mapping[str, str]) -> None:
        _, error = await attempt_async(self._talk, given)
        if isinstance(error, asyncio.CancelledError):
            raise error
        if error is not None and not self._ready.done():  # later, whoever calls it finds out by himself
            self._ready.set_exception(await self._why(error))

    async def _talk(self, given: Mapping[str, str]) -> None:
        from mcp.client import Client
        from mcp_types import Implementation

        import treadle

        about = Implementation(name="treadle", version=treadle.__version__)
        async with Client(self._transport(given), client_info=about, cache=None,
                          logging_callback=self._logged) as client:
            tools = await _listed(client)
            if not self._ready.done():
                self._ready.set_result((client, tools))
            await self._stop.wait()

    async def _logged(self, params: LoggingMessageNotificationParams) -> None:
        if self._listener is not None:
            text = params.data if isinstance(params.data, str) else msgspec.json.encode(params.data).decode()
            self._listener.logged(params.level.upper(), params.logger or "mcp", text)

    def _transport(self, given: Mapping[str, str]) -> Any:
        if self._server.url is not None:
            return self._http(self._server.url, given)
        from treadle.nodes.people.tools.stdio import Program

        own = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        self._program = Program(self._server.command, {**own, **given}, self._context.path("."),
                                self._config.body_output_bytes_max)
        return self._program.streams()

    @asynccontextmanager
    async def _http(self, url: str, headers: Mapping[str, str]) -> AsyncIterator[tuple[Any, Any]]:
        import httpx2
        from mcp.client.streamable_http import streamable_http_client

        async def heard(response: httpx2.Response) -> None:
            if response.status_code >= 400:
                self._refusals += 1
                self._refusal = response.status_code, response.headers.get("retry-after", "")

        times = httpx2.Timeout(self._config.tool_start_s_max, read=None)  # `call` has a limit of its own
        async with (httpx2.AsyncClient(headers=dict(headers), timeout=times,
                                       event_hooks={"response": [heard]}) as client,
                    streamable_http_client(url, http_client=client) as streams):
            yield streams

    async def _given(self) -> dict[str, str]:
        """The environment or the headers, with their secrets."""
        said = self._server.headers or self._server.env
        named = [value for value in said.values() if is_reference(value)]
        return await asked(lambda: {name: self._context.secret(value) if is_reference(value) else value
                                    for name, value in said.items()}, *named)

    async def _why(self, error: BaseException) -> ToolServerError:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        from mcp import MCPError
        from mcp_types import CONNECTION_CLOSED

        if isinstance(error, MCPError) and error.code == CONNECTION_CLOSED:
            return await self._error("did not start", lost=True)
        return await self._error(f"can't be used: {_first(error)}")

    async def _error(self, what: str, *, lost: bool = False) -> ToolServerError:
        """What happened to it, with what is known of why."""
        self.broken = True
        how = await self._program.how(lost=lost) if self._program is not None else ""
        retryable, after = self._program is None or not self._program.missing, None
        if self._refusal is not None:
            status, wait = self._refusal
            how = f"it answered with HTTP status {status}"
            # A session that a server has forgotten is a 404.
            retryable = status in _PASSING or status >= 500 or (self._opened and status not in _UNKNOWN)
            after = float(wait) if wait.isascii() and wait.isdigit() else None
        return ToolServerError(f"MCP server '{self._server.shown}' {what}" + (f": {how}" if how else ""),
                               retryable=retryable, retry_after=after)


class ServerTool:
    """A tool of a server: see `Tool`."""

    def __init__(self, connection: Connection, listed: Listed, name: str, *, approve: bool,
                 timeout: float | None) -> None:
        self._connection, self._called, self._timeout = connection, listed.name, timeout
        self.name, self.approve = name, approve
        self.description = listed.description or listed.title or ""
        self.schema: dict[str, Any] = listed.input_schema

    def unfit(self, arguments: dict[str, Any]) -> str:
        return ""  # the server says

    async def call(self, context: BodyContext, arguments: dict[str, Any], *, key: str) -> Any:
        from mcp import MCPError

        try:
            answer = await self._connection.call(self._called, arguments, self._timeout)
        except (MCPError, RuntimeError) as error:  # the latter: its own schema forbids its answer
            return failed(str(error))
        if answer.is_error:
            return failed("\n".join(_text_of(one) for one in answer.content) or f"{self.name} failed")
        return result_of(_value(answer), context.config)


def tools_of(item: McpItem, connection: Connection, at: str) -> list[ServerTool]:
    """The tools that an item allows. ToolServerError if it names some that aren't there."""
    listed = connection.tools
    names = [one.name for one in listed]
    approve = item.approve if isinstance(item.approve, tuple) else ()
    for key, wanted in (("only", item.only or ()), ("approve", approve)):
        for name in wanted:
            if name not in names:
                hint = did_you_mean(name, names) or f"there is {', '.join(names) or 'none'}"
                raise ToolServerError(f"{at}.{key}: MCP server '{item.mcp.shown}' has no tool {name!r}: "
                                      f"{hint}", retryable=False)
    return [ServerTool(connection, one, re.sub(r"[^A-Za-z0-9_-]", "_", item.prefix + one.name)[:64],
                       approve=item.approve is True or one.name in approve, timeout=item.timeout)
            for one in listed if item.only is None or one.name in item.only]


async def _listed(client: Client) -> list[Listed]:
    found: list[Listed] = []
    cursor: str | None = None
    for _ in range(_PAGES_MAX):
        page = await client.list_tools(cursor=cursor)
        found += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


def _value(answer: CallToolResult) -> Any:
    """What a tool answered, as a function would have returned it."""
    structured = answer.structured_content
    if structured is not None and all(one.type == "text" for one in answer.content):
        lone = isinstance(structured, dict) and set(structured) == {"result"}  # servers wrap such a value
        return structured["result"] if lone else structured
    if all(one.type == "text" for one in answer.content):
        return "\n".join(_text_of(one) for one in answer.content)
    parts: list[dict[str, Any]] = []
    for one in answer.content:
        if one.type == "image":
            parts.append({"type": "image", "media_type": one.mime_type, "data": one.data})
        else:
            parts.append({"type": "text", "text": _text_of(one)})
    return {"content": parts}


def _text_of(block: Any) -> str:
    if block.type == "text":
        return str(block.text)
    if block.type == "resource_link":
        return f"{block.name}: {block.uri}"
    if block.type == "resource":
        text = getattr(block.resource, "text", None)
        return str(text) if text is not None else f"[{block.resource.uri}: content that is no text]"
    return f"[{getattr(block, 'mime_type', block.type)}: can't be shown]"


def _first(error: BaseException) -> str:
    """An error in one line; pydantic's have three."""
    said = " ".join(line.strip() for line in str(error).strip().splitlines()[:3])
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _import() -> None:
    import mcp.client  # noqa: F401
