"""Killed at any seam, an execution is never found with a result whose body's writes are lost, and a resume
ends where no kill would have ended."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine
from treadle.state.context import SECRETS_KEY, snapshot_of
from treadle.state.status import NodeStatus
from treadle.store import open_store

from .. import forked

TASKS = """
def mark(context):
    context.update("variables.order", lambda order: [*(order or []), context.node_id])
    with context.transaction() as tx:
        tx.variables[context.node_id] = tx.artifacts[context.node_id] = context.attempt
    return context.node_id
"""
CHILD = """
import asyncio, sys
from treadle.config import TreadleConfig
from treadle.engine.engine import Engine

async def main():
    config = TreadleConfig(batch_interval_s=0.0005, lease_s=0.15)
    async with Engine.open(sys.argv[1], config=config, durability=sys.argv[3]) as engine:
        await (await engine.start(sys.argv[2], execution_id="x")).result()

asyncio.run(main())
"""
ASKING = """
from pathlib import Path

LEFT = Path(__file__).parent / "left"

def ask(context):
    LEFT.write_text(context.secret("secret:" + "//KILLED_SECRET"))

def leak():
    return LEFT.read_text()
"""
NODES = 24


@pytest.mark.parametrize(("seam", "durability"), [
    ("commit.before:kill:4", "batched"), ("statement.after:kill:3", "batched"),
    ("seal.after:kill:4", "batched"), ("publish.before:kill:17", "strict"),
    ("perform.after:kill:19", "strict")])
def test_a_kill_loses_no_write_of_a_recorded_body(tmp_path: Path, seam: str, durability: str) -> None:
    (tmp_path / "shared_kill_tasks.py").write_text(TASKS)
    path, diagram = tmp_path / "runs.db", tmp_path / "diagram.yaml"
    diagram.write_text("treadle: 1\nnodes:\n" + "".join(
        f"  n{k}: {{type: code_job, call: 'shared_kill_tasks:mark'"
        + (f", needs: n{k - 2}}}\n" if k > 1 else "}\n") for k in range(NODES)))
    killed = forked.run(CHILD, str(path), str(diagram), durability, environment={"TREADLE_FAILPOINT": seam})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = open_store(path)
    _, cells = store.load("x")
    found = snapshot_of(store.context("x"))
    done = {cell.node_id for cell in cells if cell.status is NodeStatus.COMPLETED}
    assert done <= set(found.variables) and done <= set(found.variables.get("order", []))
    assert set(found.variables) - {"order"} == set(found.artifacts)  # a transaction is there whole
    store.close()

    async def go_on() -> None:
        async with Engine.open(str(path), config=TreadleConfig(lease_s=0.15)) as engine:
            await (await engine.resume("x")).result()

    asyncio.run(go_on())
    store = open_store(path)
    found = snapshot_of(store.context("x"))
    assert set(found.variables["order"]) == set(found.artifacts) == {f"n{k}" for k in range(NODES)}
    store.close()


@pytest.mark.parametrize(("seam", "durability", "isolation"), [
    ("commit.before:kill:4", "batched", "process"), ("publish.before:kill:7", "strict", "inline")])
def test_a_kill_loses_no_name_of_a_secret_that_a_recorded_body_asked_for(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seam: str, durability: str, isolation: str) -> None:
    """What that left behind is kept out of what is recorded after the resume."""
    (tmp_path / "secret_kill_tasks.py").write_text(ASKING)
    path, diagram = tmp_path / "runs.db", tmp_path / "diagram.yaml"
    diagram.write_text(
        "treadle: 1\nnodes:\n"
        f"  n0: {{type: code_job, call: 'secret_kill_tasks:ask', isolation: {isolation}}}\n"
        + "".join(f"  n{k}: {{type: code_job, call: 'secret_kill_tasks:leak', needs: n{k - 1}}}\n"
                  for k in range(1, NODES)))
    monkeypatch.setenv("KILLED_SECRET", "left-on-the-disk")
    killed = forked.run(CHILD, str(path), str(diagram), durability, environment={"TREADLE_FAILPOINT": seam})
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = open_store(path)
    cells = {cell.node_id: cell.status for cell in store.load("x")[1]}
    noted = [cell.key for cell in store.context("x")]
    store.close()
    assert noted == [SECRETS_KEY] or cells["n0"] is not NodeStatus.COMPLETED

    async def resumed() -> str:
        async with Engine.open(str(path), recover=False) as engine:
            result: str = await (await engine.resume("x")).result()
            return result

    assert asyncio.run(resumed()) == "[secret KILLED_SECRET]"
    assert not any(b"left-on-the-disk" in one.read_bytes() for one in tmp_path.glob("runs.db*"))
