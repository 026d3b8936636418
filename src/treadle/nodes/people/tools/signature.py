"""A function's typed signature and its docstring as a JSON schema; a model's arguments as values of its
types.

Types are pydantic's (models, `Field`, dataclasses, typed dicts, enums, dates …), or msgspec's where a struct
or `msgspec.Meta` stands in them. Without pydantic all of them are msgspec's.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from treadle.diagram.formats.values import convert_value
from treadle.errors import did_you_mean
from treadle.nodes.binding import INPUTS
from treadle.nodes.binding import Signature as Parameters

Convert = Callable[[Any], tuple[Any, list[tuple[str, str]]]]
"""A value as JSON has it to one of a type, and what is wrong with it: (where in it, why)."""
_NO_TYPES = (NameError, AttributeError, TypeError, SyntaxError)

_GOOGLE = re.compile(r"(Args|Arguments|Parameters|Params|Keyword Args|Returns|Yields|Raises|Examples?|Notes?|"
                     r"Attributes|See Also|References|Warns|Warnings):\s*")
_UNDERLINE = re.compile(r"-{3,}\s*")
_SPHINX = re.compile(r":(param|parameter|arg|argument|type|rtype|returns?|raises?|except)\b([^:]*):\s*(.*)")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_NUMPY_ENTRY = re.compile(r"\*{0,2}(\w+(?:\s*,\s*\w+)*)\s*(?::.*)?")
_PARAMETERS = frozenset({"Args", "Arguments", "Parameters", "Params", "Keyword Args", "Other Parameters"})


class Signature(msgspec.Struct, frozen=True):
    """What a model must know of a function, and what takes its arguments."""

    schema: dict[str, Any]
    description: str
    converts: dict[str, Convert]
    required: frozenset[str]
    context: bool  # whether it wants the `BodyContext`

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Signature:
        """ValueError for a parameter without a type, or of one that JSON can't describe."""
        try:
            return _known(function)
        except TypeError:  # it can't be hashed
            return _read(function)

    def bind(self, arguments: Any) -> tuple[dict[str, Any], list[str]]:
        """A model's arguments as the function's, and what is wrong with them, by parameter."""
        if not isinstance(arguments, Mapping):
            return {}, [f"the arguments must be an object, not {_shown(arguments)}"]
        given: dict[str, Any] = {}
        wrong: list[str] = []
        for name, value in arguments.items():
            convert = self.converts.get(name)
            if convert is None:
                near = did_you_mean(str(name), self.converts)
                known = ", ".join(self.converts) or "none"
                wrong.append(f"there is no parameter {name!r}: {near or f'there is {known}'}")
                continue
            given[name], found = convert(value)
            wrong += [f"parameter {name + at!r}: {why}" for at, why in found]
        wrong += [f"parameter {name!r} is missing" for name in self.converts
                  if name in self.required and name not in arguments]
        return given, wrong


def _read(function: Callable[..., Any]) -> Signature:
    parameters = Parameters.of(function)
    about, said = read_docstring(_docstring(function))
    hints = _hints(function)
    names = [*parameters.names, *([INPUTS] if parameters.inputs else [])]
    signature = inspect.signature(function).parameters
    properties: dict[str, Any] = {}
    converts: dict[str, Convert] = {}
    required: list[str] = []
    definitions: dict[str, Any] = {}
    for name in names:
        if name not in hints:
            raise ValueError(f"parameter {name!r} of {parameters.name} has no type: write it, as in "
                             f"`{name}: str`, so that the model can be told what it takes")
        schema, converts[name] = _type(hints[name], name, parameters.name)
        _hoist(schema, definitions, parameters.name)
        default = signature[name].default
        if default is inspect.Parameter.empty:
            required.append(name)
        elif _is_plain(default) and default is not None:
            schema = {**schema, "default": default}
        about_it = _remark(hints[name]) or said.get(name)
        if about_it is not None and "description" not in schema:
            schema = {**schema, "description": about_it}
        properties[name] = schema
    whole: dict[str, Any] = {"type": "object", "properties": properties, "required": required,
                             "additionalProperties": False}
    if definitions:
        whole["$defs"] = definitions
    return Signature(whole, about, converts, frozenset(required), parameters.context)


