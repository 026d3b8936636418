"""Values: as plain JSON while they are small, else a preview and where to get the whole, in ranges."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import PurePath
from typing import IO, Any
from urllib.parse import quote

import msgspec
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from treadle.engine.plan import static
from treadle.engine.showing import plain
from treadle.errors import NotDecodable, did_you_mean
from treadle.monitor.api.routing import Ask, operation
from treadle.monitor.core import Refused
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.state.cell import NodeState, turn_of
from treadle.store.base import Store

WHOLE_BYTES_MAX = 64 * 1024
"""An encoded value that is longer is cut to a preview."""
DECODED_BYTES_MAX = 16 * 1024 * 1024
"""One that is longer still is not even read for it."""
CHUNK_BYTES = 256 * 1024
TEXT_CHARS, BYTES, ITEMS, DEPTH = 2000, 1500, 50, 8
"""What a preview shows of a text, of bytes (as many characters), of a list or a map, and how deep."""
DEPTH_MAX = 100
"""How deep any value is shown."""
_RANGE = re.compile(r"bytes=([0-9]{0,18})-([0-9]{0,18})\Z")
SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp", "text/plain", "application/json",
         "application/pdf", "audio/mpeg", "audio/wav", "video/mp4")
"""Kinds of content that a browser may show by itself; others are downloaded. Nothing in them is run."""


class Value(msgspec.Struct, frozen=True):
    """A recorded value. `value` is plain JSON; `truncated`: only a preview of it, and `url` has the whole. A
    blob in it is `{"$blob": digest, "size", "name", "url"}`. `size`: encoded bytes, null if nobody knows."""

    value: Any = None
    content_type: str | None = None
    size: int | None = 0
    truncated: bool = False
    url: str | None = None


def value_of(store: Store, raw: bytes | None, blob: str | None, content_type: str | None, url: str) -> Value:
    """A value by its encoded bytes, or by the digest of the blob that holds these."""
    size = None if raw is None else len(raw)
    if raw is None:
        if blob is None:
            return Value()
        try:
            with store.open_blob(blob) as file:
                size = _size(file)
                raw = file.read(DECODED_BYTES_MAX + 1)
        except (KeyError, FileNotFoundError):
            return Value({"$lost": blob}, content_type, None, True)
        size = len(raw) if len(raw) <= DECODED_BYTES_MAX else size
    if len(raw) > DECODED_BYTES_MAX:
        return Value(raw[:TEXT_CHARS].decode("utf-8", "replace") + "…", content_type, size, True, url)
    try:
        value = codec.decode(raw)
    except NotDecodable as error:
        return Value({"$unreadable": str(error)}, content_type, size, True, url)
    large = len(raw) > WHOLE_BYTES_MAX
    return Value(shown(preview(value) if large else value), content_type, size, large, url)


def shown(value: Any) -> Any:
    """A decoded value as JSON, blobs by their address. What is too deep in it is `{"$more": items}`."""
    return plain(_blobs(value, DEPTH_MAX))


def _blobs(value: Any, depth: int) -> Any:
    if isinstance(value, dict | list | tuple) and not depth:
        return {"$more": len(value)}
    if isinstance(value, dict):
        return {key: _blobs(one, depth - 1) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_blobs(one, depth - 1) for one in value]
    if isinstance(value, Blob):
        return {"$blob": value.digest, "size": value.size, "name": value.name,
                "url": f"/api/blobs/{value.digest}?name={quote(value.name)}"}
    return value


def preview(value: Any, depth: int = DEPTH) -> Any:
    """The beginning of a value. What was left out is said where it was: `{"$more": 120}`."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_CHARS else f"{value[:TEXT_CHARS]}…"
    if isinstance(value, bytes) and len(value) > BYTES:
        return f"{plain(value[:BYTES])}…"
    if isinstance(value, list | tuple):
        if not depth:
            return {"$more": len(value)}
        few = [preview(one, depth - 1) for one in value[:ITEMS]]
        return few if len(value) <= ITEMS else [*few, {"$more": len(value) - ITEMS}]
    if isinstance(value, dict):
        if not depth:
            return {"$more": len(value)}
        some = {key: preview(one, depth - 1) for key, one in list(value.items())[:ITEMS]}
        return some if len(value) <= ITEMS else {**some, "$more": len(value) - ITEMS}
    return value


class OutputQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Whose output: without a `node` the execution's own; without `iteration` and `attempt` the last."""

    node: str | None = None
    iteration: str | None = None
    attempt: int | None = None


@operation("GET", "/api/executions/{id}/output", content="*/*")
def output(ask: Ask[OutputQuery, None]) -> Response:
    """The whole output: JSON, or the bytes of a blob with its content type; with `Range`, a part of it. What
    JSON lacks is text; in an output of more than 16 MB it is as the store has it."""
    query = ask.query
    if query.node is None:
        cell = ask.monitor.store.summary(ask.id).cell
        return _sent(ask, cell.output, cell.blob)
    seen = ask.monitor.seen(ask.id)
    found = chosen(seen.cells, seen.cell.execution_id, query.node, query.iteration, query.attempt)
    return _sent(ask, found.output, found.blob)


@operation("GET", "/api/executions/{id}/inputs", content="*/*")
def inputs(ask: Ask[None, None]) -> Response:
    """The inputs that an execution was given, as JSON."""
    return _sent(ask, ask.monitor.store.summary(ask.id).cell.inputs, None)


class BlobQuery(msgspec.Struct, forbid_unknown_fields=True):
    """`name`: what the file is called; its end says what kind of content it is."""

    name: str = ""


