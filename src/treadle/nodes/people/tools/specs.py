"""What stands under a node's `tools`: functions, diagrams and servers, as structs.

    tools:
      - "notes:search"                                        # a function of notes.py
      - {call: "mail:send", approve: true, timeout: 20}
      - {diagram: summary.yaml, description: Sums a text up}
      - {mcp: {command: [uvx, mcp-server-git], env: {TOKEN: secret://GIT}}, only: [git_log], prefix: repo_}
      - {mcp: {url: "https://example.org/mcp", headers: {Authorization: secret://EXAMPLE}}, approve: [delete]}
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import Any
from urllib.parse import urlsplit

import msgspec

from treadle.crypto.secrets import SECRET, is_reference
from treadle.diagram.formats.values import convert_struct
from treadle.errors import did_you_mean

NAME = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What a model takes as the name of a tool."""


class ToolFault(ValueError):
    """What is wrong with an item of `tools`; `at` is its place, as in `tools[1].call`. A `warning` keeps
    nothing from running."""

    retryable = False

    def __init__(self, message: str, at: str = "tools", *, hint: str | None = None,
                 warning: bool = False) -> None:
        super().__init__(message + (f" ({hint})" if hint else ""))
        self.message, self.at, self.hint, self.warning = message, at, hint, warning


class FunctionItem(msgspec.Struct, frozen=True):
    """A Python function. Its signature is the schema, its docstring the description."""

    call: str
    """`module:function`, as in a `code_job`."""
    name: str | None = None
    """What the model calls it, if not by the function's name."""
    description: str | None = None
    """What the model is told of it, instead of the docstring."""
    approve: bool = False
    """Whether somebody must allow each call."""
    timeout: float | None = None
    """Seconds that a call may take. The model is told of one that took longer."""


class DiagramItem(msgspec.Struct, frozen=True):
    """Another diagram; its inputs are the schema. Each call is an execution of its own."""

    diagram: str
    """The file, relative to the diagram's folder."""
    name: str | None = None
    """What the model calls it, if not by the file's name."""
    description: str | None = None
    """What the model is told of it, instead of the diagram's own `description`."""
    approve: bool = False
    timeout: float | None = None


class Server(msgspec.Struct, frozen=True):
    """An MCP server: a program that is started, or one that runs at a URL."""

    command: tuple[str, ...] = ()
    """The program and its arguments. It is started in the diagram's folder."""
    env: dict[str, str] = {}
    """Its environment, beside PATH and HOME. A value may be `secret://NAME` or `env:NAME`."""
    url: str | None = None
    """Where it answers (streamable HTTP)."""
    headers: dict[str, str] = {}
    """Sent with each request. A value may be `secret://NAME` or `env:NAME`."""

    @property
    def shown(self) -> str:
        """How messages name it: without what a URL has after its path, which may be secret."""
        if self.url is None:
            return " ".join(self.command)
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class McpItem(msgspec.Struct, frozen=True):
    """The tools of an MCP server."""

    mcp: Server
    only: tuple[str, ...] | None = None
    """Those of its tools that the model may use, by the server's names; all if it isn't said."""
    approve: bool | tuple[str, ...] = False
    """Whether somebody must allow each call, or of which tools, by the server's names."""
    prefix: str = ""
    """What stands before the names that the model sees."""
    timeout: float | None = None
    """Seconds that a call may take, if not `tool_s_max`."""


Item = FunctionItem | DiagramItem | McpItem
_KINDS: dict[str, type[FunctionItem] | type[DiagramItem] | type[McpItem]] = {
    "call": FunctionItem, "diagram": DiagramItem, "mcp": McpItem}


def parse(items: Sequence[Any]) -> list[tuple[str, Item]]:
    """Each item with its place. ToolFault for the first that is wrong."""
    if isinstance(items, str | Mapping) or not isinstance(items, Sequence):
        raise ToolFault("`tools` must be a list", "tools", hint="write: tools: [\"module:function\"]")
    return [(f"tools[{i}]", _item(one, f"tools[{i}]")) for i, one in enumerate(items)]


