"""Encrypted histories: another key for them, and folders that are encrypted beside others that aren't."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from treadle.crypto.keys import read_key, write_key
from treadle.store.history import read_history
from treadle.store.history.rotation import rotate_histories
from treadle.store.history.sealing import seal_with

DIAGRAM = """
treadle: 1
name: hello
nodes:
  say: {type: code_job, isolation: thread, code: "return 'the ' + 'marker'"}
  large: {type: code_job, isolation: thread, code: "return 'x' * 1_500_000"}
"""
OLD, NEW = ("--state-encryption-key", "file:old"), ("--state-encryption-key", "file:new")
ROTATE = ("keys", "rotate", "--new-key", "file:new", "--history", "h")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what the first test makes is kept for the others."""
    return tmp_path_factory.mktemp("made") / "all"


@pytest.fixture(name="treadle")
def _treadle(treadle: Any, made: Path) -> Any:
    """With the encrypted history of `one`, and the plain one of `two`, in `h`."""
    if not made.exists():
        for name in ("old", "new"):
            write_key(treadle.folder / name)
        treadle.write(DIAGRAM)
        for name, key in (("one", OLD), ("two", ())):
            done = treadle("run", "diagram.yaml", "--execution-id", name, "--store", f"{name}.db",
                           "--state-history", "h", *key)
            assert done.returncode == 0, done.stderr
        shutil.copytree(treadle.folder, made)
    shutil.copytree(made, treadle.folder, dirs_exist_ok=True)
    return treadle


def folder(treadle: Any, execution_id: str) -> Path:
    [found] = (treadle.folder / "h").glob(f"*_{execution_id}")
    return Path(found)


def keys(folder: Path) -> set[bytes]:
    return {path.read_bytes()[8:16] for path in folder.rglob("state_*")}


def listed(treadle: Any, *key: str) -> dict[str, str]:
    return {one["folder"].rpartition("_")[2]: one["status"]
            for one in treadle.json("show", "--history", "h", *key)}


def test_folders_that_cannot_be_read_are_listed_beside_the_others(treadle: Any) -> None:
    assert listed(treadle) == {"one": "sealed", "two": "completed"}
    assert listed(treadle, *OLD) == {"one": "completed", "two": "plain"}
    assert listed(treadle, *NEW) == {"one": "sealed", "two": "plain"}
    done = treadle("show", "--history", "h")
    assert done.returncode == 0
    assert f"encrypted with the key {read_key(f'file:{treadle.folder}/old').id}: give it with" in done.stderr


def test_one_that_can_be_read_is_shown_by_its_id(treadle: Any) -> None:
    assert "the marker" in treadle("show", "two", "--history", "h", "--node", "say").stdout
    assert "the marker" in treadle("show", "one", "--history", "h", "--node", "say", *OLD).stdout
    done = treadle("show", "one", "--history", "h")
    assert done.returncode == 2 and "is encrypted with the key" in done.stderr
    done = treadle("show", "three", "--history", "h")
    assert done.returncode == 2 and "has no history of an execution 'three'" in done.stderr


def test_histories_get_another_key(treadle: Any) -> None:
    one, two = folder(treadle, "one"), folder(treadle, "two")
    before = {path.name: path.read_bytes()[76:] for path in one.glob("state_*")}
    plain = {path: path.read_bytes() for path in two.rglob("state_*")}
    done = treadle(*ROTATE, *OLD)
    assert done.returncode == 0, done.stderr
    new = read_key(f"file:{treadle.folder}/new")
    assert f"1 histories have the key {new.id}" in done.stderr
    assert "not encrypted, and left as it is" in done.stderr
    assert keys(one) == {new.id.encode()}
    assert {path.name: path.read_bytes()[76:] for path in one.glob("state_*")} == before, "sealed once"
    assert {path: path.read_bytes() for path in two.rglob("state_*")} == plain
    assert listed(treadle, *NEW)["one"] == "completed"
    assert listed(treadle, *OLD)["one"] == "sealed"
    found = read_history(one, seal=seal_with(new))
    [blob] = found.blobs()
    assert len(blob.read()) > 1_500_000
    assert treadle("import", str(one), "--store", "three.db", *NEW).returncode == 0


def test_a_rotation_that_was_ended_goes_on(treadle: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    one = folder(treadle, "one")
    old, new = (read_key(f"file:{treadle.folder}/{name}") for name in ("old", "new"))
    rename, count = os.rename, 0

    def full(*given: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise OSError(28, "No space left on device")
        rename(*given)

    with monkeypatch.context() as patch:
        patch.setattr("treadle.store.history.folder.os.rename", full)
        with pytest.raises(OSError, match="No space left"):
            rotate_histories(treadle.folder / "h", old, new)
    assert keys(one) == {old.id.encode(), new.id.encode()}
    assert listed(treadle, *OLD)["one"] in ("completed", "sealed")
    done = rotate_histories(one, old, new)
    assert (done.folders, done.plain, done.failed) == (1, [], [])
    assert keys(one) == {new.id.encode()}
    assert not list(one.glob(".unfinished*"))
    assert rotate_histories(one, old, new).files == 0


def test_mistakes_are_said(treadle: Any) -> None:
    for words, said in {
        ROTATE: "say the key that the histories have",
        (*ROTATE, *OLD, "--store", "one.db"): "--history is instead of --store",
        (*ROTATE, *NEW): "--new-key is the key that is given",
        (*ROTATE[:-1], "none", *OLD): "none does not exist",
        (*ROTATE[:-1], str(treadle.folder), *OLD): "has no history of an execution",
    }.items():
        done = treadle(*words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    write_key(treadle.folder / "third")
    done = treadle(*ROTATE, "--state-encryption-key", "file:third")
    assert done.returncode == 1 and "not done" in done.stderr and "give the other one" in done.stderr
    init = folder(treadle, "one") / "state_init.json"
    raw = bytearray(init.read_bytes())
    raw[30] ^= 1
    init.write_bytes(raw)
    done = treadle(*ROTATE, *OLD, "--json")
    assert done.returncode == 1 and "state_init.json can't be decrypted: it was changed" in done.stdout
