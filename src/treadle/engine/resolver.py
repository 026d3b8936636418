"""What a node gets: the values on its arrows by input name, transformed, and the names its expressions see.

- An arrow's value goes to its input (`a -> b.text` to `text`, an unlabelled one to `default`). Two values
  on one input make a list in arrow order.
- A value on the input `first` stands in for `default` in the iteration in which it arrives.
- A failed node on an `error` arrow gives its error as a map: `type`, `message`, `node`, `traceback`, and
  `details` where there are some.
- An arrow's `content_type` converts its value; its `transform` is a pipeline of rules (`TransformRule`).
- Names of expressions: the labels, the ids of the nodes that the values came from, `inputs` (the
  execution's, or the sub-diagram's own), `nodes` (those ids again, for ids that are no names), `iteration`
  (the turn of the innermost loop, from 1), `attempt`, and in a map `item` and `index`. Labels win over ids,
  and the words above over both.
- In an open diagram the ids are no names; keys of an unlabelled map, the inputs of the execution and what
  start nodes say are, in this order, behind the labels.

Every consumer gets its own decoding of a recorded value, so no two nodes share a mutable object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableArrow, ExecutableNode
from treadle.diagram.node import DEFAULT, FIRST
from treadle.diagram.transform import (
    TransformError,
    Transforms,
    convert,
    default_transforms,
)
from treadle.diagram.transform import TransformRule as TransformRule
from treadle.state.blob import Blob
from treadle.state.cell import ErrorInfo
from treadle.state.envelope import ContentHandler, ContentType

if TYPE_CHECKING:
    from treadle.engine.context import ExecutionContext

Pair = tuple[ExecutableArrow, Any]


def error_value(error: ErrorInfo | None) -> dict[str, Any]:
    """What travels on an `error` arrow."""
    if error is None:
        return {"type": "Unknown", "message": "", "node": None, "traceback": ""}
    details = {} if error.details is None else {"details": error.details}
    return {"type": error.type, "message": error.message, "node": error.node, "traceback": error.traceback,
            **details}


class RuntimeResolver:
    """Resolves what nodes get. One per engine. `content_type` tells of a content type: a registry's."""

    def __init__(self, transforms: Transforms | None = None, config: TreadleConfig = DEFAULT_CONFIG,
                 content_type: Callable[[str], ContentHandler] = ContentType.handler) -> None:
        self.transforms = transforms or default_transforms()
        self.config = config
        self._content_type = content_type

    def apply_transformations(self, value: Any, rules: Iterable[TransformRule | Mapping[str, Any]]) -> Any:
        """Run a value through a pipeline of rules, in order. Raises TransformError."""
        return self.transforms.apply(value, rules)

    def resolve_inputs(self, node: ExecutableNode, context: ExecutionContext) -> dict[str, Any]:
        """All inputs of a node, from the outputs that a context holds. Cached until one of those outputs
        changes.

        An arrow whose source has no output yet, or chose another port, gives nothing.
        """
        diagram = context.diagram
        found = []
        for a in diagram.into[node.index]:
            arrow = diagram.arrows[a]
            output = context.get_output(diagram.nodes[arrow.source].id)
            if output is not None and arrow.port == (output.port or DEFAULT):
                found.append((arrow, output))
        key = (node.id, tuple(output.id for _, output in found))
        cached = context.resolved.get(key)
        if cached is None:
            cached = context.resolved[key] = self.inputs([(arrow, output.body) for arrow, output in found])
        return dict(cached)

    def inputs(self, pairs: Sequence[Pair]) -> dict[str, Any]:
        """Values by input name, from (arrow, value) pairs in arrow order. Raises TransformError."""
        if len(pairs) == 1:
            arrow, value = pairs[0]
            if arrow.transform or arrow.content_type:
                value = self._along(arrow, value)
            stands_in = arrow.input == FIRST and arrow.first is not False
            return {DEFAULT if stands_in else arrow.input: value}
        inputs: dict[str, Any] = {}
        lists: set[str] = set()
        for arrow, value in pairs:
            if arrow.transform or arrow.content_type:
                value = self._along(arrow, value)
            name = arrow.input
            if name not in inputs:
                inputs[name] = value
            elif name in lists:
                inputs[name].append(value)
            else:
                inputs[name] = [inputs[name], value]
                lists.add(name)
        if FIRST in inputs and any(one.input == FIRST and one.first is not False for one, _ in pairs):
            inputs[DEFAULT] = inputs.pop(FIRST)
        return inputs

    def _along(self, arrow: ExecutableArrow, value: Any) -> Any:
        try:
            if arrow.content_type:
                value = self._declared(value, arrow.content_type)
            return self.transforms.apply(value, arrow.transform) if arrow.transform else value
        except TransformError as error:
            # Of what went wrong inside, only the traceback of the user's own function says more.
            raise TransformError(f"arrow {arrow.text!r}: {error}") from error.__cause__


    def _declared(self, value: Any, content_type: str) -> Any:
        """A value as its content type takes it. The content of a blob is read for a text or an object."""
        if isinstance(value, Blob) and content_type in ("raw_text", "object"):
            if value.size > self.config.file_bytes_max:
                raise self.config.exceeded("file_bytes_max", f"a blob of {value.size} bytes as "
                                                             f"{content_type}")
            value = value.read()
        value = convert(value, content_type)
        if not self._content_type(content_type).validate(value):
            raise TransformError(f"content_type {content_type}: a {type(value).__name__} is none")
        return value


def turn(iteration: str) -> int:
    """The turn of the innermost loop: 2 of "1.2"."""
    return int(iteration.rpartition(".")[2])
