"""Who has the file of an encrypted store, and no key, changes what can be read in it: that is found out."""

from __future__ import annotations

from pathlib import Path

import apsw
import msgspec
import pytest

from treadle.config import Retention
from treadle.crypto import keys
from treadle.crypto.keys import new_key
from treadle.errors import StoreCorrupt, StoreError
from treadle.state.cell import ContextCell, ErrorInfo
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import open_store
from treadle.store.base import Batch, Cached, Lease, Store
from treadle.store.owner import this_owner
from treadle.testing.contract import a_cell, a_line, an_execution

KEY = new_key()
BOOM = ErrorInfo("E", "boom")


def filled(path: Path) -> Store:
    """A store with an execution that failed, and one with another diagram."""
    store = open_store(path, key=KEY)
    first = msgspec.structs.replace(an_execution(inputs=b'{"x": 1}'), diagram="first", name="pay")
    store.create(first, "# first", this_owner(), 15)
    store.create(msgspec.structs.replace(an_execution("other"), diagram="second"), "# second",
                 this_owner(), 15)
    cells = [
        a_cell("bad", status=NodeStatus.FAILED, error=BOOM, retryable=True, lineage="l", ended_at=1.7),
        a_cell("good", output=b'"yes"', meta=b'{"a": 1}', port="true", content_type="text", worker="w",
               winner="a -> good"),
        a_cell("runs", status=NodeStatus.RUNNING, started_at=1763742144.1234567, claims=1),
        a_cell("asks", status=NodeStatus.SUSPENDED, request=b"1", wake_at=1e11),
        a_cell("maps", items=b"[1]", output=b"[1]")]
    ended = msgspec.structs.replace(first, seq=2, status=ExecutionStatus.FAILED, ended_at=1.0, error=BOOM)
    store.apply(Batch(
        cells, [ended], cached=[Cached("key", "good", "pay", "run", 1.0, b"1", meta=b"{}", port="true")],
        logs=[msgspec.structs.replace(a_line("said", "good"), stream="log", level="INFO", logger="shop")],
        context={("run", f"variables.{name}"): ContextCell("run", f"variables.{name}", 1, 1, value, "good#1")
                 for name, value in (("v", b"1"), ("gone", None))},
        released=[Lease("run", 1), Lease("other", 1)]))
    return store


def read_all(store: Store) -> tuple[object, ...]:
    return (store.load("run"), store.context("run"), store.logs("run"), store.cached("key"),
            store.cached_results())


