"""The steps that bodies record: live as fields of their nodes, over HTTP with all that they hold."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from treadle.engine.engine import Engine
from treadle.monitor.offline import page
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus

READ = "read-token-of-the-tests"
TASKS = """
import asyncio
from pathlib import Path

from treadle.state.steps import Noted

HERE = Path(__file__).parent


async def talk(context):
    async def think():
        context.steps.show("so far")
        while not (HERE / f"go-{context.execution_id}").exists():
            await asyncio.sleep(0.01)
        return Noted({"answer": {"role": "assistant", "content": "x" * 70_000}},
                     {"person": "Ann", "tokens": 7, "cost": 0.5})

    async def search():
        return ["a boat"]

    async def stumble():
        raise ConnectionError("no line")

    await context.steps.run("model 1", think, kind="model")
    await context.steps.run("search 1", search, kind="tool", meta={"arguments": {"query": "boats"}})
    if context.attempt == 1:
        await context.steps.run("model 2", stumble, kind="model")
    await context.steps.run("model 2", lambda: again(), kind="model")
    return "done"


async def again():
    return Noted("well", {"tokens": 30})
"""
TALK = """
treadle: 1
name: talk
nodes:
  ann: {type: code_job, call: "tasks:talk", retries: 1, backoff: {initial: 0.01}}
  done: {type: endpoint, needs: ann}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("talk")
    (made / "tasks.py").write_text(TASKS)
    (made / "talk.yaml").write_text(TALK)
    return made


@pytest.fixture(params=["here", "elsewhere"])
def talking(request: pytest.FixtureRequest, site: Any, folder: Path) -> Iterator[str]:
    """An execution in which somebody thinks; by the engine of the server, and by another one."""
    if request.param == "here":
        yield site.run(_begin(site.engine, folder))
        return
    ids: list[str] = []
    begun, ends = threading.Event(), threading.Event()

    async def elsewhere() -> None:
        async with Engine.open(f"sqlite:///{site.folder / 'runs.db'}") as engine:
            ids.append(await _begin(engine, folder))
            begun.set()
            await asyncio.to_thread(ends.wait, 60)

    thread = threading.Thread(target=asyncio.run, args=(elsewhere(),))
    thread.start()
    assert begun.wait(20)
    yield ids[0]
    ends.set()
    thread.join()


class Viewer:
    """What somebody who watches knows of the nodes and of the execution."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self.nodes: dict[str, dict[str, Any]] = {}
        self.execution: dict[str, Any] = {}

    def until(self, there: Callable[[], Any]) -> None:
        while not there():
            payload = json.loads(self._socket.recv(timeout=20)).get("payload") or {}
            for name, fields in payload.get("nodes", {}).items():
                self.nodes.setdefault(name, {}).update(fields)
            self.execution.update(payload.get("execution", {}))


async def _begin(engine: Engine, folder: Path) -> str:
    return (await engine.start(folder / "talk.yaml")).execution_id


def test_steps_are_seen_as_they_are_recorded(
        site: Any, client: httpx.Client, folder: Path, talking: str) -> None:
    def steps() -> Any:
        answer = client.get(f"/api/executions/{talking}/steps", params={"path": "ann"})
        assert answer.status_code == 200, answer.text
        return answer.json()

    address = site.served.url.replace("http", "ws", 1).rstrip("/")
    with connect(f"{address}/api/executions/{talking}/live",
                 additional_headers={"Authorization": f"Bearer {READ}"}) as socket:
        viewer = Viewer(socket)
        viewer.until(lambda: viewer.nodes.get("ann", {}).get("partial") == 6)
        site.until(lambda: steps()["partial"] == "so far", "the text is there")
        assert steps()["items"] == []
        (folder / f"go-{talking}").touch()
        viewer.until(lambda: viewer.nodes.get("done", {}).get("status") == "completed")
        ann = viewer.nodes["ann"]
        assert (ann["attempt"], ann["steps"], ann["tokens"], ann.get("partial")) == (2, 3, 30, None)
        viewer.until(lambda: viewer.execution.get("tokens") == 37)
        assert viewer.execution["cost"] == 0.5
    site.until_status(client, talking, "completed")
    told = steps()
    assert [(one["name"], one["kind"], one["attempt"]) for one in told["items"]] == [
        ("model 1", "model", 1), ("search 1", "tool", 1), ("model 2", "model", 2)]
    model, tool, _ = told["items"]
    assert model["meta"] == {"person": "Ann", "tokens": 7, "cost": 0.5}
    assert model["value"]["truncated"]
    assert len(model["value"]["value"]["answer"]["content"]) < 60_000
    assert (tool["meta"]["arguments"], tool["value"]["value"]) == ({"query": "boats"}, ["a boat"])
    node = client.get(f"/api/executions/{talking}/node", params={"path": "ann"}).json()
    assert node["recorded"] == told
    assert (node["steps"], node["tokens"], node["meta"]) == (3, 30, None)
    first = client.get(f"/api/executions/{talking}/steps", params={"path": "ann", "attempt": 1}).json()
    assert first["items"][-1]["error"]["type"] == "ConnectionError"
    whole = client.get(f"/api/executions/{talking}").json()
    assert (whole["tokens"], whole["cost"]) == (37, 0.5)
    assert "a boat" in page(site.monitor.store, talking).html


def test_a_fork_has_spent_what_it_did_itself(site: Any, client: httpx.Client, folder: Path) -> None:
    parent = site.run(_begin(site.engine, folder))
    (folder / f"go-{parent}").touch()
    site.until_status(client, parent, "completed")
    fork = client.post(f"/api/executions/{parent}/fork", json={"at": "done"}).json()["id"]
    site.until_status(client, fork, "completed")
    whole = client.get(f"/api/executions/{fork}").json()
    assert (whole["tokens"], whole["retries"]) == (0, 0)
    cells: list[NodeState] = site.monitor.store.load(fork)[1]
    assert [one.attempt for one in cells if one.node_id == "ann"] == [2]
    assert {one.status for one in cells} == {NodeStatus.COMPLETED}
