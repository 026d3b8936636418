"""The history as files: what stands in them, that it is exact, and that it is refused when it is damaged."""

from __future__ import annotations

import asyncio
import errno
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.engine.history import inputs_in
from treadle.errors import InvalidInput, StoreCorrupt
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
from treadle.store import MemoryStore, open_store
from treadle.store.history import HistoryWriter, Seal, find_histories, read_history
from treadle.store.transfer.incoming import bring_in

WORK = """
treadle: 1
name: all sorts
inputs: {limit: {type: integer, default: 3}}
nodes:
  find:  {type: code_job, code: "return ['a', 'bb', 'cccc']"}
  each:  {type: code_job, code: "return {'n': len(item)}", for_each: "{{ find }}", needs: find}
  Each:  {type: code_job, code: "return b'abc'", needs: find}
  big:   {type: code_job, code: "return 'z' * 100_000"}
  none:  {type: code_job, code: "return None"}
  long:  {type: condition, when: "{{ each | length > inputs.limit }}", needs: each}
  never: {type: code_job, code: "return 1", needs: long.true}
  flaky: {type: code_job, call: "history_tasks:flaky", retries: 1, backoff: {initial: 0.001}}
  done:  {type: endpoint, needs: long.false}
"""
TASKS = """
def flaky(context):
    if context.attempt < 2:
        raise OSError("no line")
    return 7
"""
LOOP = """
treadle: 1
name: loop
nodes:
  begin: {type: start}
  draft: {type: code_job, code: "return (default or 0) + 1", needs: begin}
  enough: {type: condition, when: "{{ draft == 3 }}", needs: draft}
  done: {type: endpoint, needs: enough.true}
arrows: [enough.false -> draft]
"""


def run(main: Callable[[Engine, HistoryWriter], Awaitable[Any]], folder: Path, store: str = "memory:",
        **options: Any) -> Any:
    """Do something with an engine whose executions are written to `folder`; all is there on return."""
    async def inside() -> Any:
        async with Engine.open(store) as engine:
            assert engine.manager is not None
            writer = HistoryWriter(folder, engine.manager, inputs=inputs_in(engine), **options)
            engine.bus.subscribe(writer)
            try:
                return await main(engine, writer)
            finally:
                await engine.bus.drain()
                await writer.close()

    return asyncio.run(inside())


Ran = tuple[Path, ExecutionCell, list[NodeState], str]


def ran(folder: Path, text: str = WORK, *, base: Path | None = None, **options: Any) -> Ran:
    """The folder of a diagram's execution, and what the store has of it."""
    async def main(engine: Engine, writer: HistoryWriter) -> Any:
        handle = await engine.start(loads(text, base=base or "."), execution_id="x")
        await handle.wait()
        assert engine.manager is not None
        await engine.manager.flush()
        store = engine.manager.store
        cell, cells = store.load("x")
        return cell, cells, store.source(cell.diagram)

    cell, cells, source = run(main, folder, **options)
    [found] = find_histories(folder)
    return found, cell, cells, source


def content(folder: Path, name: str) -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def by_key(cells: list[NodeState]) -> dict[Any, NodeState]:
    return {cell.key: cell for cell in cells}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    base = tmp_path_factory.mktemp("work")
    (base / "history_tasks.py").write_text(TASKS)
    return ran(base / "histories", base=base)


def test_a_run_leaves_the_files_that_are_documented(written: Any) -> None:
    folder = written[0]
    assert folder.name.endswith("_all%20sorts_x")
    there = {path.name for path in folder.iterdir()}
    flaky = {f"state_node_flaky_{end}.json" for end in ("attempt1", "attempt2", "final")}
    assert {"state_init.json", "state_final.json", "blobs", *flaky} <= there
    assert {"state_node_each[2]_attempt1.json", "state_node_each[2]_final.json"} <= there
    assert "state_context.json" not in there  # nothing was shared
    assert not [name for name in there if name.startswith(".")]
    names_without_case = {name.casefold() for name in there}
    assert len(names_without_case) == len(there)


