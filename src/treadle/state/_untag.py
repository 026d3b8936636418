"""How the codec reads what `treadle.state._tags` wrote: every tag's other half."""

from __future__ import annotations

import base64
import dataclasses
import enum
import sys
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from treadle.errors import NotDecodable
from treadle.foreign import attempt
from treadle.state._tags import TAG, locate, registry


def _is_kind(found: Any, base: type) -> bool:
    return isinstance(found, type) and issubclass(found, base)


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
                               "know: was the store written by a newer one?") from None
        value, error = attempt(half, self, data)
        if isinstance(error, NotDecodable):
            raise error
        if error is not None:  # decoders, constructors and `__setattr__` are other people's code
            kind = data.get("t", tag)
            raise NotDecodable(f"a recorded {kind} can't be made again: {type(error).__name__}: {error}. "
                               "Has the class changed since it was recorded?") from error
        return value

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
        kind: Any = locate(data["t"])
        items = self.read(data["v"])
        return kind._make(items) if hasattr(kind, "_make") else tuple(items)

    def member(self, data: dict[str, Any]) -> Any:
        kind = locate(data["t"])
        if not (isinstance(kind, type) and issubclass(kind, enum.Enum)):
            return self.read(data["v"])
        # By name first; flags and their combinations have none of their own.
        name = data["n"]
        return kind[name] if name in kind.__members__ else kind(self.read(data["v"]))

    def struct(self, data: dict[str, Any]) -> Any:
        kind, fields = locate(data["t"]), self.read_fields(data["v"])
        return kind(**fields) if isinstance(kind, type) and issubclass(kind, msgspec.Struct) else fields

    def instance(self, data: dict[str, Any]) -> Any:
        """A dataclass, field by field: `__init__` and `__post_init__` have already run, in another life."""
        kind, values = locate(data["t"]), self.read_fields(data["v"])
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
        kind: Any = locate(data["t"])
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
