"""Every store is pruned alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.store import MemoryStore, open_store
from treadle.testing.contract import Opener
from treadle.testing.contract.pruning import PruneContract


class TestMemory(PruneContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: store


class TestSqlite(PruneContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db")
