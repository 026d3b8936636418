"""The researcher, as its README says: without a model, by its script."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from treadle.state.steps import steps_of
from treadle.store import open_store

from .. import forked

EXAMPLE = Path(__file__).parents[2] / "examples" / "researcher"
SCRIPT = ("--script", str(EXAMPLE / "script.yaml"))


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.command(folder, *words, TREADLE_STORE=str(folder / "runs.db"))


def test_the_researcher_asks_before_it_keeps_anything(tmp_path: Path) -> None:
    asked = command(tmp_path, "run", str(EXAMPLE / "diagram.yaml"), *SCRIPT)
    assert asked.returncode == 3, asked.stderr
    assert "node 'research' waits for an answer: Ada wants to call keep with" in asked.stderr
    assert 'title: "Why honey keeps"' in asked.stderr
    found = re.search(r"treadle answer (\S+) research VALUE", asked.stderr)
    assert found is not None, asked.stderr
    assert command(tmp_path, "answer", found[1], "research", "yes").returncode == 0
    done = command(tmp_path, "resume", found[1], *SCRIPT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Honey keeps because less than a fifth of it is water")

    store = open_store(tmp_path / "runs.db")
    cell = next(one for one in store.load(found[1])[1] if one.node_id == "research")
    store.close()
    results = {one.name: one.result() for one in steps_of(cell.meta).steps if one.kind == "tool"}
    assert results["files 1"] == ["hive.md", "honey.md", "mead.md", "wax.md"]
    assert results["search 2"]["mead.md"] == [3, 4]
    assert results["read 3"]["error"].startswith("ValueError: there is no text 'honey.txt': there are hive")
    assert results["read 4"].startswith("# Honey\n\nHoney is nectar that bees have dried.")
    assert results["keep 6"] == "kept as 'Why honey keeps'"
