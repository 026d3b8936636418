"""The plugins of one engine, and what the engine tells them."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import PluginError
from treadle.hooks import registering
from treadle.hooks.calls import HookCall, Slow
from treadle.hooks.finding.discovery import Findings, Found, described, find
from treadle.hooks.lanes import Lane, LoopLane, ThreadLane
from treadle.hooks.specs import HOOKS, FinalReport, HookTimes, SecretStore
from treadle.state.cell import NodeState

if TYPE_CHECKING:
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.hooks.sdk import StateHook
    from treadle.state.cell import ExecutionState
    from treadle.state.context import Mutation, PipelineState

logger = logging.getLogger("treadle.plugins")

Secrets = Callable[[str], str]
"""`secret://NAME` → its value; LookupError or PluginError if it isn't there."""


class Happening(Protocol):
    """An event of the bus, as far as hooks are concerned."""

    @property
    def cell(self) -> object: ...
    @property
    def before(self) -> object: ...


class PluginManager:
    """Holds plugins and calls their hooks. Make one for each engine; without plugins it does nothing, and
    nothing is imported for it."""

    def __init__(self, plugins: Iterable[object] = (), *, config: TreadleConfig = DEFAULT_CONFIG,
                 secrets: Secrets | None = None) -> None:
        self.config, self.secrets = config, secrets
        self.notes: tuple[str, ...] = ()
        """What discovery found odd, and not wrong."""
        self._plugins: list[Found] = []
        self._calls: dict[str, tuple[HookCall, ...]] = {}
        self._slow = Slow()
        self._thread: ThreadLane | None = None
        self._loop: LoopLane | None = None
        self.register(*plugins)

    @classmethod
    def discover(cls, folder: Path | str | None = None, *, entry_points: bool = True,
                 config: TreadleConfig = DEFAULT_CONFIG, secrets: Secrets | None = None) -> PluginManager:
        """The plugins for diagrams of a folder (None: the working folder): of installed packages, of the
        folder `plugins` there, else of the working folder's, and what treadle.toml names of those that ship
        with Treadle. PluginError says all that is wrong, InvalidInput what is in treadle.toml."""
        findings = find(None if folder is None else Path(folder), entry_points=entry_points)
        made = put_in_order(findings)
        if findings.problems:
            raise PluginError("\n".join(findings.problems))
        manager = cls(config=config, secrets=secrets)
        manager.notes = tuple(findings.notes)
        manager._take(made)
        return manager

    def register(self, *plugins: object) -> None:
        """Add plugins: instances or subclasses of `StateHook`, or modules with marked functions. PluginError
        for what is wrong with one, also for what it requires and isn't there."""
        self._take([make(one, Findings()) for given in plugins for one in described(given)])

    def _take(self, made: list[Found]) -> None:
        if not made:
            return
        from treadle.hooks.finding.order import in_order
        from treadle.hooks.relay import calls_of

        plugins, wrong = in_order([*self._plugins, *made])
        if wrong:
            raise PluginError("\n".join(wrong))
        for one in made:
            if not isinstance(one.target, ModuleType):
                one.target.secrets = self.secrets
        known = {(call.plugin, call.hook): call for calls in self._calls.values() for call in calls}
        self._calls = {hook: tuple(known.get((call.plugin, call.hook), call) for call in calls)
                       for hook, calls in calls_of(plugins, self.config, self._slow).items()}
        self._plugins = plugins

    @property
    def active(self) -> list[str]:
        """`Name@version` of each plugin, in order."""
        return [str(one) for one in self._plugins]

    @property
    def plugins(self) -> Sequence[Found]:
        return tuple(self._plugins)

    def __bool__(self) -> bool:
        return bool(self._plugins)

    # Registration

    def install(self, registry: registering.Registry) -> None:
        """Register the plugins' types of nodes, transforms and content types; once, before the registry is
        used. PluginError names the plugin whose wish can't be met."""
        registering.register_content_types(self._asked("treadle_content_types"))
        registering.register_strategies(registry, self._asked("treadle_strategies"))
        registering.register_transforms(registry, self._asked("treadle_transforms"))

    def secret_stores(self) -> dict[str, Callable[[str], SecretStore]]:
        """What opens a store of secrets, by the scheme of its URL."""
        return registering.secret_stores(self._asked("treadle_secret_stores"))

    def commands(self) -> dict[str, Callable[..., Any]]:
        """Functions for the command line, by name."""
        return registering.commands(self._asked("treadle_commands"))

    def _asked(self, hook: str) -> list[tuple[str, Callable[[], Any]]]:
        return [(call.plugin, call.function) for call in self._calls.get(hook, ())]

    # The four phases

    async def initialize(self, pipeline: PipelineState, diagram: ExecutableDiagram,
                         inputs: Mapping[str, Any]) -> None:
        """Call `pre_state_initialize`, before the execution's row is made. PluginError with plugin and reason
        if one refuses the start."""
        calls = self._calls.get("pre_state_initialize")
        if calls:
            values = (pipeline, diagram, MappingProxyType(dict(inputs)))
            await self._thread_lane().ask(partial(_may_start, calls, values, pipeline.id), first=True)

    @property
    def listener(self) -> Listener | None:
        """What the bus should tell of transitions of nodes, as a queued consumer; None if no plugin wants
        them."""
        calls = self._calls.get("post_node_execute")
        return Listener(self, calls) if calls else None

    @property
    def vetoes(self) -> bool:
        """Whether a plugin wants to see transactions."""
        return bool(self._calls.get("pre_state_mutation"))

    def veto(self, transaction: Mutation) -> str | None:
        """Call `pre_state_mutation` in this thread: why the transaction must not commit, with the plugin's
        name, or None."""
        calls = self._calls.get("pre_state_mutation")
        if not calls:
            return None
        from treadle.hooks.sdk import Veto

        seen = msgspec.structs.replace(transaction, changes=MappingProxyType(dict(transaction.changes)))
        for call in calls:
            if call.active:
                try:
                    reason = call((seen,), transaction.execution_id)
                except Veto as veto:
                    reason = str(veto) or "it gave no reason"
                if reason is not None:
                    return f"{call.plugin}: {reason}"
        return None

    async def finalize(self, state: ExecutionState, metrics: Any = None,
                       warnings: Iterable[str] = ()) -> FinalReport:
        """Call `post_state_finalize` once every hook has seen what the bus has told so far (drain the bus
        before), and return when it was called: the report that it got."""
        await self._seen()
        warned = [*warnings, *(f"{one.plugin} {one.hook} raised {one.errors} times"
                               + ("" if one.active else " and is switched off")
                               for one in self.times if one.errors)]
        name = str(state.execution_id)
        report = FinalReport(name, str(state.status), metrics, tuple(warned), self._slow.take(name),
                             tuple(self.times))
        calls = self._calls.get("post_state_finalize", ())
        jobs = self._put_by_lane(calls, (state, report), name)
        await asyncio.gather(*(lane.ask(job) for lane, job in jobs))
        return report

    @property
    def times(self) -> list[HookTimes]:
        """How each hook did so far: calls, errors, seconds."""
        return [call.times for name in HOOKS for call in self._calls.get(name, ())]

    async def drain(self, timeout: float | None = None) -> bool:
        """Return when the hooks have seen all that they were told; False if that took longer than `timeout`
        seconds."""
        try:
            async with asyncio.timeout(timeout):
                await self._seen()
        except TimeoutError:
            return False
        return True

    async def close(self, timeout: float | None = None) -> None:
        """Let the hooks see all that they were told, close the plugins, the last first, and end the thread.
        What takes longer than `timeout` seconds is given up, and logged."""
        if not self._plugins:
            return
        timeout = self.config.shutdown_s_max if timeout is None else timeout
        if not await self.drain(timeout):
            left = sum(lane.waiting for lane in self._lanes)
            logger.warning("hooks of plugins had %d calls to do still after %g s (shutdown_s_max): they are "
                           "given up", left, timeout)
        try:
            async with asyncio.timeout(timeout):
                for one in reversed(self._plugins):
                    if not isinstance(one.target, ModuleType):
                        await self._close_plugin(one)
        except TimeoutError:
            logger.warning("plugins were not closed within %g s (shutdown_s_max)", timeout)
        lanes, self._thread, self._loop = self._lanes, None, None
        for lane in lanes:
            await lane.close()

    async def _close_plugin(self, plugin: Found) -> None:
        from treadle.hooks.sdk import StateHook

        if type(plugin.target).close is StateHook.close:
            return
        is_async = inspect.iscoroutinefunction(plugin.target.close)
        call = HookCall(str(plugin), "close", plugin.target.close, (), self.config, self._slow)
        await self._lane(is_async).ask(partial(call.wait if is_async else call, (), ""))

    # Lanes

    def _thread_lane(self) -> ThreadLane:
        if self._thread is None:
            self._thread = ThreadLane(self.config.hook_backlog_max)
        return self._thread

    def _lane(self, is_async: bool) -> Lane:
        if not is_async:
            return self._thread_lane()
        if self._loop is None:
            self._loop = LoopLane(self.config.hook_backlog_max)
        return self._loop

    @property
    def _lanes(self) -> list[Lane]:
        return [lane for lane in (self._thread, self._loop) if lane is not None]

    async def _seen(self) -> None:
        jobs = {self._thread: _nothing, self._loop: _wait_for_nothing}
        await asyncio.gather(*(lane.ask(job) for lane, job in jobs.items() if lane is not None))

    def _put_by_lane(self, calls: Sequence[HookCall], values: tuple[Any, ...],
                     execution_id: str) -> list[tuple[Lane, Callable[[], Any]]]:
        """The jobs for calls: the plain ones are one, and so are the async ones."""
        plain = tuple(call for call in calls if not call.is_async)
        waiting = tuple(call for call in calls if call.is_async)
        jobs: list[tuple[Lane, Callable[[], Any]]] = []
        if plain:
            jobs.append((self._lane(False), partial(_call, plain, values, execution_id)))
        if waiting:
            jobs.append((self._lane(True), partial(_wait, waiting, values, execution_id)))
        return jobs


