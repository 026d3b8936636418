"""Where state lives: the port (`base`), the single writer before it (`manager`), the stores behind it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.crypto import hidden, hide
from treadle.errors import StoreError
from treadle.store.base import Batch, Lease, Owner, Signal, Store, Summary, Written
from treadle.store.facade import ExecutionStateManager
from treadle.store.manager import StateManager, StateUpdate
from treadle.store.memory import MemoryStore
from treadle.undo import undone

if TYPE_CHECKING:
    from treadle.store.sqlite.store import SqliteStore

__all__ = ["Batch", "ExecutionStateManager", "Lease", "MemoryStore", "Owner", "Signal", "StateManager",
           "StateUpdate", "Store", "Summary", "Written", "default_store_url", "open_store"]


def open_store(url: str | Path, *, key: str | None = None, read_only: bool = False) -> Store:
    """Open a store by its URL: `sqlite:///path` (or a bare path), `memory:`.

    With a `key` it is encrypted: 32 bytes as base64 or hex, `file:PATH` or `env:NAME`; without, the key is
    that of the block `with encryption_key(…)` around, else of $TREADLE_STATE_ENCRYPTION_KEY. WrongKey if the
    store has another, or has one and none was given. With `read_only` a file is opened that is there and
    can't be written, to look at it: StoreReadOnly is the answer to all that would change it. StoreError and
    its kinds say what is wrong with a file; see `treadle.errors`.
    """
    return _sealed(open_as_it_is(str(url), read_only=read_only), key or key_around(), read_only)


given_key: ContextVar[str | None] = ContextVar("given_key", default=None)
KEY_VARIABLE = "TREADLE_STATE_ENCRYPTION_KEY"
"""The environment variable that gives the key."""


def key_around() -> str | None:
    """The key where none is said: that of the block, or of the environment."""
    return given_key.get() or os.environ.get(KEY_VARIABLE) or hidden.get(KEY_VARIABLE)


def hide_key(said: str | None) -> None:
    """Take what gives a key out of this process's environment: programs that it starts would have it."""
    hide(KEY_VARIABLE)
    if said is not None and said.startswith("env:"):
        hide(said[4:])


@contextmanager
def encryption_key(key: str | None) -> Iterator[None]:
    """Stores that are opened in this block without a key of their own have this one."""
    token = given_key.set(key)
    try:
        yield
    finally:
        given_key.reset(token)


def _sealed(store: MemoryStore | SqliteStore, said: str | None, read_only: bool) -> Store:
    with undone(store.close):
        own = store.keys.found()
        if said is None and own is None:
            return store
        from treadle.store.sealing.opening import in_front_of  # for those who encrypt

        found = in_front_of(store, own, said)
        if not read_only:
            store.place.tidy()  # of copies that can be read, of processes that were killed
        return found


def open_as_it_is(text: str, *, read_only: bool = False) -> MemoryStore | SqliteStore:
    """The store without its encryption: see `open_store`."""
    if text == "memory:":
        return MemoryStore()
    if text.startswith(("postgresql://", "postgres://")):
        raise StoreError(f"{text.partition('://')[0]} stores are not built in yet: use sqlite:///path or "
                         "memory:")
    if "://" in text and not text.startswith("sqlite:///"):
        raise StoreError(f"{text!r} is no store: say sqlite:///path, a path, or memory:")
    from treadle.store.sqlite.store import SqliteStore

    return SqliteStore(Path(text.removeprefix("sqlite:///")).expanduser(), read_only=read_only)


def default_store_url() -> str:
    """`$TREADLE_STORE`, else `treadle.db` in the user's data folder, which is made."""
    url = os.environ.get("TREADLE_STORE")
    if url:
        return url
    from platformdirs import user_data_path

    folder = user_data_path("treadle", appauthor=False, ensure_exists=True)
    return str(folder / "treadle.db")