_known = functools.lru_cache(maxsize=256)(_read)


def _docstring(function: Callable[..., Any]) -> str | None:
    if inspect.isroutine(function) or inspect.isclass(function) or isinstance(function, functools.partial):
        target = function.func if isinstance(function, functools.partial) else function
        return target.__doc__
    return type(function).__call__.__doc__ or type(function).__doc__


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    target: Any = function
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.isclass(target):
        target = target.__init__
    elif not inspect.isroutine(target):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except _NO_TYPES as error:
        raise ValueError(f"the types of {getattr(function, '__qualname__', function)!r} can't be read "
                         f"({error}): import them where the program runs, too, not only for a type "
                         "checker") from None


def _type(kind: Any, name: str, function: str) -> tuple[dict[str, Any], Convert]:
    """The schema of a type, and its conversion."""
    if not _is_msgspecs(kind):
        try:
            return _pydantic(kind)
        except ImportError:
            pass
        except (TypeError, ValueError, NameError, _pydantic_errors()) as error:
            why: Exception = error
            try:  # a struct somewhere inside
                return _msgspec(kind)
            except (TypeError, ValueError, RecursionError):
                raise _no_schema(kind, name, function, why) from None
    try:
        return _msgspec(kind)
    except (TypeError, ValueError, RecursionError) as error:
        raise _no_schema(kind, name, function, error) from None


def _no_schema(kind: Any, name: str, function: str, error: Exception) -> ValueError:
    shown = getattr(kind, "__qualname__", None) or str(kind)
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ValueError(f"parameter {name!r} of {function}: a {shown} has no form in JSON ({first}): take "
                      "plain types, a dataclass, a pydantic model or a msgspec struct")


def _pydantic_errors() -> type[Exception]:
    from pydantic.errors import PydanticUserError

    kind: type[Exception] = PydanticUserError
    return kind


def _pydantic(kind: Any) -> tuple[dict[str, Any], Convert]:
    from pydantic import TypeAdapter, ValidationError

    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    schema = adapter.json_schema(ref_template="#/$defs/{model}")

    def convert(value: Any) -> tuple[Any, list[tuple[str, str]]]:
        try:
            # From JSON, strictly: a date is a text there, and a text is no number.
            return adapter.validate_json(json.dumps(value), strict=True), []
        except ValidationError as error:
            whole = _whole(value)
            if whole is not value:
                return convert(whole)
            return None, [(_path(one["loc"]), "it is missing" if one["type"] == "missing" else
                           f"{_lower(one['msg'])}, not {_shown(one['input'])}")
                          for one in error.errors(include_url=False, include_context=False)]

    return schema, convert


def _msgspec(kind: Any) -> tuple[dict[str, Any], Convert]:
    (schema,), definitions = msgspec.json.schema_components([kind], ref_template="#/$defs/{name}")
    if definitions:
        schema = {**schema, "$defs": definitions}

    def convert(value: Any) -> tuple[Any, list[tuple[str, str]]]:
        found, wrong = convert_value(value, kind)
        if wrong is None:
            return found, []
        at = wrong.path if wrong.path.startswith("[") or not wrong.path else f".{wrong.path}"
        return None, [(at, wrong.message + (f" ({wrong.hint})" if wrong.hint else ""))]

    return schema, convert


def _remark(kind: Any) -> str | None:
    """The text in `Annotated[int, "How many."]`."""
    if typing.get_origin(kind) is not typing.Annotated:
        return None
    return next((one for one in kind.__metadata__ if isinstance(one, str)), None)


