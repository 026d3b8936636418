"""What arrows do to values, and which faults of theirs are found before anything runs."""

from __future__ import annotations

from typing import Any

import pytest

from treadle.diagram.check import check
from treadle.diagram.formats import loads
from treadle.diagram.transform import TransformError, default_transforms

apply = default_transforms().apply


@pytest.mark.parametrize(("value", "rule", "wanted"), [
    ([[1, [2]], 3, (4,)], {"flatten": True}, [1, [2], 3, 4]),
    ([[1, [2]], 3], {"flatten": 2}, [1, 2, 3]),
    ([1, 2], {"flatten": 9}, [1, 2]),
    ({"a": {"b": {"c": 1}}, "d": 2, "e": {}}, {"flatten": True}, {"a.b": {"c": 1}, "d": 2, "e": {}}),
    ({"a": {"b": {"c": 1}}}, {"flatten": 5}, {"a.b.c": 1}),
    ({"a": 1, "b": 2}, {"merge": {"b": 3}}, {"a": 1, "b": 3}),
    ([{"a": 1}, {"a": 2, "b": 3}], {"merge": True}, {"a": 2, "b": 3}),
    ({"rows": [[1], [2]]}, {"flatten": True, "select": "rows"}, [1, 2]),  # by precedence, not as written
])
def test_lists_and_maps_are_flattened_and_merged(value: Any, rule: dict[str, Any], wanted: Any) -> None:
    assert apply(value, [rule]) == wanted


@pytest.mark.parametrize(("value", "rule", "message"), [
    ("abc", {"flatten": True}, "flatten wants a list or a map, not a str"),
    (3, {"merge": {"a": 1}}, "merge wants a map"),
    ([1], {"merge": True}, "merge wants a list of maps"),
])
def test_what_does_not_fit_is_said(value: Any, rule: dict[str, Any], message: str) -> None:
    with pytest.raises(TransformError, match=message):
        apply(value, [rule])


@pytest.mark.parametrize(("rule", "fault"), [
    ("{selct: body}", "unknown transform 'selct' (did you mean 'select'?)"),
    ("{nope: 1}", "unknown transform 'nope' (there is: coerce, default, flatten, format, merge, rename, "),
    ("{select: 3}", "transform select: it takes a path such as rows[0].name, not 3"),
    ("{select: 'a['}", "transform select: it is no path: write one such as rows[0].name"),
    ("{rename: [a]}", "transform rename: it takes a map of names, old: new"),
    ("{merge: 3}", "transform merge: it takes a map, or true"),
    ("{flatten: 0}", "transform flatten: it takes true, or how many levels"),
    ("{coerce: intger}", "transform coerce: it takes one of any, string, integer"),
    ("{format: 3}", "transform format: it takes a template"),
    ("{format: '{{ x'}", "transform format: "),
    ("{default: 1, coerce: any, select: a}", ""),
])
def test_faults_are_found_before_anything_runs(kinds: Any, rule: str, fault: str) -> None:
    diagram = loads("treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint}}\n"
                    f"arrows:\n  - {{from: a, to: b, transform: [{rule}]}}\n", file="d.yaml")
    found = [str(one) for one in check(diagram, kinds).faults]
    assert len(found) == bool(fault)
    assert all(one.startswith(f"d.yaml:4: arrow 'a -> b': {fault}") for one in found), found


def test_a_registered_transform_is_known_to_the_check(kinds: Any) -> None:
    types = type(kinds)(*kinds._kinds.values())
    types.transforms.register("double", lambda value, argument: value * 2,
                              check=lambda argument: "it takes nothing")
    diagram = loads("treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint}}\n"
                    "arrows:\n  - {from: a, to: b, transform: [{double: 3}]}\n")
    assert "transform double: it takes nothing" in str(check(diagram, types).faults[0])


def test_an_unknown_content_type_is_a_fault(kinds: Any) -> None:
    diagram = loads("treadle: 1\nnodes: {a: {type: start}, b: {type: endpoint}}\n"
                    "arrows:\n  - {from: a, to: b, content_type: raw_txt}\n",
                    file="d.yaml")
    found = [str(one) for one in check(diagram, kinds).faults]
    assert found[0] == "d.yaml:4: arrow 'a -> b': unknown content type 'raw_txt' (did you mean 'raw_text'?)"
