"""What type checkers say of diagrams drawn in Python: mypy and pyright see what each node gives, right uses
pass, and wrong ones are found where they stand.

A line that ends with `# E: code` must have an error (of mypy with that code), one with `# R: type` reveals
that type, and no other line may have either.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import treadle

SOURCE = str(Path(treadle.__file__).parents[1])
USES = '''
from typing import Any

from treadle import Diagram, loop, node, when
from treadle.diagram.builder import Either, Given, Output, switch


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
    reveal_type(load)  # R: NodeFunction[(path: str), list[str]]
    reveal_type(load("x"))  # R: Output[list[str]]
    reveal_type(double(1))  # R: Output[int]
    reveal_type(double.options(id="twice")(1))  # R: Output[int]
    reveal_type(measure.map(["a", "b"]))  # R: Output[list[int]]
    reveal_type(text | one)  # R: Either[str | int]
    reveal_type(diagram.input("n", int, 3))  # R: Given[int]
    reveal_type(one.error)  # R: Output[dict[str, Any]]
    reveal_type(many)  # R: Choice
    with many.false as rest:
        reveal_type(rest)  # R: Output[Any]
        reveal_type(double(one))  # R: Output[int]
    with switch("t", ["a", "b"], t=text).case("a"):
        reveal_type(report(sizes, "a"))  # R: Output[str]
    with loop(number=one) as counted:
        turned = double(counted.number)
        reveal_type(turned)  # R: Output[int]
        counted.again(number=turned)
'''


PROVIDERS = ("pydantic_ai", "pydantic_graph", "openai", "anthropic", "google", "mcp", "genai_prices")


def marked(letter: str) -> dict[int, str]:
    """The marks of one kind, by the number of their line."""
    return {number: found[1] for number, line in enumerate(USES.splitlines(), 1)
            if (found := re.search(rf"# {letter}: (.+)$", line))}


def test_mypy_sees_what_a_node_gives_and_takes(tmp_path: Path) -> None:
    (tmp_path / "uses.py").write_text(USES)
    # What providers bring is not looked at: eight thousand modules.
    (tmp_path / "mypy.ini").write_text("[mypy]\n" + "".join(
        f"[mypy-{one}.*]\nfollow_imports = skip\n" for one in PROVIDERS))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--hide-error-context",
         "--disable-error-code=empty-body", "--follow-imports=silent", "--cache-dir", str(tmp_path / "cache"),
         "--config-file=mypy.ini", "uses.py"],
        cwd=tmp_path, env={"MYPYPATH": SOURCE, "PATH": ""}, capture_output=True, text=True, check=False)
    found = re.findall(r"uses\.py:(\d+): error: .*\[([\w-]+)\]$", done.stdout, re.M)
    assert {int(line): code for line, code in found} == marked("E"), done.stdout + done.stderr
    revealed = re.findall(r'uses\.py:(\d+): note: Revealed type is "(.*)"$', done.stdout, re.M)
    short = {int(line): re.sub(r"\b[a-z_]+\.(?=\w)", "", kind) for line, kind in revealed}
    assert {line: re.sub(r"\[\[(.*)\], ", r"[(\1), ", kind) for line, kind in short.items()} == marked("R")


def test_pyright_sees_the_same(tmp_path: Path) -> None:
    """By basedpyright, which brings what it runs on: pyright itself would load it over the network."""
    (tmp_path / "uses.py").write_text(USES)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({
        "typeCheckingMode": "standard", "extraPaths": [SOURCE], "reportReturnType": "none"}))
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "uses.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False)
    said = [(one["range"]["start"]["line"] + 1, one["severity"], one["message"])
            for one in json.loads(done.stdout)["generalDiagnostics"]]
    assert {line for line, kind, _ in said if kind == "error"} == set(marked("E")), said
    revealed = {line: text.rpartition(" is ")[2].strip('"') for line, kind, text in said
                if kind == "information"}
    assert revealed == marked("R")
