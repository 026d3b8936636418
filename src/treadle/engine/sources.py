"""What can be started, and what the store keeps of it: its text with what it takes to read it again; of a
diagram built in Python its spec as JSON with the import paths of its functions.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from treadle.diagram import formats
from treadle.diagram.diagram import DiagramSpec, ExecutableDiagram
from treadle.diagram.types import NodeTypes
from treadle.errors import InvalidDiagram
from treadle.nodes.modules import looking_once

if TYPE_CHECKING:
    from treadle.diagram.builder import Diagram

Drawn: TypeAlias = "ExecutableDiagram | DiagramSpec | Diagram | str | Path"
"""What can be started: a file, a diagram from Python, or a compiled one."""

_stored: weakref.WeakKeyDictionary[ExecutableDiagram, str] = weakref.WeakKeyDictionary()


class Source(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the table `diagrams` keeps. `base` is the folder that the diagram's paths start from."""

    text: str
    format: Literal["yaml", "json"] = "yaml"
    file: str = ""
    base: str = "."
    python: bool = False  # built in Python: functions that have no import path are missing in the text
    spec: msgspec.Raw = msgspec.Raw(b"null")  # the same as data: reading it costs a hundredth


def digest_of(source: str) -> str:
    """The key of a source in the table `diagrams`."""
    return hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def compile_drawn(diagram: Drawn, types: NodeTypes) -> ExecutableDiagram:
    """A diagram as it runs. Raises InvalidDiagram with all faults, OSError."""
    if isinstance(diagram, ExecutableDiagram):
        return diagram
    if isinstance(diagram, DiagramSpec):
        spec = diagram
    elif isinstance(diagram, str | Path):
        spec = formats.load(Path(diagram))
    else:
        from treadle.diagram.builder import Diagram

        if not isinstance(diagram, Diagram):
            raise TypeError("a diagram is a file's path, a Diagram or a DiagramSpec, "
                            f"not a {type(diagram).__name__}")
        spec = diagram.spec()
    from treadle.diagram.compile import compile_diagram

    with looking_once():
        return compile_diagram(spec, types)


def source_of(spec: DiagramSpec) -> str:
    """The source of a spec, as text."""
    base = str(Path(spec.base).absolute())
    data = _as_data(spec, base)
    if spec.source:
        file = spec.where.file if spec.where is not None else ""
        source = Source(spec.source, "json" if file.endswith(".json") else "yaml", file, base)
    else:
        source = Source("" if data else formats.dumps(spec, "json"), "json", spec.name, base, python=True)
    if data:
        source = msgspec.structs.replace(source, spec=msgspec.Raw(data))
    return msgspec.json.encode(source).decode()


def _as_data(spec: DiagramSpec, base: str) -> bytes:
    """A spec as JSON, or b"" if that would not give the same spec again."""
    values: Iterator[Any] = chain((node.properties for node in spec.nodes),
                                  (arrow.transform for arrow in spec.arrows if arrow.transform),
                                  (one.default for one in spec.inputs.values() if not one.required))
    try:
        if not all(_survives(value) for value in values):
            return b""
        return msgspec.json.encode(msgspec.structs.replace(spec, source="", functions={}, base=base))
    except (TypeError, ValueError, RecursionError):
        return b""


def _survives(value: Any) -> bool:
    """Whether JSON gives a value back as it was."""
    plain = msgspec.json.decode(msgspec.json.encode(value))
    return bool(plain == (list(value) if isinstance(value, tuple) else value))


def compile_stored(text: str, types: NodeTypes) -> ExecutableDiagram:
    """Compile what the store keeps. Raises InvalidDiagram."""
    from treadle.diagram.compile import compile_diagram

    source = msgspec.json.decode(text, type=Source)
    try:
        if bytes(source.spec) != b"null":
            spec = msgspec.structs.replace(
                msgspec.json.decode(source.spec, type=DiagramSpec), source=source.text
            )
        else:
            spec = formats.loads(
                source.text, file=source.file or "<stored>", base=source.base, format=source.format
            )
        with looking_once():
            compiled = compile_diagram(spec, types)
    except InvalidDiagram as error:
        if source.python:
            error.add_note(
                "The diagram was built in Python: if its functions can't be imported again, hand the diagram "
                "in: engine.resume(execution_id, diagram=diagram)."
            )
        raise
    _stored[compiled] = digest_of(text)
    return compiled


def key_of(compiled: ExecutableDiagram) -> tuple[str, str]:
    """The key of a diagram in the table `diagrams`, and its source: "" if it was compiled from there."""
    known = _stored.get(compiled)
    if known is not None:
        return known, ""
    source = source_of(compiled.spec)
    return digest_of(source), source
