"""Kill the demo at random instants, resume it, and get the same report with nothing recorded done again."""

from __future__ import annotations

import asyncio as _the_package_that_is_measured
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from treadle.errors import NoSuchExecution, StoreError
from treadle.state.cell import CellKey, NodeState
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import open_store

from .. import forked

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "examples" / "stdlib_report" / "diagram.yaml"
SMALL = Path(_the_package_that_is_measured.__file__).parent
KILLS = 10  # `make soak` has fifty, of a larger demo
SOAK_KILLS = 50


def treadle(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "treadle", *arguments], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True, start_new_session=True)


def demo(folder: Path, root: str) -> subprocess.Popen[str]:
    folder.mkdir()
    return treadle("run", str(DEMO), "--store", str(folder / "state.db"), "--execution-id", "demo", "--json",
                   "-i", f"root={root}", "-i", f"out={folder}", "-i", "limit=20")


def started(folder: Path, running: subprocess.Popen[str]) -> None:
    """Wait until the command has made its store: from here on a kill meets the engine and not the imports."""
    while not (folder / "state.db-wal").exists() and running.poll() is None:
        time.sleep(0.002)


def recorded(folder: Path) -> dict[CellKey, NodeState] | None:
    """The completed cells, or None if the execution was not promised yet."""
    try:
        store = open_store(folder / "state.db")
    except StoreError:
        return None
    try:
        return {cell.key: cell for cell in store.load("demo")[1] if cell.status is NodeStatus.COMPLETED}
    except NoSuchExecution:
        return None
    finally:
        store.close()


def report(folder: Path) -> str:
    return (folder / "report.md").read_text() + (folder / "chart.svg").read_text()


def kill_and_resume(folder: Path, root: str, after: float, wanted: str, patience: float) -> bool:
    """Whether there was something to resume."""
    running = demo(folder, root)
    started(folder, running)
    time.sleep(after)
    os.kill(running.pid, signal.SIGKILL)
    running.communicate()
    before = recorded(folder)
    if before is None:
        return False
    begin = time.monotonic()
    resumed = forked.command(folder, "resume", "demo", "--store", "state.db", "--json")
    assert resumed.returncode == 0, resumed.stderr
    assert json.loads(resumed.stdout)["status"] == ExecutionStatus.COMPLETED
    assert time.monotonic() - begin < patience, "a resume after a kill never waits for the lease"
    after_cells = recorded(folder)
    assert after_cells is not None
    assert {key: after_cells[key] for key in before} == before, "recorded results never change"
    assert report(folder) == wanted
    return True


def kill_often(folder: Path, root: str, kills: int) -> None:
    undisturbed = demo(folder / "undisturbed", root)
    started(folder / "undisturbed", undisturbed)
    begin = time.monotonic()
    _, errors = undisturbed.communicate(timeout=120)
    assert undisturbed.returncode == 0, errors
    seconds = time.monotonic() - begin
    wanted = report(folder / "undisturbed")
    rng = random.Random(kills)
    instants = [(k + rng.random()) / kills * 1.2 * seconds for k in range(kills)]  # one in each stretch
    resumed = sum(kill_and_resume(folder / str(k), root, instants[k], wanted, patience=10 + 5 * seconds)
                  for k in range(kills))
    assert resumed > kills // 3, f"only {resumed} of {kills} kills found something to resume"


def test_the_demo_survives_kills_at_random_instants(tmp_path: Path) -> None:
    kill_often(tmp_path, str(SMALL), KILLS)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_demo_on_the_whole_library_survives_too(tmp_path: Path) -> None:
    kill_often(tmp_path, "", SOAK_KILLS)
