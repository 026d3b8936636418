"""Making plugins: their settings in treadle.toml are the arguments of their `__init__`."""

from __future__ import annotations

import inspect
import typing
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.errors import PluginError, did_you_mean
from treadle.hooks.finding.discovery import Findings, Found

if TYPE_CHECKING:
    from treadle.hooks.sdk import StateHook


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
        target = _made_of(target, settings, where)
    elif settings:
        raise PluginError(f"{where}: this plugin takes no settings")
    if not isinstance(target, ModuleType):
        _place(target, findings)
    return msgspec.structs.replace(plugin, target=target)


def _place(target: StateHook, findings: Findings) -> None:
    home = findings.settings_file or findings.folder
    if home is not None:
        target.folder = home.parent


def _made_of(kind: type[StateHook], settings: dict[str, Any], where: str) -> StateHook:
    """An instance. PluginError that begins with `where` for a setting that is unknown, missing or of another
    type than its annotation says, and for what `__init__` raises."""
    known = {} if kind.__init__ is object.__init__ else dict(inspect.signature(kind).parameters)
    open_ended = any(one.kind is one.VAR_KEYWORD for one in known.values())
    named = {name: one for name, one in known.items()
             if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    for name in settings:
        if name not in named and not open_ended:
            hint = did_you_mean(name, named) or (f"there is {', '.join(named)}" if named else "it takes none")
            raise PluginError(f"{where} unknown setting `{name}`: {hint}")
    missing = [name for name, one in named.items() if one.default is one.empty and name not in settings]
    if missing:
        raise PluginError(f"{where}: the setting `{missing[0]}` is missing: write it into treadle.toml, "
                          f"under [plugins.{kind.name}], or in Python hand in {kind.__name__}"
                          f"({missing[0]}=…)")
    given = {name: _fitting(kind, name, value, where) for name, value in settings.items()}
    from treadle.hooks.finding.loading import aside, of_plugin

    with of_plugin(f"{where}: ", ours=f"{where} "), aside():
        return kind(**given)


def _fitting(kind: type[StateHook], name: str, value: Any, where: str) -> Any:
    """The value as its annotation wants it."""
    try:
        wanted = typing.get_type_hints(kind.__init__).get(name, Any)
        return msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        choices = typing.get_args(wanted) if typing.get_origin(wanted) is typing.Literal else ()
        why = f"choose {' or '.join(map(str, choices))}" if choices else error
        raise PluginError(f"{where} {name} = {value!r}: {why}") from None
    except (NameError, TypeError, AttributeError):
        return value  # an annotation that only its author understands
