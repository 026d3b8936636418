"""Diagram files that nobody should write: a fault with its line, exit code 2, at once, in little memory."""

from __future__ import annotations

from typing import Any

import pytest

BOMB = "treadle: 1\na: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join(['*' + before] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True))


@pytest.mark.parametrize(("name", "text", "says"), [
    ("bomb.yaml", BOMB, "bomb.yaml:"),
    ("deep.yaml", "treadle: 1\nnodes: " + "[" * 100_000, "deep.yaml:2"),
    ("deep.json", '{"treadle": 1, "nodes": ' + "[" * 100_000, "deep.json:1"),
    ("large.yaml", "treadle: 1\nname: x\n" + "# notes\n" * 1_400_000, "large.yaml"),
    ("bytes.yaml", "treadle: 1\nname: \x00\n", "bytes.yaml:2"),
    ("number.yaml", f"treadle: 1\nnodes:\n  a: {{type: sleep, seconds: {'9' * 5000}}}\n", "number.yaml:3"),
    ("nan.yaml", "treadle: 1\nnodes:\n  a: {type: sleep, seconds: .nan}\n", "nan.yaml:3"),
    ("empty.yaml", "", "empty.yaml"),
    ("list.yaml", "- treadle\n", "list.yaml:1"),
])
def test_a_file_that_nobody_should_write(treadle: Any, name: str, text: str, says: str) -> None:
    treadle.write(text, name)
    done = treadle("run", name)
    said = done.stderr + done.stdout
    assert done.returncode == 2, said[-3000:]
    assert says in said, said[-3000:]
    assert "Traceback" not in said and len(said) < 4000
    assert not treadle.store.exists() or treadle.json("list") == []


def test_inputs_of_the_command_line_that_nobody_should_give(treadle: Any) -> None:
    treadle.write("treadle: 1\ninputs: {n: integer}\nnodes: {a: {type: start}}\n")
    for value in ("1e999", "NaN", "[" * 50_000, "\udcff"):
        done = treadle("run", "diagram.yaml", "-i", f"n={value}")
        assert done.returncode == 2, (value[:20], done.stderr[-1000:])
        assert "'n'" in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr) < 2000
