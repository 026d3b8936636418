"""Outputs that lie compressed in the store."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from random import Random

import pytest

from treadle.config import Retention
from treadle.errors import StoreCorrupt, StoreError
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.store.base import Batch
from treadle.store.packing import MARK, open_packed, pack, unpack
from treadle.store.sqlite.connection import connect_reader
from treadle.store.sqlite.health import examine
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell
from treadle.testing.contract.pruning import NOW, blob_of, ended

ROWS = json.dumps([{"name": f"row {number}", "value": number} for number in range(20_000)]).encode()


def put(store: SqliteStore, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    store.apply(Batch([a_cell("n", blob=digest)], blobs=[(digest, content)]))
    return digest


def stored(store: SqliteStore, digest: str) -> tuple[int, bytes | None]:
    connection = connect_reader(store.path)
    try:
        row: tuple[int, bytes | None] = connection.execute(
            "SELECT size, content FROM blobs WHERE digest = ?", (digest,)).fetchone()
        return row
    finally:
        connection.close()


def test_what_shrinks_is_packed_and_what_does_not_stays() -> None:
    noise = Random(1).randbytes(200_000)
    assert len(pack(ROWS)) < len(ROWS) / 3 and pack(noise) == noise
    for content in (b"", b"x", ROWS, noise, b"x" * 100_000 + noise, MARK + noise, pack(ROWS)):
        assert unpack(pack(content)) == content
        with open_packed(pack(content)) as file:
            assert file.read(7) + file.read() == content


def test_what_is_damaged_says_so() -> None:
    packed = pack(ROWS)
    broken = bytearray(packed)
    broken[len(packed) // 2] ^= 255
    with pytest.raises(StoreCorrupt, match="is damaged"):
        unpack(bytes(broken))
    for end in (len(packed) // 2, len(packed) - 30):
        with pytest.raises(StoreCorrupt, match="is missing"):
            unpack(packed[:end])
    with pytest.raises(StoreCorrupt, match="is damaged"):
        unpack(MARK)


def test_without_zstandard_nothing_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = pack(ROWS)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert pack(ROWS) == ROWS and unpack(ROWS) == ROWS
    with pytest.raises(StoreError, match=r"pip install treadle\[zstd\]"):
        unpack(packed)


def test_a_store_reads_packed_and_older_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "t.db")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zstandard", None)
        older = put(store, ROWS)
    newer = put(store, ROWS + b" ")
    assert stored(store, older) == (len(ROWS), ROWS)
    size, content = stored(store, newer)
    assert content is not None and size == len(content) < len(ROWS) / 3
    assert (store.blob(older), store.blob(newer)) == (ROWS, ROWS + b" ")
    with store.open_blob(newer) as file:
        assert file.read() == ROWS + b" "
    store.close()


def test_what_fits_a_row_once_packed_has_no_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "t.db")
    large, noise = b'"' + b"x" * 5_000_000 + b'"', Random(2).randbytes(5_000_000)
    digest = put(store, large)
    assert store.blob(digest) == large and not store.place.path(digest).exists()
    digest = put(store, noise)
    assert stored(store, digest) == (5_000_000, None)
    assert Blob(digest, len(noise)).read() == noise, "files stay as they are"
    store.close()


def test_a_row_whose_file_was_lost_heals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "t.db")
    large = b"x" * 5_000_000
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zstandard", None)
        digest = put(store, large)
    store.place.path(digest).unlink()
    put(store, large)
    assert store.blob(digest) == large
    store.close()


def test_without_zstandard_a_prune_deletes_no_blob_whose_names_it_can_not_read(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = SqliteStore(tmp_path / "t.db")
    inner = store.place.put(b"named by a large output only")
    os.utime(inner.path(), (1.0, 1.0))
    large = blob_of(codec.encode([inner, ["row"] * 20_000]))
    ended(store, "keeps", 20.0, blobs=[large])
    ended(store, "goes", 10.0, output=codec.encode(inner))
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "zstandard", None)
        with pytest.raises(StoreError, match=r"pip install treadle\[zstd\]"):
            store.prune(Retention(keep=1), NOW)
        packed, = (one for one in examine(Path(store.path), NOW) if one.level == "error")
        assert packed.text == "1 of them are compressed, and zstandard is not installed"
        assert packed.hint == "pip install treadle[zstd]"
    done = store.prune(Retention(keep=1), NOW)
    assert inner.read() == b"named by a large output only" and done.blobs == 0
    assert not [one for one in examine(Path(store.path), NOW) if one.level == "error"]
    inner.path().unlink()
    lost, = (one for one in examine(Path(store.path), NOW) if one.level == "error")
    assert inner.digest in lost.text
    store.close()
