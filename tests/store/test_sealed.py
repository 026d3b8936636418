"""Encrypted stores: who can read what, and what happens to those who change it."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import apsw
import msgspec
import pytest

from treadle.config import Retention
from treadle.crypto.keys import new_key, read_key
from treadle.engine.engine import Engine
from treadle.errors import KeyForgotten, NoSuchExecution, PlaintextFound, StoreCorrupt, StoreError, WrongKey
from treadle.state.cell import ContextCell, ErrorInfo
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import encryption_key, open_store
from treadle.store.base import Batch, Cached, Lease, Signal
from treadle.store.owner import this_owner
from treadle.store.sealing.rotation import forget, rotate
from treadle.store.sealing.sealed import SealedStore
from treadle.testing.contract import a_cell, a_line, an_execution

KEY, OTHER = new_key(), new_key()
MARKER = "Grüße-und-a-marker-4711"
QUOTED = f'"{MARKER}"'.encode()


def blob_of(content: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(content).hexdigest(), content


LARGE = blob_of(QUOTED * 3000)
HUGE = blob_of(os.urandom(5 * 1024 * 1024) + MARKER.encode())


def filled(path: Path, execution_id: str = "run", *, released: bool = True) -> SealedStore:
    """A store with an execution that has the marker wherever one can be."""
    store = open_store(path, key=KEY)
    assert isinstance(store, SealedStore)
    store.create(an_execution(execution_id, inputs=b'{"x": %s}' % QUOTED), f"# {MARKER}", this_owner(), 15)
    mine = {"execution_id": execution_id}
    error = ErrorInfo("E", MARKER, f"trace {MARKER}", details={"why": MARKER})
    cells = [
        a_cell("a", output=QUOTED, **mine), a_cell("b", output=b"[1]", **mine),
        a_cell("a", output=b"2", attempt=2, **mine),
        a_cell("full", output=QUOTED, meta=QUOTED, request=QUOTED, items=QUOTED, error=error, **mine),
        a_cell("large", blob=LARGE[0], **mine), a_cell("huge", blob=HUGE[0], **mine)]
    ended = msgspec.structs.replace(
        an_execution(execution_id), seq=2, status=ExecutionStatus.COMPLETED, ended_at=1.0,
        inputs=b'{"x": %s}' % QUOTED, output=QUOTED, error=error)
    store.apply(Batch(
        cells, [ended], blobs=[LARGE, HUGE], cached=[Cached("key", "a", "demo", execution_id, 1.0, QUOTED)],
        logs=[a_line(f"said {MARKER}", "a", **mine)],
        context={(execution_id, "variables.v"): ContextCell(execution_id, "variables.v", 1, 1, QUOTED)},
        released=[Lease(execution_id, 1)] if released else []))
    store.send(Signal(execution_id, "signal", name="go", payload=QUOTED))
    return store


def sql(path: Path, text: str) -> list[tuple[object, ...]]:
    """What somebody may do who has the file and no key."""
    connection = apsw.Connection(str(path))
    try:
        return connection.execute(text).fetchall()
    finally:
        connection.close()


def reading(store: SealedStore) -> None:
    """Read all there is of the execution `run`."""
    store.load("run")
    store.logs("run")
    store.signals(["run"])
    store.context("run")
    store.cached("key")
    store.blob(LARGE[0])
    store.blob(HUGE[0])
    store.source("hash")


def files_with(folder: Path, *wanted: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()
            and any(one in path.read_bytes() for one in wanted)]


# Nothing in the clear


def test_no_file_holds_a_word_of_what_an_execution_holds(tmp_path: Path) -> None:
    words = (MARKER.encode(), b"marker-4711", MARKER.encode().hex().encode())
    store = filled(tmp_path / "state.db")
    reading(store)
    assert store.blob(HUGE[0]) == HUGE[1]
    assert any(path.name.endswith("-wal") and path.stat().st_size for path in tmp_path.iterdir())
    assert files_with(tmp_path, *words) == []
    store.close()
    assert files_with(tmp_path, *words) == []
    assert files_with(tmp_path, LARGE[0].encode(), HUGE[0].encode()) == [], "a digest tells what a blob is"
    assert len(list((tmp_path / "state.db.blobs").glob("??/*"))) == 1


DIAGRAM = """
treadle: 1
nodes:
  large: {type: code_job, call: "demo:large"}
  small: {type: code_job, call: "demo:small", needs: large}
  boom: {type: code_job, call: "demo:boom", needs: small}
