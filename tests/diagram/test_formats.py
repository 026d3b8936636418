"""Diagram files: what they mean, where their faults are, and that no file can hurt the reader."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.config import TreadleConfig
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats import Format, dumps, from_map, load, loads
from treadle.diagram.formats.values import Mismatch, convert_struct
from treadle.diagram.node import Arrow, Input, Loop, Node
from treadle.diagram.policy import Backoff, Join, OnError, OnItemError, OnLimit, Policy
from treadle.errors import InvalidDiagram, Where
from treadle.ids import NodeID

REPORT = """\
treadle: 1
name: stdlib-report
inputs:
  limit: {type: integer, default: 80}
nodes:
  find:    {type: code_job, call: "tasks:find_modules"}
  measure: {type: code_job, call: "tasks:measure", for_each: "{{ find }}", concurrency: 16,
            on_item_error: collect, needs: find}
  long:    {type: condition, when: "{{ measure | length > inputs.limit }}", needs: measure}
  warn:    {type: template_job, template: warning.md.j2, needs: long.true, retries: 2, timeout: 10}
  done:    {type: endpoint}
arrows:
  - long.false -> done
  - {from: warn, to: done.text, transform: [{select: body}]}
  - warn.error -> done.text
loops: []
"""


def faults(text: str, format: Format = "yaml", config: TreadleConfig | None = None) -> list[str]:
    with pytest.raises(InvalidDiagram) as caught:
        loads(text, file="d.yaml", format=format, **({"config": config} if config else {}))
    return [str(fault) for fault in caught.value.faults]


def bare(spec: DiagramSpec) -> Any:
    """A spec without what only its file knows."""
    nodes = tuple(msgspec.structs.replace(node, where=None, places={}) for node in spec.nodes)
    arrows = tuple(msgspec.structs.replace(arrow, where=None) for arrow in spec.arrows)
    loops = tuple(msgspec.structs.replace(loop, where=None) for loop in spec.loops)
    return msgspec.structs.replace(
        spec, nodes=nodes, arrows=arrows, loops=loops, where=None, source="", base="."
    )


def test_the_example_of_the_design_reads_as_it_says(tmp_path: Path) -> None:
    path = tmp_path / "report.yaml"
    path.write_text(REPORT)
    spec = load(path)
    assert spec.name == "stdlib-report"
    assert spec.base == str(tmp_path)
    assert spec.source == REPORT
    assert spec.inputs == {"limit": Input("integer", 80)}
    assert [str(arrow) for arrow in spec.arrows] == [
        "find -> measure", "measure -> long", "long.true -> warn", "long.false -> done", "warn -> done.text",
        "warn.error -> done.text"]
    assert spec.arrows[4].transform == ({"select": "body"},)
    measure = spec.nodes[1]
    assert measure.properties == {"call": "tasks:measure"}
    assert measure.policy == Policy(for_each="{{ find }}", concurrency=16, on_item_error=OnItemError.COLLECT)
    assert str(measure.places["concurrency"]) == f"{path}:7"
    assert measure.places["on_item_error"].line == 8


def test_json_is_the_same_shape_with_the_same_places(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(dumps(loads(REPORT), "json"))
    spec = load(path)
    assert bare(spec) == bare(loads(REPORT))
    node = spec.nodes[0]
    assert node.where is not None
    assert path.read_text().splitlines()[node.where.line - 1].strip().startswith('"find"')


ids = st.from_regex(r"[A-Za-z][\w -]{0,8}[A-Za-z0-9]", fullmatch=True)
words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x85"), max_size=12)
tricky = st.sampled_from(
    [
        "on",
        "yes",
        "null",
        "~",
        "",
        "1e3",
        "0o17",
        "0x1F",
        ".inf",
        "12:30",
        "- a",
        "a: b",
        "# c",
        "{{ x }}",
        "'",
        '"',
        "=",
        "<<",
        "2026-01-01",
        " lead",
        "trail ",
        "a\nb",
        "\t",
        "1_000",
    ]
)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
    | tricky,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(words | tricky.filter(lambda t: t != "<<"), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def specs(draw: st.DrawFn) -> DiagramSpec:
    names = draw(st.lists(ids, min_size=1, max_size=4, unique=True))
    keys = st.from_regex(r"x_[a-z]{1,5}", fullmatch=True)
    policies = st.builds(
        Policy,
        retries=st.integers(0, 9),
        backoff=st.builds(Backoff, initial=st.floats(0, 9)),
        join=st.sampled_from(Join),
        retry_on=st.lists(st.sampled_from(["ValueError", "OSError"]), unique=True).map(tuple),
        timeout=st.none() | st.floats(0.1, 100),
        priority=st.integers(-9, 9),
        for_each=st.none() | words,
        concurrency=st.none() | st.integers(1, 9),
        on_item_error=st.sampled_from(OnItemError),
    )
    nodes = tuple(
        Node(
            id=NodeID(name),
            type=draw(ids),
            properties=draw(st.dictionaries(keys, plain, max_size=3)),
            policy=draw(policies),
        )
        for name in names
    )
    ends = st.sampled_from(names).map(NodeID)
    ports = st.sampled_from(["default", "true", "error", "a.b", "needs review", "x->y"])
    arrow = st.builds(
        Arrow,
        source=ends,
        target=ends,
        port=ports,
        input=ports,
        content_type=st.none() | words,
        transform=st.lists(st.dictionaries(words, plain, min_size=1, max_size=2), max_size=2).map(tuple),
    )
    loop = st.builds(Loop, entry=ends, max_iterations=st.integers(1, 9), on_limit=st.sampled_from(OnLimit))
    inputs = {name: Input(draw(st.just("any")), draw(st.just(msgspec.UNSET) | plain), draw(words))
              for name in draw(st.lists(ids, max_size=2, unique=True))}
    return DiagramSpec(
        name=draw(words),
        description=draw(words),
        nodes=nodes,
        arrows=tuple(draw(st.lists(arrow, max_size=4))),
        loops=tuple(draw(st.lists(loop, max_size=2))),
        inputs=inputs,
        on_error=draw(st.sampled_from(OnError)),
        deadline=draw(st.none() | st.floats(1, 9)),
    )


@settings(max_examples=100, deadline=None)
@given(specs(), st.sampled_from(["yaml", "json"]))
def test_a_diagram_written_and_read_is_the_same_diagram(spec: DiagramSpec, format: Format) -> None:
    again = loads(dumps(spec, format), format=format)
    assert bare(again) == spec
    assert dumps(again, format) == dumps(spec, format)


def test_all_faults_of_a_file_come_at_once_with_their_lines() -> None:
    found = faults("""\
