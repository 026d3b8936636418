"""An arrow's `content_type`: the value arrives as it says, or the node fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle import Engine, TreadleConfig
from treadle.errors import ExecutionFailed
from treadle.state import envelope
from treadle.state.envelope import ContentType


@pytest.fixture
def even() -> Iterator[str]:
    """A content type of one's own."""
    yield ContentType.register("even", validate=lambda body: body % 2 == 0)
    del envelope._handlers["even"]


def run(folder: Path, content_type: str, made_by: str, **limits: Any) -> Any:
    (folder / "large.json").write_text('{"rows": [1, 2]}')
    file = folder / "d.yaml"
    file.write_text(f"treadle: 1\nnodes:\n  a: {{{made_by}}}\n  b: {{type: endpoint}}\n"
                    f"arrows:\n  - {{from: a, to: b, content_type: {content_type}}}\n")

    async def script() -> Any:
        async with Engine.open("memory:", config=TreadleConfig(**limits)) as engine:
            return await (await engine.start(file)).result()

    return asyncio.run(script())


def made(value: str) -> str:
    return f"type: code_job, isolation: inline, code: 'return {value}'"


BLOB = "type: db, operation: read, file: large.json, format: blob"


def test_the_content_of_a_blob_is_read(tmp_path: Path) -> None:
    assert run(tmp_path, "raw_text", BLOB) == '{"rows": [1, 2]}'
    assert run(tmp_path, "object", BLOB) == {"rows": [1, 2]}
    assert run(tmp_path, "binary", BLOB).size == 16
    with pytest.raises(ExecutionFailed, match="a blob of 16 bytes as object: the limit file_bytes_max is 10"):
        run(tmp_path, "object", BLOB, file_bytes_max=10)


@pytest.mark.parametrize(("content_type", "value", "said"), [
    ("binary", "3", "a int is none"), ("error", "3", "a int is none"), ("raw_text", 'b"\\xff"', "UTF-8"),
    ("object", '"{"', "is not JSON")])
def test_what_cannot_be_converted_fails_the_node(
        tmp_path: Path, content_type: str, value: str, said: str) -> None:
    wanted = f"node 'b'.*arrow 'a -> b': content_type {content_type}.*{said}"
    with pytest.raises(ExecutionFailed, match=wanted):
        run(tmp_path, content_type, made(value))


def test_a_registered_content_type_takes_what_it_validates(tmp_path: Path, even: str) -> None:
    assert run(tmp_path, even, made("4")) == 4
    with pytest.raises(ExecutionFailed, match="content_type even: a int is none"):
        run(tmp_path, even, made("3"))
