"""What pluggy does for us: it knows which plugin has which hook, and in which order they are called."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pluggy

from treadle.config import TreadleConfig
from treadle.errors import PluginError
from treadle.hooks.calls import HookCall, Slow
from treadle.hooks.finding.discovery import Found
from treadle.hooks.sdk import PROJECT, StateHook, Veto
from treadle.hooks.specs import HOOKS, HookSpecs

_REFUSALS: dict[str, tuple[type[Exception], ...]] = {
    "pre_state_initialize": (PluginError, ValueError), "pre_state_mutation": (Veto,)}


class _Relay(pluggy.PluginManager):
    """Hooks of a `StateHook` are known by their names; functions of a module must be marked."""

    def parse_hookspec_opts(self, module_or_class: Any, name: str) -> Any:
        return {} if name in HOOKS else None

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(plugin, ModuleType):
            return super().parse_hookimpl_opts(plugin, name)
        if name not in HOOKS or getattr(type(plugin), name) is getattr(StateHook, name):
            return None
        return super().parse_hookimpl_opts(plugin, name) or {}


def calls_of(plugins: Sequence[Found], config: TreadleConfig, slow: Slow) -> dict[str, tuple[HookCall, ...]]:
    """The hooks of plugins by name, in the order in which they are called: that of the plugins, those marked
    `tryfirst` and `trylast` aside."""
    relay = _Relay(PROJECT)
    relay.add_hookspecs(HookSpecs)
    names = {one.name: str(one) for one in plugins}
    for one in reversed(plugins):  # pluggy calls what came last first
        relay.register(one.target, one.name)
    found = {}
    for hook in HOOKS:
        caller = getattr(relay.hook, hook)
        places = {argument: place for place, argument in enumerate(caller.spec.argnames)}
        found[hook] = tuple(
            HookCall(names[one.plugin_name], hook, one.function, [places[name] for name in one.argnames],
                     config, slow, _REFUSALS.get(hook, ()))
            for one in reversed(caller.get_hookimpls()))
    return {hook: calls for hook, calls in found.items() if calls}
