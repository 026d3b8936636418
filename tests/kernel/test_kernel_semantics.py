"""The semantics of DESIGN §5, each as the execution that shows it."""

from __future__ import annotations

import msgspec
import pytest

from treadle.diagram.node import Loop
from treadle.diagram.policy import Backoff, Join, OnItemError, OnLimit, Policy
from treadle.errors import Corruption, IllegalMove, InvalidDiagram
from treadle.ids import NodeID
from treadle.kernel import facts as f
from treadle.kernel.execution import Kernel
from treadle.kernel.retry import CLAIMS_MAX, MAP_WINDOW
from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus
from treadle.testing.playbook import (
    Answered,
    Cancel,
    Cancelled,
    Close,
    Expand,
    Expanded,
    Expired,
    Failed,
    Finished,
    Gather,
    Perform,
    Playbook,
    Started,
    Suspended,
    Wake,
    Woken,
    draw,
)

RETRY_TWICE = Policy(retries=2, backoff=Backoff(initial=1.0, factor=2.0, jitter=0.0))


def test_a_chain_runs_in_order_and_completes() -> None:
    book = Playbook(draw("a -> b -> c"))
    book.on(Started(), expect=[Perform("a")])
    book.on(Finished("a", 1), expect=[Perform("b")])
    assert book.inputs("b") == [("a -> b", 1)]
    book.on(Finished("b"), expect=[Perform("c")])
    book.on(Finished("c"), expect=[Close("completed")])
    assert book.ended == ExecutionStatus.COMPLETED


def test_a_slow_node_delays_only_its_descendants() -> None:
    book = Playbook(draw("s -> slow -> m; s -> fast -> fast2 -> m"))
    book.on(Started(), expect=[Perform("s")])
    book.on(Finished("s"), expect=[Perform("slow"), Perform("fast")])
    book.on(Finished("fast"), expect=[Perform("fast2")])
    book.on(Finished("fast2"), expect=[])
    book.on(Finished("slow"), expect=[Perform("m")])


def test_a_branch_not_taken_is_skipped_deep_and_the_diamond_merges() -> None:
    book = Playbook(draw("c.true -> a -> m; c.false -> b -> b2 -> m"))
    book.on(Started(), expect=[Perform("c")])
    book.on(Finished("c", port="true"), expect=[Perform("a")])
    assert (book.status("b"), book.status("b2")) == ("skipped", "skipped")
    book.on(Finished("a", "A"), expect=[Perform("m")])
    assert book.inputs("m") == [("a -> m", "A")], "a dead arrow's input is absent"
    book.on(Finished("m"), expect=[Close("completed")])


def test_a_port_that_nothing_listens_to_ends_everything_behind_the_others() -> None:
    book = Playbook(draw("c.true -> a; c.false -> b"))
    book.on(Started()).on(Finished("c", port="maybe"), expect=[Close("completed")])
    assert (book.status("a"), book.status("b")) == ("skipped", "skipped")


def test_join_any_takes_the_first_value_and_records_the_winner() -> None:
    book = Playbook(draw("a -> m; b -> m", m=Policy(join=Join.ANY)))
    book.on(Started(), expect=[Perform("a"), Perform("b")])
    book.on(Finished("b", "B"), expect=[Perform("m")])
    assert book.inputs("m") == [("b -> m", "B")]
    book.on(Finished("a", "A"), expect=[])
    assert book.inputs("m") == [("b -> m", "B")], "later values are ignored"
    book.crash(expect=[Perform("m")])
    assert book.inputs("m") == [("b -> m", "B")], "the recorded winner wins again, though a comes first"


def test_join_any_is_skipped_when_all_its_arrows_are_dead() -> None:
    book = Playbook(draw("c.true -> m; d.true -> m -> e", m=Policy(join=Join.ANY)))
    book.on(Started()).on(Finished("c", port="no")).on(Finished("d", port="no"), expect=[Close("completed")])
    assert (book.status("m"), book.status("e")) == ("skipped", "skipped")


def test_a_failure_skips_what_follows_and_fails_the_execution() -> None:
    book = Playbook(draw("s -> bad -> n -> e; s -> other"))
    book.on(Started()).on(Finished("s"), expect=[Perform("bad"), Perform("other")])
    book.on(Failed("bad", "ValueError"), expect=[Cancel("other"), Close("failed")])
    assert (book.status("n"), book.status("e"), book.status("other")) == ("skipped", "skipped", "cancelled")
    assert book.row.error is not None and (book.row.error.type, book.row.error.node) == ("ValueError", "bad")


