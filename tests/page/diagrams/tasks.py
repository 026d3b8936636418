"""Bodies of the page's tests. `hold` and `repaired` wait for a file that the test makes."""

import asyncio
import json
from pathlib import Path

from treadle.nodes.base import Suspend
from treadle.state.steps import Noted

HERE = Path(__file__).parent


def load(context):
    print("loading", context.execution_inputs["rows"])
    return list(range(context.execution_inputs["rows"]))


def measure(item):
    return {"row": item, "square": item * item}


async def hold(context):
    """Stay until there is the execution's file."""
    print("holding")
    while True:
        if (HERE / f"go-{context.execution_id}").exists():
            return "let go"
        await asyncio.sleep(0.02)


def total(context):
    context.variables["total"] = {"rows": context.execution_inputs["rows"]}
    return {"title": context.execution_inputs["title"], "text": "# Done\n\nAll of it."}


def parse():
    return prices('{"cost": none}')


def prices(text):
    return json.loads(text)


def divide():
    return 1 / 0


def repaired(context):
    if not (HERE / f"fixed-{context.execution_id}").exists():
        raise ConnectionError("no line to the warehouse")
    return "delivered"


async def step():
    await asyncio.sleep(0.03)
    return "stepped"


def echo(default):
    return default


async def talk(context):
    """As somebody does who thinks aloud, asks before a search, and takes tokens."""
    steps = context.steps

    async def think():
        thought = "Boats are in the harbour, so a search"
        for end in range(5, len(thought) + 1, 4):
            steps.show(thought[:end])
            await asyncio.sleep(0.02)
        await hold(context)
        call = {"id": "1", "tool": "search", "arguments": {"query": "boats"}}
        return Noted({"asked": [{"role": "user", "content": "Where are the boats?"}],
                      "answer": {"role": "assistant", "content": "I search for boats.", "calls": [call]}},
                     {"tokens": 120, "input_tokens": 100, "output_tokens": 20, "cost": 0.0021})

    async def search():
        return {"found": ["Jolly", "Roger"]}

    async def conclude():
        return Noted({"asked": [{"role": "tool", "id": "1", "tool": "search", "step": "search 1"}],
                      "answer": {"role": "assistant", "content": "There are two."}}, {"tokens": 30})

    who = {"person": "Ann", "model": "script"}
    await steps.run("model 1", think, kind="model", meta=who)
    if steps.recorded("approve 1") is None:
        words = {"approve": {"type": "boolean"}, "reason": {"type": "string"}}
        return Suspend({
            "kind": "answer", "step": "approve 1", "prompt": "Ann wants to call search. Allow it?",
            "schema": {"type": "object", "required": ["approve"], "properties": words}})
    await steps.run("search 1", search, kind="tool", meta={"arguments": {"query": "boats"}})
    await steps.run("model 2", conclude, kind="model", meta=who)
    return "There are two."
