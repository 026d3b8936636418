"""An edit changes the lineage of exactly what follows from it, the same in every process."""

from __future__ import annotations

import functools
import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

import treadle
from treadle.diagram.check import check
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.fingerprint import Identity, fingerprint, identify, source_of
from treadle.diagram.formats import loads
from treadle.diagram.node import Arrow, Node
from treadle.diagram.policy import Backoff, OnItemError, Policy
from treadle.ids import NodeID


def identity(spec: DiagramSpec | str, kinds: Any) -> Identity:
    found = check(loads(spec) if isinstance(spec, str) else spec, kinds)
    found.raise_if_invalid()
    return identify(found)


def changed(before: Identity, after: Identity) -> set[str]:
    return {node for node in before.lineages if before.lineages[node] != after.lineages.get(NodeID(node))}


@st.composite
def graphs(draw: st.DrawFn) -> DiagramSpec:
    """Acyclic graphs with labels and ports, then one back arrow or none (from a node with an error arrow)."""
    size = draw(st.integers(1, 7))
    nodes = tuple(Node(NodeID(f"n{i}"), "code_job", {"arguments": {"i": i}}) for i in range(size))
    pairs = draw(st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)).filter(
        lambda pair: pair[0] < pair[1]), unique=True, max_size=12))
    arrows = [Arrow(NodeID(f"n{a}"), NodeID(f"n{b}"), input=draw(st.sampled_from(["default", "x", "y"])))
              for a, b in pairs]
    return DiagramSpec(nodes=nodes, arrows=tuple(arrows))


def descendants(spec: DiagramSpec, node: str) -> set[str]:
    found, waiting = {node}, [node]
    while waiting:
        here = waiting.pop()
        for arrow in spec.arrows:
            if arrow.source == here and arrow.target not in found:
                found.add(arrow.target)
                waiting.append(arrow.target)
    return found


@settings(deadline=None)
@given(graphs(), st.data())
def test_an_edit_changes_exactly_the_node_and_its_descendants(kinds: Any, spec: DiagramSpec,
                                                              data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(spec.nodes))
    edited = tuple(
        msgspec.structs.replace(node, properties={"arguments": {"edited": 1}}) if node is victim else node
        for node in spec.nodes
    )
    before, after = identity(spec, kinds), identity(msgspec.structs.replace(spec, nodes=edited), kinds)
    assert changed(before, after) == descendants(spec, victim.id)


@settings(deadline=None)
@given(graphs(), st.data())
def test_a_removed_arrow_changes_exactly_its_target_and_what_follows(kinds: Any, spec: DiagramSpec,
                                                                     data: st.DataObject) -> None:
    if not spec.arrows:
        return
    victim = data.draw(st.sampled_from(spec.arrows))
    rest = tuple(arrow for arrow in spec.arrows if arrow is not victim)
    before, after = identity(spec, kinds), identity(msgspec.structs.replace(spec, arrows=rest), kinds)
    assert changed(before, after) == descendants(spec, victim.target)


@settings(deadline=None)
@given(graphs(), st.randoms(use_true_random=False))
def test_the_order_of_the_file_does_not_count(kinds: Any, spec: DiagramSpec, random: Any) -> None:
    nodes, arrows = list(spec.nodes), list(spec.arrows)
    random.shuffle(nodes)
    # Of arrows into one input the order counts, since their values make a list: keep it.
    arrows.sort(key=lambda arrow: (arrow.input, arrow.target))
    shuffled = msgspec.structs.replace(spec, nodes=tuple(nodes), arrows=tuple(arrows))
    assert identity(shuffled, kinds).lineages == identity(spec, kinds).lineages


def test_the_order_of_values_in_a_list_counts(kinds: Any) -> None:
    text = """
treadle: 1
nodes: {a: {type: code_job}, b: {type: code_job, call: x}, c: {type: code_job, needs: [%s]}}
"""
    assert changed(identity(text % "a, b", kinds), identity(text % "b, a", kinds)) == {"c"}


LOOP = """
treadle: 1
nodes:
  a: {type: code_job}
  head: {type: code_job, needs: a}
  test: {type: condition, when: head, needs: head}
  side: {type: code_job, needs: a}
  end: {type: code_job, needs: test.true}
arrows: [test.false -> head]
"""


