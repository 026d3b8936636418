"""Diagrams as tools: each call is an execution of its own, on the same engine."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.diagram.formats import load
from treadle.diagram.formats.reading import fits
from treadle.diagram.node import Input, Node
from treadle.errors import ExecutionFailed, did_you_mean
from treadle.nodes.base import BodyContext
from treadle.nodes.people.tools.results import failed, result_of
from treadle.nodes.people.tools.specs import ToolFault

if TYPE_CHECKING:
    from treadle.diagram.check import Checked

WAITING = ("user_response", "wait_for")
"""Types that wait for somebody: the model would wait with them."""
_around: ContextVar[tuple[Path, ...]] = ContextVar("treadle_tool_diagrams", default=())


class DiagramTool:
    """See `Tool`."""

    def __init__(self, path: Path, name: str, description: str, inputs: Mapping[str, Input], *,
                 approve: bool = False, timeout: float | None = None) -> None:
        self._path, self._inputs = path, inputs
        self.name, self.description, self.approve = name, description, approve
        self.schema = schema_of(inputs)
        self._timeout = timeout

    @classmethod
    def read(cls, path: Path, name: str, description: str | None, *, approve: bool = False,
             timeout: float | None = None) -> DiagramTool:
        """From its file. InvalidDiagram, OSError."""
        spec = load(path)
        return cls(path, name, description or spec.description, spec.inputs, approve=approve, timeout=timeout)

    def unfit(self, arguments: dict[str, Any]) -> str:
        return "; ".join(_wrong(arguments, self._inputs))

    async def call(self, context: BodyContext, arguments: dict[str, Any], *, key: str) -> Any:
        wrong = self.unfit(arguments)
        if wrong:
            return failed(wrong)
        scope = asyncio.timeout(self._timeout)
        try:
            async with scope:
                value = await context.execute(str(self._path), arguments, key)
        except TimeoutError:
            if not scope.expired():
                raise
            return failed(f"{self.name} took longer than its timeout of {self._timeout:g} s")
        except ExecutionFailed as error:
            return failed(str(error))
        return result_of(value, context.config)


def schema_of(inputs: Mapping[str, Input]) -> dict[str, Any]:
    """The JSON schema of a diagram's inputs."""
    properties: dict[str, Any] = {}
    for name, one in inputs.items():
        schema: dict[str, Any] = {} if one.type == "any" else {"type": one.type}
        if one.description:
            schema["description"] = one.description
        if not one.required and one.default is not None:
            schema["default"] = one.default
        properties[name] = schema
    return {"type": "object", "properties": properties, "additionalProperties": False,
            "required": [name for name, one in inputs.items() if one.required]}


def _wrong(arguments: Any, inputs: Mapping[str, Input]) -> Iterator[str]:
    if not isinstance(arguments, Mapping):
        yield "the arguments must be an object"
        return
    for name, value in arguments.items():
        if name not in inputs:
            known = ", ".join(inputs) or "none"
            yield f"there is no parameter {name!r}: {did_you_mean(str(name), inputs) or f'there is {known}'}"
        elif not fits(value, inputs[name].type):
            yield f"parameter {name!r} must be of type {inputs[name].type}, not {type(value).__name__}"
    for name, one in inputs.items():
        if one.required and name not in arguments:
            yield f"parameter {name!r} is missing"


def check_diagram(path: Path, said: str, at: str) -> Checked:
    """The diagram of a tool, checked. ToolFault for what is wrong with it, or keeps it from being a tool."""
    from treadle.diagram.check import check_file  # they know this package's type of node
    from treadle.nodes.registry import default_registry

    home = path.resolve()
    if home in _around.get():
        raise ToolFault(f"the diagram {said!r} would run itself as a tool", at)
    token = _around.set((*_around.get(), home))
    try:
        checked = check_file(path, default_registry())
    except OSError as error:
        near = did_you_mean(path.name, [one.name for one in path.parent.glob("*.y*ml")])
        raise ToolFault(f"diagram {said!r} can't be read: {error.strerror or error}", at, hint=near) from None
    finally:
        _around.reset(token)
    # A type of a plugin is known only where the diagram runs.
    errors = [fault for fault in checked.errors if not fault.message.startswith("there is no node type")]
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ToolFault(f"diagram {said!r}: {errors[0]}{more}", at)
    for path_, node in _nodes(checked, ""):
        if node.type in WAITING or _asks(node):
            raise ToolFault(f"diagram {said!r} can't be a tool: its node {path_!r} ({node.type}) waits for "
                            "somebody, and the model with it", at,
                            hint="let the tool itself ask: approve: true")
    return checked


def _nodes(checked: Checked, path: str) -> Iterator[tuple[str, Node]]:
    for node in checked.spec.nodes:
        yield f"{path}{node.id}", node
    for node_id, child in checked.children.items():
        yield from _nodes(child, f"{path}{node_id}/")


def _asks(node: Node) -> bool:
    """Whether it has tools that somebody must allow."""
    tools = node.properties.get("tools")
    return isinstance(tools, list) and any(isinstance(one, Mapping) and one.get("approve") for one in tools)