class Listener:
    """Hands transitions of nodes to the hooks. `consume` returns at once unless too many wait."""

    def __init__(self, manager: PluginManager, calls: tuple[HookCall, ...]) -> None:
        self._manager = manager
        self._plain = tuple(call for call in calls if not call.is_async)
        self._waiting = tuple(call for call in calls if call.is_async)

    async def consume(self, event: Happening) -> None:
        cell, before = event.cell, event.before
        if not isinstance(cell, NodeState):
            return
        if not isinstance(before, NodeState):
            before = NodeState(cell.execution_id, cell.node_id, cell.iteration, cell.attempt, cell.epoch, 0,
                               round=cell.round)
        values = (cell.node_id, before, cell)
        for calls, work, is_async in ((self._plain, _call, False), (self._waiting, _wait, True)):
            if calls:
                lane = self._manager._lane(is_async)
                lane.put(partial(work, calls, values, cell.execution_id))
                if lane.waiting >= lane.size_max:
                    await lane.room()

    def __repr__(self) -> str:
        return "the hooks of plugins"


def put_in_order(findings: Findings) -> list[Found]:
    """Make what was found and is enabled, in the order of what each requires. What can't be made or lacks
    something is left out, and among the problems of the findings."""
    made = []
    for one in findings.plugins:
        if one.enabled:
            try:
                made.append(make(one, findings))
            except PluginError as error:
                findings.problems.append(str(error))
    if not made:
        return []
    from treadle.hooks.finding.order import in_order

    ordered, wrong = in_order(made)
    findings.problems.extend(wrong)
    return ordered