def test_fail_fast_leaves_what_had_not_started_pending() -> None:
    book = Playbook(draw("bad -> x; slow -> later"))
    book.on(Started()).on(Failed("bad"), expect=[Cancel("slow"), Close("failed")])
    assert book.status("later") == "pending"


def test_on_error_continue_lets_the_rest_run_to_its_end() -> None:
    book = Playbook(draw("bad -> x; slow -> later", on_error="continue"))
    book.on(Started()).on(Failed("bad"), expect=[])
    book.on(Finished("slow"), expect=[Perform("later")])
    book.on(Finished("later"), expect=[Close("failed")])
    assert (book.status("x"), book.status("later")) == ("skipped", "completed")


def test_an_error_arrow_takes_the_error_and_the_execution_completes() -> None:
    book = Playbook(draw("a -> next; a.error -> rescue"))
    book.on(Started()).on(Failed("a", "KeyError"), expect=[Perform("rescue")])
    assert book.inputs("rescue") == [("a.error -> rescue", "KeyError")]
    book.on(Finished("rescue"), expect=[Close("completed")])
    assert book.status("next") == "skipped"


def test_an_error_arrow_is_dead_when_nothing_fails() -> None:
    book = Playbook(draw("a -> next; a.error -> rescue"))
    book.on(Started()).on(Finished("a"), expect=[Perform("next")])
    book.on(Finished("next"), expect=[Close("completed")])
    assert book.status("rescue") == "skipped"


def test_retries_wait_their_backoff_and_count_attempts() -> None:
    book = Playbook(draw("a -> b", a=RETRY_TWICE))
    book.on(Started(), expect=[Perform("a")], at=0)
    book.on(Failed("a"), expect=[Wake("a", at=2.0)], at=1)
    assert book.status("a") == "retrying"
    book.on(Woken("a"), expect=[Wake("a", at=2.0)], at=1.5)  # a timer that ran early is asked for again
    book.on(Woken("a"), expect=[Perform("a", attempt=2)], at=2)
    book.on(Failed("a"), expect=[Wake("a", at=5.0)], at=3)
    book.on(Woken("a"), expect=[Perform("a", attempt=3)], at=5)
    book.on(Finished("a"), expect=[Perform("b")])
    assert book.attempts("a") == ["failed", "failed", "completed"]


def test_retries_end_and_what_is_not_retryable_gets_none() -> None:
    book = Playbook(draw("a", a=RETRY_TWICE))
    book.on(Started()).on(Failed("a", retryable=False), expect=[Close("failed")])
    listed = Policy(retries=5, retry_on=("TimeoutError",))
    Playbook(draw("a", a=listed)).on(Started()).on(Failed("a", "ValueError"), expect=[Close("failed")])


def test_a_retry_that_waits_across_a_crash_still_waits_until_its_time() -> None:
    book = Playbook(draw("a", a=RETRY_TWICE)).on(Started(), at=0).on(Failed("a", delay=60), at=1)
    book.crash(expect=[Wake("a", at=61.0)])
    book.on(Woken("a"), expect=[Perform("a", attempt=2)], at=61)


def test_a_crash_after_the_wake_but_before_the_attempt_loses_no_retry() -> None:
    book = Playbook(draw("a; b", a=RETRY_TWICE), concurrency=1)
    book.on(Started(), expect=[Perform("a")], at=0)
    book.on(Failed("a"), expect=[Wake("a", at=2.0), Perform("b")], at=1)
    book.on(Woken("a"), expect=[], at=2)  # b holds the only place
    book.crash(expect=[Wake("a", at=2.0), Perform("b")])
    book.on(Finished("b"), expect=[]).on(Woken("a"), expect=[Perform("a", attempt=2)])


