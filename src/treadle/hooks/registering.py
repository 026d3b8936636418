"""What plugins add: types of nodes, transforms, content types, stores of secrets, commands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from treadle.diagram.transform import Transforms
from treadle.errors import PluginError
from treadle.hooks.specs import PluginTransform
from treadle.state.envelope import ContentHandler

if TYPE_CHECKING:
    from treadle.crypto.secrets import SecretStore

Asked = Iterable[tuple[str, Callable[[], Any]]]
"""The plugins that have a hook, each with that hook."""


class Registry(Protocol):
    """What takes types of nodes, transforms and content types: `treadle.nodes.registry.NodeRegistry`."""

    transforms: Transforms
    secret_schemes: set[str]

    def register(self, kind: Any) -> None:
        """ValueError if there is a type of that name."""

    def register_content_type(self, name: str, handler: ContentHandler) -> None:
        """ValueError if there is one of that name."""


def register_strategies(registry: Registry, asked: Asked) -> None:
    for plugin, kind in _each(asked, "treadle_strategies", list):
        for part in ("name", "properties", "strategy"):
            if not hasattr(kind, part):
                raise PluginError(f"plugin {plugin}: treadle_strategies gave {kind!r}, which has no "
                                  f"`{part}`: it wants NodeKind(name, properties, strategy)")
        try:
            registry.register(kind)
        except ValueError as error:
            raise PluginError(f"plugin {plugin}: {error}") from None


def register_transforms(registry: Registry, asked: Asked) -> None:
    known = set(registry.transforms.names())
    for plugin, (name, given) in _each(asked, "treadle_transforms", dict):
        one = given if isinstance(given, PluginTransform) else PluginTransform(given)
        _require_name(plugin, "transform", name, one.transform)
        if name in known:
            raise PluginError(f"plugin {plugin}: there is a transform {name!r} already: choose another name")
        known.add(name)
        registry.transforms.register(name, one.transform, precedence=one.precedence, check=one.check)


def register_content_types(registry: Registry, asked: Asked) -> None:
    whose: dict[str, str] = {}
    for plugin, (name, handler) in _each(asked, "treadle_content_types", dict):
        if not isinstance(handler, ContentHandler):
            raise PluginError(f"plugin {plugin}: the content type {name!r} must be a "
                              f"ContentHandler(encode, decode, validate), not {handler!r}")
        _require_name(plugin, "content type", name, handler.encode)
        if name in whose:
            raise PluginError(f"plugin {plugin}: the content type {name!r} is that of plugin {whose[name]}: "
                              "choose another name")
        try:
            registry.register_content_type(name, handler)
        except ValueError as error:
            raise PluginError(f"plugin {plugin}: {error}") from None
        whose[name] = plugin


def secret_stores(asked: Asked) -> dict[str, Callable[[str], SecretStore]]:
    found: dict[str, Callable[[str], SecretStore]] = {}
    for plugin, (scheme, make) in _each(asked, "treadle_secret_stores", dict):
        _require_name(plugin, "store of secrets", scheme, make)
        if scheme in found:
            raise PluginError(f"plugin {plugin}: there is a store of secrets {scheme!r} already")
        found[scheme] = make
    return found


def commands(asked: Asked) -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {}
    for plugin, function in _each(asked, "treadle_commands", list):
        name = getattr(function, "__name__", "").rstrip("_").replace("_", "-")
        _require_name(plugin, "command", name, function)
        if name in found:
            raise PluginError(f"plugin {plugin}: there is a command {name!r} already: choose another name")
        found[name] = function
    return found


def _each(asked: Asked, hook: str, kind: type) -> Iterator[tuple[str, Any]]:
    """What each plugin's hook gives, one by one. PluginError for one that raises or gives something else."""
    from treadle.hooks.finding.loading import aside, of_plugin  # for those who have plugins

    for plugin, function in asked:
        several: list[Any] | None = None
        with of_plugin(f"plugin {plugin}: {hook}: "), aside():
            given = function()
            if kind is dict:
                several = list(given.items()) if isinstance(given, Mapping) else None
            elif isinstance(given, Iterable) and not isinstance(given, str):
                several = list(given)
        if several is None:
            wanted = "a map by name" if kind is dict else "a list"
            raise PluginError(f"plugin {plugin}: {hook} must give {wanted}, not a {type(given).__name__}")
        for one in several:
            yield plugin, one


def _require_name(plugin: str, what: str, name: Any, function: Any) -> None:
    if not isinstance(name, str) or not name:
        raise PluginError(f"plugin {plugin}: a {what} wants a name, not {name!r}")
    if not callable(function):
        raise PluginError(f"plugin {plugin}: the {what} {name!r} is {function!r:.80}, not a function")
