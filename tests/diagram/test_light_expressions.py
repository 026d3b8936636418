"""The light dialect's expressions mean the same as ours that they become."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.diagram.expression import Expression
from treadle.diagram.formats.conversion.inverse import to_expression
from treadle.diagram.formats.light.expressions import translate_expression
from treadle.errors import ExpressionError, Where

NAMES: dict[str, Any] = {"x": 5, "d": {"x": 4, "k": {"y": 1}}, "done": False, "xs": [1, 2, 2],
                         "text": "Hello", "st": {"n": 3}, "none_": None, "iteration_": 2, "my_name": 1}


def evaluated(text: str) -> Any:
    found = translate_expression(text)
    assert not found.faults, found.faults
    return Expression.compile(found.text).evaluate(NAMES)


@pytest.mark.parametrize(("text", "result"), [
    ("x > 3", True), ("d.x > 3 and not done", True), ("len(xs) == 0", False), ("'ell' in text", True),
    ("none_ is None", True), ("none_ is not None or x > 9", False), ("not (none_ is None)", False),
    ("(none_ is None) if x else 0", True), ("st['n'] + 1", 4), ("text.lower().startswith('h')", True),
    ("'a' if x else 'b'", "a"), ("-x**2", -25), ("2**3**2", 512), ("(x + 1) * 2 - -x", 17),
    ("1 < x <= 5", True), ("iteration > 1", True), ("xs[-1] - xs[0:1][0]", 1), ("x >\n  3  # enough", True),
    ("x in {5, 6}", True), ("len(set(xs)) == 2", True), ("float('3') > 2.5", True), ("x is True", False),
    ("any([x > 9, not done])", True), ("d.get('z', {'a': {'b': 1}})", {"a": {"b": 1}}),
    ("text == '}}'", False), ("round(2.25, ndigits=1)", 2.2), ("not done == True", True), ("x - (1 - 2)", 6),
    ("x % 3 // 1 / 2", 1.0), ("(1, 2)[0]", 1), ("tuple(xs)", [1, 2, 2]), ("1 if done else 2 if x else 3", 2),
    ("d == {'x': 4, 'k': {'y': 1}}", True)])
def test_an_expression_of_the_dialect_is_evaluated(text: str, result: Any) -> None:
    found = evaluated(text)
    assert (found, type(found)) == (result, type(result))


@pytest.mark.parametrize(("text", "message"), [
    ("nope > 3", "unknown name 'nope'"), ("d.z == 1", "no key 'z'"), ("d['z'] == 1", "no key 'z'"),
    ("nope is None", "unknown name 'nope'"), ("x._secret", "unsafe|no attribute"), ("text > 3", "TypeError"),
    ("xs.append(1)", "unsafe|not safely callable"), ("'{0.__class__}'.format(x)", "unsafe")])
def test_what_fails_is_an_error_and_never_false(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        evaluated(text)


BEFORE = "compute it in a code_job before, and label the arrow"


@pytest.mark.parametrize(("text", "message", "hint"), [
    ("__import__('os')", "'__import__' leads to Python's insides", None),
    ("x.__class__", "'__class__' leads to Python's insides", None),
    ("import os", "invalid syntax", None), ("x = 3", "invalid syntax", None),
    ("(lambda: 1)()", "only functions and methods can be called", None),
    ("open('f')", "there is no function 'open'", "call it in a code_job before, and label the arrow"),
    ("maxx(1)", "there is no function 'maxx'", "did you mean 'max'?"),
    ("[y for y in xs]", "a comprehension can't stand in an expression", BEFORE),
    ("x & 1", "the operator & can't stand in an expression", "write: and"),
    ("x && done", "invalid syntax", "write and instead of &&"),
    ("{{x}} > 3", "a set can't stand in an expression", "write names without braces"),
    ("true", "unknown name 'true'", "write True"),
    ("x is 5", "`is` takes None, True or False", "compare values with =="),
    ("  ", "it is empty", "such as: score > 3"),
    ("max(*xs)", "a star can't stand in an expression", BEFORE),
    ("-" * 5000 + "x", "it is nested too deeply", None)])
def test_a_mistake_is_a_fault_that_says_what_to_do(text: str, message: str, hint: str | None) -> None:
    found = translate_expression(text, where=Where("x.light.yaml", 7), node="c")
    (fault,) = found.faults
    assert str(fault).startswith("x.light.yaml:7: node 'c': expression ")
    assert (fault.message.rpartition(": ")[2], fault.hint) == (message, hint)


def test_a_name_of_an_arrow_may_be_a_word_of_another_language() -> None:
    assert translate_expression("true > 3", known=["true"]).text == "true_ > 3"
    assert translate_expression("a.b + len(c)").names == {"a", "c"}


ATOMS = st.sampled_from(["0", "1", "2", "3", "True", "None", "'a'", "x", "xs", "d.x", "st['n']", "len(xs)"])
SIGNS = st.sampled_from(["+", "-", "*", "/", "//", "%", "==", "!=", "<", ">=", "and", "or", "in", "not in"])


def _around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.one_of(
        st.tuples(inner, SIGNS, inner).map(" ".join),
        st.tuples(inner, SIGNS, inner).map(lambda three: f"({' '.join(three)})"),
        st.tuples(inner, SIGNS, inner, SIGNS, inner).map(" ".join),
        st.tuples(inner, st.just("if"), inner, st.just("else"), inner).map(" ".join),
        st.sampled_from(["(not {})", "not {}", "-{}", "(-{})", "(({}) is not None)", "[{}, 1]"]).flatmap(
            lambda shape: inner.map(shape.format)))


TREES = st.recursive(ATOMS, _around, max_leaves=8)


class Dotted(dict[str, Any]):
    __getattr__ = dict.__getitem__


@given(TREES)
def test_it_is_what_python_makes_of_it(text: str) -> None:
    """Whatever binds how: the same value, or an error in both."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # `0 is None`
            expected: Any = eval(text, {"len": len}, {**NAMES, "d": Dotted(NAMES["d"])})
    except Exception as error:
        expected = error
    if isinstance(expected, SyntaxError):
        assert translate_expression(text).faults
    elif isinstance(expected, Exception):
        with pytest.raises(ExpressionError):
            evaluated(text)
    else:
        assert (found := evaluated(text)) == expected and type(found) is type(expected)


