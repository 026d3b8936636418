"""Files of blobs: how much may be written, what a writer leaves that fails or is killed, who may be swept."""

from __future__ import annotations

import fcntl
import io
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from treadle.config import Retention, TreadleConfig
from treadle.crypto.stream import BlobCipher
from treadle.diagram.expression import Template
from treadle.errors import LimitExceeded, StoreCorrupt, StoreFull
from treadle.state import codec
from treadle.state.blob import Place, Writer, fields_of
from treadle.store.base import Batch
from treadle.store.blobs import BlobFiles
from treadle.store.memory import MemoryStore
from treadle.store.sqlite.store import SqliteStore
from treadle.testing.contract import a_cell
from treadle.testing.contract.pruning import NOW, blob_of, ended

ALL = Retention(keep=0)
KILLED = """
import os, sys
from pathlib import Path
from treadle.state.blob import Place, Writer
writer = Writer(Place(Path(sys.argv[1])), "half")
writer.write(b"half of it" * 100_000)
os.kill(os.getpid(), 9)
"""


def files(place: Place) -> list[Path]:
    return [path for path in place.folder.rglob("*") if path.is_file()]


def age(path: Path) -> None:
    old = time.time() - 7200
    os.utime(path, (old, old))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "blobs")


@pytest.fixture
def a_megabyte_of_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_limit_says_how_to_raise_it_and_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path / "blobs", TreadleConfig(blob_bytes_max=10))
    large = tmp_path / "in.bin"
    large.write_bytes(b"x" * 11)
    for source in (large, b"x" * 11, [b"x" * 6] * 2, io.BytesIO(b"x" * 11)):
        with pytest.raises(LimitExceeded, match=r"has 1[12] bytes.*: the limit blob_bytes_max is 10; "
                                                r"raise it with TreadleConfig\(blob_bytes_max=…\)"):
            place.put(source)
    with pytest.raises(LimitExceeded, match=r"the blob 'in\.bin' has 11 bytes:"):
        place.put(large)
    assert files(place) == []
    assert place.put(b"x" * 10).size == 10


def test_a_full_disk_says_where_and_leaves_nothing(place: Place, a_megabyte_of_room: None) -> None:
    with pytest.raises(StoreFull, match=r"no room for the blob 'big' in .*blobs \(File too large after "
                                        r"977 KB; .* are free\): raise the limit for files \(ulimit -f\)"):
        place.put([b"x" * 500_000] * 3, "big")
    assert files(place) == []
    assert place.put(b"small").read() == b"small"


def test_a_large_output_waits_for_room_like_all_else(tmp_path: Path, a_megabyte_of_room: None) -> None:
    """StoreFull is what the journal tries again; any other error ends all executions."""
    store = SqliteStore(tmp_path / "t.db")
    digest, content = blob_of(Random(1).randbytes(5_000_000))
    batch = Batch([a_cell("n", blob=digest)], blobs=[(digest, content)])
    with pytest.raises(StoreFull, match="no room for a blob"):
        store.apply(batch)
    assert files(store.place) == []
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
    store.apply(batch)
    assert store.blob(digest) == content
    store.close()


def test_what_a_living_writer_has_is_never_swept(place: Place) -> None:
    with Writer(place) as writer:
        writer.write(b"x" * 100_000)
        half, = files(place)
        age(half)  # its source is slow
        Place(place.folder).tidy(time.time())
        BlobFiles(Place(place.folder)).clean(time.time())
        assert writer.finish().read() == b"x" * 100_000


def test_what_a_killed_writer_left_goes_with_the_next_blob(place: Place) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(place.folder)], check=False)
    assert done.returncode == -9
    assert len(files(place)) == 1
    blob = place.put(b"the next")
    assert files(place) == [blob.path()]


def test_sweeping_and_writing_at_once_lose_nothing(place: Place) -> None:
    done = threading.Event()

    def sweep() -> None:
        while not done.is_set():
            Place(place.folder).tidy()

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        blobs = [place.put(b"%d" % number) for number in range(100)]
    finally:
        done.set()
        sweeper.join()
    assert [blob.read() for blob in blobs] == [b"%d" % number for number in range(100)]
    assert len(files(place)) == 100


def test_a_file_that_is_not_what_its_digest_says_is_not_written(place: Place) -> None:
    for content in (b"content", iter([b"con", b"tent"])):
        with pytest.raises(StoreCorrupt, match=r"the blob abab.* that was to be written is damaged"):
            BlobFiles(place).put("ab" * 32, content)
    assert files(place) == []


def test_what_a_killed_prune_had_moved_away_comes_back(place: Place) -> None:
    blob = place.put(b"content")
    path = blob.path()
    path.rename(f"{path}.gone")
    with pytest.raises(FileNotFoundError, match="was it pruned"):
        blob.read()
    BlobFiles(place).clean(time.time())
    assert blob.read() == b"content"


def test_a_blob_is_found_wherever_its_content_is(tmp_path: Path, place: Place) -> None:
    other = Place(tmp_path / "other")
    blob, same = place.put(b"content"), other.put(b"content")
    blob.path().unlink()
    assert blob.path() == same.path()


