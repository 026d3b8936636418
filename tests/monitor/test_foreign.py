"""Who only looks at a store runs none of the code that its diagrams name."""

from __future__ import annotations

import asyncio
import io
from contextlib import closing, redirect_stdout
from pathlib import Path
from typing import Any

import httpx
import pytest

from treadle import Engine
from treadle.cli.main import main
from treadle.engine.edited import types_for
from treadle.engine.sources import compile_stored
from treadle.hooks.manager import PluginManager
from treadle.monitor import Monitor, Settings, create_app
from treadle.monitor.api.nodes import steps_in
from treadle.monitor.live.fields import context_fields
from treadle.monitor.offline import page
from treadle.state import codec
from treadle.state.cell import ContextCell
from treadle.store import open_store
from treadle.store.base import bare
from treadle.testing.contract import a_cell

TOKEN = "a-token-of-these-tests"
TRAP = "from pathlib import Path\nPath({marker!r}).write_text('imported')\n"
TASKS = "def make():\n    return [1, 2]\n\ndef much(value):\n    return value * 2\n"
PLUGIN = """
import msgspec
from treadle import EnvelopeFactory, StateHook
from treadle.nodes.base import NodeKind

class Shout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    text: str

class ShoutStrategy:
    async def execute(self, node, context, inputs):
        return EnvelopeFactory.text(node.spec.text.upper(), context.node_id)

    def can_handle(self, node_type):
        return node_type == "shout"

class Watch(StateHook):
    def treadle_strategies(self):
        return [NodeKind("shout", Shout, ShoutStrategy())]
"""
DRAWN = """
treadle: 1
name: foreign
nodes:
  make: {type: code_job, call: "tasks:make"}
  each: {type: code_job, call: "tasks:much", for_each: "{{ make }}", needs: make}
  turn: {type: template_job, text: "{{ iteration }}", join: any, needs: each}
  again: {type: condition, when: "{{ turn != '2' }}", needs: turn}
  inner: {type: sub_diagram, diagram: inner.yaml}
  loud: {type: shout, text: hey}
  done: {type: endpoint}
arrows:
  - again.true -> turn
  - again.false -> inner
  - {from: make, to: done.made, transform: [{call: "tasks:much"}]}
  - inner -> done
  - loud -> done
loops: [{entry: turn}]
"""
INNER = "treadle: 1\nname: inner\nnodes: {a: {type: template_job, text: hi}, e: {type: endpoint, needs: a}}\n"


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with a store, whose modules write a file since; and the id of its execution."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "plugins").mkdir()
    for name, text in (("tasks.py", TASKS), ("plugins/watch.py", PLUGIN), ("inner.yaml", INNER),
                       ("drawn.yaml", DRAWN)):
        (folder / name).write_text(text)

    async def run() -> str:
        async with Engine.open(folder / "runs.db", plugins=PluginManager.discover(folder)) as engine:
            handle = await engine.start(folder / "drawn.yaml")
            await handle.result()
            return handle.execution_id

    name = asyncio.run(run())
    for path in (folder / "tasks.py", folder / "plugins" / "watch.py"):
        path.write_text(TRAP.format(marker=str(folder / "marker")) + path.read_text())
    return folder, name


async def looked_at(folder: Path, name: str) -> dict[str, Any]:
    async with Monitor(folder / "runs.db", files=[folder]) as monitor:
        app = create_app(monitor, Settings(write_token=TOKEN))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost",
                                     headers={"authorization": f"Bearer {TOKEN}"}) as client:
            found: dict[str, Any] = {}
            of = f"/api/executions/{name}"
            for path in ("/api/executions", of, f"{of}/nodes?parent=*", f"{of}/diagram", f"{of}/timeline",
                         f"{of}/context", f"{of}/logs", f"{of}/output", f"{of}/node?path=turn",
                         f"{of}/node?path=each[1]", f"{of}/node?path=inner/a", f"{of}/node?path=done",
                         f"{of}/node?path=loud", "/api/diagrams", f"/api/diff?a={name}&b={name}",
                         "/api/plugins", "/api/stats"):
                answer = await client.get(path)
                assert answer.status_code == 200, (path, answer.text)
                found[path.removeprefix(of)] = answer.json()
            for said in ({"file": str(folder / "drawn.yaml")}, {"hash": found[""]["diagram"]}):
                answer = await client.post("/api/check", json=said)
                assert answer.status_code == 200, answer.text
                found[next(iter(said))] = answer.json()
            assert (await client.get(f"{of}/plan")).json()["error"]["type"] == "NoEngine"
            return found


def test_a_read_only_server_imports_nothing(
        foreign: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, name = foreign
    monkeypatch.chdir(folder)
    found = asyncio.run(looked_at(folder, name))
    assert not (folder / "marker").exists()
    groups = {one["id"]: one["kind"] for one in found["/diagram"]["groups"]}
    assert groups == {"each": "map", "inner": "sub", "turn": "loop"}
    assert found["file"]["groups"] == found["hash"]["groups"] == found["/diagram"]["groups"]
    assert [one["back"] for one in found["/diagram"]["arrows"] if one["source"] == "again"] == [True, False]
    types = {one["id"]: one["type"] for one in found["/diagram"]["nodes"]}
    assert types["loud"] == "shout"  # a plugin's: drawn plainly
    assert found["/node?path=loud"]["output"]["value"] == "HEY"
    assert found["/node?path=loud"]["properties"] == {"text": "hey"}
    assert found["/node?path=each[1]"]["inputs"]["value"]["item"] == 2
    assert found["/node?path=inner/a"]["type"] == "template_job"
    assert [one["kept"] for one in found["/node?path=turn"]["attempts"]] == [True, True]
    assert "nothing is called only to look" in found["/node?path=done"]["inputs_error"]


def test_show_and_export_import_nothing(
        foreign: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, name = foreign
    monkeypatch.chdir(folder)
    with closing(open_store(folder / "runs.db")) as store:
        assert name in page(store, name).html
    for node in ((), ("--node", "each[0]"), ("--node", "done")):
        with redirect_stdout(io.StringIO()) as said:
            assert main(["show", name, *node, "--store", str(folder / "runs.db")]) == 0, said.getvalue()
    assert not (folder / "marker").exists()


def test_who_compiles_it_does(foreign: tuple[Path, str]) -> None:
    """So that the marker is worth something."""
    folder, name = foreign
    with closing(open_store(folder / "runs.db")) as store:
        compile_stored(store.source(store.summary(name).cell.diagram), types_for(folder))
    assert (folder / "marker").exists()


def test_what_only_its_modules_can_read_is_said_to_be_unreadable() -> None:
    strange = b'{"$treadle":{"$":"registered","t":"boat-of-nobody","v":1}}'
    shared = context_fields([ContextCell("run", "artifacts.boat", 1, 1, strange, "w"),
                             ContextCell("run", "artifacts.fine", 1, 2, b"1", "w")])
    assert shared["artifacts"]["fine"] == 1
    assert "boat-of-nobody" in shared["artifacts"]["boat"]["$unreadable"]
    cell = a_cell("a", meta=codec.encode({"steps": [{"name": "look", "value": {"$treadle": {
        "$": "registered", "t": "boat-of-nobody", "v": 1}}}]}))
    (step,) = steps_in(cell).items
    assert "boat-of-nobody" in step.value.value["$unreadable"]
    whole = b'{"$treadle":{"$":"registered","t":"boat-of-nobody","v":{"steps":[]}}}'
    assert bare(a_cell("a", meta=whole)).meta is None
    assert steps_in(a_cell("a", meta=whole)).items == []