def _is_msgspecs(kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return True
    parts: Iterable[Any] = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Annotated:
        parts = (kind.__origin__, *kind.__metadata__)
        if any(isinstance(one, msgspec.Meta) for one in kind.__metadata__):
            return True
    return any(_is_msgspecs(one) for one in parts)


def _hoist(schema: dict[str, Any], definitions: dict[str, Any], function: str) -> None:
    """Move what a parameter's schema defines to where the whole schema does."""
    for name, one in schema.pop("$defs", {}).items():
        if definitions.setdefault(name, one) != one:
            raise ValueError(f"two types of {function}'s parameters are both called {name}: rename one")


def _whole(value: Any) -> Any:
    """The value with 3 for each 3.0, which JSON does not tell apart; itself if there is none."""
    if isinstance(value, float):
        return int(value) if value.is_integer() else value
    if isinstance(value, list):
        items = list(map(_whole, value))
        return items if any(a is not b for a, b in zip(items, value, strict=True)) else value
    if isinstance(value, dict):
        pairs = {key: _whole(one) for key, one in value.items()}
        return pairs if any(pairs[key] is not value[key] for key in value) else value
    return value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    return value is None or type(value) in (str, int, float, bool)


def _path(parts: Iterable[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else text[:60] + "…"


def read_docstring(text: str | None) -> tuple[str, dict[str, str]]:
    """What a docstring says of a function, without its sections, and of each parameter: as Google, NumPy and
    Sphinx write it."""
    lines = inspect.cleandoc(text or "").splitlines()
    about: list[str] = []
    parameters: dict[str, str] = {}
    at = 0
    while at < len(lines):
        line = lines[at]
        google = _GOOGLE.fullmatch(line)
        if google is not None:
            end = _section_end(lines, at + 1)
            if google[1] in _PARAMETERS:
                parameters.update(_google(lines[at + 1:end]))
            at = end
        elif at + 1 < len(lines) and line.strip() and _UNDERLINE.fullmatch(lines[at + 1]):
            end = next((k - 1 for k in range(at + 3, len(lines)) if _UNDERLINE.fullmatch(lines[k])),
                       len(lines))
            if line.strip() in _PARAMETERS:
                parameters.update(_numpy(lines[at + 2:end]))
            at = end
        elif (sphinx := _SPHINX.fullmatch(line)) is not None:
            end = next((k for k in range(at + 1, len(lines)) if not lines[k][:1].isspace()), len(lines))
            words = sphinx[2].split()
            if sphinx[1] in ("param", "parameter", "arg", "argument") and words:
                parameters[words[-1]] = _in_one([sphinx[3], *lines[at + 1:end]])
            at = end
        else:
            about.append(line)
            at += 1
    return "\n".join(about).strip(), {name: said for name, said in parameters.items() if said}


def _section_end(lines: list[str], at: int) -> int:
    return next((k for k in range(at, len(lines)) if lines[k].strip() and not lines[k][:1].isspace()),
                len(lines))


def _google(lines: list[str]) -> dict[str, str]:
    body = inspect.cleandoc("\n" + "\n".join(lines)).splitlines()
    found: dict[str, list[str]] = {}
    name = ""
    for line in body:
        entry = None if line[:1].isspace() else _ENTRY.fullmatch(line)
        if entry is not None:
            name = entry[1]
            found[name] = [entry[2]]
        elif name:
            found[name].append(line)
    return {key: _in_one(said) for key, said in found.items()}


def _numpy(lines: list[str]) -> dict[str, str]:
    found: dict[str, list[str]] = {}
    names: list[str] = []
    for line in lines:
        entry = None if line[:1].isspace() else _NUMPY_ENTRY.fullmatch(line.rstrip())
        if entry is not None:
            names = [one.strip() for one in entry[1].split(",")]
            found |= {one: [] for one in names}
        else:
            for one in names:
                found[one].append(line)
    return {key: _in_one(said) for key, said in found.items()}


def _in_one(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines if line.strip())
