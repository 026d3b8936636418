"""A light node that becomes one of ours: its properties, their places, and what is wrong with them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from treadle.diagram.formats.light.expressions import translate_expression
from treadle.diagram.formats.light.templates import Translated, translate
from treadle.diagram.formats.tree import Value
from treadle.diagram.node import DEFAULT, Arrow, stands_in
from treadle.errors import Where, did_you_mean
from treadle.ids import NodeID

if TYPE_CHECKING:
    from treadle.diagram.formats.light.reader import Reader

_PATHS = ("file", "file_name", "file_path", "output_path")
_SINGLE = re.compile(r"(?<!\{)\{[^\W\d]\w*\}(?!\})")
PROMPTS = "files/prompts"
"""Where the dialect's documentation keeps prompt files."""
_SUFFIXES = {"light": (".light.yaml", ".light.yml", ".light.json", ".yaml", ".yml", ".json"),
             "native": (".json", ".native.json"), "treadle": (".yaml", ".yml", ".json")}


class Made:
    """A node in the making. `said` is what the file says of it; `places` are those of our properties."""

    def __init__(self, reader: Reader, label: str, node_id: NodeID, kind: str, said: Mapping[str, Value],
                 keys: Mapping[str, Where], into: Sequence[Arrow]) -> None:
        self.reader, self.label, self.node_id, self.type, self.said = reader, label, node_id, kind, said
        self.known = {DEFAULT if stands_in(one.input, one.first) else one.input for one in into}
        self.sources = [one.source for one in into]
        self.properties: dict[str, Any] = {}
        self.policy: dict[str, Any] = {}
        self.places: dict[str, Where] = {}
        self.broken = False  # whether it has a fault, and the rest of the check would only repeat it
        self._theirs: dict[str, Where] = {}
        for key, one in said.items():
            one.places(key, self._theirs)
        self._theirs |= keys

    def where(self, key: str) -> Where | None:
        """Where one of the file's properties stands, or the part of it that is nearest."""
        while key:
            if key in self._theirs:
                return self._theirs[key]
            key = key[:max(key.rfind("."), key.rfind("["), 0)]
        return None

    def fault(self, message: str, key: str = "", hint: str | None = None, *, warning: bool = False) -> None:
        where = self.where(key) or self.reader.place_of(self.node_id)
        self.broken = self.broken or not warning
        self.reader.fault(message, where, hint, self.label, warning=warning)

    def put(self, name: str, value: Any, key: str) -> None:
        """Give it one of our properties, which stands where the file's `key` does."""
        self.properties[name] = value
        for path, where in self._theirs.items():
            if path == key or path.startswith((f"{key}.", f"{key}[")):
                self.places[name + path[len(key):]] = where

    def rule(self, name: str, value: Any, key: str) -> None:
        """Give it one of the properties that every node has."""
        self.policy[name] = value
        if (where := self.where(key)) is not None:
            self.places[name] = where

    def template(self, text: str, key: str) -> str:
        if key in _PATHS and (single := _SINGLE.search(text)) is not None:
            self.fault(f"{key}: {single[0]} is text, and the same for every value", key,
                       f"write {{{single[0]}}}", warning=True)
        found = translate(text, known=self.known, where=self.where(key), node=self.label)
        return self.translated(found)

    def templates(self, value: Any, key: str) -> Any:
        """A structure, however deep, whose texts are templates."""
        if isinstance(value, str):
            return self.template(value, key)
        if isinstance(value, dict):
            return {name: self.templates(one, f"{key}.{name}") for name, one in value.items()}
        if isinstance(value, list):
            return [self.templates(one, f"{key}[{index}]") for index, one in enumerate(value)]
        return value

    def expression(self, text: str, key: str) -> str:
        found = translate_expression(text, known=self.known, where=self.where(key), node=self.label, what=key)
        return self.translated(found)

    def translated(self, found: Translated) -> str:
        self.reader.faults += found.faults
        self.broken = self.broken or not all(fault.warning for fault in found.faults)
        return found.text

    def one_of(self, said: Mapping[str, Any], what: str) -> str | None:
        """Which of several properties is said; a fault unless it is exactly one."""
        found = [key for key, value in said.items() if value is not None]
        if len(found) != 1:
            names = " or ".join(f"`{key}`" for key in said)
            self.fault(f"{what} needs {names}" + (", not both" if found else ""), found[-1] if found else "")
            return None
        return found[0]

    def map(self, value: dict[str, Any] | str, key: str) -> dict[str, Any]:
        """A map, which may be a text of JSON."""
        if isinstance(value, dict):
            return value
        try:
            found = json.loads(value) if value.strip() else {}
        except ValueError as error:
            self.fault(f"{key}: the text is no JSON: {error}", key, "write a map")
            return {}
        if not isinstance(found, dict):
            self.fault(f"{key} must be a map", key)
            return {}
        return found

    def text_of(self, path: str, key: str) -> str:
        """The text of a file in the diagram's folder, or in its folder of prompts."""
        file = Path(self.reader.base) / path
        prompt = Path(self.reader.base) / PROMPTS / path
        try:
            file = prompt if prompt.is_file() and not file.exists() else file
            return file.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            self.fault(f"{key}: file {path!r} is no UTF-8 text", key)
        except OSError as error:
            self.fault(f"{key}: file {path!r} can't be read: {error.strerror}", key,
                       "paths start from the diagram's folder")
        return ""


def inline(data: dict[str, Any], form: str, made: Made) -> dict[str, Any]:
    """A diagram that stands in this one, as a map of ours."""
    from treadle.diagram.formats import read_value
    from treadle.diagram.formats.writing import as_map

    first = {"version": "light"} if form == "light" and "treadle" not in data else {}
    tree = made.said["diagram_data"]
    where = tree.where
    tree = Value({**{key: Value(one, where) for key, one in first.items()}, **tree.data}, where,
                 {**dict.fromkeys(first, where), **tree.keys})
    spec = read_value(tree, made.reader.faults, file=where.file, name=made.node_id, base=made.reader.base,
                      source="")
    return {} if spec is None else as_map(spec)


def beside(name: str, form: str, made: Made) -> str:
    """The file of a diagram by its name, which need not say how it ends."""
    ends = ("", *_SUFFIXES[form])
    for suffix in ends:
        if os.path.isfile(os.path.join(made.reader.base, name + suffix)):
            return name + suffix
    folder, _, last = name.rpartition("/")
    try:
        files = os.listdir(os.path.join(made.reader.base, folder))
    except OSError:
        files = []
    near = did_you_mean(last, {file.removesuffix(suffix) for file in files for suffix in ends
                               if file.endswith(suffix)})
    made.fault(f"there is no diagram {name!r} beside this file", "diagram_name",
               near or f"looked for {name}{ends[1]}, {name}{ends[-2]} …")
    return name
