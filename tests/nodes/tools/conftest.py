"""A node's tools without a model: `toolbox(specs)` opens them as the loop of a `person_job` does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.aio.resources import AsyncResourceManager
from treadle.config import TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.engine.executor import Executors
from treadle.ids import NodeID
from treadle.nodes.people.tools import Tool, open_tools

from ..conftest import Context


class Kept:
    """What an engine keeps open for bodies."""

    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}
        self.resources = AsyncResourceManager()

    def __call__(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self.found:
            self.found[key] = self.resources.register(make())
        return self.found[key]


class Toolbox:
    """`config` are limits; `ran` are the diagrams that were run, and `answers` what they give."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.config = TreadleConfig()
        self.ran: list[tuple[str, dict[str, Any], str]] = []
        self.answers: Any = None

    @asynccontextmanager
    async def open(self, *specs: Any) -> AsyncIterator[tuple[Mapping[str, Tool], Any]]:
        node = ExecutableNode(id=NodeID("n"), type="person_job", index=0, base=str(self.base))
        executors = Executors(self.config)
        context: Any = Context(executors, self.base, sources={}, index=None, item=None, execution_inputs={})
        context.config = self.config

        async def execute(path: str, inputs: dict[str, Any], key: str) -> Any:
            self.ran.append((Path(path).name, inputs, key))
            if isinstance(self.answers, BaseException):
                raise self.answers
            return self.answers

        kept = Kept()
        context.execute, context.kept = execute, kept
        try:
            async with open_tools(specs, node, context) as tools:
                yield tools, context
        finally:
            await kept.resources.cleanup()
            await executors.close()

    def script(self, *specs: Any) -> Callable[[Callable[[Mapping[str, Tool], Any], Awaitable[Any]]], Any]:
        """Run a script with these tools open: a decorator, for use in place."""
        def run(script: Callable[[Mapping[str, Tool], Any], Awaitable[Any]]) -> Any:
            async def main() -> Any:
                async with self.open(*specs) as (tools, context):
                    return await script(tools, context)

            return asyncio.run(main())

        return run

    def call(self, spec: Any, arguments: Any, name: str | None = None) -> Any:
        """The result of one call of the only tool, or of the one with that name."""
        async def once(tools: Mapping[str, Tool], context: Any) -> Any:
            tool = tools[name] if name is not None else next(iter(tools.values()))
            return await tool.call(context, arguments, key="t 1")

        return self.script(spec)(once)

    def shape(self, *specs: Any) -> dict[str, Tool]:
        """The tools, closed."""
        async def look(tools: Mapping[str, Tool], context: Any) -> Any:
            return dict(tools)

        found: dict[str, Tool] = self.script(*specs)(look)
        return found

    def limit(self, **limits: Any) -> None:
        self.config = msgspec.structs.replace(self.config, **limits)


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    return Toolbox(tmp_path)
