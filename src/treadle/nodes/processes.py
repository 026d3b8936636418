"""What a process body runs: these functions are called in a child process, with plain data.

Values cross as bytes of the codec, never pickled. Code is imported before they are decoded, so that the
classes in them are there.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import msgspec

from treadle.config import TreadleConfig
from treadle.errors import TransactionError
from treadle.nodes.base import BodyContext
from treadle.nodes.inline import Code, run_async
from treadle.nodes.large import place_at
from treadle.nodes.modules import Reference
from treadle.nodes.sharing import RemoteContext
from treadle.nodes.worker import Channel
from treadle.state import codec
from treadle.state.blob import Blob, Source
from treadle.state.context import About, PipelineState, Shares, Space


class Limits(msgspec.Struct, frozen=True):
    """Those of the engine that hold for bodies in another process, too."""

    blob_bytes_max: int
    context_value_bytes_max: int
    context_tries_max: int

    @classmethod
    def of(cls, config: TreadleConfig) -> Limits:
        return cls(*(getattr(config, name) for name in cls.__struct_fields__))

    def config(self) -> TreadleConfig:
        return TreadleConfig(**msgspec.structs.asdict(self))


class Snapshot(Shares, msgspec.Struct, frozen=True):
    """What a body in another process may know of its attempt."""

    execution_id: str
    node_id: str
    iteration: str
    attempt: int
    idempotency_key: str
    index: int | None
    item: Any
    execution_inputs: Mapping[str, Any]
    blobs: str  # where they are
    limits: Limits
    about: About
    job: int = 0  # the how manieth of the child: set where the body runs

    def __post_init__(self) -> None:
        if Channel.here is not None:
            msgspec.structs.force_setattr(self, "job", Channel.here.jobs)

    def blob(self, source: Source, name: str = "") -> Blob:
        """See `treadle.nodes.base.BodyContext`, here and below."""
        return place_at(self.blobs, self.limits.config()).put(source, name)

    def secret(self, reference: str) -> str:
        """See `treadle.nodes.base.BodyContext`."""
        return _remote(self.limits, self.job).secret(reference)

    @property
    def pipeline(self) -> PipelineState:
        return self.about.pipeline

    @property
    def environment_vars(self) -> Mapping[str, str]:
        return self.about.environment_vars

    @property
    def secret_store(self) -> str | None:
        return self.about.secret_store

    @property
    def active_plugins(self) -> Sequence[str]:
        return self.about.active_plugins

    def _sharing(self) -> tuple[RemoteContext, str]:
        return _remote(self.limits, self.job), ""  # the parent knows who writes


class SharedName(msgspec.Struct, frozen=True):
    """Stands among the names of code for a space of the shared context."""

    space: str
    limits: Limits

    def open(self) -> Space:
        assert Channel.here is not None
        return Space(_remote(self.limits, Channel.here.jobs), self.space, "")


NOTHING: Mapping[str, str] = MappingProxyType({})


def _remote(limits: Limits, job: int) -> RemoteContext:
    if Channel.here is None:
        raise TransactionError("no engine runs bodies in this process: there is no shared context here")
    latest = RemoteContext.latest
    if latest is None or latest.job != job:
        latest = RemoteContext.latest = RemoteContext(Channel.here.ask, job, limits.config())
    return latest


def snapshot(context: BodyContext) -> Snapshot:
    """The plain part of a context."""
    item = None if context.index is None else context.item
    return Snapshot(context.execution_id, context.node_id, context.iteration, context.attempt,
                    context.idempotency_key, context.index, item, dict(context.execution_inputs),
                    context.place.spec, Limits.of(context.config),
                    About(context.pipeline, dict(context.environment_vars), context.secret_store,
                          tuple(context.active_plugins)))


def call_there(reference: list[Any], arguments: bytes, blobs: str = "",
               environment: Mapping[str, str] = NOTHING) -> bytes:
    """Import a function (the fields of its `Reference`), call it with encoded keyword arguments, encode what
    it returns. `blobs` is where those are that are in them; `environment` is what this process has more in
    its own meanwhile."""
    with _surrounded(environment):
        return _call(reference, arguments, blobs)


def _call(reference: list[Any], arguments: bytes, blobs: str) -> bytes:
    place = place_at(blobs) if blobs else None
    function = Reference(*reference).resolve()
    call = run_async(function) if inspect.iscoroutinefunction(function) else function
    raw = codec.encode(call(**codec.decode(arguments)))
    del place  # until here, blobs were looked up in it
    return raw


def run_code_there(text: str, file: str, names: bytes, blobs: str = "",
                   environment: Mapping[str, str] = NOTHING) -> bytes:
    """Run code with encoded inputs, encode its result. `blobs` and `environment` are as above."""
    with _surrounded(environment):
        return _run_code(text, file, names, blobs)


def _run_code(text: str, file: str, names: bytes, blobs: str) -> bytes:
    place = place_at(blobs) if blobs else None
    given = {name: value.open() if isinstance(value, SharedName) else value
             for name, value in codec.decode(names).items()}
    raw = codec.encode(Code(text, file).run(given))
    del place
    return raw


@contextmanager
def _surrounded(variables: Mapping[str, str]) -> Iterator[None]:
    """Have these variables in this process's environment for a while; what was there comes back. A child runs
    one body at a time."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
