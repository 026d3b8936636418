"""Other names that the dialect's documentation gives to properties, and where else it lets them stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from treadle.diagram.formats.tree import Value
from treadle.errors import Where

PAGE_KEYS = ("position", "flipped", "metadata")
"""What is kept for the page and means nothing otherwise."""
_ALIASES: Mapping[str, Mapping[str, str]] = {
    "code_job": {"code_type": "language", "filePath": "file_path", "functionName": "function_name"},
    "db": {"source_details": "file"},
    "json_schema_validator": {"strict": "strict_mode", "schema": "json_schema"},
    "hook": {"function": "function_name"}}
_AS_IT_IS = {("sub_diagram", "passInputData"): True, ("person_job", "tools"): "none"}
"""What says nothing but what is done anyway."""


def documented(kind: str, said: dict[str, Value], keys: dict[str, Where],
               fault: Callable[[str, Where, str], None]) -> None:
    """Give a node's properties the names that `shapes` knows. Both names of one at once are a fault."""
    for other, name in _ALIASES.get(kind, {}).items():
        if other not in said:
            continue
        value, where = said.pop(other), keys[other]
        if name in said and said[name].plain() != value.plain():
            fault(f"{other} and {name} are two names of one property", where, "leave one out")
        elif name not in said:
            said[name], keys[name] = value, where
    for (owner, key), usual in _AS_IT_IS.items():
        if kind == owner and key in said and said[key].data == usual:
            del said[key]


def kept(entry: Value, said: dict[str, Value]) -> dict[str, object]:
    """What is there for the page, beside the properties or among them."""
    page = {}
    for key in PAGE_KEYS:
        among = said.pop(key, None)
        if (value := entry.data.get(key) or among) is not None:
            page[key] = value.plain()
    return page
