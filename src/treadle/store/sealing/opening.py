"""Opening a store that is, or is to be, encrypted."""

from __future__ import annotations

import time

from treadle.errors import StoreError, WrongKey
from treadle.store.base import Store
from treadle.store.sealing.table import OWN, KeyedStore, KeyRow

HOW = "give it with --state-encryption-key, or in $TREADLE_STATE_ENCRYPTION_KEY"


def in_front_of(inner: KeyedStore, own: KeyRow | None, said: str | None) -> Store:
    """An encrypted store in front of one whose own key is `own`. WrongKey if it has another key, or there is
    none; InvalidInput if there is something wrong with it; StoreError if the store holds executions and isn't
    encrypted."""
    if said is None:
        assert own is not None
        raise WrongKey(f"{inner.url} is encrypted with the key {own.master_id}: {HOW}")
    try:
        from treadle.crypto.keys import read_key
        from treadle.store.sealing.sealed import SealedStore
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "cryptography":
            raise
        raise StoreError("encryption needs cryptography: pip install treadle[crypto]") from None
    master = read_key(said)
    if own is None:
        own = inner.keys.begin(KeyRow(OWN, master.id, master.fresh(OWN)[1], time.time()))
    key = master.unwrap(own.wrapped or b"", OWN, own.master_id)
    inner.keys.erase()
    return SealedStore(inner, master, key)
