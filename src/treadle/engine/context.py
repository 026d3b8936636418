"""What is known of an execution by the code in it: `NodeContext` for one body, `ExecutionContext` for a
whole run."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.crypto.secrets import ENV, Secrets, is_reference
from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram, ExecutableNode
from treadle.diagram.expression import Expression, Template
from treadle.diagram.formats.light.templates import spelled
from treadle.diagram.node import DEFAULT
from treadle.engine import nested, secret, shared
from treadle.engine.resolver import turn
from treadle.engine.steps import LocalSteps, Recorder
from treadle.engine.surroundings import around
from treadle.errors import NoSuchNode
from treadle.ids import ExecutionID, NodeID
from treadle.nodes.people.offline.standins import StandIns
from treadle.once import once
from treadle.state import codec
from treadle.state.blob import Blob, Place, Source
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, ExecutionState, NodeState, instant
from treadle.state.context import About, PipelineState, SharedContext, Shares, options_of
from treadle.state.envelope import Envelope, EnvelopeFactory
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import Told

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner
    from treadle.nodes.base import Executor

T = TypeVar("T")


class NodeContext(Shares, msgspec.Struct, gc=False):
    """What a body may know of the attempt that it performs; see `treadle.nodes.base.BodyContext`."""

    runner: WorkflowRunner
    slot: int
    node: ExecutableNode
    cell: NodeState
    values: list[tuple[ExecutableArrow, Any]]  # what came along each arrow
    _item: Any = msgspec.UNSET

    @property
    def execution_id(self) -> str:
        return self.cell.execution_id

    @property
    def node_id(self) -> str:
        return self.cell.node_id

    @property
    def iteration(self) -> str:
        return self.cell.iteration

    @property
    def attempt(self) -> int:
        return self.cell.attempt

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this node in this iteration and lineage."""
        cell = self.cell
        return f"{cell.execution_id}/{cell.node_id}/{cell.iteration}/{cell.lineage or ''}"

    @property
    def index(self) -> int | None:
        return self.runner.scope.item_of(self.slot)[0]

    @property
    def item(self) -> Any:
        if self._item is msgspec.UNSET:
            self._item = self.runner.scope.item_of(self.slot)[1]
        return self._item

    @property
    def execution_inputs(self) -> Mapping[str, Any]:
        return self.runner.scope.inputs(self.slot)

    @property
    def config(self) -> TreadleConfig:
        return self.runner.config

    @property
    def pipeline(self) -> PipelineState:
        """What never changes of the execution."""
        return shared.about(self.runner).pipeline

    @property
    def environment_vars(self) -> Mapping[str, str]:
        return MappingProxyType(dict(around(self.runner, self.slot).variables))

    @property
    def secret_store(self) -> str | None:
        if self.runner.kernel.owner(self.slot) < 0:
            return shared.about(self.runner).secret_store
        store = around(self.runner, self.slot).store
        return None if store == ENV else store

    @property
    def active_plugins(self) -> Sequence[str]:
        return shared.about(self.runner).active_plugins

    def _sharing(self) -> tuple[SharedContext, str]:
        return self.runner.shared, shared.writer_of(self.cell)

    def now(self) -> float:
        return self.runner.now()

    def names(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Every name an expression of this node sees; `treadle.engine.resolver` lists them."""
        diagram = self.runner.kernel.diagram_of(self.slot)
        nodes = diagram.nodes
        values: dict[str, Any] = {nodes[arrow.source].id: value for arrow, value in self.values}
        if diagram.around is None:
            before: Mapping[str, Any] = {**values, **self.around(inputs)} if diagram.exposed else values
        else:
            before = _spelled({"inputs": dict(inputs), **self.around(inputs, keys=True), **inputs})
        names: dict[str, Any] = {**shared.names(self.runner), **before, **inputs,
                                 "inputs": self.execution_inputs, "nodes": values,
                                 "iteration": turn(self.cell.iteration), "attempt": self.cell.attempt}
        index = self.index
        if index is not None:
            names["index"], names["item"] = index, self.item
        return names

    def around(self, inputs: Mapping[str, Any], *, keys: bool = False) -> dict[str, Any]:
        """See `treadle.nodes.base.BodyContext`."""
        kernel = self.runner.kernel
        diagram = kernel.diagram_of(self.slot)
        found: dict[str, Any] = {}
        if diagram.around is not None:
            found = {**diagram.around, **self.execution_inputs}
            unlabelled = inputs.get(DEFAULT)
            if keys and isinstance(unlabelled, Mapping):
                found.update((key, value) for key, value in unlabelled.items() if isinstance(key, str))
        exposed: Sequence[tuple[str, int]] = diagram.exposed
        if len(exposed) > 1:  # of equal names the one in the innermost loop around us, else one that has run
            chain = [-1, *reversed(_loops(diagram, self.node.index))]
            exposed = sorted(exposed, key=lambda one: (
                chain.index(loop) if (loop := diagram.loop_of[one[1]]) in chain else 0,
                kernel.has_run(self.slot, one[1])))
        found.update((name, kernel.turn_at(self.slot, i) - 1) for name, i in exposed)
        return found

    def locals(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """See `treadle.nodes.base.BodyContext`."""
        names = self.names(inputs)
        if self.runner.kernel.diagram_of(self.slot).around is None:
            return names
        words: dict[str, Any] = {
            name: names[name] for name in ("nodes", "iteration", "attempt", "item", "index") if name in names}
        return {**shared.names(self.runner), **words, **_spelled({**self.around(inputs), **inputs})}

    def loops(self) -> Sequence[Sequence[ExecutableNode]]:
        """See `treadle.nodes.base.BodyContext`."""
        diagram = self.runner.kernel.diagram_of(self.slot)
        return [[diagram.nodes[i] for i in diagram.loops[loop].members]
                for loop in _loops(diagram, self.node.index)]

    def has_run(self, node_id: str) -> bool:
        """See `treadle.nodes.base.BodyContext`."""
        kernel = self.runner.kernel
        return kernel.has_run(self.slot, kernel.diagram_of(self.slot).get_node(node_id).index)

    def evaluate(self, expression: str, inputs: Mapping[str, Any]) -> Any:
        return Expression.compile(expression, config=self.runner.config).evaluate(self.names(inputs))

    def render(self, template: str, inputs: Mapping[str, Any]) -> str:
        compiled = Template.compile(template, base=self.node.base, config=self.runner.config)
        return compiled.render(self.names(inputs))

    def path(self, path: str) -> Path:
        return Path(self.node.base) / path

    @property
    def place(self) -> Place:
        """Where the blobs of this execution are."""
        return self.runner.place

    def blob(self, source: Source, name: str = "") -> Blob:
        """See `treadle.nodes.base.BodyContext`."""
        return self.place.put(source, name)

    def secret(self, reference: str) -> str:
        """See `treadle.nodes.base.BodyContext`."""
        return secret.lookup(self.runner, self.slot, reference)

    def variable(self, name: str) -> str:
        """See `treadle.nodes.base.BodyContext`."""
        return secret.variable(self.runner, self.slot, name)

    def redacted(self, value: Any) -> Any:
        """See `treadle.nodes.base.BodyContext`."""
        redactor = self.runner.redactor
        return value if redactor is None else redactor.value(value)

    @property
    def standins(self) -> StandIns:
        """See `treadle.nodes.base.BodyContext`."""
        return self.runner.engine.standins

    @property
    def steps(self) -> Recorder:
        """See `treadle.nodes.base.BodyContext`."""
        recorders = self.runner.recorders
        found = recorders.get(self.slot)
        if found is None:
            found = recorders[self.slot] = Recorder(self.runner, self)
        return found

    async def execute(self, diagram: str, inputs: Mapping[str, Any], name: str) -> Any:
        """See `treadle.nodes.base.BodyContext`."""
        return await nested.execute(self, diagram, inputs, name)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """See `treadle.nodes.base.BodyContext`."""
        return self.runner.engine.kept(key, make)

    def told(self) -> Sequence[Told]:
        """See `treadle.nodes.base.BodyContext`."""
        return self.runner.remembered.told()

    def executor(self, isolation: str, *, timed: bool = True) -> Executor:
        """See `treadle.nodes.base.BodyContext`."""
        if timed:
            self.runner.times_itself(self.slot)
        return self.runner.executor(isolation)


def _loops(diagram: ExecutableDiagram, i: int) -> list[int]:
    """The loops around a node, innermost first."""
    found, loop = [], diagram.loop_of[i]
    while loop >= 0:
        found.append(loop)
        loop = diagram.loops[loop].parent
    return found


def _spelled(names: Mapping[str, Any]) -> dict[str, Any]:
    """Names, and beside those that no text can write the ones that it writes instead."""
    return {**{spelled(name): value for name, value in names.items()}, **names}


_known: weakref.WeakValueDictionary[str, ExecutableDiagram] = weakref.WeakValueDictionary()


def remember(diagram: ExecutableDiagram) -> None:
    """Let `ExecutionContext.from_state` find a diagram by its hash as long as somebody uses it."""
    _known[diagram.hash] = diagram


class ExecutionContext(Shares):
    """The runtime state of one execution, for code that drives nodes by itself.

    It holds outputs by node id, and can be written as an `ExecutionState` and read back. `shared` is the
    context that bodies share (`artifacts`, `variables`, `transaction()` …); `environment_vars`,
    `secret_store` (a URL) and `active_plugins` (`name@version`) are plain data for strategies. It has what a
    body may ask (`treadle.nodes.base.BodyContext`) too, so that a strategy can be called with it directly;
    expressions then see the outputs by node id.
    """

    iteration = "1"
    attempt = 1
    index: int | None = None
    item: Any = None
    config = DEFAULT_CONFIG

    def __init__(
        self,
        diagram: ExecutableDiagram,
        execution_id: str,
        *,
        inputs: Mapping[str, Any] | None = None,
        environment_vars: Mapping[str, str] | None = None,
        secret_store: str | None = None,
    ) -> None:
        remember(diagram)
        self.diagram = diagram
        self.execution_id = ExecutionID(execution_id)
        self.node_id = NodeID("")
        self.node_outputs: dict[NodeID, Envelope] = {}
        self.metadata: dict[str, Any] = {}
        self.shared = SharedContext(execution_id, now=time.time, lock=threading.Lock(), sink=self._keep)
        self._kept: dict[str, ContextCell] = {}  # of the context, keys that were deleted too
        self.environment_vars: dict[str, str] = dict(environment_vars or {})
        self.secret_store = secret_store
        self.active_plugins: list[str] = []
        self.execution_inputs: Mapping[str, Any] = dict(inputs or {})
        self.resolved: dict[tuple[str, tuple[str, ...]], dict[str, Any]] = {}
        self._started = time.time()

    def store_output(self, node_id: NodeID | str, output: Envelope) -> None:
        """Keep a node's result, in place of an earlier one. NoSuchNode if the diagram lacks the node."""
        self.diagram.get_node(node_id)
        self.node_outputs[NodeID(node_id)] = output

    def get_output(self, node_id: NodeID | str) -> Envelope | None:
        """A node's result, or None."""
        return self.node_outputs.get(NodeID(node_id))

    @property
    def completed_nodes(self) -> set[NodeID]:
        return {node_id for node_id, output in self.node_outputs.items() if not output.has_error()}

    @property
    def failed_nodes(self) -> set[NodeID]:
        return {node_id for node_id, output in self.node_outputs.items() if output.has_error()}

    @property
    def status(self) -> ExecutionStatus:
        """`running` until every node has an output; a failed output makes it `failed` then."""
        if len(self.node_outputs) < len(self.diagram.nodes):
            return ExecutionStatus.RUNNING
        return ExecutionStatus.FAILED if self.failed_nodes else ExecutionStatus.COMPLETED

    def to_state(self) -> ExecutionState:
        """All of it as cells. NotEncodable that names the node if an output can't be written down."""
        cells = [self._cell(node_id, output) for node_id, output in self.node_outputs.items()]
        status = self.status
        cell = ExecutionCell(
            self.execution_id,
            epoch=1,
            status=status,
            name=self.diagram.name,
            diagram=self.diagram.hash,
            inputs=codec.encode(dict(self.execution_inputs)),
            created_at=self._started,
            started_at=self._started,
            ended_at=time.time() if status.terminal else None,
            options=options_of(
                "memory", config_hash=self.config.config_hash, environment_vars=self.environment_vars,
                secret_store=self.secret_store, active_plugins=self.active_plugins, metadata=self.metadata),
        )
        return ExecutionState.of(cell, {one.key: one for one in cells}, context=self._kept.values())

    def _cell(self, node_id: NodeID, output: Envelope) -> NodeState:
        failed = output.has_error()
        at = instant(output.timestamp)
        return NodeState(
            self.execution_id,
            node_id,
            epoch=1,
            ended_at=at if at is not None else time.time(),
            status=NodeStatus.FAILED if failed else NodeStatus.COMPLETED,
            output=codec.encode(output.body),
            content_type=str(output.content_type),
            meta=codec.encode(dict(output.meta)) if output.meta else None,
            error=ErrorInfo("Error", str(output.body), node=node_id) if failed else None,
            port=output.port,
        )

    @classmethod
    def from_state(cls, state: ExecutionState, diagram: ExecutableDiagram | None = None) -> ExecutionContext:
        """The context that a state was made of. The diagram is found by its hash if it is in use in this
        process; LookupError that says to hand it in if it isn't."""
        cell = state.cell
        digest = cell.diagram if cell is not None else ""
        found = diagram or _known.get(digest)
        if found is None:
            raise LookupError(
                f"the diagram {digest!r} of execution {state.execution_id} is not in use in this process: "
                "hand it in, ExecutionContext.from_state(state, diagram)"
            )
        context = cls(
            found, state.execution_id, inputs=codec.decode(cell.inputs) if cell is not None else None
        )
        if cell is not None:
            known = About.of(cell)
            context.metadata = codec.decode(cell.options).get("metadata", {})
            context.environment_vars = dict(known.environment_vars)
            context.secret_store, context.active_plugins = known.secret_store, list(known.active_plugins)
            context.shared.load(state.context.values())
            context._kept.update(state.context)
            context._started = cell.started_at if cell.started_at is not None else context._started
        for node_id, one in state.node_states.items():
            if node_id in found.index and one.status in (NodeStatus.COMPLETED, NodeStatus.FAILED):
                context.node_outputs[node_id] = envelope_of(one)
        return context

    # What a body may ask

    def _sharing(self) -> tuple[SharedContext, str]:
        return self.shared, self.node_id

    def _keep(self, cells: Sequence[ContextCell]) -> None:
        self._kept.update((cell.key, cell) for cell in cells)

    @property
    def pipeline(self) -> PipelineState:
        """What never changes of the execution."""
        return PipelineState(self.execution_id, self.diagram.hash, self._started, self.config.config_hash)

    @property
    def idempotency_key(self) -> str:
        return self.execution_id

    def now(self) -> float:
        return time.time()

    def names(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {node_id: output.body for node_id, output in self.node_outputs.items()}
        shared = self.snapshot()
        return {
            "artifacts": shared.artifacts,
            "variables": shared.variables,
            **values,
            **inputs,
            "inputs": self.execution_inputs,
            "nodes": values,
            "iteration": 1,
            "attempt": 1,
        }

    def around(self, inputs: Mapping[str, Any], *, keys: bool = False) -> dict[str, Any]:
        return {}

    def locals(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return self.names(inputs)

    def loops(self) -> Sequence[Sequence[ExecutableNode]]:
        return ()

    def has_run(self, node_id: str) -> bool:
        return self.get_output(node_id) is not None

    def evaluate(self, expression: str, inputs: Mapping[str, Any]) -> Any:
        return Expression.compile(expression).evaluate(self.names(inputs))

    def render(self, template: str, inputs: Mapping[str, Any]) -> str:
        return Template.compile(template, base=self.diagram.spec.base).render(self.names(inputs))

    def path(self, path: str) -> Path:
        return Path(self.diagram.spec.base) / path

    @once
    def place(self) -> Place:
        return Place.temporary()

    def blob(self, source: Source, name: str = "") -> Blob:
        return self.place.put(source, name)

    def secret(self, reference: str) -> str:
        return Secrets(self.secret_store or ENV).resolve(reference)

    def variable(self, name: str) -> str:
        text = self.environment_vars[name]
        return self.secret(text) if is_reference(text) else text

    @cached_property
    def steps(self) -> LocalSteps:
        return LocalSteps()

    @property
    def standins(self) -> StandIns:
        return StandIns()

    def told(self) -> Sequence[Told]:
        return ()

    async def execute(self, diagram: str, inputs: Mapping[str, Any], name: str) -> Any:
        raise NoSuchNode("a context without an engine runs no other diagrams: run this one with Engine")

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        raise NoSuchNode("a context without an engine keeps nothing open: run the diagram with Engine")

    def executor(self, isolation: str, *, timed: bool = True) -> Executor:
        raise NoSuchNode(
            f"a context without an engine has no executor for isolation {isolation!r}: run the diagram "
            "with Engine, or choose isolation: inline"
        )


def envelope_of(cell: NodeState) -> Envelope:
    """The message that a completed cell stands for, decoded; a failed one gives its error."""
    meta = codec.decode(cell.meta) if cell.meta else {}
    if cell.status is NodeStatus.FAILED:
        return EnvelopeFactory.error(str(cell.error), produced_by=cell.node_id)
    body = codec.decode(cell.output) if cell.output is not None else None
    if cell.content_type is None:
        return EnvelopeFactory.create(body, produced_by=cell.node_id)
    return Envelope(
        f"{cell.node_id}/{cell.iteration}/{cell.attempt}", cell.node_id, cell.content_type, body, meta
    )
