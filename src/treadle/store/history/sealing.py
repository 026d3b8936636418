"""Encrypted histories: AES-256-GCM under a data key that the master key wraps.

    magic (8) · id of the master key (8) · wrapped data key · nonce, ciphertext and tag

Every file says how it is opened, so that a history can be read when its store is lost. A writer has one data
key for all its files; each is bound to its name.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from treadle.errors import PlaintextFound, StoreCorrupt, WrongKey
from treadle.store import KEY_VARIABLE, given_key
from treadle.store.base import Store
from treadle.store.history.folder import AS_IT_IS, SEALED, Seal

if TYPE_CHECKING:
    from treadle.crypto.keys import MasterKey
    from treadle.crypto.seal import Sealer

_ID_BYTES, _WRAPPED_BYTES = 8, 12 + 32 + 16
_HEAD = len(SEALED) + _ID_BYTES + _WRAPPED_BYTES
_WHOSE = "\0history"
"""What the data key is bound to; no execution has such an id."""


def seal_of(store: Store) -> Seal:
    """The seal for histories of what a store has: encrypted if it is."""
    master: MasterKey | None = getattr(store, "master", None)
    return AS_IT_IS if master is None else seal_with(master)


def seal_for_reading() -> Seal:
    """The seal of the key that is given, as for a store: see `treadle.store.open_store`."""
    said = given_key.get() or os.environ.get(KEY_VARIABLE)
    if said is None:
        return AS_IT_IS
    from treadle.crypto.keys import read_key

    return seal_with(read_key(said))


def seal_with(master: MasterKey) -> Seal:
    """Seals with a fresh data key, and opens whatever the master key has wrapped."""
    from treadle.crypto.seal import Sealer

    key, wrapped = master.fresh(_WHOSE)
    sealer = Sealer(key, "")
    head = SEALED + master.id.encode() + wrapped
    openers: dict[bytes, Sealer] = {wrapped: sealer}

    def seal(name: str, raw: bytes) -> bytes:
        return head + sealer.raw(raw, name)

    def open_(name: str, raw: bytes) -> bytes:
        if not raw.startswith(SEALED):
            raise PlaintextFound(f"{name} is not encrypted, and a key was given: somebody else wrote it, or "
                                 "the whole history is plain: read it without the key")
        known, found = raw[len(SEALED):_HEAD - _WRAPPED_BYTES], raw[_HEAD - _WRAPPED_BYTES:_HEAD]
        if known != master.id.encode():
            raise WrongKey(f"{name} is encrypted with the key {known.decode(errors='replace')}, and the one "
                           f"given is {master.id}: give the other one")
        try:
            opener = openers.get(found)
            if opener is None:
                opener = openers[found] = Sealer(master.unwrap(found, _WHOSE, master.id), "")
            return opener.open_raw(raw[_HEAD:], name)
        except StoreCorrupt:
            raise StoreCorrupt(f"{name} can't be decrypted: it was changed, or has another name; get another "
                               "copy of it") from None

    return Seal(seal, open_)
