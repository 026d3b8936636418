"""What a process body runs: these functions are called in a child process, with plain data.

Values cross as bytes of the codec, never pickled. Code is imported before they are decoded, so that the
classes in them are there.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.nodes.base import BodyContext
from treadle.nodes.inline import Code, run_async
from treadle.nodes.modules import Reference
from treadle.state import codec
from treadle.state.blob import Blob, Place, Source


class Snapshot(msgspec.Struct, frozen=True):
    """What a body in another process may know of its attempt."""

    execution_id: str
    node_id: str
    iteration: str
    attempt: int
    idempotency_key: str
    index: int | None
    item: Any
    execution_inputs: Mapping[str, Any]
    folder: str  # of the blobs

    def blob(self, source: Source, name: str = "") -> Blob:
        """See `treadle.nodes.base.BodyContext`."""
        return Place(Path(self.folder)).put(source, name)


def snapshot(context: BodyContext) -> Snapshot:
    """The plain part of a context."""
    item = None if context.index is None else context.item
    return Snapshot(context.execution_id, context.node_id, context.iteration, context.attempt,
                    context.idempotency_key, context.index, item, dict(context.execution_inputs),
                    str(context.place.folder))


def call_there(reference: list[Any], arguments: bytes, blobs: str = "") -> bytes:
    """Import a function (the fields of its `Reference`), call it with encoded keyword arguments, encode what
    it returns. `blobs` is the folder of those that are in them."""
    place = Place(Path(blobs)) if blobs else None
    function = Reference(*reference).resolve()
    call = run_async(function) if inspect.iscoroutinefunction(function) else function
    raw = codec.encode(call(**codec.decode(arguments)))
    del place  # until here, blobs were looked up in it
    return raw


def run_code_there(text: str, file: str, names: bytes, blobs: str = "") -> bytes:
    """Run code with encoded inputs, encode its result. `blobs` is the folder of those in the inputs."""
    place = Place(Path(blobs)) if blobs else None
    raw = codec.encode(Code(text, file).run(codec.decode(names)))
    del place
    return raw
