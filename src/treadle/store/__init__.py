"""Where state lives: the port (`base`), the single writer before it (`manager`), the stores behind it."""

from __future__ import annotations

import os
from pathlib import Path

from treadle.errors import StoreError
from treadle.store.base import Batch, Lease, Owner, Signal, Store, Summary, Written
from treadle.store.facade import ExecutionStateManager
from treadle.store.manager import StateManager, StateUpdate
from treadle.store.memory import MemoryStore

__all__ = ["Batch", "ExecutionStateManager", "Lease", "MemoryStore", "Owner", "Signal", "StateManager",
           "StateUpdate", "Store", "Summary", "Written", "default_store_url", "open_store"]


def open_store(url: str | Path) -> Store:
    """Open a store by its URL: `sqlite:///path` (or a bare path), `memory:`.

    StoreError and its kinds say what is wrong with a file; see `treadle.errors`.
    """
    text = str(url)
    if text == "memory:":
        return MemoryStore()
    if text.startswith(("postgresql://", "postgres://")):
        raise StoreError(f"{text.partition('://')[0]} stores are not built in yet: use sqlite:///path or "
                         "memory:")
    if "://" in text and not text.startswith("sqlite:///"):
        raise StoreError(f"{text!r} is no store: say sqlite:///path, a path, or memory:")
    from treadle.store.sqlite.store import SqliteStore

    return SqliteStore(Path(text.removeprefix("sqlite:///")).expanduser())


def default_store_url() -> str:
    """`$TREADLE_STORE`, else `treadle.db` in the user's data folder, which is made."""
    url = os.environ.get("TREADLE_STORE")
    if url:
        return url
    from platformdirs import user_data_path

    folder = user_data_path("treadle", appauthor=False, ensure_exists=True)
    return str(folder / "treadle.db")
