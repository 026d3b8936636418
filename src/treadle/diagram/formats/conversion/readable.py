"""Diagrams as people write them: short entries on one line, code as it stands, `needs` instead of arrows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from treadle.diagram.diagram import DiagramSpec
from treadle.diagram.formats.reading import POLICY_KEYS
from treadle.diagram.formats.writing import Dumper, as_map
from treadle.diagram.node import DEFAULT, Arrow

LINE_CHARS_MAX = 100


class _Line(dict[str, Any]):
    """A map that is written on one line."""


class _Readable(Dumper):
    pass


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    if "'" in text and style is None and not {'"', "\\"} & set(text):
        style = None if dumper.analyze_scalar(text).allow_flow_plain else '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


def _line(dumper: yaml.SafeDumper, data: _Line) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", data.items(), flow_style=True)


_Readable.add_representer(str, _text)
_Readable.add_representer(_Line, _line)


def as_readable(spec: DiagramSpec) -> dict[str, Any]:
    """A spec as the map that a file holds, in which unlabelled arrows stand as `needs` of their targets.

    Arrows of `needs` come before the others, so of each node only those go there that come first.
    """
    found = as_map(spec)
    needs: dict[str, list[str]] = {}
    labelled: set[str] = set()
    arrows = []
    for node in found["nodes"].values():
        node |= {key: int(one) for key in POLICY_KEYS if isinstance(one := node.get(key), float)
                 and one.is_integer()}
    for arrow, written in zip(spec.arrows, found.get("arrows", ()), strict=True):
        if isinstance(written, str) and arrow.input == DEFAULT and arrow.target not in labelled:
            needs.setdefault(arrow.target, []).append(_source(arrow))
        else:
            labelled.add(arrow.target)
            arrows.append(written)
    for node_id, sources in needs.items():
        node = found["nodes"][node_id]
        found["nodes"][node_id] = {
            "type": node["type"], "needs": sources[0] if len(sources) == 1 else sources, **node}
    if arrows:
        found["arrows"] = arrows
    else:
        found.pop("arrows", None)
    return found


def _source(arrow: Arrow) -> str:
    return arrow.source if arrow.port == DEFAULT else f"{arrow.source}.{arrow.port}"


def write_readable(found: Mapping[str, Any]) -> str:
    """A diagram's map as YAML, ours or of the light dialect."""
    whole = {key: _short(one) for key, one in found.items()}
    text = yaml.dump(whole, Dumper=_Readable, sort_keys=False, allow_unicode=True, width=4096)
    assert isinstance(text, str)
    return text


def _short(value: Any) -> Any:
    """The entries of a map or list, those that fit on one line marked so."""
    if isinstance(value, dict):
        return {key: _on_line(one, len(str(key))) for key, one in value.items()}
    return [_on_line(one, 0) for one in value] if isinstance(value, list) else value


def _on_line(value: Any, before: int) -> Any:
    if not isinstance(value, dict):
        return value
    if before + _length(value) <= LINE_CHARS_MAX:
        return _Line(value)
    return {key: _on_line(one, len(str(key))) for key, one in value.items()}


def _length(value: Any) -> int:
    """About how many characters a value takes on one line; very many if it can't stand there."""
    if isinstance(value, dict):
        return sum(len(str(key)) + _length(one) + 4 for key, one in value.items())
    if isinstance(value, list):
        return sum(_length(one) + 2 for one in value) + 2
    text = str(value)
    return len(text) + 2 if "\n" not in text else 10 * LINE_CHARS_MAX