nodes:
  a: {typ: x, retries: '3', join: al, backoff: {initial: x}}
  b: {type: t, timeout: yes, concurrency: 1.5, needs: [3, "a -> b"]}
  c: 7
arows: []
arrows: [x, {from: a}, 3, "a -> b -> c", {from: a, to: b, as: c}]
loops: [{entry: a, max: 3}, {}]
inputs: {x: strin, y: {type: integer, default: a}, z: 3}
on_error: contnue
deadline: soon
""")
    assert found == [
        "d.yaml:5: a diagram has no key 'arows' (did you mean 'arrows'?)",
        "d.yaml:1: the key 'treadle' is missing (begin with: treadle: 1)",
        "d.yaml:2: node 'a': the key 'type' is missing (is 'typ' meant for it?)",
        "d.yaml:2: node 'a': retries: expected an integer, not a text",
        "d.yaml:2: node 'a': backoff.initial: expected a number, not a text",
        "d.yaml:2: node 'a': join: 'al' is not one of all, any (did you mean 'all'?)",
        "d.yaml:3: node 'b': timeout: expected a number or null, not a text",
        "d.yaml:3: node 'b': concurrency: expected an integer or null, not a number",
        "d.yaml:4: node 'c': a node must be a map, not a number",
        "d.yaml:3: node 'b': needs: expected 'node' or 'node.port', not a number",
        "d.yaml:3: node 'b': needs: 'a -> b' is an arrow; name only its source",
        "d.yaml:6: 'x' is not an arrow (write: source.port -> target.input)",
        "d.yaml:6: the arrow has no 'to' (write: {from: source.port, to: target.input})",
        "d.yaml:6: an arrow must be a text or a map, not a number (write: source.port -> target.input)",
        "d.yaml:6: 'a -> b -> c' is not an arrow (write: source.port -> target.input)",
        "d.yaml:6: an arrow has no key 'as' (there is: from, to, transform, content_type, "
        "first)",
        "d.yaml:7: a loop has no key 'max' (there is: entry, max_iterations, on_limit)",
        "d.yaml:7: the loop has no 'entry' (name the node that the loop begins with)",
        "d.yaml:8: input 'x': 'strin' is no type of input (did you mean 'string'?)",
        "d.yaml:8: input 'y': the default is a text, not of type integer",
        "d.yaml:8: input 'z' must be a map, not a number (write: z: {default: …})",
        "d.yaml:9: on_error: 'contnue' is not one of fail, continue (did you mean 'continue'?)",
        "d.yaml:10: deadline: expected a number or null, not a text",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "d.yaml: the diagram is empty (begin with: treadle: 1)"),
        ("x", "d.yaml:1: a diagram must be a map, not a text"),
        ("treadle: 2\nnodes: {a: {type: t}}", "d.yaml:1: this program reads 'treadle: 1', not 2"),
        ("treadle: 1", "d.yaml:1: the diagram has no nodes"),
        ("a: 1\na: 2", "d.yaml:2: key 'a' stands here a second time (the first is in line 1)"),
        ("a: [1", "d.yaml:2: not YAML: did not find expected ',' or ']'"),
        ("a: 1\n  b: 2", "d.yaml:2: not YAML: mapping values are not allowed"),
        ("a: 1\n---\nb: 2", "d.yaml:2: a second document begins here"),
        ("a: !!python/object:os.system x", "d.yaml:1: tag '!!python/object:os.system' means nothing"),
        ("a: !mine [1]", "d.yaml:1: tag '!mine' means nothing"),
        ("a: !!int x", "d.yaml:1: 'x' is no !!int"),
        ("a: *b", "d.yaml:1: alias *b has no anchor &b before it"),
        ("a: &a [*a]", "d.yaml:1: alias *a stands inside its own anchor"),
        ("? [a]\n: b", "d.yaml:1: a key must be a text, not a list or map"),
        ("a: &a b\n? *a\n: c", "d.yaml:2: a key must be a text, not an alias"),
        ("a: {<<: 3}", "d.yaml:1: '<<' takes a map"),
        ("treadle: 1\nnodes: {a: {type: t}}\narrows: [a. -> a]", "d.yaml:3: 'a. -> a' is not an arrow"),
        ("a: \x00", "d.yaml:1: not YAML: control characters are not allowed"),
        ("a: " + "9" * 5000, "d.yaml:1: the number has too many digits (quote it)"),
        (
            "treadle: 1\nnodes:\n  a/b: {type: t}\n  a_2f_b: {type: t}",
            "d.yaml:4: 'a_2f_b' and another label are the same",
        ),
    ],
)
def test_every_fault_of_yaml_is_named_with_its_line(text: str, message: str) -> None:
    assert any(one.startswith(message) for one in faults(text)), faults(text)


@pytest.mark.parametrize(("text", "message"), [
    ("", "not JSON: a value was expected, the text ends here"),
    ('{"a": 1,}', "not JSON: a key in double quotes was expected, found '}'"),
    ('{"a": 1 "b": 2}', "not JSON: ',' or '}' was expected, found '\"'"),
    ('{"a" 1}', "not JSON: ':' was expected, found '1'"),
    ("[1, 2", "not JSON: ',' or ']' was expected, the text ends here"),
    ("{} x", "not JSON: the end of the text was expected, found 'x'"),
    ('{"a": NaN}', "not JSON: a value was expected, found 'N'"),
    ('{"a": -}', "not JSON: a number was expected, found '-'"),
    ('{"a": "x\n"}', "not JSON: Invalid control character at"),
    ('{"a": "\\ud800"}', "half of a surrogate pair is not a character"),
    ('{"a": ' + "9" * 5000 + "}", "not JSON: the number has too many digits"),
    ('{"<<": 1}', "a diagram has no key '<<'"),
])
def test_every_fault_of_json_is_named_with_its_line(text: str, message: str) -> None:
    assert any(one.startswith(f"d.yaml:1: {message}") for one in faults(text, "json")), faults(text, "json")


@settings(deadline=None)
@given(plain)
def test_json_reads_as_the_standard_library_reads_it(value: Any) -> None:
    text = json.dumps({"treadle": 1, "nodes": {"a": {"type": "t", "p": value}}}, indent="\t")
    assert loads(text, format="json").nodes[0].properties["p"] == value


@settings(max_examples=300, deadline=None)
@given(st.text("[]{}:,-&*a1\"' \n!<>|?#%@\\\t", max_size=40), st.sampled_from(["yaml", "json"]))
def test_no_text_makes_anything_but_faults(text: str, format: Format) -> None:
    with pytest.raises(InvalidDiagram):
        loads(text, format=format)


def test_words_mean_what_yaml_1_2_says() -> None:
    spec = loads(
        "treadle: 1\nnodes:\n  a: {type: t, v: [on, yes, 12:30, 0o17, 0x1f, 1e3, .inf, .nan, ~, '1', "
        "2026-01-01, !!str 5, !!float 2, True]}"
    )
    values = spec.nodes[0].properties["v"]
    assert values[:7] == ["on", "yes", "12:30", 15, 31, 1000.0, math.inf]
    assert math.isnan(values[7])
    assert values[8:] == [None, "1", "2026-01-01", "5", 2.0, True]


def test_anchors_and_merges_are_expanded() -> None:
    spec = loads("treadle: 1\nnodes:\n  a: &base {type: t, retries: 3, p: 1}\n  b: {<<: *base, p: 2}")
    b = spec.nodes[1]
    assert (b.type, b.policy.retries, b.properties) == ("t", 3, {"p": 2})


BOMB = "\n".join(f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]" if before else f"{name}: &{name} [x]"
                 for before, name in zip(["", *"abcdefgh"], "abcdefghi", strict=True))


@pytest.mark.parametrize(("text", "format", "limit"), [
    ("[" * 100_000, "yaml", "diagram_depth_max"), ("{a: " * 100_000, "yaml", "diagram_depth_max"),
    ("- " * 100_000, "yaml", "diagram_depth_max"), ("[" * 100_000, "json", "diagram_depth_max"),
    ('{"a":' * 100_000, "json", "diagram_depth_max"), (BOMB, "yaml", "diagram_values_max"),
    ("x" * (11 << 20), "yaml", "diagram_bytes_max"),
])
def test_a_bomb_is_a_fault_that_says_how_to_raise_the_limit(text: str, format: Format, limit: str) -> None:
    (found,) = faults(text, format)
    assert f"raise it with TreadleConfig({limit}=…)" in found


def test_a_chain_of_aliases_counts_towards_the_depth() -> None:
    text = "a: &a [[[x]]]\nb: &b [[[*a]]]\nc: [[[*b]]]"
    (found,) = faults(text, config=TreadleConfig(diagram_depth_max=8))
    assert "alias *b nests more deeply" in found


def test_a_file_that_can_not_be_read_says_why(tmp_path: Path) -> None:
    path = tmp_path / "d.yaml"
    path.write_bytes(b"treadle: 1\nname: \xe9\n")
    with pytest.raises(InvalidDiagram, match=r"d\.yaml:2: not UTF-8 text"):
        load(path)
    path.write_bytes(b"x" * 200)
    with pytest.raises(InvalidDiagram, match="diagram_bytes_max is 100"):
        load(path, config=TreadleConfig(diagram_bytes_max=100))
    path.write_bytes(b"\xef\xbb\xbftreadle: 1\nnodes: {a: {type: t}}\n")
    assert load(path).name == "d"
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")


def test_the_longest_node_that_an_arrow_begins_with_wins() -> None:
    spec = loads("""\
