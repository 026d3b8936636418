"""What people cost: a `person_job` beside a bare call of the client, many at once, and what a crash repeats.

    python benchmarks/people.py [CALLS]

The server is `treadle.testing.llm` in a process of its own. Times are medians of rounds that take turns; a
ratio is of two figures of one round. The executions are in durability `batched` on a SQLite file.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import openai

from treadle.engine.engine import Engine
from treadle.engine.handle import Handle
from treadle.testing.crashes import crash_everywhere_async

CALLS, ROUNDS = 300, 5
AT_ONCE, WAVES, SERVER_S = 500, 4, 0.5
SAID = "It is a drink that is made of leaves and hot water."
MAP = """
treadle: 1
name: people
inputs: {items: array}
persons:
  Ann: {model: "%s", memory: none%s}
nodes:
  ask: {type: person_job, person: Ann, prompt: "What is tea? {{ item }}", for_each: "{{ inputs.items }}",
        concurrency: %d}
"""
LOOP = """
treadle: 1
name: loop
persons:
  Ann: {model: script}
nodes:
  ask: {type: person_job, person: Ann, prompt: "What is tea?", tools: ["tools:search"]}
"""
TOOLS = '''
def search(query: str) -> str:
    """Search the shelves for a word."""
    return f"{query}: on the left"
'''
TALK = [{"tool": "search", "arguments": {"query": "tea"}},
        [{"tool": "search", "arguments": {"query": one}} for one in ("pot", "cup")],
        "On the left."]


@contextmanager
def server(after: float = 0.0) -> Iterator[str]:
    """The address of a server in a process of its own, which answers after so many seconds."""
    words = [sys.executable, "-m", "treadle.testing.llm", "--say", SAID, "--after", str(after)]
    child = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        yield child.stdout.readline().strip()
    finally:
        child.terminate()
        child.communicate()


def resident_mb() -> float:
    """This process's resident set now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1024 / 1024


async def most_resident() -> float:
    """The largest resident set until this is cancelled, in MB."""
    most = 0.0
    try:
        while True:
            most = max(most, resident_mb())
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        return most


async def bare(client: openai.AsyncOpenAI, calls: int) -> None:
    """The client alone, streaming as a person does, one call after the other."""
    for number in range(calls):
        stream = await client.chat.completions.create(
            model="test-model", stream=True, stream_options={"include_usage": True},
            messages=[{"role": "user", "content": f"What is tea? {number}"}])
        async for _ in stream:
            pass


async def asked(engine: Engine, path: Path, calls: int) -> Handle:
    handle = await engine.start(path, items=list(range(calls)))
    assert len(await handle.result()) == calls
    return handle


async def timed(make: Callable[[], Awaitable[object]]) -> float:
    begun = time.perf_counter()
    await make()
    return time.perf_counter() - begun


async def overhead(folder: Path, calls: int) -> None:
    """A person beside the bare client."""
    with server() as url:
        (folder / "real.yaml").write_text(MAP % ("openai:test-model", f', base_url: "{url}"', 1))
        (folder / "script.yaml").write_text(MAP % ("script", "", 1))
        rows: list[tuple[float, float, float]] = []
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client, \
                Engine.open(str(folder / "runs.db")) as engine:
            for _ in range(ROUNDS + 1):
                rows.append((await timed(lambda: bare(client, calls)) / calls,
                             await timed(lambda: asked(engine, folder / "real.yaml", calls)) / calls,
                             await timed(lambda: asked(engine, folder / "script.yaml", calls)) / calls))
    rows = rows[1:]  # the first warms up
    client_s, real_s, script_s = (statistics.median(column) for column in zip(*rows, strict=True))
    real, script = (statistics.median(row[k] / row[0] for row in rows) for k in (1, 2))
    print("| one call | ms | of a bare call |\n|---|---|---|")
    print(f"| the client alone, streamed | {client_s * 1e3:.2f} | 1 |")
    print(f"| `person_job`, the same server | {real_s * 1e3:.2f} | {real:.2f} |")
    print(f"| `person_job`, scripted model | {script_s * 1e3:.2f} | {script:.2f} |\n")


async def at_once(folder: Path) -> None:
    """Very many persons at the same time, and after them as many bare calls."""
    count = AT_ONCE * WAVES
    with server(SERVER_S) as url:
        (folder / "many.yaml").write_text(MAP % ("openai:test-model", f', base_url: "{url}"', AT_ONCE))
        async with Engine.open(str(folder / "many.db")) as engine:
            await asked(engine, folder / "many.yaml", 10)  # warms up
            gc.collect()
            before = resident_mb()
            watch = asyncio.create_task(most_resident())
            begun = time.perf_counter()
            handle = await asked(engine, folder / "many.yaml", count)
            seconds = time.perf_counter() - begun
            watch.cancel()
            memory = await watch
            state = await engine.state(handle.execution_id)
            times = [cell.execution_time or 0.0 for path, cell in state.node_states.items() if "[" in path]
        async with openai.AsyncOpenAI(base_url=url, api_key="none") as client:
            gate, took = asyncio.Semaphore(AT_ONCE), []

            async def call() -> None:
                async with gate:
                    took.append(await timed(lambda: bare(client, 1)))

            whole = await timed(lambda: asyncio.gather(*(call() for _ in range(count))))
    print(f"| {AT_ONCE} at once, {count:,} calls of {SERVER_S:g} s | calls/s | median s | p99 s | MB more |"
          "\n|---|---|---|---|---|")
    for name, rate, each, more in (("the client alone", count / whole, took, None),
                                   ("`person_job`", count / seconds, times, memory - before)):
        cut = statistics.quantiles(each, n=100)
        print(f"| {name} | {rate:,.0f} | {cut[49]:.2f} | {cut[98]:.2f} "
              f"| {'' if more is None else f'{more:.0f}'} |")
    print(f"| ratio | {count / seconds / (count / whole):.2f} | | | |\n")


async def crashes(folder: Path) -> None:
    """A tool loop that is killed everywhere."""
    (folder / "tools.py").write_text(TOOLS)
    (folder / "loop.yaml").write_text(LOOP)
    found = await crash_everywhere_async(folder / "loop.yaml", script={"Ann": TALK})
    steps = {name: times for name, times in found.calls.items() if ": " in name}
    repeated = sum(len(point.repeated) for point in found.points)
    worst = max((sum(times - steps[name] for name, times in point.calls.items() if name in steps)
                 for point in found.points), default=0)
    print("| a loop of models and tools, killed everywhere | |\n|---|---|")
    print(f"| calls of models and tools | {sum(steps.values())} |")
    print(f"| places at which it was killed | {len(found.points)} |")
    print(f"| calls repeated of those recorded | {repeated} |")
    print(f"| calls repeated of those under way, at most | {worst} |")


async def main(calls: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        await overhead(folder, calls)
        await at_once(folder)
        await crashes(folder)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS))
