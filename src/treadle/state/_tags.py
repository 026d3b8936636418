"""How the codec writes what JSON lacks: every tag with its two halves. `treadle.state.codec` is the door."""

from __future__ import annotations

import base64
import dataclasses
import enum
import math
import sys
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from pathlib import PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from treadle.errors import NotEncodable
from treadle.foreign import attempt

KEY = "$treadle"
NESTING_MAX = 100
"""Levels of containers in a value that needs tags."""
TAG = "$"
_INT_PLAIN = 1 << 63
"""Integers beyond this are written in hex where tags are: Python bounds the digits of decimal ones."""
_PURE: dict[type, str] = {PurePosixPath: "posixpath", PureWindowsPath: "windowspath"}
_dumps = msgspec.json.Encoder().encode


class Registered(msgspec.Struct, frozen=True):
    """A type that somebody taught the codec."""

    kind: type
    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]


class Registry:
    """The registered types, by type and by the name in the bytes."""

    def __init__(self) -> None:
        self.by_type: dict[type, Registered] = {}
        self.by_name: dict[str, Registered] = {}

    def add(self, entry: Registered) -> None:
        self.by_type[entry.kind] = entry
        self.by_name[entry.name] = entry

    def find(self, kind: type) -> Registered | None:
        """The encoder of a type or of its nearest base that has one."""
        for base in kind.__mro__:
            entry = self.by_type.get(base)
            if entry is not None:
                return entry
        return None


registry = Registry()


class Classes:
    """Where the module of a class is looked up when it isn't loaded: nowhere, unless this process was
    told."""

    importer: Callable[[str], Any] | None = None


