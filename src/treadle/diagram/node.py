"""The parts of a diagram: nodes, arrows, loops, inputs."""

from __future__ import annotations

from typing import Any

import msgspec

from treadle.diagram.policy import LOOP_ITERATIONS_MAX, OnLimit, Policy
from treadle.errors import Where
from treadle.ids import NodeID

DEFAULT = "default"
"""The port and input of an unlabelled arrow."""
ERROR = "error"
"""The port that a failed node sends its error to."""
FIRST = "first"
"""The input that is used only in iteration 1 of every loop that its arrow enters."""


class Node(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A node as it was drawn: its type, the type's own properties as plain data, and its policy."""

    id: NodeID
    type: str
    properties: dict[str, Any] = {}
    policy: Policy = Policy()
    label: str = ""  # as written, when the id had to be escaped
    where: Where | None = None
    places: dict[str, Where] = {}  # where each property stands in the file
    page: dict[str, Any] = {}  # what is kept for a page that draws it: position, flipped, metadata


class Arrow(msgspec.Struct, frozen=True, omit_defaults=True, gc=False):
    """A connection from a node's port to another node's input."""

    source: NodeID
    target: NodeID
    port: str = DEFAULT
    input: str = DEFAULT
    transform: tuple[dict[str, Any], ...] = ()
    content_type: str | None = None
    where: Where | None = None
    first: bool | None = None  # used only in iteration 1 of every loop that it enters; None: as `input` says

    def __str__(self) -> str:
        port = "" if self.port == DEFAULT else f".{self.port}"
        into = "" if self.input == DEFAULT else f".{self.input}"
        return f"{self.source}{port} -> {self.target}{into}"


def stands_in(input: str, first: bool | None) -> bool:
    """Whether an arrow's value stands in for `default`: its input is `first`, and that is no name of its
    own."""
    return input == FIRST and first is not False


class Loop(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a diagram says about the loop whose head is `entry`."""

    entry: NodeID
    max_iterations: int = LOOP_ITERATIONS_MAX
    on_limit: OnLimit = OnLimit.FAIL
    where: Where | None = None


class Input(msgspec.Struct, frozen=True, omit_defaults=True):
    """An input of an execution. Without a default it is required."""

    type: str = "any"  # any, string, integer, number, boolean, array, object
    default: Any = msgspec.UNSET
    description: str = ""

    @property
    def required(self) -> bool:
        return self.default is msgspec.UNSET
