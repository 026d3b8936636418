"""Names of things: executions, nodes, paths of nodes, iterations.

A *path* names a node from the root of its diagram: `parse`, `parse[17]` (an item of a map), `sub/inner` (a
node of a sub-diagram), `sub[3]/inner` (of an item's sub-diagram). A node's own id matches `[\\w -]+`, so a
path can be taken apart again without doubt.
"""

from __future__ import annotations

import re
from typing import NewType

ExecutionID = NewType("ExecutionID", str)
NodeID = NewType("NodeID", str)
"""A node's id in its diagram, or its path in an execution."""

NODE_ID = re.compile(r"[\w -]+\Z")
_STEP = re.compile(r"(?P<id>[\w -]+)(?:\[(?P<item>\d+)\])?\Z")


EXECUTION_ID_CHARS_MAX = 200


def check_execution_id(text: str) -> None:
    """ValueError that says why, if a text can't be an execution's id: it must be printable, and not too
    long."""
    if not 0 < len(text) <= EXECUTION_ID_CHARS_MAX or not text.isprintable():
        raise ValueError(f"{text!r:.80} can't be the id of an execution: choose 1 to "
                         f"{EXECUTION_ID_CHARS_MAX} printable characters")


def is_node_id(text: str) -> bool:
    """Whether a text can be a node's id as it stands."""
    return NODE_ID.match(text) is not None


def escape_label(label: str) -> NodeID:
    """Make a node id of any label; what can't stand in it becomes its code point: `a/b` → `a_2f_b`."""
    if NODE_ID.match(label):
        return NodeID(label)
    return NodeID("".join(c if NODE_ID.match(c) else f"_{ord(c):x}_" for c in label) or "_")


def item_path(path: str, index: int) -> NodeID:
    """The path of item `index` (from 0) of the map at `path`."""
    return NodeID(f"{path}[{index}]")


def inner_path(path: str, node_id: str) -> NodeID:
    """The path of a node in the sub-diagram at `path`."""
    return NodeID(f"{path}/{node_id}")


def parse_path(path: str) -> tuple[tuple[str, int | None], ...]:
    """Take a path apart into (node id, item or None) from the outside in; ValueError if it isn't one."""
    steps = []
    for part in path.split("/"):
        match = _STEP.match(part)
        if match is None:
            raise ValueError(f"{path!r} is not the path of a node: {part!r} should be like 'name' or "
                             "'name[3]'")
        item = match["item"]
        steps.append((match["id"], None if item is None else int(item)))
    return tuple(steps)


def parse_iteration(iteration: str) -> tuple[int, ...]:
    """The turns of the loops around a node, outermost first: '2.1' → (2, 1)."""
    return tuple(int(turn) for turn in iteration.split("."))