def test_a_loop_has_one_lineage_and_an_edit_inside_changes_all_of_it(kinds: Any) -> None:
    before = identity(LOOP, kinds)
    assert before.lineages[NodeID("head")] == before.lineages[NodeID("test")]
    assert changed(before, identity(LOOP.replace("when: head", "when: not head"), kinds)) == {
        "head",
        "test",
        "end",
    }
    assert changed(before, identity(LOOP.replace("  end: {", "  end: {call: x, "), kinds)) == {"end"}
    assert changed(before, identity(LOOP + "loops: [{entry: head, max_iterations: 7}]", kinds)) == set()


SUB = """
treadle: 1
nodes:
  a: {type: code_job}
  sub:
    type: sub_diagram
    needs: a
    diagram:
      nodes:
        first: {type: code_job}
        second: {type: code_job, needs: first}
        other: {type: code_job, call: o}
  after: {type: code_job, needs: sub}
"""


def test_an_edit_inside_a_sub_diagram_changes_what_follows_it_there_and_the_composite(kinds: Any) -> None:
    before = identity(SUB, kinds)
    after = identity(SUB.replace("second: {", "second: {call: x, "), kinds)
    assert changed(before, after) == {"sub", "after"}
    sub = NodeID("sub")
    assert changed(before.children[sub], after.children[sub]) == {"second"}


def test_an_edit_before_a_sub_diagram_changes_everything_in_it(kinds: Any) -> None:
    before = identity(SUB, kinds)
    after = identity(SUB.replace("  a: {", "  a: {call: x, "), kinds)
    assert changed(before, after) == {"a", "sub", "after"}
    sub = NodeID("sub")
    assert changed(before.children[sub], after.children[sub]) == {"first", "second", "other"}


def test_what_does_not_change_results_does_not_change_the_fingerprint(kinds: Any) -> None:
    spec = kinds.get("code_job").properties
    node = Node(NodeID("a"), "code_job", policy=Policy(for_each="x"))
    usual = fingerprint(node, spec(), ())
    for policy in (
        Policy(retries=3, for_each="x"),
        Policy(timeout=1, for_each="x"),
        Policy(priority=2, for_each="x"),
        Policy(concurrency=2, for_each="x"),
        Policy(backoff=Backoff(initial=9), for_each="x"),
        Policy(retry_on=("OSError",), for_each="x"),
    ):
        assert fingerprint(msgspec.structs.replace(node, policy=policy), spec(), ()) == usual
    for policy in (Policy(), Policy(for_each="y"), Policy(for_each="x", on_item_error=OnItemError.COLLECT)):
        assert fingerprint(msgspec.structs.replace(node, policy=policy), spec(), ()) != usual
    assert fingerprint(node, spec(memory_mb=64), ()) == usual  # as by default
    assert fingerprint(node, spec(memory_mb=65), ()) != usual
    assert fingerprint(node, spec(), ("text",)) != usual
    assert fingerprint(msgspec.structs.replace(node, type="text"), spec(), ()) != usual


MODULE = '''
import functools
LIMIT = 3
def helper(x):
    return x + LIMIT
def unused(x):
    return x
def body(x):
    """Says what it does."""
    return helper(x)  # because
'''


def module(tmp_path: Path, text: str, name: str) -> ModuleType:
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    sys.modules[name] = made  # where inspect looks for it
    return made


def test_the_source_of_a_function_is_what_it_uses_and_not_how_it_is_written(tmp_path: Path) -> None:
    def source(text: str) -> str:
        try:
            return source_of(module(tmp_path, text, "fingerprinted").body)
        finally:
            del sys.modules["fingerprinted"]

    usual = source(MODULE)
    for old, new in (("  # because", ""), ("Says what it does.", "Else."), ("return x\n", "return 2 * x\n"),
                     ("\ndef unused", "\n\n\ndef unused")):
        assert source(MODULE.replace(old, new)) == usual, old
    for old, new in (
        ("LIMIT = 3", "LIMIT = 4"),
        ("x + LIMIT", "x - LIMIT"),
        ("helper(x)  #", "helper(x + 1)  #"),
    ):
        assert source(MODULE.replace(old, new)) != usual, old