def test_a_seeded_loop_replaces_the_outside_value_and_delivers_on_exit() -> None:
    book = Playbook(draw("init -> step.st; step -> c.st; c.false -> step.st; c.true -> e"))
    book.on(Started()).on(Finished("init", 0), expect=[Perform("step")])
    for n in range(1, 4):
        assert book.inputs("step")[0][1] == n - 1 and len(book.inputs("step")) == 1
        book.on(Finished("step", n), expect=[Perform("c")])
        book.on(Finished("c", n, port="false"), expect=[Perform("step")])
    book.on(Finished("step", 4)).on(Finished("c", 4, port="true"), expect=[Perform("e")])
    assert book.inputs("e") == [("c.true -> e", 4)]
    book.on(Finished("e"), expect=[Close("completed")])
    assert [book.status("step", str(k)) for k in range(1, 6)] == ["completed"] * 4 + ["pending"]


def test_an_outside_value_on_another_port_stays_and_first_is_used_once() -> None:
    book = Playbook(draw("cfg -> step.cfg; seed -> step.first; step -> c; c.again -> step.st; c.out -> e"))
    book.on(Started()).on(Finished("cfg", "C")).on(Finished("seed", "S"), expect=[Perform("step")])
    assert book.inputs("step") == [("cfg -> step.cfg", "C"), ("seed -> step.first", "S")]
    book.on(Finished("step", 1)).on(Finished("c", 1, port="again"), expect=[Perform("step")])
    assert book.inputs("step") == [("cfg -> step.cfg", "C"), ("c.again -> step.st", 1)]


def test_a_loop_at_its_limit_fails_and_names_itself() -> None:
    loop = Loop(NodeID("step"), max_iterations=2)
    book = Playbook(draw("s -> step -> c; c.again -> step; c.out -> e", loops=[loop]))
    book.on(Started()).on(Finished("s"))
    book.on(Finished("step")).on(Finished("c", port="again"))
    book.on(Finished("step")).on(Finished("c", port="again"), expect=[Close("failed")])
    assert book.row.error is not None and book.row.error.type == "LoopLimit"
    assert "'step'" not in book.row.error.message and "step" in book.row.error.message
    assert "max_iterations" in book.row.error.message
    assert book.status("e") == "skipped"


def test_a_loop_at_its_limit_may_let_the_back_arrows_value_out() -> None:
    loop = Loop(NodeID("step"), max_iterations=2, on_limit=OnLimit.EXIT)
    book = Playbook(draw("s -> step -> c; c.again -> step; c.out -> e", loops=[loop]))
    book.on(Started()).on(Finished("s"))
    book.on(Finished("step")).on(Finished("c", 1, port="again"))
    book.on(Finished("step")).on(Finished("c", 2, port="again"), expect=[Perform("e")])
    assert book.inputs("e") == [("c.out -> e", 2)]


def test_nested_loops_count_iterations_inside_out() -> None:
    book = Playbook(draw("s -> h -> i -> j; j.again -> i; j.up -> k; k.again -> h; k.out -> e"))
    book.on(Started()).on(Finished("s"), expect=[Perform("h")]).on(Finished("h"), expect=[Perform("i")])
    book.on(Finished("i")).on(Finished("j", port="again"), expect=[Perform("i")])
    book.on(Finished("i")).on(Finished("j", port="up"), expect=[Perform("k")])
    book.on(Finished("k", port="again"), expect=[Perform("h")]).on(Finished("h"), expect=[Perform("i")])
    book.on(Finished("i")).on(Finished("j", port="up")).on(Finished("k", port="out"), expect=[Perform("e")])
    assert [book.status("i", it) for it in ("1.1", "1.2", "2.1", "2.2")] == ["completed"] * 3 + ["pending"]
    assert [book.status("h", it) for it in ("1", "2")] == ["completed", "completed"]


def test_a_failure_in_a_loop_fails_its_exits_too() -> None:
    book = Playbook(draw("s -> h -> c; c.again -> h; c.out -> e; s -> rest", on_error="continue"))
    book.on(Started()).on(Finished("s")).on(Failed("h"), expect=[])
    book.on(Finished("rest"), expect=[Close("failed")])
    assert book.status("e") == "skipped"


def test_a_loop_without_a_clear_head_is_rejected() -> None:
    with pytest.raises(InvalidDiagram, match="entry"):
        draw("x -> a -> b -> a; y -> b; b -> a")
    assert draw("x -> a -> b -> a; y -> b; b -> a", loops=[Loop(NodeID("a"))]).loops[0].head == 1


