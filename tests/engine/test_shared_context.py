"""Bodies that share artifacts and variables: wherever they run, whatever interrupts them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine
from treadle.engine.services import STORE, ServiceRegistry
from treadle.errors import ExecutionFailed, WriteConflict
from treadle.nodes.modules import load_function
from treadle.state.context import Mutation, snapshot_of
from treadle.state.status import ExecutionStatus, NodeStatus
from treadle.store import MemoryStore, open_store
from treadle.store.base import Batch, Written

TASKS = '''
import asyncio
import threading
import time
from treadle.errors import TreadleError

told = {}


def write(context):
    context.artifacts["raw"] = "/data/raw.bin"
    with context.transaction() as tx:
        tx["variables.n"] = tx.get("variables.n", 0) + 1
        tx.variables["seen"] = sorted(tx)
    return context.update("variables.n", lambda n: n + 1)


async def add(context):
    before = context.snapshot()
    context.variables["n"] += 1
    context.plugin("Counter")["calls"] = 1
    assert before.variables["n"] + 1 == context.variables["n"]
    return dict(context.snapshot())


def mark(context):
    context.variables[context.node_id] = context.attempt
    return context.node_id


async def rival(context):
    """Reads, waits until its rival has done so too, writes."""
    with context.transaction() as tx:
        n = tx.get("variables.n", 0)
        told.setdefault("here", []).append(context.node_id)
        while len(told["here"]) < 2:
            await asyncio.sleep(0)
        tx["variables.n"] = n + 1


def late(context):
    """Goes on when nobody waits for it any more."""
    from treadle.nodes.base import cancelled
    while not cancelled():
        time.sleep(0.001)
    try:
        context.variables["late"] = True
    except TreadleError as error:
        told["late"] = str(error)
    told["event"].set()


async def tidy(context):
    try:
        told["ready"].set()
        await asyncio.sleep(60)
    finally:
        context.variables["tidied"] = True


def facts(context):
    context.variables[context.node_id] = {
        **{name: getattr(context.pipeline, name) for name in context.pipeline.__struct_fields__},
        "environment_vars": dict(context.environment_vars), "secret_store": context.secret_store,
        "active_plugins": list(context.active_plugins)}


def count(context):
    context.update("variables.n", lambda n: n + 1, 0)
    context.update("variables.seen", lambda seen: [*(seen or []), context.node_id])


def inside(context):
    with context.transaction() as tx:
        tx["variables.a"] = 1
        context.variables["b"] = 1


def twice(context):
    with context.transaction() as tx:
        pass
    with tx:
        pass


def no_key(context):
    context.update("variabels.n", lambda n: 1)


def no_value(context):
    context.artifacts["lock"] = object()


def large(context):
    context.artifacts["large"] = "x" * 2000
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "shared_tasks.py").write_text(TASKS)
    return tmp_path


def drawn(folder: Path, *nodes: str) -> Any:
    path = folder / "diagram.yaml"
    path.write_text("treadle: 1\nname: shared\nnodes:\n" + "".join(f"  {one}\n" for one in nodes))
    return path


def told(folder: Path) -> dict[str, Any]:
    """What the functions of the folder's module tell us: it is loaded when the diagram is."""
    function = load_function("shared_tasks:late", str(folder))
    found: dict[str, Any] = function.__globals__["told"]
    return found


