"""Envelopes: the immutable message that a node hands on, and how the kinds of content are written down.

An envelope's `meta` carries what isn't the value itself: `timestamp`, the `port` that the node chose, an
`error`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final, Generic, TypeVar

import msgspec

from treadle.ids import NodeID
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.state.cell import ErrorInfo, ItemError, instant, moment

_T = TypeVar("_T")
_numbers = count(1)


class ContentHandler(msgspec.Struct, frozen=True):
    """What a content type knows of its bodies."""

    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]
    validate: Callable[[Any], bool]


Handlers = Callable[[str], ContentHandler]
"""What knows content types by name; LookupError."""
_handlers: dict[str, ContentHandler] = {}


class ContentType:
    """The names of the built-in kinds of content (plain texts, as they stand in cells), and how more are
    added."""

    RAW_TEXT: Final = "raw_text"
    OBJECT: Final = "object"
    CONVERSATION_STATE: Final = "conversation_state"
    VARIABLE: Final = "variable"
    GENERIC: Final = "generic"
    EMPTY: Final = "empty"
    BINARY: Final = "binary"
    ERROR: Final = "error"

    @staticmethod
    def register(name: str, *, encode: Callable[[Any], bytes] = codec.encode,
                 decode: Callable[[bytes], Any] = codec.decode,
                 validate: Callable[[Any], bool] = lambda body: True) -> str:
        """Add a kind of content: how its body becomes bytes and back, and which bodies it takes. Returns its
        name; ValueError if that is taken."""
        if name in _handlers:
            raise ValueError(f"the content type {name!r} is registered already")
        _handlers[name] = ContentHandler(encode, decode, validate)
        return name

    @staticmethod
    def handler(name: str) -> ContentHandler:
        """How a kind of content is written down; LookupError names the known ones."""
        try:
            return _handlers[name]
        except KeyError:
            raise LookupError(f"no content type {name!r}: known are {', '.join(_handlers)}; add one with "
                              "ContentType.register(name, encode=…, decode=…, validate=…)") from None

    @staticmethod
    def names() -> list[str]:
        """The kinds of content that there are."""
        return list(_handlers)


ContentType.register("raw_text", validate=lambda body: isinstance(body, str))
ContentType.register("object")
ContentType.register("conversation_state", validate=lambda body: isinstance(body, (list, dict)))
ContentType.register("variable")
ContentType.register("generic")
ContentType.register("empty", validate=lambda body: body is None)
ContentType.register("binary", validate=lambda body: isinstance(body, (bytes, bytearray, Blob)))
ContentType.register("error", validate=lambda body: isinstance(body, (ErrorInfo, str, Mapping)))


class Envelope(msgspec.Struct, frozen=True):
    """The immutable message that a node hands on. Share it freely; never change what its `body` refers to."""

    id: str
    produced_by: str
    content_type: str
    body: Any
    meta: dict[str, Any] = {}

    @property
    def node_id(self) -> NodeID:
        """The node that made it: `produced_by` under its other name."""
        return NodeID(self.produced_by)

    @property
    def timestamp(self) -> datetime | None:
        """When it was made, if its maker said so (meta `timestamp`: a datetime, ISO text or seconds since
        1970)."""
        when = self.meta.get("timestamp")
        return datetime.fromisoformat(when) if isinstance(when, str) else moment(instant(when))

    @property
    def port(self) -> str | None:
        """The port that the node chose (meta `port`); None means `default`."""
        port: str | None = self.meta.get("port")
        return port

    def get_output(self, key: str, default: Any = None) -> Any:
        """What `key` names in the body if that is a map, else in the meta, else `default`."""
        if isinstance(self.body, Mapping) and key in self.body:
            return self.body[key]
        return self.meta.get(key, default)

    def has_error(self) -> bool:
        """Whether this is the message of a failure."""
        return self.content_type == "error" or self.meta.get("error") is not None

    def to_dict(self, handlers: Handlers = ContentType.handler) -> dict[str, Any]:
        """The envelope as JSON-ready data; `from_dict` is its inverse. ValueError if the body isn't what its
        content type takes, NotEncodable if it can't be written down. For content types of plugins, `handlers`
        is their registry's `content_type`."""
        handler = handlers(self.content_type)
        if not handler.validate(self.body):
            raise ValueError(f"envelope {self.id} of {self.produced_by!r}: a {type(self.body).__name__} is "
                             "no body of "
                             f"content type {self.content_type!r}")
        raw = handler.encode(self.body)
        try:
            body = {"json": msgspec.json.decode(raw)}
        except msgspec.DecodeError:  # a registered type may write any bytes
            body = {"base64": base64.b64encode(raw).decode()}
        return {"id": self.id, "produced_by": self.produced_by, "content_type": self.content_type,
                "body": body, "meta": msgspec.json.decode(codec.encode(self.meta))}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], handlers: Handlers = ContentType.handler) -> Envelope:
        """The envelope that `to_dict` wrote; ValueError if it isn't one. `handlers` as there."""
        try:
            body = data["body"]
            raw = base64.b64decode(body["base64"]) if "base64" in body else msgspec.json.encode(body["json"])
            return cls(data["id"], data["produced_by"], data["content_type"],
                       handlers(data["content_type"]).decode(raw),
                       codec.decode(msgspec.json.encode(data.get("meta", {}))))
        except (KeyError, TypeError, binascii.Error) as error:
            raise ValueError(f"not an envelope's data ({type(error).__name__}: {error})") from error


