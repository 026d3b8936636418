"""What finished executions leave in memory: it must not grow with their number.

    python benchmarks/memory.py [EXECUTIONS]

Rounds of 1,000 executions of ten nodes each on one engine, every tenth of them read through the cache of
states (of which 100 may stay). After each round: the resident set, how much of it is SQLite's (whose page
cache grows to its limit of 16 MB), the objects that the garbage collector knows, what is cached.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tempfile
from pathlib import Path

import apsw
from engine import chain, compiled

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine

ROUND, ROUNDS, AT_ONCE, READ_EVERY = 1000, 6, 100, 10


def resident_mb() -> float:
    """This process's resident set now, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1024 / 1024


async def main(total: int) -> None:
    config = TreadleConfig(state_cache_executions_max=100)
    print("| executions | resident MB | SQLite's MB | objects | cached |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        async with Engine.open(f"sqlite:///{folder}/runs.db", config=config) as engine:
            diagram, manager = compiled(chain(10)), engine.manager
            assert manager is not None
            for done in range(0, total, AT_ONCE):
                handles = await asyncio.gather(*(engine.start(diagram) for _ in range(AT_ONCE)))
                for k, handle in enumerate(handles):
                    await handle.result()
                    if not k % READ_EVERY:
                        await engine.state(handle.execution_id)
                del handles, handle
                if not (done + AT_ONCE) % ROUND:
                    await manager.flush()
                    manager.cache.clean_up()
                    gc.collect()
                    print(f"| {done + AT_ONCE:,} | {resident_mb():.1f} "
                          f"| {apsw.memory_used() / 1024 / 1024:.1f} | {len(gc.get_objects()):,} "
                          f"| {len(manager.cache)} |")


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ROUND * ROUNDS))
