"""What `prune` deletes: the choice, which is the same for every store, and what became of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter

import msgspec

from treadle.config import Retention
from treadle.state.status import ExecutionStatus

Between = Callable[[], bool]
"""Called between two portions; False ends a prune where it stands."""
HALF_GONE = "(pruned)"
"""The diagram of an execution that is deleted in part."""
_DIGEST = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
_SLICE = 256 * 1024  # characters that are searched in one go: the search holds the GIL
_ENDED = tuple(one.value for one in ExecutionStatus if one.terminal)


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """An execution that might go. `held`: somebody runs it, or runs another that has it as its parent."""

    execution_id: str
    status: str
    name: str
    created_at: float
    ended_at: float  # where it hasn't ended, its last instant that is known
    held: bool
    begun: bool = False  # a former prune deleted a part of it and was ended


class Pruned(msgspec.Struct, kw_only=True):
    """What a prune deleted, or would delete."""

    execution_ids: list[str] = []
    """Oldest first."""
    cells: int = 0
    blobs: int = 0
    diagrams: int = 0
    bytes_freed: int = 0
    """By how much the store, with the files of its blobs, became smaller; an estimate where nothing was
    deleted yet."""
    blobs_young: int = 0
    """Blob files that nothing names but that are so young that somebody may be about to: the next prune looks
    at them again."""


def between_portions(took: float) -> None:
    """Leave others the file for as long as we had it: SQLite gives no fair turns to those who wait."""
    time.sleep(max(0.005, took))


def considered(found: Iterable[Candidate], policy: Retention) -> list[Candidate]:
    """The executions that a policy is about, the oldest first."""
    if not policy:
        return []
    wanted = policy.status or _ENDED
    scope = [one for one in found if not one.held and not one.begun and one.status in wanted
             and policy.name in (None, one.name)
             and (not policy.execution_ids or one.execution_id in policy.execution_ids)]
    scope.sort(key=attrgetter("created_at", "execution_id"))
    return scope


def overdue(scope: Sequence[Candidate], policy: Retention, now: float) -> list[Candidate]:
    """Those of the considered that are too old or too many; all of them if the policy has no limit. What has
    to go for the size depends on what that frees, and is the store's to find out."""
    if not policy.limited:
        return list(scope)
    many = 0 if policy.keep is None else max(0, len(scope) - policy.keep)
    old = -1.0 if policy.older_s is None else now - policy.older_s
    return [one for place, one in enumerate(scope) if place < many or one.ended_at < old]


def names_in(text: str) -> set[str]:
    """The digests that stand in a text, however they got there."""
    found: set[str] = set()
    for first in range(0, len(text), _SLICE):
        found.update(_DIGEST.findall(text, max(0, first - 64), first + _SLICE))
    return found