def run(folder: Path, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    limits = {name: options.pop(name) for name in list(options) if name.endswith("_max")}

    async def inside() -> Any:
        async with Engine.open(str(folder / "runs.db"), config=TreadleConfig(**limits), **options) as engine:
            return await main(engine)

    return asyncio.run(inside())


def recorded(folder: Path, execution_id: str) -> dict[str, Any]:
    store = open_store(folder / "runs.db")
    try:
        return dict(snapshot_of(store.context(execution_id)))
    finally:
        store.close()


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_bodies_share_what_they_write(folder: Path, isolation: str) -> None:
    diagram = drawn(
        folder, f"write: {{type: code_job, call: 'shared_tasks:write', isolation: {isolation}}}",
        f"add: {{type: code_job, call: 'shared_tasks:add', isolation: {isolation}, needs: write}}",
        "say: {type: template_job, needs: add, "
        "text: '{{ artifacts.raw }} {{ variables.n }} {{ variables.seen | length }}'}")

    async def main(engine: Engine) -> tuple[str, Any]:
        handle = await engine.start(diagram)
        return handle.execution_id, await handle.result()

    execution_id, result = run(folder, main)
    assert result == "/data/raw.bin 3 2"
    assert recorded(folder, execution_id) == {
        "artifacts.raw": "/data/raw.bin", "variables.n": 3, "plugins.Counter.calls": 1,
        "variables.seen": ["artifacts.raw", "variables.n"]}
    store = open_store(folder / "runs.db")
    assert {one.key: one.writer for one in store.context(execution_id)} == {
        "artifacts.raw": "write#1", "variables.n": "add#1", "variables.seen": "write#1",
        "plugins.Counter.calls": "add#1"}
    store.close()


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
def test_code_in_a_diagram_sees_and_sets_variables(folder: Path, isolation: str) -> None:
    diagram = drawn(folder, f"code: {{type: code_job, isolation: {isolation}, "
                            "code: 'variables[\"n\"] = variables.get(\"n\", 1) + 1; return dict(variables)'}")

    async def main(engine: Engine) -> Any:
        return await (await engine.start(diagram)).result()

    assert run(folder, main) == {"n": 2}
    assert run(folder, main, durability="memory") == {"n": 2}


def test_a_resume_goes_on_with_what_was_written_and_a_body_that_runs_again_repeats_it(folder: Path) -> None:
    diagram = drawn(folder, "first: {type: code_job, call: 'shared_tasks:mark'}",
                    "ask: {type: user_response, prompt: 'go on?', needs: first}",
                    "add: {type: code_job, call: 'shared_tasks:write', needs: ask}")

    async def begin(engine: Engine) -> str:
        handle = await engine.start(diagram)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        return handle.execution_id

    async def go_on(engine: Engine) -> Any:
        handle = await engine.resume(execution_id)
        await handle.answer("ask", "yes")
        return await handle.result()

    execution_id = run(folder, begin)
    assert recorded(folder, execution_id) == {"variables.first": 1}
    assert run(folder, go_on) == 2
    found = recorded(folder, execution_id)
    assert found["variables.first"] == 1 and found["variables.n"] == 2


def test_a_fork_begins_with_a_copy_of_the_whole_context(folder: Path) -> None:
    diagram = drawn(folder, "first: {type: code_job, call: 'shared_tasks:write'}",
                    "second: {type: code_job, call: 'shared_tasks:add', needs: first}")

    async def main(engine: Engine) -> tuple[str, str]:
        handle = await engine.start(diagram)
        await handle.result()
        forked = await engine.fork(handle.execution_id, at="second")
        await forked.result()
        return handle.execution_id, forked.execution_id

    old, new = run(folder, main)
    assert recorded(folder, old)["variables.n"] == 3
    assert recorded(folder, new)["variables.n"] == 4  # `second` was performed again, on what was there


def test_of_two_that_contradict_each_other_the_second_fails_and_may_try_again(folder: Path) -> None:
    nodes = [f"{name}: {{type: code_job, call: 'shared_tasks:rival'}}" for name in "ab"]
    diagram = drawn(folder, *nodes)

    async def main(engine: Engine) -> ExecutionFailed:
        with pytest.raises(ExecutionFailed) as failed:
            await (await engine.start(diagram)).result()
        return failed.value

    failed = run(folder, main)
    assert failed.kind == WriteConflict.__name__
    assert "'variables.n' (read when there was none) was set by " in str(failed)
    (folder / "runs.db").unlink()
    told(folder).clear()
    drawn(folder, *(one.replace("'}", "', retries: 1, backoff: {initial: 0.001}}") for one in nodes))

    async def again(engine: Engine) -> Any:
        handle = await engine.start(diagram)
        await handle.result()
        return handle.execution_id

    assert recorded(folder, run(folder, again)) == {"variables.n": 2}


class Watched(MemoryStore):
    """After every batch, what is completed has left its mark."""

    batches = 0

    def apply(self, batch: Batch) -> Written:
        written = super().apply(batch)
        self.batches += bool(batch.context)
        for summary in self.executions():
            _, cells = self.load(summary.cell.execution_id)
            marks = snapshot_of(self.context(summary.cell.execution_id)).variables
            assert {one.node_id for one in cells if one.status is NodeStatus.COMPLETED} <= set(marks)
        return written


@pytest.mark.parametrize("durability", ["batched", "strict"])
def test_a_result_is_never_on_disk_without_the_writes_of_its_body(folder: Path, durability: Any) -> None:
    diagram = drawn(folder, *(
        f"n{k}: {{type: code_job, call: 'shared_tasks:mark', isolation: {isolation}"
        + (f", needs: n{k - 3}}}" if k >= 3 else "}")
        for k, isolation in enumerate(["thread", "inline", "thread"] * 20)))
    store = Watched()
    services = ServiceRegistry()
    services.register(STORE, store)

    async def main() -> None:
        config = TreadleConfig(batch_interval_s=0.0005)
        async with Engine.open(services=services, config=config, durability=durability) as engine:
            await (await engine.start(diagram)).result()

    asyncio.run(main())
    assert store.batches > 3


def test_a_thread_that_nobody_waits_for_writes_nothing_any_more(folder: Path) -> None:
    diagram = drawn(folder, "late: {type: code_job, call: 'shared_tasks:late', timeout: 0.05}")
    said = told(folder)
    said["event"] = threading.Event()

    async def main(engine: Engine) -> str:
        handle = await engine.start(diagram)
        with pytest.raises(ExecutionFailed):
            await handle.result()
        assert await asyncio.to_thread(said["event"].wait, 10)
        return handle.execution_id

    assert recorded(folder, run(folder, main)) == {}
    assert "can't write to the context of execution" in said["late"]


def test_what_a_cancelled_body_writes_on_its_way_out_is_kept(folder: Path) -> None:
    diagram = drawn(folder, "tidy: {type: code_job, call: 'shared_tasks:tidy'}")
    said = told(folder)

    async def main(engine: Engine) -> str:
        said["ready"] = asyncio.Event()
        handle = await engine.start(diagram)
        await said["ready"].wait()
        await handle.cancel()
        return handle.execution_id

    assert recorded(folder, run(folder, main)) == {"variables.tidied": True}


@pytest.mark.parametrize("isolation", ["inline", "process"])
def test_a_refusal_reaches_the_body_and_leaves_nothing(folder: Path, isolation: str) -> None:
    diagram = drawn(folder, f"n: {{type: code_job, call: 'shared_tasks:write', isolation: {isolation}}}")
    seen: list[Mutation] = []

    def look(mutation: Mutation) -> str | None:
        seen.append(mutation)
        return "n is mine" if "variables.n" in mutation.keys else None

    async def main(engine: Engine) -> tuple[str, str]:
        engine.on_mutation = look
        handle = await engine.start(diagram)
        with pytest.raises(ExecutionFailed) as failed:
            await handle.result()
        return handle.execution_id, str(failed.value)

    execution_id, message = run(folder, main)
    assert "the write to variables.n, variables.seen by n#1 was refused: n is mine" in message
    assert recorded(folder, execution_id) == {"artifacts.raw": "/data/raw.bin"}
    assert [one.writer for one in seen] == ["n#1", "n#1"]
    assert seen[1].changes["variables.n"] == (None, 1)


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(("function", "message"), [
    ("inside", "a write to the context within an open transaction: write to that one instead"),
    ("twice", "this transaction is over: make a new one for each `with`"),
    ("no_key", "'variabels.n' can't be a key of the context: write artifacts.NAME, variables.NAME"),
    ("no_value", "the value of 'artifacts.lock' can't be written down: "),
    ("large", "the value of 'artifacts.large' has 2002 bytes: put it into a blob, context.blob(…), and keep "
              "that here: the limit context_value_bytes_max is 1000"),
])
def test_mistakes_are_told_where_they_are_made(folder: Path, function: str, message: str,
                                               isolation: str) -> None:
    diagram = drawn(folder, f"n: {{type: code_job, call: 'shared_tasks:{function}', isolation: {isolation}}}")

    async def main(engine: Engine) -> None:
        with pytest.raises(ExecutionFailed) as failed:
            await (await engine.start(diagram)).result()
        assert message in str(failed.value)
        assert (await engine.executions())[0].failed == 1

    run(folder, main, context_value_bytes_max=1000)


def test_a_handle_gives_the_context_and_a_body_what_never_changes(folder: Path) -> None:
    diagram = drawn(folder, "facts: {type: code_job, call: 'shared_tasks:facts'}",
                    "there: {type: code_job, call: 'shared_tasks:facts', isolation: process, needs: facts}",
                    "ask: {type: user_response, prompt: 'go on?', needs: there}")

    async def begin(engine: Engine) -> tuple[str, dict[str, Any]]:
        handle = await engine.start(diagram)
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        return handle.execution_id, dict(await handle.context())

    async def go_on(engine: Engine) -> dict[str, Any]:
        handle = await engine.resume(execution_id)
        await handle.answer("ask", "yes")
        await handle.result()
        assert dict(await handle.context()) == found
        return dict(await (await engine.resume(execution_id)).context())

    execution_id, found = run(folder, begin)
    pipeline = found["variables.facts"]
    assert pipeline == found["variables.there"]
    assert pipeline["id"] == execution_id and len(pipeline["version"]) == 32
    assert pipeline["config_hash"] == TreadleConfig().config_hash and pipeline["start_timestamp"] > 1e9
    assert [pipeline[name] for name in ("environment_vars", "secret_store", "active_plugins")] == [
        {}, None, []]
    assert run(folder, go_on) == found


def test_maps_and_sub_diagrams_share_the_context_of_their_execution(folder: Path) -> None:
    path = drawn(
        folder, "items: {type: code_job, for_each: '[1, 2, 3]', call: 'shared_tasks:count'}",
        "sub: {type: sub_diagram, needs: items, "
        "diagram: {nodes: {inner: {type: code_job, call: 'shared_tasks:count'}}}}",
        "again: {type: template_job, needs: sub, for_each: '{{ variables.seen }}', text: '{{ item }}'}")

    async def main(engine: Engine) -> Any:
        handle = await engine.start(path)
        result = await handle.result()
        return result, (await handle.context()).variables["n"]

    result, n = run(folder, main)
    assert sorted(result) == ["items[0]", "items[1]", "items[2]", "sub/inner"] and n == 4
