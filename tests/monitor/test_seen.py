"""What the API knows of an execution that runs: each look takes what is new, and nothing gets lost."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from treadle.monitor.api.seen import Seen
from treadle.monitor.core import Monitor
from treadle.monitor.live.sources import Drawing
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import open_store
from treadle.store.base import Batch, Store
from treadle.store.owner import this_owner
from treadle.testing.contract import a_cell, an_execution

NOTHING = Drawing(None)
M = 2**20
RUNNING, COMPLETED = NodeStatus.RUNNING, NodeStatus.COMPLETED


def all_of(seen: Seen, store: Store) -> tuple[object, ...]:
    """All that can be asked of it."""
    paths = sorted(one.node_id for one in seen.newest(NOTHING, "*"))
    execution = seen.execution(NOTHING, store.summary("run"))
    metrics = replace(seen.metrics(lambda node: ()), path=(), rss_bytes=0)
    cells = sorted(seen.cells, key=lambda one: (one.node_id, one.iteration, one.attempt))
    return cells, paths, execution, seen.views(NOTHING, paths), metrics, seen.size


@pytest.mark.parametrize("url", ["memory:", "runs.db"])
@pytest.mark.parametrize("seed", range(6))
def test_many_looks_see_what_one_sees(url: str, seed: int, tmp_path: Path) -> None:
    store, random = open_store(url if url == "memory:" else str(tmp_path / url)), Random(seed)
    own = an_execution()
    lease = store.create(own, "", this_owner(), 60)
    seen, known = Seen("run"), dict[tuple[str, int], NodeState]()
    for turn in range(12):
        for _ in range(random.randrange(5)):
            path, attempt = random.choice(["a", "m", "m[0]", "m[1]", "s/x"]), random.choice([1, 1, 2])
            last = known.get((path, attempt))
            ended = random.random() < 0.5
            cell = a_cell(path, 1 if last is None else last.seq + 1, attempt=attempt, epoch=lease.epoch)
            begun = turn + random.randrange(M) / M  # sums of such are exact
            cell = replace(cell, status=COMPLETED if ended else RUNNING, started_at=begun,
                           ended_at=begun + random.randrange(M) / M if ended else None,
                           output=b"[1]" if ended else None)
            if last is None or not last.status.terminal:
                known[path, attempt] = cell
                store.apply(Batch([cell]))
        if turn == 8:  # somebody takes it over: all is read again
            store.release([lease])
            lease = store.claim("run", this_owner(), 60)
            own = replace(own, epoch=lease.epoch, seq=own.seq + 1, round=2)
            store.apply(Batch([], [own]))
        seen.look(store, store.summary("run").cell)
        if random.random() < 0.5:
            all_of(seen, store)  # mirrors and figures are made on the way
    own = replace(own, status=ExecutionStatus.COMPLETED, seq=own.seq + 1, ended_at=99.0)
    store.apply(Batch([], [own]))
    for _ in range(2):
        seen.look(store, store.summary("run").cell)
    assert all_of(seen, store) == all_of(Seen.of(*store.load("run")), store)
    store.close()


def test_a_fork_s_figures_leave_out_what_its_parent_did() -> None:
    own = replace(an_execution(), parent="before", started_at=100.0)
    kept = a_cell("a", status=COMPLETED, started_at=1.0, ended_at=11.0)
    done = a_cell("b", status=COMPLETED, started_at=101.0, ended_at=103.0)
    before = {"b": ["a"], "c": ["b"]}
    seen = Seen.of(own, [kept, done])
    found = seen.metrics(lambda node: before.get(node, ()))
    assert (found.critical_path, found.critical_s, found.elapsed_s) == (("b",), 2.0, 2.0)
    assert (found.total, found.busy_s, found.parallelism) == (1, 2.0, 1.0)
    seen = Seen.of(replace(own, parent=None), [kept, done])
    assert seen.metrics(lambda node: before.get(node, ())).critical_path == ("a", "b")


def test_the_figures_of_one_that_was_reopened_are_of_what_it_did_since() -> None:
    store = open_store("memory:")
    lease = store.create(replace(an_execution(), started_at=1.0), "", this_owner(), 60)
    first, second = (a_cell(name, epoch=lease.epoch, status=COMPLETED, started_at=at, ended_at=at + 2.0)
                     for name, at in (("a", 1.0), ("b", 1000.0)))
    store.apply(Batch([first]))
    seen, own = Seen("run"), store.summary("run").cell
    seen.look(store, own)
    assert seen.metrics(lambda node: ()).elapsed_s == 2.0
    store.apply(Batch([second], [replace(own, seq=own.seq + 1, round=2, started_at=999.0)]))
    seen.look(store, store.summary("run").cell)
    found = seen.metrics(lambda node: ["a"] if node == "b" else [])
    assert (found.critical_path, found.critical_s) == (("b",), 2.0)
    assert (found.elapsed_s, found.parallelism) == (2.0, 1.0)
    assert len(seen.cells) == 2


def test_what_takes_too_much_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store("memory:")
    for name in ("one", "two"):
        store.create(an_execution(name), "", this_owner(), 60)
        store.apply(Batch([a_cell("a", execution_id=name, output=b'"%b"' % (b"x" * 5000))]))
    monitor = Monitor(store)
    first = monitor.seen("one")
    assert monitor.seen("one") is first
    monkeypatch.setattr("treadle.monitor.core.KEPT_BYTES_MAX", 8000)
    assert len(monitor.seen("two").cells) == 1
    assert monitor.seen("one") is not first


def test_sizes_are_found_once_and_told_in_time() -> None:
    store = open_store("memory:")
    cells = [an_execution(f"run{number}") for number in range(25)]
    for cell in cells:
        store.create(cell, "", this_owner(), 60)
    monitor = Monitor(store)
    assert len(monitor.sizes(cells, for_s=-1.0)) == 0
    assert len(monitor.sizes(cells)) == 25
    store.apply(Batch([a_cell("a", execution_id="run0", output=b"[1]")]))
    assert len(monitor.sizes(cells, for_s=-1.0)) == 25


def test_who_asked_before_the_first_node_hears_of_it(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "early.db"))
    lease = store.create(an_execution(), "", this_owner(), 60)
    seen = Seen("run")
    for cells in ([], [a_cell("a", 1, epoch=lease.epoch)], [a_cell("b", 1, epoch=lease.epoch)]):
        store.apply(Batch(cells))
        seen.look(store, store.summary("run").cell)
        all_of(seen, store)
    assert all_of(seen, store)[1] == ["a", "b"]
    store.close()