@operation("GET", "/api/blobs/{digest}", content="*/*")
def blob(ask: Ask[BlobQuery, None]) -> Response:
    """The content of a blob by its SHA-256; with `Range`, a part of it."""
    digest = ask.path["digest"]
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise Refused(404, "NoSuchBlob", "a blob has a name of 64 hex digits")
    return _streamed(ask, _opened(ask.monitor.store, digest), _kind(ask.query.name), ask.query.name)


def chosen(cells: list[NodeState], execution_id: str, path: str, iteration: str | None,
           attempt: int | None) -> NodeState:
    """The cell of a node: of the last iteration and attempt unless said. Refused if there is none."""
    mine = [one for one in cells if one.node_id == path]
    some = [one for one in mine if iteration in (None, one.iteration) and attempt in (None, one.attempt)]
    if not some:
        why = ("it has no such iteration or attempt" if mine else
               did_you_mean(path, {static(one.node_id) for one in cells}) or "it has not been reached")
        raise Refused(404, "NoSuchNode", f"execution {execution_id} has no cell of node {path!r}", why)
    return max(some, key=turn_of)


def _opened(store: Store, digest: str) -> IO[bytes]:
    """A blob's content. One that can't be read from any place is held in memory, unless it is too large."""
    try:
        file = store.open_blob(digest)
        if file.seekable():
            return file
        with file:
            content = file.read(DECODED_BYTES_MAX + 1)
        return BytesIO(content) if len(content) <= DECODED_BYTES_MAX else store.open_blob(digest)
    except (KeyError, FileNotFoundError):
        raise Refused(404, "NoSuchBlob", f"the store has no blob {digest}", "was it pruned?") from None


def _sent(ask: Ask[Any, None], raw: bytes | None, blob: str | None) -> Response:
    if raw is None and blob is None:
        raise Refused(404, "NoOutput", "there is no output", "it has not ended, or it failed")
    file: IO[bytes] = BytesIO(raw) if raw is not None else _opened(ask.monitor.store, blob or "")
    size = _size(file)
    head = file.read(len(codec.MARK))
    if head != codec.MARK or size is None or size > DECODED_BYTES_MAX:  # as it is recorded
        return _streamed(ask, _again(ask, file, raw, blob), "application/json", "")
    with _again(ask, file, raw, blob) as again:
        value = codec.decode(again.read())
    if isinstance(value, Blob):
        return _streamed(ask, _opened(ask.monitor.store, value.digest), _kind(value.name), value.name)
    return _streamed(ask, BytesIO(msgspec.json.encode(shown(value))), "application/json", "")


def _again(ask: Ask[Any, None], file: IO[bytes], raw: bytes | None, blob: str | None) -> IO[bytes]:
    if file.seekable():
        file.seek(0)
        return file
    file.close()
    return BytesIO(raw) if raw is not None else _opened(ask.monitor.store, blob or "")


def _kind(name: str) -> str:
    # By its end alone: `guess_type` takes what a name says of itself, "data:text/html,".
    return mimetypes.types_map.get(PurePath(name).suffix.lower(), "application/octet-stream")


def _size(file: IO[bytes]) -> int | None:
    if not file.seekable():
        return None
    size = file.seek(0, 2)
    file.seek(0)
    return size


class _Download(StreamingResponse):
    """Pieces of a file, which is closed whether or not all of them were wanted."""

    def __init__(self, file: IO[bytes], pieces: Iterator[bytes], status: int, headers: dict[str, str],
                 kind: str) -> None:
        super().__init__(pieces, status, headers, kind)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await super().__call__(scope, receive, send)


def _streamed(ask: Ask[Any, None], file: IO[bytes], kind: str, name: str) -> Response:
    """A file's content, or the part of it that was asked for."""
    size = _size(file)
    headers = {"accept-ranges": "bytes", "content-security-policy": "sandbox; default-src 'none'",
               "content-disposition": f"{'inline' if kind in SHOWN else 'attachment'}"
                                      + (f"; filename*=UTF-8''{quote(name)}" if name else "")}
    first, last, status = 0, None if size is None else size - 1, 200
    said = ask.request.headers.get("range")
    if said is not None and (match := _RANGE.match(said)) and (match[1] or match[2]):
        first, last = _part(match[1], match[2], size)
        if size is None and last is not None and last - first < DECODED_BYTES_MAX:  # read it to know its end
            part = b"".join(_pieces(file, first, last))
            if not part:
                return Response(status_code=416)
            headers["content-range"] = f"bytes {first}-{first + len(part) - 1}/*"
            return Response(part, 206, headers, kind)
        if size is not None and (first >= size or (last is not None and last < first)):
            file.close()
            return Response(status_code=416, headers={"content-range": f"bytes */{size}"})
        if size is not None:
            status = 206
            headers["content-range"] = f"bytes {first}-{last}/{size}"
        else:  # of what nobody knows the end the whole
            first, last = 0, None
    if last is not None and size is not None:
        headers["content-length"] = str(last - first + 1)
    return _Download(file, _pieces(file, first, last), status, headers, kind)


def _part(first: str, last: str, size: int | None) -> tuple[int, int | None]:
    """The first and the last byte that are wanted."""
    if not first:
        return (0, None) if size is None else (max(0, size - int(last)), size - 1)
    end = int(last) if last else None
    if size is not None:
        end = size - 1 if end is None else min(end, size - 1)
    return int(first), end


def _pieces(file: IO[bytes], first: int, last: int | None) -> Iterator[bytes]:
    with file:
        if file.seekable():
            file.seek(first)
        else:
            skip = first
            while skip and (piece := file.read(min(skip, CHUNK_BYTES))):
                skip -= len(piece)
        left = None if last is None else last - first + 1
        while left is None or left > 0:
            piece = file.read(CHUNK_BYTES if left is None else min(left, CHUNK_BYTES))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece
