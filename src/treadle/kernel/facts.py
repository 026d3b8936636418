"""Facts: what the kernel is told, in the past tense.

A node is named by its *slot*, the int that the kernel's command gave. `at` is an instant in seconds; the
runner read the clock and rolled the die (`luck`, in [0, 1)), since the kernel has neither.
"""

from __future__ import annotations

import msgspec

from treadle.state.cell import ErrorInfo


class Started(msgspec.Struct, frozen=True, gc=False):
    """The execution begins, or begins again after a replay."""

    at: float


class Finished(msgspec.Struct, frozen=True, gc=False):
    """A body returned (or a composite's results were gathered): its encoded output, and the port it chose."""

    slot: int
    at: float
    started: float | None = None
    output: bytes | None = None
    port: str | None = None
    blob: str | None = None
    content_type: str | None = None
    meta: bytes | None = None
    worker: str | None = None


class Failed(msgspec.Struct, frozen=True, gc=False):
    """A body raised, timed out or died."""

    slot: int
    at: float
    luck: float
    error: ErrorInfo
    retryable: bool = True
    started: float | None = None
    delay: float | None = None  # seconds that the body asked to wait before the next attempt (Retry-After)


class Progressed(msgspec.Struct, frozen=True, gc=False):
    """A body that runs has recorded some of its work: the whole new meta of its cell, encoded."""

    slot: int
    at: float
    meta: bytes


class Expanded(msgspec.Struct, frozen=True, gc=False):
    """A composite's items were evaluated: a map's, encoded, with their count, or a sub-diagram's inputs."""

    slot: int
    at: float
    items: bytes
    count: int = 0


class Suspended(msgspec.Struct, frozen=True, gc=False):
    """A body asked to wait: for an answer, a signal (both end in `Answered`) or until `wake_at` (`Woken`).

    `request` is the encoded map that says for what; with `"kind": "sleep"` the wait completes at `wake_at`,
    any other has timed out then and fails.
    """

    slot: int
    at: float
    request: bytes
    wake_at: float | None = None
    started: float | None = None


class Answered(msgspec.Struct, frozen=True, gc=False):
    """The answer or the signal that a suspended node waited for. With `meta`, in which the answer stands as a
    step, it does not complete the node: its body goes on."""

    slot: int
    at: float
    output: bytes
    content_type: str | None = None
    meta: bytes | None = None


class Woken(msgspec.Struct, frozen=True, gc=False):
    """The time has come that `Wake` asked for."""

    slot: int
    at: float
    luck: float = 0.5


class Cancelled(msgspec.Struct, frozen=True, gc=False):
    """Somebody cancelled the execution."""

    at: float
    reason: str = ""


class Expired(msgspec.Struct, frozen=True, gc=False):
    """The execution's deadline passed."""

    at: float


Fact = (Started | Finished | Failed | Progressed | Expanded | Suspended | Answered | Woken | Cancelled
        | Expired)


class _Request(msgspec.Struct):
    kind: str = ""


def kind_of(request: bytes | None) -> str:
    """What a suspended node waits for: `answer`, `signal`, `sleep`, or "" for what says nothing."""
    return msgspec.json.decode(request, type=_Request).kind if request else ""
