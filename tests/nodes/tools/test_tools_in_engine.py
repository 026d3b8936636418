"""Tools in a real engine, without a model: a node that makes the calls that it is told, as steps."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.formats import loads
from treadle.engine.bus import EventType
from treadle.engine.engine import Engine
from treadle.engine.inbox import request_of
from treadle.errors import InvalidInput
from treadle.nodes.base import BodyContext, NodeKind, Suspend
from treadle.nodes.people.tools import open_tools, question, verdict
from treadle.nodes.registry import NodeRegistry, default_registry
from treadle.state.envelope import Envelope
from treadle.state.status import ExecutionStatus

SERVER = str(Path(__file__).with_name("mcp_by_hand.py"))
FRAIL = f"""
if [ -e seen ]; then exec {sys.executable} {SERVER}; fi
touch seen
exec {sys.executable} {SERVER} frail
"""
CODE = '''
from pathlib import Path
LOG = Path(__file__).with_name("log")


def note(text: str) -> str:
    """Note a text."""
    with LOG.open("a") as file:
        file.write(text + "\\n")
    print("noted", text)
    return text.upper()


def shared(context, name: str) -> str:
    """Set a variable."""
    context.variables[name] = 1
    return context.idempotency_key


def leak(context) -> str:
    """Tell a secret."""
    return "it is " + context.secret("env:TREADLE_TEST_TOKEN")
'''
TWICE = """
treadle: 1
inputs: {number: {type: integer}}
nodes:
  begin: {type: start}
  twice: {type: code_job, code: "return begin['number'] * 2", needs: begin, isolation: thread}
  done: {type: endpoint, needs: twice}
"""


class Agent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Makes rounds of calls, each a list of `[tool, arguments]`."""

    tools: list[Any]
    rounds: list[list[tuple[str, dict[str, Any]]]]


class AgentStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext,
                      inputs: dict[str, Any]) -> Envelope | Suspend:
        spec: Agent = node.spec
        results: list[Any] = []
        number = 0
        async with open_tools(spec.tools, node, context) as tools:
            for one in spec.rounds:
                work = []
                for name, arguments in one:
                    number += 1
                    tool, step = tools[name], f"{name} {number}"
                    if tool.approve:
                        said = context.steps.recorded(f"approve {number}")
                        if said is None:
                            return Suspend(question(tool, arguments, f"approve {number}", who="Ann"))
                        if not verdict(said.result()).approve:
                            results.append({"error": verdict(said.result()).told})
                            continue
                    make = partial(tool.call, context, arguments, key=step)
                    work.append(context.steps.run(step, make, kind="tool", meta={"arguments": arguments}))
                results += await asyncio.gather(*work)
        return Envelope(node.id, node.id, "object", results)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "agent"


def registry() -> NodeRegistry:
    found = default_registry()
    found.register(NodeKind("agent", Agent, AgentStrategy()))
    return found


class Scene:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "notary.py").write_text(CODE)
        (folder / "twice.yaml").write_text(TWICE)

    def diagram(self, tools: list[Any], *rounds: list[tuple[str, dict[str, Any]]], retries: int = 0) -> Any:
        text = msgspec.json.encode({
            "treadle": 1, "nodes": {
                "a": {"type": "agent", "tools": tools, "rounds": rounds, "retries": retries,
                      "backoff": {"initial": 0.01}},
                "e": {"type": "endpoint", "needs": "a"}}}).decode()
        return loads(text, base=str(self.folder), format="json")

    def play(self, script: Callable[[Engine], Awaitable[Any]], config: TreadleConfig = DEFAULT_CONFIG) -> Any:
        async def main() -> Any:
            async with Engine.open(f"sqlite:///{self.folder}/runs.db", registry=registry(),
                                   check=True, config=config) as engine:
                return await script(engine)

        return asyncio.run(main())

    def run(self, diagram: Any) -> Any:
        async def script(engine: Engine) -> Any:
            return await (await engine.start(diagram, execution_id="x")).result()

        return self.play(script)

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().split() if path.exists() else []


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_calls_at_once_and_one_after_another(scene: Scene) -> None:
    result = scene.run(scene.diagram(
        ["notary:note", "notary:shared", {"mcp": {"command": [sys.executable, SERVER]}, "only": ["echo"]}],
        [("note", {"text": "a"}), ("echo", {"text": "b"}), ("note", {"txt": "c"})],
        [("shared", {"name": "v"})]))
    assert result[:2] == ["A", "b"] and "did you mean 'text'" in result[2]["error"]
    assert result[3].endswith("/shared 4") and result[3].startswith("x/a/1/")
    assert scene.log == ["a"]