def test_a_map_expands_records_its_items_and_gathers_in_order() -> None:
    book = Playbook(draw("a -> m -> e", m=Policy(for_each="x", concurrency=2)))
    book.on(Started()).on(Finished("a"), expect=[Expand("m")])
    book.on(Expanded("m", [10, 20, 30]), expect=[Perform("m[0]"), Perform("m[1]")])
    book.on(Finished("m[1]", "b"), expect=[Perform("m[2]")])
    book.crash(expect=[Perform("m[0]"), Perform("m[2]")])
    book.on(Finished("m[2]", "c")).on(Finished("m[0]", "a"), expect=[Gather("m")])
    assert [cell.output for _, cell in book.kernel.results(book.kernel.find("m"))] == [b'"a"', b'"b"', b'"c"']
    book.on(Finished("m", ["a", "b", "c"]), expect=[Perform("e")])


def test_an_empty_map_gathers_at_once() -> None:
    book = Playbook(draw("m -> e", m=Policy(for_each="x")))
    book.on(Started(), expect=[Expand("m")]).on(Expanded("m", []), expect=[Gather("m")])
    book.crash(expect=[Gather("m")])
    book.on(Finished("m", []), expect=[Perform("e")])


def test_items_retry_on_their_own_and_a_failed_item_fails_its_map() -> None:
    policy = Policy(for_each="x", retries=1, backoff=Backoff(initial=0, jitter=0))
    book = Playbook(draw("m -> e", m=policy)).on(Started()).on(Expanded("m", [1, 2]))
    book.on(Failed("m[1]"), expect=[Wake("m[1]", at=2.0)])
    book.on(Woken("m[1]"), expect=[Perform("m[1]", attempt=2)])
    book.on(Failed("m[1]", "KeyError"), expect=[Cancel("m[0]"), Close("failed")])
    assert book.row.error is not None and book.row.error.node == "m[1]"
    assert (book.status("m"), book.status("m[0]"), book.status("e")) == ("failed", "cancelled", "skipped")


def test_collected_items_do_not_fail_their_map() -> None:
    book = Playbook(draw("m", m=Policy(for_each="x", on_item_error=OnItemError.COLLECT)))
    book.on(Started()).on(Expanded("m", [1, 2])).on(Failed("m[0]")).on(Finished("m[1]"), expect=[Gather("m")])
    assert [cell.status.value for _, cell in book.kernel.results(0)] == ["failed", "completed"]


def test_a_wide_map_is_opened_in_chunks() -> None:
    book = Playbook(draw("m", m=Policy(for_each="x")), concurrency=10)
    book.on(Started()).on(Expanded("m", list(range(5 * MAP_WINDOW))))
    assert book.kernel.counts["ready"] == MAP_WINDOW - 10


def test_a_sub_diagram_runs_inside_and_gathers_its_endpoints() -> None:
    inner = draw("x -> y")
    book = Playbook(draw("a -> s -> b", s=inner))
    book.on(Started()).on(Finished("a"), expect=[Expand("s")])
    book.on(Expanded("s", {"n": 1}), expect=[Perform("s/x")])
    book.on(Finished("s/x"), expect=[Perform("s/y")]).on(Finished("s/y", 7), expect=[Gather("s")])
    assert [name for name, _ in book.kernel.results(book.kernel.find("s"))] == ["y"]
    book.on(Finished("s", 7), expect=[Perform("b")])


def test_retrying_a_sub_diagram_reruns_what_failed_and_its_descendants_only() -> None:
    inner = draw("good -> end; bad -> end")
    book = Playbook(draw("s", s=(inner, Policy(retries=1, backoff=Backoff(initial=0, jitter=0)))))
    book.on(Started()).on(Expanded("s", {}), expect=[Perform("s/good"), Perform("s/bad")])
    book.on(Finished("s/good")).on(Failed("s/bad"), expect=[Wake("s", at=3.0)])
    book.crash(expect=[Wake("s", at=3.0)])
    book.on(Woken("s"), expect=[Perform("s/bad", attempt=2)])
    book.on(Finished("s/bad"), expect=[Perform("s/end", attempt=2)])
    book.on(Finished("s/end"), expect=[Gather("s")])
    assert book.attempts("s/good") == ["completed"] and book.attempts("s/end") == ["skipped", "completed"]


