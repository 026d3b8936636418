"""Python code that stands in a diagram: compiled once, run as the body of a function."""

from __future__ import annotations

import ast
import asyncio
import functools
import inspect
import linecache
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from treadle.diagram.check import SHARED_NAMES
from treadle.diagram.node import DEFAULT
from treadle.errors import did_you_mean
from treadle.nodes.base import BodyContext
from treadle.nodes.binding import CONTEXT, INPUTS, ITEM, Signature
from treadle.state.context import View

_BODY = "code"
_WAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith)
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
_FIRST: Any = {"lineno": 1, "col_offset": 0, "end_lineno": 1, "end_col_offset": 0}
"""Where the function stands that the code is the body of."""


class Code:
    """Python code whose inputs are local names. `file` names it in tracebacks, which show its lines."""

    def __init__(self, text: str, file: str) -> None:
        self.text, self.file = text, file
        self._used: frozenset[str] | None = None

    def check(self, function: str | None = None) -> None:
        """ValueError with the line of a syntax error, or if it doesn't define that function."""
        self._names()
        if function is not None and (found := _read(self.text, self.file)).function != function:
            known = [one.name for one in found.body if isinstance(one, _FUNCTIONS)]
            near = did_you_mean(function, known) or f"it has {', '.join(known) or 'none'}"
            raise ValueError(f"the code defines no function {function!r}: {near}")
        _compile(self.text, self.file, ())

    def _names(self) -> frozenset[str]:
        if self._used is None:
            self._used = _read(self.text, self.file).used
        return self._used

    def names(self, context: BodyContext, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The names that the code uses, `inputs` and `context` among them, with their values for an
        attempt."""
        used = self._names()
        known = {**context.locals(inputs), INPUTS: dict(inputs)}
        for name in SHARED_NAMES & used:
            if isinstance(known.get(name), View):  # not an input, or a node, of that name
                known[name] = getattr(context, name)  # code may write there, too
        known.setdefault(CONTEXT, context)
        return {name: known[name] for name in used if name in known}

    def run(self, names: Mapping[str, Any]) -> Any:
        """Run it to its end, in a thread or process that is its own."""
        value = self._start(names)
        return asyncio.run(_awaited(value)) if inspect.iscoroutine(value) else value

    async def run_here(self, names: Mapping[str, Any]) -> Any:
        """Run it in the event loop."""
        value = self._start(names)
        return await value if inspect.iscoroutine(value) else value

    def _start(self, names: Mapping[str, Any]) -> Any:
        given = tuple(sorted(name for name in names if name.isidentifier()))
        linecache.cache[self.file] = (len(self.text), None, self.text.splitlines(True), self.file)
        scope: dict[str, Any] = {"__name__": "treadle_code", "__finish__": _finish}
        exec(_compile(self.text, self.file, given), scope)
        return scope[_BODY](**{name: names[name] for name in given})


def run_async(function: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """An async function as one that a thread or process can call: with an event loop of its own."""
    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        return asyncio.run(function(**arguments))

    return call


async def _awaited(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return await coroutine


def _parse(text: str, file: str) -> ast.Module:
    try:
        return ast.parse(text, file)
    except SyntaxError as error:
        if error.lineno is None:  # null bytes
            raise ValueError(f"the code can't be read: {error.msg}") from None
        raise ValueError(f"the code has a syntax error in line {error.lineno}: {error.msg}") from None
    except (MemoryError, RecursionError):  # Python's own limits
        raise ValueError("the code is nested too deeply for Python to read") from None
    except ValueError as error:  # null bytes
        raise ValueError(f"the code can't be read: {error}") from None


class _Read(NamedTuple):
    body: list[ast.stmt]
    used: frozenset[str]  # the names in it
    function: str | None  # that it ends with
    waits: bool


@functools.lru_cache(maxsize=16)
def _read(text: str, file: str) -> _Read:
    """What there is to know of code, in one walk: `check` asks for thousands of pieces."""
    body = _parse(text, file).body
    used, waits = set(), False
    todo: list[tuple[ast.AST, bool]] = [(one, True) for one in body]  # whether it is the code's own `await`
    while todo:
        one, own = todo.pop()
        if isinstance(one, ast.Name):
            used.add(one.id)
            continue
        if own:
            waits |= isinstance(one, _WAITS) or (isinstance(one, ast.comprehension) and one.is_async > 0)
            own = not isinstance(one, _NESTED)
        todo.extend([(child, own) for child in ast.iter_child_nodes(one)])
    last: ast.stmt | None = body[-1] if body else None
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Name):  # it names one of its functions
        named = last.value.id
        last = next((one for one in reversed(body)
                     if isinstance(one, _FUNCTIONS) and one.name == named), None)
    if not isinstance(last, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return _Read(body, frozenset(used), None, waits)
    # Called at the end with what its parameters name.
    used |= {one.arg for one in (*last.args.args, *last.args.kwonlyargs)} | {DEFAULT, ITEM}
    if last.args.kwarg is not None:
        used.add(INPUTS)
    return _Read(body, frozenset(used), last.name, waits)


@functools.lru_cache(maxsize=16)
def _end(function: str | None) -> list[ast.stmt]:
    return ast.parse(f"return __finish__(locals(), {function})").body


@functools.lru_cache(maxsize=1024)
def _compile(text: str, file: str, names: tuple[str, ...]) -> Any:
    """The code as the body of a function of these names."""
    code = _read(text, file)
    kind = ast.AsyncFunctionDef if code.waits else ast.FunctionDef
    arguments = ast.arguments(posonlyargs=[], args=[], kwonlyargs=[ast.arg(name, **_FIRST) for name in names],
                              kw_defaults=[None] * len(names), defaults=[])
    body = kind(name=_BODY, args=arguments, body=[*code.body, *_end(code.function)], decorator_list=[],
                **_FIRST)
    try:
        return compile(ast.Module(body=[body], type_ignores=[]), file, "exec")
    except SyntaxError as error:
        raise ValueError(f"the code has an error in line {error.lineno}: {error.msg}") from None


def _finish(names: dict[str, Any], function: Callable[..., Any] | None) -> Any:
    """What code gives that doesn't return: its variable `result`, or what the function at its end returns."""
    if "result" in names or function is None:
        return names.get("result")
    signature = Signature.of(function)
    given = {name: names[name] for name in signature.names if name in names}
    if signature.inputs:
        given[INPUTS] = names.get(INPUTS, {})
    if signature.context and CONTEXT in names:
        given[CONTEXT] = names[CONTEXT]
    if signature.rest:
        given = {**{name: value for name, value in names.get(INPUTS, {}).items()
                    if name.isidentifier() and name != DEFAULT}, **given}
    free = [name for name in signature.names if name not in given and name in signature.required]
    for value in (ITEM, DEFAULT):
        if free and value in names:
            given[free.pop(0)] = names[value]
            break
    return function(**given)
