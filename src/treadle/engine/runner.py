"""One execution at work: facts in, steps journalled, published, obeyed, in this order (law 2).

`WorkflowRunner.take` is the whole of it. What a step's commands ask for is done elsewhere: bodies by actors,
waiting by timers, answers by the inbox.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import cached_property, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, assert_never

from treadle import failpoints
from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram, ExecutableNode
from treadle.engine import cleaning, composite, leaving, outputs, shared
from treadle.engine.actor import Performance, Work
from treadle.engine.bus import OF_EXECUTION, Event, EventType
from treadle.engine.context import NodeContext
from treadle.engine.executor import error_info
from treadle.engine.fold import Fold, go_on
from treadle.engine.inbox import Inbox
from treadle.engine.scope import Scope
from treadle.engine.steps import Recorder, Remembered
from treadle.engine.timers import Timers
from treadle.engine.tracker import ExecutionTracker
from treadle.engine.values import SHARED_BYTES_MIN, Absent, decode
from treadle.errors import (
    ExpressionError,
    InvalidInput,
    LimitExceeded,
    NoSuchNode,
    NotDecodable,
    NotEncodable,
    StoreError,
)
from treadle.foreign import attempt
from treadle.kernel import facts
from treadle.kernel.commands import Cancel, Close, Expand, Gather, Perform, Step, Wake
from treadle.kernel.control import WIDE
from treadle.kernel.execution import Kernel
from treadle.nodes.base import Executor, Suspend
from treadle.once import once
from treadle.state import codec
from treadle.state.blob import Place
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.context import SharedContext
from treadle.state.envelope import Envelope
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import spent_by
from treadle.store.base import Signal

if TYPE_CHECKING:
    from treadle.crypto.redaction import Redactor
    from treadle.engine.engine import Engine

logger = logging.getLogger("treadle.engine")

_FOLD_EVERY = 4096
_FINAL = (ExpressionError, InvalidInput, LimitExceeded, NotEncodable)  # the next attempt would end alike


class WorkflowRunner:
    """Runs one execution of one diagram on an engine.

    `done` is set with the status in which the runner left the execution: one of the terminal ones,
    `suspended` (the lease is given back) or `running` (interrupted; a resume goes on). It raises LeaseLost
    or StoreError if the execution was taken away from us.
    """

    __slots__ = (
        "__dict__", "__weakref__", "_bodies", "_bus", "_encode", "_holding", "_inline_bytes_max",
        "_performing", "_prepared", "_published", "_put", "_resolve", "_self_timed", "_steps", "_strict",
        "_take", "_ticket", "_untold", "_value", "blobs", "breathe", "by_reference", "config", "done",
        "ended", "engine", "execution_id", "folds", "kernel", "manager", "now", "parking", "quiet",
        "recorders", "spent", "suspended_bodies", "touched", "values")

    redactor: Redactor | None = None
    """Knows the secrets that its bodies have asked for, once one has."""

    def __init__(self, engine: Engine, kernel: Kernel, *, strict: bool) -> None:
        tools = engine.tools
        self.kernel = kernel
        self.engine = engine
        self.config = engine.config
        self.values = engine.values
        self.by_reference = tools.manager is None
        self.execution_id = kernel.execution.execution_id
        self.done: asyncio.Future[ExecutionStatus] = engine.loop.create_future()
        self.ended = False  # takes no more facts
        self.touched = False  # whether any command was cancelled: only then commands can be out of date
        self.breathe, self.now = tools.breathe, tools.now
        self.manager, self._bus = tools.manager, tools.bus
        self._take = tools.take
        self._put, self._value, self._resolve = tools.put, tools.value, tools.resolve
        self._encode, self._inline_bytes_max = tools.encode, engine.config.output_inline_bytes_max
        self._strict = strict and tools.manager is not None
        self._prepared = engine.diagrams.of(kernel.diagram)
        self._bodies = self._prepared.bodies
        self._published = kernel.execution
        self._ticket = 0
        self._steps = 0
        self.parking = False  # about to give a suspended execution back
        self._holding = False  # a resume's first steps wait for the disk
        self._performing: dict[int, Performance] = {}
        self._self_timed: set[int] = set()
        self.blobs: list[tuple[str, bytes]] = []
        self.folds: dict[int, Fold] = {}  # of maps that fold their results, by slot
        self.recorders: dict[int, Recorder] = {}  # of bodies that record steps, by slot
        self.spent = {"tokens": 0.0, "cost": 0.0}  # what all recorded steps have taken
        self._untold: list[NodeState] = []  # cells that the tracker has not been told
        self.suspended_bodies = 0  # bodies that are suspended
        self.quiet: asyncio.Future[None] | None = None  # somebody waits until there is none

    # Made when they are needed: most executions are short, and there may be thousands of them

    @cached_property
    def inbox(self) -> Inbox:
        return Inbox(self)

    @property
    def shared(self) -> SharedContext:
        """The execution's artifacts and variables; any thread may ask."""
        return shared.context_of(self)

    @once
    def place(self) -> Place:
        """Where its blobs are."""
        return self.values.place_of(self.execution_id)

    @cached_property
    def remembered(self) -> Remembered:
        """What its bodies have recorded."""
        return Remembered(self.kernel)

    @cached_property
    def scope(self) -> Scope:
        return Scope(self)

    @cached_property
    def timers(self) -> Timers:
        return Timers(self.engine.loop, self.now, self._woken)

    @cached_property
    def _tracker(self) -> ExecutionTracker:
        return ExecutionTracker(partial(_predecessors, self.kernel.diagram))

    @property
    def tracker(self) -> ExecutionTracker:
        """The figures of this execution, as far as this process has run it."""
        self._tracker.consume(self._untold)
        self._untold = []
        return self._tracker

    # Facts in, one step out

    def start(self) -> None:
        """Begin a new execution."""
        self.take(facts.Started(self.now()))

    def resume(self, cells: Iterable[NodeState], *, clean: bool, reopen: bool) -> None:
        """Go on with a recorded one.

        Its bodies wait until their new claims are on disk, so that one which takes the process down is
        counted even if it does so at once; what comes meanwhile waits behind them.
        """
        self._holding = self.manager is not None
        self.spent = spent_by(cells := list(cells))
        self._step(self.kernel.resume(cells, self.now(), clean=clean, reopen=reopen), ())
        if self.manager is not None:
            self.manager.when_durable(self._ticket, self._let_go)
            self.engine.care(self.manager.flush())

    def _let_go(self) -> None:
        self._holding = False

    def take(self, fact: facts.Fact, consumed: Sequence[int] = ()) -> None:
        """Tell the kernel a fact and do what follows from it. `consumed` are the signals that the fact used
        up."""
        if not self.ended:
            self._guarded(self._handle, fact, consumed)

    def _handle(self, fact: facts.Fact, consumed: Sequence[int]) -> None:
        self._step(self.kernel.handle(fact), consumed)

    def _guarded(self, act: Callable[..., None], *given: Any) -> None:
        _, error = attempt(act, *given)
        if error is not None:  # ours, or the store's: loud, and only this execution
            self.broken(error)

    def _step(self, step: Step, consumed: Sequence[int]) -> None:
        execution = None if step.execution is None else outputs.with_output(self, step.execution)
        take = self._take
        if take is not None:
            if self.blobs or consumed:
                blobs, self.blobs = self.blobs, []
                self._ticket = take(step.cells, execution, consumed=consumed, blobs=blobs,
                                    strict=self._strict)
            elif step.cells or execution is not None:
                self._ticket = take(step.cells, execution, strict=self._strict)
            if self._strict or self._holding:
                assert self.manager is not None
                self.manager.when_durable(self._ticket, partial(self._guarded, self._follow, step, execution))
                return
        self._follow(step, execution)

    def _follow(self, step: Step, execution: ExecutionCell | None) -> None:
        """Publish a step and obey its commands."""
        if self.ended:
            return
        if execution is not None and self.done.done():  # it was suspended in memory, and goes on
            self.done = self.engine.loop.create_future()
        if failpoints.armed:
            failpoints.hit("publish.before")
        self._untold.extend(step.cells)
        self._steps += 1
        if not self._steps % _FOLD_EVERY:
            self.tracker.fold()
        if self._bus.wanted:
            self._publish(step, execution)
        if failpoints.armed:
            failpoints.hit("publish.after")
        put = self._put
        for command in step.commands:
            kind = type(command)
            if kind is Perform or kind is Expand or kind is Gather:  # nearly always: faster than the match
                put(self, command)  # type: ignore[arg-type]
            else:
                self._obey(command)

    def _publish(self, step: Step, execution: ExecutionCell | None) -> None:
        at, bus, news = self.now(), self._bus, None
        if execution is not None and execution.status is not self._published.status:
            kind = OF_EXECUTION[execution.status]
            news = Event(kind, self.execution_id, execution, self._published, at, self.engine.number)
            self._published = execution
        if news is not None and news.type is EventType.EXECUTION_STARTED:
            bus.publish(news)
        bus.announce(step.cells, step.before, at, self.engine.number)
        if news is not None and news.type is not EventType.EXECUTION_STARTED:
            bus.publish(news)

    def _obey(self, command: Perform | Expand | Gather | Wake | Cancel | Close) -> None:
        match command:
            case Perform() | Expand() | Gather():
                self._put(self, command)
            case Wake(slot, at):
                self.timers.set(slot, at)
            case Cancel(slot):
                self._cancel(slot)
            case Close(status):
                leaving.close(self, status)
            case _:
                assert_never(command)

    async def kept(self) -> None:
        """Return when the mode's promise holds for what was taken last: in `strict` it is on disk."""
        if self._strict and not self.ended:
            assert self.manager is not None
            done = asyncio.Event()
            self.manager.when_durable(self._ticket, done.set)
            await done.wait()

    # Bodies: what actors ask and tell

    def refuses(self, command: Work) -> bool:
        """Whether a command is out of date: the execution ended, or the node was cancelled meanwhile."""
        if self.ended:
            return True
        if not self.touched:
            return False
        try:
            cell = self.kernel.cell(command.slot)
        except NoSuchNode:
            return True
        if cell is None or command.slot not in self.recorders:
            return cell is not command.cell
        return cell.status is not NodeStatus.RUNNING or cell.key != command.cell.key

    def begin(self, command: Work) -> Coroutine[Any, Any, Any]:
        """The coroutine that performs a command. Raises what keeps a node from starting."""
        kernel, slot = self.kernel, command.slot
        if type(command) is Gather:
            return composite.gather(self, command)
        node, index, pairs = kernel.work(slot)
        if index is not None:
            shared = self.scope.shared_inputs(slot)
            if shared is not None:
                return self._start(command, node, shared[0], dict(shared[1]))
        if pairs is None:
            return self._begin_slowly(command, node)
        value = self._value
        try:
            values = [(arrow, value(cell)) for arrow, cell in pairs]
        except Absent:
            return self._begin_slowly(command, node)
        inputs = self._resolve(values)
        if index is not None and sum(len(cell.output or b"") for _, cell in pairs) >= SHARED_BYTES_MIN:
            self.scope.share_inputs(slot, values, inputs)
        return self._start(command, node, values, inputs)

    async def _begin_slowly(self, command: Work, node: ExecutableNode) -> Any:
        """The same with many or large inputs: in chunks, and with blobs read from the store."""
        values = []
        for start in range(0, self.kernel.width(command.slot), WIDE):
            for arrow, cell in self.kernel.inputs(command.slot, start, start + WIDE):
                value = await self.values.load(cell) if cell.blob is not None else self._value(cell)
                values.append((arrow, value))
            await self.breathe()
        inputs = self._resolve(values)
        await self.breathe()
        if self.kernel.item(command.slot) is not None:
            self.scope.share_inputs(command.slot, values, inputs)
        return await self._start(command, node, values, inputs)

    def _start(self, command: Work, node: ExecutableNode, values: list[tuple[ExecutableArrow, Any]],
               inputs: dict[str, Any]) -> Coroutine[Any, Any, Any]:
        context = NodeContext(self, command.slot, node, command.cell, values)
        if type(command) is Expand:
            return composite.expand(self, command, context, inputs)
        body = self._bodies.get(id(node)) or self.engine.diagrams.bind(self._prepared, node)
        return body(context, inputs)  # type: ignore[return-value]  # bind() made sure it is a coroutine's

    def returned(self, command: Work, started: float, result: Any) -> None:
        """A body returned: an envelope, a suspension, or (a composite's) a fact."""
        slot = command.slot
        if self.recorders and slot in self.recorders:
            result = self.recorders.pop(slot).returned(result)
        try:
            if type(result) is Envelope:
                raw, kind = self._encode(result.body), result.content_type
                if self.redactor is not None:
                    raw = cleaning.clean(self.redactor, raw)
                if result.meta or len(raw) > self._inline_bytes_max:
                    fact: facts.Fact = outputs.finished(self, slot, started, raw, result)
                else:
                    fact = facts.Finished(slot, self.now(), started, raw, None, None,
                                          None if kind == "object" else str(kind))
            elif isinstance(result, Suspend):
                request = codec.encode(result.request)
                if self.redactor is not None:
                    request = self.redactor.redact(request)
                fact = facts.Suspended(slot, self.now(), request, result.wake_at, started)
                self.take(fact)
                self.inbox.match()
                return
            elif isinstance(result, facts.Finished | facts.Expanded):
                fact = result
            else:
                raise TypeError(f"the strategy of type {self.kernel.node(slot).type!r} returned a "
                                f"{type(result).__name__}, not an Envelope or Suspend")
        except (NotEncodable, LimitExceeded, TypeError) as error:
            self.raised(command, started, error)
            return
        if not self.ended:
            self._step(self.kernel.handle(fact), ())
            if self.folds:
                go_on(self, slot)

    def raised(self, command: Work, started: float, error: BaseException) -> None:
        """A body failed."""
        if self.refuses(command):
            return
        if self.recorders and command.slot in self.recorders:
            self.recorders.pop(command.slot).raised(error)
        if isinstance(error, Absent):
            self.engine.care(self._reload(command, error.digest))
            return
        info = error_info(error, command.cell.node_id, self.config.error_bytes_max)
        if self.redactor is not None:
            info = cleaning.clean_error(self.redactor, info)
        self.take(facts.Failed(
            command.slot, self.now(), self.engine.clock.luck(), info,
            retryable=bool(getattr(error, "retryable", not isinstance(error, _FINAL))),
            started=started, delay=getattr(error, "retry_after", None)))

    async def _reload(self, command: Work, digest: str) -> None:
        """Perform a command again that met a blob which had left the memory meanwhile."""
        try:
            await self.values.raw(None, digest)
        except (NotDecodable, StoreError) as error:
            self.raised(command, self.now(), error)
        else:
            self._put(self, command)

    def suspended(self, command: Work, performance: Performance, started: float) -> None:
        """A body waits: keep what stops it, and let it time out if its node says so."""
        slot = command.slot
        self._performing[slot] = performance
        self.suspended_bodies += 1
        if type(command) is Perform and slot not in self._self_timed:
            timeout = self.kernel.node(slot).policy.timeout
            if timeout is not None:
                performance.limit(timeout, self.now() - started)

    def resumed(self, command: Work, performance: Performance) -> None:
        """The body that was kept is over."""
        if self._performing.get(command.slot) is performance:
            del self._performing[command.slot]
            if performance.cancelled and command.slot in self.recorders:
                self.recorders.pop(command.slot).end()
        self.suspended_bodies -= 1
        if not self.suspended_bodies and self.quiet is not None and not self.quiet.done():
            self.quiet.set_result(None)
        self._self_timed.discard(command.slot)

    def times_itself(self, slot: int) -> None:
        """An executor times this body, from its real start."""
        self._self_timed.add(slot)
        performance = self._performing.get(slot)
        if performance is not None:
            performance.limit(None, 0.0)

    def executor(self, isolation: str) -> Executor:
        return self.engine.executor(isolation)

    def performing(self, limit: int) -> list[str]:
        """The paths of bodies that are suspended: those that have waited longest, at most `limit`."""
        return [performance.path for performance in islice(self._performing.values(), limit)]

    # Timers, cancellation, the end

    def _woken(self, slot: int) -> None:
        if slot < 0:
            self.take(facts.Expired(self.now()))
        else:
            self.take(facts.Woken(slot, self.now(), self.engine.clock.luck()))

    def _cancel(self, slot: int) -> None:
        self.touched = True
        self.timers.cancel(slot)
        performance = self._performing.get(slot)
        if performance is not None:
            performance.cancel()

    def stop(self) -> None:
        """Take no more facts; stop timers and bodies."""
        self.ended = True
        if "timers" in self.__dict__:
            self.timers.clear()
        for performance in list(self._performing.values()):
            performance.cancel()

    def left(self, status: ExecutionStatus) -> None:
        """The execution is given back: tell who waits for it."""
        if "place" in self.__dict__:
            self.place.clear()
        if self.redactor is not None:
            self.engine.actors.capture.left(self.execution_id)
        self.engine.left(self)
        if not self.done.done():
            self.done.set_result(status)

    def interrupt(self) -> None:
        """Stop without an end: cells stay `running`, and a resume performs them again."""
        if not self.ended:
            self.stop()
            self.engine.care(leaving.leave(self, ExecutionStatus.RUNNING))

    def lost(self, error: BaseException) -> None:
        """Somebody else has the execution now, or nobody can write it: stop at once."""
        self.stop()
        shared.leave(self)
        self.engine.left(self)
        if not self.done.done():
            logger.error("execution %s stops: %s", self.execution_id, self._told(str(error)))
            self.done.set_exception(error)
            self.done.exception()  # it is told to whoever asks; nobody has to

    def discard(self, consumed: Sequence[int]) -> None:
        """Signals that can't be used are used up all the same."""
        if self.manager is not None:
            self._ticket = self.manager.record([], None, consumed=consumed)

    def broken(self, error: BaseException) -> None:
        """Something that must not happen happened: the execution stops, loudly; a resume goes on from the
        store."""
        logger.critical("execution %s stops: %s", self.execution_id,
                        self._told("".join(traceback.format_exception(error))))
        self.lost(error)

    def _told(self, text: str) -> str:
        """A text for our own log: it may quote what a body gave."""
        return text if self.redactor is None else self.redactor.text(text)

    def deliver(self, signals: Iterable[Signal]) -> None:
        """Take what came from outside."""
        self.inbox.add(signals)
        self.inbox.match()

    async def result(self) -> Any:
        """The execution's value: its endpoint's, or a map of several by id. Decoded afresh."""
        return decode(await composite.collect(self, self.kernel.results(), is_map=False))


def _predecessors(diagram: ExecutableDiagram, node_id: str) -> Sequence[str]:
    return [diagram.nodes[diagram.arrows[a].source].id for a in diagram.into[diagram.index[node_id]]]
