"""Where plugins come from: installed packages (entry points `treadle.plugins`), the files of a folder
`plugins`, and those that ship with Treadle and that treadle.toml names.

Looking costs next to nothing where there is none: no plugin library is imported then.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.config import read_plugins
from treadle.errors import InvalidInput, PluginError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from treadle.hooks.sdk import StateHook

GROUP = "treadle.plugins"
"""The group of entry points. One names a subclass of `StateHook`, an instance, or a module."""
FOLDER = "plugins"
"""The folder beside a diagram, or the working folder, whose `*.py` are looked at; `_*.py` are helpers."""
FILES_MAX = 1000
"""Files of one such folder."""
BUILT_IN = {"StateLogger": "treadle.plugins.state_logger", "WebhookNotifier": "treadle.plugins.webhook"}
"""What ships with Treadle; it is active where treadle.toml has a table for it."""
_NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)


class Found(msgspec.Struct, frozen=True):
    """One plugin, loaded and not yet made."""

    name: str
    version: str
    origin: str
    """Where it is from: a file, or `package 1.2`."""
    target: Any
    """A subclass of `StateHook`, an instance of one, or a module with marked functions."""
    hooks: tuple[str, ...]
    requires: tuple[str, ...] = ()
    enabled: bool = True

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class Findings(msgspec.Struct):
    """All that was found. `problems` are errors, `notes` are not."""

    plugins: list[Found] = []
    problems: list[str] = []
    notes: list[str] = []
    settings: dict[str, dict[str, Any]] = {}
    """By plugin, without `enabled`."""
    settings_file: Path | None = None
    folder: Path | None = None
    """The folder `plugins` that was looked at, if there is one."""


def find(folder: Path | None = None, *, entry_points: bool = True) -> Findings:
    """Load what there is for diagrams of a folder (None: the working folder). InvalidInput for a treadle.toml
    that can't be used; what is wrong with plugins is in the findings."""
    places = list(dict.fromkeys(one.resolve() for one in (folder or Path(), Path())))
    read = next((found for found in map(read_plugins, places) if found is not None), None)
    tables, found = ({}, Findings()) if read is None else (read[0], Findings(settings_file=read[1]))
    found.settings = {name: {key: value for key, value in table.items() if key != "enabled"}
                      for name, table in tables.items()}
    off = {name for name, table in tables.items() if not _enabled(table, name, found.settings_file)}
    found.folder = next((one for one in (place / FOLDER for place in places) if one.is_dir()), None)
    if entry_points and _any_installed():
        for point in _entry_points():
            if point.name not in off:
                _collect(found, point)
    if found.folder is not None:
        for path in _files(found.folder):
            if path.stem not in off:
                _collect(found, path)
    for name in tables:
        if name in BUILT_IN and name not in off and name not in {one.name for one in found.plugins}:
            _collect(found, BUILT_IN[name])
    _look_at_names(found, off)
    return found


def described(given: Any, origin: str = "registered", version: str = "") -> list[Found]:
    """The plugins that a subclass of `StateHook`, an instance of one or a module is or has. PluginError for
    anything else, and for what is wrong with it."""
    from treadle.hooks.finding.checking import hooks_of
    from treadle.hooks.sdk import StateHook

    if isinstance(given, ModuleType):
        version = getattr(given, "__version__", version)
        classes = [one for one in vars(given).values() if isinstance(one, type)
                   and issubclass(one, StateHook) and one.__module__ == given.__name__]
        found = [_of_class(one, one, origin, version) for one in classes if not one.__name__.startswith("_")]
        hooks = hooks_of(given)
        if hooks:
            name = _named(given.__name__.rpartition(".")[2], origin)
            requires = _requires(getattr(given, "requires", ()), origin)
            found.append(Found(name, _version(version, f"{origin}: {name}"), origin, given, hooks, requires))
        return found
    kind = given if isinstance(given, type) else type(given)
    if not issubclass(kind, StateHook) or kind is StateHook:
        why = " itself, which has no hooks," if kind is StateHook else ""
        raise PluginError(f"{origin}: {given!r}{why} is no plugin: it must be a subclass of StateHook, an "
                          "instance of one, or a module with functions marked @hookimpl")
    if not version:
        version = str(getattr(sys.modules.get(kind.__module__), "__version__", ""))
    return [_of_class(kind, given, origin, version)]


