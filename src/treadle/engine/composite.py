"""Nodes that run nodes of their own: the items of a map, the inputs of a sub-diagram, and the results of
both.

Whatever grows with the number of items is done in chunks, between which the event loop may breathe; outputs
are joined as the bytes that they are, without decoding them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treadle.config import TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import Expression
from treadle.diagram.formats.light.templates import spelled
from treadle.diagram.node import DEFAULT, Input
from treadle.diagram.transform import TransformError, coerce
from treadle.engine.context import NodeContext
from treadle.engine.fold import Fold, reduced
from treadle.engine.outputs import aside
from treadle.engine.values import Reference, decode
from treadle.errors import ExpressionError, InvalidInput, did_you_mean
from treadle.kernel.commands import Expand, Gather
from treadle.kernel.facts import Expanded, Finished
from treadle.state import codec
from treadle.state.cell import ItemError, NodeState
from treadle.state.status import NodeStatus

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner


async def expand(
    runner: WorkflowRunner, command: Expand, context: NodeContext, inputs: dict[str, Any]
) -> Expanded:
    """Evaluate a map's items, or a sub-diagram's inputs. Raises ExpressionError, InvalidInput,
    NotEncodable."""
    node = context.node
    if node.policy.for_each is None:
        given = instance_inputs(node, context.names(inputs), inputs, runner.config)
        return Expanded(command.slot, runner.now(), codec.encode(given))
    value = Expression.compile(node.policy.for_each, config=runner.config).evaluate(context.names(inputs))
    items = listed(value, node)
    limit = runner.config.items_max
    if len(items) > limit:
        raise runner.config.exceeded("items_max", f"the map {command.cell.node_id!r} has {len(items)} items")
    if runner.by_reference:
        raw: bytes = Reference.of(items, b"[" + b",".join([b"0"] * len(items)) + b"]")
        return _expanded(runner, command, context, inputs, raw, len(items))
    parts = []
    for k, item in enumerate(items):
        parts.append(codec.encode(item))
        if k & 255 == 255:
            await runner.breathe()
    return _expanded(runner, command, context, inputs, b"[" + b",".join(parts) + b"]", len(parts))


def _expanded(runner: WorkflowRunner, command: Expand, context: NodeContext, inputs: dict[str, Any],
              raw: bytes, count: int) -> Expanded:
    if context.node.policy.reduce is not None:
        runner.folds[command.slot] = Fold(runner, command, context.names(inputs), raw)
    return Expanded(command.slot, runner.now(), raw, count)


def listed(value: Any, node: ExecutableNode) -> Sequence[Any]:
    """What `for_each` gave, as a sequence: a list or tuple as it is; of a map its entries as `{key,
    value}`."""
    if isinstance(value, list | tuple):
        return value
    if isinstance(value, Mapping):
        return [{"key": key, "value": one} for key, one in value.items()]
    hint = (
        " (| sort makes a list of a set, | lines one of a text)"
        if isinstance(value, set | frozenset | str)
        else ""
    )
    raise ExpressionError(
        f"for_each of node {node.id!r}: {node.policy.for_each!r} gave a {type(value).__name__}, "
        f"and a map goes over a list or a map{hint}"
    )


def instance_inputs(
    node: ExecutableNode, names: Mapping[str, Any], inputs: Mapping[str, Any], config: TreadleConfig
) -> dict[str, Any]:
    """The inputs of a sub-diagram: its `inputs` expressions if the node has them; else the values on its
    arrows by label, where an unlabelled map gives its keys."""
    child = node.child
    assert child is not None
    mapping = getattr(node.spec, "inputs", None)
    if mapping:
        given = {name: Expression.compile(one, config=config).evaluate(names) if isinstance(one, str) else one
                 for name, one in mapping.items()}
    else:
        given = spread(inputs)
    return complete_inputs(child.inputs, given, f"sub-diagram {node.id!r}", known_only=False)


def spread(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Values by name, an unlabelled map's keys among them; a label wins over a key."""
    unlabelled = inputs.get(DEFAULT)
    if isinstance(unlabelled, Mapping) and all(isinstance(key, str) for key in unlabelled):
        return {**unlabelled, **{name: value for name, value in inputs.items() if name != DEFAULT}}
    return dict(inputs)


def together(given: Mapping[str, Any] | None, named: Mapping[str, Any]) -> dict[str, Any]:
    """Inputs that came as a map and by name, as one; those by name count. TypeError if it is no map."""
    if given is not None and not isinstance(given, Mapping):
        raise TypeError(f"inputs come by name (name=value) or as one map of them, not as {given!r:.60}")
    return {**(given or {}), **named}