"""
BODIES = f"""
MARKER = "Grüße-und-{MARKER[10:]}"

def large():
    return MARKER * 2000

def small(default):
    print("working on", MARKER)
    return len(default)

def boom():
    raise ValueError(MARKER)
"""


def test_an_engine_runs_and_resumes_on_it_as_on_any_other(tmp_path: Path) -> None:
    diagram = tmp_path / "demo.yaml"
    diagram.write_text(DIAGRAM)
    (tmp_path / "demo.py").write_text(BODIES)

    async def scenario() -> None:
        async with Engine.open(str(tmp_path / "state.db")) as engine:
            handle = await engine.start(str(diagram), execution_id="run")
            assert await handle.wait() is ExecutionStatus.FAILED
        async with Engine.open(str(tmp_path / "state.db")) as engine:
            again = await engine.resume("run")
            assert await again.wait() is ExecutionStatus.FAILED

    with encryption_key(KEY):
        asyncio.run(scenario())
    assert {name for name in files_with(tmp_path, MARKER.encode()) if name.startswith("state")} == set()
    store = open_store(tmp_path / "state.db", key=KEY)
    cell, cells = store.load("run")
    assert cell.error is not None and MARKER in cell.error.message
    assert [c.attempt for c in cells if c.status is NodeStatus.FAILED] == [1, 2]
    assert [line.text for line in store.logs("run")] == [f"working on {MARKER}"]
    store.close()


# The right key, another, none


def test_a_store_opens_with_its_key_only_and_says_which_it_wants(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    open_store(path, key=KEY).close()
    with pytest.raises(WrongKey, match=rf"{read_key(KEY).id}.*gives {read_key(OTHER).id}") as wrong:
        open_store(path, key=OTHER)
    with pytest.raises(WrongKey, match=rf"encrypted with the key {read_key(KEY).id}: give it with --state-e"):
        open_store(path)
    assert KEY not in str(wrong.value) and OTHER not in str(wrong.value)
    with encryption_key(KEY):
        open_store(path).close()


def test_the_environment_may_have_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_STATE_ENCRYPTION_KEY", KEY)
    store = open_store(tmp_path / "state.db")
    assert isinstance(store, SealedStore)
    store.close()


def test_a_store_with_plain_executions_gets_no_key(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    plain = open_store(path)
    plain.create(an_execution(), "", this_owner(), 15)
    plain.close()
    with pytest.raises(StoreError, match="not encrypted, and holds executions: leave the key out"):
        open_store(path, key=KEY)
    assert open_store(path).load("run")[0] == an_execution()


# Who changes rows


SWAPS = {
    "nodes": "UPDATE node_states SET output = (SELECT output FROM node_states WHERE node_id = 'a' AND "
             "attempt = 1) WHERE node_id = 'b'",
    "attempts": "UPDATE node_states SET output = (SELECT output FROM node_states WHERE node_id = 'a' AND "
                "attempt = 1) WHERE node_id = 'a' AND attempt = 2",
    "fields": "UPDATE node_states SET meta = items WHERE node_id = 'full'",
    "executions": "UPDATE node_states SET output = (SELECT output FROM node_states WHERE node_id = 'a' AND "
                  "attempt = 1 AND execution_id = 'two') WHERE node_id = 'a' AND attempt = 1 AND "
                  "execution_id = 'run'",
    "keys": "UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE execution_id = 'two') "
            "WHERE execution_id = 'run'",
    "blobs": "UPDATE node_states SET blob = (SELECT blob FROM node_states WHERE node_id = 'huge' AND "
             "execution_id = 'run') WHERE node_id = 'large' AND execution_id = 'run'",
    "contents": "CREATE TEMP TABLE t AS SELECT * FROM blobs; UPDATE blobs SET content = "
                "(SELECT content FROM t WHERE t.digest <> blobs.digest)",
    "signals": "UPDATE signals SET name = 'stop'",
    "lines": "UPDATE logs SET node_id = 'b'",
    "results": "UPDATE cache SET node_id = 'b'",
    "context": "UPDATE context SET key = 'variables.w'",
}


@pytest.mark.parametrize("swap", SWAPS)
def test_what_was_moved_elsewhere_is_not_read(tmp_path: Path, swap: str) -> None:
    path = tmp_path / "state.db"
    filled(path, "two").close()
    filled(path).close()
    sql(path, SWAPS[swap])
    store = open_store(path, key=KEY)
    assert isinstance(store, SealedStore)
    with pytest.raises(StoreCorrupt, match="changed"):
        reading(store)
    store.close()


PLAIN = {
    "output": "UPDATE node_states SET output = '\"evil\"' WHERE node_id = 'a'",
    "inputs": "UPDATE executions SET inputs = '{}'",
    "error": """UPDATE node_states SET error = '{"type": "E", "message": "evil"}' WHERE node_id = 'full'""",
    "a line": "UPDATE logs SET text = '\"evil\"'",
    "signal go": "UPDATE signals SET payload = '\"evil\"'",
    "the value in the context": "UPDATE context SET value = '\"evil\"'",
    "the source of the diagram": "UPDATE diagrams SET source = 'evil'",
}


@pytest.mark.parametrize("what", PLAIN)
def test_plain_text_that_was_slipped_in_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "state.db"
    filled(path).close()
    sql(path, PLAIN[what])
    store = open_store(path, key=KEY)
    assert isinstance(store, SealedStore)
    with pytest.raises(PlaintextFound, match=rf"^{what}.* is not encrypted"):
        reading(store)
    store.close()


def test_a_plain_row_of_another_node_is_refused_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    filled(path).close()
    sql(path, "INSERT INTO node_states SELECT execution_id, 'evil', iteration, attempt, epoch, seq, status, "
              "scheduled_at, started_at, ended_at, wake_at, '1', blob, content_type, meta, error, retryable, "
              "port, lineage, claims, worker, winner, request, items, round FROM node_states "
              "WHERE node_id = 'b'")
    store = open_store(path, key=KEY)
    with pytest.raises(PlaintextFound, match=r"^output of node 'evil' \(attempt 1\) of execution run"):
        store.load("run")
    assert [one.cell.execution_id for one in store.executions()] == ["run"], "lists go on"
    store.close()


def test_a_file_of_a_blob_that_was_changed_is_not_read(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    [file] = (tmp_path / "state.db.blobs").glob("??/*")
    raw = bytearray(file.read_bytes())
    raw[3_000_000] ^= 1
    file.write_bytes(raw)
    with pytest.raises(StoreCorrupt, match="can't be decrypted"):
        store.blob(HUGE[0])
    file.write_bytes(HUGE[1])
    with pytest.raises(PlaintextFound, match="is not encrypted"):
        store.blob(HUGE[0])
    store.close()


# Changing the key


def payloads(path: Path) -> list[tuple[object, ...]]:
    return sql(path, "SELECT output, meta, error FROM node_states ORDER BY rowid") + sql(
        path, "SELECT content FROM blobs ORDER BY digest")


def test_a_rotated_store_opens_with_the_new_key_and_nothing_else_was_written(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = filled(path)
    before = payloads(path)
    old = sql(path, "SELECT wrapped FROM keys")
    assert rotate(store, read_key(OTHER)) == 1
    reading(store)  # who has it open goes on
    store.create(an_execution("later"), "", this_owner(), 15)
    store.close()
    assert payloads(path) == before
    assert files_with(tmp_path, *(row[0] for row in old)) == []  # type: ignore[misc]
    with pytest.raises(WrongKey):
        open_store(path, key=KEY)
    again = open_store(path, key=OTHER)
    assert isinstance(again, SealedStore)
    reading(again)
    again.close()


def test_who_has_the_old_key_makes_no_new_execution(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store, late = filled(path), open_store(path, key=KEY)
    rotate(store, read_key(OTHER))
    with pytest.raises(WrongKey, match=r"was changed to .* while it was open here"):
        late.create(an_execution("late"), "", this_owner(), 15)
    store.close()
    late.close()


def test_a_key_is_not_changed_or_destroyed_while_somebody_runs(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db", released=False)
    with pytest.raises(StoreError, match="execution run is being run"):
        rotate(store, read_key(OTHER))
    with pytest.raises(StoreError, match="execution run is being run"):
        forget(store, ["run"])
    reading(store)
    store.close()


@pytest.mark.parametrize(("seam", "wanted"), [("commit.before", KEY), ("commit.after", OTHER)],
                         ids=["before", "after"])
def test_a_rotation_that_is_killed_is_done_or_not(tmp_path: Path, seam: str, wanted: str) -> None:
    path = tmp_path / "state.db"
    filled(path).close()
    code = ("import sys; from treadle.crypto.keys import read_key; from treadle.store import open_store; "
            "from treadle.store.sealing.rotation import rotate; "
            "rotate(open_store(sys.argv[1], key='env:OLD'), read_key('env:NEW'))")
    done = subprocess.run([sys.executable, "-c", code, str(path)], env={
        **os.environ, "OLD": KEY, "NEW": OTHER, "TREADLE_FAILPOINT": f"{seam}:kill:1"}, check=False)
    assert done.returncode == -signal.SIGKILL
    store = open_store(path, key=wanted)
    assert isinstance(store, SealedStore)
    reading(store)
    store.close()


# Forgetting


def test_a_forgotten_execution_is_listed_and_nothing_of_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    filled(path, "two").close()
    store = filled(path)
    key = sql(path, "SELECT wrapped FROM keys WHERE execution_id = 'run'")[0][0]
    assert isinstance(key, bytes)
    assert forget(store, ["run", "nobody"]) == ["run"]
    reads: list[Callable[[], object]] = [
        lambda: store.load("run"), lambda: store.logs("run"), lambda: store.context("run"),
        lambda: store.signals(["run"]), lambda: store.claim("run", this_owner(), 15),
        lambda: store.send(Signal("run", "cancel"))]
    for read in reads:
        with pytest.raises(KeyForgotten, match=r"run was forgotten on 20.*nothing of it can"):
            read()
    assert store.cached("key") is None
    shown = {one.cell.execution_id: one.cell for one in store.executions()}
    assert (shown["run"].inputs, shown["run"].output) == (b"{}", None)
    assert "was forgotten" in str(shown["run"].error)
    assert shown["two"].output == QUOTED
    assert files_with(tmp_path, key) == [], "not in the WAL either"
    store.prune(Retention(keep=0), 1e12)
    with pytest.raises(NoSuchExecution):
        store.load("run")
    store.close()


def test_a_blob_of_a_forgotten_execution_is_gone_and_that_of_its_fork_is_not(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = filled(path)
    copied = [a_cell("large", blob=LARGE[0], execution_id="fork"),
              a_cell("huge", blob=HUGE[0], execution_id="fork"),
              a_cell("named", output=b'{"$treadle":{"$":"blob","digest":"%s"}}' % HUGE[0].encode(),
                     execution_id="fork2")]
    store.apply(Batch([], created=[(an_execution("fork"), ""), (an_execution("fork2"), "")], begun=copied,
                      owner=this_owner()))
    forget(store, ["run"])
    for opened in (store, open_store(path, key=KEY)):
        assert opened.blob(LARGE[0]) == LARGE[1]
        assert opened.blob(HUGE[0]) == HUGE[1]
        opened.load("fork")
        opened.close()


def test_what_only_a_forgotten_execution_had_is_gone(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db")
    forget(store, ["run"])
    for digest, _ in (LARGE, HUGE):
        with pytest.raises(KeyError):
            store.blob(digest)
    store.close()


def test_a_prune_destroys_keys_too(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = filled(path)
    key = sql(path, "SELECT wrapped FROM keys WHERE execution_id = 'run'")[0][0]
    assert isinstance(key, bytes)
    assert store.prune(Retention(keep=0), 1e12).execution_ids == ["run"]
    assert store.keys.rows() == []
    assert files_with(tmp_path, key) == []
    store.create(an_execution(), "", this_owner(), 15)  # the id is free again
    assert store.load("run") == (an_execution(), [])
    store.close()


# Trying again


def test_a_batch_that_is_tried_again_is_sealed_once(tmp_path: Path) -> None:
    """A busy store must not cost the sealing again, nor write a cell that a second look takes for another."""
    path = tmp_path / "state.db"
    store = filled(path, released=False)
    batch = Batch([a_cell("again", output=QUOTED)])
    holder = apsw.Connection(str(path))
    holder.execute("BEGIN IMMEDIATE")
    with pytest.raises(apsw.BusyError):
        store.apply(batch)
    first = batch.document.cells
    holder.execute("ROLLBACK")
    store.apply(batch)
    assert batch.document.cells is first
    assert "again" in {cell.node_id for cell in store.load("run")[1]}
    holder.close()
    store.close()


def test_an_error_with_half_a_surrogate_pair_is_kept(tmp_path: Path) -> None:
    store = filled(tmp_path / "state.db", released=False)
    store.apply(Batch([a_cell("bad", status=NodeStatus.FAILED, error=ErrorInfo("E", "a \ud800 name"))]))
    cells = {cell.node_id: cell for cell in store.load("run")[1]}
    assert re.search("ud800", str(cells["bad"].error))
    store.close()
