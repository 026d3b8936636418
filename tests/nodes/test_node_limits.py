"""The limits of an engine hold for what its nodes do, and raising one helps."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from treadle import Engine, TreadleConfig
from treadle.engine.handle import Handle

READ = "{type: db, operation: read, file: long.txt}"
CHANGE = "{type: db, operation: update, file: long.json, key: a, needs: begin}"
PRINT = "{type: code_job, language: bash, code: cat long.txt}"
TELL = "{type: hook, kind: shell, command: cat long.txt}"
RENDER = "{type: template_job, text: '{{ \"x\" * 2000 }}'}"
LOAD = "{type: template_job, template: long.txt}"
COMPUTE = "{type: condition, when: '[0] * 2000'}"


def run(folder: Path, node: str, **limits: Any) -> Handle:
    (folder / "long.txt").write_text("x" * 2000)
    (folder / "long.json").write_text('{"a": "' + "x" * 2000 + '"}')
    file = folder / "d.yaml"
    file.write_text(f"treadle: 1\nnodes:\n  begin: {{type: start}}\n  a: {node}\n")

    async def script() -> Handle:
        async with Engine.open("memory:", config=TreadleConfig(**limits)) as engine:
            handle = await engine.start(file)
            await handle.wait()
            return handle

    return asyncio.run(script())


@pytest.mark.parametrize(("limit", "node"), [
    ("file_bytes_max", READ), ("file_bytes_max", CHANGE), ("body_output_bytes_max", PRINT),
    ("body_output_bytes_max", TELL), ("template_output_chars_max", RENDER),
    ("template_output_chars_max", LOAD), ("expression_result_max", COMPUTE)])
def test_a_limit_of_the_engine_holds_and_can_be_raised(tmp_path: Path, limit: str, node: str) -> None:
    failed = run(tmp_path, node, **{limit: 1000})
    assert f"the limit {limit} is 1000; raise it with TreadleConfig({limit}=…)" in str(failed.error)
    assert run(tmp_path, node, **{limit: 5000}).status == "completed"


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_recorded_error_is_as_long_as_the_engine_lets_it_be(tmp_path: Path, isolation: str) -> None:
    node = f"{{type: code_job, isolation: {isolation}, code: 'raise ValueError(\"x\" * 9000)'}}"
    lengths = []
    for limit in (1000, 8000):
        error = run(tmp_path, node, error_bytes_max=limit).error
        assert error is not None
        lengths.append(len(error.message))
    assert lengths[0] < 600 and 3900 < lengths[1] < 4100
