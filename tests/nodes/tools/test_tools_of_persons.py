"""A person with tools, over the real client: what the provider is told, and what comes back to it."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.state.steps import steps_of
from treadle.testing.llm import LLMServer, Reply

SERVER = str(Path(__file__).with_name("mcp_by_hand.py"))
CODE = '''
from typing import Annotated

from pydantic import Field


def roll(sides: Annotated[int, Field(ge=2)] = 6) -> int:
    """Roll a die.

    Args:
        sides: How many it has.
    """
    print("rolled", sides)
    return sides


def pixel() -> bytes:
    """Draw."""
    return b"\\x89PNG\\r\\n\\x1a\\n0000"
'''


def talk(folder: Path, llm: LLMServer, tools: list[Any], **more: Any) -> Any:
    (folder / "dice.py").write_text(CODE)
    person = {"model": "openai:test-model", "base_url": llm.url, "settings": {}}
    diagram = loads(json.dumps({
        "treadle": 1, "persons": {"Ann": person},
        "nodes": {"talk": {"type": "person_job", "person": "Ann", "prompt": "Play", "tools": tools, **more},
                  "done": {"type": "endpoint", "needs": "talk"}}}), base=str(folder), format="json")

    async def main() -> Any:
        async with Engine.open(f"sqlite:///{folder}/runs.db", check=True) as engine:
            result = await (await engine.start(diagram, execution_id="x")).result()
            cell = (await engine.state("x")).node_states["talk"]
            return result, {one.name: one for one in steps_of(cell.meta).steps}

    return asyncio.run(main())


def test_two_calls_at_once_and_what_the_provider_sees(tmp_path: Path) -> None:
    calls = [{"tool": "roll", "arguments": {"sides": 4}}, {"tool": "roll", "arguments": {"sides": 1}},
             {"tool": "echo", "arguments": {"text": "ä"}}]
    with LLMServer(calls, "You have won.") as llm:
        server = {"mcp": {"command": [sys.executable, SERVER]}, "only": ["echo"]}
        result, steps = talk(tmp_path, llm, ["dice:roll", server])
        first, second = llm.requests
    assert result == "You have won."
    told = {one["function"]["name"]: one["function"] for one in first.body["tools"]}
    assert told["roll"]["description"] == "Roll a die."
    sides = told["roll"]["parameters"]["properties"]["sides"]
    assert (sides["type"], sides["description"], sides["minimum"]) == ("integer", "How many it has.", 2)
    assert told["echo"]["parameters"]["required"] == ["text"]
    back = [one for one in second.messages if one["role"] == "tool"]
    assert [one["content"] for one in back] == [
        "4", "Error: parameter 'sides': input should be greater than or equal to 2, not 1", "ä"]
    asked = next(one for one in second.messages if one["role"] == "assistant")
    assert [one["id"] for one in asked["tool_calls"]] == [one["tool_call_id"] for one in back]
    assert set(steps) == {"model 1", "roll 1", "roll 2", "echo 3", "model 2"}
    assert steps["roll 1"].meta["arguments"] == {"sides": 4}


def test_an_image_that_a_tool_gave_is_shown_to_the_model(tmp_path: Path) -> None:
    with LLMServer({"tool": "pixel", "arguments": {}}, "A dot.") as llm:
        result, _ = talk(tmp_path, llm, ["dice:pixel"])
        assert result == "A dot."
        assert "data:image/png;base64,iVBORw0KGgowMDAw" in json.dumps(llm.requests[1].messages)


def test_a_call_that_is_no_json_and_a_tool_that_is_not_there(tmp_path: Path) -> None:
    with LLMServer({"tool": "roll", "arguments": "{sides: 4"}, {"tool": "rol", "arguments": {}},
                   "Fine.") as llm:
        result, _ = talk(tmp_path, llm, ["dice:roll"])
        assert result == "Fine."
        back = [one["content"] for one in llm.requests[2].messages if one["role"] == "tool"]
    assert back[0].startswith("Error: the arguments are not a JSON object")
    assert back[1].startswith("Error: there is no tool 'rol'")


@pytest.mark.parametrize("status", [429, 500])
def test_a_provider_that_fails_between_two_calls(tmp_path: Path, status: int) -> None:
    """The next attempt goes on behind the calls that were recorded."""
    with LLMServer({"tool": "roll", "arguments": {}}, Reply(status=status, retry_after=0.01), "Six.") as llm:
        result, steps = talk(tmp_path, llm, ["dice:roll"], retries=2, backoff={"initial": 0.01})
        assert (result, len(llm.requests)) == ("Six.", 3)
    assert [(name, one.attempt) for name, one in steps.items()] == [
        ("model 1", 1), ("roll 1", 1), ("model 2", 2)]
