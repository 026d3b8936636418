"""The loop of a person with tools: rounds, results, refusals, approval, and what a crash leaves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.nodes.people.messages import Request
from treadle.state.status import ExecutionStatus
from treadle.state.steps import steps_of

OWN = '''
from pathlib import Path

LOG = Path(__file__).with_name("log")


def search(query: str) -> list[str]:
    """Search the notes."""
    with LOG.open("a") as file:
        file.write(query + "\\\\n")
    return [query.upper()]


def fail(query: str) -> str:
    """Always fails."""
    raise ValueError("no luck with " + query)
'''
DIAGRAM = """
treadle: 1
persons: {Ann: {model: script}}
nodes: {a: {type: person_job, person: Ann, prompt: find it, tools: ["own:search", "own:fail"]%s}}
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(OWN.replace("\\\\", "\\"))


def call(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}


def test_results_go_back_to_the_model(run: Any) -> None:
    seen: list[Request] = []

    def ann(request: Request) -> Any:
        seen.append(request)
        return [[call("search", query="x"), call("search", query="y")], "found"][len(seen) - 1]

    ran = run(DIAGRAM % "", script={"Ann": ann})
    assert ran.result == "found"
    assert sorted(ran.names("a")) == ["model 1", "model 2", "search 1", "search 2"]
    assert [one.name for one in seen[0].tools] == ["search", "fail"]
    assert seen[0].tools[0].description == "Search the notes."
    told = [msgspec.to_builtins(one) for one in seen[1].messages]
    assert [one["role"] for one in told] == ["user", "assistant", "tool", "tool"]
    assert [one["content"] for one in told[2:]] == ['["X"]', '["Y"]']
    assert told[1]["calls"][0]["id"] == told[2]["id"]
    # A result is recorded once, by its own step.
    assert [one.get("content", "") for one in ran.steps("a")[3].result()["asked"]] == ["", ""]


@pytest.mark.parametrize(("said", "told"), [
    (call("fail", query="x"), "Error: ValueError: no luck with x"),
    (call("serch", query="x"), "Error: there is no tool 'serch'; there is search, fail"),
    (call("model"), "Error: there is no tool 'model'; "),
    (call("search", what="x"), "Error: "),
])
def test_what_goes_wrong_in_a_tool_is_told_to_the_model(run: Any, said: Any, told: str) -> None:
    seen: list[Request] = []

    def ann(request: Request) -> Any:
        seen.append(request)
        return [said, "oh"][len(seen) - 1]

    ran = run(DIAGRAM % "", script={"Ann": ann})
    assert ran.result == "oh"
    assert seen[1].messages[-1].content.startswith(told)


def test_tools_are_called_a_bounded_number_of_times(run: Any) -> None:
    ran = run(DIAGRAM % ", tool_rounds_max: 3", script={"Ann": lambda: call("search", query="x")})
    assert "LimitExceeded: Ann has called tools 3 times in a row" in ran.error
    assert "tool_rounds_max is 3; raise it in the node" in ran.error
    assert len(ran.names("a")) == 7  # four calls of the model, three of the tool


APPROVED = """
treadle: 1
persons:
  Ann:
    model: script
    script: [[{tool: search, arguments: {query: x}}, {tool: fail, arguments: {query: y}}], done]
nodes:
  a: {type: person_job, person: Ann, prompt: find it,
      tools: [{call: "own:search", approve: true}, "own:fail"]}
"""


@pytest.mark.parametrize(("answer", "told"), [
    ({"approve": True}, ["X"]),
    ({"approve": False, "reason": "too dear"}, {"error": "the call was refused: too dear"})])
def test_approval_suspends_and_each_call_is_made_once(tmp_path: Path, answer: Any, told: Any) -> None:
    spec = loads(APPROVED, base=str(tmp_path))

    async def main() -> Any:
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            handle = await engine.start(spec, execution_id="x")
            assert await handle.wait() is ExecutionStatus.SUSPENDED
            ((_, _, request),) = handle.waiting()
            assert "Ann wants to call search" in request["prompt"]
            assert not (tmp_path / "log").exists()
        async with Engine.open(f"sqlite:///{tmp_path}/runs.db") as engine:
            handle = await engine.resume("x")
            await handle.answer("a", answer)
            assert await handle.result() == "done"
            return (await engine.state("x")).node_states

    cell = next(iter(asyncio.run(main()).values()))
    steps = {one.name: one for one in steps_of(cell.meta).steps}
    assert sorted(steps) == ["approve 1", "fail 2", "model 1", "model 2", "search 1"]
    assert steps["search 1"].result() == told
    assert (tmp_path / "log").exists() is answer["approve"]


def test_own_memory_has_the_calls_of_tools(run: Any) -> None:
    seen: list[Request] = []

    def ann(request: Request) -> Any:
        seen.append(request)
        return [call("search", query="x"), "found", "sure"][len(seen) - 1]

    run((DIAGRAM % "").replace("nodes: {a:", "nodes: {b: {type: person_job, person: Ann, prompt: sure?, "
                               "needs: a}, a:"), script={"Ann": ann})
    assert [msgspec.to_builtins(one)["role"] for one in seen[2].messages] == [
        "user", "assistant", "tool", "assistant", "user"]
    assert seen[2].messages[2].content == '["X"]'
