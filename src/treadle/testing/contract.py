"""What every store must do, as a suite for pytest.

    class TestMyStore(StoreContract):
        @pytest.fixture
        def opener(self, tmp_path):
            return lambda: MyStore(tmp_path / "state")

`opener` opens the same state again and again, as several processes would; its stores are closed by the suite.
Every `test_…` says in one sentence what must be true.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import msgspec

from treadle.errors import LeaseHeld, NoSuchExecution, StoreClosed
from treadle.state.cell import ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Batch, Lease, Signal, Store
from treadle.store.owner import this_owner

Opener = Callable[[], Store]

FULL_CELL = NodeState(
    "run", "sub[3]/päth", "2.1", 3, 1, 7, NodeStatus.FAILED, 1.5, 1790000000.123456, 3.25, 4.125,
    b'{"a":"\\u0000\xc3\xa9"}', "ab" * 32, "text", b'{"m":1}',
    ErrorInfo("ValueError", "no \x00 'quotes' \u2028", "trace", "inner"), False,
    "true", "f00d", 2, "worker 1", "a -> b.c", b'{"kind":"answer"}', b"[1,2]", 4)
"""A cell with something in every field."""


def raised(kind: type[BaseException], call: Callable[[], object]) -> BaseException:
    """The error of that kind that a call raises; AssertionError if it raises none."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"no {kind.__name__} was raised")


def an_execution(execution_id: str = "run", created_at: float = 1.0, **fields: object) -> ExecutionCell:
    return ExecutionCell(execution_id, epoch=1, status=ExecutionStatus.RUNNING, name="demo", diagram="hash",
                         created_at=created_at, **fields)  # type: ignore[arg-type]


def a_cell(node_id: str, seq: int = 1, *, execution_id: str = "run", epoch: int = 1,
           status: NodeStatus = NodeStatus.RUNNING, **fields: object) -> NodeState:
    return NodeState(execution_id, node_id, epoch=epoch, seq=seq, status=status,
                     **fields)  # type: ignore[arg-type]


def by_node(cells: Sequence[NodeState]) -> dict[str, NodeState]:
    return {cell.node_id: cell for cell in cells}


