"""What is wrong with a plugin's hooks, found when it is loaded: misspelt names, arguments that a hook
lacks."""

from __future__ import annotations

import difflib
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from treadle.errors import PluginError, did_you_mean
from treadle.hooks.sdk import PROJECT, StateHook
from treadle.hooks.specs import HOOKS, MAY_WAIT, HookSpecs

MARK = f"{PROJECT}_impl"
"""The attribute of functions that are marked as hooks."""
_LIKE_A_HOOK = re.compile(rf"(pre|post)_(state|node)_|{PROJECT}_")
_ARGUMENTS = {name: tuple(inspect.signature(getattr(HookSpecs, name)).parameters)[1:] for name in HOOKS}


def hooks_of(target: type[StateHook] | ModuleType) -> tuple[str, ...]:
    """The hooks that a plugin has. PluginError names the first that is wrong, with its file and line."""
    is_class = isinstance(target, type)
    if isinstance(target, type):
        _check_attributes(target)
    found = dict(_methods(target) if isinstance(target, type) else _functions(target))
    for name, function in found.items():
        if name not in HOOKS:
            hint = did_you_mean(name, HOOKS) or f"there is {', '.join(HOOKS)}"
            raise PluginError(f"{place_of(function)}: {target.__name__}.{name}: there is no hook of that "
                              f"name: {hint}")
        _check(name, function, target.__name__, bound=is_class)
    return tuple(name for name in HOOKS if name in found)


_SAID_OF_ITSELF: dict[str, type | tuple[type, ...]] = {"name": str, "version": str, "requires": (tuple, list)}
"""What a plugin may say of itself."""


def _check_attributes(target: type[StateHook]) -> None:
    """PluginError for what looks like one of those, misspelt."""
    for name, value in vars(target).items():
        near = difflib.get_close_matches(name, _SAID_OF_ITSELF, n=1, cutoff=0.8)
        if near and name not in _SAID_OF_ITSELF and isinstance(value, _SAID_OF_ITSELF[near[0]]):
            raise PluginError(f"{_place_of_class(target)}: {target.__name__}.{name}: did you mean "
                              f"{near[0]!r}? (If it is something of your own, call it _{name}.)")


def _place_of_class(target: type) -> str:
    file = getattr(sys.modules.get(target.__module__), "__file__", None)
    return "plugin" if file is None else shown(file)


def _methods(target: Any) -> Iterator[tuple[str, Any]]:
    """What a class has that is a hook, or looks as if it should be one."""
    for name in dir(target):
        value = inspect.getattr_static(target, name)
        if value is not inspect.getattr_static(StateHook, name, None) and _meant(name):
            yield name, value


def _functions(target: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions of a module that are marked; PluginError for one that should be and isn't."""
    for name, value in vars(target).items():
        if not isinstance(value, FunctionType):
            continue
        if hasattr(value, MARK):
            yield name, value
        elif value.__module__ == target.__name__ and (name in HOOKS or _LIKE_A_HOOK.match(name)):
            raise PluginError(f"{place_of(value)}: {name} isn't marked as a hook: write @hookimpl above it "
                              "(from treadle import hookimpl)")


def _meant(name: str) -> bool:
    """Whether somebody who writes a method of that name means a hook."""
    return (name in HOOKS or _LIKE_A_HOOK.match(name) is not None
            or bool(not name.startswith("_") and difflib.get_close_matches(name, HOOKS, n=1, cutoff=0.85)))


def _check(name: str, given: Any, owner: str, *, bound: bool) -> None:
    at = f"{place_of(given)}: {owner}.{name}"
    function = given.__func__ if isinstance(given, staticmethod | classmethod) else given
    if not isinstance(function, FunctionType):
        raise PluginError(f"{at} is a {type(given).__name__}, not a function")
    marks = getattr(function, MARK, None) or {}
    if marks.get("wrapper") or marks.get("hookwrapper"):
        raise PluginError(f"{at}: a hook can't be wrapped around others: leave `wrapper` out")
    if inspect.isasyncgenfunction(function) or inspect.isgeneratorfunction(function):
        raise PluginError(f"{at}: a hook must not `yield`")
    if inspect.iscoroutinefunction(function) and name not in MAY_WAIT:
        raise PluginError(f"{at} can't be async: only {' and '.join(MAY_WAIT)} can")
    known = _ARGUMENTS[name]
    gets = f"it gets {', '.join(known)}" if known else "it gets none"
    parameters = list(inspect.signature(function).parameters.values())
    if bound and not isinstance(given, staticmethod) and (not parameters or parameters[0].name in known):
        raise PluginError(f"{at}: its first argument must be `self`")
    for one in parameters[1:] if bound and not isinstance(given, staticmethod) else parameters:
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD, one.KEYWORD_ONLY):
            raise PluginError(f"{at}: write its arguments one by one, without `*`: {gets}")
        if one.name not in known and one.default is one.empty:
            hint = did_you_mean(one.name, known)
            raise PluginError(f"{at} has an argument {one.name!r} that the hook lacks: "
                              + (f"{hint} " if hint else "") + f"({gets})")
        if one.name in known and one.default is not one.empty:
            raise PluginError(f"{at}: its argument {one.name!r} must have no default: the hook gives it")


def place_of(given: Callable[..., Any] | Any) -> str:
    """`plugins/logger.py:7`, where a function begins."""
    code = getattr(getattr(given, "__func__", given), "__code__", None)
    return f"{shown(code.co_filename)}:{code.co_firstlineno}" if code is not None else "plugin"


def shown(path: str | Path) -> str:
    """A path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith(os.pardir) else relative
