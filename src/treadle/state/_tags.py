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
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, NoReturn
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from treadle.errors import NotDecodable, NotEncodable

KEY = "$treadle"
NESTING_MAX = 200
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


def _locate(path: str) -> Any:
    """What `module:qualname` names among the loaded modules, or None."""
    module, _, name = path.partition(":")
    found: Any = sys.modules.get(module)
    if found is None and Classes.importer is not None:
        found = Classes.importer(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _is_kind(found: Any, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)


def _struct_path(kind: type) -> str | None:
    path = f"{kind.__module__}:{kind.__qualname__}"
    return path if _locate(path) is kind else None


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
                                   "surrogateescape? "
                                   "Return it as bytes, or decode it with errors='replace'") from None
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
        try:
            return entry.encode(value)
        except Exception as error:  # the encoder is somebody else's code
            raise NotEncodable(f"the encoder {entry.name!r} of {type(value).__qualname__} failed at "
                               f"{self.where()}: "
                               f"{type(error).__name__}: {error}") from error

    def _named(self, kind: type) -> str:
        path = _struct_path(kind)
        if path is None:
            raise NotEncodable(
                f"{self.where()} is a {kind.__module__}.{kind.__qualname__}, which can't be found again by "
                "that name: "
                "define the class at the top level of its module, or call treadle.register_encoder(type, "
                "name, "
                "encode, decode)")
        return path

    def _refuse(self, kind: type) -> NoReturn:
        raise NotEncodable(
            f"{self.where()} is a {kind.__module__}.{kind.__qualname__}, which can't be written down: return "
            "plain "
            "data, a dataclass, a msgspec struct or a pydantic model, or teach the codec the type with "
            f"treadle.register_encoder({kind.__qualname__}, {kind.__qualname__.lower()!r}, encode, decode)")

    def where(self) -> str:
        """The place inside the value, as Python would write it: `result['rows'][3]`."""
        return "result" + "".join(self.place)


def _zone(zone: tzinfo | None) -> dict[str, str]:
    return {"z": zone.key} if isinstance(zone, ZoneInfo) and zone.key else {}


def _fold(value: datetime | time) -> dict[str, int]:
    return {"f": 1} if value.fold else {}


