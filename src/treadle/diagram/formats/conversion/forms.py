"""A diagram file in another form: ours, the light dialect, or that dialect's native form."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.formats import Format, read_tree, read_value
from treadle.diagram.formats.conversion.light import to_light
from treadle.diagram.formats.conversion.native import as_light, flat, from_light, is_native
from treadle.diagram.formats.conversion.readable import as_readable, write_readable
from treadle.diagram.formats.light import is_light
from treadle.diagram.formats.tree import Unreadable, Value, located
from treadle.diagram.formats.writing import write_json
from treadle.errors import Fault, InvalidDiagram

Form = Literal["treadle", "light", "native"]


def convert(text: str, to: Form, *, file: str, format: Format = "yaml", written: Format = "yaml",
            config: TreadleConfig = DEFAULT_CONFIG) -> tuple[str, list[Fault]]:
    """A diagram's text in another form, and what to know about it. The faults of a text that is no diagram,
    and what the form has no words for, are InvalidDiagram."""
    faults: list[Fault] = []
    try:
        root = read_tree(text, faults, file=file, format=format, config=config)
    except Unreadable as error:
        raise InvalidDiagram([*faults, error.fault]) from None
    found = _converted(root, to, faults, file, text)
    wrong = [fault for fault in faults if not fault.warning]
    if wrong or found is None:
        raise InvalidDiagram(wrong)
    return (write_json(found) if written == "json" else write_readable(found)), faults


def _converted(root: Value | None, to: Form, faults: list[Fault], file: str, text: str
               ) -> dict[str, Any] | None:
    name, base = Path(file).stem, str(Path(file).parent)
    spec = read_value(root, faults, file=file, name=name, base=base, source=text)
    if spec is not None and not spec.nodes:
        faults.append(Fault("the diagram has no nodes", where=spec.where))
    if root is None or spec is None or any(not fault.warning for fault in faults):
        return None
    if to == "treadle":
        return as_readable(spec)
    if is_light(root):
        light = root
    elif is_native(root):
        light = as_light(root, [])
    else:
        light = located({"version": "light", **to_light(spec, faults)}, root.where)
        if any(not fault.warning for fault in faults):
            return None
    return flat(light.plain()) if to == "light" else from_light(light)
