"""`transform: [{call: "module:function"}]`: code of one's own on an arrow."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.check.checker import check_file
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed
from treadle.nodes.registry import default_registry

DIAGRAM = """
treadle: 1
nodes:
  a: {type: code_job, code: "return [3, 1, 2]", isolation: inline}
  b: {type: endpoint}
arrows:
  - {from: a, to: b, transform: [{call: "%s"}, {select: "[0]"}]}
"""
CODE = "def newest_first(rows): return helper(rows)\ndef helper(rows): return sorted(rows, reverse=True)\n" \
       "async def late(rows): return rows\ndef bad(rows): raise KeyError('no column')\n"


def drawn(folder: Path, call: str) -> Path:
    (folder / "arrow_tasks.py").write_text(CODE)
    (folder / "d.yaml").write_text(DIAGRAM % call)
    return folder / "d.yaml"


def run(folder: Path, *, edit: str = "") -> Any:
    async def main() -> Any:
        async with Engine.open(str(folder / "runs.db")) as engine:
            handle = await engine.start(folder / "d.yaml")
            result = await handle.result()
            if not edit:
                return result
            (folder / "arrow_tasks.py").write_text(edit)
            plan = await engine.plan(handle.execution_id, diagram=folder / "d.yaml")
            again = await engine.resume(handle.execution_id, diagram=folder / "d.yaml")
            return result, [one.path for one in plan.changed], await again.result()

    return asyncio.run(main())


def test_a_function_stands_on_an_arrow(tmp_path: Path) -> None:
    drawn(tmp_path, "arrow_tasks:newest_first")
    assert run(tmp_path) == 3


def test_its_code_counts_for_what_follows(tmp_path: Path) -> None:
    drawn(tmp_path, "arrow_tasks:newest_first")
    assert run(tmp_path, edit=CODE.replace("reverse=True", "reverse=False")) == (3, ["b"], 1)


def test_what_it_raises_fails_the_target_and_says_where(tmp_path: Path) -> None:
    drawn(tmp_path, "arrow_tasks:bad")
    said = r"node 'b'.*arrow 'a -> b'.*transform call: arrow_tasks:bad of a list: KeyError: 'no column'"
    with pytest.raises(ExecutionFailed, match=said):
        run(tmp_path)


@pytest.mark.parametrize(("call", "said"), [
    ("arrow_tasks:newst_first", "newest_first"),
    ("arrow_task:newest_first", "arrow_task"),
    ("newest_first", "write it as 'module:function'"),
    ("arrow_tasks:late", "is async, and an arrow does not wait: use a code_job"),
])
def test_mistakes_are_found_beforehand(tmp_path: Path, call: str, said: str) -> None:
    faults = [str(fault) for fault in check_file(drawn(tmp_path, call), default_registry()).faults]
    assert any("d.yaml:7: arrow 'a -> b'" in fault and said in fault for fault in faults), faults
