"""The list of executions as viewers see it live: the newest ones, a line each."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import msgspec

from treadle.monitor.core import Monitor
from treadle.monitor.live.fields import Fields, path_of
from treadle.monitor.live.mirror import ROOT, Update
from treadle.monitor.views import Line, line
from treadle.store.base import Summary

LISTED_MAX = 200
"""Executions in the live list; older ones are asked for over HTTP."""
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

    def snapshot(self, scope: frozenset[str] = ROOT) -> Update:
        return Update(self.revision, [], {"executions": {
            name: {field: value for field, value in entry.fields.items() if value is not None}
            for name, entry in self._entries.items() if not entry.gone}})

    def opened(self, groups: frozenset[str]) -> Update:
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

    async def read(self, version: int) -> None:
        """Take what is new. StoreError."""
        self._version, begun = version, time.monotonic()
        found = await self._monitor.read(self._look)
        self._looked = time.monotonic()
        self._next = self._looked + REST * (self._looked - begun)
        before = self._known
        self._known = {one.cell.execution_id: one for one in found}
        oldest = found[-1].cell.created_at or 0.0 if len(found) == LISTED_MAX else 0.0
        gone = [name for name, one in before.items()
                if name not in self._known and (one.cell.created_at or 0.0) > oldest]
        changed = [one for name, one in self._known.items() if before.get(name) != one]
        if changed or gone:
            self._listing.take(map(line, changed), gone)
            self._listing.forget(self._known.keys() | set(gone))

    def _look(self) -> list[Summary]:
        """In a thread: the list, with the numbers of nodes of those that still change."""
        store, before = self._monitor.store, self._counted
        counted: dict[str, Summary] = {}
        found = []
        left = COUNTED_MAX
        for one in store.executions(limit=LISTED_MAX, bare=True):
            name = one.cell.execution_id
            known = before.get(name)
            same = known is not None and known.cell.version == one.cell.version and one.cell.status.terminal
            if left and not same:
                left -= 1
                known = self._monitor.drawings.whole(store, store.summary(name))
            if known is not None:
                counted[name] = known
                one = msgspec.structs.replace(one, nodes=known.nodes, completed=known.completed,
                                              failed=known.failed, ended=known.ended)
            found.append(one)
        self._counted = counted
        self._more = not left
        return found
