"""`examples/budget`, run as its README says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .. import forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "budget"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(EXAMPLE, tmp_path / "budget", ignore=shutil.ignore_patterns("out", "__*")))


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.command(folder, *words, TREADLE_STORE=str(folder / "runs.db"))


def test_things_are_bought_until_the_plugin_refuses(folder: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
    bought, refused = (text for kind, text in blocks if not kind)
    done = command(folder, "run", "diagram.yaml", "--execution-id", "shopping")
    assert (done.returncode, done.stdout) == (0, bought)
    assert "warning: plugin Budget: 1 of the list refused" in done.stderr
    lines = [json.loads(line) for line in (folder / "out" / "states.jsonl").read_text().splitlines()]
    assert [one["to"] for one in lines if one["node"] == "buy[2]"] == ["running", "failed"]
    assert (lines[-1]["node"], lines[-1]["to"]) == (None, "completed")
    done = command(folder, "run", "diagram.yaml", "-i", 'wishes=[{"what": "house", "price": 250000}]')
    assert (done.returncode, done.stderr) == (2, refused)
    assert len(json.loads(command(folder, "list", "--json").stdout)) == 1