class Reader:
    """One walk over one tagged document."""

    def read(self, data: Any) -> Any:
        """The value that plain JSON data stands for."""
        if isinstance(data, list):
            return [self.read(item) for item in data]
        if not isinstance(data, dict):
            return data
        tag = data.get(TAG)
        if tag is None:
            return {key: self.read(item) for key, item in data.items()}
        try:
            half = _READERS[tag]
        except (KeyError, TypeError):
            raise NotDecodable(f"recorded bytes have the tag {tag!r}, which this version of Treadle doesn't "
                               "know: "
                               "was the store written by a newer one?") from None
        try:
            return half(self, data)
        except NotDecodable:
            raise
        except Exception as error:  # decoders, constructors and `__setattr__` are other people's code
            kind = data.get("t", tag)
            raise NotDecodable(f"a recorded {kind} can't be made again: {type(error).__name__}: {error}. "
                               "Has the class changed since it was recorded?") from error

    def moment(self, data: dict[str, Any]) -> datetime:
        value = datetime.fromisoformat(data["v"]).replace(fold=data.get("f", 0))
        return value.replace(tzinfo=ZoneInfo(data["z"])) if "z" in data else value

    def clock_time(self, data: dict[str, Any]) -> time:
        value = time.fromisoformat(data["v"]).replace(fold=data.get("f", 0))
        return value.replace(tzinfo=ZoneInfo(data["z"])) if "z" in data else value

    def pairs(self, data: dict[str, Any]) -> dict[Any, Any]:
        return {self.read(key): self.read(item) for key, item in data["v"]}

    def number(self, data: dict[str, Any]) -> complex:
        real, imag = data["v"]
        return complex(self.read(real), self.read(imag))

    def named_tuple(self, data: dict[str, Any]) -> Any:
        kind: Any = _locate(data["t"])
        items = self.read(data["v"])
        return kind._make(items) if hasattr(kind, "_make") else tuple(items)

    def member(self, data: dict[str, Any]) -> Any:
        kind = _locate(data["t"])
        if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            return self.read(data["v"])
        # By name first; flags and their combinations have none of their own.
        name = data["n"]
        return kind[name] if name in kind.__members__ else kind(self.read(data["v"]))

    def struct(self, data: dict[str, Any]) -> Any:
        kind, fields = _locate(data["t"]), self.read_fields(data["v"])
        return kind(**fields) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else fields

    def instance(self, data: dict[str, Any]) -> Any:
        """A dataclass, field by field: `__init__` and `__post_init__` have already run, in another life."""
        kind, values = _locate(data["t"]), self.read_fields(data["v"])
        if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
            return values
        made = object.__new__(kind)
        for field in dataclasses.fields(kind):
            if field.name in values:
                object.__setattr__(made, field.name, values.pop(field.name))
            elif field.default is not dataclasses.MISSING:
                object.__setattr__(made, field.name, field.default)
            elif field.default_factory is not dataclasses.MISSING:
                object.__setattr__(made, field.name, field.default_factory())
            elif field.init:
                raise TypeError(f"the recorded value has no {field.name!r}")
        if values:
            raise TypeError(f"the class has no {', '.join(map(repr, values))}")
        return made

    def model(self, data: dict[str, Any]) -> Any:
        kind: Any = _locate(data["t"])
        fields = self.read_fields(data["v"])
        pydantic = sys.modules.get("pydantic")
        if pydantic is None or not _is_kind(kind, pydantic.BaseModel):
            return fields
        unknown = fields.keys() - kind.model_fields.keys()
        if unknown:
            raise TypeError(f"the class has no {', '.join(map(repr, sorted(unknown)))}")
        for name, field in kind.model_fields.items():
            if name not in fields:
                if field.is_required():
                    raise TypeError(f"the recorded value has no {name!r}")
                fields[name] = field.get_default(call_default_factory=True)
        made = kind.__new__(kind)
        private = {name: attribute.get_default() for name, attribute in kind.__private_attributes__.items()}
        made.__setstate__({"__dict__": fields, "__pydantic_fields_set__": set(data["s"]),
                           "__pydantic_extra__": None if data["x"] is None else self.read_fields(data["x"]),
                           "__pydantic_private__": private or None})
        return made

    def numpy(self, data: dict[str, Any]) -> Any:
        # A fixed module, not one that the data chose; without it numbers come back plain.
        try:
            import numpy
        except ImportError:
            return self.read(data["v"]) if "v" in data else base64.b64decode(data["b"])
        dtype = numpy.dtype(data["t"])
        if "v" in data:
            return dtype.type(self.read(data["v"]))
        array = numpy.frombuffer(base64.b64decode(data["b"]), dtype=dtype).reshape(data["s"]).copy()
        return array if data[TAG] == "ndarray" else array[()]

    def read_fields(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Values by attribute name: no map of the user's, so a name is never a tag."""
        return {name: self.read(item) for name, item in fields.items()}

    def registered(self, data: dict[str, Any]) -> Any:
        entry = registry.by_name.get(data["t"])
        if entry is None:
            raise NotDecodable(f"the encoder {data['t']!r} isn't registered here: call "
                               "treadle.register_encoder("
                               f"type, {data['t']!r}, encode, decode) before the value is read")
        return entry.decode(self.read(data["v"]))


_READERS: dict[str, Callable[[Reader, dict[str, Any]], Any]] = {
    "int": lambda reader, data: int(data["v"], 16),
    "float": lambda reader, data: float(data["v"]),
    "bytes": lambda reader, data: base64.b64decode(data["v"]),
    "tuple": lambda reader, data: tuple(reader.read(data["v"])),
    "namedtuple": Reader.named_tuple,
    "set": lambda reader, data: set(reader.read(data["v"])),
    "frozenset": lambda reader, data: frozenset(reader.read(data["v"])),
    "dict": Reader.pairs,
    "datetime": Reader.moment,
    "date": lambda reader, data: date.fromisoformat(data["v"]),
    "time": Reader.clock_time,
    "timedelta": lambda reader, data: timedelta(*data["v"]),
    "decimal": lambda reader, data: Decimal(data["v"]),
    "uuid": lambda reader, data: UUID(hex=data["v"]),
    "complex": Reader.number,
    "path": lambda reader, data: Path(data["v"]),
    "posixpath": lambda reader, data: PurePosixPath(data["v"]),
    "windowspath": lambda reader, data: PureWindowsPath(data["v"]),
    "enum": Reader.member,
    "struct": Reader.struct,
    "dataclass": Reader.instance,
    "model": Reader.model,
    "numpy": Reader.numpy,
    "ndarray": Reader.numpy,
    "registered": Reader.registered,
}
