"""Kill the engine at every seam, and see that a resume ends in the same result with nothing recorded done
again."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from treadle.errors import NoSuchExecution
from treadle.failpoints import SEAMS
from treadle.state.cell import NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import open_store

from .. import forked

CHILD = Path(__file__).parent / "child.py"
PROGRAM = f"import runpy; runpy.run_path({str(CHILD)!r}, run_name='__main__')"
RESULT = {"sum": sum(i * i for i in range(20)), "large": 40_000, "inner": 400}


class Scene:
    """One execution on a store of its own, run by children that may be killed."""

    def __init__(self, folder: Path, durability: str) -> None:
        self.store, self.log, self.durability = folder / "state.db", folder / "log", durability

    def child(self, verb: str, failpoint: str = "") -> subprocess.CompletedProcess[str]:
        return forked.run(PROGRAM, str(self.store), verb, "x", self.durability, str(self.log),
                          environment={"TREADLE_FAILPOINT": failpoint})

    def cells(self) -> dict[Any, NodeState]:
        store = open_store(self.store)
        try:
            return {cell.key: cell for cell in store.load("x")[1]}
        except NoSuchExecution:
            return {}
        finally:
            store.close()

    def status(self) -> ExecutionStatus:
        store = open_store(self.store)
        try:
            return store.load("x")[0].status
        finally:
            store.close()

    def begun(self) -> Counter[str]:
        return Counter(self.log.read_text().splitlines() if self.log.exists() else ())


def completed(cells: dict[Any, NodeState]) -> dict[Any, NodeState]:
    return {key: cell for key, cell in cells.items() if cell.status is NodeStatus.COMPLETED}


def resume_and_check(scene: Scene) -> None:
    """What was recorded before the crash stands as it was, and the execution ends as an undisturbed one
    does."""
    before, begun = completed(scene.cells()), scene.begun()
    resumed = scene.child("resume")
    assert resumed.returncode == 0, resumed.stderr
    answer = json.loads(resumed.stdout)
    assert answer["result"] == RESULT
    assert answer["seconds"] < 5, "a resume after a kill never waits for the lease"
    after = scene.cells()
    assert {key: after[key] for key in before} == before, "recorded results never change"
    again = scene.begun() - begun
    done_before = {f"{cell.node_id} {cell.iteration} {cell.attempt}" for cell in before.values()}
    assert not done_before & set(again), "a recorded node was performed again"
    assert scene.status() is ExecutionStatus.COMPLETED


@pytest.mark.parametrize("durability", ["batched", "strict"])
def test_an_undisturbed_run_is_the_measure(tmp_path: Path, durability: str) -> None:
    scene = Scene(tmp_path, durability)
    done = scene.child("run")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["result"] == RESULT
    assert set(scene.begun().values()) == {1}


@pytest.mark.parametrize(
    ("durability", "nth"), [("batched", 1), ("batched", 2), ("strict", 1), ("strict", 4)]
)
@pytest.mark.parametrize("seam", SEAMS)
def test_a_kill_at_any_seam_loses_nothing_recorded(
    tmp_path: Path, seam: str, durability: str, nth: int
) -> None:
    scene = Scene(tmp_path, durability)
    killed = scene.child("run", f"{seam}:kill:{nth}")
    if killed.returncode == 0:
        assert nth > 1, f"the seam {seam} was never passed"
        return
    assert killed.returncode == -9, killed.stderr
    if not scene.cells() and not _exists(scene):
        assert scene.child("resume").returncode == 1, "nothing was promised yet: there is no such execution"
        return
    resume_and_check(scene)


def _exists(scene: Scene) -> bool:
    try:
        scene.status()
    except NoSuchExecution:
        return False
    return True


@pytest.mark.parametrize("durability", ["batched", "strict"])
@pytest.mark.parametrize("seam", ["publish.after:kill:2", "commit.before:kill:2", "commit.after:kill:3",
                                  "perform.before:kill:3", "lease.after:kill:1"])
def test_a_resume_that_is_killed_is_resumed(tmp_path: Path, seam: str, durability: str) -> None:
    scene = Scene(tmp_path, durability)
    assert scene.child("run", "perform.after:kill:5").returncode == -9
    before = completed(scene.cells())
    assert scene.child("resume", seam).returncode == -9
    after = scene.cells()
    assert {key: after[key] for key in before} == before
    resume_and_check(scene)


@pytest.mark.parametrize("durability", ["batched", "strict"])
def test_an_attempt_that_takes_its_process_down_three_times_is_not_started_again(
        tmp_path: Path, durability: str) -> None:
    """In `batched` the first start may be forgotten; from the first resume on each is counted."""
    scene = Scene(tmp_path, durability)
    assert scene.child("run", "perform.before:kill:1").returncode == -9
    for _ in range(2 if durability == "strict" else 3):
        assert scene.child("resume", "perform.before:kill:1").returncode == -9
    refused = scene.child("resume")
    assert refused.returncode == 1
    assert "CrashLoop" in refused.stderr or "not started again" in refused.stderr
    assert scene.status() is ExecutionStatus.FAILED


def test_two_processes_that_resume_at_once(tmp_path: Path) -> None:
    """One runs, the other is refused with the owner's name."""
    scene = Scene(tmp_path, "batched")
    assert scene.child("run", "perform.after:kill:3").returncode == -9
    command = [sys.executable, str(CHILD), str(scene.store), "resume", "x", "batched", str(scene.log)]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    ends = [(process, *process.communicate(timeout=60)) for process in both]
    results = [json.loads(out)["result"] for process, out, _ in ends if process.returncode == 0]
    assert results and all(result == RESULT for result in results)
    for process, _, errors in ends:
        if process.returncode != 0:
            other = next(p for p in both if p is not process)
            assert "LeaseHeld" in errors and f"process {other.pid} on" in errors
    assert scene.status() is ExecutionStatus.COMPLETED
