"""Looking through an encrypted store: what is counted, and what is said of rows that somebody changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import apsw
import pytest

from treadle.crypto.keys import new_key
from treadle.state.blob import Blob
from treadle.store import open_store
from treadle.store.base import Batch, Cached, Lease, Signal
from treadle.store.owner import this_owner
from treadle.store.sealing.rotation import forget
from treadle.store.sealing.sealed import SealedStore
from treadle.store.sealing.verify import Look
from treadle.testing.contract import a_cell, a_line, an_execution

KEY = new_key()
LARGE, HUGE = b"large" * 8000, os.urandom(5 * 1024 * 1024)


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def filled(path: Path) -> SealedStore:
    store = open_store(path, key=KEY)
    assert isinstance(store, SealedStore)
    store.create(an_execution("gone"), "", this_owner(), 15)
    store.create(an_execution(), "# source", this_owner(), 15)
    like = b'{"$treadle":{"$":"text","v":"%s"}}' % (b"ab" * 32)  # only looks like the name of a blob
    store.apply(Batch(
        [a_cell("a", output=like), a_cell("large", blob=digest_of(LARGE)),
         a_cell("huge", blob=digest_of(HUGE))],
        blobs=[(digest_of(one), one) for one in (LARGE, HUGE)], logs=[a_line("said", "a")],
        cached=[Cached("key", "a", "demo", "run", 1.0, b"1")], released=[Lease("gone", 1), Lease("run", 1)]))
    store.send(Signal("run", "signal", name="go"))
    forget(store, ["gone"])
    return store


def faults(path: Path, change: str = "") -> list[str]:
    store = filled(path)
    if change:
        connection = apsw.Connection(str(path))
        connection.execute(change)
        connection.close()
    found = list(Look(store).faults())
    store.close()
    return found


def test_all_that_is_there_is_counted(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    look = Look(store)
    assert list(look.faults()) == []
    assert (look.blobs, look.forgotten) == (2, 1)
    assert look.rows == 9  # the execution, three nodes, its context, its signals, a line, diagram and result
    store.close()


CHANGES = {
    "DELETE FROM blobs": f"execution run lacks the blob {digest_of(LARGE)}",
    "UPDATE node_states SET status = 'odd' WHERE node_id = 'a'": "a cell of node 'a' of execution run can't",
    "UPDATE executions SET status = 'odd' WHERE execution_id = 'run'": "execution run can't be read",
    "UPDATE signals SET payload = CAST(x'ff' AS TEXT)": "the signals of execution run: ",
    "UPDATE signals SET payload = x'00'": "the signals of execution run can't be read (AttributeError: ",
    "UPDATE node_states SET blob = 'x' WHERE node_id = 'huge'": "the name of the blob of node 'huge'",
    "UPDATE diagrams SET source = x'00'": "the diagram hash: the source of a diagram can't be unpacked",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_said(tmp_path: Path, change: str) -> None:
    found = faults(tmp_path / "state.db", change)
    assert any(one.startswith(CHANGES[change]) for one in found), found
    assert all("restore" in one for one in found)


def test_an_execution_that_was_deleted_or_pruned_in_part_is_no_fault(tmp_path: Path) -> None:
    assert faults(tmp_path / "one.db", "DELETE FROM executions WHERE execution_id = 'run'") == []
    assert faults(tmp_path / "two.db", "UPDATE executions SET diagram = '(pruned)'") == []


def test_a_diagram_that_is_not_there_is_no_fault(tmp_path: Path) -> None:
    """A state manager alone has none."""
    assert faults(tmp_path / "state.db", "DELETE FROM diagrams") == []


def test_a_copy_that_can_be_read_is_of_this_user_and_goes_with_the_store(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    blob = Blob(digest_of(HUGE), len(HUGE), "huge.bin").at(store.place)
    copy = blob.path()
    assert copy.read_bytes() == HUGE and copy.name == "huge.bin"
    assert copy.is_relative_to(tmp_path / "state.db.blobs" / "plain")
    other = open_store(tmp_path / "state.db", key=KEY)  # sweeps, and leaves what is in use
    assert copy.exists()
    other.close()
    store.close()
    assert not copy.exists()
    with pytest.raises(FileNotFoundError, match="no open store has the blob"):
        blob.read()
