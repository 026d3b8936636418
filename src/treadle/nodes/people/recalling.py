"""What a body's person remembers, looked up once: for all items of a map at the same instant."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from treadle.diagram.person import Defined, Memory
from treadle.errors import NoSuchNode
from treadle.nodes.base import BodyContext
from treadle.nodes.people.memory import Recalled, Turn, map_of, recall, turn_of, turns_before
from treadle.state.steps import Told

_EXECUTIONS_MAX = 64
_MAPS_MAX = 256


class Turns:
    """The turns of the newest executions, decoded once."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, dict[tuple[str, str, float], Turn | None]] = OrderedDict()
        self._maps: OrderedDict[tuple[str, ...], tuple[Sequence[Told], float]] = OrderedDict()

    def turn(self, execution_id: str, told: Told) -> Turn | None:
        """What `turn_of` gives."""
        known = self._turns.setdefault(execution_id, {})
        key = (told.node_id, told.iteration, told.ended_at)
        if key not in known:
            known[key] = turn_of(told)
            while len(self._turns) > _EXECUTIONS_MAX:
                self._turns.popitem(last=False)
        return known[key]

    def before_map(self, context: BodyContext, name: str) -> tuple[Sequence[Told], float]:
        """What had been told when the first item of a map asked, and the last instant of it."""
        key = (context.execution_id, context.pipeline.version, name, context.iteration)
        found = self._maps.get(key)
        if found is None:
            found = self._maps[key] = _all_told(context)
            while len(self._maps) > _MAPS_MAX:
                self._maps.popitem(last=False)
        return found

    def close(self) -> None:
        """The engine ends."""
        self._turns.clear()
        self._maps.clear()


def recalled(context: BodyContext, memory: Memory, person: Defined) -> tuple[Recalled, float]:
    """What a person remembers at the beginning of a body, and until which instant it was looked at. A body
    that goes on with recorded steps looks at what it looked at before."""
    if memory.kind == "none":
        return Recalled(), 0.0
    try:
        turns = context.kept("turns of people", Turns)
    except NoSuchNode:  # no engine
        turns = Turns()
    recorded = next((one.meta["until"] for one in context.steps.records if "until" in one.meta), None)
    name = map_of(context.node_id)
    if recorded is not None or name is None:
        told, until = _all_told(context)
        until = until if recorded is None else float(recorded)
    else:
        told, until = turns.before_map(context, name)
    known = turns_before(told, node_id=context.node_id, until=until,
                         turn=lambda one: turns.turn(context.execution_id, one))
    return recall(memory, person.identity(context.node_id), known), until


def _all_told(context: BodyContext) -> tuple[Sequence[Told], float]:
    told = context.told()
    return told, max((one.ended_at for one in told), default=0.0)
