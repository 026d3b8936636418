"""The table `keys`: data keys of executions, wrapped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from treadle.errors import StoreError, WrongKey
from treadle.store.base import Store

OWN = ""
"""In place of an execution's id: the store's own key, which proves that a master key is the right one."""


class KeyRow(msgspec.Struct, frozen=True):
    """A data key. `wrapped` is None once it was destroyed."""

    execution_id: str
    master_id: str
    wrapped: bytes | None
    at: float  # when it was made, or destroyed


class Keys(Protocol):
    """Where a store keeps data keys."""

    def get(self, execution_id: str) -> KeyRow | None:
        """One key; None if there is none."""

    def found(self) -> KeyRow | None:
        """The store's own key, None in a store that isn't encrypted."""

    def begin(self, own: KeyRow) -> KeyRow:
        """Make a store without executions an encrypted one; returns its own key, another's if it was faster.
        StoreError if it has executions already."""

    def put(self, rows: Sequence[KeyRow]) -> dict[str, KeyRow]:
        """Write keys of new executions, except where one is there; returns those that are there now.
        WrongKey if the store's own key is wrapped by another master key."""

    def rewrap(self, wrap: Callable[[KeyRow], KeyRow]) -> int:
        """Replace every key that was not destroyed, in one transaction, fsynced. Returns how many. StoreError
        while somebody runs an execution."""

    def destroy(self, execution_ids: Iterable[str]) -> list[str]:
        """Destroy keys, so that they can't be found in the file either. Returns the ids of those that were
        there. StoreError if somebody runs one of the executions."""

    def rows(self) -> list[KeyRow]:
        """Every key but the store's own."""

    def erase(self) -> None:
        """Overwrite in the file what was deleted, and what is from here on."""


class KeyedStore(Store, Protocol):
    """A store that can keep keys."""

    @property
    def keys(self) -> Keys: ...


class MemoryKeys:
    """See `Keys`. `executions` gives the ids of what the store holds, `running` of those that are run."""

    def __init__(self, executions: Callable[[], Iterable[str]], running: Callable[[], Iterable[str]]) -> None:
        self._executions, self._running = executions, running
        self._rows: dict[str, KeyRow] = {}
        self._lock = threading.Lock()

    def get(self, execution_id: str) -> KeyRow | None:
        return self._rows.get(execution_id)

    def found(self) -> KeyRow | None:
        return self._rows.get(OWN)

    def begin(self, own: KeyRow) -> KeyRow:
        with self._lock:
            if OWN not in self._rows and any(True for _ in self._executions()):
                raise has_plaintext("the memory store")
            return self._rows.setdefault(OWN, own)

    def put(self, rows: Sequence[KeyRow]) -> dict[str, KeyRow]:
        with self._lock:
            check_master(self._rows.get(OWN), rows)
            return {row.execution_id: self._rows.setdefault(row.execution_id, row) for row in rows}

    def rewrap(self, wrap: Callable[[KeyRow], KeyRow]) -> int:
        with self._lock:
            refuse_running(self._running())
            live = [row for row in self._rows.values() if row.wrapped is not None]
            self._rows.update({row.execution_id: wrap(row) for row in live})
            return len(live)

    def destroy(self, execution_ids: Iterable[str]) -> list[str]:
        with self._lock:
            wanted = [one for one in execution_ids if one in self._rows and one != OWN]
            refuse_running(set(wanted).intersection(self._running()))
            for one in wanted:
                self._rows[one] = msgspec.structs.replace(self._rows[one], wrapped=None, at=time.time())
            return wanted

    def rows(self) -> list[KeyRow]:
        return [row for row in self._rows.values() if row.execution_id != OWN]

    def erase(self) -> None:
        pass

    def keep(self, execution_ids: Iterable[str]) -> None:
        """Drop the keys of all other executions."""
        with self._lock:
            kept = {OWN, *execution_ids}
            self._rows = {one: row for one, row in self._rows.items() if one in kept}


def check_master(own: KeyRow | None, rows: Sequence[KeyRow]) -> None:
    """WrongKey if keys are wrapped by another master key than the store's own."""
    if own is not None and rows and own.master_id != rows[0].master_id:
        raise WrongKey(f"the store's key was changed to {own.master_id} while it was open here: end this "
                       "program, and start it again with the new key")


def has_plaintext(path: str) -> StoreError:
    """For a store that is to become encrypted, and has executions."""
    return StoreError(f"{path} is not encrypted, and holds executions: leave the key out, or use a new store "
                      "(`treadle export` and `treadle import` bring executions there)")


def refuse_running(running: Iterable[str]) -> None:
    """StoreError that names executions that somebody runs."""
    found = sorted(running)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise StoreError(f"execution {found[0]}{more} is being run, and whoever runs it has the key in "
                         "memory: wait until it ends, or cancel it")
