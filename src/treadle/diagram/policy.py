"""What every node may say beside its own type's properties: retries, time, joins, maps, priority."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec

LATEST = 253_370_764_800.0
"""The first of January 9999, seconds since 1970: what waits for longer waits until then, for no calendar goes
much further."""


class Join(StrEnum):
    """When a node with several arrows is ready: when no arrow is pending, or at the first value."""

    ALL = "all"
    ANY = "any"


class OnItemError(StrEnum):
    """What a failed item does to its map: fail it, or stand in the results as an `ItemError`."""

    FAIL = "fail"
    COLLECT = "collect"


class OnError(StrEnum):
    """What an unhandled failure does to the rest of an execution: cancel it, or let it run to its end."""

    FAIL = "fail"
    CONTINUE = "continue"


class OnLimit(StrEnum):
    """What a loop does that wants one more iteration than it may have."""

    FAIL = "fail"
    EXIT = "exit"


class Backoff(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """Seconds between attempts: `initial * factor ** (retry - 1)`, at most `max`, ± `jitter` of itself."""

    initial: float = 0.1
    factor: float = 2.0
    max: float = 60.0
    jitter: float = 0.1


class Policy(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """The properties that every type of node has.

    `retries` counts attempts after the first. `retry_on` names exception types (empty: any retryable error).
    `timeout` is in seconds, per attempt. `concurrency` bounds a map's items at once (None: the execution's
    bound). Higher `priority` starts first among those that are ready. `reduce` makes one
    value of a map's results: an expression over `acc` (`initial`, then what it gave before), `value` (a
    result), `item` and `index`, in the order of the items. `cache`: another execution's result may
    be used whose body was the same and saw the same (a number: if it is at most so many seconds old).
    """

    retries: int = 0
    backoff: Backoff = Backoff()
    retry_on: tuple[str, ...] = ()
    timeout: float | None = None
    join: Join = Join.ALL
    priority: int = 0
    for_each: str | None = None
    concurrency: int | None = None
    on_item_error: OnItemError = OnItemError.FAIL
    cache: bool | float = False
    reduce: str | None = None
    initial: Any = None


LOOP_ITERATIONS_MAX = 100
"""Iterations that a loop may have unless it says `max_iterations`."""
