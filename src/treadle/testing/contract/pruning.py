"""What every store must do when it is pruned: the second half of `treadle.testing.contract`, used alike."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from random import Random

import msgspec

from treadle.config import STATUSES, Retention
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.state.status import ExecutionStatus
from treadle.store.base import Batch, Signal, Store
from treadle.store.owner import this_owner
from treadle.testing.contract.stores import (
    Opener,
    a_cell,
    a_key,
    a_line,
    an_execution,
    context_batch,
    raised,
)

NOW = 1000.0


def blob_of(content: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(content).hexdigest(), content


def ended(store: Store, execution_id: str, at: float = 1.0, *, status: str = "completed", name: str = "demo",
          diagram: str = "hash", blobs: Sequence[tuple[str, bytes]] = (), parent: str | None = None,
          output: bytes | None = None, more: int = 0) -> None:
    """Write an execution that nobody runs any more: created and ended at that instant, with a cell for each
    blob, one that has `output`, and so many more."""
    cell = msgspec.structs.replace(an_execution(execution_id, at, parent=parent), name=name, diagram=diagram)
    lease = store.create(cell, f"source of {diagram}", this_owner(), 15)
    last = msgspec.structs.replace(cell, seq=2, status=ExecutionStatus(status),
                                   ended_at=at if ExecutionStatus(status).terminal else None)
    cells = [a_cell(f"n{number}", execution_id=execution_id, blob=digest)
             for number, (digest, _) in enumerate(blobs)]
    cells += [a_cell(f"more{number}", execution_id=execution_id, output=b"%d" % number)
              for number in range(more)]
    store.apply(Batch([*cells, a_cell("last", execution_id=execution_id, output=output)], [last],
                      blobs=list(blobs), released=[lease]))


def left(store: Store) -> list[str]:
    """The ids of the executions that are there, sorted."""
    return sorted(one.cell.execution_id for one in store.executions())


class PruneContract:
    """See `treadle.testing.contract`. Subclass it and give the fixture `opener`."""

    def test_what_ended_too_long_ago_goes_with_all_that_is_its_own(self, opener: Opener) -> None:
        store = opener()
        large, shared = blob_of(b"large" * 10_000), blob_of(b"shared" * 10_000)
        ended(store, "old", 10.0, diagram="its own", blobs=[large, shared])
        ended(store, "young", 20.0, blobs=[shared])
        store.send(Signal("old", "signal", name="go"))
        done = store.prune(Retention(older_s=985.0), NOW)
        assert (done.execution_ids, done.cells, done.blobs, done.diagrams) == (["old"], 3, 1, 1)
        assert left(store) == ["young"]
        assert store.signals(["old"]) == []
        assert store.blob(shared[0]) == shared[1]
        raised(KeyError, lambda: store.blob(large[0]))
        raised(KeyError, lambda: store.source("its own"))
        assert store.source("hash") == "source of hash"
        store.close()

    def test_so_many_are_kept_the_newest(self, opener: Opener) -> None:
        store = opener()
        for number in range(5):
            ended(store, f"run{number}", float(number))
        assert store.prune(Retention(keep=2), NOW).execution_ids == ["run0", "run1", "run2"]
        assert left(store) == ["run3", "run4"]
        assert store.prune(Retention(keep=2), NOW).execution_ids == []
        assert store.prune(Retention(keep=0), NOW).execution_ids == ["run3", "run4"]
        store.close()

    def test_some_go_by_their_ids(self, opener: Opener) -> None:
        store = opener()
        for number in range(3):
            ended(store, f"run{number}", float(number))
        ended(store, "waits", 3.0, status="suspended")
        chosen = Retention(execution_ids=("run1", "waits", "nobody"))
        assert store.prune(chosen, NOW).execution_ids == ["run1"]  # what hasn't ended must be named as such
        whatever = Retention(execution_ids=("waits",), status=STATUSES)
        assert store.prune(whatever, NOW).execution_ids == ["waits"]
        assert left(store) == ["run0", "run2"]
        store.close()

    def test_each_limit_holds_on_its_own(self, opener: Opener) -> None:
        store = opener()
        for number in range(4):
            ended(store, f"run{number}", number * 100.0)
        assert store.prune(Retention(keep=3, older_s=850.0), NOW).execution_ids == ["run0", "run1"]
        store.close()

    def test_the_oldest_go_until_the_store_is_small_enough(self, opener: Opener) -> None:
        store = opener()
        for number in range(6):
            ended(store, f"run{number}", float(number), blobs=[blob_of(Random(number).randbytes(300_000))])
        policy = Retention(size_bytes_max=1_000_000)
        foretold = store.prune(policy, NOW, dry_run=True)
        done = store.prune(policy, NOW)
        assert foretold.execution_ids == done.execution_ids
        assert done.execution_ids == [f"run{number}" for number in range(len(done.execution_ids))]
        assert 2 <= len(left(store)) <= 3
        assert done.bytes_freed > 800_000
        store.close()

    def test_a_size_has_all_that_is_an_executions_own(self, opener: Opener) -> None:
        store = opener()
        shared, inner = blob_of(Random(1).randbytes(50_000)), blob_of(Random(2).randbytes(70_000))
        naming = codec.encode(Blob(inner[0], len(inner[1]), "inner.bin"))
        ended(store, "plain")
        ended(store, "output", output=b'"%b"' % (b"o" * 10_000))
        ended(store, "blobs", blobs=[shared, shared, inner])
        ended(store, "shares", blobs=[shared])
        ended(store, "said")
        store.apply(Batch([], logs=[a_line("s" * 20_000, execution_id="said")]))
        ended(store, "context")
        long = b'"%b"' % (b"c" * 30_000)
        store.apply(context_batch(a_key("artifacts.a", value=long, execution_id="context")))
        ended(store, "named", blobs=[inner], output=naming)
        names = [one.cell.execution_id for one in store.executions()]
        sizes = store.sizes([*names, "nobody"])
        assert list(sizes) == names
        own = {name: size - sizes["plain"] for name, size in sizes.items()}
        assert 10_000 <= own["output"] < 18_000
        assert 50_000 + 70_000 <= own["blobs"] < 128_000  # each once, in it
        assert 50_000 <= own["shares"] < 55_000  # and in full in every other
        assert 20_000 <= own["said"] < 32_000
        assert 30_000 <= own["context"] < 45_000
        assert 70_000 <= own["named"] < 76_000
        assert 1000 < sizes["plain"] < 3000
        assert opener().sizes([]) == {}
        store.close()

    def test_only_the_chosen_are_considered(self, opener: Opener) -> None:
        store = opener()
        ended(store, "a", status="failed")
        ended(store, "b", status="completed")
        ended(store, "c", status="failed", name="other")
        assert store.prune(Retention(), NOW).execution_ids == []
        assert store.prune(Retention(status=("failed",), name="demo"), NOW).execution_ids == ["a"]
        assert store.prune(Retention(name="other", keep=1), NOW).execution_ids == []
        assert store.prune(Retention(name="other"), NOW).execution_ids == ["c"]
        assert left(store) == ["b"]
        store.close()

    def test_what_has_not_ended_goes_only_when_it_is_asked_for(self, opener: Opener) -> None:
        store = opener()
        for status in ("suspended", "running", "cancelled"):
            ended(store, status, status=status)
        assert store.prune(Retention(keep=0), NOW).execution_ids == ["cancelled"]
        assert store.prune(Retention(status=("suspended",)), NOW).execution_ids == ["suspended"]
        assert left(store) == ["running"]  # nobody runs it: a resume would go on with it
        assert store.prune(Retention(status=("running",)), NOW).execution_ids == ["running"]
        store.close()

    def test_what_somebody_runs_never_goes(self, opener: Opener) -> None:
        store, other = opener(), opener()
        ended(store, "again", status="failed")
        store.claim("again", this_owner(), 15)  # a resume, say
        store.create(an_execution("live"), "", this_owner(), 15)
        every = Retention(status=("failed", "running"))
        assert other.prune(every, NOW).execution_ids == []
        assert left(store) == ["again", "live"]
        store.create(an_execution("lost"), "", this_owner(), 0)
        assert other.prune(every, NOW).execution_ids == ["lost"]
        store.close()
        other.close()

    def test_the_parent_of_what_still_goes_on_stays(self, opener: Opener) -> None:
        store = opener()
        ended(store, "first")
        ended(store, "second")
        ended(store, "child", status="suspended", parent="first")
        ended(store, "grandchild", parent="second")
        assert set(store.prune(Retention(keep=0), NOW).execution_ids) == {"second", "grandchild"}
        assert left(store) == ["child", "first"]
        store.close()

    def test_a_blob_that_a_value_names_stays(self, opener: Opener) -> None:
        store = opener()
        inner, outer = blob_of(b"inner" * 10_000), blob_of(b"outer" * 10_000)
        names = b'{"$treadle": {"$": "blob", "digest": "%s"}}'
        large = blob_of(names % outer[0].encode() + b" " * 20_000)
        ended(store, "made", 1.0, blobs=[inner, outer])
        ended(store, "keeps", 2.0, output=names % inner[0].encode(), blobs=[large])
        assert store.prune(Retention(keep=1), NOW).execution_ids == ["made"]
        assert (store.blob(inner[0]), store.blob(outer[0])) == (inner[1], outer[1])
        assert store.prune(Retention(keep=0), NOW).blobs == 3
        store.close()

    def test_a_dry_run_deletes_nothing(self, opener: Opener) -> None:
        store = opener()
        ended(store, "run", blobs=[blob_of(Random(1).randbytes(70_000))])
        done = store.prune(Retention(keep=0), NOW, dry_run=True)
        assert (done.execution_ids, done.cells) == (["run"], 2)
        assert done.bytes_freed >= 70_000
        assert left(store) == ["run"]
        store.close()

    def test_a_pruned_id_is_free_again(self, opener: Opener) -> None:
        store = opener()
        ended(store, "run", output=b"1")
        store.prune(Retention(keep=0), NOW)
        store.create(an_execution(), "", this_owner(), 15)
        assert store.load("run") == (an_execution(), [])
        store.close()
