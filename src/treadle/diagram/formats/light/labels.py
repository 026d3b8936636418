"""What a connection's end says: a label, and the handle of that node.

    `Label`, `Label[handle]`, and of old `Label_handle`, where a `_` may stand for a space. The longest label
    that fits is meant.
"""

from __future__ import annotations

import re

import msgspec

from treadle.errors import Fault, Where, did_you_mean
from treadle.ids import NodeID, escape_label

OUT = {"default": "default", "condtrue": "true", "condfalse": "false", "error": "error"}
"""The handles that arrows leave by, and our ports."""
INTO = {"default": "default", "first": "first"}
"""The handles that arrows enter by, and our inputs."""
_BRACKETS = re.compile(r"(?P<label>.*?\S)\s*\[(?P<handle>[^\[\]]*)\]", re.DOTALL)


class End(msgspec.Struct, frozen=True):
    """One end of a connection; `handle` is "" if it says none."""

    node: NodeID
    handle: str = ""


class Labels:
    """The labels of one file, and the ids of their nodes."""

    def __init__(self) -> None:
        self.ids: dict[str, NodeID] = {}
        self._lines: dict[str, list[int]] = {}  # of each label, where it stands
        self._loose: dict[str, list[str]] = {}  # labels by their text with spaces for underscores
        self._taken: dict[NodeID, str] = {}

    def add(self, labels: list[tuple[str, Where]], faults: list[Fault]) -> list[tuple[str, NodeID]]:
        """Give every node a label and an id of its own, in the order of the file: a label that stands there
        again gets `~1`, `~2` …"""
        for label, where in labels:
            self._lines.setdefault(label, []).append(where.line)
        found = []
        for label, where in labels:
            name, count = label, 0
            while name in self.ids or (count and name in self._lines):
                count += 1
                name = f"{label}~{count}"
            node_id = escape_label(name)
            if node_id in self._taken:
                faults.append(Fault(f"the labels {name!r} and {self._taken[node_id]!r} are the same id "
                                    f"{node_id!r}", where=where, hint="rename one"))
                node_id = escape_label(f"{name}~{where.line}")
            self._taken[node_id] = name
            self.ids[name] = node_id
            self._loose.setdefault(_loosely(name), []).append(name)
            found.append((name, node_id))
        return found

    def named(self, node_id: NodeID) -> str:
        """The label of a node."""
        return self._taken[node_id]

    def find(self, text: str) -> End | tuple[str, str | None]:
        """The end that a text says; else what is wrong with it, and what to do."""
        text = text.strip()
        node = self._label(text)
        if node is not None:
            return node if isinstance(node, tuple) else End(node)
        bracket = _BRACKETS.fullmatch(text)
        if bracket is not None:
            node = self._label(bracket["label"])
            if node is not None:
                return node if isinstance(node, tuple) else End(node, bracket["handle"].strip() or "default")
            return self._nobody(bracket["label"])
        for handle in (*OUT, *INTO):
            label = text[:-len(handle) - 1]
            if label and text[-len(handle) - 1:].lower() in (f"_{handle}", f" {handle}"):
                node = self._label(label)
                if node is not None:
                    return node if isinstance(node, tuple) else End(node, handle)
        return self._nobody(text)

    def _label(self, text: str) -> NodeID | tuple[str, str | None] | None:
        lines = self._lines.get(text, ())
        if len(lines) > 1:
            return (f"{len(lines)} nodes have the label {text!r}, those in lines "
                    f"{' and '.join(map(str, lines))}", "rename one, here too")
        if text in self.ids:
            return self.ids[text]
        several = self._loose.get(_loosely(text), [])
        if len(several) > 1:
            return (f"{text!r} could be {' or '.join(map(repr, several))}", "write the label as it is")
        return self._label(several[0]) if several else None

    def _nobody(self, text: str) -> tuple[str, str | None]:
        known = ", ".join(list(self.ids)[:20]) + (" …" if len(self.ids) > 20 else "")
        near = did_you_mean(text, self.ids) or did_you_mean(_loosely(text), self.ids)
        return f"there is no node {text!r}", near or (f"there is: {known}" if known else None)


def _loosely(text: str) -> str:
    return " ".join(text.replace("_", " ").split())
