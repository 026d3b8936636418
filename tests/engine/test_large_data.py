"""Content that is too large for memory, on its way through nodes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from treadle import Blob, Engine, open_store
from treadle.diagram.formats import loads
from treadle.errors import ExecutionFailed, InvalidDiagram
from treadle.state import codec
from treadle.state.blob import Place
from treadle.store.transfer import export_execution, import_execution

from .. import forked

MB = 1024 * 1024

JOBS = '''
def flip(default, context):
    pieces = (piece.translate(bytes(reversed(range(256)))) for piece in default.chunks())
    return context.blob(pieces, "flipped")
'''
DIAGRAM = '''
treadle: 1
nodes:
  load: {type: db, operation: read, file: in.bin, format: blob}
  flip: {type: code_job, call: "jobs:flip", isolation: ISOLATION, needs: load}
  save: {type: db, operation: write, file: out.bin, needs: flip}
'''
MEASURED = '''
import asyncio, resource, sys
from treadle import Engine
async def main():
    async with Engine.open("sqlite:///t.db") as engine:
        await (await engine.start("small.yaml")).result()
        before = [resource.getrusage(who).ru_maxrss
                  for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        await (await engine.start("diagram.yaml")).result()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before[0],
          resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
asyncio.run(main())
'''


def drawn(folder: Path, isolation: str = "process") -> Path:
    (folder / "jobs.py").write_text(JOBS)
    path = folder / "diagram.yaml"
    path.write_text(DIAGRAM.replace("ISOLATION", isolation))
    return path


def run(path: Path, store: str) -> Any:
    async def main() -> Any:
        async with Engine.open(store) as engine:
            return await (await engine.start(str(path))).result()

    return asyncio.run(main())


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("store", ["sqlite", "memory:"])
def test_a_file_goes_through_three_nodes(tmp_path: Path, isolation: str, store: str) -> None:
    (tmp_path / "in.bin").write_bytes(bytes(range(256)) * 5000)
    run(drawn(tmp_path, isolation), f"sqlite:///{tmp_path}/t.db" if store == "sqlite" else store)
    assert (tmp_path / "out.bin").read_bytes() == bytes(reversed(range(256))) * 5000


def measure(folder: Path, size: int) -> None:
    drawn(folder)
    (folder / "small.yaml").write_text(
        "treadle: 1\nnodes:\n  one: {type: code_job, code: 'result = 1'}\n")
    with (folder / "in.bin").open("wb") as file:
        file.truncate(size)
    done = subprocess.run([sys.executable, "-c", MEASURED], cwd=folder, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    more, child = map(int, done.stdout.split())  # in KB
    assert (folder / "out.bin").stat().st_size == size
    assert more < 100 * 1024 and child < 100 * 1024, (more, child)


def test_200_mb_take_less_than_100_mb_of_memory(tmp_path: Path) -> None:
    measure(tmp_path, 200 * MB)


@pytest.mark.soak
def test_2_gb_take_less_than_100_mb_of_memory(tmp_path: Path) -> None:
    measure(tmp_path, 2048 * MB)


def test_equal_contents_are_one_file(tmp_path: Path) -> None:
    place = Place(tmp_path / "blobs")
    one, two = place.put(b"x" * 5 * MB, "a"), place.put([b"x" * MB] * 5, "b")
    assert one.path() == two.path() and one.size == 5 * MB and one != two
    assert [path for path in place.folder.rglob("*") if path.is_file()] == [one.path()]


def test_a_blob_survives_the_codec_and_its_engine(tmp_path: Path) -> None:
    place = Place(tmp_path / "blobs")
    blob = codec.decode(codec.encode({"report": [place.put(b"content", "r.txt")]}))["report"][0]
    assert (blob.name, blob.read(), b"".join(blob.chunks())) == ("r.txt", b"content", b"content")
    with blob.open() as file:
        assert file.read(3) == b"con"


def test_a_source_that_breaks_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "blobs")

    def broken() -> Any:
        yield b"half"
        raise OSError("the line is dead")

    with pytest.raises(OSError, match="the line is dead"):
        place.put(broken())
    assert not [path for path in place.folder.rglob("*") if path.is_file()]


def test_a_blob_without_its_file_says_so() -> None:
    with pytest.raises(FileNotFoundError, match="no open store has the blob"):
        Blob("ab" * 32, 3, "x").read()


def test_a_store_finds_what_bodies_left(tmp_path: Path) -> None:
    for url in (f"sqlite:///{tmp_path}/t.db", "memory:"):
        store = open_store(url)
        blob = store.place.put(b"content")
        assert store.blob(blob.digest) == b"content"
        with store.open_blob(blob.digest) as file:
            assert file.read() == b"content"
        store.close()


def test_an_export_takes_its_blobs_along(tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(b"small")
    path = drawn(tmp_path)

    async def main() -> str:
        async with Engine.open(f"sqlite:///{tmp_path}/t.db") as engine:
            handle = await engine.start(str(path))
            blob = await handle.result()
            assert blob.read() == bytes(255 - one for one in b"small")
            return handle.execution_id

    execution_id = asyncio.run(main())
    store, other = open_store(f"sqlite:///{tmp_path}/t.db"), open_store(f"sqlite:///{tmp_path}/other.db")
    with (tmp_path / "run.zip").open("wb") as file:
        export_execution(store, execution_id, file)
    import_execution(other, tmp_path / "run.zip")
    files = {path.name for path in (tmp_path / "t.db.blobs").rglob("*") if path.is_file()}
    assert len(files) == 2
    assert {path.name for path in other.place.folder.rglob("*") if path.is_file()} == files
    store.close()
    other.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailed, match=r"no file 'in\.bin'"):
        run(drawn(tmp_path), "memory:")


def test_format_blob_is_for_reading(tmp_path: Path) -> None:
    path = drawn(tmp_path)
    path.write_text(path.read_text().replace("file: out.bin", "file: out.bin, format: blob"))
    with pytest.raises(InvalidDiagram, match="`format: blob` is for read, not for write"):
        run(path, "memory:")


def test_a_kill_leaves_a_file_that_no_cell_names(tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(b"abc" * 1000)
    path = drawn(tmp_path, "thread")
    (tmp_path / "jobs.py").write_text(JOBS.replace("return context.blob", '''\
import os
    if not os.path.exists("killed"):
        open("killed", "w").close()
        context.blob(b"nobody knows of it")
        os._exit(9)
    return context.blob'''))
    store = ["--store", f"sqlite:///{tmp_path}/t.db"]
    assert forked.command(tmp_path, "run", str(path), *store).returncode == 9
    opened = open_store(f"sqlite:///{tmp_path}/t.db")
    execution_id = opened.executions()[0].cell.execution_id
    opened.close()
    done = forked.command(tmp_path, "resume", execution_id, *store)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.bin").read_bytes() == bytes(255 - one for one in b"abc" * 1000)
    files = [file for file in (tmp_path / "t.db.blobs").rglob("*") if file.is_file()]
    assert len(files) == 3  # two that cells name, and the orphan


@pytest.mark.parametrize("store", ["sqlite", "memory:"])
def test_blobs_go_through_a_map_and_the_cache(tmp_path: Path, store: str) -> None:
    (tmp_path / "jobs.py").write_text('''
def make(context):
    return [context.blob(bytes([65 + number]) * 3, f"{number}.txt") for number in range(3)]
def low(item, context):
    return context.blob(item.read().lower(), item.name)
def join(low):
    return " ".join(f"{blob.name}={blob.read().decode()}" for blob in low)
''')
    path = tmp_path / "diagram.yaml"
    path.write_text('''
treadle: 1
nodes:
  make: {type: code_job, call: "jobs:make", cache: true}
  low: {type: code_job, call: "jobs:low", for_each: "make", cache: true, needs: make}
  join: {type: code_job, call: "jobs:join", needs: low}
''')
    url = f"sqlite:///{tmp_path}/t.db" if store == "sqlite" else store
    for _ in range(2):  # the second time from the cache
        assert run(path, url) == "0.txt=aaa 1.txt=bbb 2.txt=ccc"


def test_a_run_prints_its_blob(tmp_path: Path) -> None:
    (tmp_path / "in.bin").write_bytes(b"content")
    path = tmp_path / "diagram.yaml"
    path.write_text("treadle: 1\nnodes:\n  load: {type: db, operation: read, file: in.bin, format: blob}\n")
    words = ["run", str(path), "--store", f"sqlite:///{tmp_path}/t.db"]
    line = forked.command(tmp_path, *words).stdout
    found = json.loads(forked.command(tmp_path, *words, "--json").stdout)["output"]
    assert (found["name"], found["size"], Path(found["path"]).read_bytes()) == ("in.bin", 7, b"content")
    assert line.startswith("in.bin, 7 ") and line.endswith(f"SHA-256 {found['digest']}, {found['path']}\n")


def test_a_large_output_leaves_the_memory_with_its_last_reader(tmp_path: Path) -> None:
    spec = loads("""
treadle: 1
nodes:
  a: {type: code_job, isolation: inline, code: "return 'a' * 1_000_000"}
  b: {type: code_job, isolation: inline, code: "return a[:-1] + 'b'", needs: a}
  c: {type: code_job, isolation: inline, code: "return a[:-1] + 'c'", needs: a}
  d: {type: code_job, isolation: inline, code: "return len(one) + len(two)"}
arrows: [b -> d.one, c -> d.two]
""")

    async def main() -> None:
        async with Engine.open(str(tmp_path / "runs.db")) as engine:
            handle = await engine.start(spec)
            assert await handle.result() == 2_000_000
            assert engine.values.kept_bytes == 0
            assert engine.manager is not None
            _, cells = await engine.manager.read(engine.store.load, handle.execution_id)
            large = [cell for cell in cells if cell.blob is not None]
            assert [cell.node_id for cell in large] == ["a", "b", "c"]
            assert await engine.values.load(large[1]) == "a" * 999_999 + "b", "who asks later reads the store"

    asyncio.run(main())