def complete_inputs(declared: Mapping[str, Input], given: Mapping[str, Any], what: str, *,
                    known_only: bool = True) -> dict[str, Any]:
    """Check inputs against their declarations and fill in defaults.

    Raises InvalidInput with everything that is wrong: unknown (unless `known_only` is off), missing, not of
    the type. A text is read as its declared type ("80" → 80).
    """
    faults = []
    complete = dict(given)
    for name in given:
        if known_only and name not in declared:
            hint = did_you_mean(name, declared) or (
                f"it has {', '.join(declared)}" if declared else "it declares no inputs")
            faults.append(f"{what} has no input {name!r}: {hint}")
    for name, one in declared.items():
        if name in given:
            try:
                complete[name] = coerce(given[name], one.type) if isinstance(given[name], str) else exact(
                    given[name], one.type)
            except TransformError as error:
                faults.append(f"input {name!r} of {what}: {error}")
        elif one.required:
            faults.append(
                f"{what} needs the input {name!r}" + (f" ({one.description})" if one.description else "")
            )
        else:
            complete[name] = one.default
    if faults:
        raise InvalidInput("\n".join(faults))
    return complete


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list, tuple),
    "object": (dict,),
}


def exact(value: Any, kind: str) -> Any:
    """The value, if it is of the declared type; TransformError if it isn't."""
    wanted = _TYPES.get(kind)
    if wanted is None or (isinstance(value, wanted) and (kind == "boolean" or not isinstance(value, bool))):
        return value
    raise TransformError(f"{kind} expected, not a {type(value).__name__}: {value!r:.60}")


async def gather(runner: WorkflowRunner, command: Gather) -> Finished:
    """The result of a composite whose nodes have all ended."""
    cell, node = command.cell, runner.kernel.node(command.slot)
    results = runner.kernel.results(command.slot)
    is_map = node.policy.for_each is not None and runner.kernel.item(command.slot) is None
    if is_map and node.policy.reduce is not None:
        folded = runner.values.encode(await reduced(runner, command, results))
        runner.scope.forget(command.slot)
        return aside(runner, Finished(command.slot, runner.now(), cell.started_at, folded))
    runner.scope.forget(command.slot)
    outputs = getattr(node.spec, "outputs", None)
    if outputs and not is_map:
        value = decode(await collect(runner, results, is_map))
        mapped = runner.values.encode(_outputs(outputs, value, [name for name, _ in results], runner.config))
        return aside(runner, Finished(command.slot, runner.now(), cell.started_at, mapped))
    if not is_map and len(results) == 1:
        only = results[0][1]
        return Finished(
            command.slot, runner.now(), cell.started_at, only.output, None, only.blob, only.content_type
        )
    raw = await collect(runner, results, is_map)
    return aside(runner, Finished(command.slot, runner.now(), cell.started_at, raw))


def _outputs(outputs: Mapping[str, str], value: Any, endpoints: Sequence[str],
             config: TreadleConfig) -> dict[str, Any]:
    """What a sub-diagram's `outputs` make of its result."""
    names = {endpoints[0]: value} if len(endpoints) == 1 else {}
    if isinstance(value, Mapping):
        names |= {key: one for key, one in value.items() if isinstance(key, str)}
    names["result"] = value
    names |= {spelled(name): one for name, one in names.items()}
    return {name: Expression.compile(text, config=config).evaluate(names) for name, text in outputs.items()}


async def collect(runner: WorkflowRunner, results: Sequence[tuple[str, NodeState]], is_map: bool) -> bytes:
    """Several results as one encoded value: a map's items in order, or endpoints by name."""
    parts: list[bytes] = []
    plain = not runner.by_reference
    for k, (index, cell) in enumerate(results):
        if cell.status is NodeStatus.FAILED and is_map:
            part = runner.values.encode(ItemError(int(index), cell.error) if cell.error is not None else None)
        else:
            raw = await runner.values.raw(cell.output, cell.blob)
            part = b"null" if raw is None else raw
        parts.append(part)
        plain = plain and not part.startswith(codec.MARK)
        if k & 255 == 255:
            await runner.breathe()
    if not is_map and len(results) == 1:
        return parts[0]
    if plain:
        if is_map:
            return b"[" + b",".join(parts) + b"]"
        return b"{" + b",".join(codec.encode(name) + b":" + part
                                for (name, _), part in zip(results, parts, strict=True)) + b"}"
    values = []
    for k, part in enumerate(parts):
        values.append(decode(part))
        if k & 255 == 255:
            await runner.breathe()
    value = values if is_map else dict(zip((name for name, _ in results), values, strict=True))
    if runner.by_reference:
        return runner.values.encode(value)
    # Tagged values are written by Python code: for a wide map on a thread, so that the loop goes on.
    return await asyncio.to_thread(codec.encode, value) if len(values) > 1000 else runner.values.encode(value)
