"""The plugins of one engine, and what the engine tells them."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import PluginError
from treadle.hooks import registering
from treadle.hooks.calls import HookCall, Slow, Transition, joined, slowest_first
from treadle.hooks.finding.discovery import Findings, Found, described, find
from treadle.hooks.finding.making import make, put_in_order
from treadle.hooks.lanes import Lane, LoopLane, ThreadLane
from treadle.hooks.listener import Listener
from treadle.hooks.specs import HOOKS, FinalReport, HookTimes, SlowHook
from treadle.state import codec

if TYPE_CHECKING:
    from treadle.crypto.secrets import SecretStore
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.state.cell import ExecutionState
    from treadle.state.context import Mutation, PipelineState

logger = logging.getLogger("treadle.plugins")

CLOSE_S_MIN = 0.5
"""Seconds that plugins have to close, even if their hooks took all the time there was."""
BROKEN_OFF_S = 0.5
"""Seconds for which the end of an interrupted execution waits for hooks, to know which were slow."""
Secrets = Callable[[str], str]
"""`secret://NAME` → its value; LookupError or PluginError if it isn't there."""


class PluginManager:
    """Holds plugins and calls their hooks. Make one for each engine; without plugins it does nothing, and
    nothing is imported for it."""

    def __init__(self, plugins: Iterable[object] = (), *, config: TreadleConfig = DEFAULT_CONFIG,
                 secrets: Secrets | None = None) -> None:
        self.config, self.secrets = config, secrets
        self.in_use = False  # by an engine that is open
        self.notes: tuple[str, ...] = ()
        """What discovery found odd, and not wrong."""
        self.home: contextvars.Context | None = None
        """The context in which hooks run (None: an empty one), but for guards, which run in the writer's."""
        self._plugins: list[Found] = []
        self._calls: dict[str, tuple[HookCall, ...]] = {}
        self._slow = Slow()
        self._held: set[HookCall] = set()  # guards of which was said that they hold the event loop
        self._stores: dict[str, Callable[[str], SecretStore]] | None = None
        self._thread: ThreadLane | None = None
        self._loop: LoopLane | None = None
        self._listener = Listener(self._put, config.hook_backlog_max)
        given: object = plugins  # whatever it is
        if isinstance(given, str | type) or not isinstance(given, Iterable):
            raise PluginError(f"plugins={plugins!r}: put it into a list: plugins=[…]")
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
        self._tell_secrets(made)
        self._stores = None
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
        """Register the plugins' types of nodes, transforms, content types and stores of secrets; once, before
        the registry is used. PluginError names the plugin whose wish can't be met."""
        registering.register_content_types(registry, self._asked("treadle_content_types"))
        registering.register_strategies(registry, self._asked("treadle_strategies"))
        registering.register_transforms(registry, self._asked("treadle_transforms"))
        registry.secret_schemes.update(self.secret_stores())

    def secret_stores(self) -> dict[str, Callable[[str], SecretStore]]:
        """What opens a store of secrets, by the scheme of its URL."""
        if self._stores is None:
            self._stores = registering.secret_stores(self._asked("treadle_secret_stores"))
        return self._stores

    def find_secrets(self, url: str | None) -> None:
        """Let plugins look secrets up in a store (None: the environment), unless a way was given.
        InvalidInput for a URL that is none."""
        from treadle.crypto.secrets import ENV, Secrets

        if self.secrets is None and self._plugins:
            self.secrets = Secrets(url or ENV, made=self.secret_stores()).resolve
            self._tell_secrets(self._plugins)

    def _tell_secrets(self, plugins: Iterable[Found]) -> None:
        for one in plugins:
            if not isinstance(one.target, ModuleType):
                one.target.secrets = self.secrets

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
            raw = codec.encode(dict(inputs))  # each plugin gets a copy of its own
            job = partial(_may_start, calls, lambda: (pipeline, diagram, MappingProxyType(codec.decode(raw))),
                          pipeline.id)
            await self._thread_lane().ask(job, first=True)

    @property
    def listener(self) -> Listener | None:
        """What the bus should tell of transitions of nodes, as a queued consumer; None if no plugin wants
        them."""
        return self._listener if self._calls.get("post_node_execute") else None

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
        from treadle.hooks.guards import ask

        return ask(calls, transaction, self.config, self._held)

    @property
    def reports(self) -> bool:
        """Whether a plugin wants to be told of ends."""
        return bool(self._calls.get("post_state_finalize"))

    async def finalize(self, state: ExecutionState, metrics: Any = None,
                       warnings: Iterable[str] = ()) -> FinalReport:
        """Call `post_state_finalize` once every hook has seen what the bus has told so far (drain the bus
        before), and return when it was called: the report that it got, with the slow ones among these last
        calls."""
        await self._seen()
        warned = [*warnings, *(f"{one.plugin} {one.hook} raised {one.errors} times"
                               + ("" if one.active else " and is switched off")
                               for one in self.times if one.errors)]
        name = str(state.execution_id)
        report = FinalReport(name, str(state.status), metrics, tuple(warned), self._slow.take(name),
                             tuple(self.times))
        plain, waiting = _by_lane(self._calls.get("post_state_finalize", ()))
        asked = []
        if plain:
            asked.append(self._lane(False).ask(partial(_call, plain, (state, report), name)))
        if waiting:
            asked.append(self._lane(True).ask(partial(_wait, waiting, (state, report), name)))
        await asyncio.gather(*asked)
        known = {(one.plugin, one.hook): one for one in report.slow_hooks}
        joined(self._slow.take(name), known)
        return msgspec.structs.replace(report, slow_hooks=_warned(name, slowest_first(known.values())))

    async def broken_off(self, execution_id: str) -> tuple[SlowHook, ...]:
        """The slow hooks of an execution that was interrupted, of which no plugin is told. What hooks have
        not done after BROKEN_OFF_S doesn't count."""
        await self.drain(BROKEN_OFF_S)
        return _warned(execution_id, self._slow.take(execution_id))

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
        What takes longer than `timeout` seconds (None: `shutdown_s_max`) is given up, and logged."""
        if not self._plugins:
            return
        timeout = self.config.shutdown_s_max if timeout is None else timeout
        until = asyncio.get_running_loop().time() + timeout
        if not await self.drain(timeout):
            left = sum(lane.waiting for lane in self._lanes)
            logger.warning("hooks of plugins had %d calls to do still after %g s (shutdown_s_max): they are "
                           "given up", left, timeout)
        if self._loop is not None:
            await self._loop.close()
        try:
            async with asyncio.timeout_at(max(until, asyncio.get_running_loop().time() + CLOSE_S_MIN)):
                for one in reversed(self._plugins):
                    if not isinstance(one.target, ModuleType):
                        await self._close_plugin(one)
        except TimeoutError:
            logger.warning("plugins were not closed within %g s (shutdown_s_max)", timeout)
        if self._thread is not None:
            await self._thread.close()
        self._thread = self._loop = None

    async def _close_plugin(self, plugin: Found) -> None:
        from treadle.hooks.sdk import StateHook

        if type(plugin.target).close is StateHook.close:
            return
        call = HookCall(str(plugin), "close", plugin.target.close, (), self.config, self._slow)
        if call.is_async:
            home = contextvars.Context() if self.home is None else self.home.copy()
            await asyncio.get_running_loop().create_task(call.wait((), ""), context=home)
        else:
            await self._thread_lane().ask(partial(call, (), ""))

    # Lanes

    def _thread_lane(self) -> ThreadLane:
        if self._thread is None:
            self._thread = ThreadLane(self.config.hook_backlog_max, self.home)
        return self._thread

    def _lane(self, is_async: bool) -> Lane:
        if not is_async:
            return self._thread_lane()
        if self._loop is None:
            self._loop = LoopLane(self.config.hook_backlog_max, self.home)
        return self._loop

    @property
    def _lanes(self) -> list[Lane]:
        return [lane for lane in (self._thread, self._loop) if lane is not None]

    def _put(self, transitions: Sequence[Transition]) -> list[Lane]:
        """Have the hooks called for transitions, in order; where they wait."""
        plain, waiting = _by_lane(self._calls["post_node_execute"])
        lanes = []
        for calls, work in ((plain, _call_each), (waiting, _wait_each)):
            if calls:
                lane = self._lane(calls[0].is_async)
                lane.put(partial(work, calls, transitions), len(transitions))
                lanes.append(lane)
        return lanes

    async def _seen(self) -> None:
        self._listener.hand_over()
        jobs = {self._thread: _nothing, self._loop: _wait_for_nothing}
        await asyncio.gather(*(lane.ask(job) for lane, job in jobs.items() if lane is not None))


def _warned(execution_id: str, slow: tuple[SlowHook, ...]) -> tuple[SlowHook, ...]:
    for one in slow:
        logger.warning("slow hook in execution %s (hook_ms_max): %s", execution_id, one)
    return slow


def _by_lane(calls: Sequence[HookCall]) -> tuple[list[HookCall], list[HookCall]]:
    """The plain ones, and the async ones."""
    return [call for call in calls if not call.is_async], [call for call in calls if call.is_async]


def _may_start(calls: Iterable[HookCall], values: Callable[[], tuple[Any, ...]], execution_id: str) -> None:
    for call in calls:
        try:
            call(values(), execution_id)
        except (PluginError, ValueError) as error:
            raise PluginError(f"plugin {call.plugin} refuses the start: {error}") from error


def _call(calls: Iterable[HookCall], values: tuple[Any, ...], execution_id: str) -> None:
    for call in calls:
        call(values, execution_id)


async def _wait(calls: Iterable[HookCall], values: tuple[Any, ...], execution_id: str) -> None:
    for call in calls:
        await call.wait(values, execution_id)


def _call_each(calls: Iterable[HookCall], transitions: Sequence[Transition]) -> None:
    for call in calls:
        call.each(transitions)


async def _wait_each(calls: Iterable[HookCall], transitions: Sequence[Transition]) -> None:
    for call in calls:
        for one in transitions:
            await call.wait(one, one[2].execution_id, one[0])


def _nothing() -> None:
    pass


async def _wait_for_nothing() -> None:
    pass
