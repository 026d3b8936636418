"""Expressions and templates: names set inside, values that JSON lacks, files and caches with an end."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.diagram import expression
from treadle.diagram.expression import Expression, Template, to_json
from treadle.errors import ExpressionError, LimitExceeded


@dataclasses.dataclass(frozen=True)
class Key:
    n: int


@dataclasses.dataclass
class Table:
    rows: dict[Any, int]


def test_a_name_that_the_template_sets_hides_the_one_that_was_given() -> None:
    template = Template.compile("{% set x = 2 %}{% block b %}{{ x + y }}{% endblock %}")
    assert template.render({"x": 40, "y": 1}) == "3"


def test_an_unknown_name_inside_a_list_is_an_error_in_json_too() -> None:
    for text in ("{{ [nope] | tojson }}", "{{ [nope] }}"):
        with pytest.raises(ExpressionError, match="unknown name 'nope'"):
            Template.compile(text).render({})


def test_json_takes_the_nearest_to_what_it_lacks() -> None:
    assert to_json([MappingProxyType({"a": 1})]) == '[{"a": 1}]'
    assert to_json(Table({"a": 1})) == '{"rows": {"a": 1}}'
    odd = Table({Key(1): 2})  # a map with such keys has nothing near in JSON but its text
    assert json.loads(to_json(odd)) == str(odd)


def test_compiled_texts_show_themselves() -> None:
    assert repr(Expression.compile("a + 1")) == "Expression('a + 1')"
    assert repr(Template.compile("{{ a }}!")) == "Template('{{ a }}!')"


def test_a_template_file_is_not_read_beyond_its_limit(tmp_path: Path) -> None:
    (tmp_path / "long.txt").write_text("x" * 41)
    config = TreadleConfig(template_chars_max=10)
    with pytest.raises(LimitExceeded, match="template_chars_max") as caught:
        Template.load("long.txt", base=str(tmp_path), config=config)
    assert "template file 'long.txt' of 41 bytes" in str(caught.value)


def test_the_cache_of_compiled_texts_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expression, "CACHED_MAX", 3)
    config = TreadleConfig(template_chars_max=999)  # a cache of its own
    first = Expression.compile("0 + n", config=config)
    assert Expression.compile("0 + n", config=config) is first
    many = [Expression.compile(f"{i} + n", config=config) for i in range(1, 9)]
    assert len(first._environment.texts) <= 3
    assert Expression.compile("0 + n", config=config) is not first  # it was forgotten, and made again
    assert [one.evaluate({"n": 1}) for one in (first, *many)] == list(range(1, 10))


def test_json_has_text_keys_only() -> None:
    @dataclasses.dataclass
    class Table:
        rows: dict[Any, Any]

    assert to_json({(1, 2): {date(2026, 1, 2): [{(3,): 4}]}, 5: 6}) == (
        '{"(1, 2)": {"2026-01-02": [{"(3,)": 4}]}, "5": 6}')
    assert to_json([Table({(1, 2): 3})]) == '[{"rows": {"(1, 2)": 3}}]'
