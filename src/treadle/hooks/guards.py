"""Guards: the hooks `pre_state_mutation`, asked where a transaction on the shared context commits."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import re
from collections.abc import Iterable
from time import perf_counter
from types import MappingProxyType
from typing import Any

import msgspec

from treadle.config import TreadleConfig
from treadle.hooks.calls import HookCall
from treadle.hooks.sdk import Veto
from treadle.state import codec
from treadle.state.context import Mutation

logger = logging.getLogger("treadle.plugins")

_ATTEMPT = re.compile(r"(@[\d.]+)?#\d+$")
"""What a writer's name has behind the path of its node: `draft@3#2`."""


def ask(calls: Iterable[HookCall], transaction: Mutation, config: TreadleConfig,
        held: set[HookCall]) -> str | None:
    """Ask each guard in this thread: why the transaction must not commit, with the plugin's name, or None.
    One that holds the event loop for long is logged, and put into `held`, so that it is said once."""
    node = _ATTEMPT.sub("", transaction.writer)
    for call in calls:
        began = perf_counter()
        try:
            reason = call((_to_look_at(transaction),), transaction.execution_id, node)
        except Veto as veto:
            reason = str(veto)
        ms = 1000 * (perf_counter() - began)
        if ms > config.hook_ms_max and call not in held and _on_a_loop():
            held.add(call)
            contextvars.Context().run(  # it is not the body that says so
                logger.warning, "plugin %s: pre_state_mutation held the event loop for %.0f ms (hook_ms_max) "
                "at node %r: nothing else ran. Have it answer sooner, or write there within `async with "
                "context.transaction()`, which asks it in a thread", call.plugin, ms, node)
        if reason is not None:
            return f"{call.plugin}: {reason or 'it gave no reason'}"
    return None


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _to_look_at(transaction: Mutation) -> Mutation:
    """A copy for one plugin: what it does to the values, no other sees."""
    changes = {key: type(change)(*map(_copied, change)) for key, change in transaction.changes.items()}
    return msgspec.structs.replace(transaction, changes=MappingProxyType(changes))


def _copied(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float):
        return value
    return codec.decode(codec.encode(value))
