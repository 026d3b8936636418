"""What every store must tell those who look on: the part of the suite in `treadle.testing.contract` that is
about `Store.changes`."""

from __future__ import annotations

from datetime import datetime

import msgspec

from treadle.errors import NoSuchExecution
from treadle.state import codec
from treadle.state.cell import ErrorInfo, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.state.steps import Gist, gist_of
from treadle.store.base import NEWEST, Batch, Changes, Lease, Store, Tally, bare
from treadle.store.owner import this_owner
from treadle.testing.contract.stores import (
    FULL_CELL,
    Opener,
    a_cell,
    a_key,
    a_line,
    an_execution,
    by_node,
    context_batch,
    raised,
)

_replace = msgspec.structs.replace
DONE = NodeStatus.COMPLETED


def begun(opener: Opener) -> Store:
    store = opener()
    store.create(an_execution(inputs=b'{"x":1}', options=b'{"o":2}'), "", this_owner(), 15)
    return store


def nodes(changes: Changes) -> list[str]:
    return sorted(one.node_id for one in changes.cells)


class ChangesContract:
    """See `treadle.testing.contract`. Subclass it and give the fixture `opener`."""

    def test_the_first_look_gives_everything_bare(self, opener: Opener) -> None:
        store = begun(opener)
        wide = a_cell("wide", items=b'[1,{"a":[2,3]},"x"]')
        inner = a_cell("inner", items=b'{"a":1}')
        store.apply(Batch([FULL_CELL, wide, inner, a_cell("plain", output=b"[1]")]))
        seen = opener().changes("run")
        assert seen.complete
        assert seen.own == an_execution()
        assert (str(seen.owner), seen.stale) == (str(this_owner()), False)
        found = by_node(seen.cells)
        assert found["plain"] == a_cell("plain", output=b"")
        assert found["wide"].items == b"3"
        assert found["inner"].items is None
        assert found[FULL_CELL.node_id] == _replace(bare(FULL_CELL), error=ErrorInfo(
            "ValueError", "no \x00 'quotes' \u2028", node="inner"))
        store.close()

    def test_the_gist_of_steps_is_told(self, opener: Opener) -> None:
        store = begun(opener)
        meta = codec.encode({"person": "Ann", "steps": [
            {"name": "model 1", "kind": "model", "value": "x" * 999, "meta": {"tokens": 7, "cost": 0.5}},
            {"name": "model 2", "attempt": 2, "value": None, "meta": {"tokens": 11}}]})
        dated = codec.encode({"steps": [{"name": "a", "value": datetime(2026, 1, 1)}], "partial": "so far"})
        store.apply(Batch([a_cell("a", meta=meta), a_cell("b", meta=dated),
                           a_cell("begun", meta=b'{"steps":[],"partial":"so"}'),
                           a_cell("c", meta=codec.encode({"steps": 3}))]))
        found = by_node(opener().changes("run").cells)
        assert gist_of(found["a"].meta) == Gist(2, 7.0, 0.5)
        assert gist_of(found["b"].meta) == Gist(1, partial=6)
        assert gist_of(found["begun"].meta) == Gist(0, partial=2)
        assert found["c"].meta is None
        assert bare(found["a"]) == found["a"]
        store.close()

    def test_a_later_look_gives_what_is_new(self, opener: Opener) -> None:
        store, looking = begun(opener), opener()
        store.apply(Batch([a_cell("a"), a_cell("b"), a_cell("done", status=DONE)]))
        seen = looking.changes("run")
        again = looking.changes("run", seen.mark)
        assert (again.cells, again.complete) == ([], False)
        store.apply(Batch([a_cell("b", 2, status=DONE), a_cell("c")]))
        seen = looking.changes("run", again.mark)
        assert nodes(seen) == ["b", "c"]
        assert by_node(seen.cells)["b"].version == (1, 2)
        store.apply(Batch([a_cell("a", 2), a_cell("c", 2, status=DONE)]))
        seen = looking.changes("run", seen.mark)
        assert nodes(seen) == ["a", "c"]
        assert looking.changes("run", seen.mark).cells == []
        store.close()
        looking.close()

    def test_a_look_gives_nothing_of_other_executions(self, opener: Opener) -> None:
        store = begun(opener)
        store.create(an_execution("other"), "", this_owner(), 15)
        seen = store.changes("run")
        store.apply(Batch([a_cell("a"), a_cell("b", execution_id="other")]))
        store.apply(context_batch(a_key("variables.n", execution_id="other")))
        store.apply(Batch([], logs=[a_line("theirs", execution_id="other")]))
        seen = store.changes("run", seen.mark)
        assert (nodes(seen), seen.context, seen.last_log) == (["a"], [], 0)
        store.close()

    def test_after_an_end_or_a_new_round_everything_comes_again(self, opener: Opener) -> None:
        store = begun(opener)
        store.apply(Batch([a_cell("a", status=DONE)]))
        seen = store.changes("run")
        ended = an_execution(seq=2, ended_at=5.0)
        store.apply(Batch([], [_replace(ended, status=ExecutionStatus.FAILED, error=ErrorInfo("E", "why"))]))
        seen = store.changes("run", seen.mark)
        assert (nodes(seen), seen.complete) == (["a"], True)
        assert (seen.own.status, seen.own.error) == (ExecutionStatus.FAILED, ErrorInfo("E", "why"))
        assert not store.changes("run", seen.mark).complete
        store.apply(Batch([], [_replace(ended, seq=3, ended_at=None, round=2)]))
        assert store.changes("run", seen.mark).complete
        store.close()

    def test_a_given_back_execution_is_stale_while_it_says_running(self, opener: Opener) -> None:
        store = begun(opener)
        seen = store.changes("run")
        assert not seen.stale
        store.release([Lease("run", 1)])
        seen = store.changes("run", seen.mark)
        assert (seen.owner, seen.stale) == (None, True)
        store.close()

    def test_keys_of_the_context_come_once(self, opener: Opener) -> None:
        store = begun(opener)
        store.apply(context_batch(a_key("variables.a", 1), a_key("variables.b", 2)))
        seen = store.changes("run")
        assert [one.key for one in seen.context] == ["variables.a", "variables.b"]
        store.apply(context_batch(a_key("variables.a", 3, None)))
        seen = store.changes("run", seen.mark)
        assert seen.context == [a_key("variables.a", 3, None)]
        assert store.changes("run", seen.mark).context == []
        store.close()

    def test_the_newest_line_is_named(self, opener: Opener) -> None:
        store = begun(opener)
        assert store.changes("run").last_log == 0
        store.apply(Batch([], logs=[a_line("one"), a_line("two")]))
        assert store.changes("run").last_log == store.logs("run")[-1].id
        store.close()

    def test_without_cells_the_mark_stays(self, opener: Opener) -> None:
        store = begun(opener)
        first = store.changes("run")
        store.apply(Batch([a_cell("a")]))
        seen = store.changes("run", first.mark, cells=False)
        assert (seen.cells, seen.complete) == ([], False)
        assert nodes(store.changes("run", seen.mark)) == ["a"]
        store.close()

    def test_many_cells_come_in_one_look(self, opener: Opener) -> None:
        store = begun(opener)
        cells: list[NodeState] = [a_cell(f"n[{k}]", status=DONE if k % 2 else NodeStatus.SUSPENDED)
                                  for k in range(5000)]
        store.apply(Batch(cells))
        seen = store.changes("run")
        assert by_node(seen.cells) == by_node(cells)
        store.apply(Batch([_replace(one, seq=2, status=DONE) for one in cells[:4000:2]]))
        assert nodes(store.changes("run", seen.mark)) == sorted(one.node_id for one in cells[:4000:2])
        store.close()

    def test_what_is_counted_need_not_be_read(self, opener: Opener) -> None:
        store, looking = begun(opener), opener()
        store.apply(Batch([a_cell("early", status=DONE)]))
        mark = looking.changes("run").mark
        items = [a_cell(f"each[{k}]", status=DONE) for k in range(100)]
        inner = [a_cell("each[7]/b[1]/c", status=NodeStatus.FAILED), a_cell("sub/part2/d9", status=DONE)]
        tried = a_cell("tried", status=NodeStatus.RETRYING)
        store.apply(Batch([*items, *inner, a_cell("open"), tried, a_cell("x", iteration="1"),
                           a_cell("x", iteration="2")]))
        seen = looking.changes("run", mark, counted=Tally())
        assert len(seen.cells) <= NEWEST < len(items)
        assert not seen.complete
        assert seen.tally is not None
        assert seen.tally.groups == {"": {"completed": 1, "running": 3, "retrying": 1},
                                     "each": {"completed": 100, "failed": 1}, "sub/part2": {"completed": 1}}
        store.apply(Batch([a_cell("open", 2, status=DONE), _replace(tried, seq=2, status=NodeStatus.FAILED),
                           a_cell("tried", attempt=2), a_cell("each[100]", status=DONE)]))
        again = looking.changes("run", seen.mark, counted=seen.tally)
        assert again.tally is not None
        assert again.tally.groups == {"": {"completed": 2, "running": 3},
                                      "each": {"completed": 101, "failed": 1}, "sub/part2": {"completed": 1}}
        assert {"tried", "each[100]"} <= set(nodes(again))
        assert len(looking.changes("run", again.mark).cells) == 100 + 2 + 4 + 2  # the mark has stayed
        store.close()
        looking.close()

    def test_after_an_end_nothing_is_counted_and_everything_comes(self, opener: Opener) -> None:
        store = begun(opener)
        mark = store.changes("run").mark
        cells = [a_cell(f"n{k}", status=DONE) for k in range(100)]
        ended = an_execution(seq=2, ended_at=5.0)
        store.apply(Batch(cells, [_replace(ended, status=ExecutionStatus.COMPLETED)]))
        seen = store.changes("run", mark, counted=Tally())
        assert (len(seen.cells), seen.complete, seen.tally) == (100, True, None)
        assert store.changes("run", seen.mark).cells == []
        store.close()

    def test_others_are_not_counted(self, opener: Opener) -> None:
        store = begun(opener)
        store.create(an_execution("other"), "", this_owner(), 15)
        mark = store.changes("run").mark
        theirs = [a_cell(node, execution_id="other") for node in "bc"]
        store.apply(Batch([theirs[0], a_cell("a"), theirs[1]]))
        seen = store.changes("run", mark, counted=Tally())
        assert seen.tally is not None
        assert seen.tally.groups == {"": {"running": 1}}
        assert nodes(seen) == ["a"]
        store.close()

    def test_a_bare_list_has_neither_numbers_nor_values(self, opener: Opener) -> None:
        store = begun(opener)
        store.apply(Batch([a_cell("a")], [an_execution(seq=2, output=b"[1]", error=ErrorInfo("E", "why"))]))
        (line,) = store.executions(bare=True)
        assert line.cell == an_execution(seq=2, error=ErrorInfo("E", "why"))
        assert (line.nodes, str(line.owner), line.stale) == (0, str(this_owner()), False)
        assert store.executions(bare=True, status=ExecutionStatus.FAILED) == []
        store.close()

    def test_what_is_not_there_is_named(self, opener: Opener) -> None:
        store = begun(opener)
        assert "ran" in str(raised(NoSuchExecution, lambda: store.changes("ran")))
        store.close()
