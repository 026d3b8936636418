"""The keys of encrypted stores: in memory, missing, more than are kept at hand, without the extra."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from pathlib import Path

import apsw
import msgspec
import pytest

from treadle.config import Retention
from treadle.crypto.keys import MasterKey, new_key, read_key
from treadle.errors import InvalidInput, KeyForgotten, StoreError, StoreFull, WrongKey
from treadle.state.cell import NodeState
from treadle.store import MemoryStore, open_store
from treadle.store.base import Batch, Lease, Store
from treadle.store.owner import this_owner
from treadle.store.sealing import ring, sealed
from treadle.store.sealing.opening import in_front_of
from treadle.store.sealing.rotation import forget, rotate
from treadle.store.sealing.sealed import SealedStore
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell, an_execution
from treadle.testing.contract.pruning import blob_of

KEY, OTHER = new_key(), new_key()
BLOB = blob_of(b"content" * 5000)


def opened(store: Store) -> SealedStore:
    assert isinstance(store, SealedStore)
    return store


def with_one(store: SealedStore, execution_id: str = "run") -> NodeState:
    """An execution with a blob, which nobody runs."""
    cell = a_cell("a", execution_id=execution_id, output=b"1")
    store.create(an_execution(execution_id), "source", this_owner(), 15)
    store.apply(Batch([cell, a_cell("b", execution_id=execution_id, blob=BLOB[0])], blobs=[BLOB],
                      released=[Lease(execution_id, 1)]))
    return cell


def test_in_memory_keys_are_changed_and_destroyed_too() -> None:
    inner = MemoryStore()
    store = opened(in_front_of(inner, None, KEY))
    cell = with_one(store)
    with_one(store, "two")
    assert rotate(store, read_key(OTHER)) == 2
    with pytest.raises(WrongKey):
        in_front_of(inner, inner.keys.found(), KEY)
    again = opened(in_front_of(inner, inner.keys.found(), OTHER))
    assert cell in again.load("run")[1]
    assert forget(again, ["run"]) == ["run"]
    with pytest.raises(KeyForgotten):
        again.load("run")
    assert again.blob(BLOB[0]) == BLOB[1]  # of the other
    lease = again.claim("two", this_owner(), 15)
    for change in (lambda: rotate(again, read_key(KEY)), lambda: forget(again, ["two"])):
        with pytest.raises(StoreError, match="execution two is being run"):
            change()
    again.release([lease])
    assert forget(again, ["two", "nobody"]) == ["two"]


def test_a_memory_store_with_plain_executions_gets_no_key() -> None:
    inner = MemoryStore()
    inner.create(an_execution(), "", this_owner(), 15)
    with pytest.raises(StoreError, match="not encrypted, and holds executions"):
        in_front_of(inner, None, KEY)


def test_an_execution_whose_key_is_gone_says_so_and_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with_one(opened(open_store(path, key=KEY)))
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM keys WHERE execution_id = 'run'")
    connection.close()
    store = open_store(path, key=KEY)
    for use in (lambda: store.load("run"), lambda: store.apply(Batch([a_cell("n", 2, output=b"1")]))):
        with pytest.raises(KeyForgotten, match="has no key of execution run: nothing of it can be read"):
            use()
    assert "has no key" in str(store.executions()[0].cell.error)
    with pytest.raises(KeyError):
        store.blob(BLOB[0])
    store.close()


def test_a_store_whose_proof_of_the_key_was_deleted_is_not_opened(tmp_path: Path) -> None:
    """Else it would take any key, and what it holds for somebody else's."""
    path = tmp_path / "state.db"
    with_one(opened(open_store(path, key=KEY)))
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM keys WHERE execution_id = ''")
    connection.close()
    with pytest.raises(StoreError, match="holds executions"):
        open_store(path, key=KEY)


