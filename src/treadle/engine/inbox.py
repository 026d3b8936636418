"""What comes from outside to one execution: answers, signals, a wish to cancel it.

All of it passes through the store's `signals`, so that it makes no difference which process it comes from,
and what comes early waits, across restarts too. Signals queue by name, and each is consumed once, in order,
in the transaction that completes its waiter.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from treadle.engine.cleaning import clean
from treadle.engine.steps import answered
from treadle.errors import InvalidInput, NoSuchNode
from treadle.kernel import facts
from treadle.state import codec
from treadle.state.cell import NodeState
from treadle.state.status import NodeStatus
from treadle.state.steps import has_steps
from treadle.store.base import Signal

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner

logger = logging.getLogger("treadle.engine")

ANSWER, SIGNAL, CANCEL = "answer", "signal", "cancel"


class Inbox:
    """The signals of one execution that are not consumed yet, by id: the order in which they were sent."""

    def __init__(self, runner: WorkflowRunner) -> None:
        self._runner = runner
        self._waiting: dict[int, Signal] = {}
        self._seen: set[int] = set()

    @property
    def newest(self) -> int:
        """The id of the newest signal that was taken in, 0 if there was none."""
        return max(self._seen, default=0)

    def add(self, signals: Iterable[Signal]) -> None:
        """Take signals in, each once. `match` hands them on."""
        for one in signals:
            if one.id not in self._seen:
                self._seen.add(one.id)
                self._waiting[one.id] = one
        self._waiting = dict(sorted(self._waiting.items()))

    def match(self) -> bool:
        """Hand on what suspended nodes wait for; whether there was anything."""
        any_matched = False
        for one in list(self._waiting.values()) if self._waiting else ():
            if self._runner.ended:
                break
            if one.id not in self._waiting:
                continue
            if one.kind == CANCEL:
                del self._waiting[one.id]
                reason = codec.decode(one.payload)
                self._runner.take(facts.Cancelled(self._runner.now(), str(reason or "")), consumed=[one.id])
                return True
            slot = self._slot(one)
            if slot is None:
                if one.kind == ANSWER and self._is_early(one):
                    self._drop(one)
                continue
            del self._waiting[one.id]
            redactor, payload = self._runner.redactor, one.payload
            if redactor is not None:
                payload = clean(redactor, payload)
            cell = self._runner.kernel.cell(slot)
            request = request_of(cell)
            if one.kind == ANSWER and one.name and one.name != request.get("step"):
                logger.error("an answer to %r of execution %s is dropped: it is for %r, which is not asked "
                             "now", one.node_id, one.execution_id, one.name)
                self._runner.discard([one.id])
                continue
            fault = fault_of(codec.decode(payload), request.get("schema"))
            if fault is not None:
                logger.error(
                    "an answer to %r of execution %s is refused: %s", one.node_id, one.execution_id, fault
                )
                self._runner.discard([one.id])
                continue
            any_matched = True
            self._runner.timers.cancel(slot)  # its time-out
            now, step = self._runner.now(), request.get("step")
            if step:  # the body goes on, and may ask for something else: the others have not seen that
                for other in [two for two in self._waiting.values()
                              if two.kind == ANSWER and self._slot(two) == slot]:
                    self._drop(other)
            meta = None if not step or cell is None else answered(cell, str(step), payload, now)
            self._runner.take(facts.Answered(slot, now, payload, meta=meta), consumed=[one.id])
        return any_matched

    def check(self, path: str, iteration: str | None, value: Any) -> str:
        """Refuse an answer at once that can't be right; the step of the body that asks, "" if it is the node
        itself or not known yet. InvalidInput, NoSuchNode."""
        kernel = self._runner.kernel
        try:
            cell = kernel.cell(kernel.find(path, iteration))
        except NoSuchNode:
            if path.split("/")[0].split("[")[0] not in kernel.diagram.index:
                raise
            return ""  # not yet: the answer waits
        if cell is None or cell.status is not NodeStatus.SUSPENDED:
            if cell is not None and cell.status.terminal:
                raise InvalidInput(f"node {path!r} does not wait for an answer: it is {cell.status}")
            if cell is not None and is_within(cell):
                raise InvalidInput(f"node {path!r} asks nothing now: an answer to what it may ask later, "
                                   "which nobody has seen, is not kept")
            return ""
        request = request_of(cell)
        fault = fault_of(value, request.get("schema"))
        if fault is not None:
            raise InvalidInput(f"the answer to {path!r} does not fit its schema: {fault}")
        return str(request.get("step", ""))

    def _is_early(self, one: Signal) -> bool:
        """Whether an answer is for a body that will perhaps ask something, which nobody has seen."""
        try:
            cell = self._runner.kernel.cell(self._runner.kernel.find(one.node_id, one.iteration or None))
        except NoSuchNode:
            return False
        return cell is not None and is_within(cell)

    def _drop(self, one: Signal) -> None:
        logger.error("an answer to %r of execution %s is dropped: it came before the question", one.node_id,
                     one.execution_id)
        del self._waiting[one.id]
        self._runner.discard([one.id])

    def _slot(self, one: Signal) -> int | None:
        kernel = self._runner.kernel
        if one.kind == ANSWER:
            try:
                slot = kernel.find(one.node_id, one.iteration or None)
                return slot if _waits(kernel.cell(slot), ("answer", "signal")) else None
            except NoSuchNode:
                return None
        for slot in kernel.waiting():
            cell = kernel.cell(slot)
            if _waits(cell, ("signal",)) and request_of(cell).get("name") == one.name:
                return slot
        return None


def request_of(cell: NodeState | None) -> Mapping[str, Any]:
    """What a suspended node waits for."""
    request = {} if cell is None or cell.request is None else codec.decode(cell.request)
    return request if isinstance(request, Mapping) else {}


def is_within(cell: NodeState) -> bool:
    """Whether its body has recorded steps, and goes on."""
    return cell.status is NodeStatus.RUNNING and has_steps(cell.meta)


def _waits(cell: NodeState | None, kinds: tuple[str, ...]) -> bool:
    return cell is not None and cell.status is NodeStatus.SUSPENDED and request_of(cell).get("kind") in kinds


_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "array": (list, tuple),
    "object": (dict,), "null": (type(None),)}


def fault_of(value: Any, schema: Any) -> str | None:
    """What is wrong with a value by a JSON schema, or None. With `jsonschema` installed all of the schema
    counts; else `type`, `enum`, `required`, `properties` and `items` do."""
    if not isinstance(schema, Mapping):
        return None
    try:
        import jsonschema
    except ImportError:
        return _fault(value, schema, "the value")
    try:
        jsonschema.validate(value, schema)
    except jsonschema.ValidationError as error:
        return str(error.message)
    return None


def _fault(value: Any, schema: Mapping[str, Any], what: str) -> str | None:
    kinds = schema.get("type", ())
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(isinstance(value, _TYPES.get(kind, (object,)))
                         and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds):
        return f"{what} should be {' or '.join(kinds)}, not {type(value).__name__}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{what} should be one of {', '.join(map(repr, schema['enum']))}"
    if isinstance(value, Mapping):
        for name in schema.get("required", ()):
            if name not in value:
                return f"{what} lacks {name!r}"
        parts = [(value[name], one, f"{what}[{name!r}]") for name, one in schema.get("properties", {}).items()
                 if name in value]
    elif isinstance(value, list | tuple) and isinstance(schema.get("items"), Mapping):
        parts = [(one, schema["items"], f"{what}[{k}]") for k, one in enumerate(value)]
    else:
        parts = []
    return next((fault for part in parts if (fault := _fault(*part)) is not None), None)
