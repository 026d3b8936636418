"""The port behind which state lives, and what crosses it.

A store is plain, synchronous and small. Its writing methods are called by one writer thread (`StateManager`
owns it), its reading methods by any thread but the event loop's. What a method promises is in its docstring;
the behaviour suite in `treadle.testing.contract` holds every store to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import IO, Any, Protocol

import msgspec

from treadle.config import Retention
from treadle.errors import StoreCorrupt, StoreError
from treadle.state.blob import Place
from treadle.state.cell import CellKey, ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
from treadle.state.steps import gist
from treadle.store.retention import Between, Pruned

LOG_LINES = 10_000
"""How many lines of logs are read at a time."""


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


class LogLine(msgspec.Struct, frozen=True):
    """What a body printed or logged: a line of `stdout` or `stderr`, a record of `log` with its level and
    logger, or a `note` that says what was left out."""

    execution_id: str
    node_id: str  # the node's path
    iteration: str
    attempt: int
    at: float  # seconds since 1970
    stream: str
    text: str  # whatever it was, halves of surrogate pairs and null characters too
    level: str | None = None
    logger: str | None = None
    id: int = 0  # given by the store; lines that were recorded later have larger ones
    epoch: int = 0  # the lease under which it is written; it is not stored


class Cached(msgspec.Struct, frozen=True):
    """A result that other executions may use (`cache: true`), by the digest of all that it depends on."""

    key: str
    node_id: str  # the path of the node that made it
    name: str  # of its diagram
    execution_id: str
    at: float  # when it was made, in seconds since 1970
    output: bytes | None = None  # encoded
    blob: str | None = None  # or the SHA-256 of the blob that holds it
    content_type: str | None = None
    meta: bytes | None = None  # encoded
    port: str | None = None


class Arriving(msgspec.Struct, frozen=True):
    """A blob that comes with an execution from another store. `open` gives its content, as often as you like;
    close what it gives."""

    digest: str
    size: int  # in bytes
    open: Callable[[], IO[bytes]]

    def pieces(self) -> Iterator[bytes]:
        """The content, a megabyte at a time."""
        with self.open() as file:
            while piece := file.read(1024 * 1024):
                yield piece

    def read(self) -> bytes:
        """The whole content; StoreCorrupt if it isn't what its digest says."""
        with self.open() as file:
            content = file.read(self.size + 1)
        if hashlib.sha256(content).hexdigest() != self.digest:
            raise StoreCorrupt(f"the blob {self.digest} that was to be written is damaged")
        return content


class Batch(msgspec.Struct):
    """What one transaction writes. Sealed by the loop; nobody changes it afterwards."""

    cells: list[NodeState]
    executions: list[ExecutionCell] = []
    consumed: list[int] = []  # ids of signals that these cells used up
    blobs: list[tuple[str, bytes]] = []  # (SHA-256, content) that these cells name
    cached: list[Cached] = []
    logs: list[LogLine] = []  # in the order in which they came
    sync: bool = False  # fsync before `apply` returns (durability `strict`)
    created: list[tuple[ExecutionCell, str]] = []  # new, each with its diagram's source; claimed for `owner`
    begun: list[NodeState] = []  # cells that new executions begin with; left out where the id is taken
    released: list[Lease] = []  # leases that are given back, after everything else
    owner: Owner | None = None
    lease_s: float = 15.0
    document: Any = None  # what `Store.seal` made of all this
    context: dict[tuple[str, str], ContextCell] = {}  # by execution and key
    begun_context: list[ContextCell] = []  # that new executions begin with; left out like `begun`
    unmade: dict[str, StoreError] = {}  # new executions that were left out before: see Written

    def begin(self, cell: ExecutionCell, source: str, cells: Iterable[NodeState],
              context: Iterable[ContextCell]) -> None:
        """Add a new execution, with all that it begins with."""
        self.created.append((cell, source))
        self.begun.extend(cells)
        self.begun_context.extend(context)

    @property
    def wanted(self) -> bool:
        """Whether there is anything to do beside cells and executions."""
        return bool(self.created or self.released or self.blobs or self.consumed or self.cached or self.logs
                    or self.context or self.sync)


class Written(msgspec.Struct):
    """What became of a batch."""

    refused: dict[str, int] = {}  # executions whose lease is lost → the epoch that holds them now
    failed: list[tuple[CellKey, str]] = []  # cells that can't be written, each with the reason
    taken: list[str] = []  # executions that were not created, since their ids exist
    unmade: dict[str, StoreError] = {}  # executions that were not created, each with the reason
    undrawn: list[str] = []  # executions that were, but the store has no source of their diagram (any more)

    def not_created(self) -> dict[str, Exception]:
        """Executions that were not created, each with what to raise."""
        taken = (f"there is an execution {one!r} already: choose another id" for one in self.taken)
        return {**self.unmade, **dict(zip(self.taken, map(ValueError, taken), strict=True))}


