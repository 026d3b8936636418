"""The examples with people, offline: their tests, their scripts, and a kill in the middle of a turn."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import treadle
from treadle.cli.main import main
from treadle.errors import NoSuchExecution, StoreError
from treadle.store import open_store
from treadle.testing.cases import read_cases, run_case
from treadle.testing.crashes import crash_everywhere

EXAMPLES = Path(__file__).parents[2] / "examples"
DEBATE = EXAMPLES / "debate"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*/*.test.yaml")), ids=lambda path: path.parent.name)
def test_its_own_tests_hold(path: Path) -> None:
    for case in read_cases(path):
        assert run_case(case).text == ""


def test_it_runs_with_its_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = EXAMPLES / "extraction"
    assert main(["run", str(folder / "diagram.yaml"), "--script", str(folder / "script.py"),
                 "--store", str(tmp_path / "runs.db")]) == 0
    assert "| Ada Lovelace | order |  | two pounds of Assam |" in capsys.readouterr().out


def said(path: Path) -> list[str]:
    """The steps that a store has of the debate, in order."""
    try:
        store = open_store(path, read_only=True)
    except StoreError:
        return []
    try:
        cells = store.load("debate")[1]
    except NoSuchExecution:
        return []
    finally:
        store.close()
    found = []
    for cell in cells:
        meta = json.loads(cell.meta or b"{}")
        found += [(step["ended_at"], f"{step['meta']['person']} {cell.iteration}")
                  for step in meta.get("steps", ())]
    return [name for _, name in sorted(found)]


def test_a_kill_in_the_middle_of_a_turn_lets_nobody_say_anything_twice(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    script = (DEBATE / "script.yaml").read_text()
    (tmp_path / "slow.yaml").write_text(script.replace("after: 1", "after: 60"))
    (tmp_path / "quick.yaml").write_text(script.replace("after: 1", "after: 0"))
    store = tmp_path / "runs.db"
    child = subprocess.Popen(
        [sys.executable, "-m", "treadle", "run", str(DEBATE / "diagram.yaml"), "--script", "slow.yaml",
         "--execution-id", "debate", "--store", str(store)], stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(Path(treadle.__file__).parents[1])})
    end = time.monotonic() + 30
    while len(said(store)) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    child.kill()  # Ann thinks of her second answer
    child.wait()
    before = said(store)
    assert before == ["Ann 1", "Bob 1", "Judge 1"]
    assert main(["resume", "debate", "--script", "quick.yaml", "--store", str(store)]) == 0
    assert json.loads(capsys.readouterr().out)["winner"] == "Bob"
    assert said(store) == [*before, "Ann 2", "Bob 2", "Judge 2"]


def test_wherever_it_is_killed_the_debate_ends_the_same_and_asks_nobody_twice() -> None:
    script = {"Ann": ["Cats.", "Cats!"], "Bob": ["Dogs.", "Dogs!"],
              "Judge": [{"winner": "nobody yet", "why": ""}, {"winner": "Ann", "why": "She is loud."}]}
    crashes = crash_everywhere(DEBATE / "diagram.yaml", script=script)
    assert crashes.ran.result["winner"] == "Ann"
    assert len(crashes.points) > 15
    assert set(crashes.again.values()) == {1}
