"""Differences of values are named by their places."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.state.difference import ABSENT, Difference, differences

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4))


@pytest.mark.parametrize(("a", "b", "places"), [
    (1, 1, []),
    (float("nan"), float("nan"), []),
    (1, 1.0, [Difference("", 1, 1.0)]),
    (1, True, [Difference("", 1, True)]),
    ("a", b"a", [Difference("", "a", b"a")]),
    ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, [Difference("a.b[1]", 2, 3)]),
    ({"a": None}, {}, [Difference("a", None, ABSENT)]),
    ([1], [1, {"x": 2}], [Difference("[1]", ABSENT, {"x": 2})]),
    ([1], (1,), [Difference("", [1], (1,))]),
    ({"a": [1]}, {"a": {"x": 1}}, [Difference("a", [1], {"x": 1})]),
    (date(2026, 1, 1), date(2026, 1, 2), [Difference("", date(2026, 1, 1), date(2026, 1, 2))]),
    ({1: "a"}, {1: "b"}, [Difference("1", "a", "b")]),
    (ABSENT, 1, [Difference("", ABSENT, 1)]),
])
def test_a_difference_is_where_it_is(a: Any, b: Any, places: list[Difference]) -> None:
    assert repr(differences(a, b)) == repr((places, len(places)))


def test_only_the_first_are_kept_and_all_are_counted() -> None:
    found, count = differences(list(range(100)), list(range(1, 101)), most=3)
    assert [one.path for one in found] == ["[0]", "[1]", "[2]"]
    assert count == 100


def test_a_deep_value_is_compared_to_its_end() -> None:
    a: Any = 1
    b: Any = 2
    for _ in range(300):
        a, b = [a], {"k": b} if isinstance(b, list) else [b]
    assert differences(a, a) == ([], 0)
    assert differences(a, b)[1] == 1


def test_a_foreign_equality_has_no_say() -> None:
    class Odd:
        def __eq__(self, other: object) -> bool:
            raise RuntimeError("no")

        __hash__ = None  # type: ignore[assignment]

    odd = Odd()
    assert differences([odd], [odd]) == ([], 0)
    assert differences([odd], [Odd()])[1] == 1


@given(plain)
def test_a_value_does_not_differ_from_itself(value: Any) -> None:
    assert differences(value, value) == ([], 0)


@given(plain, plain)
def test_differences_are_the_same_from_the_other_side(a: Any, b: Any) -> None:
    there, back = differences(a, b), differences(b, a)
    assert there[1] == back[1]
    assert {repr((one.path, one.a, one.b)) for one in there[0]} == {
        repr((one.path, one.b, one.a)) for one in back[0]}