def test_files_say_it_in_plain_names(written: Any) -> None:
    folder, cell, _, _ = written
    init = content(folder, "state_init.json")
    assert (init["id"], init["version"]) == ("x", cell.diagram)
    assert init["start_timestamp"] == cell.created_at
    assert init["inputs"] == {"limit": 3}
    assert init["context"]["environment_vars"] == {}
    node = content(folder, "state_node_find_final.json")
    assert (node["node_id"], node["status"]) == ("find", "completed")
    assert node["output_payload"] == ["a", "bb", "cccc"]
    assert (node["input_payload"], node["retry_count"], node["error"]) == ({}, 0, None)
    end = content(folder, "state_node_done_final.json")
    assert end["input_payload"] == {"default": [{"n": 1}, {"n": 2}, {"n": 4}]}
    assert content(folder, "state_node_each_final.json")["input_payload"] == {"default": ["a", "bb", "cccc"]}
    assert content(folder, "state_node_each[1]_final.json")["input_payload"] is None
    assert node["execution_time"] >= 0
    first = content(folder, "state_node_flaky_attempt1.json")
    assert (first["status"], first["error"]["message"]) == ("failed", "no line")
    final = content(folder, "state_node_flaky_final.json")
    assert (final["attempt"], final["retry_count"], final["output_payload"]) == (2, 1, 7)
    end = content(folder, "state_final.json")
    assert (end["status"], end["output_payload"]) == ("completed", [{"n": 1}, {"n": 2}, {"n": 4}])
    assert end["nodes"] == {"completed": 11, "skipped": 1}


def test_a_large_output_is_a_file_of_its_own(written: Any) -> None:
    folder, _, cells, _ = written
    [digest] = {cell.blob for cell in cells if cell.node_id == "big"}
    payload = content(folder, "state_node_big_final.json")["output_payload"]
    assert payload == {"$blob": digest, "file": f"blobs/{digest}"}
    assert json.loads((folder / payload["file"]).read_text()) == "z" * 100000


def test_what_is_read_is_what_the_store_has(written: Any) -> None:
    folder, cell, cells, source = written
    history = read_history(folder)
    assert (history.cell, by_key(history.cells), history.source) == (cell, by_key(cells), source)


def test_a_history_becomes_an_execution_of_another_store(written: Any, tmp_path: Path) -> None:
    folder, cell, cells, _ = written
    for store in (MemoryStore(), open_store(tmp_path / "other.db")):
        assert bring_in(store, read_history(folder)).outcome == "new"
        assert bring_in(store, read_history(folder)).outcome == "same"
        found = store.load("x")
        assert (found[0], by_key(found[1])) == (cell, by_key(cells))
        assert all(store.blob(one.blob) for one in cells if one.blob is not None)
        store.close()


def test_turns_of_a_loop_have_files_of_their_own(tmp_path: Path) -> None:
    folder, _, cells, _ = ran(tmp_path, LOOP)
    there = {path.name for path in folder.iterdir()}
    assert {"state_node_draft_attempt1.json", "state_node_draft_iter2_attempt1.json",
            "state_node_draft_iter3_attempt1.json", "state_node_draft_final.json"} <= there
    assert content(folder, "state_node_draft_final.json")["output_payload"] == 3
    assert by_key(read_history(folder).cells) == by_key(cells)


def test_nodes_with_long_and_strange_names_run(tmp_path: Path) -> None:
    strange = ["ü" * 200, "ü" * 199 + "ö", "con", "CON", "a_iter2", "x y", "日本"]
    nodes = "".join(f'  "{name}": {{type: code_job, code: "return 1"}}\n' for name in strange)
    folder, _, cells, _ = ran(tmp_path, f"treadle: 1\nname: strange\nnodes:\n{nodes}")
    assert by_key(read_history(folder).cells) == by_key(cells)
    assert max(len(os.fsencode(path.name)) for path in folder.iterdir()) < 255


# Damage

def damaged(folder: Path, target: Path, name: str, change: Callable[[str], str]) -> str:
    """What reading says of a copy in which a file was changed."""
    target.mkdir()
    for path in folder.iterdir():
        if path.is_file():
            (target / path.name).write_bytes(path.read_bytes())
    (target / "blobs").mkdir()
    for path in (folder / "blobs").iterdir():
        (target / "blobs" / path.name).write_bytes(path.read_bytes())
    text = change((target / name).read_text(encoding="utf-8"))
    (target / name).write_text(text, encoding="utf-8")
    with pytest.raises(StoreCorrupt) as caught:
        read_history(target)
    return str(caught.value)


