"""`cache: true`: what was performed once, with the same inputs, is not performed again, by any execution."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.clock import SystemClock
from treadle.diagram.check.checker import check
from treadle.diagram.formats import loads
from treadle.engine.engine import Engine
from treadle.nodes.registry import default_registry

CODE = """
from pathlib import Path
CALLS = Path(__file__).with_name("calls")
def note(name):
    with CALLS.open("a") as file:
        file.write(name + "\\n")
def double(n):
    note("double")
    return n * 2
def square(item):
    note(f"square {item}")
    return {"square": item * item}
def large(n):
    note("large")
    return "x" * 100_000
def placed(item, context):
    note(f"placed {context.index}")
    return [item, context.index]
def flaky(n):
    note("flaky")
    raise ValueError("no")
def choose(n):
    from treadle import Envelope
    note("choose")
    return Envelope("choose", "choose", "object", n, {"port": "default", "why": "so"})
"""


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    (tmp_path / "cached_tasks.py").write_text(CODE)
    return tmp_path


def calls(folder: Path) -> list[str]:
    path = folder / "calls"
    return path.read_text().splitlines() if path.exists() else []


def run(folder: Path, main: Callable[[Engine], Awaitable[Any]], **options: Any) -> Any:
    async def inside() -> Any:
        async with Engine.open(str(folder / "runs.db"), check=True, **options) as engine:
            return await main(engine)

    return asyncio.run(inside())


def diagram(folder: Path, *nodes: str, inputs: str = "n: integer") -> Any:
    return loads(f"treadle: 1\ninputs: {{{inputs}}}\nnodes:\n  begin: {{type: code_job, isolation: inline, "
                 f'code: "return 0"}}\n  ' + "\n  ".join(nodes), base=str(folder))


DOUBLE = 'double: {type: code_job, call: "cached_tasks:double", cache: true, needs: value}'
VALUE = 'value: {type: template_job, text: "{{ inputs.n }}"}'


def test_another_execution_uses_the_result(folder: Path) -> None:
    spec = diagram(folder, 'value: {type: code_job, isolation: inline, code: "return 4"}', DOUBLE)

    async def main(engine: Engine) -> None:
        first = await engine.start(spec, n=1)
        assert (await first.result())["double"] == 8
        second = await engine.start(spec, n=2)
        assert (await second.result())["double"] == 8
        _, cells = await engine.manager.read(  # type: ignore[union-attr]
            engine.store.load, second.execution_id)
        assert {cell.node_id: cell.worker for cell in cells}["double"] == f"cache: {first.execution_id}"

    run(folder, main)
    assert calls(folder) == ["double"]

    async def later(engine: Engine) -> None:
        assert (await (await engine.start(spec, n=3)).result())["double"] == 8

    run(folder, later)
    assert calls(folder) == ["double"]


def test_other_inputs_and_other_code_are_performed(folder: Path) -> None:
    async def main(engine: Engine) -> None:
        for n in (1, 2, 1):
            value = f'value: {{type: code_job, isolation: inline, code: "return {n}"}}'
            handle = await engine.start(diagram(folder, value, DOUBLE), n=0)
            assert (await handle.result())["double"] == 2 * n
        (folder / "cached_tasks.py").write_text(CODE.replace("n * 2", "n * 3"))
        spec = diagram(folder, 'value: {type: code_job, isolation: inline, code: "return 1"}', DOUBLE)
        assert (await (await engine.start(spec, n=0)).result())["double"] == 3

    run(folder, main)
    assert calls(folder) == ["double"] * 3


def test_items_of_a_map_are_known_one_by_one(folder: Path) -> None:
    def squares(items: str) -> Any:
        return diagram(folder, f'those: {{type: code_job, isolation: inline, code: "return {items}"}}',
                       'each: {type: code_job, call: "cached_tasks:square", cache: true, '
                       'for_each: "{{ those }}", needs: those}')

    async def main(engine: Engine) -> None:
        for items in ("[1, 2]", "[2, 3, 1]"):
            result = await (await engine.start(squares(items), n=0)).result()
            assert [one["square"] for one in result["each"]] == [i * i for i in eval(items)]

    run(folder, main)
    assert sorted(calls(folder)) == ["square 1", "square 2", "square 3"]


def test_what_a_body_may_see_is_in_the_key(folder: Path) -> None:
    def placed(items: str) -> Any:
        return diagram(folder, 'each: {type: code_job, call: "cached_tasks:placed", cache: true, '
                               f'for_each: "{{{{ {items} }}}}"}}')

    async def main(engine: Engine) -> None:
        assert (await (await engine.start(placed("[5, 6]"), n=0)).result())["each"] == [[5, 0], [6, 1]]
        assert (await (await engine.start(placed("[6, 5]"), n=0)).result())["each"] == [[6, 0], [5, 1]]
        text = diagram(folder, 'text: {type: template_job, text: "n is {{ inputs.n }}", cache: true}')
        assert (await (await engine.start(text, n=1)).result())["text"] == "n is 1"
        assert (await (await engine.start(text, n=2)).result())["text"] == "n is 2"

    run(folder, main)
    assert sorted(calls(folder)) == sorted(["placed 0", "placed 1"] * 2)


def test_large_results_and_envelopes_come_back_whole(folder: Path) -> None:
    spec = diagram(folder, 'large: {type: code_job, call: "cached_tasks:large", cache: true, needs: begin}',
                   'choose: {type: code_job, call: "cached_tasks:choose", cache: true, needs: begin}',
                   'after: {type: endpoint, needs: [large, choose]}')

    async def main(engine: Engine) -> None:
        results = [await (await engine.start(spec, n=1)).result() for _ in range(2)]
        assert results[0] == results[1] == ["x" * 100_000, 0]

    run(folder, main)
    assert sorted(calls(folder)) == ["choose", "large"]


def test_failures_are_not_kept(folder: Path) -> None:
    spec = diagram(folder, 'flaky: {type: code_job, call: "cached_tasks:flaky", cache: true, needs: begin}')

    async def main(engine: Engine) -> None:
        for _ in range(2):
            await (await engine.start(spec, n=1)).wait()

    run(folder, main)
    assert calls(folder) == ["flaky", "flaky"]


class Jumping(SystemClock):
    def advance(self, seconds: float) -> None:
        self._offset += seconds


def test_a_number_is_how_many_seconds_a_result_counts(folder: Path) -> None:
    spec = diagram(folder, 'value: {type: code_job, isolation: inline, code: "return 4"}',
                   DOUBLE.replace("true", "60"))
    clock = Jumping()

    async def main(engine: Engine) -> None:
        for wait in (0, 59, 2):
            clock.advance(wait)
            await (await engine.start(spec, n=1)).result()

    run(folder, main, clock=clock)
    assert calls(folder) == ["double", "double"]


def test_results_can_be_listed_and_forgotten(folder: Path) -> None:
    spec = diagram(folder, 'value: {type: code_job, isolation: inline, code: "return 4"}', DOUBLE)

    async def main(engine: Engine) -> None:
        handle = await engine.start(spec, n=1)
        await handle.result()
        found = engine.store.cached_results()
        assert [(one.node_id, one.execution_id) for one in found] == [("double", handle.execution_id)]
        assert engine.store.cached_results("doub") == []
        engine.store.forget([one.key for one in engine.store.cached_results("double")])
        await (await engine.start(spec, n=1)).result()

    run(folder, main)
    assert calls(folder) == ["double", "double"]


def test_check_finds_what_makes_no_sense() -> None:
    faults = check(loads(
        "treadle: 1\nnodes:\n"
        "  a: {type: template_job, text: x, cache: 0}\n"
        "  b: {type: sub_diagram, cache: true, diagram: {nodes: {c: {type: template_job, text: y}}}}\n"),
        default_registry()).faults
    said = [str(fault) for fault in faults]
    assert any("cache must be true, or more than 0 seconds, not 0" in one for one in said)
    assert any("warning" in one and "cache means nothing" in one for one in said)
