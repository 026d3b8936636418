"""The list of executions as viewers see it live: the newest ones and all that have not ended, a line each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from treadle.errors import NoSuchExecution
from treadle.monitor.core import Monitor
from treadle.monitor.live.fields import Fields, path_of
from treadle.monitor.live.mirror import ROOT, Update
from treadle.monitor.views import Line, line, state_of
from treadle.state.status import ExecutionStatus
from treadle.store.base import Store, Summary

LISTED_MAX = 200
"""Executions in the live list; older ones that have ended are asked for over HTTP."""
OPEN = (ExecutionStatus.RUNNING, ExecutionStatus.SUSPENDED, ExecutionStatus.PENDING)
"""Those with such a status may change though they are old: as many more of each are in the list."""
COUNTED_MAX = 20
"""Executions whose nodes are counted at one look."""
LOOK_S = 1.0
"""How often the list is read though nothing was written: an owner that is gone writes nothing."""
REST = 5.0
"""After a look it rests so many times as long as the look took."""


class _Entry:
    __slots__ = ("fields", "gone", "told")

    def __init__(self) -> None:
        self.fields: Fields = {}
        self.told: dict[str, int] = {}  # the revision of each field
        self.gone = 0  # the revision at which it was deleted


class Listing:
    """What is known of the list, with the revision of each field. Readable as a `Mirror`, without scopes."""

    def __init__(self) -> None:
        self.revision = self.lead = 0
        self._entries: dict[str, _Entry] = {}

    def take(self, lines: Iterable[Line], gone: Iterable[str] = ()) -> None:
        """Lines that are new or may have changed, and ids of executions that were deleted."""
        self.revision += 1
        for one in lines:
            entry = self._entries.get(one.id)
            if entry is None or entry.gone:
                entry = self._entries[one.id] = _Entry()
            for name, value in msgspec.to_builtins(one).items():
                if name not in entry.told or entry.fields[name] != value:
                    entry.fields[name], entry.told[name] = value, self.revision
        for name in gone:
            entry = self._entries.get(name)
            if entry is not None and not entry.gone:
                entry.gone = self.revision

    def forget(self, kept: set[str]) -> None:
        """Leave out what is not listed any more."""
        for name in [name for name, entry in self._entries.items() if name not in kept and not entry.gone]:
            del self._entries[name]

    def settle(self) -> int:
        return self.revision

    def snapshot(self, scope: frozenset[str] = ROOT, most: int | None = None) -> Update:
        return Update(self.revision, [], {"executions": {
            name: {field: value for field, value in entry.fields.items() if value is not None}
            for name, entry in self._entries.items() if not entry.gone}})

    def paths(self, scope: frozenset[str], *, root: bool = True) -> list[str]:
        return []

    def whole(self, paths: Iterable[str]) -> Update:
        return Update(self.revision, [], {})

    def diff(self, since: int, scope: frozenset[str] = ROOT, limit: int | None = None) -> Update:
        self.lead = self.revision
        mask: list[str] = []
        changed: dict[str, Any] = {}
        for name, entry in self._entries.items():
            if entry.gone:
                if entry.gone > since:
                    mask.append(path_of("executions", name))
                    changed[name] = None
                continue
            fields = {field: entry.fields[field] for field, told in entry.told.items() if told > since}
            if fields:
                mask += [path_of("executions", name, field) for field in fields]
                changed[name] = fields
        return Update(self.revision, mask, {"executions": changed} if changed else {})


class ListSource:
    """Reads the list when the store has changed."""

    def __init__(self, monitor: Monitor, listing: Listing) -> None:
        self._monitor, self._listing = monitor, listing
        self._known: dict[str, Summary] = {}
        self._counted: dict[str, Summary] = {}
        self._version = -1
        self._looked = self._next = 0.0
        self._more = False  # whether there is more to count

    def wants(self, version: int) -> bool:
        """Whether the store must be read."""
        now = time.monotonic()
        return now >= self._next and (
            version != self._version or self._more or now - self._looked >= LOOK_S)

    async def read(self, version: int) -> float:
        """Take what is new; how long the loop worked at that. StoreError."""
        self._version, begun = version, time.monotonic()
        found = await self._monitor.read(self._look)
        self._looked = time.monotonic()
        self._next = self._looked + REST * (self._looked - begun)
        before, worked = self._known, time.thread_time()
        self._known = {one.cell.execution_id: one for one in found}
        gone = before.keys() - self._known.keys()
        if gone and len(found) >= LISTED_MAX:
            oldest = found[LISTED_MAX - 1].cell.created_at or 0.0
            older = {name for name in gone if (before[name].cell.created_at or 0.0) <= oldest}
            ended = [name for name in older if not before[name].cell.status.terminal]
            left = await self._monitor.read(self._left, ended)
            gone = gone - older | set(ended) - {one.cell.execution_id for one in left}
            self._listing.take(map(line, left))  # the last of them
        changed = [one for name, one in self._known.items() if before.get(name) != one]
        if changed or gone:
            self._listing.take(map(line, changed), gone)
            self._listing.forget(self._known.keys() | gone)
        return time.thread_time() - worked

    def _look(self) -> list[Summary]:
        """In a thread: the list, with the numbers of nodes of those that still change."""
        store, before = self._monitor.store, self._counted
        counted: dict[str, Summary] = {}
        found = []
        left = COUNTED_MAX
        for one in self._listed(store):
            name = one.cell.execution_id
            known = before.get(name)
            same = known is not None and one.cell.status.terminal and (
                state_of(known.cell) == state_of(one.cell))
            if left and not same:
                left -= 1
                try:
                    known = self._monitor.drawings.whole(store, store.summary(name))
                except NoSuchExecution:  # it was deleted just now
                    continue
            if known is not None:
                counted[name] = known
                one = msgspec.structs.replace(one, nodes=known.nodes, completed=known.completed,
                                              failed=known.failed, ended=known.ended)
            found.append(one)
        self._counted = counted
        self._more = not left
        return found

    def _listed(self, store: Store) -> list[Summary]:
        found = store.executions(limit=LISTED_MAX, bare=True)
        if len(found) < LISTED_MAX:
            return found
        names = {one.cell.execution_id for one in found}
        older = (one for status in OPEN
                 for one in store.executions(status=status, limit=LISTED_MAX, bare=True))
        return [*found, *(one for one in older if one.cell.execution_id not in names)]

    def _left(self, names: list[str]) -> list[Summary]:
        """In a thread: those of these that are still there."""
        store, found = self._monitor.store, []
        for name in names:
            try:
                found.append(self._monitor.drawings.whole(store, store.summary(name)))
            except NoSuchExecution:
                continue
        return found
