"""Owners, blob files and failpoints."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from treadle import failpoints
from treadle.errors import StoreCorrupt
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead, this_owner
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
    blobs = BlobFiles(tmp_path / "blobs")
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
        BlobFiles(tmp_path).put("ab" * 32, b"content")
    assert list((tmp_path / "ab").iterdir()) == []


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


def test_a_child_is_armed_by_its_environment() -> None:
    code = ("from treadle import failpoints\n"
            "for n in range(9): print(n, flush=True); failpoints.hit('perform.before')")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "TREADLE_FAILPOINT": "perform.before:kill:3"})
    assert (done.returncode, done.stdout.split()) == (-9, ["0", "1", "2"])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={**os.environ, "TREADLE_FAILPOINT": "perform.before:explode"})
    assert "say NAME:kill or NAME:kill:N" in done.stderr