NODE = "state_node_find_attempt1.json"


@pytest.mark.parametrize(("name", "change", "says"), [
    (NODE, lambda text: text[:100], "damaged"),
    (NODE, lambda text: "", "damaged"),
    (NODE, lambda text: "{}", "no file of a history"),
    (NODE, lambda text: text.replace('"execution_id": "x"', '"execution_id": "y"'), "execution y"),
    (NODE, lambda text: text.replace('"node_id": "find"', '"node_id": "each[0]"'), "the same attempt as"),
    (NODE, lambda text: text.replace('"node_id": "find"', '"node_id": "../x//"'), "not the path of a node"),
    (NODE, lambda text: text.replace('"treadle_history": 1', '"treadle_history": 9'), "newer Treadle"),
    (NODE, lambda text: text.replace('"claims"', '"clams"'), "'clams'"),
    ("state_init.json", lambda text: text.replace("all sorts", "all kinds"), "not the one"),
    ("state_final.json", lambda text: text.replace('"execution_id": "x"', '"execution_id": "y"'),
     "execution y"),
])
def test_a_damaged_file_is_named(written: Any, tmp_path: Path, name: str, change: Callable[[str], str],
                                 says: str) -> None:
    message = damaged(written[0], tmp_path / "copy", name, change)
    assert name in message
    assert says in message


def test_a_missing_or_changed_blob_is_named(written: Any, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    [digest] = [path.name for path in (written[0] / "blobs").iterdir()]
    assert "the same attempt as" in damaged(written[0], copy, NODE, lambda text: text.replace(
        '"node_id": "find"', '"node_id": "none"'))
    (copy / NODE).write_bytes((written[0] / NODE).read_bytes())
    blob = copy / "blobs" / digest
    blob.write_bytes(b"x" + blob.read_bytes()[1:])
    with pytest.raises(StoreCorrupt, match=digest):
        bring_in(MemoryStore(), read_history(copy))
    blob.unlink()
    with pytest.raises(StoreCorrupt, match=f"lacks the blob {digest}, which node 'big' names"):
        read_history(copy)


def test_folders_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="does not exist"):
        read_history(tmp_path / "nowhere")
    with pytest.raises(InvalidInput, match="has no history"):
        read_history(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="is a file"):
        read_history(tmp_path / "file")


# Going on

ASK = """
treadle: 1
name: ask
nodes:
  first: {type: code_job, code: "return 1"}
  ask:   {type: user_response, prompt: "Fine?", needs: first}
  shut:  {type: code_job, code: "if default != 'yes': raise ValueError(default)\\nreturn default", needs: ask}
"""


def test_a_suspended_execution_goes_on_in_its_folder(tmp_path: Path) -> None:
    url = str(tmp_path / "runs.db")

    async def begin(engine: Engine, writer: HistoryWriter) -> None:
        handle = await engine.start(loads(ASK), execution_id="x")
        assert await handle.wait() is ExecutionStatus.SUSPENDED
        await engine.send("x", "answer", node="ask", iteration="1", value="no")

    async def go_on(engine: Engine, writer: HistoryWriter) -> ExecutionStatus:
        return await (await engine.resume("x")).wait()

    run(begin, tmp_path / "h", url)
    [folder] = find_histories(tmp_path / "h")
    assert not (folder / "state_final.json").exists()
    assert content(folder, "state_node_ask_attempt1.json")["status"] == "suspended"
    before = (folder / "state_node_first_attempt1.json").stat().st_ino
    assert run(go_on, tmp_path / "h", url) is ExecutionStatus.FAILED
    assert find_histories(tmp_path / "h") == [folder]
    assert (folder / "state_node_first_attempt1.json").stat().st_ino == before  # it was whole
    assert content(folder, "state_final.json")["error"]["type"] == "ValueError"
    assert content(folder, "state_node_ask_final.json")["output_payload"] == "no"
    store = open_store(url)
    assert by_key(read_history(folder).cells) == by_key(store.load("x")[1])
    store.close()

    async def again(engine: Engine, writer: HistoryWriter) -> None:
        handle = await engine.resume("x")  # it fails once more, in another attempt
        await engine.bus.drain()
        await handle.wait()

    run(again, tmp_path / "h", url)
    assert {path.name for path in folder.glob("state_node_shut_*")} == {
        "state_node_shut_attempt1.json", "state_node_shut_attempt2.json", "state_node_shut_final.json"}
    assert content(folder, "state_node_shut_final.json")["attempt"] == 2
    assert read_history(folder).cell.round == 2