def make(plugin: Found, findings: Findings) -> Found:
    """The plugin with its instance in place of its class: its settings are the arguments of `__init__`.
    PluginError for settings that don't fit, and for what `__init__` raises."""
    settings = findings.settings.get(plugin.name, {})
    where = f"{plugin.origin}: {plugin.name}"
    if settings:
        where = f"{findings.settings_file}: [plugins.{plugin.name}]"
    target = plugin.target
    if isinstance(target, type):
        from treadle.hooks.finding.settings import made_of

        target = made_of(target, settings, where)
    elif settings:
        raise PluginError(f"{where}: this plugin takes no settings")
    if not isinstance(target, ModuleType):
        _place(target, findings)
    return msgspec.structs.replace(plugin, target=target)


def _place(target: StateHook, findings: Findings) -> None:
    home = findings.settings_file or findings.folder
    if home is not None:
        target.folder = home.parent


def _may_start(calls: Iterable[HookCall], values: tuple[Any, ...], execution_id: str) -> None:
    for call in calls:
        if call.active:
            try:
                call(values, execution_id)
            except (PluginError, ValueError) as error:
                raise PluginError(f"plugin {call.plugin} refuses the start: {error}") from error


def _call(calls: Iterable[HookCall], values: tuple[Any, ...], execution_id: str) -> None:
    for call in calls:
        if call.active:
            call(values, execution_id)


async def _wait(calls: Iterable[HookCall], values: tuple[Any, ...], execution_id: str) -> None:
    for call in calls:
        if call.active:
            await call.wait(values, execution_id)


def _nothing() -> None:
    pass


async def _wait_for_nothing() -> None:
    pass
