"""Steps of a body: recorded one by one in its cell, so that what is done stays done.

A body that is performed again (its process died, it was suspended, an attempt failed) asks for the same steps
in turn and is given what is recorded. See `treadle.nodes.base.Steps`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.engine import cleaning
from treadle.engine.executor import error_info
from treadle.errors import InvalidInput
from treadle.kernel.facts import Progressed
from treadle.state import codec
from treadle.state.cell import NodeState
from treadle.state.envelope import Envelope
from treadle.state.steps import Noted, StepRecord, Told, add_to, steps_of

if TYPE_CHECKING:
    from treadle.engine.context import NodeContext
    from treadle.engine.runner import WorkflowRunner
    from treadle.kernel.execution import Kernel

PARTIAL_CHARS_MAX = 16_384
"""Characters of a partial text that are shown; of a longer one its end."""
SHOWN_BYTES_S = 1_000_000
"""Bytes a second that showing partial texts may write for one body: each time it is all of its steps."""
_CUT = "[…] "
_dumps = msgspec.json.Encoder().encode
_loads = msgspec.json.Decoder().decode


class Recorder:
    """The steps of one body while it is performed."""

    __slots__ = ("_context", "_ended", "_held", "_lines", "_next_show", "_partial", "_records", "_runner",
                 "_used")

    def __init__(self, runner: WorkflowRunner, context: NodeContext) -> None:
        self._runner, self._context = runner, context
        known = steps_of(context.cell.meta)
        kept = () if known.anew and all(one.attempt < context.attempt for one in known.steps) else known.steps
        self._records = {one.name: one for one in kept if one.error is None}
        self._lines = {one.name: _dumps(one) for one in self._records.values()}
        self._used: set[str] = set()  # in this performance
        self._partial = ""
        self._next_show = 0.0
        self._held: asyncio.TimerHandle | None = None  # a partial text that is shown later
        self._ended = False

    @property
    def records(self) -> tuple[StepRecord, ...]:
        return tuple(self._records.values())

    @property
    def spent(self) -> Mapping[str, float]:
        return MappingProxyType(self._runner.spent)

    @property
    def shown(self) -> tuple[str, str, str]:
        """The path and the iteration of the node, and what its body has shown of its result so far, without
        secrets."""
        redactor, text = self._runner.redactor, self._partial
        return (self._context.node_id, self._context.iteration,
                text if redactor is None or not text else redactor.text(text))

    def recorded(self, name: str) -> StepRecord | None:
        found = self._records.get(name)
        return found if found is not None and found.error is None else None

    async def run(self, name: str, make: Callable[[], Awaitable[Any]], *, kind: str = "step",
                  meta: Mapping[str, Any] | None = None) -> Any:
        self._require(name)
        known = self.recorded(name)
        if known is not None:
            return known.result()
        runner, started = self._runner, self._runner.now()
        try:
            value = await make()
            noted = dict(meta or {})
            if isinstance(value, Noted):
                noted |= value.meta
                value = value.value
            raw = codec.encode(value)
        except Exception as error:  # foreign code: it goes on to the body, and is recorded on the way
            info = error_info(error, self._context.node_id, runner.config.error_bytes_max)
            self._record(StepRecord(name, kind, self._context.attempt, started, runner.now(), error=info,
                                    meta=dict(meta or {})))
            raise
        if runner.redactor is not None:
            raw = cleaning.clean(runner.redactor, raw)
        kept, aside = raw, len(raw) > runner.config.output_inline_bytes_max
        if aside:  # each step writes all steps of the cell
            kept = codec.encode(await asyncio.to_thread(runner.place.put, raw, f"{name}.json"))
        self._record(StepRecord(name, kind, self._context.attempt, started, runner.now(), _loads(kept),
                                meta=noted, aside=aside))
        await runner.kept()
        return codec.decode(raw)

    def show(self, text: str) -> None:
        if self._ended or text == self._partial:
            return
        self._partial = text if len(text) <= PARTIAL_CHARS_MAX else _CUT + text[-PARTIAL_CHARS_MAX:]
        if self._held is None:
            loop = self._runner.engine.loop
            self._held = loop.call_at(max(self._next_show, loop.time()), self._show)

    def _show(self) -> None:
        self._held = None
        if not self._ended:
            pause = max(self._runner.config.progress_interval_s, self._write() / SHOWN_BYTES_S)
            self._next_show = self._runner.engine.loop.time() + pause

    def _require(self, name: str) -> None:
        if self._ended:
            raise InvalidInput(f"node {self._context.node_id!r}: the step {name!r} comes after its body has "
                               "ended: await it before the body returns")
        if not name or name in self._used:
            raise InvalidInput(f"node {self._context.node_id!r}: the step {name!r} was asked for already: "
                               "give each step of a body a name of its own")
        self._used.add(name)

    def _record(self, record: StepRecord) -> None:
        runner = self._runner
        if runner.redactor is not None:
            redactor = runner.redactor
            record = msgspec.structs.replace(
                record, meta=redactor.value(record.meta), name=redactor.text(record.name),
                error=None if record.error is None else cleaning.clean_error(redactor, record.error))
        self._partial = ""
        if self._ended:
            return
        self._records[record.name] = record
        self._lines[record.name] = _dumps(record)
        add_to(runner.spent, record)
        self._write()

    def _write(self, *, anew: bool = False) -> int:
        runner, more = self._runner, b""
        if self._partial:
            text = self._partial if runner.redactor is None else runner.redactor.text(self._partial)
            more = b',"partial":' + _dumps(text)
        if anew:
            more += b',"anew":true'
        meta = b'{"steps":[' + b",".join(self._lines.values()) + b"]" + more + b"}"
        runner.take(Progressed(self._context.slot, runner.now(), meta))
        return len(meta)

    # What the runner tells

    def returned(self, result: Any) -> Any:
        """The body has returned: its message carries the steps in its meta."""
        self.end()
        if type(result) is not Envelope or not self._records:
            return result
        steps = [_loads(line) for line in self._lines.values()]
        return msgspec.structs.replace(result, meta={**result.meta, "steps": steps})

    def raised(self, error: BaseException) -> None:
        """The body has failed. With a true attribute `anew` of the error the next attempt begins anew."""
        self.end()
        if getattr(error, "anew", False) and self._records:
            self._write(anew=True)

    def end(self) -> None:
        """The body is over."""
        self._ended = True
        if self._held is not None:
            self._held.cancel()
            self._held = None


class LocalSteps:
    """Steps without an engine: each is made once, and kept in memory."""

    def __init__(self) -> None:
        self._records: dict[str, StepRecord] = {}
        self._spent = {"tokens": 0.0, "cost": 0.0}
        self.partial = ""

    @property
    def records(self) -> tuple[StepRecord, ...]:
        return tuple(self._records.values())

    @property
    def spent(self) -> Mapping[str, float]:
        return MappingProxyType(self._spent)

    def recorded(self, name: str) -> StepRecord | None:
        return self._records.get(name)

    async def run(self, name: str, make: Callable[[], Awaitable[Any]], *, kind: str = "step",
                  meta: Mapping[str, Any] | None = None) -> Any:
        known = self._records.get(name)
        if known is None:
            value, noted = await make(), dict(meta or {})
            if isinstance(value, Noted):
                value, noted = value.value, noted | value.meta
            known = StepRecord(name, kind, value=_loads(codec.encode(value)), meta=noted)
            self._records[name], self.partial = known, ""
            add_to(self._spent, known)
        return known.result()

    def show(self, text: str) -> None:
        self.partial = text


class Remembered:
    """What the bodies of an execution have recorded, decoded once: a map of ten thousand asks as often."""

    __slots__ = ("_kernel", "_known", "_read", "_told")

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._known: dict[tuple[str, str], Told] = {}
        self._read = 0  # of what the kernel tells
        self._told: tuple[Told, ...] = ()

    def told(self) -> tuple[Told, ...]:
        """The steps of completed bodies, those that ended first before the others."""
        news = self._kernel.told[self._read:]
        if news:
            self._read += len(news)
            last, known, in_order = self._told[-1].ended_at if self._told else 0.0, self._known, True
            for cell in news:
                key, at = (cell.node_id, cell.iteration), cell.ended_at or 0.0
                in_order = in_order and at >= last and known.pop(key, None) is None
                known[key] = Told(cell.node_id, cell.iteration, at, steps_of(cell.meta).steps)
                last = at
            found = known.values()
            self._told = tuple(found if in_order else sorted(found, key=lambda one: one.ended_at))
        return self._told


def answered(cell: NodeState, step: str, payload: bytes, at: float) -> bytes:
    """The meta of a suspended cell with the answer as a step of the body that goes on with it."""
    known = [one for one in steps_of(cell.meta).steps if one.name != step]
    record = StepRecord(step, "answer", cell.attempt, cell.started_at or at, at, _loads(payload))
    return b'{"steps":[' + b",".join(map(_dumps, (*known, record))) + b"]}"
