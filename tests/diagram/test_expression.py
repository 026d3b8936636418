"""Expressions and templates: values as they are, errors that name what is missing, limits that hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.config import TreadleConfig
from treadle.diagram.expression import Expression, Template, to_json
from treadle.errors import ExpressionError, LimitExceeded


def value(text: str, **names: Any) -> Any:
    return Expression.compile(text).evaluate(names)


def text(template: str, **names: Any) -> str:
    return Template.compile(template).render(names)


@pytest.mark.parametrize(("expression", "names", "expected"), [
    ("{{ a + 1 }}", {"a": 1}, 2),
    ("a + 1", {"a": 1.5}, 2.5),
    ("{{- a -}}", {"a": None}, None),
    ("{'k': [a]}", {"a": 1}, {"k": [1]}),
    ("rows | selectattr('n', 'gt', 1) | map(attribute='n')", {"rows": [{"n": 1}, {"n": 2}]}, [2]),
    ("rows | select | length", {"rows": [0, 1, 2]}, 2),
    ("m.items", {"m": {"items": 3}}, 3),
    ("m.keys() | list", {"m": {"a": 3}}, ["a"]),
    ("m.keys()", {"m": {"a": 3}}, ["a"]),
    ("range(3)", {}, [0, 1, 2]),
    ("x is defined", {}, False),
    ("x | default(7)", {}, 7),
    ("m.x is defined and m.x > 1", {"m": {}}, False),
    ("sorted(xs)[0] + len(xs) + max(xs)", {"xs": [3, 1]}, 6),
    ("'{\"a\": [1]}' | fromjson", {}, {"a": [1]}),
    ("[[1], 2, [3]] | flatten", {}, [1, 2, 3]),
    ("'a,b' | split(',')", {}, ["a", "b"]),
    ("x | e", {"x": "<"}, "&lt;"),
    ("nodes['my node'].v", {"nodes": {"my node": {"v": 1}}}, 1),
])
def test_an_expression_gives_the_value_itself(expression: str, names: dict[str, Any], expected: Any) -> None:
    found = value(expression, **names)
    assert found == expected
    assert type(found) is type(expected)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
                    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8))
def test_a_bare_name_gives_its_value_unchanged(thing: Any) -> None:
    assert value("{{ thing }}", thing=thing) is thing


@pytest.mark.parametrize(("expression", "names", "message"), [
    ("measre + 1", {"measure": 1}, "unknown name 'measre' (did you mean 'measure'?); there is: measure"),
    ("a.b", {"a": {"bb": 1}}, "the map has no key 'b' (did you mean 'bb'?); there is: bb"),
    ("{'k': [a.b]}", {"a": {}}, "the map has no key 'b'"),
    ("rows | map(attribute='b')", {"rows": [{}]}, "the map has no key 'b'"),
    ("a[3]", {"a": [1]}, "the list has no item 3"),
    ("a.b", {"a": None}, "an empty value has no attribute 'b'"),
    ("x is none", {}, "unknown name 'x'"),
    ("x is string", {}, "unknown name 'x'"),
    ("not x", {}, "unknown name 'x'"),
    ("x == 1", {}, "unknown name 'x'"),
    ("1 / 0", {}, "ZeroDivisionError: division by zero"),
    ("a < 'x'", {"a": 1}, "TypeError"),
    ("a.__class__", {"a": 1}, "unsafe"),
    ("a.append(1)", {"a": []}, "unsafe"),
])
def test_a_failing_expression_is_an_error_that_says_why(expression: str, names: dict[str, Any],
                                                        message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        value(expression, **names)
    assert message in str(caught.value)
    assert expression in str(caught.value)


@pytest.mark.parametrize(("expression", "message"), [
    ("", "it is empty"),
    ("{{ }}", "it is empty"),
    ("{{ a }} {{ b }}", "one expression expected, but '}}' follows it"),
    ("a b", "one expression expected, but 'b' follows it"),
    ("a | uper", "no filter 'uper' (did you mean 'upper'?)"),
    ("a is evn", "no test 'evn' (did you mean 'even'?)"),
    ("a\n+\n]", "line 3"),
    ("'x' if a", "needs an 'else'"),
    ("(" * 5000, "nested too deeply"),
    ("[" * 150 + "]" * 150, "nested too deeply"),
    ("a" + ".b" * 5000, "nested too deeply"),
    ("1" + "+1" * 5000, "nested too deeply"),
])
def test_what_is_no_expression_is_found_when_it_is_compiled(expression: str, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        Expression.compile(expression)
    assert message in str(caught.value)


def test_names_and_attributes_are_known_without_running() -> None:
    one = Expression.compile("inputs.limit + nodes['a b'].c + len(x)")
    assert one.names == {"inputs", "nodes", "x"}
    assert one.attributes == {"inputs": {"limit"}, "nodes": {"a b"}}
    two = Template.compile("{% for row in rows %}{{ row.name }}{{ title }}{% endfor %}")
    assert two.names == {"rows", "title"}


def test_a_text_is_compiled_once() -> None:
    assert Expression.compile("a + 41") is Expression.compile("a + 41")
    assert Template.compile("a {{ b }}") is Template.compile("a {{ b }}")


def test_a_template_gives_text_and_prints_lists_and_maps_as_json() -> None:
    assert text("{{ m }} {{ xs }} {{ n }} {{ b }}\n", m={"é": None}, xs=[1, "a"], n=1.5, b=True) == \
        '{"é": null} [1, "a"] 1.5 True\n'
    assert text("{{ n }}", n=3) == "3"
    assert text("{{ 'x' if a }}", a=False) == ""
    assert to_json({"p": Path("a/b"), "s": {1}}) == '{"p": "a/b", "s": [1]}'


def test_a_template_says_the_line_where_it_fails() -> None:
    with pytest.raises(ExpressionError, match=r"line 3: the map has no key 'y'"):
        text("a\n{% for x in xs %}\n{{ x.y }}{% endfor %}", xs=[{}])
    with pytest.raises(ExpressionError, match="line 2: unexpected"):
        Template.compile("a\n{{ b ")
    with pytest.raises(ExpressionError, match="calls itself too deeply"):
        text("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")


def test_template_files_stay_inside_the_diagrams_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "base.j2").write_text("<{% block body %}{% endblock %}>")
    (home / "page.j2").write_text("{% extends 'base.j2' %}{% block body %}{{ who }}{% endblock %}")
    (home / "out.j2").write_text("{% include '../secret' %}")
    (tmp_path / "secret").write_text("s")
    page = Template.load("page.j2", base=str(home))
    assert page.render({"who": "Ann"}) == "<Ann>"
    assert page.files == ("base.j2",)
    with pytest.raises(ExpressionError, match="outside the diagram's folder"):
        Template.load("../secret", base=str(home))
    with pytest.raises(ExpressionError, match=r"no template file '../secret'"):
        Template.load("out.j2", base=str(home)).render({})
    with pytest.raises(ExpressionError, match="no folder"):
        text("{% include 'page.j2' %}")
    with pytest.raises(FileNotFoundError):
        Template.load("none.j2", base=str(home))
    (home / "latin.j2").write_bytes(b"\xe9")
    with pytest.raises(ExpressionError, match="not UTF-8"):
        Template.load("latin.j2", base=str(home))


@pytest.mark.parametrize(
    "expression", ["range(10 ** 9)", "'ab' * 10 ** 9", "10 ** 9 * [1]", "7 ** (10 ** 8)"]
)
def test_a_limit_stops_an_expression_and_says_how_to_raise_it(expression: str) -> None:
    with pytest.raises(LimitExceeded, match="expression_result_max"):
        value(expression)


def test_limits_can_be_raised_and_lowered() -> None:
    small = TreadleConfig(expression_result_max=3, template_chars_max=12, template_output_chars_max=4)
    with pytest.raises(LimitExceeded, match="expression_result_max is 3"):
        Expression.compile("range(4)", config=small).evaluate({})
    with pytest.raises(LimitExceeded, match="template_chars_max is 12"):
        Template.compile("0123456789012", config=small)
    with pytest.raises(LimitExceeded, match="template_output_chars_max is 4"):
        Template.compile("{{ a }}{{ a }}", config=TreadleConfig(template_output_chars_max=4)).render(
            {"a": "123"}
        )
    assert Expression.compile("range(3)", config=small).evaluate({}) == [0, 1, 2]
