"""Encrypted histories by themselves: their heads are written anew, and what is wrong is said."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path

import pytest

from treadle.config import DEFAULT_CONFIG
from treadle.crypto.keys import MasterKey, new_key, read_key
from treadle.errors import InvalidInput, PlaintextFound, StoreCorrupt, WrongKey
from treadle.store import encryption_key
from treadle.store.history import AS_IT_IS, Seal, documents, histories_in, names, read_history, summarized
from treadle.store.history.folder import Folder
from treadle.store.history.rotation import rotate_histories
from treadle.store.history.sealing import seal_for_reading, seal_with
from treadle.testing.contract import a_cell, an_execution

OLD_TEXT = new_key()
OLD, NEW, THIRD = read_key(OLD_TEXT), read_key(new_key()), read_key(new_key())
CONTENTS = (b"", b"content" * 300_000)


def written(parent: Path, execution_id: str, seal: Seal) -> Path:
    cell = an_execution(execution_id)
    folder = Folder.make(parent / names.of_folder(cell), names.INIT, documents.of_init(cell, ""), seal,
                         DEFAULT_CONFIG)
    node = documents.of_node(a_cell("a", execution_id=execution_id, output=b"1"))
    folder.write("state_node_a_attempt1.json", node)
    for content in CONTENTS:
        folder.put_blob(hashlib.sha256(content).hexdigest(), io.BytesIO(content), lambda piece: None)
    return folder.path


def read(path: Path, key: MasterKey) -> None:
    history = read_history(path, seal=seal_with(key))
    assert [cell.output for cell in history.cells] == [b"1"]
    assert sorted(blob.read() for blob in history.blobs()) == sorted(CONTENTS)


def test_every_file_gets_the_new_key_and_nothing_else_changes(tmp_path: Path) -> None:
    one = written(tmp_path, "one", seal_with(OLD))
    plain = written(tmp_path, "two", AS_IT_IS)
    done = rotate_histories(tmp_path, OLD, NEW)
    assert (done.folders, done.files, done.plain, done.failed) == (1, 3, [str(plain)], [])
    read(one, NEW)
    with pytest.raises(WrongKey, match=f"the key {NEW.id}, and the one given is {OLD.id}: give the other"):
        read(one, OLD)
    assert rotate_histories(one, OLD, NEW).files == 0, "done again, it does nothing"


def test_a_rotation_that_was_half_done_goes_on(tmp_path: Path) -> None:
    one = written(tmp_path, "one", seal_with(OLD))
    before = (one / names.INIT).read_bytes()
    rotate_histories(tmp_path, OLD, NEW)
    (one / names.INIT).write_bytes(before)  # it is the last
    (one / ".unfinished-1").write_bytes(b"half")
    assert rotate_histories(tmp_path, OLD, NEW).files == 1
    assert not (one / ".unfinished-1").exists()
    read(one, NEW)


def test_what_has_another_key_or_was_changed_is_said_and_the_rest_is_done(tmp_path: Path) -> None:
    written(tmp_path, "one", seal_with(THIRD))
    two = written(tmp_path, "two", seal_with(OLD))
    three = written(tmp_path, "three", seal_with(OLD))
    raw = bytearray((three / names.INIT).read_bytes())
    raw[30] ^= 1  # in the wrapped key
    (three / names.INIT).write_bytes(raw)
    done = rotate_histories(tmp_path, OLD, NEW)
    assert done.folders == 1
    assert len(done.failed) == 2
    assert any(f"the key {THIRD.id}, and the one given is {OLD.id}" in one for one in done.failed)
    assert any("state_init.json can't be decrypted: it was changed" in one for one in done.failed)
    read(two, NEW)


def test_the_key_that_is_around_reads_them(tmp_path: Path) -> None:
    one, two = written(tmp_path, "one", seal_with(OLD)), written(tmp_path, "two", AS_IT_IS)
    with encryption_key(OLD_TEXT):
        assert summarized(one).execution_id == "one"
        with pytest.raises(PlaintextFound, match="read it without the key"):
            summarized(two)
        assert read_history(tmp_path, "one").path == one
        with pytest.raises(PlaintextFound):
            read_history(tmp_path, "two")
    assert seal_for_reading() is AS_IT_IS
    with pytest.raises(WrongKey, match=f"is encrypted with the key {OLD.id}: give it with"):
        summarized(one)
    assert read_history(tmp_path, "tw").path == two
    with pytest.raises(InvalidInput, match="has no history of an execution 'three': it has two"):
        read_history(tmp_path, "three")
    assert len(histories_in(tmp_path)) == 2


def test_a_file_under_another_name_is_not_opened(tmp_path: Path) -> None:
    one = written(tmp_path, "one", seal_with(OLD))
    (one / "state_node_a_attempt1.json").rename(one / "state_node_b_attempt1.json")
    with pytest.raises(StoreCorrupt, match=r"b_attempt1.json can't be decrypted: it was changed, or has an"):
        read(one, OLD)