def test_to_others_a_blob_is_a_map(place: Place) -> None:
    blob = place.put(b"content", "a.txt")
    for one in (blob, codec.decode(codec.encode(blob))):
        assert msgspec.to_builtins([one]) == [fields_of(blob)]
        text = Template.compile("{{ files }}").render({"files": {"first": one}})
        assert msgspec.json.decode(text) == {"first": fields_of(blob)}


# A store in memory

def named(store: MemoryStore, content: bytes, execution_id: str) -> Path:
    """The file of a blob that the only node of a new execution has given; it is old."""
    blob = store.place.put(content)
    ended(store, execution_id, output=codec.encode(blob))
    age(blob.path())
    return blob.path()


def test_a_prune_in_memory_deletes_files_that_nothing_names() -> None:
    store = MemoryStore()
    gone = named(store, b"x" * 1000, "old")
    kept = named(store, b"kept", "kept")
    ended(store, "also", output=codec.encode(store.place.put(b"kept")))
    ended(store, "gone", output=codec.encode(store.place.put(b"young")))
    age(kept)
    foretold = store.prune(Retention(status=("completed",)), NOW, dry_run=True)
    assert gone.exists() and foretold.bytes_freed > 1000
    for name in ("old", "gone"):
        store._rows[name].cell = msgspec.structs.replace(store._rows[name].cell, name="these")
    done = store.prune(Retention(name="these"), NOW)
    assert (done.execution_ids, done.blobs, done.blobs_young) == (["gone", "old"], 1, 1)
    assert done.bytes_freed >= 1000 and not gone.exists() and kept.read_bytes() == b"kept"
    store.prune(ALL, NOW)
    assert not kept.exists()
    store.close()


def test_a_prune_in_memory_goes_by_the_size_of_files_too() -> None:
    store = MemoryStore()
    first, last = named(store, b"x" * 100_000, "a"), named(store, b"y" * 100_000, "b")
    assert store.prune(Retention(size_bytes_max=150_000), NOW).execution_ids == ["a"]
    assert not first.exists() and last.exists()
    store.close()


def test_a_store_in_memory_that_made_no_blob_has_no_folder() -> None:
    store = MemoryStore()
    store.apply(Batch([]))
    store.prune(ALL, NOW)
    assert "place" not in vars(store)
    store.close()


# Copies that can be read, of encrypted blobs


COPIED = """
import os, sys, time
from pathlib import Path
from treadle.crypto.stream import BlobCipher
from treadle.state.blob import Place
place = Place(Path(sys.argv[1]), cipher=BlobCipher(bytes(32), bytes(32)))
blob = place.put(b"plain words" * 1000, "x.txt")
print(blob.path(), flush=True)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
sys.stdin.read()
"""


def copying(place: Place, how: str) -> tuple[subprocess.Popen[str], Path]:
    child = subprocess.Popen([sys.executable, "-c", COPIED, str(place.folder), how], text=True,
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    return child, Path(child.stdout.readline().strip())


def test_a_copy_of_a_killed_process_goes_and_that_of_a_living_one_stays(place: Place) -> None:
    killed, left = copying(place, "killed")
    killed.communicate()
    living, used = copying(place, "living")  # its own writing tidies what the other left
    assert not left.exists()
    for folder in (used.parents[1], used.parents[2]):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert used.parents[2] == place.folder / "plain"
    place.tidy()
    assert place.left_plain() == []
    assert used.read_bytes() == b"plain words" * 1000
    living.kill()
    living.communicate()
    assert place.left_plain() == [used.parents[1]]
    place.tidy()
    assert not used.exists()
    assert place.left_plain() == []


def test_a_folder_of_copies_that_was_swept_before_it_was_locked_is_made_anew(
        place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = Place(place.folder, cipher=BlobCipher(bytes(32), bytes(32)))
    blob = sealed.put(b"words")
    made, lock = tempfile.mkdtemp, fcntl.flock
    swept: list[str] = []

    def made_and_swept(**given: Any) -> str:
        folder = made(**given)
        if not swept:
            os.rmdir(folder)
            swept.append(folder)
        return folder

    def swept_and_locked(handle: int, how: int) -> None:
        if len(swept) == 1:
            [folder] = (place.folder / "plain").iterdir()
            folder.rmdir()
            swept.append(str(folder))
        lock(handle, how)

    monkeypatch.setattr(tempfile, "mkdtemp", made_and_swept)
    monkeypatch.setattr(fcntl, "flock", swept_and_locked)
    assert blob.path().read_bytes() == b"words"
    assert len(swept) == 2
    gone = place.folder / "plain" / "gone"
    gone.symlink_to(place.folder / "nowhere")  # to be opened it must be there: somebody else was faster
    assert place.left_plain() == []


def test_a_copy_ends_with_its_place(place: Place) -> None:
    sealed = Place(place.folder, cipher=BlobCipher(bytes(32), bytes(32)))
    copy = sealed.put(b"words").path()
    assert copy.read_bytes() == b"words"
    sealed.clear()
    assert not copy.exists()
    assert sealed.put(b"words").path().exists()