def locate(path: str) -> Any:
    """What `module:qualname` names among the loaded modules, or None."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    if found is None and Classes.importer is not None:
        found = Classes.importer(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _struct_path(kind: type) -> str | None:
    path = f"{kind.__module__}:{kind.__qualname__}"
    return path if locate(path) is kind else None


class Writer:
    """One walk over one value. `place` is where the walk stands, for messages."""

    def __init__(self) -> None:
        self.place: list[str] = []

    def write(self, value: Any) -> Any:
        """Plain JSON data for a value."""
        kind = type(value)
        if value is None or kind is bool:
            return value
        if registry.by_type and (entry := registry.find(kind)) is not None:
            return {TAG: "registered", "t": entry.name, "v": self.at("", self._foreign(entry, value))}
        if isinstance(value, str):
            return self._text(str.__str__(value))
        module = kind.__module__
        if module == "numpy" and "numpy" in sys.modules:
            return self._numpy(value)
        if isinstance(value, int):
            whole = int(value)
            return whole if -_INT_PLAIN <= whole < _INT_PLAIN else {TAG: "int", "v": hex(whole)}
        if isinstance(value, float):
            number = float(value)
            return number if math.isfinite(number) else {TAG: "float", "v": repr(number)}
        return self._container(value, kind)

    def at(self, step: str, value: Any) -> Any:
        """Write a value one level further in."""
        if len(self.place) >= NESTING_MAX:
            raise RecursionError
        self.place.append(step)
        plain = self.write(value)
        self.place.pop()
        return plain

    def _container(self, value: Any, kind: type) -> Any:
        if isinstance(value, dict):
            return self._dict(value)
        if isinstance(value, list):
            return self._items(value)
        if isinstance(value, tuple):
            fields = getattr(kind, "_fields", None)
            path = _struct_path(kind) if fields else None
            if path is not None:
                return {TAG: "namedtuple", "t": path, "v": self._items(value)}
            return {TAG: "tuple", "v": self._items(value)}
        if isinstance(value, (set, frozenset)):
            # Sorted by their bytes, so that equal sets are equal bytes in every process.
            items = sorted((self.at("{…}", item) for item in value), key=_dumps)
            return {TAG: "frozenset" if isinstance(value, frozenset) else "set", "v": items}
        return self._scalar(value, kind)

    def _items(self, value: Any) -> list[Any]:
        return [self.at(f"[{i}]", item) for i, item in enumerate(value)]

    def _dict(self, value: Mapping[Any, Any]) -> Any:
        if TAG not in value and all(isinstance(key, str) for key in value):
            return {self._text(str.__str__(key)): self.at(f"[{str.__str__(key)!r}]", item)
                    for key, item in value.items()}
        return {TAG: "dict", "v": [[self.at("<key>", key), self.at(f"[{key!r}]", item)]
                                   for key, item in value.items()]}

    def _text(self, text: str) -> str:
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError as error:
                lone = text[error.start]
                raise NotEncodable(f"the text at {self.where()} has a lone surrogate {lone!r} at character "
                                   f"{error.start}: it is no valid Unicode. Was it decoded with "
                                   "surrogateescape? Return it as bytes, or decode it with "
                                   "errors='replace'") from None
        return text

    def _scalar(self, value: Any, kind: type) -> Any:
        if isinstance(value, (bytes, bytearray)):
            return {TAG: "bytes", "v": base64.b64encode(value).decode()}
        if isinstance(value, datetime):
            return {TAG: "datetime", "v": value.replace(tzinfo=None).isoformat() if _zone(value.tzinfo)
                    else value.isoformat(), **_fold(value), **_zone(value.tzinfo)}
        if isinstance(value, date):
            return {TAG: "date", "v": value.isoformat()}
        if isinstance(value, time):
            return {TAG: "time", "v": value.isoformat(), **_fold(value), **_zone(value.tzinfo)}
        if isinstance(value, timedelta):
            return {TAG: "timedelta", "v": [value.days, value.seconds, value.microseconds]}
        if isinstance(value, Decimal):
            return {TAG: "decimal", "v": str(value)}
        if isinstance(value, UUID):
            return {TAG: "uuid", "v": value.hex}
        if isinstance(value, complex):
            return {TAG: "complex", "v": [self.write(value.real), self.write(value.imag)]}
        if isinstance(value, PurePath):
            return {TAG: _PURE.get(kind, "path"), "v": self._text(str(value))}
        return self._object(value, kind)

    def _object(self, value: Any, kind: type) -> Any:
        if isinstance(value, enum.Enum):
            return {TAG: "enum", "t": self._named(kind), "n": value.name, "v": self.at(".value", value.value)}
        if isinstance(value, msgspec.Struct):
            fields = {name: getattr(value, name) for name in value.__struct_fields__}
            return {TAG: "struct", "t": self._named(kind), "v": self._fields(
                {name: item for name, item in fields.items() if item is not msgspec.UNSET})}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
            return {TAG: "dataclass", "t": self._named(kind),
                    "v": self._fields({name: getattr(value, name) for name in names})}
        pydantic = sys.modules.get("pydantic")
        if pydantic is not None and isinstance(value, pydantic.BaseModel):
            extra = value.__pydantic_extra__
            return {TAG: "model", "t": self._named(kind), "v": self._fields(value.__dict__),
                    "s": sorted(value.__pydantic_fields_set__),
                    "x": None if extra is None else self._fields(extra)}
        self._refuse(kind)

    def _fields(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self.at(f".{name}", item) for name, item in fields.items()}

    def _numpy(self, value: Any) -> Any:
        dtype = getattr(value, "dtype", None)
        if dtype is None or dtype.hasobject or dtype.fields is not None:
            self._refuse(type(value))
        array = type(value).__name__ == "ndarray"
        if not array and dtype.kind in "biuf" and dtype.itemsize <= 8:
            return {TAG: "numpy", "t": dtype.str, "v": self.write(value.item())}
        return {TAG: "ndarray" if array else "numpy", "t": dtype.str, "s": list(value.shape),
                "b": base64.b64encode(value.tobytes()).decode()}

    def _foreign(self, entry: Registered, value: Any) -> Any:
        encoded, error = attempt(entry.encode, value)
        if error is not None:
            raise NotEncodable(f"the encoder {entry.name!r} of {type(value).__qualname__} failed at "
                               f"{self.where()}: {type(error).__name__}: {error}") from error
        return encoded

    def _named(self, kind: type) -> str:
        path = _struct_path(kind)
        if path is None:
            raise NotEncodable(
                f"{self.where()} is a {kind.__module__}.{kind.__qualname__}, which can't be found again by "
                "that name: define the class at the top level of its module, or call "
                "treadle.register_encoder(type, "
                "name, encode, decode)")
        return path

    def _refuse(self, kind: type) -> NoReturn:
        raise NotEncodable(
            f"{self.where()} is a {kind.__module__}.{kind.__qualname__}, which can't be written down: return "
            "plain data, a dataclass, a msgspec struct or a pydantic model, or teach the codec the type with "
            f"treadle.register_encoder({kind.__qualname__}, {kind.__qualname__.lower()!r}, encode, decode)")

    def where(self) -> str:
        """The place inside the value, as Python would write it: `result['rows'][3]`."""
        return "result" + "".join(self.place)


def _zone(zone: tzinfo | None) -> dict[str, str]:
    return {"z": zone.key} if isinstance(zone, ZoneInfo) and zone.key else {}


def _fold(value: datetime | time) -> dict[str, int]:
    return {"f": 1} if value.fold else {}
