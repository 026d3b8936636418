"""Python functions as tools: a sync one runs in a thread, an async one in the event loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from treadle.config import TreadleConfig
from treadle.errors import LeaseLost, NoSuchSecret, SecretError, StoreError
from treadle.foreign import attempt_async
from treadle.nodes import speech
from treadle.nodes.base import BodyContext
from treadle.nodes.binding import CONTEXT
from treadle.nodes.failures import message_of, trace_of
from treadle.nodes.people.tools.results import failed, result_of
from treadle.nodes.people.tools.signature import Signature

OURS = (NoSuchSecret, SecretError, StoreError, LeaseLost)
"""What no model can do anything about."""


class FunctionTool:
    """See `Tool`."""

    def __init__(self, function: Callable[..., Any], name: str, description: str, *, approve: bool = False,
                 timeout: float | None = None) -> None:
        self._function, self._signature = function, Signature.of(function)
        self.name, self.description = name, description
        self.schema = self._signature.schema
        self.approve, self._timeout = approve, timeout

    def unfit(self, arguments: dict[str, Any]) -> str:
        return "; ".join(self._signature.bind(arguments)[1])

    async def call(self, context: BodyContext, arguments: dict[str, Any], *, key: str) -> Any:
        given, wrong = self._signature.bind(arguments)
        if wrong:
            return failed("; ".join(wrong))
        if self._signature.context:
            given[CONTEXT] = CallContext(context, key)
        return await _guarded(self.name, self._timeout, lambda: self._run(context, given))

    async def _run(self, context: BodyContext, given: dict[str, Any]) -> Any:
        function = self._function
        if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
                getattr(function, "__call__", None)):  # noqa: B004  # of an object that can be called
            return result_of(await function(**given), context.config)
        thread = context.executor("thread", timed=False)
        value = await thread.run(_call, function, given, context.config,
                                 name=f"{context.node_id}: {self.name}")
        return result_of(await value, context.config) if inspect.isawaitable(value) else value


async def _guarded(name: str, timeout: float | None, run: Callable[[], Awaitable[Any]]) -> Any:
    """The result of a tool's own work, as it is recorded: what it raises, and a time that it exceeds, in
    words for the model."""
    scope = asyncio.timeout(timeout)

    async def timed() -> Any:
        async with scope:
            return await run()

    value, error = await attempt_async(timed)
    if error is None:
        return value
    if isinstance(error, (*OURS, asyncio.CancelledError)):
        raise error
    if scope.expired():
        return failed(f"{name} took longer than its timeout of {timeout:g} s")
    said, listener = message_of(error), speech.speaking.get()
    if listener is not None:
        listener.logged("ERROR", f"tool {name}", (trace_of(error) or said).rstrip())
    return failed(f"{type(error).__name__}: {said}" if said else type(error).__name__)


def _call(function: Callable[..., Any], arguments: dict[str, Any], config: TreadleConfig) -> Any:
    value = function(**arguments)
    return value if inspect.isawaitable(value) else result_of(value, config)


class CallContext:
    """The context of a node as a tool sees it: `idempotency_key` is that of the call."""

    def __init__(self, context: BodyContext, key: str) -> None:
        self._context = context
        self.idempotency_key = f"{context.idempotency_key}/{key}"

    def __getattr__(self, name: str) -> Any:
        if name == "_context":  # a copy that is being made
            raise AttributeError(name)
        return getattr(self._context, name)
