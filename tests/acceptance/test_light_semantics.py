"""The semantics that the light dialect promises, as Treadle diagrams: what the store holds in the end.

The numbers are those of the cases that people bring from their old tool.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from treadle.state import codec
from treadle.state.status import ExecutionStatus

from .case import COMPLETED, FAILED, SKIPPED, CaseIn

DIAGRAMS = Path(__file__).parent / "diagrams"


class Case(CaseIn):
    """A copy of one of the diagrams."""

    def __init__(self, folder: Path, name: str) -> None:
        super().__init__(Path(shutil.copy(DIAGRAMS / f"{name}.yaml", folder)))


def test_01_an_endpoint_whose_branch_is_not_taken_is_skipped(tmp_path: Path) -> None:
    case = Case(tmp_path, "01_untaken_endpoint")
    assert case.run() == 0
    assert case.execution.status is ExecutionStatus.COMPLETED
    assert case.states() == {"s": COMPLETED, "mk": COMPLETED, "c": COMPLETED, "Yes1": COMPLETED,
                             "No1": SKIPPED}
    assert case.outputs("Yes1") == [{"x": 5}]


def test_02_a_diamond_merges_with_what_ran(tmp_path: Path) -> None:
    case = Case(tmp_path, "02_diamond_merge")
    assert case.run() == 0
    assert case.execution.status is ExecutionStatus.COMPLETED
    assert case.states()["b"] is SKIPPED
    assert case.outputs("m") == [{"merged": {"fromA": {"branch": "T", "in": {"default": {"x": 5}}}}}]


def test_03_a_dead_bypass_is_absent(tmp_path: Path) -> None:
    case = Case(tmp_path, "03_bypass_merge")
    assert case.run() == 0
    assert case.outputs("m") == [{"merged": {"fromA": "A"}}]


def test_04_a_failure_is_no_data(tmp_path: Path) -> None:
    case = Case(tmp_path, "04_error")
    assert case.run() == 1
    assert case.execution.status is ExecutionStatus.FAILED
    assert (case.error.node, str(case.error)) == ("bad", "ValueError: boom")
    assert case.states() == {"s": COMPLETED, "bad": FAILED, "n": SKIPPED, "e": SKIPPED}


def test_06_there_are_no_barriers(tmp_path: Path) -> None:
    case = Case(tmp_path, "06_barrier")
    assert case.run("-i", f"folder={tmp_path}") == 0
    cells = {cell.node_id: cell for cell in case.load()[1]}
    assert cells["fast2"].started_at < cells["slow"].ended_at
    assert case.outputs("e")[0]["slow_minus_fast2"] > 0


def test_09_a_loop_takes_its_seed_once(tmp_path: Path) -> None:
    case = Case(tmp_path, "09_seeded_loop")
    assert case.run() == 0
    assert case.outputs("init") == [{"n": 0}]
    assert case.outputs("step") == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
    assert [cell.port for cell in case.load()[1] if cell.node_id == "c"].count("false") == 3
    assert codec.decode(case.execution.output or b"null") == {"n": 4}


def test_10_a_loop_takes_its_first_value_from_the_start(tmp_path: Path) -> None:
    case = Case(tmp_path, "10_start_loop")
    assert case.run() == 0
    assert case.outputs("step") == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
    assert codec.decode(case.execution.output or b"null") == {"n": 4}


def test_15_files_by_key_by_line_and_by_pattern(tmp_path: Path) -> None:
    case = Case(tmp_path, "15_db_ops")
    uploads = tmp_path / "files" / "uploads"
    uploads.mkdir(parents=True)
    (uploads / "sample_data.csv").write_text("name,age\nAnn,3\nBob,4\n")
    (uploads / "notes.txt").write_text("hello\n")
    assert case.run() == 1
    written = json.loads((tmp_path / "files" / "results" / "q04.json").read_text())
    assert written == {"user": {"name": "Ann", "age": 99}, "n": 1}, "one object, and not a text of JSON"
    assert case.outputs("rk") == ["Ann"]
    assert json.loads(case.outputs("r2")[0]) == written
    assert case.outputs("rl") == ["name,age\nAnn,3\n"]
    assert case.outputs("rg") == [{"files/uploads/notes.txt": "hello\n",
                                   "files/uploads/sample_data.csv": "name,age\nAnn,3\nBob,4\n"}]
    assert (case.error.node, case.error.type) == ("rm", "FileNotFoundError")
    assert "files/uploads/missing.txt" in case.error.message
    assert case.states()["e"] is SKIPPED


def test_16_a_sub_diagram_runs_over_items(tmp_path: Path) -> None:
    case = Case(tmp_path, "16_batch_sub")
    shutil.copy(DIAGRAMS / "16_child.yaml", tmp_path)
    assert case.run() == 0
    assert codec.decode(case.execution.output or b"null") == {"sub": [{"double": 2 * i} for i in (1, 2, 3)]}


def test_18_a_loop_without_end_fails_at_its_limit(tmp_path: Path) -> None:
    case = Case(tmp_path, "18_infinite_loop")
    assert case.run() == 1
    assert case.execution.status is ExecutionStatus.FAILED
    assert case.error.type == "LoopLimit"
    assert "the loop at step" in case.error.message and "max_iterations: N" in case.error.message
    assert len(case.outputs("step")) == 100


def test_19_after_kill_9_only_what_was_under_way_runs_again(tmp_path: Path) -> None:
    case = Case(tmp_path, "19_kill9_resume")
    case.kill_within_d()
    assert [case.outputs(node) for node in "abc"] == [["A"], ["B"], ["C"]]
    (tmp_path / "go").touch()
    resumed = case.treadle("resume", "x")
    assert (resumed.returncode, resumed.stdout) == (0, "D\n")
    assert (tmp_path / "log").read_text().split() == ["a", "b", "c", "d", "d"]
    cells = {cell.node_id: cell for cell in case.load()[1]}
    assert {node: cells[node].epoch for node in "abcde"} == {"a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
    assert (cells["d"].attempt, cells["d"].claims) == (1, 2)
