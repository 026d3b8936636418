"""The light dialect: its files as diagrams of ours.

A file with `version: light` at its top becomes a `DiagramSpec` like any other, with the line of everything in
it; what it means is said in our own words, so that it is checked, run, drawn and resumed as they are.

    labels        the labels of a file, and what the ends of its connections say
    reader        the file: its keys, its nodes with their properties, its persons
    routes        connections as arrows; content types that conditions hand on; the heads of loops
    shapes        what a node of each type may say
    made, kinds   what a node of each type becomes
    templates     its templates as ours
    expressions   its expressions as ours

docs/light.md describes the dialect.
"""

from __future__ import annotations

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.tree import Value
from treadle.errors import Fault

VERSION = "light"
"""What `version:` says at the top of such a file."""


def is_light(root: Value | None) -> bool:
    """Whether a file's values are a diagram in this dialect."""
    version = root.data.get("version") if root is not None and isinstance(root.data, dict) else None
    return version is not None and isinstance(version.data, str) and version.data.strip().lower() == VERSION


def read_light(root: Value, faults: list[Fault], *, name: str, base: str, source: str) -> DiagramSpec | None:
    """Make a spec of a file's values, as far as it can be made; what is wrong is added to `faults`."""
    from treadle.diagram.formats.light.reader import Reader

    return Reader(faults, base).diagram(root, name.removesuffix(f".{VERSION}"), source)
