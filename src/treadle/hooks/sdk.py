"""What the author of a plugin needs.

    from treadle import StateHook

    class StateLogger(StateHook):
        version = "1.0"

        def post_node_execute(self, node_id, previous_state, current_state):
            if previous_state.status != current_state.status:
                self.logger.info(f"{node_id}: {previous_state.status} → {current_state.status}")

In a file of the folder `plugins` beside the diagram that is all: the class is found, made once per engine and
asked. Settings (`[plugins.StateLogger]` in treadle.toml) are the arguments of its `__init__`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pluggy import HookimplMarker

from treadle.errors import PluginError
from treadle.hooks.specs import HookSpecs

PROJECT = "treadle"
"""Our name for pluggy: marked functions have an attribute that begins with it."""
_F = TypeVar("_F", bound=Callable[..., Any])
_mark = HookimplMarker(PROJECT)


def hookimpl(function: _F | None = None, *, tryfirst: bool = False, trylast: bool = False) -> Any:
    """Mark a function of a module as the hook of its name. With `tryfirst` it is called before those of other
    plugins, with `trylast` after them."""
    if function is None:
        return lambda marked: hookimpl(marked, tryfirst=tryfirst, trylast=trylast)
    return _mark(function, tryfirst=tryfirst, trylast=trylast)


class Veto(Exception):
    """Raised by `pre_state_mutation`, it refuses the transaction with this reason."""


class StateHook(HookSpecs):
    """A plugin: subclass it and write the hooks that you need. `self.logger` is there without `__init__`."""

    name: ClassVar[str]
    """What others call it: the class's name unless it is said."""
    version: ClassVar[str] = ""
    """As in PEP 440, `1.4.0`; else its module's `__version__`, else that of the package it came with."""
    requires: ClassVar[tuple[str, ...]] = ()
    """Plugins that must be there, and that are called before this one: `("DataValidator>=1.4,<2",)`."""

    folder: Path = Path()
    """Where relative paths of the settings begin: the folder of treadle.toml, else that of the diagram."""
    secrets: Callable[[str], str] | None = None
    """Looks `env:…` and `secret://…` up. The engine sets it, to its own store of secrets."""

    def __init_subclass__(cls, **rest: Any) -> None:
        super().__init_subclass__(**rest)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    @property
    def logger(self) -> logging.Logger:
        """`treadle.plugins.NAME`."""
        return logging.getLogger(f"treadle.plugins.{self.name}")

    def secret(self, said: str) -> str:
        """The value of `env:NAME` or `secret://NAME`; any other text stands for itself. Look it up where it
        is used, and keep it nowhere. PluginError if it isn't there. A store may take its time: in an `async`
        hook, ask in a thread."""
        from treadle.crypto.secrets import ENV, SECRET, Secrets
        from treadle.hooks.finding.loading import of_plugin

        if not said.startswith((ENV, SECRET)):
            return said
        with of_plugin(f"{self.name}: "):
            try:
                return (self.secrets or Secrets().resolve)(said)
            except LookupError as error:  # as it may say, in words of its own, that there is none
                raise PluginError(str(error)) from error

    def close(self) -> Awaitable[None] | None:
        """The engine closes, and every hook has been called: let go of files and connections. May be
        `async`."""
