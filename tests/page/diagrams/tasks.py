"""Bodies of the page's tests. `hold` and `repaired` wait for a file that the test makes."""

import asyncio
import json
from pathlib import Path

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
