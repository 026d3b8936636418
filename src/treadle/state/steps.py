"""Steps: what a body has recorded of its own work, in the `meta` of its node's cell.

They stand there as `{"steps": [...], "partial": "the text so far"}` beside what the envelope's meta holds.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from treadle.errors import NotDecodable
from treadle.state import codec
from treadle.state.cell import ErrorInfo, NodeState

_NAMED = b'"steps":['
_PARTIAL = b'],"partial":"'


class StepRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One step: a call of a model or a tool, an answer, or whatever a body wanted to do only once.

    `name` is unique among the steps of an attempt; `attempt` is the node's attempt that made it, so that one
    which was kept from an earlier attempt can be told. Instants are seconds since 1970. `value` is the result
    as plain data (`result()` gives it as it was), `error` why there is none. With `aside` it is a blob that
    holds the encoded result.
    """

    name: str
    kind: str = "step"
    attempt: int = 1
    started_at: float = 0.0
    ended_at: float = 0.0
    value: Any = None
    error: ErrorInfo | None = None
    meta: dict[str, Any] = {}
    aside: bool = False

    def result(self) -> Any:
        """The value, decoded afresh. FileNotFoundError if it is a blob of a store that is not open."""
        value = codec.decode(_dumps(self.value))
        return codec.decode(value.read()) if self.aside else value


class Noted(msgspec.Struct, frozen=True):
    """What the work of a step may return: its value, and plain data for the record's `meta`."""

    value: Any
    meta: dict[str, Any]


class Told(msgspec.Struct, frozen=True):
    """The steps of a body that has completed. `ended_at` is in seconds since 1970."""

    node_id: str
    iteration: str
    ended_at: float
    records: tuple[StepRecord, ...]


class Steps(msgspec.Struct, frozen=True):
    """What the meta of a cell says of steps. `anew`: the next attempt begins without them."""

    steps: tuple[StepRecord, ...] = ()
    partial: str = ""
    anew: bool = False


_dumps = msgspec.json.Encoder().encode
_steps = msgspec.json.Decoder(Steps).decode


def has_steps(meta: bytes | None) -> bool:
    """Whether a cell's meta may hold steps: quick, and right about those that don't."""
    return meta is not None and _NAMED in meta


def is_partial(meta: bytes | None) -> bool:
    """Whether the meta of a running cell shows a text that is not whole yet: another cell soon follows."""
    return meta is not None and _PARTIAL in meta and has_steps(meta)


def steps_of(meta: bytes | None) -> Steps:
    """The steps in a cell's meta. NotDecodable if it is damaged."""
    if meta is None or not has_steps(meta):
        return Steps()
    try:
        return _steps(_dumps(codec.decode(meta)) if meta.startswith(codec.MARK) else meta)
    except msgspec.ValidationError:
        return Steps()  # somebody's own "steps"


def spent_by(cells: Iterable[NodeState]) -> dict[str, float]:
    """What the steps of an execution's cells have taken in all: the sums of `tokens` and `cost` (US dollars),
    each step counted in the attempt that made it."""
    spent = {"tokens": 0.0, "cost": 0.0}
    for cell in cells:
        if has_steps(cell.meta):
            for one in steps_of(cell.meta).steps:
                if one.attempt == cell.attempt:
                    add_to(spent, one)
    return spent


def add_to(spent: dict[str, float], record: StepRecord) -> None:
    """Add what a step has taken."""
    for name in spent:
        found = record.meta.get(name)
        if isinstance(found, int | float):
            spent[name] += found


class Gist(msgspec.Struct, frozen=True, omit_defaults=True):
    """What those who look on see of a cell's steps: how many there are, the tokens and the cost (US dollars)
    of those that its own attempt made, and the characters of a text that is not whole yet."""

    steps: int = msgspec.field(name="$steps")  # first, and always there: by it a gist is known
    tokens: float = 0.0
    cost: float = 0.0
    partial: int = 0


_gist = msgspec.json.Decoder(Gist).decode
_GIST = b'{"$steps":'


def gist(meta: bytes | None, attempt: int) -> bytes | None:
    """What stands in a bare cell in place of its meta: a `Gist` if it has steps. A gist stays as it is."""
    if meta is None or meta.startswith(_GIST):
        return meta
    try:
        found = steps_of(meta)
    except NotDecodable:  # of a type that is not registered here
        return None
    if not (found.steps or found.partial):
        return None
    spent = {"tokens": 0.0, "cost": 0.0}
    for one in found.steps:
        if one.attempt == attempt:
            add_to(spent, one)
    return _dumps(Gist(len(found.steps), spent["tokens"], spent["cost"], len(found.partial)))


def gist_of(meta: bytes | None) -> Gist | None:
    """What a bare cell says of its steps."""
    return _gist(meta) if meta is not None and meta.startswith(_GIST) else None
