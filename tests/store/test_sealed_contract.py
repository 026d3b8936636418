"""An encrypted store is held to the same suite as every store."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path

import pytest

from treadle.config import Retention
from treadle.store import open_store
from treadle.store.memory import MemoryStore
from treadle.store.sealing.opening import in_front_of
from treadle.testing.contract import Opener, StoreContract, raised
from treadle.testing.contract.pruning import NOW, PruneContract, blob_of, ended, left

KEY = b64encode(bytes(range(32))).decode()


class EncryptedPrunes(PruneContract):
    def test_what_ended_too_long_ago_goes_with_all_that_is_its_own(self, opener: Opener) -> None:
        """Here what two executions share are two blobs, each under its own key."""
        store = opener()
        large, shared = blob_of(b"large" * 10_000), blob_of(b"shared" * 10_000)
        ended(store, "old", 10.0, diagram="its own", blobs=[large, shared])
        ended(store, "young", 20.0, blobs=[shared])
        done = store.prune(Retention(older_s=985.0), NOW)
        assert (done.execution_ids, done.cells, done.blobs, done.diagrams) == (["old"], 3, 2, 1)
        assert left(store) == ["young"]
        assert store.blob(shared[0]) == shared[1]
        raised(KeyError, lambda: store.blob(large[0]))
        store.close()


class TestSealedMemory(StoreContract):
    @pytest.fixture
    def opener(self) -> Opener:
        inner = MemoryStore()
        return lambda: in_front_of(inner, inner.keys.found(), KEY)


class TestSealedSqlite(StoreContract):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db", key=KEY)


class TestSealedMemoryPrune(EncryptedPrunes):
    @pytest.fixture
    def opener(self) -> Opener:
        inner = MemoryStore()
        return lambda: in_front_of(inner, inner.keys.found(), KEY)


class TestSealedSqlitePrune(EncryptedPrunes):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Opener:
        return lambda: open_store(tmp_path / "state.db", key=KEY)
