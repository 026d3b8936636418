"""Values and errors without the secrets that a redactor knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.engine.values import Reference
from treadle.errors import NotDecodable, NotEncodable
from treadle.state import codec
from treadle.state.cell import ErrorInfo

if TYPE_CHECKING:
    from treadle.crypto.redaction import Redactor

_TAG = "$"  # of what is more than JSON, within `codec.MARK`


def clean(redactor: Redactor, raw: bytes) -> bytes:
    """An encoded value without secrets; it can be decoded still."""
    if type(raw) is not Reference:
        cleaned = redactor.redact(raw)
        return raw if cleaned is raw else _decodable(raw, cleaned)
    try:
        encoded = codec.encode(raw.value)
    except NotEncodable:  # in memory, any object may be a value
        return raw
    cleaned = redactor.redact(encoded)
    return raw if cleaned is encoded else Reference.of(codec.decode(_decodable(encoded, cleaned)))


def _decodable(raw: bytes, cleaned: bytes) -> bytes:
    """The cleaned value; what can't be made again without its secret (a date, a number of some class) stands
    as plain data in it."""
    if not cleaned.startswith(codec.MARK) or _can_be_made(cleaned) or not _can_be_made(raw):
        return cleaned
    [(mark, tree)] = json.loads(cleaned).items()
    return json.dumps({mark: _mended(mark, tree)}, ensure_ascii=False, separators=(",", ":")).encode()


def _mended(mark: str, tree: Any) -> Any:
    if isinstance(tree, list):
        return [_mended(mark, one) for one in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {key: _mended(mark, one) for key, one in tree.items()}
    if _TAG not in tree or _can_be_made(json.dumps({mark: tree}).encode()):
        return tree
    return tree["v"] if "v" in tree else {key: one for key, one in tree.items() if key != _TAG}


def _can_be_made(raw: bytes) -> bool:
    try:
        codec.decode(raw)
    except NotDecodable:
        return False
    return True


def clean_error(redactor: Redactor, error: ErrorInfo) -> ErrorInfo:
    return msgspec.structs.replace(
        error, type=redactor.text(error.type), message=redactor.cut(redactor.text(error.message)),
        traceback=redactor.cut(redactor.text(error.traceback)), details=redactor.value(error.details))
