"""The shared context: versions, transactions, maps, and what they refuse."""

from __future__ import annotations

import contextvars
import sys
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from treadle.config import TreadleConfig
from treadle.errors import LimitExceeded, MutationVetoed, NotEncodable, TransactionError, WriteConflict
from treadle.state import codec
from treadle.state.cell import ContextCell, ExecutionCell, ExecutionState
from treadle.state.context import (
    About,
    Mutation,
    PipelineState,
    SharedContext,
    Shares,
    Transaction,
    options_of,
    snapshot_of,
    space_of,
    tree_of,
)


def shared(**options: Any) -> SharedContext:
    return SharedContext("e", now=lambda: 7.0, writer="main", **options)


def elsewhere(function: Any, *given: Any) -> Any:
    """Call a function as another body does: it is in no transaction of ours."""
    return contextvars.Context().run(function, *given)


def set_to(context: SharedContext, key: str, value: Any, writer: str = "other#1") -> None:
    with context.transaction(writer=writer) as tx:
        tx[key] = value


# Versions


def test_a_snapshot_stays_as_it_is_whatever_is_written_later() -> None:
    context = shared()
    context.variables["n"] = 1
    context.artifacts["old"] = "x"
    before = context.snapshot()
    context.variables["n"] = 2
    context.variables["new"] = 3
    del context.artifacts["old"]
    assert dict(before) == {"variables.n": 1, "artifacts.old": "x"}
    assert len(before) == 2 and "variables.new" not in before and "artifacts.old" in before
    assert dict(before.variables) == {"n": 1} and dict(before.artifacts) == {"old": "x"}
    assert dict(context.snapshot()) == {"variables.n": 2, "variables.new": 3}
    with pytest.raises(KeyError, match=r"variables\.new"):
        before["variables.new"]


def test_a_value_is_what_it_was_when_it_was_written_and_each_reader_has_its_own() -> None:
    context = shared()
    value = {"rows": [1]}
    context.variables["v"] = value
    value["rows"].append(2)
    read = context.variables["v"]
    assert read == {"rows": [1]}
    read["rows"].append(3)
    assert context.variables["v"] == context.snapshot()["variables.v"] == {"rows": [1]}


def versions(context: SharedContext, key: str) -> list[int]:
    return [cell.seq for cell in context._versions.get(key, ())]


def test_a_version_is_dropped_when_no_living_snapshot_needs_it() -> None:
    context = shared()
    kept = {}
    for number in range(1, 31):
        context.variables["n"] = number
        if number in (3, 20):
            kept[number] = context.snapshot()
    assert versions(context, "variables.n") == [30, 20, 3]
    assert {number: one.variables["n"] for number, one in kept.items()} == {3: 3, 20: 20}
    del kept[3]
    for number in range(20):
        context.variables["other"] = number  # whatever is committed cleans up
    assert versions(context, "variables.n") == [30, 20]
    kept.clear()
    context.variables["other"] = 1
    assert versions(context, "variables.n") == [30] and versions(context, "variables.other") == [51]


class Meanwhile(dict[str, Any]):
    """Lets something happen within the next look-up, as another thread might."""

    act: Any = None

    def get(self, key: str, default: Any = None) -> Any:
        act, self.act = self.act, None
        if act is not None:
            act()
        return super().get(key, default)


def test_a_commit_takes_nothing_from_under_a_reader() -> None:
    context = shared()
    context.variables["a"] = 1
    context._versions = meanwhile = Meanwhile(context._versions)
    for value in (2, 3):
        meanwhile.act = lambda value=value: elsewhere(set_to, context, "variables.a", value)
        assert context.variables["a"] == value - 1  # as of when it asked
    meanwhile.act = lambda: elsewhere(context.variables.pop, "a")
    assert context.variables["a"] == 3 and "a" not in context.variables


def test_a_deleted_key_leaves_memory_with_the_last_who_could_ask_for_it() -> None:
    context = shared()
    context.variables["n"] = 1
    before = context.snapshot()
    del context.variables["n"]
    assert versions(context, "variables.n") == [2, 1] and before.variables["n"] == 1
    del before
    context.variables["other"] = 1
    assert versions(context, "variables.n") == [] and list(context.variables) == ["other"]


