"""Calling hooks: each call is timed; an error is logged and counted, and at a limit the hook is switched
off."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from time import perf_counter
from typing import Any

from msgspec import structs

from treadle.config import TreadleConfig
from treadle.foreign import attempt, attempt_async
from treadle.hooks.specs import HookTimes, SlowHook
from treadle.state.cell import NodeState

logger = logging.getLogger("treadle.plugins")

Values = Sequence[Any]
Transition = tuple[str, NodeState, NodeState]
"""The arguments of `post_node_execute`: the node's path, the cell before, the cell."""
UNREPORTED_MAX = 10_000
"""Executions whose slow hooks are kept until their report is made; of more the oldest are forgotten."""


class Slow:
    """Which hooks were slow in which execution, until its report is made."""

    def __init__(self) -> None:
        self._longest: dict[str, dict[tuple[str, str], SlowHook]] = {}
        self._lock = threading.Lock()

    def add(self, execution_id: str, slow: SlowHook) -> None:
        with self._lock:
            joined((slow,), self._longest.setdefault(execution_id, {}))
            if len(self._longest) > UNREPORTED_MAX:
                del self._longest[next(iter(self._longest))]

    def take(self, execution_id: str) -> tuple[SlowHook, ...]:
        """Those of an execution, the slowest first; they are forgotten."""
        with self._lock:
            found = self._longest.pop(execution_id, {})
        return slowest_first(found.values())


def joined(slow: Iterable[SlowHook], known: dict[tuple[str, str], SlowHook]) -> None:
    """Add slow calls to those known of each hook: the slowest stays, all are counted."""
    for one in slow:
        before = known.get((one.plugin, one.hook))
        if before is not None:
            one = structs.replace(one if one.ms > before.ms else before, calls=before.calls + one.calls)
        known[one.plugin, one.hook] = one


def slowest_first(slow: Iterable[SlowHook]) -> tuple[SlowHook, ...]:
    return tuple(sorted(slow, key=lambda one: -one.ms))


def _picking(places: Sequence[int]) -> Callable[[Values], Iterable[Any]]:
    """What takes the values at these places, in their order."""
    if len(places) > 1:
        return itemgetter(*places)
    return lambda values: [values[place] for place in places]


def _in_main_thread() -> bool:
    """Whether a Ctrl-C may come: it is no hook's then."""
    return threading.current_thread() is threading.main_thread()


class HookCall:
    """One hook of one plugin. `values` are all arguments of the hook, in its order; the plugin gets those
    that it names."""

    __slots__ = ("active", "calls", "config", "errors", "function", "hook", "is_async", "lock", "longest",
                 "pick", "plugin", "refusals", "slow", "total")

    def __init__(self, plugin: str, hook: str, function: Callable[..., Any], places: Sequence[int],
                 config: TreadleConfig, slow: Slow, refusals: tuple[type[Exception], ...] = ()) -> None:
        self.plugin, self.hook, self.function = plugin, hook, function
        self.pick = _picking(places)
        self.config, self.slow, self.refusals = config, slow, refusals
        self.is_async = inspect.iscoroutinefunction(function)
        self.calls = self.errors = 0
        self.total = self.longest = 0.0
        self.active = True
        self.lock = threading.Lock()

    def __call__(self, values: Values, execution_id: str, node: str = "") -> Any:
        """Call it in this thread; what it returns, or None if it raised or is switched off. Raises only what
        it may refuse with. `node` is the one that it is about, for the report."""
        if not self.active:
            return None
        began = perf_counter()
        try:
            return self._try(values)
        finally:
            self._took(perf_counter() - began, execution_id, node)

    def _try(self, values: Values) -> Any:
        result, error = attempt(self._answer, values, interrupts=True)
        if error is not None:
            if isinstance(error, self.refusals) or (
                    isinstance(error, KeyboardInterrupt | GeneratorExit) and _in_main_thread()):
                raise error
            self._failed(error)
        return result

    def _answer(self, values: Values) -> Any:
        result = self.function(*self.pick(values))
        if result is not None:
            self._require_fit(result)
        return result

    def each(self, transitions: Sequence[Transition]) -> None:
        """Call it in this thread for one transition after the other. The clock is read once for each."""
        call, limit = self._try, self.config.hook_ms_max / 1000
        calls, total, longest = 0, 0.0, 0.0
        began = perf_counter()
        for values in transitions:
            if not self.active:
                break
            call(values)
            now = perf_counter()
            seconds, began = now - began, now
            calls += 1
            total += seconds
            if seconds > longest:
                longest = seconds
            if seconds > limit:
                self._slow(values[2].execution_id, seconds, values[0])
        self.calls += calls
        self.total += total
        self.longest = max(self.longest, longest)

    async def wait(self, values: Values, execution_id: str, node: str = "") -> None:
        """The same as a call, for one that is async."""
        if not self.active:
            return
        began = perf_counter()
        try:
            _, error = await attempt_async(self.function, *self.pick(values))
        finally:
            self._took(perf_counter() - began, execution_id, node)
        if isinstance(error, asyncio.CancelledError):
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise error  # it is we who are cancelled
        if error is not None:
            self._failed(error)

    def _require_fit(self, result: Any) -> None:
        """TypeError for an answer that means nothing, though its author means something by it."""
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("it returned a coroutine: write it as `async def`")
        if self.hook == "pre_state_mutation" and not isinstance(result, str):
            raise TypeError(f"it returned {result!r:.80}: return None to let the transaction commit, or a "
                            "text with the reason to refuse it")
        if self.hook == "pre_state_initialize":
            raise TypeError(f"it returned {result!r:.80}, which means nothing here: raise PluginError with "
                            "the reason to refuse the start")

    def _took(self, seconds: float, execution_id: str, node: str) -> None:
        with self.lock:
            self.calls += 1
            self.total += seconds
            self.longest = max(self.longest, seconds)
        if 1000 * seconds > self.config.hook_ms_max:
            self._slow(execution_id, seconds, node)

    def _slow(self, execution_id: str, seconds: float, node: str) -> None:
        self.slow.add(execution_id, SlowHook(self.plugin, self.hook, round(1000 * seconds, 3), node))

    def _failed(self, error: BaseException) -> None:
        with self.lock:
            self.errors += 1
            off = self.active and self.errors >= self.config.hook_errors_max
            self.active = self.active and not off
        logger.error("plugin %s: %s raised %s: %s%s", self.plugin, self.hook, type(error).__name__, error,
                     f"; it is switched off after {self.errors} errors (hook_errors_max)" if off else "",
                     exc_info=error)

    @property
    def times(self) -> HookTimes:
        return HookTimes(self.plugin, self.hook, self.calls, self.errors, self.total, self.longest,
                         self.active)
