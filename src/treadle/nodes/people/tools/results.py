"""What a tool gives, as the model is told of it and as it is recorded: plain data, never too large.

A recorded result is a text, plain data (the model gets it as JSON), `{"error": text}`, or
`{"content": [part, …]}` with parts `{"type": "text", "text": …}` and
`{"type": "image", "media_type": "image/png", "data": base64}`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from treadle.config import TreadleConfig, size_text
from treadle.nodes.files import plain
from treadle.state.blob import Blob

_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


class Image(msgspec.Struct, frozen=True):
    """An image that a tool gave."""

    media_type: str
    data: bytes


def failed(message: str) -> dict[str, Any]:
    """What is recorded of a call that failed, in words for the model."""
    return {"error": message}


def error_of(result: Any) -> str | None:
    """What went wrong in a recorded result, or None."""
    if isinstance(result, Mapping) and set(result) == {"error"} and isinstance(result["error"], str):
        return result["error"]
    return None


def told(result: Any) -> tuple[str, list[Image]]:
    """A recorded result as a model is told of it: a text, and images."""
    error = error_of(result)
    if error is not None:
        return f"Error: {error}", []
    if isinstance(result, str):
        return result, []
    parts = _parts(result)
    if parts is None:
        return _json(result), []
    texts = [one["text"] for one in parts if one["type"] == "text"]
    images = [Image(one["media_type"], base64.b64decode(one["data"])) for one in parts
              if one["type"] == "image"]
    return "\n".join(texts), images


def result_of(value: Any, config: TreadleConfig) -> Any:
    """What a tool gave, as it is recorded. ValueError for what has no form in JSON; what is larger than
    `tool_result_bytes_max` is cut, and says so."""
    if isinstance(value, bytes | bytearray | Blob):
        value = _binary(value, config)
    if isinstance(value, str):
        return _cut(value, config.tool_result_bytes_max)
    value = plain(value)
    parts = _parts(value)
    if parts is not None:
        return {"content": _fitting(parts, config)}
    text = _json(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:  # lone surrogates can't be sent
            text = text.encode(errors="replace").decode()
            value = json.loads(text)
    return value if _size(text) <= config.tool_result_bytes_max else _cut(text, config.tool_result_bytes_max)


def image_part(data: bytes, media_type: str) -> dict[str, Any]:
    """An image as a part of a result."""
    return {"type": "image", "media_type": media_type, "data": base64.b64encode(data).decode()}


def _binary(value: bytes | bytearray | Blob, config: TreadleConfig) -> Any:
    if isinstance(value, Blob) and value.size > config.tool_result_bytes_max:
        raise ValueError(f"a blob of {size_text(value.size)}, and a result may have "
                         f"{size_text(config.tool_result_bytes_max)}: return a part of it")
    data = value.read() if isinstance(value, Blob) else bytes(value)
    media_type = next((kind for head, kind in _IMAGES.items() if data.startswith(head)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        media_type = "image/webp"
    if media_type is not None:
        return {"content": [image_part(data, media_type)]}
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise ValueError(f"{size_text(len(data))} that are neither text nor an image: return what a model "
                         "can read") from None


def _parts(value: Any) -> list[dict[str, Any]] | None:
    """The parts of a result that says them."""
    if not isinstance(value, Mapping) or set(value) != {"content"} or not isinstance(value["content"], list):
        return None
    for one in value["content"]:
        kind = one.get("type") if isinstance(one, Mapping) else None
        keys = ("text",) if kind == "text" else ("media_type", "data") if kind == "image" else ()
        if not keys or any(not isinstance(one.get(key), str) for key in keys):
            return None
    return value["content"] or None


def _fitting(parts: list[dict[str, Any]], config: TreadleConfig) -> list[dict[str, Any]]:
    left, found = config.tool_result_bytes_max, []
    for one in parts:
        size = len(one["data"]) if one["type"] == "image" else _size(one["text"])
        if size > left:
            if one["type"] == "image":
                limit = size_text(config.tool_result_bytes_max)
                said = f"{one['media_type']} of {size_text(size * 3 // 4)}"
                one, size = {"type": "text", "text": f"[{said} left out: a result may have {limit}]"}, 0
            else:
                one, size = {"type": "text", "text": _cut(one["text"], left)}, left
        left -= size
        found.append(one)
    return found


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))


def _cut(text: str, room: int) -> str:
    if not text.isascii():
        text = text.encode(errors="backslashreplace").decode()  # a lone surrogate can't be sent
    size = _size(text)
    if size <= room:
        return text
    start = text.encode()[:room].decode(errors="ignore")
    return (f"{start}\n\n[Cut here: these are the first {size_text(room)} of {size_text(size)}. Ask for "
            "less, or for a part of it.]")
