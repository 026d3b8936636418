"""How the tests of this folder perform a node: as the engine does, without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.crypto.secrets import Secrets
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import Expression, Template
from treadle.diagram.node import Node
from treadle.diagram.policy import Policy
from treadle.engine.executor import Executors
from treadle.ids import NodeID
from treadle.nodes.base import Executor
from treadle.nodes.registry import default_registry
from treadle.state.blob import Blob, Place, Source
from treadle.state.context import PipelineState, SharedContext, Shares


class Context(Shares):
    """A `BodyContext` by hand."""

    execution_id = "e"
    node_id = "n"
    iteration = "1"
    attempt = 2
    idempotency_key = "e/n/1"

    def __init__(self, executors: Executors, base: Path, *, sources: Mapping[str, Any], index: int | None,
                 item: Any, execution_inputs: Mapping[str, Any]) -> None:
        self.executors, self.base, self.sources = executors, base, sources
        self.index, self.item, self.execution_inputs = index, item, execution_inputs
        self.shared = SharedContext("e")

    config = DEFAULT_CONFIG
    pipeline = PipelineState("e", "", 0.0, "")
    environment_vars: Mapping[str, str] = {}
    secret_store: str | None = None
    active_plugins: tuple[str, ...] = ()

    def _sharing(self) -> tuple[SharedContext, str]:
        return self.shared, "n#2"

    def now(self) -> float:
        return 1000.0

    def names(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        here = {} if self.index is None else {"item": self.item, "index": self.index}
        return {**self.sources, **inputs, "inputs": self.execution_inputs, "nodes": self.sources, **here}

    def around(self, inputs: Mapping[str, Any], *, keys: bool = False) -> dict[str, Any]:
        return {}

    def locals(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.names(inputs)

    def evaluate(self, expression: str, inputs: Mapping[str, Any]) -> Any:
        return Expression.compile(expression).evaluate(self.names(inputs))

    def render(self, template: str, inputs: Mapping[str, Any]) -> str:
        return Template.compile(template, base=str(self.base)).render(self.names(inputs))

    def path(self, path: str) -> Path:
        return self.base / path

    @property
    def place(self) -> Place:
        return Place(self.base / "blobs")

    def blob(self, source: Source, name: str = "") -> Blob:
        return self.place.put(source, name)

    def secret(self, reference: str) -> str:
        return Secrets().resolve(reference)

    def variable(self, name: str) -> str:
        return self.environment_vars[name]

    def executor(self, isolation: str, *, timed: bool = True) -> Executor:
        return self.executors.get(isolation)


class Warm:
    """A loop and its executors that stay, for tests of what runs in child processes."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.executors = runner.run(self._make())

    async def _make(self) -> Executors:
        return Executors(TreadleConfig(process_max=1))


class Performer:
    """`perform(type, inputs, **properties)`: check a node's properties, then perform it; its value."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.seconds = 0.0
        self.warm: Warm | None = None

    def kind(self, type_: str, properties: Mapping[str, Any]) -> tuple[Any, Any, Node]:
        kind = default_registry().kind(type_)
        spec = msgspec.convert(properties, kind.properties)
        return kind, spec, Node(NodeID("n"), type_, dict(properties), Policy())

    def ports(self, type_: str, **properties: Any) -> Any:
        kind, spec, node = self.kind(type_, properties)
        return kind.ports(spec, node, str(self.base))

    def sources(self, type_: str, **properties: Any) -> list[str]:
        kind, spec, node = self.kind(type_, properties)
        return list(kind.sources(spec, node, str(self.base)))

    def envelope(self, type_: str, inputs: Mapping[str, Any] | None = None, *, calls: Any = None,
                 policy: Policy | None = None, sources: Mapping[str, Any] | None = None,
                 index: int | None = None, item: Any = None,
                 execution_inputs: Mapping[str, Any] | None = None, **properties: Any) -> Any:
        kind, spec, _ = self.kind(type_, properties)
        if index is not None:
            policy = Policy(for_each="items")
        node = ExecutableNode(id=NodeID("n"), type=type_, index=0, spec=spec, policy=policy or Policy(),
                              function=calls, base=str(self.base))

        async def script() -> Any:
            executors = self.warm.executors if self.warm else Executors(TreadleConfig(process_max=1))
            try:
                context = Context(executors, self.base, sources=sources or {}, index=index, item=item,
                                  execution_inputs=execution_inputs or {})
                start = time.monotonic()
                found = await kind.strategy.execute(node, context, dict(inputs or {}))
                self.seconds = time.monotonic() - start
                return found
            finally:
                if not self.warm:
                    await executors.close()

        if calls is None:
            self.ports(type_, **properties)
        return self.warm.runner.run(script()) if self.warm else asyncio.run(script())

    def __call__(self, type_: str, inputs: Mapping[str, Any] | None = None, **rest: Any) -> Any:
        return self.envelope(type_, inputs, **rest).body


@pytest.fixture
def perform(tmp_path: Path) -> Performer:
    return Performer(tmp_path)


@pytest.fixture(scope="module")
def warm() -> Iterator[Warm]:
    with asyncio.Runner() as runner:
        made = Warm(runner)
        yield made
        runner.run(made.executors.close())


@pytest.fixture
def perform_warm(perform: Performer, warm: Warm) -> Performer:
    """Like `perform`, without a new child process each time."""
    perform.warm = warm
    return perform


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file of the diagram's folder."""
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
