"""The engine: opens a store, starts and resumes executions, and leaves nothing behind.

    async with Engine.open("sqlite:///runs.db") as engine:
        handle = await engine.start("diagram.yaml", topic="weather")
        print(await handle.result())

Leaving the `with` is the shutdown: what still runs is interrupted (its cells stay `running`, a resume goes
on), the last batch is committed, the file is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import weakref
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from treadle.aio.resources import attach
from treadle.clock import Clock
from treadle.config import DEFAULT_CONFIG, Retention, TreadleConfig
from treadle.crypto.secrets import SecretStore
from treadle.diagram.diagram import ExecutableArrow, ExecutableDiagram
from treadle.engine import recover as recovery
from treadle.engine import secret, shared, sources
from treadle.engine.actor import NodeActor, Work
from treadle.engine.application import ApplicationContext
from treadle.engine.bus import EventBus, Inline
from treadle.engine.composite import complete_inputs, together
from treadle.engine.forked import Guard
from treadle.engine.handle import Handle
from treadle.engine.plan import Plan
from treadle.engine.prepared import Diagrams, options_for
from treadle.engine.resolver import RuntimeResolver
from treadle.engine.retention import Keeper
from treadle.engine.runner import WorkflowRunner
from treadle.engine.services import CLOCK, EVENT_BUS, NODES, STATE_MANAGER, ServiceRegistry
from treadle.engine.sources import Drawn
from treadle.engine.values import Values
from treadle.errors import LeaseLost, StoreError, TreadleError
from treadle.kernel.execution import Kernel
from treadle.nodes.base import Executor
from treadle.nodes.modules import Importing
from treadle.nodes.people.offline.standins import standins
from treadle.nodes.registry import NodeRegistry, default_registry
from treadle.state import codec
from treadle.state.cell import ExecutionCell, ExecutionState, NodeState
from treadle.state.context import Mutation, of_bodies
from treadle.state.status import ExecutionStatus
from treadle.store.base import LOG_LINES, LogLine, Signal, Store, Summary
from treadle.undo import undone_async

if TYPE_CHECKING:
    from treadle.engine.executor import Executors
    from treadle.engine.lifecycle import Lifecycle
    from treadle.hooks.manager import PluginManager
    from treadle.store.history import HistoryWriter
    from treadle.store.manager import StateManager

logger = logging.getLogger("treadle.engine")

Durability = Literal["batched", "strict", "memory"]
_numbers = count(1)


class Tools(msgspec.Struct, frozen=True):
    """What every runner uses all the time."""

    now: Callable[[], float]
    put: Callable[[WorkflowRunner, Work], None]
    breathe: Callable[[], Coroutine[Any, Any, None]]
    value: Callable[[NodeState], Any]
    encode: Callable[[Any], bytes]
    resolve: Callable[[Sequence[tuple[ExecutableArrow, Any]]], dict[str, Any]]
    bus: EventBus
    manager: StateManager | None
    take: Callable[..., int] | None  # the state manager's front: a step's cells in, a ticket out


class Engine:
    """Runs executions on one event loop and one store. Make it with `Engine.open`."""

    def __init__(self, url: str | None = None, *, config: TreadleConfig = DEFAULT_CONFIG,
                 durability: Durability = "batched", clock: Clock | None = None,
                 registry: NodeRegistry | None = None, services: ServiceRegistry | None = None,
                 recover: bool = False, check: bool = False, retention: Retention | None = None,
                 observers: Iterable[Inline] = (), plugins: PluginManager | Iterable[object] = (),
                 environment_vars: Mapping[str, str] | None = None, secret_store: str | None = None,
                 state_history: str | Path | None = None, state_encryption_key: str | None = None,
                 script: Mapping[str, Any] | str | Path | None = None, record: str | Path | None = None,
                 replay: str | Path | None = None) -> None:
        if durability not in ("batched", "strict", "memory"):
            raise ValueError(f"durability {durability!r}: choose batched, strict or memory")
        self._app = ApplicationContext(url, config=config, clock=clock, services=services,
                                       durable=durability != "memory", key=state_encryption_key)
        self.services, self.kept = self._app.services, self._app.kept
        self.config = config = self._app.config
        self.durability = durability
        self.number = next(_numbers)  # its own in this process: its events carry it, for a bus that is shared
        self.clock: Clock = self.services.resolve(CLOCK)
        self.registry = registry or self.services.get(NODES) or default_registry()
        self.services.register(NODES, self.registry)
        self.bus = self.services.resolve(EVENT_BUS)
        self.diagrams = Diagrams(self.registry)
        self.environment_vars, self.secret_store = dict(environment_vars or {}), secret_store
        self.resolver = RuntimeResolver(self.registry.transforms, config, self.registry.content_type)
        self.manager: StateManager | None = None
        self.recovered: list[Handle] = []
        self.on_mutation: Callable[[Mutation], str | None] | None = None  # may veto writes to contexts
        self._recover, self._check = recover, check
        self._observers = tuple(observers)
        self._lifecycle: Lifecycle | None = None
        if plugins:
            from treadle.engine.lifecycle import plug_in  # for those who have some

            self._lifecycle = plug_in(self, plugins)
            self._app.at_the_end(self._lifecycle.close)
        self.standins = standins(script, record, replay)
        self.history: HistoryWriter | None = None
        self._history_folder, self._retention = state_history, retention
        self._keeper: Keeper | None = None
        self._executors: Executors | None = None
        self._runners: dict[str, WorkflowRunner] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._resuming: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()
        self._signals = 0  # ids of signals in durability `memory`
        self._listening = False
        self._open = False

    @classmethod
    def open(cls, url: str | None = None, *, config: TreadleConfig = DEFAULT_CONFIG,
             durability: Durability = "batched", clock: Clock | None = None,
             registry: NodeRegistry | None = None, services: ServiceRegistry | None = None,
             recover: bool = False, check: bool = False, retention: Retention | None = None,
             observers: Iterable[Inline] = (), plugins: PluginManager | Iterable[object] = (),
             environment_vars: Mapping[str, str] | None = None, secret_store: str | None = None,
             state_history: str | Path | None = None, state_encryption_key: str | None = None,
             script: Mapping[str, Any] | str | Path | None = None, record: str | Path | None = None,
             replay: str | Path | None = None) -> Engine:
        """An engine for `async with`. `url` is a store's (None: the default store).

        `recover` takes over executions whose owner is gone (`engine.recovered`). `check` tests all
        invariants of the kernel after every step: slow, for tests. By `retention` the store is pruned in
        the background, after executions have ended, at most once an hour. `observers` are called with every
        event, for those who need no bus: plain functions, quick ones. `plugins` are instances of
        `StateHook`, or what `PluginManager.discover` found. `environment_vars` and `secret_store` go before
        those of a diagram. `state_history` is a folder for the states of executions as files, and
        `state_encryption_key` encrypts them and the store: see `open_store`. By `script`, persons say what
        a list or a function of theirs says (a map, or a file's path); calls of models are written into the
        folder `record`, or read from the folder `replay`.
        """
        return cls(url, config=config, durability=durability, clock=clock, registry=registry,
                   services=services, recover=recover, check=check, retention=retention,
                   observers=observers, plugins=plugins, environment_vars=environment_vars,
                   secret_store=secret_store, state_history=state_history,
                   state_encryption_key=state_encryption_key, script=script, record=record, replay=replay)

    async def __aenter__(self) -> Engine:
        if self._open:
            raise TreadleError("this engine is open already")
        if Importing.program:
            raise TreadleError("the program runs a diagram while a child process imports it: put that part "
                               "under `if __name__ == '__main__':`")
        self.loop = asyncio.get_running_loop()
        await self._app.start()
        resources = self._app.resources
        state = None
        if self.durability != "memory":
            state = self.services.resolve(STATE_MANAGER)
            self.manager = self.diagrams.manager = state.manager
            self.manager.on_lost(self._on_lost)
            self.manager.on_dead(self._on_dead)
            if self._retention:
                self._keeper = resources.register(Keeper(self.manager, self._retention, self.clock.now))
        self.values = Values(self.manager, self.config)
        self.actors = NodeActor(turn_s=self.config.turn_ms_max / 1000, grace_s=self.config.cancel_s_max,
                                manager=self.manager)
        self.tools = Tools(self.clock.now, self.actors.put, self.actors.breathe, self.values.value,
                           self.values.encode, self.resolver.inputs, self.bus, self.manager,
                           None if state is None else state.take)
        if self._history_folder is not None and self.manager is not None:
            from treadle.engine.history import keep  # for those who want one

            self.history = keep(self, Path(self._history_folder), self.manager, resources)
        for observer in self._observers:
            resources.register(self.bus.subscribe(observer, queued=False, engine=self.number))
        resources.add_cleanup(self._end_executors)
        resources.add_cleanup(self._end_actors)
        resources.register(Guard(self.loop, self._runners))
        async with undone_async(self.__aexit__, None, None, None):
            if self._lifecycle is not None:
                self._lifecycle.open()
            self._open = True
            if self._recover:
                self.recovered = await recovery.recover(self)
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        closing = self.loop.create_task(self._close(), name="treadle engine close")
        cancelled = None
        while not closing.done():  # a second Ctrl-C must not cut the last flush short
            try:
                await asyncio.wait({closing})
            except asyncio.CancelledError as again:
                cancelled = again
        problem, primary = closing.exception(), error or cancelled
        if problem is not None and primary is not None:
            attach(primary, problem)
        elif problem is not None:
            raise problem
        if cancelled is not None and error is None:
            raise cancelled

    async def _close(self) -> None:
        self._open = False
        for runner in list(self._runners.values()):
            runner.interrupt()
        patience = self.config.shutdown_s_max
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self._tasks:  # some have others follow
                    await asyncio.wait(set(self._tasks))
        if self._runners and self.manager is not None:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(patience):
                    await self.manager.flush()
        try:
            if self.history is not None:  # as long as it takes: many files are written after the run
                await self.bus.drain()
                await self.history.drain()
            await self._app.stop()
        finally:
            for task in list(self._tasks):
                task.cancel()
            self.diagrams.close()

    async def _end_actors(self) -> None:
        left = await self.actors.close(self.config.cancel_s_max)
        if left:
            logger.warning("the engine closes with %d bodies that ignore their cancellation", left)

    async def _end_executors(self) -> None:
        if self._executors is not None:
            await self._executors.close()

    # Executions

    async def start(self, diagram: Drawn, given: Mapping[str, Any] | None = None, /, *,
                    execution_id: str | None = None, **inputs: Any) -> Handle:
        """Start an execution; returns when its row is committed. Inputs come by name, or in the map `given`,
        whose names may be any text; of two for one input the one by name counts.

        Raises InvalidDiagram, InvalidInput, StoreError; ValueError if the id is taken.
        """
        self._require_open()
        compiled, prepared = await self.diagrams.prepare(diagram)
        if self.standins:
            self.standins.check(compiled)
        complete = complete_inputs(compiled.inputs, together(given, inputs), f"diagram {compiled.name!r}",
                                   known_only=not compiled.spec.open)
        cell = ExecutionCell(
            execution_id or self.clock.new_execution_id(), epoch=1, name=compiled.name,
            diagram=prepared.digest, inputs=codec.encode(complete),
            created_at=self.clock.now(), options=options_for(self, compiled))
        known = await secret.prime(self, compiled, cell)
        if self._lifecycle is not None:
            await self._lifecycle.initialise(cell, compiled, complete)
        if self.manager is not None:
            lease = await self.manager.create(cell, prepared.source,
                                              draw=lambda: sources.source_of(compiled.spec))
            prepared.source = ""
            cell = msgspec.structs.replace(cell, epoch=lease.epoch)
        elif cell.execution_id in self._runners:
            raise ValueError(f"execution {cell.execution_id} exists already")
        runner = self._runner(compiled, cell, known)
        handle = Handle(self, runner)
        runner.start()
        return handle

    @property
    def active_plugins(self) -> list[str]:
        """`Name@version` of each, in their order."""
        return [] if self._lifecycle is None else self._lifecycle.plugins.active

    async def initialise(self, cell: ExecutionCell, diagram: ExecutableDiagram,
                         inputs: Mapping[str, Any]) -> None:
        """Ask the plugins whether an execution may be made: PluginError if one refuses."""
        if self._lifecycle is not None:
            await self._lifecycle.initialise(cell, diagram, inputs)

    def secret_stores(self) -> Mapping[str, Callable[[str], SecretStore]]:
        """What opens the stores of secrets that plugins bring, by scheme."""
        return {} if self._lifecycle is None else self._lifecycle.plugins.secret_stores()

    async def resume(self, execution_id: str, *, diagram: Drawn | None = None,
                     strict: bool = False) -> Handle:
        """Go on with an execution that was interrupted, crashed, is suspended, failed or was cancelled.

        It runs the diagram that it was started with, or the edited one that is handed in (as must one whose
        functions can't be imported again): nodes whose lineage has changed are performed anew, the others are
        kept (`plan` says which). With `strict` a change is refused (DiagramChanged). A completed execution is
        run again only where an edited diagram differs; else its handle has the result. Raises
        NoSuchExecution, LeaseHeld that names the owner, InvalidDiagram, InvalidInput.
        """
        self._require_open()
        async with self._resuming.setdefault(execution_id, asyncio.Lock()):
            running = self._runners.get(execution_id)  # of two at once, the second finds the first's
            if running is not None:
                return Handle(self, running)
            handle = await recovery.resume(self, execution_id, diagram, strict=strict)
        if self.history is not None:  # of one that had completed, too
            self.history.complete(handle.execution_id)
        return handle

    async def plan(self, execution_id: str, *, diagram: Drawn | None = None) -> Plan:
        """What a resume with this diagram would keep, and what it would do again and why. Nothing is
        written."""
        self._require_open()
        return await recovery.plan(self, execution_id, diagram)

    async def fork(self, execution_id: str, given: Mapping[str, Any] | None = None, /, *,
                   at: str | None = None, diagram: Drawn | None = None, fork_id: str | None = None,
                   **inputs: Any) -> Handle:
        """Start a new execution from a point of an old one, which stays as it is.

        What is recorded before the node `at` (a path: `report`, `parse[17]`, `sub/inner`) is taken over; that
        node, the whole of a loop that it is in, and what follows are performed. Without `at` it begins where
        changed `inputs` may be seen, where an edited `diagram` differs, and where the old one had failed or
        not ended. Raises as `start` and `resume` do, NoSuchNode, and InvalidInput if nothing would differ.
        """
        self._require_open()
        return await recovery.fork(self, execution_id, at=at, given=together(given, inputs),
                                   diagram=diagram, new_id=fork_id)

    def compile(self, diagram: Drawn) -> ExecutableDiagram:
        """A diagram as it runs. Raises InvalidDiagram, OSError."""
        return self.diagrams.compile(diagram)

    def launch(self, diagram: ExecutableDiagram, cell: ExecutionCell, cells: list[NodeState], *, clean: bool,
               reopen: bool, signals: list[Signal], known: secret.Known) -> WorkflowRunner:
        """Go on with an execution whose lease is ours."""
        runner = self._runner(diagram, cell, known)
        runner.inbox.add(signals)
        runner.resume(cells, clean=clean, reopen=reopen)
        runner.inbox.match()
        return runner

    async def send(self, execution_id: str, kind: str, *, name: str = "", node: str = "", iteration: str = "",
                   value: Any = None) -> None:
        """Send an execution an answer, a signal or a wish to cancel; durable on return. NoSuchExecution."""
        payload = codec.encode(value)
        if len(payload) > self.config.signal_bytes_max:
            raise self.config.exceeded("signal_bytes_max", f"a {kind} of {len(payload)} bytes")
        signal = Signal(execution_id, kind, name, node, iteration, payload, at=self.clock.now())
        if self.manager is not None:
            number = await self.manager.call(self.manager.store.send, signal)
        else:
            number = self._signals = self._signals + 1
        runner = self._runners.get(execution_id)
        if runner is not None:
            runner.deliver([msgspec.structs.replace(signal, id=number)])

    def handle(self, execution_id: str) -> Handle | None:
        """The handle of an execution that runs here; None for one that ended, or runs elsewhere or nowhere
        (`resume` goes on with that)."""
        runner = self._runners.get(execution_id)
        return None if runner is None else Handle(self, runner)

    async def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None,
                         limit: int = 100) -> list[Summary]:
        """What the store has, the newest first. TreadleError in durability `memory`."""
        store = self.store
        assert self.manager is not None
        return await self.manager.read(partial(store.executions, status=status, name=name, limit=limit))

    async def state(self, execution_id: str) -> ExecutionState:
        """Everything known of an execution: a read right after an update sees it, without waiting for the
        disk. What is read is cached (`state_cache_ttl_s`). NoSuchExecution; TreadleError in durability
        `memory`."""
        if self.manager is None:
            raise TreadleError("durability `memory` has no store")
        state = (await self.manager.cache.get(execution_id)).state()
        assert state is not None
        runner = self._runners.get(execution_id)
        cells = (shared.cells(runner) if runner is not None else
                 await self.manager.read(self.manager.store.context, execution_id))
        state.context = {cell.key: cell for cell in of_bodies(cells) if cell.value is not None}
        return state

    async def logs(self, execution_id: str, *, node: str | None = None, attempt: int | None = None,
                   since: LogLine | None = None, limit: int = LOG_LINES) -> list[LogLine]:
        """What bodies of an execution have printed and logged, in order, at most `limit` lines; `since` is
        the line to go on after. A `node` (a path) stands for its items and inner nodes, too. NoSuchExecution;
        TreadleError in durability `memory`."""
        store = self.store
        assert self.manager is not None
        await self.manager.flush()
        name = (await self.manager.read(store.summary, execution_id)).cell.execution_id
        read = partial(store.logs, node=node, attempt=attempt, limit=limit,
                       since=None if since is None else (since.at, since.id))
        return await self.manager.read(read, name)

    # What runners need

    def _runner(self, diagram: ExecutableDiagram, cell: ExecutionCell, known: secret.Known) -> WorkflowRunner:
        kernel = Kernel(diagram, cell, concurrency=self.config.concurrency, check=self._check)
        runner = WorkflowRunner(self, kernel, strict=self.durability == "strict")
        self._runners[cell.execution_id] = secret.begin(runner, known)
        if self.manager is not None and len(self._runners) == 1:
            self.manager.watch(self._on_signal)
        return runner

    def executor(self, isolation: str) -> Executor:
        """Where bodies with that isolation run."""
        if self._executors is None:
            from treadle.engine.executor import Executors  # pools are for those who need them

            self._executors = Executors(self.config)
        return self._executors.get(isolation)

    def care(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run something to its end within the engine's life."""
        task = self.loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def left(self, runner: WorkflowRunner) -> None:
        """A runner is done with its execution."""
        if self._runners.get(runner.execution_id) is runner:
            del self._runners[runner.execution_id]
            if self.manager is not None and not self._runners:
                self.manager.watch(None)
            if self._lifecycle is not None:
                self.care(self._lifecycle.finalise(runner))
            if self._keeper is not None and runner.kernel.execution.status.terminal:
                self._keeper.ended()
        self.bus.finish(runner.execution_id, self.number)

    # What the state manager tells

    def _on_lost(self, execution_id: str, epoch: int) -> None:
        runner = self._runners.get(execution_id)
        if runner is not None:
            runner.lost(LeaseLost.to(execution_id, epoch))

    def _on_dead(self, error: BaseException) -> None:
        for runner in list(self._runners.values()):
            runner.lost(StoreError(f"the writer of the store died: {type(error).__name__}: {error}"))

    def _on_signal(self) -> None:
        """Somebody sent a signal: it may be to one of ours."""
        if not self._listening:
            self._listening = True
            self.care(self._read_signals())

    async def _read_signals(self) -> None:
        manager = self.manager
        assert manager is not None
        self._listening = False
        for signal in await manager.read(manager.store.signals, list(self._runners)):
            runner = self._runners.get(signal.execution_id)
            if runner is not None:
                runner.deliver([signal])

    def _require_open(self) -> None:
        if not self._open:
            raise TreadleError(
                "this engine is not open: use it inside `async with Engine.open(…) as engine:`"
            )

    @property
    def store(self) -> Store:
        """The store behind the engine; TreadleError in durability `memory`, which has none."""
        if self.manager is None:
            raise TreadleError("durability `memory` has no store: to look on from outside open the engine "
                               "on the store `memory:`, Engine.open(\"memory:\")")
        return self.manager.store

    @property
    def pruned(self) -> int:
        """How many executions the retention policy has deleted so far."""
        return 0 if self._keeper is None else self._keeper.pruned

    @property
    def running(self) -> Mapping[str, ExecutionStatus]:
        """The executions that this engine runs."""
        return {name: runner.kernel.execution.status for name, runner in self._runners.items()}
