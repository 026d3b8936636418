"""Files that are too large for memory, as nodes hand them on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.nodes.base import BodyContext
from treadle.nodes.edits import heed
from treadle.state.blob import Blob, Place
from treadle.undo import undone


def check_format(operation: str, said: str | None, others: Mapping[str, object]) -> None:
    """ValueError if `format: blob` doesn't go with an operation, or with other properties of the node."""
    if said != "blob":
        return
    if operation != "read":
        raise ValueError(f"`format: blob` is for read, not for {operation}: a blob is written as it is, "
                         "without `format`")
    wrong = next((name for name, value in others.items() if value), None)
    if wrong is not None:
        raise ValueError(f"`{wrong}` looks into the content, and `format: blob` doesn't: leave one out")


def blob_of_file(path: Path, said: str, context: BodyContext) -> Blob:
    """A copy of a file beside the store. Errors name the file as the diagram does."""
    try:
        return context.blob(path)
    except FileNotFoundError:
        if path.exists():
            raise
        raise FileNotFoundError(f"no file {said!r} in {path.parent}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{said!r} is a folder: name a file") from None


def append_blob(path: Path, content: Blob, said: str) -> None:
    """Add the content to the end of a file; if that fails or is cancelled, the file gets its old size. Its
    folder must be there."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        with undone(file.truncate, size):
            for piece in content.chunks():
                heed(said)
                rest = memoryview(piece)
                while rest:
                    rest = rest[file.write(rest):]
            os.fsync(file.fileno())


def refuse_update(content: Blob, said: str) -> None:
    """ValueError: a place in a file takes values."""
    raise ValueError(f"`update` puts a value into {said!r}, and a blob is none ({content.name or 'no name'}, "
                     f"{content.size} bytes): give it the blob's text, `.read().decode()`, or its `name`")


def place_at(spec: str, config: TreadleConfig = DEFAULT_CONFIG) -> Place:
    """The place that `Place.spec` says, in another process."""
    folder, encrypted, keys = spec.partition("\n")
    if not encrypted:
        return Place(Path(folder), config)
    from treadle.crypto.stream import BlobCipher  # for those who encrypt

    return Place(Path(folder), config, BlobCipher.of(keys))
