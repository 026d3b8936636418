"""Bodies that leave a line in a log each time they begin, so that a test can count what was done twice."""

from __future__ import annotations

import asyncio
import os
from typing import Any


def note(context: Any) -> None:
    line = f"{context.node_id} {context.iteration} {context.attempt}\n"
    handle = os.open(context.execution_inputs["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


async def listing(context: Any) -> list[int]:
    note(context)
    return list(range(20))


async def work(item: int, context: Any) -> int:
    note(context)
    await asyncio.sleep(0.002 * (item % 5))
    return item * item


async def large(context: Any) -> str:
    note(context)
    return "x" * 40_000


async def step(context: Any, first: Any = None, before: dict[str, int] | None = None) -> dict[str, int]:
    note(context)
    await asyncio.sleep(0.01)
    return {"n": before["n"] + 1 if before else 1}


async def flaky(context: Any, begin: dict[str, Any]) -> int:
    note(context)
    if context.attempt < 3:
        raise ConnectionError("not yet")
    return int(begin["n"]) * 100


async def merge(context: Any, worked: list[int], large: str, inner: int) -> dict[str, Any]:
    note(context)
    return {"sum": sum(worked), "large": len(large), "inner": inner}