treadle: 1
nodes:
  a: {type: t}
  a.b: {type: t}
  my node: {type: t, label: Mine}
  x/y: {type: t, needs: a.b.true}
arrows: [a.b -> a, a.c -> x/y.in.put, my node.needs review -> a.b.text, a.b -> zz.top]
""")
    assert [node.id for node in spec.nodes] == ["a", "a_2e_b", "my node", "x_2f_y"]
    assert [node.label for node in spec.nodes] == ["", "a.b", "Mine", "x/y"]
    ends = [(arrow.source, arrow.port, arrow.target, arrow.input) for arrow in spec.arrows]
    assert ends == [
        ("a_2e_b", "true", "x_2f_y", "default"), ("a_2e_b", "default", "a", "default"),
        ("a", "c", "x_2f_y", "in.put"), ("my node", "needs review", "a_2e_b", "text"),
        ("a_2e_b", "default", "zz", "top")]


def test_short_forms_of_a_policy() -> None:
    spec = loads("treadle: 1\nnodes: {a: {type: t, backoff: 2, retry_on: ValueError}, b: {type: t, backoff: "
                 "{initial: 1, jitter: 0}, retry_on: [A, B], join: any}}")
    assert spec.nodes[0].policy == Policy(backoff=Backoff(initial=2.0), retry_on=("ValueError",))
    assert spec.nodes[1].policy == Policy(
        backoff=Backoff(initial=1.0, jitter=0.0), retry_on=("A", "B"), join=Join.ANY
    )


def test_an_inline_diagram_that_is_no_data_is_a_fault() -> None:
    spec, (fault,) = from_map({"nodes": {"a": {"type": "t", "p": object()}}}, where=Where("d.yaml", 3))
    assert spec is None
    assert str(fault).startswith("d.yaml:3: the inline diagram is no plain data")


class Inner(msgspec.Struct):
    n: int


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    inner: list[Inner]
    word: Literal["a", "b"] | None = None
    name: str = ""


def test_a_struct_is_converted_with_everything_that_is_wrong() -> None:
    made, wrong = convert_struct({"inner": [{"n": 1}], "word": "a"}, Outer)
    assert (made, wrong) == (Outer([Inner(1)], "a"), [])
    made, wrong = convert_struct({"inner": [{"n": 1}, {"n": "x"}], "word": "c", "nme": 1}, Outer)
    assert made is None
    assert [(one.path, one.message, one.hint) for one in wrong] == [
        ("inner[1].n", "expected an integer, not a text", None),
        ("word", "'c' is not one of a, b", None),
        ("nme", "unknown property 'nme'", "did you mean 'name'?")]
    assert convert_struct({}, Outer)[1] == [Mismatch("", "property 'inner' is missing", missing=True)]
