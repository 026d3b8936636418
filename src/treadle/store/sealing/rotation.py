"""What is done to keys: changing the master key, and destroying the key of an execution."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from treadle.crypto.keys import MasterKey
from treadle.store.sealing.sealed import SealedStore
from treadle.store.sealing.table import KeyRow


def rotate(store: SealedStore, new: MasterKey) -> int:
    """Wrap every data key with a new master key; returns how many executions' keys that were. One
    transaction: a crash leaves all of them with the old key or all with the new. Nothing that is sealed is
    touched. StoreError while somebody runs an execution."""
    old = store.master

    def wrap(row: KeyRow) -> KeyRow:
        key = old.unwrap(row.wrapped or b"", row.execution_id, row.master_id)
        return msgspec.structs.replace(row, master_id=new.id, wrapped=new.wrap(key, row.execution_id))

    count = store.keys.rewrap(wrap)
    store.master = new
    return count - 1  # the store's own


def forget(store: SealedStore, execution_ids: Iterable[str]) -> list[str]:
    """Destroy the keys of executions: nothing of them can be read any more, here and in every copy of the
    store that is made from now on. Returns the ids of those that had one. StoreError if somebody runs
    one."""
    done = store.keys.destroy(execution_ids)
    store.drop(done)
    return done
