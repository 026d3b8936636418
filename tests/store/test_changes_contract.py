"""What those who look on are told: every store is held to one suite."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from treadle.store import MemoryStore, open_store
from treadle.store.sealing.opening import in_front_of
from treadle.testing.contract import Opener
from treadle.testing.contract.changes import ChangesContract

KEY = b64encode(bytes(range(32))).decode()


class TestMemory(ChangesContract):
    @pytest.fixture
    def opener(self) -> Opener:
        store = MemoryStore()
        return lambda: store


class TestSqlite(ChangesContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db")


class TestSealedMemory(ChangesContract):
    @pytest.fixture
    def opener(self) -> Opener:
        inner = MemoryStore()
        return lambda: in_front_of(inner, inner.keys.found(), KEY)


class TestSealedSqlite(ChangesContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db", key=KEY)