class StoreContract:
    """See the module. Subclass it and give the fixture `opener`."""

    def test_what_was_written_is_read_back_to_the_last_field(self, opener: Opener) -> None:
        store, owner = opener(), this_owner()
        new = an_execution(inputs=b'{"x":1}', options=b'{"o":2}', parent="former", deadline_at=9.5)
        assert store.create(new, "source text", owner, 15) == Lease("run", 1, True)
        assert store.load("run") == (new, [])
        done = msgspec.structs.replace(new, seq=2, status=ExecutionStatus.FAILED, started_at=2.5,
                                       ended_at=3.5, output=b"[1]", blob="cd" * 32,
                                       error=ErrorInfo("E", "m"), round=2)
        written = store.apply(Batch([FULL_CELL, a_cell("plain")], [done]))
        assert (written.refused, written.failed, written.taken) == ({}, [], [])
        cell, cells = opener().load("run")
        assert cell == done
        assert by_node(cells) == by_node([FULL_CELL, a_cell("plain")])
        assert store.source("hash") == "source text"
        store.close()

    def test_an_id_is_taken_once(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "one", this_owner(), 15)
        assert "run" in str(raised(ValueError, lambda: store.create(an_execution(), "two", this_owner(), 15)))
        both = store.apply(Batch([], created=[(an_execution(), ""), (an_execution("new"), "")],
                                 owner=this_owner()))
        assert both.taken == ["run"]
        assert store.load("new")[0].execution_id == "new"
        assert store.source("hash") == "one"
        store.close()

    def test_a_cell_is_replaced_only_by_a_larger_version(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "", this_owner(), 15)
        later, earlier = a_cell("n", 3, output=b"3"), a_cell("n", 2, output=b"2", error=ErrorInfo("E", "old"))
        for cell in (later, earlier, later):
            store.apply(Batch([cell]))
        assert store.load("run")[1] == [later]
        ended = an_execution(seq=5, ended_at=5.0)
        for execution in (ended, an_execution(seq=4, ended_at=4.0)):
            store.apply(Batch([], [execution]))
        assert store.load("run")[0] == ended
        store.close()

    def test_keys_with_the_same_letters_are_different_keys(self, opener: Opener) -> None:
        store = opener()
        for name in ("a::b", "a"):
            store.create(an_execution(name), "", this_owner(), 15)
        one, two = a_cell("c", execution_id="a::b"), a_cell("b::c", execution_id="a")
        store.apply(Batch([one, two]))
        assert store.load("a::b")[1] == [one]
        assert store.load("a")[1] == [two]
        store.close()

    # Ownership

    def test_a_live_owner_keeps_its_execution_and_is_named(self, opener: Opener) -> None:
        store, other = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        refusal = raised(LeaseHeld, lambda: other.claim("run", this_owner(), 15))
        assert f"process {os.getpid()}" in str(refusal)
        store.close()
        other.close()

    def test_a_claim_raises_the_epoch_and_tells_how_the_former_owner_went(self, opener: Opener) -> None:
        store = opener()
        lease = store.create(an_execution(), "", this_owner(), 15)
        store.release([lease])
        assert store.claim("run", this_owner(), 0) == Lease("run", 2, True)
        assert store.claim("run", this_owner(), 15) == Lease("run", 3, False)  # a lease of no seconds is over
        store.close()

    def test_an_owner_that_is_dead_has_lost_its_lease_at_once(self, opener: Opener) -> None:
        store, me = opener(), this_owner()
        died = (msgspec.structs.replace(me, started=me.started + 1),  # the pid was given to another process
                msgspec.structs.replace(me, boot_id="before the reboot"))
        for number, ghost in enumerate(died):
            store.create(an_execution(f"run{number}"), "", ghost, 1000)
            assert store.claim(f"run{number}", me, 15) == Lease(f"run{number}", 2, False)
        elsewhere = msgspec.structs.replace(me, host="another host", pid=1)
        store.create(an_execution("far"), "", elsewhere, 1000)
        assert "another host" in str(raised(LeaseHeld, lambda: store.claim("far", me, 15)))
        store.close()

    def test_a_fenced_owner_is_refused_and_its_neighbour_is_not(self, opener: Opener) -> None:
        store, owner = opener(), this_owner()
        store.create(an_execution("mine"), "", owner, 15)
        store.create(an_execution("gone"), "", owner, 0)
        store.claim("gone", this_owner(), 15)
        kept = a_cell("a", execution_id="mine")
        end = an_execution("gone", seq=9, ended_at=9.0)
        written = store.apply(Batch([a_cell("a", execution_id="gone"), kept], [end]))
        assert written.refused == {"gone": 2}
        assert store.load("gone") == (an_execution("gone"), [])
        assert store.load("mine")[1] == [kept]
        unknown = store.apply(Batch([a_cell("a", execution_id="nobody"), a_cell("b", execution_id="mine")]))
        assert unknown.refused == {"nobody": 0}
        assert set(by_node(store.load("mine")[1])) == {"a", "b"}
        store.close()

    def test_a_release_by_a_fenced_owner_does_nothing(self, opener: Opener) -> None:
        store = opener()
        old = store.create(an_execution(), "", this_owner(), 0)
        store.claim("run", this_owner(), 15)
        store.release([old])
        raised(LeaseHeld, lambda: store.claim("run", this_owner(), 15))
        store.close()

    def test_a_renewed_lease_lives_on_and_a_lost_one_is_reported(self, opener: Opener) -> None:
        store, owner = opener(), this_owner()
        kept, lost = (store.create(an_execution(name), "", owner, 0) for name in ("kept", "lost"))
        store.claim("lost", this_owner(), 15)
        assert store.renew([kept, lost, Lease("nobody", 1)], owner, 15) == {"lost", "nobody"}
        raised(LeaseHeld, lambda: store.claim("kept", this_owner(), 15))
        store.close()

    def test_cells_and_the_lease_go_in_one_batch(self, opener: Opener) -> None:
        store, owner = opener(), this_owner()
        store.apply(Batch([a_cell("a")], created=[(an_execution(), "")], released=[Lease("run", 1)],
                          owner=owner, lease_s=15, sync=True))
        assert store.load("run")[1] == [a_cell("a")]
        assert store.claim("run", this_owner(), 15).clean
        store.close()

    # Signals

    def test_signals_wait_in_order_until_a_batch_consumes_them(self, opener: Opener) -> None:
        store, outside = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        sent = [outside.send(Signal("run", "signal", name="go", payload=b"%d" % n)) for n in range(3)]
        outside.send(Signal("run", "answer", node_id="ask", iteration="1", payload=b'"yes"', at=5.0))
        assert sent == sorted(sent)
        waiting = store.signals(["run"])
        assert [signal.payload for signal in waiting] == [b"0", b"1", b"2", b'"yes"']
        answer = waiting[-1]
        assert (answer.kind, answer.node_id, answer.iteration, answer.at) == ("answer", "ask", "1", 5.0)
        assert waiting[0].at > 0
        store.apply(Batch([a_cell("wait")], consumed=[sent[0], sent[2]]))
        assert [signal.payload for signal in store.signals(["run"])] == [b"1", b'"yes"']
        assert store.signals(["another"]) == []
        raised(NoSuchExecution, lambda: outside.send(Signal("rum", "cancel")))
        store.close()
        outside.close()

    def test_a_fenced_owner_consumes_no_signal(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "", this_owner(), 0)
        number = store.send(Signal("run", "signal", name="go"))
        store.claim("run", this_owner(), 15)
        store.apply(Batch([a_cell("wait")], consumed=[number]))
        assert [signal.id for signal in store.signals(["run"])] == [number]
        store.close()

    def test_the_version_tells_that_somebody_wrote(self, opener: Opener) -> None:
        store, outside = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        before = store.version()
        assert store.version() == before
        outside.send(Signal("run", "cancel"))
        assert store.version() != before
        store.close()
        outside.close()

    def test_the_last_signal_is_known_even_when_it_is_consumed(self, opener: Opener) -> None:
        store, outside = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        assert store.last_signal() == 0
        number = outside.send(Signal("run", "signal", name="go"))
        assert store.last_signal() == number
        store.apply(Batch([a_cell("wait")], consumed=[number]))
        assert store.last_signal() == number
        assert outside.send(Signal("run", "signal", name="go")) == store.last_signal() > number
        store.close()
        outside.close()

    # Looking

    def test_executions_are_listed_newest_first(self, opener: Opener) -> None:
        store = opener()
        for number in range(5):
            store.create(an_execution(f"run{number}", created_at=float(number)), "", this_owner(), 15)
        ended = msgspec.structs.replace(an_execution("run1", 1.0), seq=2, status=ExecutionStatus.COMPLETED)
        store.apply(Batch([], [ended]))

        def ids(**wanted: object) -> list[str]:
            return [one.cell.execution_id for one in store.executions(**wanted)]  # type: ignore[arg-type]

        assert ids() == ["run4", "run3", "run2", "run1", "run0"]
        assert ids(limit=2, before="run3") == ["run2", "run1"]
        assert ids(status=ExecutionStatus.COMPLETED) == ["run1"]
        assert ids(name="demo", limit=1) == ["run4"]
        assert ids(name="other") == []
        store.close()

    def test_a_summary_counts_the_last_attempt_of_every_node(self, opener: Opener) -> None:
        store, owner = opener(), this_owner()
        store.create(an_execution(), "", owner, 15)
        store.apply(Batch([
            a_cell("a", status=NodeStatus.FAILED), a_cell("a", attempt=2, status=NodeStatus.COMPLETED),
            a_cell("b", status=NodeStatus.FAILED), a_cell("c", iteration="1"),
            a_cell("c", iteration="2", status=NodeStatus.COMPLETED)]))
        line = store.summary("ru")  # the beginning of an id is enough
        assert (line.nodes, line.completed, line.failed) == (4, 2, 1)
        assert (line.owner, line.stale) == (owner, False)
        store.close()

    def test_an_execution_that_nobody_runs_is_stale(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "", this_owner(), 0)
        assert store.summary("run").stale
        assert store.summary("run").owner is None
        ended = msgspec.structs.replace(an_execution(), seq=2, status=ExecutionStatus.COMPLETED)
        store.apply(Batch([], [ended]))
        assert not store.summary("run").stale
        store.close()

    def test_a_wrong_id_is_answered_with_the_nearest(self, opener: Opener) -> None:
        store = opener()
        for name in ("report-1", "report-2"):
            store.create(an_execution(name), "", this_owner(), 15)
        assert "'report-2'" in str(raised(NoSuchExecution, lambda: store.load("repor-2")))
        raised(NoSuchExecution, lambda: store.claim("nothing like it", this_owner(), 15))
        raised(NoSuchExecution, lambda: store.summary("report"))  # which one?
        raised(NoSuchExecution, lambda: store.summary(""))
        raised(KeyError, lambda: store.source("no such hash"))
        store.close()

    # Blobs and the end

    def test_blobs_are_found_by_their_digest(self, opener: Opener) -> None:
        store, other = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        contents = [b"", b"small" * 10_000, bytes(range(256)) * 24_000]  # too large for a row
        blobs = [(hashlib.sha256(content).hexdigest(), content) for content in contents]
        for _ in range(2):
            store.apply(Batch([a_cell("n", blob=blobs[1][0])], blobs=blobs))
        assert [other.blob(digest) for digest, _ in blobs] == contents
        raised(KeyError, lambda: store.blob("ab" * 32))
        store.close()
        other.close()

    def test_a_closed_store_refuses_to_write(self, opener: Opener) -> None:
        store = opener()
        store.close()
        store.close()
        raised(StoreClosed, lambda: store.create(an_execution(), "", this_owner(), 15))