def test_a_call_that_needs_leave(scene: Scene) -> None:
    """Nothing before it is done again; a refusal is a result."""
    approve = {"call": "notary:note", "approve": True, "name": "sign"}
    diagram = scene.diagram(["notary:note", approve], [("note", {"text": "a"})], [("sign", {"text": "b"})],
                            [("sign", {"text": "c"})])

    async def begin(engine: Engine) -> Any:
        handle = await engine.start(diagram, execution_id="x")
        async for event in handle.events():
            if event.type is EventType.NODE_SUSPENDED:
                return request_of(event.cell)["prompt"]

    assert scene.play(begin) == 'Ann wants to call sign with\n  text: "b"\nAllow it (yes, no)?'
    assert scene.log == ["a"]

    async def answer(engine: Engine) -> Any:
        handle = await engine.resume("x")
        with pytest.raises(InvalidInput, match="does not fit its schema"):
            await handle.answer("a", "perhaps")
        await handle.answer("a", "yes")
        with pytest.raises(InvalidInput, match="asks nothing now"):
            await handle.answer("a", "yes")  # to what nobody has seen
        assert await handle.wait() == "suspended"
        await handle.answer("a", {"approve": False, "reason": "not c"})
        return await handle.result()

    assert scene.play(answer) == ["A", "B", {"error": "the call was refused: not c"}]
    assert scene.log == ["a", "b"]


def test_a_lost_server_fails_the_attempt_and_the_next_goes_on(scene: Scene) -> None:
    """The call that failed is made again, on a fresh server; what was recorded before it is not."""
    diagram = scene.diagram(
        ["notary:note", {"mcp": {"command": ["sh", "-c", FRAIL]}}],
        [("note", {"text": "a"})], [("echo", {"text": "b"})], retries=2)
    assert scene.run(diagram) == ["A", "b"]
    assert scene.log == ["a"]

    async def look(engine: Engine) -> Any:
        return await engine.state("x")

    cell = scene.play(look).node_states["a"]
    assert cell.attempt == 2
    lines = [line.text for line in scene.play(lambda engine: engine.logs("x"))]
    assert "noted a" in lines and "starting up" in lines


def test_a_server_is_lent_within_an_execution(scene: Scene) -> None:
    """Two nodes of an execution have the same, another execution has its own; all end with the engine."""
    node = {"type": "agent", "tools": [{"mcp": {"command": [sys.executable, SERVER]}}],
            "rounds": [[("pid", {})]]}
    text = msgspec.json.encode({"treadle": 1, "nodes": {
        "a": node, "b": {**node, "needs": "a"}, "e": {"type": "endpoint", "needs": ["a", "b"]}}}).decode()
    diagram = loads(text, base=str(scene.folder), format="json")

    async def script(engine: Engine) -> list[int]:
        first = await (await engine.start(diagram)).result()
        second = await (await engine.start(diagram)).result()
        found = [int(one) for (one,) in (*first, *second)]
        assert all(map(_lives, found))
        return found

    pids = scene.play(script)
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert not any(map(_lives, pids))


def test_a_server_that_nobody_uses_ends(scene: Scene) -> None:
    diagram = scene.diagram([{"mcp": {"command": [sys.executable, SERVER]}}], [("pid", {})])

    async def script(engine: Engine) -> None:
        (pid,) = await (await engine.start(diagram)).result()
        async with asyncio.timeout(10):
            while _lives(int(pid)):  # noqa: ASYNC110  # another process has no event
                await asyncio.sleep(0.02)

    scene.play(script, config=TreadleConfig(tool_idle_s=0.05))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_diagram_is_an_execution_of_its_own(scene: Scene) -> None:
    diagram = scene.diagram([{"diagram": "twice.yaml", "description": "Doubles"}],
                            [("twice", {"number": 2}), ("twice", {"number": 3}), ("twice", {"number": "x"})])
    result = scene.run(diagram)
    assert result == [4, 6, {"error": "parameter 'number' must be of type integer, not str"}]

    async def look(engine: Engine) -> Any:
        return [one.cell for one in await engine.executions()]

    found = scene.play(look)
    assert len(found) == 3 and all(one.status is ExecutionStatus.COMPLETED for one in found)


def test_a_diagram_has_its_time(scene: Scene) -> None:
    """One that takes too long, or waits, is cancelled, and the model is told."""
    (scene.folder / "long.yaml").write_text("""
treadle: 1
nodes:
  work: {type: code_job, isolation: inline, code: "import asyncio\\nawait asyncio.sleep(60)"}
  done: {type: endpoint, needs: work}
""")
    tool = {"diagram": "long.yaml", "description": "Takes long", "timeout": 0.5}
    assert scene.run(scene.diagram([tool], [("long", {})])) == [
        {"error": "long took longer than its timeout of 0.5 s"}]

    async def look(engine: Engine) -> Any:
        return {one.cell.execution_id: one.cell.status for one in await engine.executions()}

    found = scene.play(look)
    assert found.pop("x") is ExecutionStatus.COMPLETED
    assert list(found.values()) == [ExecutionStatus.CANCELLED]


def test_a_secret_is_not_recorded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_TEST_TOKEN", "s3cret-s3cret")
    server = {"mcp": {"command": [sys.executable, SERVER], "env": {"TOKEN": "env:TREADLE_TEST_TOKEN"}}}
    result = scene.run(scene.diagram(["notary:leak", server], [("leak", {}), ("env", {})]))
    assert result[0] == "it is [secret TREADLE_TEST_TOKEN]"
    assert "s3cret" not in str(result)
    assert b"s3cret" not in (scene.folder / "runs.db").read_bytes()
