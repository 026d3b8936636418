"""The cases that users of the light dialect bring, unchanged: what the store holds in the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from treadle.state.status import ExecutionStatus

from .case import COMPLETED, FAILED, SKIPPED, CaseIn

CASES = Path(__file__).parent / "light"


class Case(CaseIn):
    """One of the files, among copies of all of them."""

    def __init__(self, folder: Path, name: str) -> None:
        shutil.copytree(CASES, folder, dirs_exist_ok=True)
        super().__init__(folder / f"{name}.light.yaml")


def test_light_01_an_endpoint_whose_branch_is_not_taken_is_skipped(tmp_path: Path) -> None:
    case = Case(tmp_path, "01_untaken_endpoint")
    assert (case.run(), case.execution.status) == (0, ExecutionStatus.COMPLETED)
    assert case.states() == {"s": COMPLETED, "mk": COMPLETED, "c": COMPLETED, "Yes1": COMPLETED,
                             "No1": SKIPPED}
    assert case.outputs("Yes1") == [{"x": 5}], "x is seen as a bare key of the unlabelled map"


def test_light_02_a_diamond_merges_with_what_ran(tmp_path: Path) -> None:
    case = Case(tmp_path, "02_diamond_merge")
    assert (case.run(), case.states()["b"]) == (0, SKIPPED)
    assert case.outputs("m") == [{"merged": {"fromA": {"branch": "T", "in": {"default": {"x": 5}}}}}]


def test_light_03_a_dead_bypass_is_absent(tmp_path: Path) -> None:
    case = Case(tmp_path, "03_bypass_merge")
    assert case.run() == 0
    assert case.outputs("m") == [{"merged": {"fromA": "A"}}]


def test_light_04_a_failure_is_no_data(tmp_path: Path) -> None:
    case = Case(tmp_path, "04_error")
    assert (case.run(), case.execution.status) == (1, ExecutionStatus.FAILED)
    assert (case.error.node, str(case.error)) == ("bad", "ValueError: boom")
    assert case.states() == {"s": COMPLETED, "bad": FAILED, "n": SKIPPED, "e": SKIPPED}


def test_light_06_there_are_no_barriers(tmp_path: Path) -> None:
    case = Case(tmp_path, "06_barrier")
    assert case.run() == 0
    assert case.outputs("e")[0]["fast2_minus_fast"] < 0.5


def test_light_09_a_loop_takes_its_seed_once(tmp_path: Path) -> None:
    case = Case(tmp_path, "09_seeded_loop")
    text = case.file.read_text()
    seen = text.replace("result = {'n': st['n'] + 1}", "result = {'n': st['n'] + 1, 'idx': idx}")
    assert seen != text
    case.file.write_text(seen)
    assert case.run() == 0
    assert case.outputs("init") == [{"n": 0}]
    assert case.outputs("step") == [{"n": n + 1, "idx": n} for n in range(4)]
    assert case.outputs("c") == case.outputs("step")
    assert case.outputs("e") == [{"n": 4, "idx": 3}]


def test_light_10_a_loop_takes_its_first_value_from_the_start(tmp_path: Path) -> None:
    case = Case(tmp_path, "10_start_loop")
    assert case.run() == 0
    assert case.outputs("step") == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]
    assert case.outputs("e") == [{"n": 4}]


def test_light_12_a_person_writes_until_a_person_is_content(tmp_path: Path) -> None:
    case = Case(tmp_path, "12_llm_decision_loop")
    (tmp_path / "script.yaml").write_text('P: [d1, "NO", d2, "YES"]')
    assert case.run("--script", str(tmp_path / "script.yaml")) == 0
    assert (case.outputs("w"), case.outputs("c")) == (["d1", "d2"], ["d1", "d2"])
    assert case.outputs("e") == ["d2"]


def test_light_12_an_unclear_answer_is_an_error(tmp_path: Path) -> None:
    case = Case(tmp_path, "12_llm_decision_loop")
    (tmp_path / "script.yaml").write_text('P: [d1, perhaps, "YES", "YES"]')
    assert case.run("--script", str(tmp_path / "script.yaml")) == 1
    assert (case.error.node, case.error.type) == ("c", "BadAnswer")
    assert "'perhaps'" in case.error.message


def test_light_15_files_by_key_by_line_and_by_pattern(tmp_path: Path) -> None:
    case = Case(tmp_path, "15_db_ops")
    (tmp_path / "files" / "uploads" / "notes.txt").write_text("hello\n")
    assert case.run() == 1
    written = json.loads((tmp_path / "files" / "results" / "q04.json").read_text())
    assert written == {"user": {"name": "Ann", "age": 99}, "n": 1}, "one object, and not a text of JSON"
    assert case.outputs("rk") == ["Ann"]
    assert json.loads(case.outputs("r2")[0]) == written
    assert case.outputs("rl") == ["id,name,amount\n1,Ann,10\n"]
    assert sorted(case.outputs("rg")[0]) == ["files/uploads/notes.txt", "files/uploads/sample_data.csv"]
    assert (case.error.node, case.error.type) == ("rm", "FileNotFoundError")
    assert "files/uploads/missing.txt" in case.error.message
    assert case.states()["e"] is SKIPPED


def test_light_16_a_sub_diagram_runs_over_items(tmp_path: Path) -> None:
    case = Case(tmp_path, "16_batch_sub")
    assert case.run() == 0
    assert case.outputs("e") == [{"sub": [{"double": 2}, {"double": 4}, {"double": 6}]}]


def test_light_18_a_loop_without_end_fails_at_its_limit(tmp_path: Path) -> None:
    case = Case(tmp_path, "18_infinite_loop")
    assert (case.run(), case.execution.status) == (1, ExecutionStatus.FAILED)
    assert "the loop at step" in case.error.message and "max_iterations: N" in case.error.message
    assert len(case.outputs("step")) == 100


def test_light_18_what_the_message_says_raises_the_limit(tmp_path: Path) -> None:
    case = Case(tmp_path, "18_infinite_loop")
    with case.file.open("a") as file:
        file.write("loops: [{entry: step, max_iterations: 2}]\n")
    assert case.run() == 1
    assert "wanted iteration 3 of at most 2" in case.error.message


def test_light_19_after_kill_9_only_what_was_under_way_runs_again(tmp_path: Path) -> None:
    case = Case(tmp_path, "19_kill9_resume")
    text = case.file.read_text()
    for node in "abc":
        text = text.replace(f"sleep 1; echo {node.upper()}", f"echo {node} >>log; echo {node.upper()}")
    held = "echo d >>log; until [ -e go ]; do sleep 0.05; done; echo D"
    case.file.write_text(text.replace("sleep 20; echo D", held))
    case.kill_within_d()
    assert [case.outputs(node) for node in "abc"] == [["A"], ["B"], ["C"]]
    (tmp_path / "go").touch()
    resumed = case.treadle("resume", "x")
    assert (resumed.returncode, resumed.stdout) == (0, "D\n")
    assert (tmp_path / "log").read_text().split() == ["a", "b", "c", "d", "d"]
    assert {cell.node_id: cell.epoch for cell in case.load()[1]} == {
        "s": 1, "a": 1, "b": 1, "c": 1, "d": 2, "e": 2}
