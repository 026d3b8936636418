"""Calling hooks: each call is timed; an error is logged and counted, and at a limit the hook is switched
off."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter
from typing import Any

from treadle.config import TreadleConfig
from treadle.hooks.specs import HookTimes
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
        self._longest: dict[str, dict[str, float]] = {}
        self._lock = threading.Lock()

    def add(self, execution_id: str, hook: str, seconds: float) -> None:
        with self._lock:
            known = self._longest.setdefault(execution_id, {})
            known[hook] = max(seconds, known.get(hook, 0.0))
            if len(self._longest) > UNREPORTED_MAX:
                del self._longest[next(iter(self._longest))]

    def take(self, execution_id: str) -> tuple[str, ...]:
        """Those of an execution, the slowest first; they are forgotten."""
        with self._lock:
            found = self._longest.pop(execution_id, {})
        return tuple(f"{hook}: {1000 * seconds:.0f} ms"
                     for hook, seconds in sorted(found.items(), key=lambda pair: -pair[1]))


class HookCall:
    """One hook of one plugin. `values` are all arguments of the hook, in its order; the plugin gets those
    that it names."""

    __slots__ = ("active", "calls", "config", "errors", "function", "hook", "is_async", "lock", "longest",
                 "pick", "plugin", "refusals", "slow", "total")

    def __init__(self, plugin: str, hook: str, function: Callable[..., Any], places: Sequence[int],
                 config: TreadleConfig, slow: Slow, refusals: tuple[type[Exception], ...] = ()) -> None:
        self.plugin, self.hook, self.function = plugin, hook, function
        self.pick: Callable[[Values], Iterable[Any]] = lambda values: [values[place] for place in places]
        self.config, self.slow, self.refusals = config, slow, refusals
        self.is_async = inspect.iscoroutinefunction(function)
        self.calls = self.errors = 0
        self.total = self.longest = 0.0
        self.active = True
        self.lock = threading.Lock()

    def __call__(self, values: Values, execution_id: str) -> Any:
        """Call it in this thread; what it returns, or None if it raised or is switched off. Raises only what
        it may refuse with."""
        if not self.active:
            return None
        began = perf_counter()
        try:
            return self._try(values)
        finally:
            self._took(perf_counter() - began, execution_id)

    def _try(self, values: Values) -> Any:
        try:
            result = self.function(*self.pick(values))
            if result is not None:
                self._require_plain(result)
            return result
        except (Exception, SystemExit, asyncio.CancelledError) as error:  # somebody's hook
            if isinstance(error, self.refusals):
                raise
            self._failed(error)
            return None

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
                    self._slow(values[2].execution_id, seconds)
        self.calls += calls
        self.total += total
        self.longest = max(self.longest, longest)

    async def wait(self, values: Values, execution_id: str) -> None:
        """The same as a call, for one that is async."""
        if not self.active:
            return
        began = perf_counter()
        try:
            await self.function(*self.pick(values))
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise  # it is we who are cancelled
            self._failed(error)
        except (Exception, SystemExit) as error:  # somebody's hook
            self._failed(error)
        finally:
            self._took(perf_counter() - began, execution_id)

    def _require_plain(self, result: Any) -> None:
        if inspect.iscoroutine(result):
            result.close()
            raise TypeError("it returned a coroutine: write it as `async def`")

    def _took(self, seconds: float, execution_id: str) -> None:
        with self.lock:
            self.calls += 1
            self.total += seconds
            self.longest = max(self.longest, seconds)
        if 1000 * seconds > self.config.hook_ms_max:
            self._slow(execution_id, seconds)

    def _slow(self, execution_id: str, seconds: float) -> None:
        self.slow.add(execution_id, f"{self.plugin} {self.hook}", seconds)

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