class EnvelopeFactory:
    """Makes envelopes with fresh ids (unique in this process) and, where the kind isn't said, the fitting
    one."""

    @staticmethod
    def make(content_type: str, body: Any, produced_by: str, meta: Mapping[str, Any],
             handlers: Handlers = ContentType.handler) -> Envelope:
        """An envelope of a kind; ValueError if the body isn't one of that kind, LookupError for an unknown
        kind (`handlers` as for `Envelope.to_dict`)."""
        if not handlers(content_type).validate(body):
            raise ValueError(f"a {type(body).__name__} is no body of content type {content_type!r}")
        return Envelope(f"e{next(_numbers)}", produced_by, content_type, body,
                        {"timestamp": datetime.now(UTC), **meta})

    @staticmethod
    def text(body: str, produced_by: str = "", **meta: Any) -> Envelope:
        return EnvelopeFactory.make("raw_text", body, produced_by, meta)

    @staticmethod
    def object(body: Any, produced_by: str = "", **meta: Any) -> Envelope:
        return EnvelopeFactory.make("object", body, produced_by, meta)

    @staticmethod
    def error(error: BaseException | ErrorInfo | str, produced_by: str = "", **meta: Any) -> Envelope:
        """The message of a failure; its body is an `ErrorInfo`."""
        if isinstance(error, BaseException):
            error = ErrorInfo(type(error).__name__, str(error))
        elif isinstance(error, str):
            error = ErrorInfo("Error", error)
        return EnvelopeFactory.make("error", error, produced_by, meta)

    @staticmethod
    def binary(body: bytes, produced_by: str = "", **meta: Any) -> Envelope:
        return EnvelopeFactory.make("binary", body, produced_by, meta)

    @staticmethod
    def empty(produced_by: str = "", **meta: Any) -> Envelope:
        return EnvelopeFactory.make("empty", None, produced_by, meta)

    @staticmethod
    def create(body: Any, produced_by: str = "", *, content_type: str | None = None, **meta: Any) -> Envelope:
        """An envelope of the kind that fits the body, unless one is said."""
        return EnvelopeFactory.make(content_type or infer(body), body, produced_by, meta)


def infer(body: Any) -> str:
    """The content type that fits a body."""
    if body is None:
        return "empty"
    if isinstance(body, str):
        return "raw_text"
    if isinstance(body, (bytes, bytearray, Blob)):
        return "binary"
    return "error" if isinstance(body, (ErrorInfo, ItemError)) else "object"


@dataclass
class BaseNodeOutput(Generic[_T]):
    """A typed output to inherit from: say what is valid and what successors get.

    A subclass with the decorator `@dataclass` may add fields. `metadata` becomes the envelope's meta.
    """

    value: _T
    node_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)

    def validate(self) -> bool:
        """Whether the value is as it should be."""
        return True

    def transform(self) -> Any:
        """What successors get: the value itself, unless a subclass says otherwise."""
        return self.value

    def has_error(self) -> bool:
        return self.metadata.get("error") is not None

    def get_output(self, key: str, default: Any = None) -> Any:
        """What `key` names in the value if that is a map, else in the metadata, else `default`."""
        if isinstance(self.value, Mapping) and key in self.value:
            return self.value[key]
        return self.metadata.get(key, default)

    def to_envelope(self) -> Envelope:
        """The message of this output; ValueError if it doesn't validate."""
        if not self.validate():
            raise ValueError(f"{type(self).__name__} of node {self.node_id!r} is not valid: "
                             f"{self.value!r:.200}")
        return EnvelopeFactory.create(self.transform(), self.node_id, **self.metadata)


@dataclass
class TextOutput(BaseNodeOutput[str]):
    """A text."""

    def validate(self) -> bool:
        return isinstance(self.value, str)
