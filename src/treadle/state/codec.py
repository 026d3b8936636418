"""Values as bytes, and back as they were.

A result is encoded once, when it is made. The bytes are UTF-8 JSON. A value that JSON carries as it is (None,
bool, int, float, str, list, dict with text keys) is written plainly and costs one C call each way. Anything
else makes the document `{"$treadle": …}`, in which `{"$": tag, …}` stands for what JSON lacks; only documents
that begin so are walked when they are read.

The law: `decode(encode(v)) == v` with the same types, for the plain types above (integers of any size, NaN
and ±inf included) and bytes, tuples, sets, dicts with other keys, datetime and its family, Decimal, UUID,
complex, paths, enums, named tuples, dataclasses, msgspec structs, pydantic models, numpy scalars and arrays,
and registered types. What deviates, always in the same way:

- a subclass of str, int, float, list or dict (`StrEnum`, `OrderedDict` …) comes back as the plain value;
  a bytearray comes back as bytes, a path of this system as `Path`;
- a time zone comes back as its offset, or as a `ZoneInfo` if it was one;
- a class is named by its import path. Data never imports a module: if the module isn't loaded when the value
  is read, a dataclass, struct or model comes back as a dict, a named tuple as a tuple, an enum member as its
  value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import msgspec

from treadle.errors import NotDecodable, NotEncodable
from treadle.state._tags import KEY, NESTING_MAX, Classes, Registered, Writer, registry
from treadle.state._untag import Reader
from treadle.state.blob import Blob, blob_of, fields_of
from treadle.state.cell import ErrorInfo, ItemError

_T = TypeVar("_T")

MARK = b'{"$treadle"'
"""How encoded bytes begin that JSON alone does not keep: they can't stand inside others as they are."""
UNREAD = object()
"""Stands for a decoding that was not made."""
_PLAIN = (str, int, float, list, dict)
_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode


def encode(value: Any) -> bytes:
    """A value as UTF-8 JSON; `NotEncodable` names the type and the place of what can't be written down."""
    return encode_and_copy(value)[0]


def encode_and_copy(value: Any) -> tuple[bytes, Any]:
    """The same bytes, and what `decode` would make of them if that was made on the way, else `UNREAD`."""
    try:
        raw = _dumps(value)
        copy = _loads(raw)
        # The comparison is the proof that JSON keeps this value: tuples, datetimes, NaN … fail it.
        if copy == value and raw[:11] != MARK:
            return raw, copy
    except Exception:  # foreign `__eq__` and whatever msgspec can't write: the walk below says why
        pass
    return _encode_tagged(value), UNREAD


def decode(raw: bytes) -> Any:
    """The value of bytes that `encode` made; `NotDecodable` if they are damaged or their class has
    changed."""
    try:
        value = _loads(raw)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        _damaged(raw, error)
    return Reader().read(value["$treadle"]) if raw[:11] == MARK else value


def register_encoder(kind: type[_T], name: str, encode: Callable[[_T], Any],
                     decode: Callable[[Any], _T]) -> None:
    """Teach the codec a type (and its subclasses that have no encoder of their own).

    `encode` makes something of it that the codec knows, `decode` makes it again; `name` stands in the
    recorded bytes, so it must stay. ValueError if the name is taken by another type, TypeError for subclasses
    of str, int, float, list and dict, which are always written as the plain value.
    """
    if issubclass(kind, _PLAIN):
        raise TypeError(f"{kind.__qualname__} can't have an encoder: a subclass of str, int, float, list or "
                        "dict is always written as the plain value; wrap it in a dataclass")
    known = registry.by_name.get(name)
    if known is not None and known.kind is not kind and _path(known.kind) != _path(kind):
        raise ValueError(f"the encoder name {name!r} is taken by {_path(known.kind)}: choose another for "
                         f"{_path(kind)}")
    registry.add(Registered(kind, name, encode, decode))


def import_classes_with(importer: Callable[[str], Any] | None) -> None:
    """For a process whose values come from one that it trusts, its parent: how to import the modules of their
    classes. `importer` takes a module's name and gives the module or None."""
    Classes.importer = importer


def _encode_tagged(value: Any) -> bytes:
    writer = Writer()
    try:
        return _dumps({KEY: writer.write(value)})
    except RecursionError:
        raise NotEncodable(f"the value is nested deeper than {NESTING_MAX} levels, or contains itself: "
                           "return a flatter one") from None


def _damaged(raw: bytes, error: Exception) -> NoReturn:
    head = bytes(raw[:40])
    raise NotDecodable(f"recorded bytes are not what the codec writes ({error}): {head!r}…") from error


def _path(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"


register_encoder(Blob, "blob", fields_of, blob_of)
register_encoder(ErrorInfo, "error",
                 lambda error: {name: getattr(error, name) for name in error.__struct_fields__},
                 lambda fields: ErrorInfo(**fields))
register_encoder(ItemError, "item_error",
                 lambda item: {"index": item.index, "error": item.error}, lambda fields: ItemError(**fields))
