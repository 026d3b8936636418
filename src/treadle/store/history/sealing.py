"""Encrypted histories: AES-256-GCM under a data key that the master key wraps.

    magic (8) · id of the master key (8) · wrapped data key · nonce, ciphertext and tag

Every file says how it is opened, so that a history can be read when its store is lost. A writer has one data
key for all its files; each is bound to its name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from treadle.errors import PlaintextFound, StoreCorrupt, WrongKey
from treadle.store import key_around
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
    """The seal for histories of what a store has: encrypted if it is, with the key that it has by then."""
    if getattr(store, "master", None) is None:
        return AS_IT_IS
    seals: dict[str, Seal] = {}

    def now() -> Seal:
        master: MasterKey = store.master  # type: ignore[attr-defined]  # an encrypted one has it
        found = seals.get(master.id)
        if found is None:
            found = seals[master.id] = seal_with(master)
        return found

    return Seal(lambda name, raw: now().seal(name, raw), lambda name, raw: now().open(name, raw))


def seal_for_reading() -> Seal:
    """The seal of the key that is given, as for a store: see `treadle.store.open_store`."""
    said = key_around()
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
        known, found = _head_of(name, raw)
        if known != master.id:
            raise WrongKey(f"{name} is encrypted with the key {known}, and the one given is {master.id}: "
                           "give the other one")
        try:
            opener = openers.get(found)
            if opener is None:
                opener = openers[found] = Sealer(master.unwrap(found, _WHOSE, master.id), "")
            return opener.open_raw(raw[_HEAD:], name)
        except StoreCorrupt:
            raise StoreCorrupt(f"{name} can't be decrypted: it was changed, or has another name; get another "
                               "copy of it") from None

    return Seal(seal, open_)


class Rewrap:
    """Puts heads with the master key `new` in place of those with `old`."""

    def __init__(self, old: MasterKey, new: MasterKey) -> None:
        self._old, self._new = old, new
        self._heads: dict[bytes, bytes] = {}  # by the wrapped data key

    def is_new(self, name: str, raw: bytes) -> bool:
        """Whether it has the new one already. PlaintextFound; WrongKey if it has neither."""
        known, _ = _head_of(name, raw)
        if known not in (self._old.id, self._new.id):
            raise WrongKey(f"{name} is encrypted with the key {known}, and the one given is {self._old.id}: "
                           "give the other one")
        return known == self._new.id

    def of(self, name: str, raw: bytes) -> bytes:
        """What was sealed, behind another head. StoreCorrupt if the key in the old one was changed."""
        known, wrapped = _head_of(name, raw)
        head = self._heads.get(wrapped)
        if head is None:
            try:
                key = self._old.unwrap(wrapped, _WHOSE, known)
            except StoreCorrupt:
                raise StoreCorrupt(f"{name} can't be decrypted: it was changed; get another copy of "
                                   "it") from None
            head = SEALED + self._new.id.encode() + self._new.wrap(key, _WHOSE)
            self._heads[wrapped] = head
        return head + raw[_HEAD:]


def _head_of(name: str, raw: bytes) -> tuple[str, bytes]:
    """The id of the master key, and the wrapped data key."""
    if not raw.startswith(SEALED):
        raise PlaintextFound(f"{name} is not encrypted, and a key was given: somebody else wrote it, or the "
                             "whole history is plain: read it without the key")
    middle = len(SEALED) + _ID_BYTES
    return raw[len(SEALED):middle].decode(errors="replace"), raw[middle:_HEAD]
