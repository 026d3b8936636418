"""A resume of an edited diagram, and a fork, are killed: the next one ends as if nothing had happened."""

from __future__ import annotations

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from treadle.store import open_store

from .. import forked

DIAGRAM = """
treadle: 1
nodes:
  load:   {type: code_job, call: "edit_tasks:load"}
  scale:  {type: code_job, call: "edit_tasks:scale", needs: load}
  report: {type: template_job, text: "sum {{ scale }}", needs: scale}
"""
CODE = """
from pathlib import Path
LOG = Path(__file__).with_name("log")
def log(name):
    with LOG.open("a") as file:
        file.write(name + "\\n")
def load():
    log("load")
    return 4
def scale(n):
    log("scale")
    return n * 2
"""
SEAMS = ["lease.after:1", "commit.before:1", "commit.before:2", "commit.after:2", "seal.before:1",
         "perform.after:1", "publish.before:1"]


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "edit_tasks.py").write_text(CODE)
        (folder / "d.yaml").write_text(DIAGRAM)
        assert self.treadle("run", "d.yaml", "--execution-id", "one").stdout == "sum 8\n"

    def treadle(self, *words: str, kill: str = "") -> subprocess.CompletedProcess[str]:
        return forked.command(self.folder, *words, "--store", "runs.db",
                              TREADLE_FAILPOINT=kill.replace(":", ":kill:"))

    def edit(self, old: str, new: str, name: str = "d.yaml") -> None:
        text = (self.folder / name).read_text()
        assert old in text
        (self.folder / name).write_text(text.replace(old, new))

    @property
    def log(self) -> Counter[str]:
        return Counter((self.folder / "log").read_text().split())


@pytest.mark.parametrize("seam", SEAMS)
def test_a_resume_after_an_edit_is_killed(tmp_path: Path, seam: str) -> None:
    scene = Scene(tmp_path)
    scene.edit("n * 2", "n * 3", "edit_tasks.py")
    scene.edit("sum {{", "total {{")
    killed = scene.treadle("resume", "one", kill=seam)
    assert killed.returncode == -9, killed.stderr
    done = scene.treadle("resume", "one")
    assert (done.returncode, done.stdout) == (0, "total 12\n"), done.stderr
    assert scene.log["load"] == 1, "what the edit does not reach is kept"
    assert scene.log["scale"] in (2, 3), "performed once more, and again only if its result was not recorded"
    if seam == "publish.before:1":  # the edit is recorded by then, and scale has begun
        assert "changed  report: it follows scale" in done.stderr


@pytest.mark.parametrize("seam", ["commit.before:1", "commit.after:1", "perform.after:1"])
def test_a_fork_is_killed(tmp_path: Path, seam: str) -> None:
    scene = Scene(tmp_path)
    words = ("fork", "one", "--from", "scale", "--execution-id", "two")
    killed = scene.treadle(*words, kill=seam)
    assert killed.returncode == -9, killed.stderr
    store = open_store(tmp_path / "runs.db")
    begun = any(one.cell.execution_id == "two" for one in store.executions())
    store.close()
    done = scene.treadle("resume", "two") if begun else scene.treadle(*words)
    assert (done.returncode, done.stdout) == (0, "sum 8\n"), done.stderr
    assert scene.log["load"] == 1, "it came with the fork's first transaction"
