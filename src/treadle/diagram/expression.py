"""One language for expressions and templates: Jinja2, sandboxed and strict.

    Expression.compile("{{ rows | length > limit }}").evaluate({"rows": [1, 2], "limit": 1})   # True
    Template.compile("Dear {{ who }},").render({"who": "Ann"})                                  # 'Dear Ann,'

An expression gives the value itself, never its text; the braces around it may be left out. A template gives
text; lists and maps print as JSON in it. Both are compiled once and kept. What differs from plain Jinja2:

- A name, attribute or key that does not exist is an error wherever it is used, `is none` and `is string`
  included; `is defined` and `default(…)` are the ways to ask. A failing expression is an error, never False.
- `row.items` is the key `items` if the map `row` has one, and its method otherwise.
- `map`, `select` and the other lazy filters give lists, so `rows | select | length` works.
- More filters (`tojson`, `fromjson`, `lines`, `split`, `flatten`, `each`), and Python's `len`, `min` …

The sandbox keeps a text away from Python's insides and from changing its inputs, and limits catch accidents.
Neither makes a stranger's diagram safe to run: a diagram can run code.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from contextvars import ContextVar
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, TypeVar, cast

import jinja2
import jinja2.defaults
import jinja2.meta
import jinja2.nodes
import jinja2.parser
import jinja2.runtime
import jinja2.sandbox
import msgspec
from markupsafe import Markup

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import ExpressionError, LimitExceeded, did_you_mean
from treadle.foreign import attempt

CACHED_MAX = 20_000
"""Compiled texts that one environment keeps; at the limit it starts afresh."""
_T = TypeVar("_T")
_RESULT = "result"
_LAZY = ("map", "select", "reject", "selectattr", "rejectattr", "unique", "batch", "slice", "items",
         "reverse")
_VIEWS = (Iterator, KeysView, ItemsView, ValuesView, range)  # what becomes a list when it is a result
_NO_ATTRIBUTES: Mapping[str, frozenset[str]] = MappingProxyType({})
_COUNTED = "(counted)"  # the filter around what a `for` goes over; no text can name it
_MACRO_TURNS = 20  # what a call of a macro counts as: it takes as long as so many turns of a loop
_WIDE = frozenset(("center", "expandtabs", "ljust", "rjust", "zfill"))  # text methods that make any length


class _Undefined(jinja2.StrictUndefined):
    """What a missing name, attribute or key gives: an error as soon as it is used."""

    made = 0  # ever; tells `evaluate` whether a result could have one hidden in it

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        _Undefined.made += 1

    @property
    def _undefined_message(self) -> str:
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is jinja2.utils.missing:
            return f"unknown name {self._undefined_name!r}"
        thing = self._undefined_obj
        kind = "an empty value" if thing is None else f"the {type(thing).__name__}"
        if not isinstance(thing, Mapping):
            word = "attribute" if isinstance(self._undefined_name, str) else "item"
            return f"{kind} has no {word} {self._undefined_name!r}"
        return f"the map has no key {self._undefined_name!r}{_known(str(self._undefined_name), thing)}"


def _known(name: str, known: Iterable[Any]) -> str:
    """A hint for a name that is not among the known: the nearest, and all of them."""
    names = sorted(str(one) for one in known)
    near = did_you_mean(name, names)
    listed = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    return (f" ({near})" if near else "") + (f"; there is: {listed}" if listed else "; there is none")


class _Context(jinja2.runtime.Context):
    """Looks names up in the mapping it was given, then among the functions, without copying either."""

    def resolve_or_missing(self, key: str) -> Any:
        if key in self.vars:
            return self.vars[key]
        try:
            return self.parent[key]
        except KeyError:
            return self.environment.globals.get(key, jinja2.utils.missing)


_turns_left: ContextVar[list[int]] = ContextVar("turns_left")  # of the template that is rendered


@jinja2.pass_context  # which keeps the compiler from working it out
def _counted(context: jinja2.runtime.Context, values: Iterable[Any]) -> Iterator[Any]:
    take = cast("_Environment", context.environment).take
    for value in values:
        take(1)
        yield value


class _Environment(jinja2.sandbox.ImmutableSandboxedEnvironment):
    context_class = _Context
    intercepted_binops = frozenset(("*", "**"))

    def __init__(self, config: TreadleConfig, base: str | None) -> None:
        super().__init__(
            undefined=_Undefined, keep_trailing_newline=True, autoescape=False, finalize=_printed,
            loader=None if base is None else jinja2.FileSystemLoader(base), extensions=("jinja2.ext.do",))
        self.config, self.base = config, base
        self.texts: dict[tuple[type, str], Any] = {}
        self.globals = {**_FUNCTIONS, "range": self._range}
        self.filters |= {name: _listed(self.filters[name]) for name in _LAZY}
        self.filters |= {"tojson": to_json, "fromjson": json.loads, "lines": str.splitlines,
                         "split": str.split, "flatten": _flatten, "each": _each, _COUNTED: _counted}
        self.tests |= {name: _strict_test(test) for name, test in self.tests.items()
                       if name not in ("defined", "undefined", "filter", "test")}

    def _parse(self, source: str, name: str | None, filename: str | None) -> jinja2.nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(jinja2.nodes.For):
            loop.iter = jinja2.nodes.Filter(loop.iter, _COUNTED, [], [], None, None, environment=self,
                                            lineno=loop.lineno)
        return tree

    def take(self, turns: int) -> None:
        left = _turns_left.get()
        left[0] -= turns
        if left[0] < 0:
            raise self.config.exceeded("template_turns_max", "a template that goes round and round")

    def call(self, context: jinja2.runtime.Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(obj, jinja2.runtime.Macro):
            self.take(_MACRO_TURNS)
        elif isinstance(getattr(obj, "__self__", None), str) and obj.__name__ in _WIDE:
            self._bound(max((one for one in args if isinstance(one, int)), default=0), f"str.{obj.__name__}")
        return super().call(context, obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, Mapping):
            try:
                return obj[attribute]
            except KeyError:
                pass
        return super().getattr(obj, attribute)

    def call_binop(self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
                    self._bound(len(many) * times, f"{type(many).__name__} * {times}")
        elif isinstance(left, int) and isinstance(right, int):
            self._bound(left.bit_length() * right // 8, f"{left} ** {right}")
        return super().call_binop(context, operator, left, right)

    def _bound(self, size: int, what: str) -> None:
        if size > self.config.expression_result_max:
            raise self.config.exceeded("expression_result_max", f"{what} would have {size} items")

    def _range(self, *args: int) -> range:
        numbers = range(*args)
        self._bound(len(numbers), f"range({', '.join(map(str, args))})")
        return numbers


def _printed(value: Any) -> Any:
    """How a value stands in a text: lists and maps as JSON, anything else as Jinja2 prints it."""
    return to_json(value) if isinstance(value, Mapping | list | tuple | set | frozenset) else value


def to_json(value: Any, indent: int | None = None) -> str:
    """A value as JSON text. What JSON lacks is written as its nearest: dates, paths, dataclasses …"""
    try:
        return json.dumps(value, ensure_ascii=False, indent=indent, default=_plain)
    except TypeError:  # a key that is no text
        return json.dumps(_text_keys(value), ensure_ascii=False, indent=indent,
                          default=lambda part: _text_keys(_plain(part)))


def _text_keys(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key if key is None or isinstance(key, str | int | float) else str(key): _text_keys(one)
                for key, one in value.items()}
    return [_text_keys(one) for one in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if isinstance(value, jinja2.Undefined):
        str(value)  # raises
    if isinstance(value, Mapping):
        return dict(value)
    try:
        return msgspec.to_builtins(value, enc_hook=str)
    except TypeError:
        return str(value)


def _each(many: Any) -> list[tuple[Any, Any]]:
    """The items of a list with their numbers from 0, the values of a map with their keys."""
    if not isinstance(many, Mapping | list | tuple):
        raise TypeError(f"each goes over a list or a map, not over a {type(many).__name__}")
    return list(many.items() if isinstance(many, Mapping) else enumerate(many))


def _flatten(lists: Iterable[Any]) -> list[Any]:
    """One level of nesting less; what is not a list stays."""
    return [one for part in lists for one in (part if isinstance(part, list | tuple) else (part,))]


def _listed(lazy: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(lazy)
    def eager(*args: Any, **kwargs: Any) -> Any:
        found = lazy(*args, **kwargs)
        return list(found) if isinstance(found, Iterator) else found
    return eager


def _strict_test(test: Any) -> Callable[..., Any]:
    @functools.wraps(test)
    def strict(*args: Any, **kwargs: Any) -> Any:
        for arg in args:
            if isinstance(arg, jinja2.Undefined):
                str(arg)  # raises
        return test(*args, **kwargs)
    return strict


_FUNCTIONS: Mapping[str, Any] = {
    "dict": dict, "namespace": jinja2.utils.Namespace,
    "cycler": jinja2.utils.Cycler, "joiner": jinja2.utils.Joiner,
    "len": len, "min": min, "max": max, "sum": sum, "abs": abs, "round": round, "any": any, "all": all,
    "int": int, "float": float, "str": str, "bool": bool, "list": list, "sorted": sorted,
    "zip": _listed(zip), "enumerate": _listed(enumerate),
}
FUNCTIONS = frozenset(_FUNCTIONS) | {"range"}
"""Names that every expression knows. A name of the diagram hides a function of that name."""


@functools.lru_cache(maxsize=64)
def _environment(config: TreadleConfig, base: str | None) -> _Environment:
    return _Environment(config, base)


_default = _environment(DEFAULT_CONFIG, None)


class _Compiled:
    """What expressions and templates have in common: a text, and the names it uses."""

    __slots__ = ("_environment", "_template", "attributes", "files", "names", "text")
    kind: str

    text: str
    names: frozenset[str]
    """The names that it uses and does not set itself, without those of functions."""
    attributes: Mapping[str, frozenset[str]]
    """By name, the attributes and constant keys asked of it: `inputs.limit` gives {"inputs": {"limit"}}."""
    files: tuple[str, ...]
    """The template files that it includes, extends or imports by a constant name."""

    def _parse(self, text: str, environment: _Environment,
               parse: Callable[[], jinja2.nodes.Template]) -> None:
        limit = environment.config.template_chars_max
        if len(text) > limit:
            raise environment.config.exceeded("template_chars_max", f"{self.kind} of {len(text)} characters")
        try:
            tree = parse()
            names = jinja2.meta.find_undeclared_variables(tree)
            files = tuple(name for name in jinja2.meta.find_referenced_templates(tree) if name is not None)
            attributes = _attributes(tree, names)
            self._template = environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise ExpressionError(f"{self.kind} {_short(text)}: {_said(error, environment)}") from error
        except (RecursionError, MemoryError, SyntaxError) as error:  # the last two: Python's own limits
            raise ExpressionError(f"{self.kind} {_short(text)}: nested too deeply") from error
        self.text, self.names = text, frozenset(names) - FUNCTIONS
        self.files, self.attributes = files, attributes
        self._environment = environment

    def _guarded(self, work: Callable[[Mapping[str, Any]], _T], names: Mapping[str, Any]) -> _T:
        value, error = attempt(work, names)
        if error is not None:  # a filter's, or that of a method of a value
            raise self._failure(error, names) from error
        return value  # type: ignore[no-any-return]

    def _failure(self, error: BaseException, names: Mapping[str, Any]) -> Exception:
        if isinstance(error, LimitExceeded):
            return error
        message = str(error)
        if isinstance(error, jinja2.UndefinedError):
            for name in sorted(self.names):
                if message == f"unknown name {name!r}":
                    message += _known(name, names)
        elif isinstance(error, RecursionError):
            message = "it calls itself too deeply"
        elif isinstance(error, jinja2.TemplateNotFound):
            message = f"no template file {error.name!r} in the folder {self._environment.base!r}"
        elif self.files and self._environment.base is None:
            message = "it has no folder to take other template files from"
        elif not isinstance(error, jinja2.TemplateError):
            message = f"{type(error).__name__}: {message}"
        line = _line(error.__traceback__)
        place = f" line {line}" if line > 1 else ""
        return ExpressionError(f"{self.kind} {_short(self.text)}{place}: {message.rstrip('.')}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"


class Expression(_Compiled):
    """A compiled expression. Immutable, and safe to evaluate in several threads at once."""

    __slots__ = ("_root",)
    kind = "expression"

    @classmethod
    def compile(cls, text: str, *, config: TreadleConfig = DEFAULT_CONFIG) -> Expression:
        """Compile a text, or find it compiled. Raises ExpressionError; LimitExceeded if it is too long."""
        environment = _default if config is DEFAULT_CONFIG else _environment(config, None)
        found: Expression | None = environment.texts.get((cls, text))
        return found if found is not None else _keep(environment, cls, text, cls(text, environment))

    def __init__(self, text: str, environment: _Environment) -> None:
        self._parse(text, environment, lambda: self._tree(text, environment))
        self._root = self._template.root_render_func

    @staticmethod
    def _tree(text: str, environment: _Environment) -> jinja2.nodes.Template:
        bare = text.strip()
        if bare.startswith("{{") and bare.endswith("}}") and len(bare) >= 4:
            bare = bare[2:-2].removeprefix("-").removesuffix("-")
        if not bare.strip():
            raise jinja2.TemplateSyntaxError("it is empty", 1)
        parser = jinja2.parser.Parser(environment, bare, state="variable")
        value = parser.parse_expression()
        if not parser.stream.eos:
            token = parser.stream.current
            message = f"one expression expected, but {token.value!r} follows it"
            raise jinja2.TemplateSyntaxError(message, token.lineno)
        name = jinja2.nodes.Name(_RESULT, "store", lineno=1)
        tree = jinja2.nodes.Template([jinja2.nodes.Assign(name, value, lineno=1)], lineno=1)
        for choice in tree.find_all(jinja2.nodes.CondExpr):
            if choice.expr2 is None:
                raise jinja2.TemplateSyntaxError("'… if …' needs an 'else' in an expression", choice.lineno)
        tree.set_environment(environment)
        return tree

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """Its value over these names.

        Raises ExpressionError for a name that is not there, and says which are; for whatever fails inside;
        LimitExceeded for a result beyond `expression_result_max`.
        """
        return self._guarded(self._evaluate, names)

    def _evaluate(self, names: Mapping[str, Any]) -> Any:
        made = _Undefined.made
        context = _Context(self._environment, names, None, {})  # type: ignore[arg-type]
        tuple(self._root(context))  # runs it: it gives no text, but sets the result
        value = context.vars[_RESULT]
        kind = type(value)
        if kind is bool or kind is int or kind is str or value is None:
            return value
        if isinstance(value, _VIEWS):
            value = list(value)
        if made != _Undefined.made:
            _require(value)
        return str(value) if isinstance(value, Markup) else value


class Template(_Compiled):
    """A compiled template. Immutable, and safe to render in several threads at once."""

    __slots__ = ()
    kind = "template"

    @classmethod
    def compile(cls, text: str, *, base: str | None = None,
                config: TreadleConfig = DEFAULT_CONFIG) -> Template:
        """Compile a text, or find it compiled; it may include and extend template files in the folder `base`.

        Raises ExpressionError; LimitExceeded for a text that is too long.
        """
        environment = _default if base is None and config is DEFAULT_CONFIG else _environment(config, base)
        found: Template | None = environment.texts.get((cls, text))
        return found if found is not None else _keep(environment, cls, text, cls(text, environment))

    @classmethod
    def load(cls, path: str, *, base: str, config: TreadleConfig = DEFAULT_CONFIG) -> Template:
        """Compile a template file of the diagram whose folder is `base`. Raises OSError, ExpressionError."""
        file = (Path(base) / path).resolve()
        if not file.is_relative_to(Path(base).resolve()):
            raise ExpressionError(f"template file {path!r} is outside the diagram's folder {base!r}")
        if file.stat().st_size > 4 * config.template_chars_max:
            size = f"template file {path!r} of {file.stat().st_size} bytes"
            raise config.exceeded("template_chars_max", size)
        try:
            return cls.compile(file.read_text(encoding="utf-8"), base=base, config=config)
        except UnicodeDecodeError as error:
            raise ExpressionError(f"template file {path!r} is not UTF-8 text: {error}") from error

    def __init__(self, text: str, environment: _Environment) -> None:
        self._parse(text, environment, lambda: environment.parse(text))

    def render(self, names: Mapping[str, Any]) -> str:
        """Its text over these names.

        Raises ExpressionError for a name that is not there, and says which are; for whatever fails inside;
        LimitExceeded for a text longer than `template_output_chars_max`, or for loops and macros that turn
        more often than `template_turns_max`.
        """
        return self._guarded(self._render, names)

    def _render(self, names: Mapping[str, Any]) -> str:
        environment = self._environment
        template = self._template
        context = _Context(environment, names, template.name, template.blocks)  # type: ignore[arg-type]
        parts: list[str] = []
        size, limit = 0, environment.config.template_output_chars_max
        token = _turns_left.set([environment.config.template_turns_max])
        try:
            for part in self._template.root_render_func(context):
                size += len(part)
                if size > limit:
                    raise environment.config.exceeded("template_output_chars_max", "the text of a template")
                parts.append(part)
        finally:
            _turns_left.reset(token)
        return "".join(parts)


_C = TypeVar("_C", bound=_Compiled)


def _keep(environment: _Environment, kind: type[_C], text: str, compiled: _C) -> _C:
    if len(environment.texts) >= CACHED_MAX:
        environment.texts.clear()
    environment.texts[kind, text] = compiled
    return compiled


def _attributes(tree: jinja2.nodes.Template, names: Collection[str]) -> Mapping[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for node in tree.find_all((jinja2.nodes.Getattr, jinja2.nodes.Getitem)):
        owner = node.node  # type: ignore[attr-defined]
        if not isinstance(owner, jinja2.nodes.Name) or owner.name not in names:
            continue
        if isinstance(node, jinja2.nodes.Getattr):
            found.setdefault(owner.name, set()).add(node.attr)
        elif isinstance(node, jinja2.nodes.Getitem) and isinstance(node.arg, jinja2.nodes.Const) \
                and isinstance(node.arg.value, str):
            found.setdefault(owner.name, set()).add(node.arg.value)
    return {name: frozenset(asked) for name, asked in found.items()} or _NO_ATTRIBUTES


def _require(value: Any) -> None:
    """Raise if an undefined value hides in a result."""
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if isinstance(one, jinja2.Undefined):
            str(one)  # raises
        if isinstance(one, Mapping | list | tuple) and id(one) not in seen:
            seen.add(id(one))
            waiting.extend(one.values() if isinstance(one, Mapping) else one)


def _said(error: jinja2.TemplateSyntaxError, environment: _Environment) -> str:
    message = error.message or "syntax error"
    place = f"line {error.lineno}: " if error.lineno > 1 else ""
    for kind, known in (("filter", environment.filters), ("test", environment.tests)):
        if message.startswith(f"No {kind} named "):
            name = message.removeprefix(f"No {kind} named ").strip("'.")
            near = did_you_mean(name, known)
            return f"{place}no {kind} {name!r}" + (f" ({near})" if near else "")
    return place + message.rstrip(".")


def _line(trace: TracebackType | None) -> int:
    """The line of the template's text where it failed, or 0."""
    line = 0
    while trace is not None:
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if template is not None:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line


def _short(text: str) -> str:
    one = " ".join(text.split())
    return repr(one if len(one) <= 80 else one[:79] + "…")
