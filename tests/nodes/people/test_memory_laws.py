"""Memory is a function of what was recorded; these are its laws."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from treadle.diagram.person import Memory
from treadle.nodes.people.memory import (
    INTRODUCTION,
    Turn,
    map_of,
    recall,
    said_in,
    summarised,
    turn_of,
    turns_before,
)
from treadle.nodes.people.messages import Answered, Call, Message, Returned, Said, plain, tokens_in
from treadle.state.steps import StepRecord, Told

words = st.text(alphabet="ab ", min_size=1, max_size=60)


@st.composite
def turns(draw: st.DrawFn) -> list[Turn]:
    found = []
    for number in range(draw(st.integers(0, 8))):
        said: list[Message] = [Said(draw(words))]
        if draw(st.booleans()):
            said += [Answered("", (Call("1", "t"),)), Returned("1", "t", draw(words))]
        said.append(Answered(draw(words)))
        who = draw(st.sampled_from(["Ann", "Bob"]))
        found.append(Turn(f"n#{number}", who, who, tuple(said)))
    return found


def own(given_: list[Turn]) -> list[Message]:
    return [one for turn in given_ if turn.person == "Ann" for one in turn.messages]


@given(turns())
def test_none_is_nothing_and_own_is_all_that_one_said_in_order(known: list[Turn]) -> None:
    assert recall(Memory("none"), "Ann", known).messages == ()
    assert list(recall(Memory("own"), "Ann", known).messages) == own(known)


@given(turns(), st.integers(1, 12))
def test_a_window_is_an_end_of_the_whole_and_begins_with_a_prompt(known: list[Turn], size: int) -> None:
    whole, found = own(known), list(recall(Memory("window", size), "Ann", known).messages)
    assert whole[len(whole) - len(found):] == found
    assert not found or isinstance(found[0], Said)
    counted = [one for one in found if isinstance(one, Said) or (isinstance(one, Answered) and not one.calls)]
    assert len(counted) <= size + 1
    assert len(counted) >= min(size, 2 * sum(turn.person == "Ann" for turn in known))


@given(turns())
def test_all_has_ones_own_words_and_the_answers_of_others_by_name(known: list[Turn]) -> None:
    found = recall(Memory("all"), "Ann", known).messages
    text = "\n".join(one.content for one in found)
    for turn in known:
        assert turn.person == "Ann" or f"{turn.person}: {turn.answer}" in text
    heard = [one for one in found if isinstance(one, Said) and one.content.startswith("Bob: ")]
    assert [one for one in found if one not in heard] == [one for one in own(known) if one not in heard]


@given(turns(), st.integers(1, 80))
def test_a_summary_leaves_nothing_out_and_is_made_only_when_needed(known: list[Turn], size: int) -> None:
    found = recall(Memory("summary", size), "Ann", known)
    whole = own(known)
    assert [*found.older, *found.messages] == whole
    assert (found.older == ()) == (tokens_in(whole) <= size)
    assert not found.older or tokens_in(found.messages) <= size // 2
    if found.older:
        assert found.covers in {turn.key for turn in known if turn.person == "Ann"}


@given(turns(), st.integers(1, 80))
def test_a_summary_that_was_made_stands_for_what_it_covers(known: list[Turn], size: int) -> None:
    first = recall(Memory("summary", size), "Ann", known)
    if not first.older:
        return
    later = Turn("n#99", "Ann", "Ann", (Said("x"), Answered("y")), "S", first.covers)
    found = recall(Memory("summary", 10_000), "Ann", [*known, later])
    assert found.older == ()
    assert list(found.messages) == [*summarised(first, "S"), *later.messages]
    assert found.messages[0] == Said(f"{INTRODUCTION}S")


def record(name: str, kind: str, value: Any, **meta: Any) -> StepRecord:
    return StepRecord(name, kind, value=value, meta=meta)


def test_a_turn_is_read_from_its_records() -> None:
    call = Answered("", (Call("1", "find", {"q": "x"}),))
    records = (
        record("model 1", "model", {"asked": plain([Said("hi")]), "answer": plain([call])[0]}, person="Ann"),
        record("find 1", "tool", ["X"]),
        record("model 2", "model", {"asked": plain([Returned("1", "find", "", (), "find 1")]),
                                    "answer": plain([Answered("done")])[0]}, person="Ann"))
    assert said_in(records) == [Said("hi"), call, Returned("1", "find", '["X"]'), Answered("done")]
    turn = turn_of(Told("a", "1", 1.0, records))
    assert turn is not None and (turn.key, turn.person, turn.answer) == ("a#1", "Ann", "done")
    assert turn_of(Told("a", "1", 1.0, records[1:2])) is None


def test_what_ended_later_and_what_is_in_other_items_is_not_heard() -> None:
    def told(node: str, at: float) -> Told:
        value = {"asked": plain([Said(node)]), "answer": plain([Answered("r")])[0]}
        return Told(node, "1", at, (record("model 1", "model", value, person="Ann"),))

    nodes = ("a", "m[0]", "m[1]", "m[1]/x", "m[0]/x", "mm[0]", "b")
    known = [told(node, at) for at, node in enumerate(nodes)]

    def heard(node: str, until: float = 99) -> list[str]:
        return [turn.key[:-2] for turn in turns_before(known, node_id=node, until=until)]

    assert heard("z") == ["a", "m[0]", "m[1]", "m[1]/x", "m[0]/x", "mm[0]", "b"]
    assert heard("z", 1) == ["a", "m[0]"]
    assert heard("m[1]") == ["a", "m[1]", "m[1]/x", "mm[0]", "b"]
    assert heard("m[1]/y") == ["a", "m[1]", "m[1]/x", "mm[0]", "b"]
    assert (map_of("m[3]"), map_of("m[3]/x"), map_of("m"), map_of("m[1]/x[2]")) == ("m", None, None, None)
