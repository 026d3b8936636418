"""`reduce`: one value of a map's results, in the order of its items."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.check.checker import check
from treadle.diagram.formats import loads
from treadle.engine.engine import Durability, Engine
from treadle.errors import ExecutionFailed
from treadle.nodes.registry import default_registry

MAP = """
treadle: 1
inputs: {unit: {type: string, default: m}}
nodes:
  list: {type: code_job, code: "return %s", isolation: inline}
  each: {type: code_job, code: "%s", isolation: inline, for_each: "{{ list }}", needs: list, %s}
"""


def result(tmp_path: Path, items: str, code: str, more: str, durability: Durability = "batched") -> Any:
    async def main() -> Any:
        async with Engine.open(str(tmp_path / "runs.db"), durability=durability, check=True) as engine:
            return await (await engine.start(loads(MAP % (items, code, more)))).result()

    return asyncio.run(main())


@pytest.mark.parametrize("durability", ["batched", "memory"])
def test_results_are_folded_in_the_order_of_the_items(tmp_path: Path, durability: Durability) -> None:
    code = "import asyncio\\nawait asyncio.sleep(item / 100)\\nreturn str(item)"
    text = result(tmp_path, "[3, 1, 2]", code, 'reduce: "{{ acc ~ value }}", initial: "<"',
                  durability)
    assert text == "<312"


def test_a_fold_sees_items_places_inputs_and_nodes(tmp_path: Path) -> None:
    found = result(tmp_path, "[5, 6]", "return item * 2",
                   'initial: [], reduce: "{{ acc + [[index ~ inputs.unit, item, value, list | length]] }}"')
    assert found == [["0m", 5, 10, 2], ["1m", 6, 12, 2]]


def test_without_initial_the_first_result_is_it(tmp_path: Path) -> None:
    assert result(tmp_path, "[4, 5]", "return item", 'reduce: "{{ [acc, value] | max }}"') == 5
    assert result(tmp_path, "[]", "return item", 'reduce: "{{ acc + value }}"') is None
    assert result(tmp_path, "[]", "return item", 'reduce: "{{ acc + value }}", initial: 0') == 0


def test_a_failed_item_that_is_collected_comes_as_its_error(tmp_path: Path) -> None:
    more = 'on_item_error: collect, initial: [], reduce: "{{ acc + [value.type | default(value)] }}"'
    failed = result(tmp_path, "[1, 0, 2]", "return 2 // item", more)
    assert failed == [2, "ZeroDivisionError", 1]


def test_a_fold_that_fails_fails_the_map_and_says_where(tmp_path: Path) -> None:
    with pytest.raises(ExecutionFailed, match=r"node 'each'.*acc \+ value"):
        result(tmp_path, "[1]", "return 'x'", 'reduce: "{{ acc + value }}", initial: 0')


def test_the_law_of_lineage_holds_for_the_fold(tmp_path: Path) -> None:
    registry = default_registry()
    from treadle.diagram.compile import compile_diagram

    def lineage(more: str) -> str:
        return compile_diagram(loads(MAP % ("[1]", "return 1", more)), registry).get_node("each").lineage

    plain = lineage("concurrency: 3")
    assert plain == lineage("retries: 1")
    assert len({plain, lineage('reduce: "acc"'), lineage('reduce: "acc", initial: 1'),
                lineage('reduce: "value"')}) == 4


def test_check_finds_what_makes_no_sense() -> None:
    said = "\n".join(map(str, check(loads(
        "treadle: 1\nnodes:\n"
        "  a: {type: template_job, text: x, reduce: acc}\n"
        "  b: {type: template_job, text: x, initial: 3}\n"
        '  c: {type: template_job, text: x, for_each: "{{ [1] }}", reduce: "{{ ac + value }}"}\n'
        '  d: {type: template_job, text: "{{ acc }}", for_each: "{{ [1] }}", reduce: "{{ acc + value }}"}\n'),
        default_registry()).faults))
    assert "reduce means nothing without for_each" in said
    assert "initial means nothing without reduce" in said
    assert "reduce: unknown name 'ac' (did you mean 'acc'" in said
    assert "text: unknown name 'acc'" in said


FOLDS = """
treadle: 1
nodes:
  each:
    type: code_job
    isolation: inline
    code: |
      import asyncio
      from pathlib import Path
      if item == 39:
          Path("FOLDER/last").touch()
          while not Path("FOLDER/go").exists():
              await asyncio.sleep(0.002)
      return {"n": item, "text": "x" * 100_000}
    for_each: "{{ range(40) | list }}"
    concurrency: 4
    initial: 0
    reduce: "{{ acc + value.n }}"
"""


def test_results_are_folded_and_leave_the_memory_while_other_items_run(tmp_path: Path) -> None:
    (tmp_path / "d.yaml").write_text(FOLDS.replace("FOLDER", str(tmp_path)))

    async def until(condition: Callable[[], bool]) -> None:
        while not condition():  # noqa: ASYNC110 - what is waited for happens in a body
            await asyncio.sleep(0.002)

    async def main() -> None:
        async with Engine.open(str(tmp_path / "runs.db"), check=True) as engine:
            handle = await engine.start(tmp_path / "d.yaml")
            await until((tmp_path / "last").exists)
            await until(lambda: engine.values.kept_bytes < 4 * 100_000)  # three neighbours may be at work
        async with Engine.open(str(tmp_path / "runs.db"), check=True) as engine:  # interrupted in between
            (tmp_path / "go").touch()
            assert await (await engine.resume(handle.execution_id)).result() == sum(range(40))

    asyncio.run(main())