def test_many_snapshots_are_counted_and_forgotten_together() -> None:
    context = shared()
    kept = []
    for number in range(100):
        kept.append(context.snapshot())
        context.variables[f"n{number % 7}"] = number
    assert [one.variables.get("n3") for one in kept] == [
        None if number <= 3 else (number - 4) // 7 * 7 + 3 for number in range(100)]
    kept.clear()
    context.variables["n0"] = 0
    assert all(len(versions(context, f"variables.n{one}")) == 1 for one in range(7))


def test_a_new_owner_goes_on_with_what_is_recorded_under_larger_versions() -> None:
    cells: list[ContextCell] = []
    first = shared(sink=cells.extend)
    first.variables["a"] = 1
    first.variables["b"] = 1
    del first.variables["a"]
    second = shared(epoch=2, cells=cells, sink=cells.extend)
    assert dict(second.variables) == {"b": 1}
    second.variables["a"] = 2
    assert [(one.key, one.version, one.value, one.writer, one.at) for one in cells] == [
        ("variables.a", (1, 1), b"1", "main", 7.0), ("variables.b", (1, 2), b"1", "main", 7.0),
        ("variables.a", (1, 3), None, "main", 7.0), ("variables.a", (2, 4), b"2", "main", 7.0)]
    assert {key: one.seq for key, one in second.cells().items()} == {"variables.a": 4, "variables.b": 2}
    assert dict(snapshot_of(cells)) == {"variables.a": 2, "variables.b": 1}
    assert dict(snapshot_of([])) == {}


# Transactions


def test_a_transaction_sees_its_own_writes_and_nobody_else_does_before_its_end() -> None:
    context = shared()
    context.variables["a"] = 1
    with context.transaction() as tx:
        assert isinstance(tx, Transaction)
        tx["variables.a"] += 1
        tx.variables["b"] = [tx.variables["a"]]
        tx.artifacts["x"] = tx.plugin("P")["y"] = None
        del tx["variables.a"]
        assert dict(tx) == {"variables.b": [2], "artifacts.x": None, "plugins.P.y": None}
        assert len(tx) == 3 and "variables.a" not in tx and "b" in tx.variables and len(tx.variables) == 1
        with pytest.raises(KeyError, match="'a'"):
            del tx.variables["a"]
        assert dict(context.snapshot()) == {"variables.a": 1}
    assert tree_of(context.snapshot()) == {
        "variables": {"b": [2]}, "artifacts": {"x": None}, "plugins": {"P": {"y": None}}}


def test_a_block_that_raises_writes_nothing() -> None:
    seen: list[Any] = []
    context = shared(sink=seen.append)
    with pytest.raises(ZeroDivisionError), context.transaction() as tx:
        tx["variables.a"] = 1
        raise ZeroDivisionError
    assert dict(context.snapshot()) == {} and seen == []


@pytest.mark.parametrize("look", [
    lambda tx: tx.get("variables.a"), lambda tx: tx.get("variables.none"), lambda tx: list(tx.variables),
    lambda tx: len(tx), lambda tx: "variables.none" in tx, lambda tx: tx.update({"variables.a": 0})])
def test_the_first_to_commit_wins(look: Any) -> None:
    context = shared()
    context.variables["a"] = 1
    with pytest.raises(WriteConflict) as lost, context.transaction(writer="slow#2") as tx:
        look(tx)
        tx["artifacts.mine"] = 1
        elsewhere(set_to, context, "variables.a", 2)
        elsewhere(set_to, context, "variables.none", 2)
    assert set(lost.value.keys) <= {"variables.a", "variables.none"} and lost.value.keys
    assert lost.value.writer == "slow#2" and lost.value.conflicts[0].winner == "other#1"
    assert "artifacts.mine" not in context.snapshot()


def test_a_conflict_names_keys_writers_and_versions() -> None:
    context = shared(epoch=3)
    context.variables["a"] = 1
    with pytest.raises(WriteConflict) as lost, context.transaction(writer="slow#2") as tx:
        tx["variables.a"] = tx.get("variables.b", 0)
        elsewhere(set_to, context, "variables.a", 2)
        elsewhere(set_to, context, "variables.b", 2, "fast#1")
    assert str(lost.value) == (
        "the transaction of slow#2 lost: 'variables.a' (read at version 3.1) was set by other#1 (version "
        "3.2); 'variables.b' (read when there was none) was set by fast#1 (version 3.3). Do it again, or use "
        "context.update(key, function), which does")
    assert lost.value.details == {"keys": ["variables.a", "variables.b"]}


def test_those_who_touch_other_keys_or_only_read_are_never_in_the_way() -> None:
    context = shared()
    context.variables["a"] = 1
    with context.transaction() as tx:
        assert list(tx.artifacts) == [] and tx["variables.a"] == 1
        tx["artifacts.mine"] = 1
        elsewhere(set_to, context, "variables.b", 2)
    with context.transaction() as tx:
        assert len(tx) == 3
        elsewhere(set_to, context, "variables.a", 2)
        assert tx["variables.a"] == 1
    assert context.variables["a"] == 2


def test_a_key_that_was_deleted_and_forgotten_still_conflicts() -> None:
    context = shared()
    with pytest.raises(WriteConflict, match=r"variables\.a"), context.transaction() as tx:
        tx["variables.b"] = "variables.a" in tx
        elsewhere(set_to, context, "variables.a", 2)
        elsewhere(context.variables.pop, "a")


def test_what_is_made_and_deleted_within_a_transaction_was_never_there() -> None:
    cells: list[ContextCell] = []
    context = shared(sink=cells.extend)
    with context.transaction() as tx:
        tx["variables.a"] = 1
        del tx["variables.a"]
        tx["variables.b"] = 1
    assert [one.key for one in cells if one.value is not None] == ["variables.b"]
    assert list(context.variables) == ["b"]


def test_a_transaction_is_for_one_with_and_not_within_another() -> None:
    context, another = shared(), shared()
    tx = context.transaction()
    with pytest.raises(TransactionError, match="not begun: use it within its `with` block"):
        tx["variables.a"]
    with tx:
        another.variables["a"] = 1  # another execution's is another matter
        for act in (lambda: context.transaction().__enter__(), lambda: context.update("variables.a", len),
                    lambda: context.variables.update(a=1), lambda: context.variables.pop("a", None)):
            with pytest.raises(TransactionError, match="within an open transaction: write to that one"):
                act()
    with pytest.raises(TransactionError, match="over: make a new one"), tx:
        pass
    with pytest.raises(TransactionError, match="over: use it within"):
        tx["variables.a"] = 1


# Update


def test_an_update_is_tried_again_with_what_is_there_then() -> None:
    context = shared()
    rivals = [10, 20]

    def add(n: int) -> int:
        if rivals:
            elsewhere(set_to, context, "variables.n", rivals.pop(0))
        return n + 1

    assert context.update("variables.n", add, 0) == context.variables["n"] == 21
    assert context.update("variables.list", lambda found: [*(found or []), 1], writer="me#1") == [1]
    assert context.cells()["variables.list"].writer == "me#1"


def test_an_update_gives_up_after_its_limit() -> None:
    context = shared(config=TreadleConfig(context_tries_max=3))
    calls = []

    def slow(n: Any) -> int:
        calls.append(n)
        elsewhere(set_to, context, "variables.n", len(calls))
        return 0

    with pytest.raises(WriteConflict) as lost:
        context.update("variables.n", slow)
    assert calls == [None, 1, 2] and lost.value.__notes__ == ["It was tried 3 times (context_tries_max)."]


def test_threads_lose_no_update_and_never_see_half_a_transaction() -> None:
    context = shared(lock=threading.Lock(), config=TreadleConfig(context_tries_max=10_000))
    context.variables.update(a=0, b=0)
    errors: list[BaseException] = []
    done = threading.Event()
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def write() -> None:
        def both(tx: Any) -> None:
            tx["variables.a"] = tx["variables.b"] = tx["variables.a"] + 1

        for _ in range(100):
            while True:
                try:
                    with context.transaction() as tx:
                        both(tx)
                    break
                except WriteConflict:
                    continue
            context.update("variables.count", lambda n: n + 1, 0)

    def read() -> None:
        while not done.is_set():
            try:
                context.variables["a"]
            except KeyError as error:
                errors.append(error)
            found = context.snapshot()
            if found["variables.a"] != found["variables.b"] or set(found.variables) - {"a", "b", "count"}:
                errors.append(AssertionError(dict(found)))

    readers = [threading.Thread(target=read) for _ in range(2)]
    writers = [threading.Thread(target=write) for _ in range(4)]
    for one in (*readers, *writers):
        one.start()
    for one in writers:
        one.join()
    done.set()
    for one in readers:
        one.join()
    sys.setswitchinterval(interval)
    assert errors == []
    assert dict(context.variables) == {"a": 400, "b": 400, "count": 400}


# Maps


def test_a_space_is_a_map_whose_operations_are_transactions() -> None:
    commits: list[Sequence[ContextCell]] = []
    context = shared(sink=commits.append)
    names = context.plugin("My-Plugin")
    names.update({"a": 1}, b=2)
    assert len(commits) == 1 and names.space == "plugins.My-Plugin."
    assert names.setdefault("a", 9) == 1 and names.setdefault("c", 3) == 3 and len(commits) == 2
    assert names.pop("a") == 1 and names.pop("a", None) is None
    with pytest.raises(KeyError, match="'a'"):
        names.pop("a")
    with pytest.raises(KeyError, match="'a'"):
        del names["a"]
    with pytest.raises(KeyError, match="'a'"):
        names["a"]
    assert names.popitem() in (("b", 2), ("c", 3)) and len(names) == 1
    names.clear()
    names.update({})
    assert not names and list(names) == [] and "b" not in names and "" not in names and 3 not in names
    names["x y"] = {1: 2}
    assert names == {"x y": {1: 2}} and repr(names) == "plugins.My-Plugin: {'x y': {1: 2}}"
    assert context.snapshot().plugin("My-Plugin") == {"x y": {1: 2}} and context.artifacts == {}
    assert repr(context.snapshot().artifacts) == "artifacts: {}"


def test_maps_of_the_context_are_written_down_as_maps() -> None:
    context = shared()
    context.variables["a"] = (1, 2)
    for value in (context.variables, context.snapshot().variables):
        assert codec.decode(codec.encode({"all": value})) == {"all": {"a": (1, 2)}}


class Body(Shares):
    """What is handed to a body."""

    def __init__(self, context: SharedContext) -> None:
        self._context = context

    def _sharing(self) -> tuple[SharedContext, str]:
        return self._context, "body#1"


def test_what_offers_the_context_writes_under_its_own_name() -> None:
    context = shared()
    body = Body(context)
    body.variables["a"] = body.plugin("P")["a"] = 1
    with body.transaction() as tx:
        tx.artifacts["a"] = tx.variables["a"]
    assert body.update("variables.a", lambda a: a + 1) == 2
    assert tree_of(body.snapshot()) == {
        "artifacts": {"a": 1}, "variables": {"a": 2}, "plugins": {"P": {"a": 1}}}
    assert {one.writer for one in context.cells().values()} == {"body#1"}
    with pytest.raises(TypeError, match="a Shares has no shared context"):
        Shares().snapshot()


# What is refused


@pytest.mark.parametrize("key", ["", "n", "variables.", "variable.n", "plugins.n", "plugins.a b.c",
                                 "variables.\n", "variables.\ud800", "artifacts." + "x" * 300])
def test_what_is_no_key_is_refused(key: str) -> None:
    context = shared()
    with pytest.raises(ValueError, match=r"can't be a key of the context: write artifacts\.NAME"):
        space_of(key)
    with pytest.raises(ValueError, match="can't be a key"):
        context.update(key, len)
    with pytest.raises(ValueError, match="can't be a key"):
        context.snapshot()[key]
    assert key not in context.snapshot()


def test_a_key_that_is_nearly_one_is_answered_with_it() -> None:
    with pytest.raises(ValueError, match=r"\(did you mean 'variables'\?\)"):
        space_of("variabels.n")
    with pytest.raises(ValueError, match="can't be a key"):
        shared().plugin("a b")


def test_values_have_limits_and_so_has_their_number() -> None:
    context = shared(config=TreadleConfig(context_value_bytes_max=10, context_keys_max=2))
    with pytest.raises(NotEncodable, match=r"the value of 'variables\.a' can't be written down"):
        context.variables["a"] = object()
    with pytest.raises(LimitExceeded, match=r"'variables\.a' has 13 bytes: put it into a blob"):
        context.variables["a"] = "x" * 11
    context.variables.update(a=1, b=2)
    context.variables["a"] = 2
    with pytest.raises(LimitExceeded, match="context_keys_max is 2"):
        context.variables["c"] = 1
    assert dict(context.variables) == {"a": 2, "b": 2}


def test_a_refused_transaction_leaves_nothing_and_says_who_refused_it() -> None:
    asked: list[Mutation] = []

    def refuse(mutation: Mutation) -> str | None:
        asked.append(mutation)
        return "Guard@1.0: a is mine" if "variables.a" in mutation.keys else None

    context = shared(on_commit=refuse)
    context.variables["b"] = 1
    said = r"to variables\.a, variables\.b by x#1 was refused: Guard"
    with pytest.raises(MutationVetoed, match=said) as no, context.transaction(writer="x#1") as tx:
        tx["variables.a"] = 1
        del tx["variables.b"]
    assert no.value.reason == "Guard@1.0: a is mine" and no.value.keys == ("variables.a", "variables.b")
    assert asked[-1].changes == {"variables.a": (None, 1), "variables.b": (1, None)}
    assert asked[-1].changes["variables.b"].old == 1 and asked[-1].execution_id == "e"
    assert dict(context.variables) == {"b": 1}
    assert "by Guard: no" in str(MutationVetoed("no", "Guard"))


def test_a_context_that_is_closed_can_be_read_and_nothing_else() -> None:
    commits: list[Sequence[ContextCell]] = []
    context = shared(sink=commits.append)
    context.variables["a"] = 1
    context.close("it has ended")
    assert commits[1:] == [()]
    with pytest.raises(TransactionError, match="main can't write to the context of execution e: it has end"):
        context.variables["a"] = 2
    assert context.variables["a"] == 1
    shared().close("it has no sink")
    reasons = [None, "not now"]
    asking = shared(refuse=lambda: reasons.pop(0))
    asking.variables["a"] = 1
    with pytest.raises(TransactionError, match="not now"):
        asking.variables["a"] = 2


# What is said once


def test_what_an_execution_runs_with_is_in_its_cell() -> None:
    options = options_of("batched", config_hash="f00d", environment_vars={"DEBUG": "true"},
                         secret_store="vault://prod", active_plugins=["A@1.0"])
    about = About.of(ExecutionCell("e", diagram="cafe", created_at=2.5, options=options))
    pipeline = PipelineState("e", "cafe", 2.5, "f00d")
    assert about == About(pipeline, {"DEBUG": "true"}, "vault://prod", ("A@1.0",))
    with pytest.raises(AttributeError):
        about.pipeline.version = "other"  # type: ignore[misc]
    plain = About.of(ExecutionCell("e"), config_hash="beef")
    assert (plain.pipeline.config_hash, plain.active_plugins) == ("beef", ())
    assert msgspec.json.decode(options_of("strict", config_hash="x")) == {
        "durability": "strict", "config_hash": "x"}


def test_a_state_holds_the_context() -> None:
    cell = ContextCell("e", "variables.a", 1, 1, b"1")
    assert ExecutionState.of(ExecutionCell("e"), {}, context=[cell]).context == {"variables.a": cell}