def _item(said: Any, at: str) -> Item:
    if isinstance(said, str):
        if said.endswith((".yaml", ".yml", ".json")):
            raise ToolFault(f"{said!r} is not the path of a function", at,
                            hint=f"for a diagram write {{diagram: {said}}}")
        return FunctionItem(said)
    if not isinstance(said, Mapping):
        path = f"{said.__module__}:{said.__qualname__}" if isinstance(said, FunctionType) else ""
        raise ToolFault("a tool is 'module:function' or a map with `call`, `diagram` or `mcp`", at,
                        hint=f"write {path!r}" if path else None)
    kinds = [name for name in _KINDS if name in said]
    if len(kinds) != 1:
        near = next((hint for key in said if (hint := did_you_mean(str(key), _KINDS))), None)
        raise ToolFault("a tool needs one of `call`, `diagram` and `mcp`"
                        + (f", not {' and '.join(kinds)}" if kinds else ""), at, hint=near)
    kind = _KINDS[kinds[0]]
    found, wrong = convert_struct(said, kind)
    if wrong:
        place = f"{at}.{wrong[0].path}" if wrong[0].path else at
        raise ToolFault(f"{place}: {wrong[0].message}", place, hint=wrong[0].hint)
    item: Item = found
    _require(item, said, at)
    return item


def _require(item: Item, said: Mapping[str, Any], at: str) -> None:
    if item.timeout is not None and not (item.timeout > 0 and math.isfinite(item.timeout)):
        raise ToolFault(f"{at}.timeout must be more than 0 seconds, not {item.timeout}", f"{at}.timeout")
    if not isinstance(item, McpItem):
        if item.name is not None:
            require_name(item.name, f"{at}.name")
        return
    if isinstance(said["mcp"], Mapping):
        _, wrong = convert_struct(said["mcp"], Server)
        if wrong:
            place = f"{at}.mcp.{wrong[0].path}".rstrip(".")
            raise ToolFault(f"{place}: {wrong[0].message}", place, hint=wrong[0].hint)
    if item.prefix and not NAME.fullmatch(item.prefix):
        raise ToolFault(f"{at}.prefix: {item.prefix!r} can't stand in a tool's name: it may have letters, "
                        "digits, _ and -", f"{at}.prefix")
    _require_server(item.mcp, f"{at}.mcp")


def _require_server(server: Server, at: str) -> None:
    if bool(server.command) == (server.url is not None):
        raise ToolFault("an MCP server needs either `command` or `url`", at)
    if server.url is not None:
        parts = urlsplit(server.url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ToolFault(f"{at}.url: it must begin with http:// or https://", f"{at}.url")
        if server.env:
            raise ToolFault(f"{at}.env belongs to `command`: what a server at a URL gets are `headers`",
                            f"{at}.env")
    elif server.headers:
        raise ToolFault(f"{at}.headers belong to `url`: what a program gets is `env`", f"{at}.headers")
    for key, values in (("env", server.env), ("headers", server.headers)):
        for name, value in values.items():
            if SECRET in value and not is_reference(value):  # not quoted: it may be a secret
                raise ToolFault(f"{at}.{key}.{name}: a secret is looked up only where the whole value is "
                                "secret://NAME", f"{at}.{key}.{name}")
    for i, word in enumerate(server.command):
        if SECRET in word:
            raise ToolFault(f"{at}.command: arguments can be seen by every program of this machine: hand the "
                            "secret over in `env`", f"{at}.command[{i}]")
    if server.url is not None and SECRET in server.url:
        raise ToolFault(f"{at}.url: a secret is not looked up here: send it in `headers`", f"{at}.url")


def require_name(name: str, at: str) -> None:
    """ToolFault for a name that models don't take."""
    if not NAME.fullmatch(name):
        raise ToolFault(f"{name!r} can't be the name of a tool: models take up to 64 letters, digits, _ "
                        "and -", at, hint="say `name`")
