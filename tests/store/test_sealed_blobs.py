"""Blobs in encrypted stores: made by bodies wherever they run, read by others, forgotten with their key."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from treadle.config import Retention
from treadle.crypto.keys import new_key
from treadle.engine.engine import Engine
from treadle.errors import StoreError
from treadle.state.blob import Blob
from treadle.state.status import ExecutionStatus
from treadle.store import encryption_key, open_store
from treadle.store.sealing.rotation import forget
from treadle.store.sealing.sealed import SealedStore

KEY = new_key()
MARKER = "a-marker-4711"
DIAGRAM = """
treadle: 1
nodes:
  make: {type: code_job, call: "blobs:make", isolation: "%s"}
  read: {type: code_job, call: "blobs:read", isolation: "%s", needs: make}
  code:
    type: code_job
    needs: make
    code: |
      return [default["content"].read().decode()[:13], default["content"].path().read_text()[-13:]]
  all: {type: endpoint, needs: [make, read, code]}
"""
BODIES = """
MARKER = "-".join(["a", "marker", "4711"])

def make(context):
    return {"content": context.blob((MARKER * 20_000).encode(), "x.txt"), "pad": MARKER * 3000}

def read(context, default):
    content = default["content"]
    with content.open() as file:
        file.seek(13 * 10_000)
        middle = file.read(13).decode()
    copied = context.blob(content.open(), "copy.txt")
    assert copied.digest == content.digest
    return [middle, sum(map(len, content.chunks())), content.path().name, str(content.path())]
"""


def files_with(folder: Path, wanted: str) -> list[str]:
    return [str(path) for path in folder.rglob("state*") if path.is_file() and wanted.encode() in
            path.read_bytes()] + [str(path) for path in (folder / "state.db.blobs").rglob("*")
                                  if path.is_file() and wanted.encode() in path.read_bytes()]


def run(folder: Path, inside: str, outside: str = "thread") -> dict[str, Any]:
    """Run the diagram as `run`, then fork it as `fork`; the result of the first."""
    (folder / "blobs.py").write_text(BODIES)
    file = folder / "demo.yaml"
    file.write_text(DIAGRAM % (inside, outside))

    async def scenario() -> dict[str, Any]:
        async with Engine.open(str(folder / "state.db")) as engine:
            handle = await engine.start(str(file), execution_id="run")
            assert await handle.wait() is ExecutionStatus.COMPLETED, handle.error
            result = dict(zip(("make", "read", "code"), await handle.result(), strict=True))
            assert result["make"]["content"].read().decode() == MARKER * 20_000
        async with Engine.open(str(folder / "state.db")) as engine:
            handle = await engine.fork("run", at="read", fork_id="fork")
            assert await handle.wait() is ExecutionStatus.COMPLETED, handle.error
        return result

    with encryption_key(KEY):
        return asyncio.run(scenario())


@pytest.mark.parametrize(("inside", "outside"), [("thread", "process"), ("process", "thread")])
def test_bodies_make_and_read_blobs_that_no_file_shows(tmp_path: Path, inside: str, outside: str) -> None:
    result = run(tmp_path, inside, outside)
    middle, size, name, path = result["read"]
    assert (middle, size, name) == (MARKER, 13 * 20_000, "x.txt")
    assert result["code"] == [MARKER, MARKER]
    assert files_with(tmp_path, MARKER) == []
    assert not Path(path).exists(), "the copy that could be read went with its process or execution"


def test_each_execution_has_its_own_and_loses_it_with_its_key(tmp_path: Path) -> None:
    blob: Blob = run(tmp_path, "thread")["make"]["content"]
    store = open_store(tmp_path / "state.db", key=KEY)
    assert isinstance(store, SealedStore)
    assert len(list((tmp_path / "state.db.blobs").glob("??/*"))) == 2, "one of each execution"
    forget(store, ["run"])
    assert store.blob(blob.digest).decode() == MARKER * 20_000
    with pytest.raises(StoreError, match="belongs to an execution: make it where one runs"):
        store.place.put(b"content")
    forget(store, ["fork"])
    with pytest.raises(KeyError):
        store.blob(blob.digest)
    with pytest.raises(FileNotFoundError):
        store.place.open(blob.digest)
    store.close()


def test_a_prune_collects_files_that_only_sealed_texts_name(tmp_path: Path) -> None:
    run(tmp_path, "thread")
    store = open_store(tmp_path / "state.db", key=KEY)
    for path in (tmp_path / "state.db.blobs").glob("??/*"):
        os.utime(path, (0, 0))
    assert store.prune(Retention(keep=2), 1e12).blobs == 0
    assert len(list((tmp_path / "state.db.blobs").glob("??/*"))) == 2
    assert store.prune(Retention(keep=1), 1e12).execution_ids == ["run"]
    assert len(list((tmp_path / "state.db.blobs").glob("??/*"))) == 1
    store.close()
