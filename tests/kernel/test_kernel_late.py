"""Facts that come late, early or for nothing; and what a kernel answers when it is asked by path or slot."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from treadle.diagram.node import Loop
from treadle.diagram.policy import Policy
from treadle.errors import IllegalMove, NoSuchNode
from treadle.ids import NodeID
from treadle.kernel import facts as f
from treadle.kernel.control import WIDE
from treadle.kernel.flow import PORTION
from treadle.state.cell import ErrorInfo
from treadle.testing.playbook import (
    Answered,
    Cancel,
    Close,
    Expand,
    Expanded,
    Failed,
    Finished,
    Gather,
    Perform,
    Playbook,
    Started,
    Woken,
    draw,
)

EACH: list[Callable[[int], f.Fact]] = [
    lambda slot: f.Finished(slot, 9.0, output=b"1"),
    lambda slot: f.Failed(slot, 9.0, 0.5, ErrorInfo("Boom", "")),
    lambda slot: f.Expanded(slot, 9.0, b"[]", 0),
    lambda slot: f.Suspended(slot, 9.0, b'{"kind":"answer"}', None),
    lambda slot: f.Answered(slot, 9.0, b"1"),
    lambda slot: f.Woken(slot, 9.0),
]


@pytest.mark.parametrize("late", EACH)
def test_a_fact_for_a_frame_that_is_gone_changes_nothing(late: Callable[[int], f.Fact]) -> None:
    book = Playbook(draw("s -> b", s=draw("x"))).on(Started()).on(Expanded("s", {}))
    gone = book.kernel.find("s/x")
    book.on(Finished("s/x")).on(Finished("s"), expect=[Perform("b")])
    step = book.kernel.handle(late(gone))
    assert (step.cells, step.commands, step.execution) == ([], [], None)
    with pytest.raises(NoSuchNode, match=f"no slot {gone} any more"):
        book.kernel.path(gone)
    book.on(Finished("b"), expect=[Close("completed")])


@pytest.mark.parametrize("late", EACH[:4])
def test_a_body_that_ends_after_it_was_cancelled_changes_nothing(late: Callable[[int], f.Fact]) -> None:
    book = Playbook(draw("s.error -> rescue", s=draw("bad; slow"))).on(Started()).on(Expanded("s", {}))
    slow = book.kernel.find("s/slow")
    book.on(Failed("s/bad"), expect=[Cancel("s/slow"), Perform("rescue")])
    step = book.kernel.handle(late(slow))
    assert (step.cells, step.commands, step.execution) == ([], [], None)
    assert book.status("s/slow") == "cancelled"


def test_only_who_asked_can_be_answered() -> None:
    book = Playbook(draw("a -> b")).on(Started())
    for node in ("a", "b"):
        with pytest.raises(IllegalMove, match=f"'{node}' can't go from .* to completed"):
            book.on(Answered(node, 1))
    book.on(Finished("a"), expect=[Perform("b")])


def test_a_timer_that_nobody_needs_any_more_changes_nothing() -> None:
    book = Playbook(draw("a -> b; m; s", m=Policy(for_each="x"), s=draw("x"))).on(Started())
    book.on(Woken("a"), expect=[])  # runs, and has no time limit that the kernel keeps
    book.on(Expanded("m", [1])).on(Woken("m"), expect=[])
    book.on(Expanded("s", {})).on(Woken("s"), expect=[])
    book.on(Woken("b"), expect=[])  # has not begun
    book.on(Finished("a"), expect=[Perform("b")]).on(Woken("a"), expect=[])


def test_what_is_ready_in_a_frame_that_ended_never_starts() -> None:
    book = Playbook(draw("s.error -> rescue", s=draw("x; y; z")), concurrency=1).on(Started())
    book.on(Expanded("s", {}), expect=[Perform("s/x")])
    book.on(Failed("s/x"), expect=[Perform("rescue")])
    book.on(Finished("rescue"), expect=[Close("completed")])
    assert book.status("s/y") == book.status("s/z") == "pending"


def test_what_is_ready_in_a_turn_that_is_over_never_starts() -> None:
    """`s/y` waits for its place behind nodes of higher priority, until the next turn has let go of it."""
    first = Policy(priority=5)
    drawn = draw("h -> s; s.error -> c; c.again -> h; c.out -> e", s=draw("x; y"), h=first, c=first,
                 loops=[Loop(NodeID("h"), max_iterations=3)])
    book = Playbook(drawn, concurrency=1).on(Started()).on(Finished("h")).on(Expanded("s", {}))
    book.on(Failed("s/x"), expect=[Perform("c")])
    book.on(Finished("c", port="again"), expect=[Perform("h")])
    book.on(Finished("h"), expect=[Expand("s")])
    book.on(Expanded("s", {}), expect=[Perform("s/x")])
    assert book.status("s/y") == "pending"


def test_an_attempt_that_ran_when_its_node_was_changed_is_history() -> None:
    book = Playbook(draw("a -> b")).on(Started(), expect=[Perform("a")])
    changed = draw("a -> b")
    object.__setattr__(changed, "nodes", tuple(
        msgspec.structs.replace(node, lineage="new") for node in changed.nodes))
    book.crash(expect=[Perform("a", attempt=2)], diagram=changed)
    assert book.attempts("a") == ["cancelled", "running"]


def test_what_had_run_and_is_now_on_a_branch_not_taken_is_skipped() -> None:
    book = Playbook(draw("c.yes -> a; c.yes -> b; c.no -> d")).on(Started()).on(Finished("c", port="yes"))
    book.on(Finished("a"))
    changed = draw("c.yes -> a; c.yes -> b; c.no -> d")
    object.__setattr__(changed, "nodes", tuple(
        msgspec.structs.replace(node, lineage="new") if node.id == "c" else node for node in changed.nodes))
    book.crash(expect=[Perform("c", attempt=2)], diagram=changed)
    book.on(Finished("c", port="no"), expect=[Perform("d", attempt=2)])  # its first was skipped
    assert book.attempts("a") == ["completed", "skipped"]
    assert book.attempts("b") == ["cancelled", "skipped"]


def test_a_wide_fan_out_stops_when_its_frame_ends() -> None:
    inner = draw("; ".join(f"x -> y{n}" for n in range(2 * PORTION)))
    book = Playbook(draw("s.error -> rescue", s=inner), concurrency=2).on(Started())
    book.on(Expanded("s", {}), expect=[Perform("s/x")])
    book.on(Finished("s/x"), expect=[Perform("s/y0"), Perform("s/y1")])
    book.on(Failed("s/y0"), expect=[Cancel("s/y1"), Perform("rescue")])
    book.on(Finished("rescue"), expect=[Close("completed")])


def test_a_diagram_without_nodes_is_complete() -> None:
    Playbook(draw("")).on(Started(), expect=[Close("completed")])
    book = Playbook(draw("s -> b", s=draw(""))).on(Started(), expect=[Expand("s")])
    book.on(Expanded("s", {}), expect=[Gather("s")])
    book.on(Finished("s"), expect=[Perform("b")])


def test_a_sub_diagram_that_failed_in_one_turn_is_new_in_the_next() -> None:
    drawn = draw("h -> s; s.error -> c; c.again -> h; c.out -> e", s=draw("x"),
                 loops=[Loop(NodeID("h"), max_iterations=3)])
    book = Playbook(drawn).on(Started()).on(Finished("h"), expect=[Expand("s")])
    book.on(Expanded("s", {}))
    first = book.kernel.find("s/x")
    book.on(Failed("s/x"), expect=[Perform("c")])
    book.on(Finished("c", port="again"), expect=[Perform("h")])
    with pytest.raises(NoSuchNode):
        book.kernel.path(first)
    book.on(Finished("h"), expect=[Expand("s")]).on(Expanded("s", {}), expect=[Perform("s/x")])
    assert book.kernel.find("s", "2") == book.kernel.find("s")
    with pytest.raises(NoSuchNode, match="node 's' is in iteration 2, not 1"):
        book.kernel.find("s", "1")


def test_a_path_that_leads_nowhere_is_answered_with_help() -> None:
    book = Playbook(draw("alpha; m; s", m=Policy(for_each="x"), s=draw("inner"))).on(Started())
    book.on(Expanded("m", [1, 2])).on(Expanded("s", {}))
    assert book.kernel.path(book.kernel.find("s/inner")) == "s/inner"
    with pytest.raises(NoSuchNode, match="no node 'alpah' under way: did you mean"):
        book.kernel.find("alpah")
    with pytest.raises(NoSuchNode, match="no node 'alpha/x' under way"):
        book.kernel.find("alpha/x")
    for path in ("m[2]", "alpha[0]"):
        with pytest.raises(NoSuchNode, match=r"no item .* under way"):
            book.kernel.find(path)


def test_results_are_a_maps_items_or_the_endpoints_that_completed() -> None:
    book = Playbook(draw("c.yes -> a; c.no -> b")).on(Started())
    assert book.kernel.results(book.kernel.find("c")) == [], "no composite"
    book.on(Finished("c", port="yes")).on(Finished("a", 5))
    assert [(name, cell.output) for name, cell in book.kernel.results()] == [("a", b"5")]


def test_work_is_node_item_and_inputs_at_once() -> None:
    wide = "; ".join(f"a{n} -> w" for n in range(WIDE + 1))
    book = Playbook(draw(f"a0 -> m; a0 -> two; a1 -> two; {wide}", m=Policy(for_each="x"))).on(Started())
    for n in range(WIDE + 1):
        book.on(Finished(f"a{n}", n))
    book.on(Expanded("m", ["x", "y"]))

    def work(path: str) -> tuple[str, int | None, list[str] | None]:
        node, item, inputs = book.kernel.work(book.kernel.find(path))
        return node.id, item, None if inputs is None else [arrow.text for arrow, _ in inputs]

    assert work("a0") == ("a0", None, [])
    assert work("m") == ("m", None, ["a0 -> m"])
    assert work("two") == ("two", None, ["a0 -> two", "a1 -> two"])
    assert work("m[1]") == ("m", 1, ["a0 -> m"]), "an item has its map's inputs"
    assert work("w") == ("w", None, None), "too many to take at once"
    slot = book.kernel.find("w")
    assert book.kernel.width(slot) == WIDE + 1
    chunk = book.kernel.inputs(slot, WIDE, WIDE + 1)
    assert [cell.output for _, cell in chunk] == [b"%d" % WIDE]
