"""Owners, blob files and failpoints."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import msgspec
import pytest

from treadle import failpoints
from treadle.config import TreadleConfig
from treadle.errors import StoreCorrupt
from treadle.state.blob import Place
from treadle.state.cell import ErrorInfo
from treadle.store import StateManager, open_store
from treadle.store.base import Batch
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead, this_owner
from treadle.testing.contract import a_cell, an_execution
from treadle.testing.faults import dead_owner


def test_an_owner_is_known_by_more_than_its_pid() -> None:
    me = this_owner()
    assert not is_dead(me)
    assert this_owner() != me, "two owners in one process"
    assert is_dead(dead_owner())
    assert is_dead(msgspec.structs.replace(me, boot_id="another boot"))
    assert not is_dead(msgspec.structs.replace(me, host="elsewhere", pid=1)), "only its lease can tell"
    assert str(me) == f"process {os.getpid()} on {me.host}"


def test_an_owner_that_ended_is_dead() -> None:
    code = ("import msgspec; from treadle.store.owner import this_owner; "
            "print(msgspec.json.encode(this_owner()).decode())")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert is_dead(msgspec.json.decode(done.stdout, type=type(this_owner())))


def test_a_zombie_runs_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and nobody has asked for its end
    assert is_dead(msgspec.structs.replace(this_owner(), pid=child.pid))
    child.wait()


def test_blob_files_are_found_by_what_they_hold(tmp_path: Path) -> None:
    blobs = BlobFiles(Place(tmp_path / "blobs"))
    content = b"large" * 1000
    digest = hashlib.sha256(content).hexdigest()
    with pytest.raises(KeyError):
        blobs.get(digest)
    for _ in range(2):
        blobs.put(digest, content)
    assert blobs.get(digest) == content
    assert [path.name for path in (tmp_path / "blobs" / digest[:2]).iterdir()] == [digest], "no scraps"
    (tmp_path / "blobs" / digest[:2] / digest).write_bytes(b"other")
    with pytest.raises(StoreCorrupt, match="is damaged: restore it from a copy"):
        blobs.get(digest)


def test_a_blob_that_can_not_be_written_leaves_no_scrap(tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        BlobFiles(Place(tmp_path)).put(hashlib.sha256(b"content").hexdigest(), b"content")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_failpoint_acts_from_its_nth_hit_on() -> None:
    hits: list[int] = []
    try:
        failpoints.arm("commit.before", lambda: hits.append(1), after=3)
        assert failpoints.armed
        for _ in range(4):
            failpoints.hit("commit.before")
            failpoints.hit("commit.after")
        assert len(hits) == 2
        with pytest.raises(ValueError, match=r"no seam 'nowhere'; seams are seal\.before"):
            failpoints.arm("nowhere", failpoints.kill)
    finally:
        failpoints.disarm()
    assert not failpoints.armed


def test_every_seam_of_the_store_is_passed(tmp_path: Path) -> None:
    """Each comes in pairs, and none is passed by a manager that has nothing to do."""
    store = open_store(tmp_path / "state.db")
    passed: list[str] = []

    async def main() -> None:
        manager = StateManager(store=store, config=TreadleConfig(lease_s=0.1))
        await manager.start()
        await manager.create(an_execution(), "source")
        await manager.release("run")
        await manager.claim("run")
        manager.record([a_cell("n", epoch=2)], blobs=[("ab" * 32, b"content")])
        await manager.flush()
        await manager.stop()

    try:
        for seam in failpoints.SEAMS:
            failpoints.arm(seam, partial(passed.append, seam))
        asyncio.run(main())
    finally:
        failpoints.disarm()
        store.close()
    ours = [seam for seam in failpoints.SEAMS if not seam.startswith(("publish", "perform"))]
    assert {seam: passed.count(seam) > 0 for seam in ours} == dict.fromkeys(ours, True)
    assert all(passed.count(f"{name}.before") == passed.count(f"{name}.after")
               for name in ("seal", "statement", "commit", "lease", "blob"))


def test_an_error_is_recorded_whatever_its_text(tmp_path: Path) -> None:
    store = open_store(tmp_path / "state.db")
    store.create(an_execution(), "", this_owner(), 15)
    cells = [a_cell("n", error=ErrorInfo("OSError", "no file \udcff")),
             a_cell("m", error=ErrorInfo("OSError", "no file \x00"))]
    assert store.apply(Batch(cells)).failed == []
    found = {cell.node_id: cell.error for cell in store.load("run")[1]}
    assert found["n"] == ErrorInfo("OSError", "no file \\udcff")
    assert found["m"] == cells[1].error
    store.close()


def test_a_child_is_armed_by_its_environment() -> None:
    code = ("from treadle import failpoints\n"
            "for n in range(9): print(n, flush=True); failpoints.hit('perform.before')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "TREADLE_FAILPOINT": "perform.before:kill:3"})
    assert (done.returncode, done.stdout.split()) == (-9, ["0", "1", "2"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "TREADLE_FAILPOINT": "perform.before:explode"})
    assert "say NAME:kill or NAME:kill:N" in done.stderr
