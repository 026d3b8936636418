"""Convert plain data to a struct, and find everything that is wrong with it at once."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, get_args, get_origin

import msgspec

from treadle.errors import did_you_mean

_TOO_DEEP = "nested too deeply"
_AT = re.compile(r" - at `(key in )?\$(?P<path>.*)`\Z")
_EXPECTED = re.compile(r"(?<=Expected )`[^`]*`|(?<=got )`[^`]*`")
_WORDS = {"object": "a map", "array": "a list", "str": "a text", "int": "an integer", "float": "a number",
          "bool": "true or false"}


class Mismatch(msgspec.Struct, frozen=True):
    """A value that does not fit: where in the data (`cases[2].label`; "" for the whole), why, what to do."""

    path: str
    message: str
    hint: str | None = None
    missing: bool = False


def convert_value(value: Any, kind: Any, path: str = "") -> tuple[Any, Mismatch | None]:
    """Convert one value strictly: a text is no number. Gives the result, or what is wrong."""
    try:
        return msgspec.convert(value, kind, strict=True), None
    except msgspec.ValidationError as error:
        return None, _mismatch(str(error), value, kind, path)
    except RecursionError:
        return None, Mismatch(path, _TOO_DEEP)


@cache
def fields_of(kind: type[msgspec.Struct]) -> dict[str, msgspec.structs.FieldInfo]:
    """The fields of a struct by the name that files use. Finding them costs as much as converting a node."""
    return {field.encode_name: field for field in msgspec.structs.fields(kind)}


def convert_struct(data: Mapping[str, Any], kind: type[msgspec.Struct], also: Sequence[str] = ()
                   ) -> tuple[Any, list[Mismatch]]:
    """Convert a map to a struct strictly; None and all that is wrong (unknown, missing, unfit) if anything
    is. `also` are other keys that may stand beside it in the file, and be meant."""
    fields = fields_of(kind)
    wrong: list[Mismatch] = []
    for key, value in data.items():
        if key not in fields:
            near = did_you_mean(key, [*fields, *also])
            known = ", ".join(sorted(fields)) or "none"
            wrong.append(Mismatch(key, f"unknown property {key!r}", near or f"there is: {known}"))
        else:
            mismatch = convert_value(value, fields[key].type, key)[1]
            if mismatch is not None:
                deep = mismatch.message == _TOO_DEEP
                wrong += (not deep and _inside(key, value, fields[key].type)) or [mismatch]
    for name, field in fields.items():
        if field.required and name not in data:
            wrong.append(Mismatch("", f"property {name!r} is missing", missing=True))
    if wrong:
        return None, wrong
    converted, mismatch = convert_value(dict(data), kind)
    return converted, [mismatch] if mismatch is not None else []


def _inside(key: str, value: Any, kind: Any) -> list[Mismatch]:
    """All that is wrong within a map that stands for a struct; nothing if it doesn't, for one only."""
    structs = [one for one in (kind, *get_args(kind)) if isinstance(one, type)
               and issubclass(one, msgspec.Struct)]
    if len(structs) != 1 or not isinstance(value, Mapping):
        return []
    return [msgspec.structs.replace(one, path=f"{key}.{one.path}" if one.path else key)
            for one in convert_struct(value, structs[0])[1]]


def _mismatch(text: str, value: Any, kind: Any, path: str) -> Mismatch:
    match = _AT.search(text)
    inner = match["path"].lstrip(".") if match else ""
    if match:
        text = text[:match.start()]
    if inner == "[...]" and isinstance(value, Mapping):  # of a map it doesn't say which
        inner = _first_unfit(value, kind) or inner
    if inner:
        path += inner if inner.startswith("[") or not path else f".{inner}"
    hint = None
    choices = _choices(kind)
    if choices and isinstance(value, str) and "nvalid enum" in text:
        text, hint = f"{value!r} is not one of {', '.join(choices)}", did_you_mean(value, choices)
    elif isinstance(value, str) and "`bool`" in text and value.lower() in ("yes", "no", "on", "off"):
        hint = "write true or false"
    text = _EXPECTED.sub(
        lambda found: " or ".join(_WORDS.get(word, word) for word in found[0].strip("`").split(" | ")), text)
    text = text.replace("Expected ", "expected ").replace(", got ", ", not ")
    return Mismatch(
        path, text[:1].lower() + text[1:] if text.startswith(("Object ", "Invalid ")) else text, hint
    )


def _first_unfit(value: Mapping[str, Any], kind: Any) -> str | None:
    """The key of the first value that is none of a `dict[str, …]`'s."""
    for one in (kind, *get_args(kind)):
        if get_origin(one) in (dict, Mapping):
            items = get_args(one)[1]
            return next((key for key, item in value.items() if convert_value(item, items)[1]), None)
    return None


def _choices(kind: Any) -> list[str]:
    """The words that a value of this type may be, if it is an enum or a literal."""
    found: list[str] = []
    for one in (kind, *get_args(kind)):
        if isinstance(one, type) and issubclass(one, enum.Enum):
            found += [str(member.value) for member in one]
        elif isinstance(one, str):
            found.append(one)
        elif one is not kind:
            found += [word for word in get_args(one) if isinstance(word, str)]
    return found
