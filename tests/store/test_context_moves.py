"""The shared context in a store: folded, exported, imported, pruned with its execution, and what it names is
kept."""

from __future__ import annotations

import asyncio
import hashlib
import io
import itertools
import os
import zipfile
from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from treadle.config import Retention
from treadle.errors import InvalidInput, StoreCorrupt
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.state.cell import ContextCell, ExecutionCell, ExecutionState, join
from treadle.state.status import ExecutionStatus
from treadle.store import ExecutionStateManager, MemoryStore, StateManager, open_store
from treadle.store.base import Batch, Lease, Store
from treadle.store.owner import this_owner
from treadle.store.transfer import export_execution, import_execution
from treadle.testing.contract import a_cell, a_key, an_execution, context_batch

Maker = Callable[[], Store]
_ids = (f"run-{number}" for number in itertools.count())


@pytest.fixture(params=["memory", "sqlite"])
def make(request: Any, tmp_path: Path) -> Iterator[Maker]:
    """Makes empty stores."""
    made: list[Store] = []

    def new() -> Store:
        memory = request.param == "memory"
        made.append(MemoryStore() if memory else open_store(tmp_path / f"store{len(made)}.db"))
        return made[-1]

    yield new
    for store in made:
        store.close()


@pytest.fixture(scope="module", params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    memory = request.param == "memory"
    made = MemoryStore() if memory else open_store(tmp_path_factory.mktemp("context") / "s.db")
    yield made
    made.close()


# Into the store


histories = st.dictionaries(
    st.tuples(st.sampled_from(["variables.a", "artifacts.b", "plugins.P.é'"]), st.integers(1, 2),
              st.integers(1, 9)),
    st.none() | st.text(st.characters(codec="utf-8"), max_size=5).map(codec.encode), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(history=histories, data=st.data())
def test_a_store_is_a_fold_of_the_join(store: Store, history: Any, data: st.DataObject) -> None:
    run = next(_ids)
    cells = [ContextCell(run, key, epoch, seq, value, "n#1", 2.5)
             for (key, epoch, seq), value in history.items()]
    store.create(an_execution(run), "", this_owner(), 15)
    order = data.draw(st.permutations(cells + data.draw(
        st.lists(st.sampled_from(cells), max_size=5) if cells else st.just([]))))
    mine = [one for one in order if one.epoch == 1]  # others come from no owner that there is
    while mine:
        size = data.draw(st.integers(1, len(mine)))
        batch, mine = mine[:size], mine[size:]
        folded = reduce(join, ({one.key: one} for one in batch), {})
        assert store.apply(context_batch(*folded.values())).refused == {}
    expected = reduce(join, ({one.key: one} for one in cells if one.epoch == 1), {})
    assert {one.key: one for one in store.context(run)} == expected


class Watch:
    """Looks on as a store writes; `arrived` is set when a batch with a part of a context was written."""

    def __init__(self, store: Store) -> None:
        self.batches: list[Batch] = []
        self.arrived = asyncio.Event()
        self._loop, self._apply = asyncio.get_running_loop(), store.apply
        store.apply = self.apply  # type: ignore[method-assign]

    def apply(self, batch: Batch) -> Any:
        written = self._apply(batch)
        if batch.context:
            self.batches.append(batch)
            self._loop.call_soon_threadsafe(self.arrived.set)
        return written


def test_what_waits_is_joined_and_goes_with_the_cells_that_follow_it(make: Maker) -> None:
    store = make()

    async def main() -> list[Batch]:
        watch = Watch(store)
        manager = StateManager(store=store, batch_interval=0.01)
        await manager.start()
        await manager.create(an_execution("run"), "")
        for seq in (1, 3, 2):
            manager.share([a_key("variables.a", seq, b"%d" % seq), a_key(f"variables.b{seq}", seq)])
        manager.record([a_cell("n")])
        await manager.flush()
        watch.arrived.clear()
        manager.share([a_key("variables.a", 4, None)])  # nobody waits for it, and it is written all the same
        await watch.arrived.wait()
        await manager.stop()
        manager.share([a_key("variables.a", 5)])  # too late
        return watch.batches

    batches = asyncio.run(main())
    assert [(len(one.context), len(one.cells)) for one in batches] == [(4, 1), (1, 0)]
    assert batches[0].context["run", "variables.a"].value == b"3"
    assert [one.seq for one in store.context("run")] == [4, 1, 2, 3]


def test_a_batch_that_grows_too_large_by_its_context_is_written_at_once(make: Maker) -> None:
    store = make()

    async def main() -> None:
        watch = Watch(store)
        manager = StateManager(store=store, batch_interval=3600)
        await manager.start()
        await manager.create(an_execution("run"), "")
        manager.share([a_key("variables.a", 1, b'"' + b"x" * 9_000_000 + b'"')])
        await watch.arrived.wait()
        await manager.stop()

    asyncio.run(main())


def test_a_state_is_saved_and_loaded_with_its_context(make: Maker) -> None:
    async def main() -> ExecutionState:
        manager = ExecutionStateManager(make())
        state = ExecutionState.of(an_execution("run"), {}, context=[a_key("variables.a", 3)])
        await manager.save_state("run", state)
        loaded = await manager.load_state("run")
        loaded.context["variables.b"] = a_key("variables.b", 4)
        await loaded.persist()
        state.home = manager
        await state.restore()
        return state

    assert {key: one.version for key, one in asyncio.run(main()).context.items()} == {
        "variables.a": (2, 3), "variables.b": (2, 4)}


# From store to store


def written(store: Store, *cells: ContextCell) -> Store:
    store.create(an_execution("run"), "", this_owner(), 15)
    store.apply(context_batch(*cells))
    return store


def exported(store: Store, path: Path) -> Path:
    with path.open("wb") as file:
        export_execution(store, "run", file)
    return path


def test_an_export_takes_the_context_along(make: Maker, tmp_path: Path) -> None:
    first, second = make(), make()
    blob = first.place.put(b"content", "a.txt")
    cells = [a_key("artifacts.file", 1, codec.encode(blob)), a_key("variables.gone", 2, None)]
    path = exported(written(first, *cells), tmp_path / "a.zip")
    assert import_execution(second, path).outcome == "new"
    assert second.context("run") == cells
    assert second.blob(blob.digest) == b"content"
    assert import_execution(second, path).outcome == "same"


def test_a_context_decides_with_the_cells_which_copy_is_newer(make: Maker, tmp_path: Path) -> None:
    first = written(make(), a_key("variables.a", 1))
    older = exported(first, tmp_path / "older.zip")
    second = make()
    import_execution(second, older)
    first.apply(context_batch(a_key("variables.a", 2), a_key("variables.b", 2)))
    assert import_execution(first, older).outcome == "older"
    newer = exported(first, tmp_path / "newer.zip")
    with pytest.raises(InvalidInput, match=r"the file is newer \(2 cells\)"):
        import_execution(second, newer)


def test_a_context_that_is_damaged_is_refused(make: Maker, tmp_path: Path) -> None:
    def changed(line: bytes) -> Path:
        path = exported(written(make(), a_key("variables.a", 1)), tmp_path / "a.zip")
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        entries["context.jsonl"] = line
        header = msgspec.json.decode(entries["treadle.json"])
        header["entries"]["context.jsonl"] = {"bytes": len(line), "sha256": hashlib.sha256(line).hexdigest()}
        entries["treadle.json"] = msgspec.json.encode(header)
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, content)
        return path

    for line, why in ((b'{"execution_id":"run","key":"a.b"}', "can't be a key of the context"),
                      (b'{"execution_id":"other","key":"variables.a"}', "parts of another execution"),
                      (b'{"execution_id":"run","key":"variables.a"}\n' * 2, "its cells are not those")):
        with pytest.raises(StoreCorrupt, match=why):
            import_execution(make(), changed(line))


# Pruned


def over(name: str) -> ExecutionCell:
    return msgspec.structs.replace(an_execution(name), seq=2, status=ExecutionStatus.COMPLETED, ended_at=1.0)


def held_and_ended(store: Store, blob: Blob) -> None:
    """An execution that has ended and one that runs; the context of each names a blob."""
    for name in ("old", "live"):
        lease = store.create(an_execution(name), "", this_owner(), 15)
        key = a_key("artifacts.file", 1, codec.encode(blob), execution_id=name)
        batch = context_batch(key)
        if name == "old":
            batch.executions, batch.released = [over(name)], [lease]
        store.apply(batch)


def test_a_prune_deletes_the_context_and_what_only_it_named(make: Maker) -> None:
    store = make()
    blob = store.place.put(b"content", "a.txt")
    os.utime(store.place.path(blob.digest), (1, 1))
    held_and_ended(store, blob)
    done = store.prune(Retention(older_s=1.0), 1000.0, thorough=True)
    assert done.execution_ids == ["old"] and store.context("old") == []
    assert len(store.context("live")) == 1 and store.blob(blob.digest) == b"content"
    store.apply(Batch([], [over("live")], released=[Lease("live", 1)]))
    done = store.prune(Retention(older_s=1.0), 1000.0, thorough=False)
    assert done.execution_ids == ["live"] and done.blobs == 1
    with pytest.raises(KeyError):
        store.blob(blob.digest)


def test_a_large_context_is_pruned_in_portions(tmp_path: Path) -> None:
    store = open_store(tmp_path / "s.db")
    lease = store.create(an_execution("run"), "", this_owner(), 15)
    batch = context_batch(*(a_key(f"variables.n{k}", k + 1) for k in range(3000)))
    batch.executions, batch.released = [over("run")], [lease]
    store.apply(batch)
    assert store.prune(Retention(older_s=1.0), 1000.0).execution_ids == ["run"]
    assert store.context("run") == []
    file = io.BytesIO()
    store.create(an_execution("run"), "", this_owner(), 15)
    export_execution(store, "run", file)  # without an entry for what is not there
    assert "context.jsonl" not in zipfile.ZipFile(file).namelist()
    store.close()


def test_a_fork_saves_the_blobs_that_its_context_names(make: Maker) -> None:
    store = make()
    blob = store.place.put(b"content", "a.txt")
    os.utime(store.place.path(blob.digest), (1, 1))
    key = a_key("artifacts.file", 1, codec.encode(blob), execution_id="fork")
    store.apply(Batch([], created=[(an_execution("fork"), "")], begun_context=[key], owner=this_owner()))
    store.prune(Retention(older_s=1.0), 1000.0)
    assert store.context("fork") == [key] and store.blob(blob.digest) == b"content"
