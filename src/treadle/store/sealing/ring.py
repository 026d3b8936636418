"""The data keys of a store's executions, as far as they are needed here, and the master key that wraps them.

Another process may change the master key meanwhile. That wraps the data keys anew and leaves them as they
are, so whoever has one at hand goes on with it. For others the new master key is read where the old one came
from: a file may hold it by now.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from treadle.crypto.keys import OPTION, MasterKey, read_key
from treadle.crypto.seal import Sealer
from treadle.errors import InvalidInput, KeyForgotten, WrongKey
from treadle.store.sealing.table import KeyRow, Keys

KEPT_MAX = 10_000
"""Keys that stay in memory."""
_SAME_S = 1e-4
"""SQLite may round the last bit of an instant away."""


class _Kept(NamedTuple):
    sealer: Sealer
    at: float  # when the key was made: who deletes an execution and makes it anew makes another


class KeyRing:
    """`look` raises NoSuchExecution where there is no such execution; `url` is for messages."""

    def __init__(self, keys: Keys, master: MasterKey, url: str, look: Callable[[str], object], *,
                 steady: bool) -> None:
        self.keys, self.master, self.url = keys, master, url
        self._look, self._steady = look, steady
        self._kept: dict[str, _Kept] = {}
        self._behind = False  # the master key is another by now, and we have the old one

    def sealer(self, execution_id: str) -> Sealer:
        """What seals an execution's texts. KeyForgotten; NoSuchExecution if it isn't there either; WrongKey
        if the master key is another by now."""
        kept = self._kept.get(execution_id)
        return kept.sealer if kept is not None else self.looked_up(execution_id)

    def looked_up(self, execution_id: str) -> Sealer:
        """The same, for who can't know whether the execution was deleted and made anew meanwhile."""
        row = self.keys.get(execution_id)
        if row is None:
            self.drop([execution_id])
            self._look(execution_id)
            raise KeyForgotten(f"the store has no key of execution {execution_id}: nothing of it can be "
                               "read; restore the store from a copy, or delete it with `treadle prune`")
        if row.wrapped is None:
            self.drop([execution_id])
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row.at))
            raise KeyForgotten(f"execution {execution_id} was forgotten on {when}: its key was destroyed, "
                               "and nothing of it can be read any more")
        return self.opened(row, keep=True)

    def begin(self, execution_ids: Sequence[str]) -> None:
        """Make keys for new executions; one whose id is taken has a key. WrongKey."""
        at, master = time.time(), self.master  # another thread may read a new one meanwhile
        fresh = {one: master.fresh(one) for one in execution_ids}
        rows = [KeyRow(one, master.id, wrapped, at) for one, (_, wrapped) in fresh.items()]
        try:
            there = self.keys.put(rows)
        except WrongKey:
            self._reload()
            return self.begin(execution_ids)
        for one, row in there.items():
            key, wrapped = fresh[one]
            if row.wrapped == wrapped:
                self._keep(row, Sealer(key, one, steady=self._steady))
            elif row.wrapped is not None:
                self.opened(row, keep=True)

    def opened(self, row: KeyRow, *, keep: bool = False) -> Sealer:
        """The sealer with the key of a row that was not destroyed. WrongKey, StoreCorrupt."""
        kept, master = self._kept.get(row.execution_id), self.master
        if row.master_id != master.id:
            if kept is not None and abs(kept.at - row.at) < _SAME_S:
                self._behind = True
                return kept.sealer  # it was only wrapped anew
            master = self._reload()
        key = master.unwrap(row.wrapped or b"", row.execution_id, row.master_id)
        if kept is not None and kept.sealer.has(key):
            return kept.sealer
        sealer = Sealer(key, row.execution_id, steady=self._steady)
        if keep:
            self._keep(row, sealer)
        return sealer

    def all(self) -> Iterator[Sealer]:
        """Those of all executions that are not forgotten; with an old master key those that are at hand."""
        for row in self.keys.rows():
            if row.wrapped is not None:
                try:
                    yield self.opened(row)
                except WrongKey:
                    if self._behind:
                        yield from [kept.sealer for kept in list(self._kept.values())]
                        return

    def drop(self, execution_ids: Iterable[str]) -> None:
        """Keep the keys of these executions in memory no more."""
        for one in execution_ids:
            self._kept.pop(one, None)

    def clear(self) -> None:
        self._kept.clear()

    def _keep(self, row: KeyRow, sealer: Sealer) -> None:
        if len(self._kept) >= KEPT_MAX and not self._behind:  # else they could not be had again
            self._kept.clear()
        self._kept[row.execution_id] = _Kept(sealer, row.at)

    def _reload(self) -> MasterKey:
        """Read the master key anew where it came from. WrongKey if it isn't the store's there either."""
        own = self.keys.found()
        wanted = "" if own is None else own.master_id
        found = self.master
        if found.id != wanted and found.source:
            with contextlib.suppress(InvalidInput):
                found = read_key(found.source)
        self._behind = found.id != wanted
        if self._behind:
            raise WrongKey(f"the key of {self.url} was changed to {wanted} by another process while it was "
                           f"open here: end this program, and start it again with the new key ({OPTION})")
        self.master = found
        return found