def test_more_executions_than_keys_that_are_kept_at_hand(tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "KEPT_MAX", 2)
    monkeypatch.setattr(sealed, "KEPT_MAX", 2)
    store = opened(open_store(tmp_path / "state.db", key=KEY))
    cells = {f"run{number}": with_one(store, f"run{number}") for number in range(6)}
    for name, cell in cells.items():
        assert cell in store.load(name)[1]
        assert store.blob(BLOB[0]) == BLOB[1]
    fork = a_cell("b", execution_id="fork", blob=BLOB[0])
    store.apply(Batch([], created=[(an_execution("fork"), "")], begun=[fork], owner=this_owner()))
    forget(store, cells)
    assert store.load("fork")[1] == [fork]
    assert store.blob(BLOB[0]) == BLOB[1]
    store.close()


def test_two_processes_that_make_one_store_agree_on_its_key(tmp_path: Path) -> None:
    inner = MemoryStore()
    first = opened(in_front_of(inner, None, KEY))
    with pytest.raises(WrongKey):
        in_front_of(inner, None, OTHER)  # it had looked before the first was done
    with_one(first)
    opened(in_front_of(inner, None, KEY)).load("run")
    path = tmp_path / "state.db"
    open_store(path, key=KEY).close()
    with pytest.raises(WrongKey):
        in_front_of(SqliteStore(path), None, OTHER)


def test_an_id_that_is_used_again_has_another_key(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    mine, theirs = opened(open_store(path, key=KEY)), opened(open_store(path, key=KEY))
    with_one(mine)
    theirs.load("run")  # knows the key
    assert mine.prune(Retention(status=("running",)), 1e12).execution_ids == ["run"]
    cell = msgspec.structs.replace(with_one(mine), output=b"1")
    lease = theirs.claim("run", this_owner(), 15)
    assert cell in theirs.load("run")[1]
    assert theirs.blob(BLOB[0]) == mine.blob(BLOB[0]) == BLOB[1]
    theirs.release([lease])
    mine.close()
    theirs.close()


def test_a_batch_whose_file_found_no_room_is_sealed_again_as_a_whole(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = opened(open_store(tmp_path / "state.db", key=KEY))
    store.create(an_execution(), "", this_owner(), 15)
    huge = blob_of(os.urandom(5 * 1024 * 1024))
    cells = [a_cell("a", blob=BLOB[0]), a_cell("b", blob=huge[0])]
    batch = Batch(cells, blobs=[BLOB, huge])
    tries = []

    def full(*given: object) -> None:
        tries.append(given)
        raise StoreFull(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(sealed, "put_file", full)
        with pytest.raises(StoreFull):
            store.apply(batch)
    store.apply(batch)
    assert len(tries) == 1
    assert [store.blob(digest) for digest, _ in (BLOB, huge)] == [BLOB[1], huge[1]]
    store.close()


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    code = ("import sys; sys.modules['cryptography'] = None\n"
            "from treadle.store import open_store\n"
            f"open_store(sys.argv[1], key={KEY!r})")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "state.db")], capture_output=True,
                          text=True, check=False)
    assert "encryption needs cryptography: pip install treadle[crypto]" in done.stderr


def test_a_master_key_has_32_bytes_and_is_not_shown() -> None:
    with pytest.raises(InvalidInput, match="a key has 32 bytes, not 31"):
        MasterKey(bytes(31))
    key = MasterKey(bytes(range(32)))
    assert repr(key) == f"MasterKey({key.id!r})"


def test_a_new_execution_with_the_id_of_a_forgotten_one_is_refused_alone(tmp_path: Path) -> None:
    from treadle import Diagram, Engine, node

    @node(isolation="inline")
    def one() -> int:
        return 1

    with Diagram("d") as diagram:
        one()
    url, key = f"{tmp_path}/forgotten.db", "ab" * 32

    async def main() -> None:
        async with Engine.open(url, state_encryption_key=key) as engine:
            await (await engine.start(diagram, execution_id="gone")).result()
        store = open_store(url, key=key)
        forget(opened(store), ["gone"])
        store.close()
        async with Engine.open(url, state_encryption_key=key) as engine:
            with pytest.raises(ValueError, match="already"):
                await engine.start(diagram, execution_id="gone")
            assert await (await engine.start(diagram, execution_id="good")).result() == 1

    asyncio.run(main())
