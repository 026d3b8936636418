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
from functools import partial
from io import BytesIO

import msgspec

from treadle.errors import LeaseHeld, LeaseLost, NoSuchExecution, StoreClosed, StoreCorrupt
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.base import Arriving, Batch, Cached, Lease, LogLine, Signal, Store
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


def a_line(text: str, node_id: str = "n", *, execution_id: str = "run", attempt: int = 1, at: float = 1.0,
           stream: str = "stdout", **fields: object) -> LogLine:
    return LogLine(execution_id, node_id, "1", attempt, at, stream, text, epoch=1,
                   **fields)  # type: ignore[arg-type]


def a_key(key: str, seq: int = 1, value: bytes | None = b"1", *, execution_id: str = "run",
          epoch: int = 1) -> ContextCell:
    return ContextCell(execution_id, key, epoch, seq, value, "n#1", 2.5)


def context_batch(*cells: ContextCell) -> Batch:
    return Batch([], context={(one.execution_id, one.key): one for one in cells})


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

    def test_cells_that_an_execution_begins_with_come_with_its_row(self, opener: Opener) -> None:
        store = opener()
        begun = [a_cell("a", status=NodeStatus.COMPLETED, output=b"1"), a_cell("b")]
        store.apply(Batch([], created=[(an_execution(parent="old"), "source")], begun=begun,
                          owner=this_owner()))
        assert by_node(store.load("run")[1]) == by_node(begun)

    def test_cells_do_not_go_to_another_execution_that_has_the_id(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "source", this_owner(), 15)
        written = store.apply(Batch([a_cell("mine")], created=[(an_execution(), "source")],
                                    begun=[a_cell("theirs")], owner=this_owner()))
        assert written.taken == ["run"]
        assert list(by_node(store.load("run")[1])) == ["mine"]

    def test_a_claimed_execution_may_be_given_another_diagram(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "source", this_owner(), 15)
        store.release([Lease("run", 1)])
        lease = store.claim("run", this_owner(), 15)
        cell = msgspec.structs.replace(an_execution(), epoch=2, seq=2, diagram="other", inputs=b'{"n":1}')
        store.redraw(lease, cell, "another source")
        assert store.load("run")[0] == cell
        assert (store.source("hash"), store.source("other")) == ("source", "another source")

    def test_a_fenced_owner_does_not_change_the_diagram(self, opener: Opener) -> None:
        store = opener()
        lease = store.create(an_execution(), "source", this_owner(), 15)
        store.release([lease])
        store.claim("run", this_owner(), 15)
        cell = msgspec.structs.replace(an_execution(), seq=2, diagram="other")
        raised(LeaseLost, lambda: store.redraw(lease, cell, "another source"))
        assert store.load("run")[0].diagram == "hash"

    def test_results_for_other_executions_are_found_until_they_are_forgotten(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "source", this_owner(), 15)
        full = Cached("k1", "sub/a[3]", "demo", "run", 5.0, b'{"a":"\\u0000"}', None, "text", b'{"m":1}',
                      "true")
        other = Cached("k2", "b", "demo", "run", 6.0, None, "ab" * 32)
        store.apply(Batch([a_cell("a")], cached=[full, other]))
        assert store.cached("k1") == full
        assert store.cached("k3") is None
        assert [one.key for one in opener().cached_results()] == ["k2", "k1"]
        assert [one.key for one in store.cached_results("sub/a")] == ["k1"]
        assert store.cached_results("su") == []
        newer = msgspec.structs.replace(full, at=7.0, output=b"2")
        store.apply(Batch([], cached=[newer]))
        assert store.cached("k1") == newer
        store.forget(["k1"])
        assert [one.key for one in store.cached_results()] == ["k2"]

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

    # Logs

    def test_lines_are_read_back_as_they_were(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution(), "", this_owner(), 15)
        lines = [a_line("first", at=2.0), a_line("half \ud800, null \0, \u2028 'quotes\"", at=1.0),
                 a_line("record\nof two lines", at=3.0, stream="log", level="INFO", logger="app")]
        store.apply(Batch([], logs=lines[:1]))
        store.apply(Batch([a_cell("n")], logs=lines[1:], blobs=[("ab" * 32, b"makes it take the long way")]))
        plain = [msgspec.structs.replace(line, epoch=0) for line in lines]
        found = opener().new_logs("run", 0)
        assert [msgspec.structs.replace(line, id=0) for line in found] == plain
        numbers = [line.id for line in found]
        assert numbers == sorted(set(numbers)) and numbers[0] > 0
        assert store.new_logs("run", numbers[0]) == found[1:]
        assert store.new_logs("run", 0, limit=1) == found[:1]
        assert store.logs("run") == [found[1], found[0], found[2]]
        assert store.logs("run", since=(1.0, numbers[1]), limit=1) == [found[0]]
        store.close()

    def test_a_node_stands_for_what_is_in_it(self, opener: Opener) -> None:
        store = opener()
        for name in ("run", "other"):
            store.create(an_execution(name), "", this_owner(), 15)
        store.apply(Batch([], logs=[
            a_line("1", "sub"), a_line("2", "sub/in"), a_line("3", "sub[7]"), a_line("4", "sub2"),
            a_line("5", "sub", attempt=2), a_line("6", "sub", execution_id="other")]))

        def texts(*given: object, **wanted: object) -> str:
            return "".join(line.text for line in store.logs(*given, **wanted))  # type: ignore[arg-type]

        assert texts("run", node="sub") == "1235"
        assert texts("run", node="sub", attempt=2) == "5"
        assert texts("run", attempt=1) == "1234"
        assert texts("other") == "6"
        assert texts("nobody") == texts("run", node="su") == ""
        assert [line.text for line in store.new_logs("run", 0, node="sub[7]", attempt=1)] == ["3"]
        store.close()

    def test_a_fenced_owner_leaves_no_line(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution("mine"), "", this_owner(), 15)
        store.create(an_execution("gone"), "", this_owner(), 0)
        store.claim("gone", this_owner(), 15)
        written = store.apply(Batch([], logs=[a_line("late", execution_id="gone"),
                                              a_line("in time", execution_id="mine")]))
        assert written.refused == {"gone": 2}
        assert store.logs("gone") == []
        assert [line.text for line in store.logs("mine")] == ["in time"]
        store.close()

    # The shared context

    def test_keys_of_the_context_are_replaced_only_by_a_larger_version(self, opener: Opener) -> None:
        store, other = opener(), opener()
        store.create(an_execution(), "", this_owner(), 15)
        kept = a_key("artifacts.päth 'x'", 3, b'{"$treadle":{"$":"bytes","v":"AA=="}}')
        gone = a_key("variables.a", 4, None)
        for cells in ((a_key("variables.a", 2), kept), (gone,), (a_key("variables.a", 3, b"3"), kept)):
            assert store.apply(context_batch(*cells)).refused == {}
        assert other.context("run") == [kept, gone]
        assert store.context("nobody") == []
        both = context_batch(a_key("variables.b", 5))
        both.cells = [a_cell("n")]
        store.apply(both)
        assert store.load("run")[1] == [a_cell("n")]
        assert [one.key for one in store.context("run")] == [kept.key, "variables.a", "variables.b"]
        store.close()
        other.close()

    def test_a_fenced_owner_writes_no_context(self, opener: Opener) -> None:
        store = opener()
        store.create(an_execution("mine"), "", this_owner(), 15)
        store.create(an_execution("gone"), "", this_owner(), 0)
        store.claim("gone", this_owner(), 15)
        mine = a_key("variables.a", execution_id="mine")
        assert store.apply(context_batch(a_key("variables.a", execution_id="gone"), mine)).refused == {
            "gone": 2}
        assert (store.context("gone"), store.context("mine")) == ([], [mine])
        store.close()

    def test_a_context_that_an_execution_begins_with_comes_with_its_row(self, opener: Opener) -> None:
        store = opener()
        for key in ("variables.ours", "variables.theirs"):
            written = store.apply(Batch([], created=[(an_execution(), "source")], owner=this_owner(),
                                        begun_context=[a_key(key)]))
        assert written.taken == ["run"]
        assert store.context("run") == [a_key("variables.ours")]
        store.adopt(an_execution("far"), [], "", context=[a_key("variables.a", execution_id="far", epoch=4)])
        assert store.claim("far", this_owner(), 15).epoch == 5
        assert [one.epoch for one in store.context("far")] == [4]
        store.close()

    # Looking

    def test_executions_are_listed_newest_first(self, opener: Opener) -> None:
        store = opener()
        for at, number in enumerate((0, 1, 9, 3, 4)):  # the order is that of their times, not of their ids
            store.create(an_execution(f"run{number}", created_at=float(at)), "", this_owner(), 15)
        ended = msgspec.structs.replace(an_execution("run1", 1.0), seq=2, status=ExecutionStatus.COMPLETED)
        store.apply(Batch([], [ended]))

        def ids(**wanted: object) -> list[str]:
            return [one.cell.execution_id for one in store.executions(**wanted)]  # type: ignore[arg-type]

        assert ids() == ["run4", "run3", "run9", "run1", "run0"]
        assert ids(limit=2, before="run3") == ids(limit=2, before="run3", bare=True) == ["run9", "run1"]
        assert ids(before="run9") == ["run1", "run0"] and ids(before="gone") == []
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
            a_cell("c", iteration="2", status=NodeStatus.COMPLETED),
            a_cell("d", status=NodeStatus.SKIPPED), a_cell("b[0]"), a_cell("b[0]/a"), a_cell("c/a")]))
        line = store.summary("ru")  # the beginning of an id is enough
        assert (line.nodes, line.completed, line.failed, line.ended, line.roots) == (8, 2, 1, 4, 4)
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
        for digest, content in blobs:
            with other.open_blob(digest) as file:
                assert file.read() == content
        raised(KeyError, lambda: store.blob("ab" * 32))
        raised(KeyError, lambda: store.open_blob("ab" * 32))
        store.close()
        other.close()

    def test_an_execution_from_another_store_is_taken_as_it_is_or_not_at_all(self, opener: Opener) -> None:
        store, other = opener(), opener()
        contents = [b"small", bytes(range(256)) * 24_000]
        blobs = [Arriving(hashlib.sha256(one).hexdigest(), len(one), partial(BytesIO, one))
                 for one in contents]
        cells = [a_cell("n", epoch=5, blob=blobs[0].digest), a_cell("m", epoch=3, blob=blobs[1].digest)]
        signals = [Signal("run", "signal", name=name, payload=b"1", at=2.5) for name in ("b", "a")]
        for broken in reversed(blobs):
            wrong = [msgspec.structs.replace(one, open=partial(BytesIO, b"wrong")) if one is broken else one
                     for one in blobs]
            raised(StoreCorrupt, lambda wrong=wrong: store.adopt(  # type: ignore[misc]
                an_execution(), cells, "source", signals=signals, blobs=wrong))
            assert store.executions() == []
        store.adopt(an_execution(), cells, "source", signals=signals, blobs=blobs)
        assert other.load("run")[0] == an_execution()
        assert by_node(other.load("run")[1]) == by_node(cells)
        assert [other.blob(one.digest) for one in blobs] == contents
        assert [(one.name, one.at) for one in other.signals(["run"])] == [("b", 2.5), ("a", 2.5)]
        assert other.source("hash") == "source"
        taken = raised(ValueError, lambda: other.adopt(an_execution(), [a_cell("new", epoch=9)], "source"))
        assert "'run'" in str(taken)
        assert store.apply(Batch([a_cell("n", 9)])).refused == {"run": 5}  # it has no owner yet
        assert store.claim("run", this_owner(), 15) == Lease("run", 6, True)
        assert set(by_node(store.load("run")[1])) == {"n", "m"}
        store.close()
        other.close()

    def test_a_closed_store_refuses_to_write(self, opener: Opener) -> None:
        store = opener()
        store.close()
        store.close()
        raised(StoreClosed, lambda: store.create(an_execution(), "", this_owner(), 15))