def test_what_is_missing_is_completed_from_the_store(tmp_path: Path) -> None:
    url = str(tmp_path / "runs.db")

    async def unseen(engine: Engine, writer: HistoryWriter) -> None:
        await (await engine.start(loads(ASK), execution_id="x")).wait()

    async def main(engine: Engine, writer: HistoryWriter) -> None:
        handle = await engine.resume("x")
        await engine.send("x", "answer", node="ask", iteration="1", value="yes")
        await handle.wait()

    run(unseen, tmp_path / "elsewhere", url)
    run(main, tmp_path / "h", url)
    [folder] = find_histories(tmp_path / "h")
    history = read_history(folder)
    assert {cell.node_id for cell in history.cells} == {"first", "ask", "shut"}
    assert history.cell.status is ExecutionStatus.COMPLETED


def test_a_damaged_file_is_written_again_when_it_goes_on(tmp_path: Path, caplog: Any) -> None:
    url = str(tmp_path / "runs.db")

    async def begin(engine: Engine, writer: HistoryWriter) -> None:
        await (await engine.start(loads(ASK), execution_id="x")).wait()
        await engine.send("x", "answer", node="ask", iteration="1", value="yes")

    async def go_on(engine: Engine, writer: HistoryWriter) -> None:
        await (await engine.resume("x")).wait()

    run(begin, tmp_path / "h", url)
    [folder] = find_histories(tmp_path / "h")
    (folder / "state_node_first_attempt1.json").write_text("{")
    (folder / ".unfinished-1").touch()  # of a writer that was killed
    run(go_on, tmp_path / "h", url)
    assert "state_node_first_attempt1.json is damaged" in caplog.text
    assert content(folder, "state_node_first_attempt1.json")["output_payload"] == 1
    assert not list(folder.glob(".*"))


def test_a_fork_has_the_cells_that_it_took_over(tmp_path: Path) -> None:
    async def main(engine: Engine, writer: HistoryWriter) -> None:
        await (await engine.start(loads(LOOP), execution_id="x")).wait()
        await (await engine.fork("x", at="done", fork_id="y")).wait()

    run(main, tmp_path)
    forked = next(read_history(path) for path in find_histories(tmp_path) if path.name.endswith("_y"))
    assert forked.cell.parent == "x"
    assert {cell.node_id for cell in forked.cells} == {"begin", "draft", "enough", "done"}


def test_many_executions_at_once_have_a_folder_each(tmp_path: Path) -> None:
    async def main(engine: Engine, writer: HistoryWriter) -> None:
        diagram = engine.compile(loads("treadle: 1\nname: n\nnodes: {a: {type: code_job, code: 'return 1'}}"))
        handles = [await engine.start(diagram) for _ in range(20)]
        for handle in handles:
            await handle.wait()

    run(main, tmp_path)
    found = [read_history(path) for path in find_histories(tmp_path)]
    assert len({one.cell.execution_id for one in found}) == 20
    assert all(one.cell.status is ExecutionStatus.COMPLETED and len(one.cells) == 1 for one in found)


def test_an_id_that_is_used_again_has_another_folder(tmp_path: Path) -> None:
    ran(tmp_path, LOOP)
    with pytest.raises(ValueError, match="too many values"):
        ran(tmp_path, LOOP)
    assert len(find_histories(tmp_path)) == 2
    with pytest.raises(InvalidInput, match="several executions"):
        read_history(tmp_path, "x")


SHARED = """
treadle: 1
name: shared
environment_vars: {DEBUG: "true"}
nodes:
  set: {type: code_job, code: "artifacts['raw'] = '/tmp/raw.bin'; variables['n'] = b'two'"}
  ask: {type: user_response, prompt: "Fine?", needs: set}
"""


