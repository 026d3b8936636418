"""Results for other executions (`cache: true`): a node that got the same before is not performed again.

What a result depends on is in its key: what the node performs (its properties, the code that it names) and
what its body can see: its inputs, the values of the nodes that they came from, its item, and, where its texts
or its code mention them, the inputs of the execution, its place in a map or loop, and the attempt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import DEFAULT
from treadle.engine import cleaning, outputs
from treadle.errors import StoreError
from treadle.kernel.facts import Finished
from treadle.nodes.base import Body
from treadle.state import blob, codec
from treadle.state.envelope import Envelope
from treadle.store.base import Cached

if TYPE_CHECKING:
    from treadle.engine.context import NodeContext
    from treadle.store.manager import StateManager

_DIGEST_BYTES = 16


def key_of(node: ExecutableNode, context: NodeContext, inputs: dict[str, Any]) -> str:
    """The digest of all that a body's result depends on."""
    sees = node.sees
    everything = bool(sees & {"context", "nodes", "inputs"})
    sources = {one.id: value for one, value in _sources(context)}
    seen: dict[str, Any] = {"body": node.body, "inputs": inputs, "sources": sources}
    if context.index is not None:
        # A map's items all get what the map got, usually the list of them: it counts if they look at it.
        seen["item"] = context.item
        if not everything:
            seen["sources"] = {name: value for name, value in sources.items() if name in sees}
            seen["inputs"] = {name: value for name, value in inputs.items()
                              if name != DEFAULT or name in sees}
    if everything or node.type == "start":
        seen["execution"] = dict(context.execution_inputs)
    if around := context.around({}):  # of an open diagram, or one that exposes its turns
        seen["around"] = around
    for name in ("index", "iteration", "attempt"):
        if name in sees or ("context" in sees and name != "attempt"):
            seen[name] = getattr(context, name)
    return hashlib.blake2b(codec.encode(seen), digest_size=_DIGEST_BYTES).hexdigest()


def _lost(result: Cached) -> bool:
    """Whether the file of a blob in it is gone: the store may have been copied without them."""
    raw = result.output
    return raw is not None and raw.startswith(codec.MARK) and any(
        blob.find(digest) is None for digest in blob.named_in(raw))


def _sources(context: NodeContext) -> Iterator[tuple[ExecutableNode, Any]]:
    nodes = context.runner.kernel.diagram_of(context.slot).nodes
    return ((nodes[arrow.source], value) for arrow, value in context.values)


class ResultCache:
    """Wraps the bodies of nodes with `cache`. A store that can't be read costs the reuse and nothing else."""

    def __init__(self, manager: StateManager) -> None:
        self._manager = manager
        self._unwritten: dict[str, Cached] = {}

    def around(self, node: ExecutableNode, body: Body) -> Body:
        """The body, performed only if there is no result for what it got."""
        age = node.policy.cache

        async def cached_body(context: NodeContext, inputs: dict[str, Any]) -> Any:
            runner, began = context.runner, context.now()
            key = key_of(node, context, inputs)
            found = await self._find(key)
            if found is not None and (age is True or began - found.at <= age) and not _lost(found):
                return Finished(context.slot, context.now(), began, found.output, found.port, found.blob,
                                found.content_type, found.meta, f"cache: {found.execution_id}")
            result = await body(context, inputs)
            if not isinstance(result, Envelope):
                return result  # it waits for somebody
            raw = runner.values.encode(result.body)
            if runner.redactor is not None:
                raw = cleaning.clean(runner.redactor, raw)
            fact = outputs.finished(runner, context.slot, began, raw, result)
            self._keep(Cached(
                key, context.node_id, runner.kernel.execution.name, context.execution_id, fact.at,
                fact.output, fact.blob, fact.content_type, fact.meta, fact.port))
            return fact

        return cast("Body", cached_body)

    async def _find(self, key: str) -> Cached | None:
        waiting = self._unwritten.get(key)
        if waiting is not None:
            return waiting
        try:
            return await self._manager.read(self._manager.store.cached, key)
        except StoreError:
            return None

    def _keep(self, result: Cached) -> None:
        self._unwritten[result.key] = result
        self._manager.when_durable(self._manager.keep(result), lambda: self._written(result))

    def _written(self, result: Cached) -> None:
        if self._unwritten.get(result.key) is result:
            del self._unwritten[result.key]
