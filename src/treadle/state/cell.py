"""Cells, and the one join.

A *cell* is everything known of one attempt of a node in an iteration (`NodeState`), of an execution as a
whole (`ExecutionCell`), or of one key of its shared context (`ContextCell`). It is frozen; an update is a new
cell with a larger `seq`. `(epoch, seq)` is its *version*: who owned the execution, and the count of updates.

`join` of two cells with one key is the one with the larger version; of two deltas, the union of keys with
`join` per key. It is commutative, associative and idempotent, hence a state-based conflict-free replicated
data type (Shapiro et al., "Conflict-free Replicated Data Types", SSS 2011), and it is the only merge in the
program. One owner writes an execution at a time, so equal versions are equal cells; anything else is
corruption, and raises.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, Protocol, TypeVar, overload, runtime_checkable

import msgspec

from treadle.errors import Corruption
from treadle.ids import ExecutionID, NodeID
from treadle.state.status import ExecutionStatus, NodeStatus


class CellKey(NamedTuple):
    """What names a node's cell: whose, which node, which iteration, which attempt."""

    execution_id: str
    node_id: str
    iteration: str
    attempt: int


class ErrorInfo(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error as it is recorded: the exception's type name, its message, and where it came from. `details`
    is plain data for code that handles it."""

    type: str
    message: str
    traceback: str = ""
    node: str | None = None
    details: dict[str, Any] | None = None

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


class ItemError(msgspec.Struct, frozen=True):
    """Stands in a map's results for an item that failed (`on_item_error: collect`). `index` counts from 0."""

    index: int
    error: ErrorInfo

    @property
    def type(self) -> str:
        return self.error.type

    @property
    def message(self) -> str:
        return self.error.message


class NodeState(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The cell of one attempt. Instants are seconds since 1970-01-01 UTC; None means not yet or not at
    all."""

    execution_id: str
    node_id: str
    iteration: str = "1"
    attempt: int = 1
    epoch: int = 0
    seq: int = 1
    status: NodeStatus = NodeStatus.PENDING
    scheduled_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    wake_at: float | None = None  # when a suspended or retrying attempt is due
    output: bytes | None = None  # the encoded result (see `treadle.state.codec`)
    blob: str | None = None  # or the SHA-256 of the blob that holds it
    content_type: str | None = None
    meta: bytes | None = None  # the envelope's meta, encoded; None when it is empty
    error: ErrorInfo | None = None
    retryable: bool | None = None
    port: str | None = None  # the port a completed node chose; None means `default`
    lineage: str | None = None
    claims: int = 0  # how often this attempt's body was started
    worker: str | None = None
    winner: str | None = None  # for a node with join `any`: the arrow that won, as text
    request: bytes | None = None  # what a suspended node waits for, encoded
    items: bytes | None = None  # for a map its encoded items, for a sub-diagram its encoded inputs
    round: int = 1  # the attempt of its composite (at the root: the execution's round) that it belongs to

    @property
    def key(self) -> CellKey:
        return CellKey(self.execution_id, self.node_id, self.iteration, self.attempt)

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.seq)

    @property
    def output_payload(self) -> bytes | None:
        """The encoded result, or None if there is none or a blob holds it."""
        return self.output

    @property
    def retry_count(self) -> int:
        """How many attempts came before this one."""
        return self.attempt - 1

    @property
    def execution_time(self) -> float | None:
        """Seconds from the body's start to its end."""
        if self.started_at is None or self.ended_at is None:
            return None
        return self.ended_at - self.started_at


class ExecutionCell(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The cell of an execution as a whole: one row of the table `executions`."""

    execution_id: str
    epoch: int = 0
    seq: int = 1
    status: ExecutionStatus = ExecutionStatus.PENDING
    name: str = ""  # the diagram's name
    diagram: str = ""  # the hash of its source in the table `diagrams`
    inputs: bytes = b"{}"  # encoded
    created_at: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    deadline_at: float | None = None
    output: bytes | None = None  # the encoded result: its endpoint's value, or a map of several
    blob: str | None = None
    error: ErrorInfo | None = None
    options: bytes = b"{}"  # encoded: durability, on_error …
    parent: str | None = None  # the execution it was forked from
    round: int = 1  # 1 + how often it was resumed after it had failed or was cancelled

    @property
    def key(self) -> str:
        return self.execution_id

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.seq)


class ContextCell(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """The cell of one key of an execution's shared context. `seq` counts the execution's commits, so all
    cells of a transaction have one version."""

    execution_id: str
    key: str  # artifacts.NAME, variables.NAME or plugins.PLUGIN.NAME
    epoch: int = 0
    seq: int = 1
    value: bytes | None = None  # encoded; None: it was deleted
    writer: str = ""  # the path of a node with its attempt, or a plugin
    at: float = 0.0  # seconds since 1970

    @property
    def version(self) -> tuple[int, int]:
        return (self.epoch, self.seq)


Cell = NodeState | ExecutionCell | ContextCell
Delta = dict[CellKey, NodeState]
"""A map from cell key to cell."""

_C = TypeVar("_C", NodeState, ExecutionCell, ContextCell)


def join_cells(a: _C, b: _C) -> _C:
    """Of two cells with one key the one with the larger version; `Corruption` if they contradict."""
    if a.epoch != b.epoch:
        return a if a.epoch > b.epoch else b
    if a.seq != b.seq:
        return a if a.seq > b.seq else b
    if a is b or a == b:
        return a
    raise Corruption(f"two different cells under one version {a.version} of {a.key}:\n  {a}\n  {b}\n"
                     "Two owners wrote one execution. Keep the file and report this.")


@overload
def join(a: NodeState, b: NodeState) -> NodeState: ...
@overload
def join(a: ExecutionCell, b: ExecutionCell) -> ExecutionCell: ...
@overload
def join(a: ContextCell, b: ContextCell) -> ContextCell: ...
@overload
def join(a: Mapping[CellKey, NodeState], b: Mapping[CellKey, NodeState]) -> Delta: ...
@overload
def join(a: Mapping[str, ContextCell], b: Mapping[str, ContextCell]) -> dict[str, ContextCell]: ...
def join(a: Any, b: Any) -> Any:
    """Join two cells with one key, or two deltas key by key. Commutative, associative, idempotent."""
    if isinstance(a, Mapping):
        out = dict(a)
        for key, cell in b.items():
            mine = out.get(key)
            out[key] = cell if mine is None else join_cells(mine, cell)
        return out
    if a.key != b.key:
        raise ValueError(f"only cells with one key can be joined, not {a.key} and {b.key}")
    return join_cells(a, b)


def instant(when: float | datetime | None) -> float | None:
    """Seconds since 1970 UTC of a datetime (a naive one is local time) or of a number as it is."""
    return when.timestamp() if isinstance(when, datetime) else when


def moment(seconds: float | None) -> datetime | None:
    """The aware datetime of an instant."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


@runtime_checkable
class ExecutionStateProtocol(Protocol):
    """An execution's whole state, and a way to write it down and read it back."""

    execution_id: str
    status: ExecutionStatus
    node_states: dict[NodeID, NodeState]
    start_time: datetime | None
    end_time: datetime | None

    async def persist(self) -> None:
        """Write the state to its home; return when it is durable."""

    async def restore(self) -> None:
        """Read the state back from its home, in place."""


class StateHome(Protocol):
    """Where an `ExecutionState` persists itself: `treadle.store.ExecutionStateManager` is one."""

    async def save_state(self, execution_id: str, state: ExecutionState) -> None: ...
    async def load_state(self, execution_id: str) -> ExecutionState: ...


class ExecutionState:
    """Everything known of one execution: its own cell's words and the latest cell of every node.

    `history` holds every cell, `node_states` by path only the one of the last iteration and attempt,
    `context` the cells of the shared context by key.
    """

    def __init__(self, execution_id: str, status: ExecutionStatus | str = ExecutionStatus.PENDING,
                 node_states: Mapping[NodeID, NodeState] | None = None, start_time: datetime | None = None,
                 end_time: datetime | None = None, *, cell: ExecutionCell | None = None,
                 history: Delta | None = None, home: StateHome | None = None,
                 context: Mapping[str, ContextCell] | None = None) -> None:
        self.execution_id = ExecutionID(execution_id)
        self.status = ExecutionStatus(status)
        self.node_states: dict[NodeID, NodeState] = dict(node_states or {})
        self.start_time = start_time
        self.end_time = end_time
        self.cell = cell
        self.history: Delta = (history if history is not None
                               else {c.key: c for c in self.node_states.values()})
        self.home = home
        self.context: dict[str, ContextCell] = dict(context or {})

    @classmethod
    def of(cls, cell: ExecutionCell, history: Delta, home: StateHome | None = None, *,
           context: Iterable[ContextCell] = ()) -> ExecutionState:
        """The state that a store's rows amount to."""
        latest: dict[NodeID, NodeState] = {}
        for state in history.values():
            path = NodeID(state.node_id)
            known = latest.get(path)
            if known is None or turn_of(state) > turn_of(known):
                latest[path] = state
        return cls(cell.execution_id, cell.status, latest, moment(cell.started_at), moment(cell.ended_at),
                   cell=cell, history=history, home=home, context={one.key: one for one in context})

    def _home(self) -> StateHome:
        if self.home is None:
            raise ValueError(f"the state of {self.execution_id} has no home: load it with "
                             "ExecutionStateManager, or set .home")
        return self.home

    async def persist(self) -> None:
        """Write the state to its home; return when it is durable."""
        await self._home().save_state(self.execution_id, self)

    async def restore(self) -> None:
        """Read the state back from its home, in place."""
        found = await self._home().load_state(self.execution_id)
        self.status, self.node_states, self.cell = found.status, found.node_states, found.cell
        self.start_time, self.end_time, self.history = found.start_time, found.end_time, found.history
        self.context = found.context

    def __repr__(self) -> str:
        return f"ExecutionState({self.execution_id!r}, {self.status.value!r}, {len(self.node_states)} nodes)"


def turn_of(state: NodeState) -> tuple[tuple[int, ...], int]:
    """The order of one node's cells: by iteration, then by attempt."""
    return tuple(int(turn) for turn in state.iteration.split(".")), state.attempt
