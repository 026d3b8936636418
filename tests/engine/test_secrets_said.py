"""Secrets in what bodies print, log and raise: in pieces, in long lines, in names, where a text is cut."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from treadle.config import TreadleConfig
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed
from treadle.state.context import snapshot_of
from treadle.store import open_store
from treadle.store.base import LogLine

VALUE = "sesame-4711-open-the-door"
START = """
import logging, sys
value = context.secret("secret://SAID_SECRET")
"""


@pytest.fixture(autouse=True)
def _value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID_SECRET", VALUE)


def run(folder: Path, code: str, isolation: str = "thread", **limits: Any) -> tuple[list[LogLine], Any]:
    """Run code; what it said, and its result or error."""
    (folder / "said.yaml").write_text("treadle: 1\nnodes:\n  n:\n    type: code_job\n    code: |\n" + "".join(
        f"      {line}\n" for line in (START + code).splitlines()) + f"    isolation: {isolation}\n")

    async def scenario() -> Any:
        async with Engine.open(f"{folder}/runs.db", config=TreadleConfig(**limits)) as engine:
            handle = await engine.start(str(folder / "said.yaml"), execution_id="run")
            try:
                return await handle.result()
            except ExecutionFailed as error:
                return str(error)

    result = asyncio.run(scenario())
    store = open_store(f"{folder}/runs.db")
    try:
        return store.logs("run"), result
    finally:
        store.close()


@pytest.mark.parametrize("isolation", ["thread", "process", "inline"])
def test_a_secret_in_pieces_is_found(tmp_path: Path, isolation: str) -> None:
    lines, result = run(tmp_path, """
for char in f"a {value} b":
    sys.stdout.write(char)
sys.stderr.write(value[:7])
sys.stderr.write(value[7:])
return [value]
""", isolation)
    assert {(line.stream, line.text) for line in lines} == {
        ("stdout", "a [secret SAID_SECRET] b"), ("stderr", "[secret SAID_SECRET]")}
    assert result == ["[secret SAID_SECRET]"]


@pytest.mark.parametrize("how", [
    "print('x' * 90 + value)",
    "[sys.stdout.write(char) for char in 'x' * 90 + value]",
    "sys.stdout.write('x' * 90 + value[:10]); sys.stdout.write(value[10:] + 'y' * 500)",
    "sys.stdout.write('x' * 90 + value[:10]); sys.stdout.write(value[10:] + chr(10))",
    "logging.getLogger('app').warning('x' * 90 + value)",
])
def test_one_where_a_long_line_is_broken_is_found(tmp_path: Path, how: str) -> None:
    lines, _ = run(tmp_path, how, log_line_chars_max=100)
    text = "".join(line.text for line in lines)
    assert text.rstrip("y") == "x" * 90 + "[secret SAID_SECRET]"
    assert all(len(line.text) <= 150 for line in lines)


def test_one_where_the_middle_is_left_out_is_found(tmp_path: Path) -> None:
    size = TreadleConfig(log_bytes_max=4096, log_line_chars_max=100).log_bytes_max
    for start in (size, size - 10):
        lines, _ = run(tmp_path, log_bytes_max=size, log_line_chars_max=100, code=f"""
print('x' * {start - 12} + value + 'y' * 40000 + value + 'z' * {start - 12})
""")
        text = "".join(line.text for line in lines)
        for piece in (VALUE[:8], VALUE[-8:], VALUE[5:15]):
            assert piece not in text
        (tmp_path / "runs.db").unlink()


def test_names_of_loggers_and_levels_are_cleaned(tmp_path: Path) -> None:
    lines, _ = run(tmp_path, """
logging.addLevelName(35, f"L{value}")
logging.getLogger(f"app.{value}").log(35, "said")
""")
    assert [(line.logger, line.level, line.text) for line in lines] == [
        ("app.[secret SAID_SECRET]", "L[secret SAID_SECRET]", "said")]


@pytest.mark.parametrize(("isolation", "befores"), [("thread", range(2030, 2050, 6)), ("process", [2036])])
def test_an_error_that_is_too_long_keeps_no_half_of_a_secret(
        tmp_path: Path, isolation: str, befores: Iterable[int]) -> None:
    for before in befores:  # 4096 characters are kept, half of them from the start
        _, error = run(tmp_path, isolation=isolation, code=f"""
raise ValueError('x' * {before} + value + 'y' * 9000 + value + 'z' * {before})
""")
        assert "characters left out" in error
        store = open_store(f"{tmp_path}/runs.db")
        said = str(store.load("run"))
        store.close()
        for size in range(6, len(VALUE)):
            assert VALUE[:size] + "\n" not in said.replace("\\n", "\n")
            assert "\n" + VALUE[-size:] not in said.replace("\\n", "\n")
        (tmp_path / "runs.db").unlink()


def test_types_and_notes_of_errors_are_cleaned(tmp_path: Path) -> None:
    _, error = run(tmp_path, """
found = type(f"Of{value}", (ValueError,), {})(value)
found.add_note(f"the note {value}")
raise found from KeyError(value)
""")
    store = open_store(f"{tmp_path}/runs.db")
    said = repr(store.load("run"))
    store.close()
    assert "sesame" not in said + error
    assert "Of[secret SAID_SECRET]" in said and "the note [secret SAID_SECRET]" in said


def test_what_can_not_be_made_without_its_secret_stands_as_plain_data(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SAID_SECRET", "2026")
    code = """
from datetime import date, timedelta
from decimal import Decimal
context.variables["day"] = date(2026, 1, 2)
return {"dates": (date(2026, 1, 2), date(2025, 1, 2)), "n": Decimal("2026.5"), "d": timedelta(days=2026),
        "raw": b"2026", 1: {"2026"}}
"""
    _, result = run(tmp_path, code)
    assert result == {
        "dates": ("[secret SAID_SECRET]-01-02", date(2025, 1, 2)), "n": "[secret SAID_SECRET].5",
        "d": ["[secret SAID_SECRET]", 0, 0], "raw": result["raw"], 1: {"[secret SAID_SECRET]"}}
    assert isinstance(result["raw"], bytes) and result["raw"] != b"2026"
    store = open_store(f"{tmp_path}/runs.db")
    assert snapshot_of(store.context("run")).variables["day"] == "[secret SAID_SECRET]-01-02"
    store.close()