class Summary(msgspec.Struct, frozen=True):
    """One line of a list of executions. `stale`: it says running, but its owner's lease is lost."""

    cell: ExecutionCell
    nodes: int = 0
    completed: int = 0
    failed: int = 0
    owner: Owner | None = None
    stale: bool = False
    ended: int = 0  # nodes: those that completed, failed, were skipped or cancelled
    roots: int = 0  # nodes of the diagram itself, not of what they open to; turns of a loop count once


class Mark(msgspec.Struct, frozen=True):
    """How far a watcher has read an execution. Its fields are the store's own."""

    row: int = 0  # the newest row of a cell
    open: dict[int, tuple[int, int]] = {}  # the versions of rows that may still change
    own: tuple[Any, ...] = ()  # of the execution itself: what must not change in between
    context: tuple[int, int] = (0, 0)  # the newest version there


class Changes(msgspec.Struct, frozen=True):
    """What is new in an execution. `cells` are bare: see `bare`; the own cell comes without inputs, output
    and options. `last_log` is the id of its newest line, 0 if it has none."""

    own: ExecutionCell
    owner: Owner | None
    stale: bool
    cells: list[NodeState]
    context: list[ContextCell]
    last_log: int
    mark: Mark  # for the next call
    complete: bool = False  # these are all cells that there are
    tally: Tally | None = None  # if they were counted instead


NEWEST = 40
"""About so many cells come where all that are new are counted."""


class Tally(msgspec.Struct, frozen=True):
    """How many nodes of an execution have a cell in which status, without what else is in them: of an
    iteration the newest attempt counts. `groups` are by the path of what a node is in: "" is the diagram, a
    sub-diagram has its own path, and a map stands for all that is inside of its items. Where a composite is
    tried again, its nodes may count twice for a while. `row`, `ended` and `open` are the store's own."""

    groups: dict[str, dict[str, int]] = {}
    row: int = 0  # the newest that is counted
    ended: dict[str, dict[str, int]] = {}  # what of `groups` stays
    open: list[int] = []  # rows that may still change

    def then(self, row: int, counted: Iterable[tuple[str, str, int, list[int]]]) -> Tally:
        """What follows: groups, statuses, numbers, and which rows of them may still change."""
        groups, ended, opened = _copied(self.ended), _copied(self.ended), list[int]()
        for path, status, number, rows in counted:
            for one in (groups,) if rows else (groups, ended):
                counts = one.setdefault(path, {})
                counts[status] = counts.get(status, 0) + number
            opened += rows
        return Tally(groups, max(row, self.row), ended, opened)


def group_of(path: str) -> str:
    """In what a `Tally` counts a node."""
    around, bracket, _ = path.partition("[")
    return around if bracket else path.rpartition("/")[0]


def _copied(groups: Mapping[str, dict[str, int]]) -> dict[str, dict[str, int]]:
    return {path: dict(counts) for path, counts in groups.items()}


def bare(cell: NodeState) -> NodeState:
    """A cell for those who look on: in place of an output there is b"", in place of a map's items their
    number, encoded, in place of its meta the gist of its steps, and no traceback."""
    if cell.output is None and cell.meta is None and cell.items is None and cell.error is None:
        return cell
    error = cell.error
    return msgspec.structs.replace(
        cell, output=None if cell.output is None else b"", meta=gist(cell.meta, cell.attempt),
        items=items_count(cell.items),
        error=None if error is None else ErrorInfo(error.type, error.message, node=error.node))


def head_of(cell: ExecutionCell) -> ExecutionCell:
    """An execution's own cell for those who look on: without inputs, options and output."""
    return msgspec.structs.replace(cell, inputs=b"{}", options=b"{}", output=None, blob=None)


def items_count(items: bytes | None) -> bytes | None:
    """How many items a map has, encoded; None for a sub-diagram, whose inputs stand there."""
    if items is None or not items.startswith(b"["):
        return items if items is not None and items.isdigit() else None
    return str(len(msgspec.json.decode(items, type=list[msgspec.Raw]))).encode()


