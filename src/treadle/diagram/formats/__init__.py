"""Diagrams as files: YAML and JSON in one shape, read with the line of every fault.

    spec = load("report.yaml")                   # InvalidDiagram lists every fault of the file
    text = dumps(spec, "json")                   # loads(text) gives the same diagram

docs/diagrams.md describes the shape.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.conversion.native import as_light, is_native
from treadle.diagram.formats.json_text import read_json
from treadle.diagram.formats.light import is_light, read_light
from treadle.diagram.formats.reading import FORMAT_VERSION, read_diagram
from treadle.diagram.formats.tree import TreeBuilder, Unreadable, Value, located
from treadle.diagram.formats.writing import as_map, write_json, write_yaml
from treadle.diagram.formats.yaml_text import read_yaml
from treadle.errors import Fault, InvalidDiagram, LimitExceeded, Where

Format = Literal["yaml", "json"]
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def load(path: str | Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> DiagramSpec:
    """Read a diagram file, JSON if its name ends in `.json` and YAML otherwise.

    Raises InvalidDiagram with every fault of the file, OSError if it can't be read.
    """
    text = read_text(path, config=config)
    format_: Format = "json" if Path(path).suffix.lower() == ".json" else "yaml"
    return loads(text, file=str(path), base=str(Path(path).parent), format=format_, config=config)


def loads(text: str, *, file: str = "<text>", base: str = ".", format: Format = "yaml",
          config: TreadleConfig = DEFAULT_CONFIG) -> DiagramSpec:
    """Read a diagram from a text. `file` stands in messages; `base` is the folder that its paths start from.

    Raises InvalidDiagram with every fault of the text.
    """
    spec, faults = read(text, file=file, base=base, format=format, config=config)
    wrong = [fault for fault in faults if not fault.warning]
    if wrong or spec is None:
        raise InvalidDiagram(wrong)
    return spec


def read(text: str, *, file: str = "<text>", base: str = ".", format: Format = "yaml",
         config: TreadleConfig = DEFAULT_CONFIG) -> tuple[DiagramSpec | None, list[Fault]]:
    """Read as much of a diagram as can be read, with its faults, so that `check` can find the rest."""
    faults: list[Fault] = []
    try:
        root = read_tree(text, faults, file=file, format=format, config=config)
    except Unreadable as error:
        return None, [*faults, error.fault]
    name = Path(file).stem if file and not file.startswith("<") else "diagram"
    return read_value(root, faults, file=file, name=name, base=base, source=text), faults


def read_tree(text: str, faults: list[Fault], *, file: str = "<text>", format: Format = "yaml",
              config: TreadleConfig = DEFAULT_CONFIG) -> Value | None:
    """The values of a text with their places, whatever they mean; None if it is empty. Unreadable if it ends
    at a fault, others are added to `faults`."""
    try:
        _bounded(len(text.encode(errors="replace")), file, config)
        builder = TreeBuilder(config, faults)
        (read_json if format == "json" else read_yaml)(text.removeprefix("\ufeff"), file, builder)
    except LimitExceeded as error:
        raise Unreadable(Fault(str(error), where=Where(file))) from None
    return builder.root


def read_value(root: Value | None, faults: list[Fault], *, file: str, name: str, base: str,
               source: str) -> DiagramSpec | None:
    """Make a spec of a file's values, in whichever dialect they are; what is wrong is added to `faults`."""
    if root is not None and is_native(root):
        root, name = as_light(root, faults), name.removesuffix(".native")
    if root is not None and is_light(root):
        return read_light(root, faults, name=name, base=base, source=source)
    top = root.data if root is not None and isinstance(root.data, dict) else {}
    if "version" in top and "treadle" not in top:
        said = top["version"]
        faults.append(Fault(f"'version: {said.plain()}' is no dialect that is read here", where=said.where,
                            hint="there is: version: light, and our own, which begins with treadle: 1"))
        return None
    return read_diagram(root, faults, file=file, name=name, base=base, source=source)


def read_text(path: str | Path, *, config: TreadleConfig = DEFAULT_CONFIG) -> str:
    """The text of a diagram file. Raises InvalidDiagram if it is too large or no UTF-8 text; OSError."""
    try:
        with open(path, "rb") as file:
            raw = file.read(config.diagram_bytes_max + 1)  # never more, whatever the file is
        _bounded(len(raw), str(path), config)
        return raw.decode("utf-8-sig")
    except LimitExceeded as error:
        raise InvalidDiagram([Fault(str(error), where=Where(str(path)))]) from None
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        where = Where(str(path), line)
        hint = " (it begins as UTF-16 does: save it as UTF-8)" if raw[:2] in _UTF_16 else ""
        raise InvalidDiagram([Fault(f"not UTF-8 text: {error.reason}{hint}", where=where)]) from None


def dumps(spec: DiagramSpec, format: Format = "yaml") -> str:
    """Write a diagram. Reading the text gives the same diagram; functions built in Python are left out."""
    found = as_map(spec)
    return write_json(found) if format == "json" else write_yaml(found)


def _bounded(size: int, file: str, config: TreadleConfig) -> None:
    if size > config.diagram_bytes_max:
        raise config.exceeded("diagram_bytes_max", f"{file} has more than {config.diagram_bytes_max} bytes")


def from_map(data: Mapping[str, Any], *, where: Where, base: str = ".",
             name: str = "diagram") -> tuple[DiagramSpec | None, list[Fault]]:
    """A diagram that stands inline in another one, at `where`, as plain data; `treadle: 1` may be left
    out."""
    faults: list[Fault] = []
    whole = dict(data) if "version" in data else {"treadle": FORMAT_VERSION, **data}
    try:
        root = located(whole, where)
        source = write_json(whole)
    except (RecursionError, TypeError, ValueError) as error:
        return None, [Fault(f"the inline diagram is no plain data: {error}", where=where)]
    return read_value(root, faults, file=where.file, name=name, base=base, source=source), faults
