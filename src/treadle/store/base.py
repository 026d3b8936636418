"""The port behind which state lives, and what crosses it.

A store is plain, synchronous and small. Its writing methods are called by one writer thread (`StateManager`
owns it), its reading methods by any thread but the event loop's. What a method promises is in its docstring;
the behaviour suite in `treadle.testing.contract` holds every store to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import msgspec

from treadle.state.cell import CellKey, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus


class Owner(msgspec.Struct, frozen=True):
    """Who runs an execution: enough to say whether that process still lives."""

    host: str
    boot_id: str
    pid: int
    started: float  # the process's start time, so that a recycled pid is told apart
    token: str  # one owner object within the process

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


class Lease(msgspec.Struct, frozen=True):
    """The right to run an execution: the fencing number, and what the former owner left behind."""

    execution_id: str
    epoch: int
    clean: bool = True  # the former owner, if any, released the execution; False: it crashed


class Signal(msgspec.Struct, frozen=True):
    """A word from outside to an execution. `kind`: answer (needs node and iteration), signal (needs name), or
    cancel."""

    execution_id: str
    kind: str
    name: str = ""
    node_id: str = ""
    iteration: str = ""
    payload: bytes = b"null"  # encoded
    id: int = 0  # given by the store; later ones are larger
    at: float = 0.0


class Batch(msgspec.Struct):
    """What one transaction writes. Sealed by the loop; nobody changes it afterwards."""

    cells: list[NodeState]
    executions: list[ExecutionCell] = []
    consumed: list[int] = []  # ids of signals that these cells used up
    blobs: list[tuple[str, bytes]] = []  # (SHA-256, content) that these cells name
    sync: bool = False  # fsync before `apply` returns (durability `strict`)
    created: list[tuple[ExecutionCell, str]] = []  # new, each with its diagram's source; claimed for `owner`
    released: list[Lease] = []  # leases that are given back, after everything else
    owner: Owner | None = None
    lease_s: float = 15.0
    document: Any = None  # what `Store.seal` made of all this

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do beside cells and executions."""
        return bool(self.created or self.released or self.blobs or self.consumed or self.sync)


class Written(msgspec.Struct):
    """What became of a batch."""

    refused: dict[str, int] = {}  # executions whose lease is lost → the epoch that holds them now
    failed: list[tuple[CellKey, str]] = []  # cells that can't be written, each with the reason
    taken: list[str] = []  # executions that were not created, since their ids exist


class Summary(msgspec.Struct, frozen=True):
    """One line of a list of executions. `stale`: it says running, but its owner's lease is lost."""

    cell: ExecutionCell
    nodes: int = 0
    completed: int = 0
    failed: int = 0
    owner: Owner | None = None
    stale: bool = False


class Store(Protocol):
    """Where cells live."""

    url: str

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        """Write a new execution with the source of its diagram, already claimed (epoch 1); durable on return.
        ValueError if the id is taken."""

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        """Take an execution over: epoch + 1, durable on return. A live owner elsewhere: `LeaseHeld` that
        names it. An owner on this host that is dead by boot id, pid and start time has lost its lease at
        once."""

    def renew(self, leases: Sequence[Lease], owner: Owner, lease_s: float) -> set[str]:
        """Extend leases by the store's clock. Returns the executions that are lost."""

    def release(self, leases: Sequence[Lease]) -> None:
        """Give leases back; whoever claims next finds them `clean`."""

    def seal(self, batch: Batch) -> None:
        """Called on the event loop before the batch is handed to the writer thread: what would hold the GIL
        there, beside a busy loop, is better done here, into `batch.document`. It never fails."""

    def apply(self, batch: Batch) -> Written:
        """Write a batch in one transaction; return only when it survives a process crash (`sync`: a power
        cut). Cells of executions whose epoch is not the lease's are refused, a cell that can't be written is
        left out and reported, the rest is written. A busy or full store raises, and nothing of the batch is
        written."""

    def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        """An execution and all its cells; `NoSuchExecution` with the nearest id."""

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None) -> list[Summary]:
        """The newest executions first."""

    def summary(self, execution_id: str) -> Summary:
        """One execution's line; `NoSuchExecution` with the nearest id. A unique prefix of an id is enough."""

    def source(self, diagram: str) -> str:
        """The source of a diagram by its hash."""

    def send(self, signal: Signal) -> int:
        """Queue a signal; durable on return. Returns its id. `NoSuchExecution` if there is none."""

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        """What waits for these executions, oldest first."""

    def version(self) -> int:
        """A number that changes when another connection has written: what a watcher polls."""

    def last_signal(self) -> int:
        """The id of the newest signal that was ever sent, 0 if there was none: whether a watcher must
        read."""

    def blob(self, digest: str) -> bytes:
        """A blob by its SHA-256; KeyError if there is none."""

    def close(self) -> None:
        """Release files and connections; a second call does nothing."""
