"""A body for the resume benchmark: half of the nodes run, then the execution waits to be killed."""

import asyncio
import os
from pathlib import Path
from typing import Any

_resumed = Path(os.environ.get("TREADLE_BENCH_HALF", "/nonexistent")).exists()


def _mark() -> None:
    Path(os.environ["TREADLE_BENCH_HALF"]).touch()


async def half(context: Any) -> dict[str, int]:
    if context.node_id == "node_005000" and not _resumed:
        _mark()
        await asyncio.sleep(3600)
    return {"i": 1}
