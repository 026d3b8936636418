"""Runs or resumes the crash tests' diagram in a process of its own: `child.py STORE run|resume ID DURABILITY
LOG`."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine

WORK = Path(__file__).parent / "work" / "diagram.yaml"


async def main() -> None:
    store, verb, execution_id, durability, log = sys.argv[1:]
    begin = time.monotonic()
    config = TreadleConfig(lease_s=0.15)
    async with Engine.open(store, durability=durability, config=config) as engine:  # type: ignore[arg-type]
        if verb == "run":
            handle = await engine.start(WORK, execution_id=execution_id, log=log)
        else:
            handle = await engine.resume(execution_id)
        result = await handle.result()
    print(json.dumps({"result": result, "seconds": time.monotonic() - begin}))


asyncio.run(main())