def test_a_parameter_that_is_named_as_a_function_does_not_mean_it(tmp_path: Path) -> None:
    def source(text: str) -> str:
        try:
            return source_of(module(tmp_path, text, "fingerprinted").body)
        finally:
            del sys.modules["fingerprinted"]

    text = "def load(): return 1\ndef body(load, by={}): return [load for _ in (1, 2)]\n"
    assert source(text.format("0")) == source(text.format("0").replace("return 1", "return 2"))
    assert source(text.format("load()")) != source(text.format("load()").replace("return 1", "return 2"))


def test_the_name_of_the_module_does_not_count(tmp_path: Path) -> None:
    texts = set()
    for name in ("loaded_here", "loaded_there"):
        texts.add(source_of(module(tmp_path, MODULE, name).body))
        del sys.modules[name]
    assert len(texts) == 1


class Caller:
    def __call__(self, x: int) -> int:
        return helper(x)


def helper(x: int, by: int = 1) -> int:
    return x + by


def test_partials_and_objects_that_can_be_called_have_a_source() -> None:
    assert source_of(functools.partial(helper, by=2)) != source_of(functools.partial(helper, by=3))
    assert "return x + by" in source_of(functools.partial(helper, by=2))
    assert "return x + by" in source_of(Caller())
    assert "return x + by" in source_of(Caller().__call__)


def _outer(step: int) -> Callable[[int], int]:
    def inner(x: int) -> int:
        return x + step
    return inner


def test_functions_without_a_source_and_closures_have_one_too() -> None:
    assert source_of(_outer(1)) != source_of(_outer(2))
    scope: dict[str, Any] = {}
    exec("def f(x): return x + 1\ndef g(x): return x + 2", scope)
    f, g = scope["f"], scope["g"]
    g.__qualname__ = "f"
    assert source_of(f) != source_of(g)
    assert source_of(len) == source_of(len)


def test_digests_are_the_same_in_every_process(kinds: Any, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import msgspec\nfrom treadle.diagram.fingerprint import fingerprint, source_of\n"
        "from treadle.diagram.node import Node\n"
        "def body(x):\n    return x in {'a', 'b', 'c'}\nNAMES = frozenset(['q', 'r', 's'])\n"
        "def other(): return NAMES\n"
        "class Spec(msgspec.Struct):\n    d: dict = {}\n"
        "print(fingerprint(Node('a', 't'), Spec({'b': 1, 'a': {'x'}}), [source_of(body), "
        "source_of(other)]))\n"
    )
    home = str(Path(treadle.__file__).parents[1])
    runs = {subprocess.run([sys.executable, str(program)], env={"PYTHONHASHSEED": seed, "PYTHONPATH": home},
                           capture_output=True, text=True, check=True).stdout for seed in ("1", "2")}
    assert len(runs) == 1


def test_functions_that_call_each_other_are_each_there_once(tmp_path: Path) -> None:
    text = "def even(n):\n    return n == 0 or odd(n - 1)\n\ndef odd(n):\n    return n > 0 and even(n - 1)\n"
    found = source_of(module(tmp_path, text, "rings").even)
    assert (found.count("def even"), found.count("def odd")) == (1, 1)


def test_a_name_that_a_function_does_not_know_yet_is_left_out() -> None:
    def inner() -> Any:
        return later

    found = source_of(inner)
    later = 1
    assert "return later" in found
    assert inner() == later
    assert "later =" not in found


def test_a_node_decorator_does_not_count_but_others_do(tmp_path: Path) -> None:
    def source(decorator: str) -> str:
        text = ("import functools\nimport treadle.diagram.builder as treadle\n"
                f"from treadle.diagram.builder import node\n{decorator}\ndef f(x):\n    return x\n")
        name = f"decorated_{len(list(tmp_path.iterdir()))}"
        return source_of(module(tmp_path, text, name).f)

    plain = source("")
    assert {source("@node"), source("@node(retries=3)"), source("@treadle.node(timeout=1)")} == {plain}
    assert source("@functools.lru_cache(maxsize=3)") != plain
