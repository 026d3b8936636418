"""What a type checker says of diagrams drawn in Python: right uses pass, wrong ones are found where they
stand.

A line that ends with `# E: code` must have that error of mypy, and no other line may have one.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import treadle

USES = '''
from typing import Any

from treadle import Diagram, loop, node, when
from treadle.diagram.builder import Either, Given, Output


@node
def load(path: str) -> list[str]: ...

@node(retries=2, timeout=30)
async def measure(line: str, unit: str = "m") -> int: ...

@node
async def double(number: int) -> int: ...

@node
def report(sizes: list[int], title: str, limit: float = 1.5) -> str: ...

@node
def anything(value: Any) -> Any: ...

with Diagram("typed") as diagram:
    path: Given[str] = diagram.input("path", str, "x")
    maybe: Given[Any] = diagram.input("maybe", str | None)
    lines: Output[list[str]] = load(path)
    load("x")
    load(path="x")
    load(maybe)
    load(3)  # E: call-overload
    load(lines)  # E: arg-type
    load("x", "y")  # E: call-overload
    sizes: Output[list[int]] = measure.map(lines, concurrency=4, unit="cm")
    one: Output[int] = double(2)
    double(one)
    double(double(one))
    double(load("x"))  # E: arg-type
    measure.map(one)  # E: arg-type
    text: Output[str] = report(sizes, "All", limit=2)
    report(sizes, title="All")
    report(sizes, one)  # E: arg-type
    report(text, "All")  # E: arg-type
    load(text)
    either: Either[str | int] = text | one
    anything(either)
    anything(either | text)
    load(text | text)
    load(text | one)  # E: operator
    wrong: Output[str] = one  # E: assignment
    many = when("sizes | length > 3", sizes=sizes)
    with many.true as passed:
        anything(passed)
    with loop(draft=text) as turn:
        begun = load(turn.draft)
        turn.again(draft=anything(begun))
    for line in lines:  # E: attr-defined
        pass
    with_error: Output[dict[str, Any]] = text.error
    named: Output[int] = double.options(retries=3)(one)
    diagram.result(text | one, size=sizes)
'''


def test_mypy_sees_what_a_node_gives_and_takes(tmp_path: Path) -> None:
    file = tmp_path / "uses.py"
    file.write_text(USES)
    source = Path(treadle.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
         "--disable-error-code=empty-body", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"),
         "--config-file=", str(file)],
        cwd=tmp_path, env={"MYPYPATH": str(source), "PATH": ""}, capture_output=True, text=True, check=False)
    found = {int(line): code for line, code in
             re.findall(r"uses\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)}
    wanted = {number: match[1] for number, line in enumerate(USES.splitlines(), 1)
              if (match := re.search(r"# E: ([\w-]+)$", line))}
    assert found == wanted, done.stdout + done.stderr
