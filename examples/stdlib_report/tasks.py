"""What the nodes of diagram.yaml do."""

from __future__ import annotations

import ast
import os
import platform
import sysconfig
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from treadle.state.cell import ItemError

LINES_MIN = 10
"""The shortest table that says anything."""
STEP = 1.1
"""By how much a table that doesn't fit raises the bar."""
NOT_OURS = {"site-packages", "dist-packages", "__pycache__"}


def find_modules(settings: dict[str, Any]) -> dict[str, Any]:
    """Every Python file of the folder by its name in it, sorted; what was installed later is left out."""
    root = Path(settings["root"] or sysconfig.get_paths()["stdlib"]).expanduser().resolve()
    if not root.is_dir():
        raise NotADirectoryError(f"root={settings['root']}: there is no such folder")
    if settings["page"] < LINES_MIN:
        raise ValueError(f"page={settings['page']}: a table needs at least {LINES_MIN} lines")
    names = []
    for folder, inner, files in os.walk(root):
        inner[:] = [name for name in inner if name not in NOT_OURS]
        place = Path(folder).relative_to(root)
        names += [(place / name).as_posix() for name in files if name.endswith(".py")]
    if not names:
        raise FileNotFoundError(f"there is no Python file in {root}")
    out = Path(settings["out"]).expanduser().resolve()
    return {"root": str(root), "names": sorted(names), "out": str(out)}


def measure(name: str, root: str) -> dict[str, Any]:
    """Parse one file and measure it. A file that is not Python (of today) raises what the parser says."""
    source = (Path(root) / name).read_bytes()
    functions, longest, imports = 0, {"name": "", "line": 0, "lines": 0}, set()
    for one, inside in statements(ast.parse(source, filename=name).body, ""):
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef):
            functions += 1
            lines = (one.end_lineno or one.lineno) - one.lineno + 1
            if lines > longest["lines"]:
                longest = {"name": inside + one.name, "line": one.lineno, "lines": lines}
        elif isinstance(one, ast.Import):
            imports.update(alias.name.partition(".")[0] for alias in one.names)
        elif isinstance(one, ast.ImportFrom) and one.module and not one.level:
            imports.add(one.module.partition(".")[0])
    return {"name": name, "lines": source.count(b"\n"), "functions": functions, "longest": longest,
            "imports": sorted(imports)}


def statements(body: list[ast.stmt], inside: str) -> Iterator[tuple[ast.stmt, str]]:
    """Every statement, however deep, with the names of the classes and functions around it; expressions hold
    none."""
    stack = [(one, inside) for one in reversed(body)]
    while stack:
        one, inside = stack.pop()
        yield one, inside
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            inside = f"{inside}{one.name}."
        parts = [one, *getattr(one, "handlers", ()), *getattr(one, "cases", ())]
        for part in reversed(parts):
            for field in ("finalbody", "orelse", "body"):
                stack += [(inner, inside) for inner in reversed(getattr(part, field, ()))]


def summarise(found: dict[str, Any], measured: list[Any], settings: dict[str, Any]) -> dict[str, Any]:
    """All measurements together. A file that could not be parsed stands among them as an `ItemError`."""
    read = [one for one in measured if not isinstance(one, ItemError)]
    unread = [{"name": found["names"][one.index], "type": one.type, "message": one.message.partition("\n")[0]}
              for one in measured if isinstance(one, ItemError)]
    limit = settings["limit"]
    long = [{"file": one["name"], **one["longest"]} for one in read if one["longest"]["lines"] > limit]
    packages: Counter[str] = Counter()
    imported: Counter[str] = Counter()
    for one in read:
        packages[one["name"].partition("/")[0] if "/" in one["name"] else "(single files)"] += one["lines"]
        imported.update(one["imports"])
    return {
        "python": platform.python_version(), "out": found["out"], "files": len(measured), "unread": unread,
        "lines": sum(one["lines"] for one in read), "functions": sum(one["functions"] for one in read),
        "limit": limit, "long": sorted(long, key=lambda row: (-row["lines"], row["file"])),
        "packages": top(packages, 12), "imported": top(imported, 8)}


def top(counts: Counter[str], number: int) -> list[dict[str, Any]]:
    """The largest counts, ties by name, so that every run gives the same list."""
    ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"name": name, "count": count} for name, count in ranked[:number]]


def draft(summary: dict[str, Any], before: dict[str, Any] | None = None) -> dict[str, Any]:
    """The rows of the table; after a draft that did not fit, those above a higher bar."""
    bar = summary["limit"]
    if before is not None:
        bar = max(before["draft"]["bar"] + 1, int(before["draft"]["bar"] * STEP))
    rows = [row for row in summary["long"] if row["lines"] > bar]
    return {"bar": bar, "rows": rows, "left_out": len(summary["long"]) - len(rows)}
