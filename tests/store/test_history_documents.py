"""Names and documents of a history: no two things have one name, and every cell comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store.history import documents, names
from treadle.store.history.folder import Folder
from treadle.testing.contract import FULL_CELL

# Names

ITEMS = st.sampled_from(["", "[0]", "[17]"])
STEPS = st.tuples(st.text("aA_ -ü日iter2", min_size=1, max_size=6), ITEMS).map("".join)
PATHS = st.lists(STEPS, min_size=1, max_size=3).map("/".join)
TURNS = st.lists(st.integers(1, 30).map(str), min_size=1, max_size=3).map(".".join)


@settings(max_examples=100)
@given(st.tuples(PATHS | st.sampled_from(["a", "a_iter2", "a_iter2_iter2", "a_attempt1", "a_final"]), TURNS),
       st.tuples(PATHS | st.sampled_from(["a", "a_iter2", "a_iter2_iter2", "a_attempt1", "a_final"]), TURNS))
def test_no_two_nodes_have_one_name(one: tuple[str, str], other: tuple[str, str]) -> None:
    assert (names.of_attempt(*one) == names.of_attempt(*other)) is (one == other)
    assert (names.of_node(one[0]) == names.of_node(other[0])) is (one[0] == other[0])


def test_names_are_safe_on_any_file_system() -> None:
    assert names.of_attempt("sub/inner[3]/größe x", "2.1") == "sub+inner[3]+gr%C3%B6%C3%9Fe%20x_iter2.1"
    assert names.of_attempt("transform_csv_01H7XZAB", "1") == "transform_csv_01H7XZAB"
    assert names.of_node("a_iter2") == "a%5Fiter2"
    cell = ExecutionCell("../" + "é" * 190, name="/" * 300, created_at=1.0)
    assert len(names.of_folder(cell)) < 250
    assert "/" not in names.of_folder(cell)
    long = [names.fitted(names.of_node(path), path) for path in ("ü" * 250, "ü" * 249 + "ö")]
    assert len(set(long)) == 2 and all(len(one) <= names.STEM_CHARS_MAX for one in long)


# Documents

@pytest.mark.parametrize("cell", [
    FULL_CELL,
    NodeState("x", "n", output=b"null", status=NodeStatus.COMPLETED),
    NodeState("x", "n", output=b'{ "a" : [1.50, 1e400] }', items=b"[1, 2]", status=NodeStatus.COMPLETED),
    NodeState("x", "n", blob="a" * 64, status=NodeStatus.COMPLETED),
    NodeState("x", "n", output=b'{"$treadle":{"$":"bytes","v":"YWJj"}}', status=NodeStatus.COMPLETED),
    NodeState("x", "n", error=ErrorInfo("E", "half \ud800 of a pair", details={"a": 1})),
    NodeState("x", "n", error=ErrorInfo("E", "whole \N{GRINNING FACE}", "trace", "n")),
])
def test_a_cell_comes_back_as_it_was(cell: NodeState) -> None:
    assert documents.node_in(documents.read(documents.of_node(cell))) == cell


def test_executions_and_contexts_come_back_as_they_were() -> None:
    cell = ExecutionCell("x", 3, 5, ExecutionStatus.FAILED, "n", "d", b'{"a":{"$treadle":1}}', 1.5, 2.5, 3.5,
                         output=b"null", error=ErrorInfo("E", "\ud800"), parent="p", round=2)
    assert documents.execution_in(documents.read(documents.of_init(cell, "a source"))) == cell
    final = documents.of_final(cell, {}, [])  # type: ignore[arg-type]
    assert documents.execution_in(documents.read(final)) == cell
    shared = [ContextCell("x", "artifacts.a", 1, 1, b'{"b":1}', "n#1", 2.0),
              ContextCell("x", "variables.b", 1, 2)]
    raw = documents.of_context(cell, shared)
    assert json.loads(raw)["context"]["artifacts"] == {"a": {"b": 1}}
    assert documents.context_in(documents.read(raw)) == shared


def test_a_file_with_two_names_is_never_written_to(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.write("a", b"1")
    for _ in range(2):
        folder.same("a", "b")
    folder.write("c", b"2")
    assert [(tmp_path / name).read_bytes() for name in "abc"] == [b"1", b"1", b"2"]
    folder.write("a", b"3")
    assert [(tmp_path / name).read_bytes() for name in "abc"] == [b"3", b"1", b"2"]
    folder.same("a", "b")
    assert (tmp_path / "b").read_bytes() == b"3"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c"]
