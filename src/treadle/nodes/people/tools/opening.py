"""The tools of a node: what `check` says of them, what its fingerprint covers, and how they are opened when
it runs. Servers are asked only then.
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.fingerprint import source_of, whole
from treadle.diagram.types import Doubt
from treadle.nodes.base import BodyContext
from treadle.nodes.modules import load_function
from treadle.nodes.people.tools.base import Tool
from treadle.nodes.people.tools.diagrams import DiagramTool, check_diagram
from treadle.nodes.people.tools.functions import FunctionTool
from treadle.nodes.people.tools.servers import Connection, Servers, tools_of
from treadle.nodes.people.tools.signature import Signature
from treadle.nodes.people.tools.specs import (
    DiagramItem,
    FunctionItem,
    Item,
    McpItem,
    ToolFault,
    parse,
    require_name,
)

RESERVED = ("model", "approve")
"""How the loop names its own steps: `model 1`, `approve 2`."""


@asynccontextmanager
async def open_tools(specs: Sequence[Any], node: ExecutableNode,
                     context: BodyContext) -> AsyncIterator[Mapping[str, Tool]]:
    """The tools of a node by the names that the model sees, in the order of the diagram. Servers are started
    where they don't run yet. ToolFault for two of one name; ToolServerError."""
    items = parse(specs)
    with ExitStack() as stack:
        opened = await _servers(items, context, stack)
        tools: dict[str, Tool] = {}
        places: dict[str, str] = {}
        for at, item in items:
            found: Sequence[Tool]
            if isinstance(item, McpItem):
                found = tools_of(item, opened[at], at)
            else:
                found = [_local(item, node.base)]
            for tool in found:
                require_new(tool.name, at, places, mcp=isinstance(item, McpItem))
                tools[tool.name] = tool
        yield tools


def require_new(name: str, at: str, places: dict[str, str], *, mcp: bool = False) -> None:
    """ToolFault if a tool has the name of another, or of the loop's own steps; else note where it stands."""
    if name in RESERVED:
        raise ToolFault(f"a tool can't be called {name!r}, as are steps of another kind", at,
                        hint="give a `prefix` to the server" if mcp else "say another `name`")
    if name in places:
        how = "`prefix` to one of the servers" if mcp else "`name` to one of them"
        raise ToolFault(f"two tools are called {name!r}, of {places[name]} and {at}", at,
                        hint=f"give a {how}")
    places[name] = at


def function_name(item: FunctionItem) -> str:
    """What the model calls a function."""
    return item.name or item.call.rpartition(":")[2].rpartition(".")[2]


def diagram_name(item: DiagramItem) -> str:
    """What the model calls a diagram."""
    return item.name or re.sub(r"[^A-Za-z0-9_-]", "_", Path(item.diagram).stem)[:64]


def _local(item: FunctionItem | DiagramItem, base: str) -> Tool:
    if isinstance(item, DiagramItem):
        return DiagramTool.read(Path(base) / item.diagram, diagram_name(item), item.description,
                                approve=item.approve, timeout=item.timeout)
    function = load_function(item.call, base)
    description = item.description or Signature.of(function).description
    return FunctionTool(function, function_name(item), description, approve=item.approve,
                        timeout=item.timeout)


async def _servers(items: Sequence[tuple[str, Item]], context: BodyContext,
                   stack: ExitStack) -> dict[str, Connection]:
    """The servers of a node, by place; they start at the same time, and are given back by the stack."""
    lent = {}
    for at, item in items:
        if isinstance(item, McpItem):
            servers = context.kept(Servers, Servers)
            lent[at] = servers.borrow(item.mcp, context)
            stack.callback(servers.give_back, lent[at], context.config.tool_idle_s)
    return {at: await one.opened() for at, one in lent.items()}


def check_tools(specs: Sequence[Any], base: str) -> tuple[Doubt, ...]:
    """What is doubtful about a node's tools, for its `Ports`. ToolFault, with its place, for what is wrong
    with them."""
    doubts = []
    for fault in tool_faults(specs, base):
        if not fault.warning:
            raise fault
        doubts.append(Doubt(fault.message, fault.at, fault.hint))
    return tuple(doubts)


def tool_faults(specs: Sequence[Any], base: str) -> Iterator[ToolFault]:
    """All that is wrong with a node's tools, or doubtful about them."""
    try:
        items = parse(specs)
    except ToolFault as fault:
        yield fault
        return
    places: dict[str, str] = {}
    for at, item in items:
        try:
            yield from _doubts(item, at, base, places)
        except ToolFault as fault:
            yield fault


def tool_sources(specs: Sequence[Any], base: str) -> list[str]:
    """The texts that a node's fingerprint changes with: of its tools' functions and diagrams."""
    found = []
    for at, item in parse(specs):
        if isinstance(item, FunctionItem):
            found.append(source_of(load_function(item.call, base)))
        elif isinstance(item, DiagramItem):
            found.append(whole(check_diagram(Path(base) / item.diagram, item.diagram, f"{at}.diagram")))
    return found


def _doubts(item: Item, at: str, base: str, places: dict[str, str]) -> Iterator[ToolFault]:
    if isinstance(item, FunctionItem):
        try:
            signature = Signature.of(load_function(item.call, base))
        except ValueError as error:
            raise ToolFault(str(error), f"{at}.call") from None
        name = function_name(item)
        if not (item.description or signature.description):
            yield ToolFault(f"tool {item.call!r} has no docstring: the model is told nothing of what it does",
                            at, hint="write one, or say `description`", warning=True)
    elif isinstance(item, DiagramItem):
        checked = check_diagram(Path(base) / item.diagram, item.diagram, f"{at}.diagram")
        name = diagram_name(item)
        if not (item.description or checked.spec.description):
            yield ToolFault(f"diagram {item.diagram!r} has no description: the model is told nothing of what "
                            "it does", at, hint="say `description`, here or in its file", warning=True)
    else:
        if importlib.util.find_spec("mcp") is None:
            raise ToolFault("the tools of MCP servers need mcp, which is not installed: pip install "
                            "treadle[llm]", at)
        return
    require_name(name, at)
    require_new(name, at, places)
