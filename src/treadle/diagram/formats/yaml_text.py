"""Read YAML. PyYAML gives the events, with positions and on libyaml where it is built in; the rest is ours.

PyYAML rather than ruamel.yaml: its event stream is flat (deep nesting can't exhaust the stack), reports
aliases before they are expanded, and is fast. What it would make of scalars is YAML 1.1, where `on` and
`12:30` are surprises; we read them by the core schema of YAML 1.2: null, true, false, numbers; everything
else is text.
"""

from __future__ import annotations

import math
import re
from typing import Any

import yaml

from treadle.diagram.formats.tree import TreeBuilder, Unreadable
from treadle.errors import Fault, Where

_Loader: Any = getattr(yaml, "CLoader", yaml.Loader)  # only its parser is used; it makes no objects
_WORDS = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
INTEGER = re.compile(r"[-+]?[0-9]+\Z|0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
ODD_FLOAT = re.compile(r"[-+]?\.(inf|Inf|INF)\Z|\.(nan|NaN|NAN)\Z")
_ENDS = (yaml.MappingEndEvent, yaml.SequenceEndEvent)
_CORE = "tag:yaml.org,2002:"


def read_yaml(text: str, file: str, builder: TreeBuilder) -> None:
    """Feed a text to the builder. Raises Unreadable at the first syntax error."""
    documents = 0
    try:
        for event in yaml.parse(text, Loader=_Loader):
            if isinstance(event, _ENDS):
                builder.close()
                continue
            mark = event.start_mark
            where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
            if isinstance(event, yaml.ScalarEvent):
                if builder.wants_key:
                    builder.key(event.value, where, merges=event.value == "<<" and event.implicit[0])
                else:
                    builder.scalar(_scalar(event, where), where, event.anchor)
            elif isinstance(event, yaml.MappingStartEvent):
                _collection(event.tag, "map", where)
                builder.open({}, where, event.anchor)
            elif isinstance(event, yaml.SequenceStartEvent):
                _collection(event.tag, "seq", where)
                builder.open([], where, event.anchor)
            elif isinstance(event, yaml.AliasEvent):
                builder.alias(event.anchor or "", where)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    message = "a second document begins here; a diagram is one document"
                    raise Unreadable(Fault(message, where=where))
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        place = Where(file, at.line + 1, at.column + 1) if at else Where(file)
        context = f" {error.context}" if error.context else ""
        message = f"not YAML: {error.problem or 'syntax error'}{context}"
        if at and text[at.index:at.index + 1] == "\t":
            message = "not YAML: a tab stands here, and YAML indents with spaces"
        raise Unreadable(Fault(message, where=place)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1 if isinstance(error.position, int) else 0
        raise Unreadable(Fault(f"not YAML: {error.reason}", where=Where(file, line))) from None


def _collection(tag: str | None, kind: str, where: Where) -> None:
    if tag not in (None, "!", _CORE + kind):
        raise Unreadable(_no_tag(tag, where))


def _no_tag(tag: str, where: Where) -> Fault:
    return Fault(f"tag {tag.replace(_CORE, '!!')!r} means nothing in a diagram", where=where)


def _scalar(event: yaml.ScalarEvent, where: Where) -> Any:
    tag: str | None = event.tag
    if tag is None or tag == "!":
        return core_scalar(event.value, where) if event.implicit[0] and tag is None else event.value
    kinds = {"str": str, "int": int, "float": float, "bool": bool, "null": type(None)}
    kind = kinds.get(tag.removeprefix(_CORE)) if tag.startswith(_CORE) else None
    if kind is None:
        raise Unreadable(_no_tag(tag, where))
    if kind is str:
        return event.value
    value = core_scalar(event.value, where)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise Unreadable(Fault(f"{event.value!r} is no {tag.replace(_CORE, '!!')}", where=where))
    return value


def core_scalar(text: str, where: Where = Where()) -> Any:  # noqa: B008 (a frozen struct)
    """What an unquoted word means in YAML 1.2. Raises Unreadable for a number that is too long."""
    if text in _WORDS:
        return _WORDS[text]
    if INTEGER.match(text):
        try:
            return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
        except ValueError:
            raise Unreadable(Fault("the number has too many digits", where=where, hint="quote it")) from None
    if FLOAT.match(text):
        return float(text)
    if ODD_FLOAT.match(text):
        return math.nan if text[1] in "nN" else -math.inf if text[0] == "-" else math.inf
    return text