class Store(Protocol):
    """Where cells live."""

    url: str

    @property
    def place(self) -> Place:
        """Where bodies leave what is too large for memory; `blob` and `open_blob` find it, too."""

    def place_of(self, execution_id: str) -> Place:
        """The same as one execution has it."""

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        """Write a new execution with the source of its diagram, already claimed (epoch 1); durable on return.
        ValueError if the id is taken."""

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        """Take an execution over: epoch + 1, durable on return. A live owner elsewhere: `LeaseHeld` that
        names it. An owner on this host that is dead by boot id, pid and start time has lost its lease at
        once."""

    def redraw(self, lease: Lease, cell: ExecutionCell, source: str) -> None:
        """Give a claimed execution the diagram and the inputs of `cell`, its next one; durable on return.
        `LeaseLost` if the lease is not ours any more."""

    def adopt(self, cell: ExecutionCell, cells: Sequence[NodeState], source: str, *,
              signals: Sequence[Signal] = (), blobs: Sequence[Arriving] = (),
              logs: Sequence[LogLine] = (), context: Sequence[ContextCell] = ()) -> None:
        """Write an execution as another store has it, in one transaction; durable on return. Nobody holds
        it, and the next claim's epoch is above those of all its cells. ValueError if the id is taken,
        StoreCorrupt if a blob isn't what its digest says; then nothing is written but, at most, blobs that no
        cell names."""

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

    def context(self, execution_id: str) -> list[ContextCell]:
        """The cells of an execution's shared context, deleted keys too, by key; none if there is no such
        execution."""

    def changes(self, execution_id: str, since: Mark | None = None, *, cells: bool = True,
                whole: bool = False, counted: Tally | None = None) -> Changes:
        """What an execution has become since the last call, whose mark is `since` (None: all of it), as of
        one moment. Cells may come again; of each key the last counts. Without `cells` none are read, and the
        mark stays where it was with them. `whole` cells have all their fields.

        With `counted`, what was counted before, cells that are new are counted, too, and only the newest come
        (`NEWEST`), unless all do: for those who look on while there are more than can be read. The mark stays
        where it was with them. NoSuchExecution."""

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None, bare: bool = False) -> list[Summary]:
        """The newest executions first; with `before`, an id, those that follow it, and none if it is gone.
        `bare`: without inputs, options and outputs, and without the numbers of nodes, which take a look at
        every cell."""

    def summary(self, execution_id: str) -> Summary:
        """One execution's line; `NoSuchExecution` with the nearest id. A unique prefix of an id is enough."""

    def sizes(self, execution_ids: Sequence[str]) -> dict[str, int]:
        """About how many bytes each of these executions takes, those that are there: its cells, its context,
        its logs, and the blobs that it names, which count in full for each that names them."""

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

    def cached(self, key: str) -> Cached | None:
        """A result by the digest of all that it depends on."""

    def cached_results(self, node: str | None = None) -> list[Cached]:
        """What is there for `cache: true`, the newest first, without the outputs. A `node` stands for its
        items and inner nodes too."""

    def forget(self, keys: Iterable[str]) -> None:
        """Give up results that were kept for `cache: true`; durable on return."""

    def blob(self, digest: str) -> bytes:
        """A blob by its SHA-256; KeyError if there is none."""

    def open_blob(self, digest: str) -> IO[bytes]:
        """The same as a file to read, for one that is too large to hold. It is not compared with its
        digest."""

    def logs(self, execution_id: str, *, node: str | None = None, attempt: int | None = None,
             since: tuple[float, int] | None = None, limit: int = LOG_LINES) -> list[LogLine]:
        """What bodies printed and logged, in the order of their times; `since` is (time, id) of the line to
        go on after. A `node` stands for what is in it too: its items, its inner nodes."""

    def new_logs(self, execution_id: str, after: int, *, node: str | None = None, attempt: int | None = None,
                 limit: int = LOG_LINES) -> list[LogLine]:
        """The same for lines that were recorded after the one with the id `after`, in the order in which they
        were."""

    def prune(self, policy: Retention, now: float, *, thorough: bool = True, dry_run: bool = False,
              every_s: float = 0.0, between: Between | None = None) -> Pruned:
        """Delete the executions that break a policy at `now` (seconds since 1970), with all that is theirs,
        and the blobs and diagrams that nothing names any more; with `thorough` also those that nothing named
        before. Never one whose lease is held, nor the parent of one that is held or hasn't ended. With
        `every_s` it does nothing if another prune with it, in any process, was less than so many seconds
        ago, and is thorough if that one was ended.

        Any thread but the event loop's may call it while others write: they wait for single portions only.
        `between` is called between those; when it returns False, the prune ends with what it has done. Killed
        in the middle it leaves a whole store."""

    def close(self) -> None:
        """Release files and connections; a second call does nothing."""
