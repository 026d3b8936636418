"""The tools of MCP servers: programs by stdio, and streamable HTTP; good ones, and bad ones."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.diagram import ExecutableNode
from treadle.errors import NoSuchSecret
from treadle.ids import NodeID
from treadle.nodes import speech
from treadle.nodes.people.tools import Tool, ToolFault, ToolServerError, error_of, open_tools, told

from .conftest import Toolbox

SERVER = str(Path(__file__).with_name("mcp_by_hand.py"))


def by_hand(habit: str = "", **more: Any) -> dict[str, Any]:
    command = [sys.executable, SERVER, *([habit] if habit else [])]
    return {"mcp": {"command": command, "env": more.pop("env", {})}, **more}


def test_a_program_offers_its_tools(toolbox: Toolbox) -> None:
    """Several pages of them; a name that models don't take is made to fit; schemas pass through."""
    async def script(tools: Mapping[str, Tool], context: Any) -> None:
        assert len(tools) == 13
        echo = tools["echo"]
        assert (echo.description, echo.approve) == ("It can echo.", False)
        assert echo.schema == {
            "type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
        many = [echo.call(context, {"text": str(n)}, key=f"echo {n}") for n in range(20)]
        assert await asyncio.gather(*many) == [str(n) for n in range(20)]
        assert await tools["shout_loud"].call(context, {"text": "ä"}, key="k") == "Ä"
        assert await tools["structured"].call(context, {}, key="k") == {"n": 1}
        text, images = told(await tools["picture"].call(context, {}, key="k"))
        assert (text, [one.media_type for one in images]) == ("a dot", ["image/png"])
        assert told(await tools["links"].call(context, {}, key="k"))[0] == (
            "notes: file:///notes.txt\ninside\n[audio/wav: can't be shown]")
        assert await tools["fail"].call(context, {}, key="k") == {"error": "it broke"}
        assert await tools["refuse"].call(context, {}, key="k") == {"error": "no such thing here"}
        large = await tools["large"].call(context, {}, key="k")
        assert large.startswith("xxx") and "[Cut here: these are the first 256 KB of 2.86 MB." in large
        pids.append(int(await tools["pid"].call(context, {}, key="k")))
        os.kill(pids[0], 0)

    pids: list[int] = []
    toolbox.script(by_hand())(script)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_program_gets_only_what_it_is_given(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TEST_TOKEN", "s3cret")
    found = json.loads(toolbox.call(by_hand(env={"A": "b", "TOKEN": "env:TREADLE_TEST_TOKEN"}), {}, "env"))
    shell = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert set(found) - shell == {"PATH", "HOME", "A", "TOKEN"}
    assert (found["A"], found["TOKEN"]) == ("b", "s3cret")


def test_only_some_tools_with_a_prefix_and_approval(toolbox: Toolbox) -> None:
    tools = toolbox.shape(by_hand(only=["echo", "pid"], prefix="hand_", approve=["pid"]),
                          by_hand(only=["echo"]))
    assert {name: tool.approve for name, tool in tools.items()} == {
        "hand_echo": False, "hand_pid": True, "echo": False}
    assert toolbox.shape(by_hand(only=["pid"], approve=True))["pid"].approve


def test_names_must_differ(toolbox: Toolbox) -> None:
    with pytest.raises(ToolFault, match=r"two tools are called 'echo', of tools\[0\] and tools\[1\] "
                                        r"\(give a `prefix` to one of the servers\)"):
        toolbox.shape(by_hand(only=["echo"]), by_hand(only=["echo"]))


def test_a_server_that_failed_is_started_anew(toolbox: Toolbox, tmp_path: Path,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever comes next, in the same execution: also if only a secret was missing."""
    item = by_hand(env={"TOKEN": "env:TREADLE_TEST_TOKEN"})

    async def main() -> None:
        async with toolbox.open() as (_, context):
            with pytest.raises(NoSuchSecret):
                await opened(context)
            monkeypatch.setenv("TREADLE_TEST_TOKEN", "s3cret")
            tools = await opened(context)
            first = await tools["pid"].call(context, {}, key="k")
            assert await (await opened(context))["pid"].call(context, {}, key="k") == first
            with pytest.raises(ToolServerError):
                await tools["die"].call(context, {}, key="k")
            assert await (await opened(context))["pid"].call(context, {}, key="k") != first

    async def opened(context: Any) -> Mapping[str, Tool]:
        node = ExecutableNode(id=NodeID("n"), type="person_job", index=0, base=str(tmp_path))
        async with open_tools([item], node, context) as tools:
            return tools

    asyncio.run(main())


def test_a_tool_that_the_server_lacks(toolbox: Toolbox) -> None:
    message = r"tools\[0\].only: MCP server '.*' has no tool 'ecco': did you mean 'echo'\?"
    with pytest.raises(ToolServerError, match=message) as it:
        toolbox.shape(by_hand(only=["ecco"]))
    assert not it.value.retryable


@pytest.mark.parametrize(("script", "message"), [
    ("echo no luck >&2; exit 3", "did not start: it ended with exit code 3; on stderr: no luck"),
    ("exec sleep 60", r"did not start in 0.5 s \(tool_start_s_max\)"),
    ("echo hello; exec sleep 60",
     r"did not start in 0.5 s \(tool_start_s_max\): it printed what is not MCP: 'hello'"),
])
def test_a_program_that_does_not_speak_mcp(toolbox: Toolbox, script: str, message: str) -> None:
    toolbox.limit(tool_start_s_max=10.0 if "exit" in script else 0.5)
    start = time.monotonic()
    with pytest.raises(ToolServerError, match=rf"MCP server 'sh -c .*' {message}$") as it:
        toolbox.shape({"mcp": {"command": ["sh", "-c", script]}})
    assert it.value.retryable
    assert time.monotonic() - start < 30


def test_a_program_that_is_not_there(toolbox: Toolbox) -> None:
    with pytest.raises(ToolServerError, match="there is no program 'no-such-server': install it") as it:
        toolbox.shape({"mcp": {"command": ["no-such-server", "--all"]}})
    assert not it.value.retryable


@pytest.mark.parametrize(("tool", "message"), [
    ("die", "was lost while it ran 'die': it ended with exit code 3; on stderr: .*out of memory"),
    ("hang", r"gave no answer to 'hang' in 0.2 s \(its timeout\)"),
    ("odd", "answered 'odd' with nonsense: .*content"),
    ("large", "was lost while it ran 'large': it sent a message of more than 1000000 bytes"),
])
def test_a_program_that_fails_in_a_call(toolbox: Toolbox, tool: str, message: str) -> None:
    toolbox.limit(body_output_bytes_max=1_000_000)
    with pytest.raises(ToolServerError, match=rf"(?s)MCP server '.*mcp_by_hand.py' {message}") as it:
        toolbox.call(by_hand(timeout=0.2 if tool == "hang" else 5), {}, tool)
    assert it.value.retryable


def test_a_lost_program_fails_all_calls_that_wait(toolbox: Toolbox) -> None:
    async def script(tools: Mapping[str, Tool], context: Any) -> None:
        waiting = asyncio.gather(tools["hang"].call(context, {}, key="k"), return_exceptions=True)
        await tools["echo"].call(context, {"text": "a"}, key="k")
        with pytest.raises(ToolServerError):
            await tools["die"].call(context, {}, key="k")
        (lost,) = await waiting
        assert isinstance(lost, ToolServerError) and "was lost while it ran 'hang'" in str(lost)

    toolbox.script(by_hand())(script)


def test_a_program_that_will_not_end_is_killed(toolbox: Toolbox) -> None:
    start = time.monotonic()
    pid = int(toolbox.call(by_hand("stubborn"), {}, "pid"))
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert time.monotonic() - start < 30


class Ear:
    """Takes down what a body says."""

    repeats = False

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def printed(self, stream: str, text: str) -> bool:
        self.lines.append((stream, text))
        return False

    def logged(self, level: str, logger: str, text: str) -> None:
        self.lines.append((level, text))


def test_what_a_program_says_is_said_by_the_node(toolbox: Toolbox) -> None:
    ear = Ear()
    token = speech.speaking.set(ear)
    try:
        assert toolbox.call(by_hand("chatty"), {"text": "a"}, "echo") == "a"
    finally:
        speech.speaking.reset(token)
    assert ("stdout", "welcome to the server\n") in ear.lines and ("stderr", "starting up\n") in ear.lines
    assert ("WARNING", '{"called":"echo"}') in ear.lines


def test_a_cancelled_node_leaves_no_program(toolbox: Toolbox) -> None:
    async def main() -> int:
        pids: list[int] = []

        async def body() -> None:
            async with toolbox.open(by_hand()) as (tools, context):
                pids.append(int(await tools["pid"].call(context, {}, key="k")))
                began.set()
                await tools["hang"].call(context, {}, key="k")

        began = asyncio.Event()
        task = asyncio.create_task(body())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return pids[0]

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(main()), 0)


class Web:
    """A real server of the protocol's own package, on a port of this machine. `headers` are those of the last
    request; with a `status` it answers nothing else."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.url = ""
        self.status = 0

    async def __aenter__(self) -> Web:
        import uvicorn
        from mcp.server.mcpserver import MCPServer

        server = MCPServer("web")

        @server.tool()
        def add(a: int, b: int) -> int:
            """Add two numbers."""
            return a + b

        @server.tool()
        def broken() -> str:
            """Always fails."""
            raise ValueError("no luck")

        inner = server.streamable_http_app()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                self.headers = {name.decode(): value.decode() for name, value in scope["headers"]}
                if scope["path"] != "/mcp" or self.status:
                    status = self.status or int(scope["path"].strip("/"))
                    await send({"type": "http.response.start", "status": status,
                                "headers": [(b"content-type", b"text/html")]})
                    await send({"type": "http.response.body", "body": b"<h1>hello</h1>"})
                    return
            await inner(scope, receive, send)

        self._server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", ws="none"))
        self._task = asyncio.create_task(self._server.serve())
        while not self._server.started:  # noqa: ASYNC110  # it has no event for that
            await asyncio.sleep(0.01)
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.should_exit = True
        await self._task


def test_a_server_at_a_url(toolbox: Toolbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TEST_TOKEN", "Bearer s3cret")

    async def main() -> None:
        async with Web() as web:
            server = {"url": f"{web.url}/mcp", "headers": {"Authorization": "env:TREADLE_TEST_TOKEN"}}
            async with toolbox.open({"mcp": server}) as (tools, context):
                assert web.headers["authorization"] == "Bearer s3cret"
                assert tools["add"].description == "Add two numbers."
                assert await tools["add"].call(context, {"a": 1, "b": 2}, key="k") == 3
                failed = error_of(await tools["broken"].call(context, {}, key="k"))
                assert failed == "Error executing tool broken"
                wrong = error_of(await tools["add"].call(context, {"a": "x"}, key="k"))
                assert wrong is not None and "b" in wrong

    asyncio.run(main())


def test_a_server_at_a_url_is_lost(toolbox: Toolbox) -> None:
    async def main() -> None:
        async with Web() as web, toolbox.open({"mcp": {"url": f"{web.url}/mcp"}}) as (tools, context):
            add = tools["add"]
            for status in (503, 404):
                web.status = status
                with pytest.raises(ToolServerError, match=f"HTTP status {status}") as it:
                    await add.call(context, {"a": 1, "b": 2}, key="k")
                assert it.value.retryable
            web.status = 0
            await web.__aexit__()
            with pytest.raises(ToolServerError) as it:
                await add.call(context, {"a": 1, "b": 2}, key="k")
            assert it.value.retryable
            print(it.value)

    asyncio.run(main())


def test_a_url_with_no_server_behind_it(toolbox: Toolbox) -> None:
    async def opened(url: str) -> str:
        with pytest.raises(ToolServerError) as it:
            async with toolbox.open({"mcp": {"url": url}}):
                pass
        return f"{it.value.retryable}: {it.value}"

    async def main() -> None:
        async with Web() as web:
            said = await opened(f"{web.url}/200")
            assert said.endswith("/200' can't be used: MCPError: Unexpected content type: text/html")
            for status, again in ((401, False), (404, False), (429, True), (500, True)):
                said = await opened(f"{web.url}/{status}")
                assert said.startswith(f"{again}: MCP server '{web.url}/{status}' can't be used: ")
                assert said.endswith(f": it answered with HTTP status {status}")
        assert "can't be used: ConnectError" in await opened(f"{web.url}/mcp")

    asyncio.run(main())
