"""`examples/review`, run as its README says: a human is asked in the middle of a person's turn."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from .. import forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "review"
SCRIPT = ("--script", "script.yaml")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.command(folder, *words, TREADLE_STORE=str(folder / "runs.db"))


def test_a_human_agrees_to_one_comment_and_refuses_the_other(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "review", ignore=shutil.ignore_patterns("out", "__*")))
    done = command(folder, "run", "diagram.yaml", *SCRIPT, "--execution-id", "review")
    assert done.returncode == 3 and "Rita wants to call comment with" in done.stderr
    assert not (folder / "out").exists()
    assert command(folder, "answer", "review", "review", "maybe").returncode == 2
    assert command(folder, "answer", "review", "review", "yes").returncode == 0
    done = command(folder, "resume", "review", *SCRIPT)
    assert done.returncode == 3 and "The key of the account" in done.stderr
    command(folder, "answer", "review", "review", '{"approve": false, "reason": "that is known"}')
    done = command(folder, "resume", "review", *SCRIPT)
    assert (done.returncode, json.loads(done.stdout)["verdict"]) == (0, "request changes")
    assert (folder / "out" / "comments.md").read_text() == (
        "- line 6: A negative amount would take money from the other side.\n")
    shown = command(folder, "show", "review", "--node", "review").stdout
    rows = [line.split("  ")[0] for line in shown.splitlines()]
    steps = [row for row in rows if row.startswith(("model ", "look_up ", "approve ", "comment "))]
    assert steps == ["model 1", "look_up 1", "look_up 2", "model 2", "approve 3", "comment 3", "model 3",
                     "approve 4", "comment 4", "model 4"]
    assert "that is known" in shown


def test_its_own_tests_pass(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(EXAMPLE, tmp_path / "review", ignore=shutil.ignore_patterns("out", "__*")))
    done = command(folder, "test", ".")
    assert done.returncode == 0, done.stdout
