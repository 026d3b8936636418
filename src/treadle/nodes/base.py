"""What a type of node is made of: a struct of properties, a strategy, and words for the docs.

A new type is one file in this folder: a msgspec struct, a strategy, and a `NodeKind` that joins them. Control
(conditions choosing ports, loops, maps, retries) is decided in the kernel; a strategy only performs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, MutableMapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, runtime_checkable

import msgspec

from treadle.config import TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.policy import LATEST
from treadle.diagram.types import Ports
from treadle.state.blob import Blob, Place, Source
from treadle.state.context import PipelineState, Transaction
from treadle.state.context import Snapshot as ContextSnapshot
from treadle.state.envelope import BaseNodeOutput, Envelope, infer
from treadle.state.steps import StepRecord, Told

if TYPE_CHECKING:
    from treadle.nodes.people.offline.standins import StandIns

T = TypeVar("T")


class Suspend(msgspec.Struct, frozen=True):
    """What a strategy returns to wait durably instead of finishing.

    `request` says what for: `{"kind": "answer", "prompt": …, "schema": …}`, `{"kind": "signal", "name": …}`
    or `{"kind": "sleep"}`. At `wake_at` (seconds since 1970) a sleep completes; anything else has timed out
    and fails. An answer completes the node; of a request with a `step` it becomes the step of that name, and
    the body goes on.
    """

    request: dict[str, Any]
    wake_at: float | None = None


class Executor(Protocol):
    """Where a body runs. Exceptions of the body are raised as they are; a timeout raises `NodeTimeout`."""

    async def run(self, function: Callable[..., Any], /, *args: Any, timeout: float | None = None,
                  memory_mb: int | None = None, name: str = "") -> Any:
        """Call a function there; `timeout` in seconds counts from its start, `name` is for messages.

        In a process the function is found by its import path and gets plain data (None, bool, int, float,
        str, bytes, lists, maps); `memory_mb` bounds its address space there. Cancelling this call stops the
        function.
        """


class Steps(Protocol):
    """The recorded work of one body, step by step.

    A body that is performed again (after a crash, an answer, a failed attempt) begins at its first line; what
    is recorded is not done again. In the modes that write behind, a crash may lose the steps of the last
    `batch_interval_s`. An error with a true attribute `anew` lets the next attempt begin without the steps,
    as an edit of the node does.
    """

    @property
    def records(self) -> tuple[StepRecord, ...]:
        """Those in force."""
    def recorded(self, name: str) -> StepRecord | None:
        """A step that has succeeded."""
    async def run(self, name: str, make: Callable[[], Awaitable[Any]], *, kind: str = "step",
                  meta: Mapping[str, Any] | None = None) -> Any:
        """The recorded result of the step, else what `make()` gives, recorded before it is returned (in
        durability `strict` on disk). `make` may return `Noted` to add to the record's `meta`, which is plain
        data; sums are kept of its `tokens` and `cost`. An error of it is recorded and raised.

        Steps may run at the same time. InvalidInput if the name was asked for before in this performance.
        """
    def show(self, text: str) -> None:
        """The body's result so far, for who looks on (`progress_interval_s`); the next step clears it."""
    @property
    def spent(self) -> Mapping[str, float]:
        """`tokens` and `cost` (US dollars) of all steps of the execution so far, of failed attempts too."""


