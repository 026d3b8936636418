"""The order of plugins: each after those that it requires."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from typing import Protocol, TypeVar

from treadle.errors import PluginError, did_you_mean


class Known(Protocol):
    """A plugin, as far as its place among others goes."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def requires(self) -> tuple[str, ...]: ...
    @property
    def origin(self) -> str:
        """Where it is from, for messages."""


_P = TypeVar("_P", bound=Known)


def in_order(plugins: Sequence[_P]) -> tuple[list[_P], list[str]]:
    """The plugins, each after those it requires, else as they come; and what is wrong with what they
    require. A wrong one is left out."""
    wrong: list[str] = []
    known: dict[str, _P] = {}
    for one in plugins:
        if one.name in known:
            wrong.append(f"two plugins have the name {one.name!r}: {known[one.name].origin} and "
                         f"{one.origin}: give one of them another `name`, or take it away")
        else:
            known[one.name] = one
    needs: dict[str, list[str]] = {}
    for one in known.values():
        try:
            needs[one.name] = [_required(one, text, known) for text in one.requires]
        except PluginError as error:
            wrong.append(str(error))
    try:
        order = list(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(error.args[1][::-1])
        return [], [*wrong, f"plugins require each other in a circle: {circle}; one of them must not"]
    return [known[name] for name in order if name in needs], wrong


def _required(one: Known, text: str, known: dict[str, _P]) -> str:
    """The name in a requirement that is met; PluginError."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.version import Version

    who = f"plugin {one.name}@{one.version} ({one.origin}) requires {text!r}"
    try:
        wanted = Requirement(text)
    except (InvalidRequirement, TypeError) as error:
        raise PluginError(f"{who}, which can't be read: {str(error).splitlines()[0]}: write it as "
                          "'Other>=1.2,<2'") from None
    if wanted.url or wanted.extras or wanted.marker:
        raise PluginError(f"{who}: only a name and versions mean something here: write it as "
                          "'Other>=1.2,<2'")
    there = known.get(wanted.name)
    if there is None:
        others = [name for name in known if name != one.name]
        hint = did_you_mean(wanted.name, others) or (
            f"there is {', '.join(others)}" if others else "there is no other")
        raise PluginError(f"{who}, and there is no plugin {wanted.name!r}: {hint}")
    if not wanted.specifier.contains(Version(there.version), prereleases=True):
        raise PluginError(f"{who}, but {there.name} is {there.version} ({there.origin})")
    return wanted.name