def test_a_map_of_sub_diagrams_gives_each_item_its_own() -> None:
    book = Playbook(draw("m", m=(draw("x"), Policy(for_each="x"))))
    book.on(Started()).on(Expanded("m", [1, 2]), expect=[Perform("m[0]/x"), Perform("m[1]/x")])
    book.on(Finished("m[0]/x"), expect=[Gather("m[0]")]).on(Finished("m[0]"), expect=[])
    book.on(Finished("m[1]/x"), expect=[Gather("m[1]")]).on(Finished("m[1]"), expect=[Gather("m")])


def test_a_sub_diagram_that_takes_too_long_fails() -> None:
    book = Playbook(draw("s", s=(draw("x"), Policy(timeout=5.0))))
    book.on(Started(), at=0).on(Expanded("s", {}), expect=[Wake("s", at=5.0), Perform("s/x")], at=0)
    book.on(Woken("s"), expect=[Cancel("s/x"), Close("failed")], at=5)
    assert book.row.error is not None and book.row.error.type == "NodeTimeout"


def test_a_suspension_survives_and_its_answer_goes_on() -> None:
    book = Playbook(draw("ask -> b")).on(Started())
    book.on(Suspended("ask"), expect=[Close("suspended")])
    assert book.ended == ExecutionStatus.SUSPENDED
    book.crash(expect=[Close("suspended")])
    book.on(Answered("ask", "yes"), expect=[Perform("b")])
    assert book.ended == ExecutionStatus.RUNNING and book.inputs("b") == [("ask -> b", "yes")]


def test_a_suspended_node_does_not_hold_the_others_up() -> None:
    book = Playbook(draw("ask -> b; work")).on(Started()).on(Suspended("ask"), expect=[])
    book.on(Finished("work"), expect=[Close("suspended")])


def test_a_sleep_completes_and_a_question_times_out() -> None:
    book = Playbook(draw("nap -> b")).on(Started()).on(Suspended("nap", "sleep", wake_at=9.0),
                                                       expect=[Wake("nap", at=9.0), Close("suspended")])
    book.crash(expect=[Wake("nap", at=9.0), Close("suspended")]).on(Woken("nap"), expect=[Perform("b")], at=9)
    book = Playbook(draw("ask -> b")).on(Started()).on(Suspended("ask", wake_at=9.0))
    book.on(Woken("ask"), expect=[Close("failed")], at=9)
    assert book.row.error is not None and book.row.error.type == "NodeTimeout"


def test_cancelling_reaches_everything() -> None:
    book = Playbook(draw("a; ask; r; s", r=RETRY_TWICE, s=draw("x")))
    book.on(Started()).on(Suspended("ask")).on(Failed("r")).on(Expanded("s", {}))
    book.on(Cancelled("enough"),
            expect=[Cancel("a"), Cancel("ask"), Cancel("r"), Cancel("s/x"), Cancel("s"), Close("cancelled")])
    assert {book.status(n) for n in ("a", "ask", "r", "s", "s/x")} == {"cancelled"}
    book.on(Expired(), expect=[])


def test_a_deadline_ends_the_execution() -> None:
    book = Playbook(draw("a", deadline=10.0)).on(Started(), expect=[Wake(at=10.0), Perform("a")], at=0)
    book.on(Expired(), expect=[Wake(at=10.0)], at=9)
    book.on(Expired(), expect=[Cancel("a"), Close("failed")], at=10)
    assert book.row.error is not None and book.row.error.type == "DeadlineExceeded"


def test_priorities_start_first_among_those_that_are_ready() -> None:
    drawn = draw("s -> a; s -> b; s -> c", b=Policy(priority=5), c=Policy(priority=-5))
    book = Playbook(drawn, concurrency=1)
    book.on(Started()).on(Finished("s"), expect=[Perform("b")]).on(Finished("b"), expect=[Perform("a")])
    book.on(Finished("a"), expect=[Perform("c")])


def test_concurrency_bounds_what_runs_at_once() -> None:
    book = Playbook(draw("a; b; c"), concurrency=2).on(Started(), expect=[Perform("a"), Perform("b")])
    book.on(Finished("b"), expect=[Perform("c")])


def test_a_crash_reruns_only_what_had_not_been_recorded() -> None:
    book = Playbook(draw("a -> b -> d; a -> c -> d")).on(Started()).on(Finished("a", 1)).on(Finished("b", 2))
    book.crash(expect=[Perform("c")])
    book.on(Finished("c", 3), expect=[Perform("d")])
    assert book.inputs("d") == [("b -> d", 2), ("c -> d", 3)]
    assert book.store[book.store.keys().__iter__().__next__()].claims == 1


