"""No file that an engine on an encrypted store writes has a word of what bodies handle: not while it runs,
not after a kill, not after a prune."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from treadle.config import Retention
from treadle.crypto.keys import new_key
from treadle.store import open_store
from treadle.store.history import read_history
from treadle.store.history.sealing import seal_with
from treadle.store.sealing.sealed import SealedStore

KEY = new_key()
MARKER = "a-marker-4711"
DIAGRAM = """
treadle: 1
name: all sorts
inputs: {word: {type: string}}
environment_vars: {WORD: a-marker-%s}
nodes:
  say:   {type: code_job, call: "sorts:say", cache: true}
  large: {type: code_job, call: "sorts:large", needs: say}
  share: {type: code_job, call: "sorts:share", needs: say}
  each:  {type: code_job, call: "sorts:each", for_each: "{{ say.words }}", needs: say}
  boom:  {type: code_job, call: "sorts:boom", needs: [share, each, large], retries: 1}
"""
BODIES = """
import logging
WORD = "-".join(["a", "marker", "4711"])

def say():
    print("saying", WORD)
    logging.getLogger("sorts").warning("logging %s", WORD)
    return {"words": [WORD] * 3}

def large(context):
    blob = context.blob((WORD * 50_000).encode(), "large.txt")
    with open(blob.path()) as file:
        assert WORD in file.read()
    return {"text": WORD * 3000, "blob": blob}

def share(context):
    context.variables["word"] = WORD
    context.artifacts["words"] = [WORD] * 2000

def each(item):
    return item + "!"

def boom():
    raise ValueError(WORD) from KeyError(WORD)
"""
PROGRAM = """
import asyncio, os, sys
from pathlib import Path
from treadle import Engine

MARKER = "-".join(["a", "marker", "4711"])
KILLED = len(sys.argv) > 2

def check(when):
    for path in Path(sys.argv[1]).rglob("*"):
        if path.is_file() and "plain" not in path.parts and MARKER.encode() in path.read_bytes():
            sys.exit(f"{path} has the marker {when}")

async def main():
    folder = Path(sys.argv[1])
    async with Engine.open(str(folder / "state.db"), state_encryption_key="env:KEY",
                           state_history=folder / "history") as engine:
        handle = await engine.start("sorts.yaml", word=MARKER, execution_id="run")
        await handle.wait()
        await engine.bus.drain()
        await engine.history.drain()
        check("while it runs")
        if KILLED:
            os.kill(os.getpid(), 9)
    check("at the end")

asyncio.run(main())
"""


def files_with(folder: Path, *wanted: str) -> list[str]:
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()
            and any(one.encode() in path.read_bytes() for one in wanted)]


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_no_file_has_a_word_of_it(tmp_path: Path, killed: bool) -> None:
    work, out = tmp_path / "work", tmp_path / "out"
    work.mkdir()
    out.mkdir()
    (work / "sorts.yaml").write_text(DIAGRAM % "4711")
    (work / "sorts.py").write_text(BODIES)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(out), *(["killed"] if killed else [])], cwd=work,
        capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "KEY": KEY, "TMPDIR": str(out), "SQLITE_TMPDIR": str(out)})
    assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr
    names = {path.suffix or path.name for path in out.rglob("*")}
    assert {".db", ".json", "history", "blobs"} <= names, names
    if killed:
        assert (out / "state.db-wal").stat().st_size and (out / "state.db-shm").exists()

    store = open_store(out / "state.db", key=KEY)  # sweeps copies that were left
    assert isinstance(store, SealedStore)
    assert files_with(out, MARKER, MARKER.encode().hex(), "large.txt") == []
    cell, cells = store.load("run")
    assert MARKER in str(cell.error) and MARKER in cell.inputs.decode() and MARKER in cell.options.decode()
    found = {one.node_id: one for one in cells}
    assert MARKER in (found["say"].output or b"").decode()
    assert MARKER in str(found["boom"].error)
    assert [MARKER in line.text for line in store.logs("run")] == [True, True]
    assert any(MARKER in (one.value or b"").decode() for one in store.context("run"))
    assert MARKER.encode() in store.blob(found["large"].blob or "")
    [folder] = (out / "history").iterdir()
    assert MARKER in str(read_history(folder, seal=seal_with(store.master)).cell.error)
    store.prune(Retention(keep=0, status=("failed", "running")), 1e12)
    assert files_with(out, MARKER, "large.txt") == []
    store.close()
    assert files_with(out, MARKER) == []
