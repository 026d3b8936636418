"""Every store is held to one suite."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.store import MemoryStore, open_store
from treadle.testing.contract import Opener, StoreContract


class TestMemory(StoreContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: store


class TestSqlite(StoreContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db")
