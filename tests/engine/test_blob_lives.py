"""Blobs in diagrams: wherever a value goes, through every kind of body, and beyond the execution that made
them."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle import Blob, Engine, open_store
from treadle.config import Retention, TreadleConfig
from treadle.errors import ExecutionFailed, StoreCorrupt
from treadle.state.blob import Place
from treadle.state.status import ExecutionStatus
from treadle.store.sqlite.health import examine
from treadle.store.transfer import export_execution, import_execution

from .. import forked

JOBS = '''
import os, time
def make(context):
    return context.blob(b"hello\\n" * 1000, "hello.txt")
def rare(context):
    return context.blob(b"RARE", "rare.txt")
def nested(context):
    return {"report": context.blob(b"in a map", "m.txt"),
            "all": [context.blob(b"x%d" % number, f"{number}.txt") for number in range(3)]}
def upper(file, context):
    return context.blob((piece.upper() for piece in file.chunks()), "upper.txt")
def item(item, context):
    return context.blob(item.read() + b"!", item.name)
def look(nested):
    return [nested["report"].read().decode(), *(one.read().decode() for one in nested["all"])]
def fail(made):
    raise ValueError(f"no, thanks, says {made.size}")
def endless(context):
    def pieces():
        yield b"x" * 3_000_000
        if not os.path.exists("second"):
            open("second", "w").close()
            os.kill(os.getpid(), 9)
    return context.blob(pieces(), "endless")
'''
EVERYWHERE = '''
treadle: 1
nodes:
  made: {type: code_job, call: "jobs:make", isolation: ISOLATION}
  nested: {type: code_job, call: "jobs:nested", isolation: ISOLATION}
  inner:
    type: sub_diagram
    needs: made
    inputs: {file: made}
    diagram:
      treadle: 1
      inputs: {file: {type: any}}
      nodes:
        begin: {type: start}
        up: {type: code_job, call: "jobs:upper", isolation: ISOLATION}
      arrows: [{from: begin, to: up.file, transform: [{select: file}]}]
  items: {type: code_job, call: "jobs:item", isolation: ISOLATION, for_each: "nested.all", needs: nested}
  look: {type: code_job, call: "jobs:look", isolation: ISOLATION, needs: nested}
  large: {type: condition, when: "{{ made.size > 5000 }}", needs: made}
  text: {type: template_job, text: "{{ made.name }}: {{ made.read()[:5].decode() }}", needs: made}
  list: {type: db, operation: write, file: list.json, needs: nested}
  save: {type: db, operation: append, file: all.txt, needs: large.true}
  more: {type: db, operation: append, file: all.txt, needs: save}
'''
MADE = 'treadle: 1\nnodes:\n  made: {type: code_job, call: "jobs:make", cache: true}\n'
RARE = '''
treadle: 1
nodes:
  made: {type: code_job, call: "jobs:rare", cache: true}
  text: {type: template_job, text: "{{ made.read().decode() }}", needs: made}
'''
FAILS = MADE + '  fail: {type: code_job, call: "jobs:fail", needs: made}\n'


@pytest.fixture(autouse=True)
def jobs(tmp_path: Path) -> None:
    (tmp_path / "jobs.py").write_text(JOBS)


def drawn(folder: Path, text: str) -> str:
    path = folder / "diagram.yaml"
    path.write_text(text)
    return str(path)


def run(url: str, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(url, **options) as engine:
            return await main(engine)

    return asyncio.run(inside())


def old(place: Place) -> None:
    """All blobs were made long ago: no prune takes them for unfinished ones."""
    for path in place.folder.glob("*/*"):
        os.utime(path, (time.time() - 7200,) * 2)


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
@pytest.mark.parametrize("store", ["sqlite", "memory"])
def test_a_blob_goes_wherever_a_value_goes(tmp_path: Path, isolation: str, store: str) -> None:
    path = drawn(tmp_path, EVERYWHERE.replace("ISOLATION", isolation))

    async def main(engine: Engine) -> dict[str, Any]:
        found: dict[str, Any] = await (await engine.start(path)).result()
        assert found["inner"].read() == b"HELLO\n" * 1000
        return found

    found = run(f"sqlite:///{tmp_path}/t.db" if store == "sqlite" else "memory:", main)
    assert [(one.name, one.read()) for one in found["items"]] == [
        (f"{number}.txt", b"x%d!" % number) for number in range(3)]
    assert found["look"] == ["in a map", "x0", "x1", "x2"]
    assert found["text"] == "hello.txt: hello"
    assert (tmp_path / "all.txt").read_bytes() == b"hello\n" * 2000
    listed = json.loads((tmp_path / "list.json").read_text())
    assert listed["all"][2] == {"digest": found["list"]["all"][2].digest, "size": 2, "name": "2.txt"}


def test_without_a_store_a_blob_lives_as_long_as_somebody_has_it(tmp_path: Path) -> None:
    path = drawn(tmp_path, MADE)

    async def main(engine: Engine) -> Blob:
        blob: Blob = await (await engine.start(path)).result()
        return blob

    blob = run("memory:", main, durability="memory")
    file = blob.path()
    assert blob.read() == b"hello\n" * 1000
    del blob
    gc.collect()
    assert not file.parents[1].exists()


@pytest.mark.parametrize("store", ["sqlite", "memory:"])
def test_a_result_from_the_cache_outlives_the_execution_that_left_it(tmp_path: Path, store: str) -> None:
    path = drawn(tmp_path, MADE)

    async def main(engine: Engine) -> None:
        first = await engine.start(path, execution_id="first")
        await first.result()
        second = await engine.start(path, execution_id="second")
        blob = await second.result()
        await second.wait()
        assert engine.store.load("second")[1][0].worker == "cache: first"
        old(engine.store.place)
        assert engine.store.prune(Retention(keep=1), time.time()).execution_ids == ["first"]
        assert blob.read() == b"hello\n" * 1000
        assert engine.store.prune(Retention(keep=0), time.time()).execution_ids == ["second"]
        assert not engine.store.place.path(blob.digest).exists()

    run(f"sqlite:///{tmp_path}/t.db" if store == "sqlite" else store, main)


@pytest.mark.parametrize("store", ["sqlite", "memory:"])
def test_a_fork_keeps_the_blobs_of_what_it_took_over(tmp_path: Path, store: str) -> None:
    path = drawn(tmp_path, FAILS)

    async def main(engine: Engine) -> None:
        first = await engine.start(path)
        assert await first.wait() is ExecutionStatus.FAILED
        (tmp_path / "jobs.py").write_text(JOBS.replace("raise ValueError", "return "))
        fork = await engine.fork(first.execution_id, at="fail")
        assert await fork.result() == "no, thanks, says 6000"
        old(engine.store.place)
        done = engine.store.prune(Retention(keep=1), time.time() + 60)
        assert done.execution_ids == [first.execution_id] and done.blobs == 0
        _, cells = engine.store.load(fork.execution_id)
        made, = (cell for cell in cells if cell.node_id == "made")
        assert (await engine.values.load(made)).read() == b"hello\n" * 1000

    run(f"sqlite:///{tmp_path}/t.db" if store == "sqlite" else store, main)


@pytest.mark.parametrize("node", [
    'type: code_job, call: "jobs:make", isolation: thread', 'type: code_job, call: "jobs:make"',
    "type: db, operation: read, file: jobs.py, format: blob"], ids=["thread", "process", "db"])
def test_the_limit_of_the_engine_holds_in_every_body(tmp_path: Path, node: str) -> None:
    path = drawn(tmp_path, f"treadle: 1\nnodes:\n  made: {{{node}}}\n")

    async def main(engine: Engine) -> None:
        with pytest.raises(ExecutionFailed, match=r"LimitExceeded: the blob '(hello\.txt|jobs\.py)' has \d+ "
                                                  r"bytes.*the limit blob_bytes_max is 500; raise it with"):
            await (await engine.start(path)).result()
        assert [one for one in engine.store.place.folder.rglob("*") if one.is_file()] == []

    run(f"sqlite:///{tmp_path}/t.db", main, config=TreadleConfig(blob_bytes_max=500))


def test_a_kill_in_the_middle_of_a_blob_leaves_nothing_after_the_resume(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drawn(tmp_path, 'treadle: 1\nnodes:\n'
                           '  made: {type: code_job, call: "jobs:endless", isolation: thread}\n')
    killed = forked.command(tmp_path, "run", path, "--execution-id", "one", "--no-live",
                            "--store", f"{tmp_path}/t.db")
    assert killed.returncode == -9, killed.stderr
    half, = (file for file in (tmp_path / "t.db.blobs").rglob("*") if file.is_file())
    monkeypatch.chdir(tmp_path)

    async def main(engine: Engine) -> None:
        blob = await (await engine.resume("one")).result()
        assert blob.size == 3_000_000 and not half.exists()
        assert [file for file in engine.store.place.folder.rglob("*") if file.is_file()] == [blob.path()]
        old(engine.store.place)
        engine.store.prune(Retention(keep=0), time.time())
        assert [file for file in engine.store.place.folder.rglob("*") if file.is_file()] == []

    run(f"sqlite:///{tmp_path}/t.db", main)


@pytest.fixture
def copied(tmp_path: Path) -> str:
    """A store whose only execution, `one`, made a blob, without the folder of blobs."""
    path = drawn(tmp_path, RARE)
    # Which no other test has, in a place of this process.
    (tmp_path / "jobs.py").write_text(JOBS.replace("RARE", str(tmp_path)))

    async def main(engine: Engine) -> None:
        assert await (await engine.start(path, execution_id="one")).result() == str(tmp_path)

    run(f"sqlite:///{tmp_path}/t.db", main)
    store = open_store(f"{tmp_path}/t.db")
    with (tmp_path / "run.zip").open("wb") as file:
        export_execution(store, "one", file)
    store.close()
    (tmp_path / "t.db.blobs").rename(tmp_path / "lost")
    return f"{tmp_path}/t.db"


def test_a_store_without_its_folder_of_blobs_says_so(tmp_path: Path, copied: str) -> None:
    async def again(engine: Engine) -> Any:
        return await (await engine.fork("one", at="text")).result()

    with pytest.raises(ExecutionFailed, match=r"no open store has the blob .*rare\.txt, .* its folder"):
        run(copied, again)
    store = open_store(copied)
    with pytest.raises(StoreCorrupt, match="copied without its files"), io.BytesIO() as file:
        export_execution(store, "one", file)
    store.close()
    lost, = (one for one in examine(Path(copied), time.time()) if one.level == "error")
    assert lost.text.startswith("1 files are missing in ") and "copied without that folder" in lost.hint
    (tmp_path / "lost").rename(tmp_path / "t.db.blobs")
    assert run(copied, again) == str(tmp_path)
    assert not [one for one in examine(Path(copied), time.time()) if one.level == "error"]


def test_an_export_brings_the_blobs_along(tmp_path: Path, copied: str) -> None:
    store = open_store(tmp_path / "other.db")
    import_execution(store, tmp_path / "run.zip")
    store.close()

    async def again(engine: Engine) -> Any:
        return await (await engine.fork("one", at="text")).result()

    assert run(f"{tmp_path}/other.db", again) == str(tmp_path)


def test_a_result_in_the_cache_whose_blob_is_lost_is_made_again(tmp_path: Path, copied: str) -> None:
    async def main(engine: Engine) -> None:
        handle = await engine.start(str(tmp_path / "diagram.yaml"))
        assert await handle.result() == str(tmp_path)

    run(copied, main)
