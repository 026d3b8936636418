"""Images that are shown to a model: files, addresses, blobs, bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from treadle.config import size_text
from treadle.nodes.base import BodyContext
from treadle.nodes.files import read_bytes
from treadle.nodes.filling import filled
from treadle.nodes.people.messages import Picture
from treadle.state.blob import Blob

_HEADS = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg", b"GIF8": "image/gif"}


async def pictures_of(said: str | Sequence[str], context: BodyContext, inputs: Mapping[str, Any]
                      ) -> dict[str, Picture]:
    """The images that `images` names, by names of their own, in order. OSError, ValueError, LimitExceeded."""
    found: dict[str, Picture] = {}
    for one in [said] if isinstance(said, str) else said:
        value = filled(one, context, dict(inputs))
        for each in value if isinstance(value, list | tuple) else [value]:
            name, picture = await asyncio.to_thread(_picture, each, context)
            found[_free(name, found)] = picture
    return found


def _picture(value: Any, context: BodyContext) -> tuple[str, Picture]:
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return value, Picture(url=value)
    if isinstance(value, str | Path):
        data, name = read_bytes(context.path(str(value)), str(value), context.config), Path(value).name
    elif isinstance(value, Blob):
        if value.size > context.config.file_bytes_max:
            raise context.config.exceeded("file_bytes_max", f"an image of {size_text(value.size)}")
        data, name = value.read(), value.name or "image"
    elif isinstance(value, bytes | bytearray):
        data, name = bytes(value), "image"
    else:
        raise ValueError(f"`images`: {value!r:.40} is no image: give a path, an address, a blob "
                         "or bytes")
    return name, Picture(_media_type(data, name), data)


def _media_type(data: bytes, name: str) -> str:
    for head, kind in _HEADS.items():
        if data.startswith(head):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    raise ValueError(f"`images`: {name!r} is no image that models take: PNG, JPEG, GIF or WebP")


def _free(name: str, taken: Mapping[str, Any]) -> str:
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name} {number}"
    return free
