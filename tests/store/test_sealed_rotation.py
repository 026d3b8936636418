"""A store's key is changed while a program that does nothing has it open: it goes on as far as it can."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from treadle import Diagram, Engine, node
from treadle.crypto.keys import new_key, read_key
from treadle.errors import KeyForgotten, WrongKey
from treadle.store import open_store
from treadle.store.base import Batch, Lease, Signal
from treadle.store.history.sealing import seal_of
from treadle.store.owner import this_owner
from treadle.store.sealing import ring
from treadle.store.sealing.rotation import forget, rotate
from treadle.store.sealing.sealed import SealedStore
from treadle.testing.contract import a_cell, an_execution

KEY, OTHER = new_key(), new_key()


def opened(path: Path, key: str) -> SealedStore:
    store = open_store(path, key=key)
    assert isinstance(store, SealedStore)
    return store


def with_one(path: Path, execution_id: str = "run") -> SealedStore:
    store = opened(path, KEY)
    store.create(an_execution(execution_id), "", this_owner(), 15)
    store.apply(Batch([], released=[Lease(execution_id, 1)]))
    return store


def rotated(path: Path, before: str = KEY, after: str = OTHER) -> None:
    """What another process does."""
    store = opened(path, before)
    rotate(store, read_key(after))
    store.close()


def test_who_has_the_data_key_goes_on_with_it(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    idle = with_one(path)
    rotated(path)
    lease = idle.claim("run", this_owner(), 15)
    idle.apply(Batch([a_cell("n", epoch=2, output=b"1")]))
    idle.send(Signal("run", "signal", name="go", payload=b"2"))
    idle.apply(Batch([], released=[lease]))
    idle.close()
    store = opened(path, OTHER)
    assert [cell.output for cell in store.load("run")[1]] == [b"1"]
    assert [one.payload for one in store.signals(["run"])] == [b"2"]
    store.close()


def test_a_new_execution_is_refused_and_what_waits_beside_it_is_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    idle = with_one(path)
    rotated(path)
    idle.claim("run", this_owner(), 15)
    done = idle.apply(Batch(
        [a_cell("n", epoch=2, output=b"1")], created=[(an_execution("late"), "# source")],
        begun=[a_cell("first", execution_id="late", output=b"0")], owner=this_owner()))
    assert list(done.unmade) == ["late"]
    with pytest.raises(WrongKey, match=rf"to {read_key(OTHER).id} by another process.*start it again"):
        raise done.unmade["late"]
    assert [cell.output for cell in idle.load("run")[1]] == [b"1"]
    with pytest.raises(WrongKey, match="by another process"):
        idle.create(an_execution("late"), "", this_owner(), 15)
    assert [one.cell.execution_id for one in idle.executions()] == ["run"]
    idle.close()


def test_who_lacks_the_data_key_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with_one(path).close()
    idle = opened(path, KEY)
    rotated(path)
    for use in (lambda: idle.load("run"), lambda: idle.claim("run", this_owner(), 15)):
        with pytest.raises(WrongKey, match="start it again with the new key"):
            use()
    assert "by another process" in str(idle.executions()[0].cell.error)
    idle.close()


def test_a_key_file_that_has_the_new_key_by_now_is_read_again(tmp_path: Path) -> None:
    path, file = tmp_path / "state.db", tmp_path / "key"
    file.touch(0o600)
    file.write_text(KEY)
    with_one(path).close()
    idle = opened(path, f"file:{file}")
    rotated(path)
    file.write_text(OTHER)
    assert idle.load("run")[0] == an_execution()
    file.write_text("no key")
    idle.release([idle.create(an_execution("late"), "", this_owner(), 15)])
    rotated(path, OTHER, KEY)
    with pytest.raises(WrongKey, match="by another process"):
        idle.create(an_execution("later"), "", this_owner(), 15)
    idle.close()
    store = opened(path, KEY)
    assert {one.cell.execution_id for one in store.executions()} == {"run", "late"}
    store.close()


def test_a_data_key_of_an_execution_that_was_made_anew_is_another(tmp_path: Path) -> None:
    """Not one that the rotation wrapped anew: it must not be used."""
    path = tmp_path / "state.db"
    idle = with_one(path)
    rotated(path)
    there = opened(path, OTHER)
    row = there.keys.get("run")
    assert row is not None
    sqlite = there.inner
    forget(there, ["run"])
    with pytest.raises(KeyForgotten):
        idle.claim("run", this_owner(), 15)
    assert sqlite.keys.get("run") != row
    there.close()
    idle.close()


def test_more_keys_than_are_kept_are_read_with_the_new_master_key(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ring, "KEPT_MAX", 1)
    path, file = tmp_path / "state.db", tmp_path / "key"
    file.touch(0o600)
    file.write_text(KEY)
    for name in ("run", "two"):
        with_one(path, name).close()
    idle = opened(path, f"file:{file}")
    idle.load("run")
    rotated(path)
    file.write_text(OTHER)
    assert len(idle.executions()) == 2
    assert [one.cell.error for one in idle.executions()] == [None, None]
    idle.close()


def test_data_keys_that_could_not_be_had_again_are_kept(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    for name in ("run", "two"):
        with_one(path, name).close()
    idle = opened(path, KEY)
    for name in ("run", "two"):
        idle.load(name)
    rotated(path)
    monkeypatch.setattr(ring, "KEPT_MAX", 1)
    for name in ("run", "two"):
        idle.claim(name, this_owner(), 15)
        with pytest.raises(WrongKey):
            idle.create(an_execution("late"), "", this_owner(), 15)
    idle.apply(Batch([a_cell("n", epoch=2, output=b"1"), a_cell("n", execution_id="two", epoch=2)]))
    assert [len(idle.load(name)[1]) for name in ("run", "two")] == [1, 1]
    idle.close()


def test_what_looks_like_the_name_of_a_blob_ends_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with_one(path, "two").close()
    idle = with_one(path)
    rotated(path)
    idle.claim("run", this_owner(), 15)
    named = b'{"$treadle":{"$":"text","v":"%s"}}' % (b"ab" * 32)
    idle.apply(Batch([a_cell("n", epoch=2, output=named)]))
    assert idle.load("run")[1][0].output == named
    with pytest.raises(KeyError):
        idle.blob("ab" * 32)
    idle.close()


def test_a_history_is_sealed_with_the_key_that_the_store_has_by_then(tmp_path: Path) -> None:
    store = with_one(tmp_path / "state.db")
    seal = seal_of(store)
    assert read_key(KEY).id.encode() in seal.seal("file", b"words")
    rotate(store, read_key(OTHER))
    sealed = seal.seal("file", b"words")
    assert read_key(OTHER).id.encode() in sealed
    assert seal.open("file", sealed) == b"words"
    store.close()


def test_an_engine_that_idles_lives_through_it(tmp_path: Path) -> None:
    @node(isolation="inline")
    def one() -> int:
        return 1

    with Diagram("d") as diagram:
        one()
    path, file = tmp_path / "state.db", tmp_path / "key"
    file.touch(0o600)
    file.write_text(KEY)

    async def main() -> None:
        async with Engine.open(str(path), state_encryption_key=f"file:{file}") as engine:
            assert await (await engine.start(diagram)).result() == 1
            await asyncio.to_thread(rotated, path)
            with pytest.raises(WrongKey, match="by another process"):
                await engine.start(diagram, execution_id="late")
            file.write_text(OTHER)
            assert await (await engine.start(diagram, execution_id="late")).result() == 1

    asyncio.run(main())
    store = opened(path, OTHER)
    assert store.load("late")[0].output == b"1"
    store.close()