def _of_class(kind: type[StateHook], target: Any, origin: str, version: str) -> Found:
    from treadle.hooks.finding.checking import hooks_of

    where = f"{origin}: {kind.__name__}"
    name = _named(target.name, where)
    return Found(name, _version(target.version or version, where), origin, target, hooks_of(kind),
                 _requires(target.requires, where))


def _named(name: Any, where: str) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(f"{where}: a plugin's `name` has letters, digits, - and _, not {name!r}")
    if name.lower() == "treadle":
        raise PluginError(f"{where}: no plugin can have the name {name!r}: choose another `name`")
    return name


def _version(said: Any, where: str) -> str:
    from packaging.version import InvalidVersion, Version  # for those who have plugins

    if not isinstance(said, str):
        raise PluginError(f"{where}: `version` must be a text: version = '{said}'")
    try:
        Version(said or "0")
    except InvalidVersion:
        raise PluginError(f"{where}: its version {said!r} is none: write numbers with dots, '1.4.0', and "
                          "what else PEP 440 allows ('2.0rc1')") from None
    return said or "0"


def _requires(said: Any, where: str) -> tuple[str, ...]:
    if not isinstance(said, tuple | list) or not all(isinstance(one, str) for one in said):
        raise PluginError(f"{where}: `requires` must be a tuple of texts: requires = ('Other>=1.2,<2',)")
    return tuple(said)


def _collect(found: Findings, source: EntryPoint | Path | str) -> None:
    """Load one source of plugins, and add what it has."""
    from treadle.hooks.finding.checking import shown
    from treadle.hooks.finding.loading import is_ours, load_file

    try:
        if isinstance(source, str):
            plugins = described(importlib.import_module(source), "treadle")
        elif isinstance(source, Path):
            if not is_ours(source):
                return
            if not source.stem.isidentifier():
                raise PluginError(f"{shown(source)}: its name must be an identifier that ends in .py")
            plugins = described(load_file(source), shown(source))
            if not plugins:
                found.notes.append(f"{shown(source)}: there is no plugin in it: it has neither a subclass of "
                                   "StateHook nor a function marked @hookimpl")
        else:
            plugins = _installed(source)
    except PluginError as error:
        found.problems.append(str(error))
        return
    found.plugins.extend(plugins)


def _installed(point: EntryPoint) -> list[Found]:
    from treadle.hooks.finding.loading import aside, of_plugin

    package = f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an installed package"
    with of_plugin(f"{package}: entry point {point.name} = {point.value}: "), aside():
        target = point.load()
    try:
        return described(target, package, point.dist.version if point.dist is not None else "")
    except PluginError as error:
        raise PluginError(f"{package}: entry point {point.name}: {error}") from None


def _entry_points() -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _any_installed() -> bool:
    """Whether an installed package may have a plugin: much quicker than reading all metadata."""
    for place in sys.path:
        try:
            names = [one.path for one in os.scandir(place or ".") if one.name.endswith("-info")]
        except OSError:
            continue
        for name in names:
            try:
                with open(os.path.join(name, "entry_points.txt"), "rb") as file:
                    if f"[{GROUP}]".encode() in file.read():
                        return True
            except OSError:
                continue
    return False


def _files(folder: Path) -> list[Path]:
    paths = sorted(path for path in folder.glob("*.py") if not path.name.startswith("_"))
    if len(paths) > FILES_MAX:
        raise PluginError(f"{folder}: it has {len(paths)} files: the limit FILES_MAX is {FILES_MAX}")
    return paths


def _enabled(table: dict[str, Any], name: str, file: Path | None) -> bool:
    said = table.get("enabled", True)
    if not isinstance(said, bool):
        raise InvalidInput(f"{file}: [plugins.{name}] enabled = {said!r}: it must be true or false")
    return said


def _look_at_names(found: Findings, off: set[str]) -> None:
    """Settings for a plugin that isn't there are a mistake; a plugin that is switched off is so marked."""
    there = {one.name for one in found.plugins} | BUILT_IN.keys()
    for name in found.settings if not found.problems else ():  # what can't be loaded has settings, too
        if name not in there | off:
            hint = did_you_mean(name, there) or f"there is {', '.join(sorted(there))}"
            found.problems.append(f"{found.settings_file}: [plugins.{name}]: there is no plugin of that "
                                  f"name: {hint}")
    found.plugins = [one if one.name not in off else msgspec.structs.replace(one, enabled=False)
                     for one in found.plugins]