@given(TREES)
def test_there_and_back_is_the_same_expression(text: str) -> None:
    ours = translate_expression(text).text
    if ours:
        assert translate_expression(to_expression(ours)).text == ours


@pytest.mark.parametrize(("text", "light"), [
    ("{{ rows | length > inputs.limit }}", "len(rows) > inputs.limit"), ("x is not none", "x is not None"),
    ("-x ** 2", "(-x) ** 2"), ("2 ** 3 ** 2", "(2 ** 3) ** 2"),
    ("(a if b else c) + 1", "(a if b else c) + 1"),
    ("'a' in xs and not (b or c)", "'a' in xs and not (b or c)"),
    ("d.get('k', [1])[0:2]", "d.get('k', [1])[0:2]")])
def test_what_the_dialect_can_say_it_says(text: str, light: str) -> None:
    assert to_expression(text) == light


@pytest.mark.parametrize(("text", "message"), [
    ("x | default(3)", "filter `default`"), ("x is defined", "test `is defined`"), ("a ~ b", "concat"),
    ("rows | map(attribute='x')", "filter `map`"), ("cycler(1)", None)])
def test_what_it_has_no_words_for_is_an_error(text: str, message: str | None) -> None:
    if message is None:
        assert to_expression(text) == text
        return
    with pytest.raises(ExpressionError, match="the light dialect has no ") as caught:
        to_expression(text)
    assert message in str(caught.value)