def test_the_fourth_start_of_a_body_that_kills_its_process_is_refused() -> None:
    book = Playbook(draw("a")).on(Started())
    for _ in range(CLAIMS_MAX - 1):
        book.crash(expect=[Perform("a")])
    book.crash(expect=[Close("failed")])
    assert book.row.error is not None and book.row.error.type == "CrashLoop"


def test_clean_interrupts_are_not_counted() -> None:
    book = Playbook(draw("a")).on(Started())
    for _ in range(2 * CLAIMS_MAX):
        book.crash(expect=[Perform("a")], clean=True)


def test_an_explicit_resume_opens_what_failed_with_a_fresh_budget() -> None:
    book = Playbook(draw("good -> end; bad -> end; c.no -> dead; slow", bad=Policy(retries=1)))
    book.on(Started()).on(Finished("good")).on(Finished("c", port="yes"))
    book.on(Failed("bad", delay=0)).on(Woken("bad"))
    book.on(Failed("bad"), expect=[Cancel("slow"), Close("failed")])
    book.crash(expect=[Perform("bad", attempt=3), Perform("slow", attempt=2)], reopen=True, clean=True)
    book.on(Failed("bad", delay=0), expect=[Wake("bad", at=7.0)])
    book.crash(expect=[Wake("bad", at=7.0), Perform("slow", attempt=2)])  # and a crash keeps the budget
    book.on(Woken("bad"), expect=[Perform("bad", attempt=4)]).on(Finished("slow"), expect=[])
    book.on(Finished("bad"), expect=[Perform("end", attempt=2)])
    book.on(Finished("end"), expect=[Close("completed")])
    assert book.attempts("dead") == ["skipped"], "skipped by a dead arrow stays so"
    assert book.attempts("good") == ["completed"]


def test_a_crash_right_after_a_reopening_still_reruns_what_failed() -> None:
    book = Playbook(draw("a -> b; c -> d"), concurrency=1)
    book.on(Started()).on(Failed("a"), expect=[Close("failed")])
    book.crash(expect=[Perform("a", attempt=2)], reopen=True)
    book.on(Finished("a"), expect=[Perform("c")])
    book.crash(expect=[Perform("c")])


def test_facts_that_come_too_late_change_nothing_and_senseless_ones_tell_the_story() -> None:
    book = Playbook(draw("a -> b; slow")).on(Started())
    with pytest.raises(IllegalMove, match=r"'b' can't go from pending to completed"):
        book.on(Finished("b"))
    book.on(Failed("a"), expect=[Cancel("slow"), Close("failed")]).on(Finished("slow"), expect=[])
    assert book.status("slow") == "cancelled"


def test_an_execution_starts_once() -> None:
    kernel = Kernel(draw("a"), ExecutionCell("x", epoch=1))
    kernel.handle(f.Started(0.0))
    with pytest.raises(Corruption, match="started twice"):
        kernel.handle(f.Started(1.0))


def test_a_changed_lineage_is_performed_again_and_the_rest_kept() -> None:
    before = draw("a -> b -> c; d")
    book = Playbook(before).on(Started())
    book.on(Finished("a")).on(Finished("b")).on(Finished("c")).on(Finished("d"))
    changed = draw("a -> b -> c; d")
    object.__setattr__(changed, "nodes", tuple(
        msgspec.structs.replace(node, lineage="new") if node.id in "bc" else node for node in changed.nodes))
    book.crash(expect=[Perform("b", attempt=2)], diagram=changed, reopen=True)
    book.on(Finished("b"), expect=[Perform("c", attempt=2)]).on(Finished("c"), expect=[Close("completed")])
    assert book.attempts("a") == ["completed"] and book.attempts("d") == ["completed"]


def test_a_hundred_thousand_skips_do_not_overflow_the_stack() -> None:
    n = 20_000
    book = Playbook(draw("c.no -> " + " -> ".join(f"n{i}" for i in range(n))))
    book.kernel._check = False
    book.on(Started()).on(Finished("c", port="yes"), expect=[Close("completed")])
    assert book.kernel.skipped == n