def sql(path: Path, text: str, *values: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(text, values)
    assert connection.total_changes(), text
    connection.close()


def test_what_nobody_touched_is_read_as_it_was_written(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    cell, cells = store.load("run")
    assert (cell.status, cell.output, cell.error) == (ExecutionStatus.FAILED, None, BOOM)
    found = {one.node_id: one for one in cells}
    assert (found["bad"].output, found["runs"].output, found["asks"].request) == (None, None, b"1")
    assert found["runs"].started_at == 1763742144.1234567
    assert [one.value for one in store.context("run")] == [None, b"1"]
    [kept] = store.cached_results()
    assert (kept.key, kept.port, kept.output) == ("key", "true", None)
    store.close()


NODE = "UPDATE node_states SET {} WHERE node_id = '{}'"
CHANGES = {
    "a failed node completed": NODE.format("status = 'completed'", "bad"),
    "a failed node without its error": NODE.format("status = 'completed', error = NULL", "bad"),
    "a node that runs completed": NODE.format("status = 'completed'", "runs"),
    "a node that runs skipped, sealed by nobody": NODE.format("status = 'skipped', output = NULL", "runs"),
    "an output deleted": NODE.format("output = NULL", "good"),
    "a meta deleted": NODE.format("meta = NULL", "good"),
    "items deleted": NODE.format("items = NULL", "maps"),
    "a question deleted": NODE.format("request = NULL", "asks"),
    "another port": NODE.format("port = 'false'", "good"),
    "no port": NODE.format("port = NULL", "good"),
    "another content type": NODE.format("content_type = 'json'", "good"),
    "another arrow that won": NODE.format("winner = 'b -> good'", "good"),
    "an error that is not retried": NODE.format("retryable = 0", "bad"),
    "another lineage": NODE.format("lineage = 'm'", "bad"),
    "bodies that were not started": NODE.format("claims = 0", "runs"),
    "a newer version": NODE.format("seq = 9", "good"),
    "another epoch": NODE.format("epoch = 9", "good"),
    "another round": NODE.format("round = 2", "good"),
    "an execution completed": "UPDATE executions SET status = 'completed' WHERE execution_id = 'run'",
    "an execution without error": "UPDATE executions SET error = NULL WHERE execution_id = 'run'",
    "no output, which is sealed too": "UPDATE executions SET output = NULL WHERE execution_id = 'run'",
    "another diagram": "UPDATE executions SET diagram = 'second' WHERE execution_id = 'run'",
    "another name": "UPDATE executions SET name = 'play' WHERE execution_id = 'run'",
    "a parent": "UPDATE executions SET parent = 'other' WHERE execution_id = 'run'",
    "a value deleted": "UPDATE context SET value = NULL WHERE key = 'variables.v'",
    "a newer value": "UPDATE context SET seq = 9 WHERE key = 'variables.v'",
    "another writer": "UPDATE context SET writer = 'bad#1' WHERE key = 'variables.v'",
    "another level": "UPDATE logs SET level = 'ERROR'",
    "another logger": "UPDATE logs SET logger = 'bank'",
    "another port of a result": "UPDATE cache SET port = 'false'",
    "the output of a result deleted": "UPDATE cache SET output = NULL",
    "the meta of a result deleted": "UPDATE cache SET meta = NULL",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_beside_a_sealed_text_is_found_out(tmp_path: Path, change: str) -> None:
    path = tmp_path / "state.db"
    filled(path).close()
    sql(path, CHANGES[change])
    store = open_store(path, key=KEY)
    with pytest.raises(StoreCorrupt, match=r"(of node|of execution|cached).*(was changed|was deleted)"):
        read_all(store)
    store.close()


def test_an_older_text_of_the_same_row_is_no_answer(tmp_path: Path) -> None:
    """Sealed for the same place, under the same key: only the version is another."""
    path = tmp_path / "state.db"
    store = filled(path)
    lease = store.claim("run", this_owner(), 15)
    reader = apsw.Connection(str(path))
    old: str = reader.execute("SELECT output FROM node_states WHERE node_id = 'good'").get
    reader.close()
    store.apply(Batch([a_cell("good", seq=2, epoch=2, output=b'"no"', meta=b'{"a": 1}', port="true",
                              content_type="text", worker="w", winner="a -> good")], released=[lease]))
    read_all(store)
    sql(path, "UPDATE node_states SET output = ? WHERE node_id = 'good'", old)
    with pytest.raises(StoreCorrupt, match=r"^output of node 'good' \(attempt 1\) of execution run"):
        store.load("run")
    store.close()


def test_another_diagram_on_resume_is_sealed_with_the_inputs(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    lease = store.claim("run", this_owner(), 15)
    cell, _ = store.load("run")
    edited = msgspec.structs.replace(cell, epoch=lease.epoch, seq=cell.seq + 1, diagram="third",
                                     name="renamed", inputs=b"{}")
    store.redraw(lease, edited, "# third")
    found, _ = store.load("run")
    assert (found.diagram, found.inputs, found.status, found.error) == (
        "third", b"{}", ExecutionStatus.FAILED, BOOM)
    store.close()


def test_a_cell_that_cannot_be_written_is_left_out_alone(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    store.claim("run", this_owner(), 15)
    done = store.apply(Batch([a_cell("odd", epoch=2, port="\ud800"), a_cell("fine", epoch=2)]))
    assert [key.node_id for key, _ in done.failed] == ["odd"]
    assert "fine" in {cell.node_id for cell in store.load("run")[1]}
    store.close()


def test_a_prune_that_was_ended_is_no_tampering(tmp_path: Path) -> None:
    """It changes rows without a key."""
    path = tmp_path / "state.db"
    store = filled(path)
    sql(path, "UPDATE executions SET status = 'cancelled', diagram = '(pruned)', output = NULL, error = "
              """'{"type": "Pruned", "message": "deleted in part"}' WHERE execution_id = 'run'""")
    shown = {one.cell.execution_id: one.cell for one in store.executions()}
    assert "a prune that was ended has deleted a part of execution run" in str(shown["run"].error)
    with pytest.raises(StoreError, match="`treadle prune --collect` deletes the rest"):
        store.load("run")
    assert store.prune(Retention(keep=5), 1e12).execution_ids == ["run"]
    store.close()


def test_a_store_of_an_earlier_format_says_what_to_do(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state.db"
    with monkeypatch.context() as patch:
        patch.setattr(keys, "_OWN", keys._FIRST)
        open_store(path, key=KEY).close()
    with pytest.raises(StoreError, match=r"by a development version of Treadle.*treadle export"):
        open_store(path, key=KEY)