def test_what_is_shared_is_in_the_files_and_comes_back(tmp_path: Path) -> None:
    async def main(engine: Engine, writer: HistoryWriter) -> Any:
        await (await engine.start(loads(SHARED), execution_id="x")).wait()
        assert engine.manager is not None
        await engine.manager.flush()
        return engine.manager.store.context("x")

    recorded = run(main, tmp_path)
    [folder] = find_histories(tmp_path)
    shared = content(folder, "state_context.json")["context"]
    assert (shared["environment_vars"], shared["artifacts"]) == ({"DEBUG": "true"}, {"raw": "/tmp/raw.bin"})
    store = MemoryStore()
    bring_in(store, read_history(folder))
    assert store.context("x") == recorded
    assert len(recorded) == 2
    (folder / "state_context.json").write_text("{}")
    with pytest.raises(StoreCorrupt, match=r"state_context\.json"):
        read_history(folder)


# Trouble

def test_a_disk_that_is_full_for_a_while_loses_nothing(tmp_path: Path, monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("treadle.store.history.writer.RETRY_S", 0.01)
    rename, failures = os.rename, []

    def full(source: str, target: str) -> None:
        if len(failures) < 3 and "node_draft" in str(target):
            failures.append(target)
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr("treadle.store.history.folder.os.rename", full)
    folder, cell, cells, _ = ran(tmp_path, LOOP)
    assert len(failures) == 3
    assert (read_history(folder).cell, by_key(read_history(folder).cells)) == (cell, by_key(cells))
    assert caplog.text.count("can't be written") == 1


def test_a_folder_that_is_gone_ends_this_history_and_no_other(tmp_path: Path, caplog: Any) -> None:
    async def main(engine: Engine, writer: HistoryWriter) -> Any:
        first = await engine.start(loads(ASK), execution_id="x")
        await first.wait()
        await engine.bus.drain()
        await writer.drain()
        [folder] = find_histories(tmp_path)
        folder.rename(tmp_path / ".away")
        second = await engine.resume("x")
        await engine.send("x", "answer", node="ask", iteration="1", value="yes")
        await (await engine.start(loads(LOOP), execution_id="y")).wait()
        return await second.wait()

    assert run(main, tmp_path) is ExecutionStatus.COMPLETED
    assert "the history of execution x ends here" in caplog.text
    assert [path.name[-2:] for path in find_histories(tmp_path)] == ["_y"]


def test_closing_twice_and_closing_what_nothing_was_written_with_are_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine.open("memory:") as engine:
            assert engine.manager is not None
            writer = HistoryWriter(tmp_path / "h", engine.manager)
            await writer.drain()
            await writer.close()
            await writer.close()
            await writer.drain()

    asyncio.run(main())
    assert not (tmp_path / "h").exists()


def test_what_began_and_ended_meanwhile_is_written_once(tmp_path: Path) -> None:
    async def main(engine: Engine, writer: HistoryWriter) -> None:
        fan = "".join(f"  n{k}: {{type: start}}\n" for k in range(300))
        await (await engine.start(loads(f"treadle: 1\nname: fan\nnodes:\n{fan}"))).wait()
        await engine.bus.drain()
        await writer.drain()
        assert (writer.stats["written"], writer.stats["joined"]) == (302, 300)

    run(main, tmp_path)


# Sealed

def test_files_go_through_the_seal(tmp_path: Path) -> None:
    def turned(name: str, raw: bytes) -> bytes:
        return bytes(byte ^ 0x55 for byte in raw) + name.encode()

    def back(name: str, raw: bytes) -> bytes:
        if not raw.endswith(name.encode()):
            raise StoreCorrupt(f"{name} was moved")
        return bytes(byte ^ 0x55 for byte in raw[:-len(name.encode())])

    seal = Seal(turned, back)
    folder, cell, cells, _ = ran(tmp_path, WORK.replace("  flaky:", "  #"), seal=seal)
    assert all(b"treadle" not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    history = read_history(folder, seal=seal)
    assert (history.cell, by_key(history.cells)) == (cell, by_key(cells))
    store = MemoryStore()
    bring_in(store, history)
    assert [json.loads(store.blob(one.blob)) for one in cells if one.blob is not None] == ["z" * 100000]
    with pytest.raises(StoreCorrupt, match=r"state_init\.json is damaged"):
        read_history(folder)
    (folder / "state_node_find_attempt1.json").rename(folder / "state_node_other_attempt1.json")
    with pytest.raises(StoreCorrupt, match="was moved"):
        read_history(folder, seal=seal)