class BodyContext(Protocol):
    """What a strategy may know of the attempt that it performs."""

    @property
    def execution_id(self) -> str: ...
    @property
    def node_id(self) -> str:
        """The node's path."""
    @property
    def iteration(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of one node in one iteration and lineage."""
    @property
    def index(self) -> int | None:
        """For an item of a map: its number from 0."""
    @property
    def item(self) -> Any:
        """For an item of a map: its value."""
    @property
    def execution_inputs(self) -> Mapping[str, Any]:
        """The inputs of the execution, or of the sub-diagram that the node is in."""

    @property
    def config(self) -> TreadleConfig:
        """The limits of the engine."""

    def now(self) -> float:
        """The execution's clock, in seconds since 1970."""

    def evaluate(self, expression: str, inputs: Mapping[str, Any]) -> Any:
        """Evaluate an expression over the node's names; ExpressionError for an unknown name."""

    def render(self, template: str, inputs: Mapping[str, Any]) -> str:
        """Render a template over the node's names; ExpressionError for an unknown name."""

    def path(self, path: str) -> Path:
        """A path of the diagram, relative to the folder of its file."""

    @property
    def place(self) -> Place:
        """Where the execution's blobs are."""

    def blob(self, source: Source, name: str = "") -> Blob:
        """Content that is too large for memory, as a value: copied piece by piece from a file's path, an open
        file, bytes or an iterable of bytes. It is on the disk when this returns."""

    def secret(self, reference: str) -> str:
        """The value of `secret://NAME` or `env:NAME`. From here on it is replaced by `[secret NAME]` in all
        that this execution records. NoSuchSecret, SecretError. A server may have to be asked: in a coroutine
        call it by `asyncio.to_thread`."""

    def redacted(self, value: Any) -> Any:
        """Plain data with the names of secrets in place of those that the execution has used."""
    def executor(self, isolation: str, *, timed: bool = True) -> Executor:
        """The executor for `thread` or `process`. With `timed` the caller gives it the node's time-out, which
        counts from the body's real start; else the engine goes on timing the body as a whole."""

    @property
    def standins(self) -> StandIns:
        """What stands in for providers of models."""
    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """A thing that bodies share: what `make()` gave to the first who asked with that key. The engine
        closes it (`treadle.aio.resources`) when it ends. On the loop only."""
    async def execute(self, diagram: str, inputs: Mapping[str, Any], name: str) -> Any:
        """The result of another diagram, by its file: an execution of its own on the same engine. A body that
        is performed again goes on with the one that it had started under that name. ExecutionFailed, also if
        it waits for somebody; InvalidDiagram, InvalidInput, OSError."""

    @property
    def steps(self) -> Steps:
        """What this body has recorded of its work, and how it records more. On the loop only."""
    def told(self) -> Sequence[Told]:
        """The steps of the bodies of this execution that have completed, those that ended first before the
        others. Only what counts: what was outgrown by an edit, or is performed anew, is not among them."""

    @property
    def pipeline(self) -> PipelineState:
        """What never changes of the execution: id, version of the diagram, start, hash of the limits."""
    @property
    def environment_vars(self) -> Mapping[str, str]:
        """What the node's diagram, those around it and the execution were given for their environment. A
        value may name a secret."""
    def variable(self, name: str) -> str:
        """One of these; if it names a secret, that, looked up in the store of the diagram where it stands.
        KeyError; else as `secret`."""
    @property
    def secret_store(self) -> str | None:
        """The URL of the store of secrets."""
    @property
    def active_plugins(self) -> Sequence[str]:
        """`Name@version` of each."""

    @property
    def artifacts(self) -> MutableMapping[str, Any]:
        """Shared resources by name: see `treadle.state.context.Shares`, here and below."""
    @property
    def variables(self) -> MutableMapping[str, Any]:
        """Shared values by name."""
    def plugin(self, name: str) -> MutableMapping[str, Any]:
        """What a plugin has left."""
    def snapshot(self) -> ContextSnapshot:
        """All of it as it is now, for good."""
    def transaction(self) -> Transaction:
        """For `with`: several reads and writes, all or nothing."""
    def update(self, key: str, function: Callable[[Any], Any], default: Any = None) -> Any:
        """Set a key to what a function makes of its value."""

    def around(self, inputs: Mapping[str, Any], *, keys: bool = False) -> dict[str, Any]:
        """The names that no arrow brings: of an open diagram the execution's inputs, the custom data of start
        nodes and (with `keys`) the keys of an unlabelled map; of any diagram the turns that conditions
        expose."""
    def locals(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The names that code in a diagram begins with. In an open one the nodes before it and the keys of an
        unlabelled map are not among them: they would hide Python's own."""
    def loops(self) -> Sequence[Sequence[ExecutableNode]]:
        """The nodes of each loop around the node, those of the innermost first."""
    def has_run(self, node_id: str) -> bool:
        """Whether a node of the same diagram has completed, in this turn of a loop or one before."""

    def names(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Every name an expression of this node sees: its inputs by label, the nodes they came from by id,
        `inputs` (the execution's), and in a map `item` and `index`, `iteration`, `attempt`."""


told: ContextVar[Event | None] = ContextVar("treadle_body_cancelled", default=None)


def cancelled() -> bool:
    """Whether the body that asks was cancelled or timed out: a long one in a thread should ask and return."""
    event = told.get()
    return event is not None and event.is_set()


def bare(inputs: Mapping[str, Any], context: BodyContext) -> Any:
    """What a node passes on that changes nothing: one input as it is, several as a map by name, none as None.
    In a map it is the item."""
    if context.index is not None:
        return context.item
    if len(inputs) == 1:
        return next(iter(inputs.values()))
    return dict(inputs) if inputs else None


def deadline(node: ExecutableNode, context: BodyContext) -> float | None:
    """When a wait that begins now has lasted for the node's `timeout`."""
    return None if node.policy.timeout is None else min(context.now() + node.policy.timeout, LATEST)


def result_of(value: Any, context: BodyContext) -> Envelope | Suspend:
    """The message of what a body returned; envelopes and suspensions stand as they are."""
    kind, name = type(value), context.node_id
    if kind is dict or kind is list:  # nearly always
        return Envelope(name, name, "object", value)
    if kind is Envelope or kind is Suspend:
        return value  # type: ignore[no-any-return]
    if isinstance(value, BaseNodeOutput):
        return value.to_envelope()
    return Envelope(name, name, infer(value), value)


Body = Callable[[BodyContext, dict[str, Any]], Awaitable["Envelope | Suspend"]]


@runtime_checkable
class NodeStrategyProtocol(Protocol):
    """How one type of node is performed.

    `inputs` maps input names to values; an unlabelled arrow's input is `default`. A strategy may also have
    `bind(node) -> Body`: called once per node of a compiled diagram, so that look-ups are done once.
    """

    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        """Perform one attempt. The chosen port, if not `default`, is in the envelope's `port`."""

    def can_handle(self, node_type: str) -> bool:
        """Whether this strategy performs that type."""


class NodeKind:
    """One type of node: what `check`, the docs and the engine need of it. Subclass or instantiate, then
    register."""

    name: str
    properties: type[msgspec.Struct]
    strategy: NodeStrategyProtocol
    secrets: tuple[str, ...] | None
    """The properties in which `secret://NAME` is looked up; elsewhere `check` refuses it. None: the strategy
    looks up what it likes (`context.secret`)."""

    def __init__(self, name: str, properties: type[msgspec.Struct], strategy: NodeStrategyProtocol, *,
                 secrets: tuple[str, ...] | None = None) -> None:
        self.name, self.properties, self.strategy, self.secrets = name, properties, strategy, secrets

    def ports(self, spec: Any, node: Node, base: str) -> Ports:
        """See `treadle.diagram.types.NodeType`, here and below."""
        return Ports()

    def sources(self, spec: Any, node: Node, base: str) -> Iterable[str]:
        return ()

    def child(self, spec: Any, node: Node, base: str) -> Mapping[str, Any] | str | None:
        return None
