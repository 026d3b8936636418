"""The steps that bodies have recorded: calls of models and tools, answers."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from treadle.cli.render import iso, seconds, spent, table
from treadle.engine.showing import plain
from treadle.errors import NotDecodable
from treadle.state.steps import Steps, spent_by, steps_of

if TYPE_CHECKING:
    from treadle.state.cell import NodeState
    from treadle.state.steps import StepRecord

REMARK_CHARS_MAX = 400
"""Characters of what a step came to that a table shows; `--json` has all of it."""
COLUMNS = ("STEP", "KIND", "ATTEMPT", "TOOK", "TOKENS", "COST", "")


def spent_line(cells: Iterable[NodeState]) -> str:
    """What all steps have taken, in words; "" if that is nothing."""
    return spent(spent_by(cells))


def spent_of(cells: Iterable[NodeState]) -> dict[str, Any]:
    """The same for programs: `{"spent": {"tokens": …, "cost": …}}`, or nothing."""
    sums = spent_by(cells)
    return {"spent": sums} if sums.get("tokens") else {}


def lines(cell: NodeState) -> list[str]:
    """The steps of a cell as a table, and the text that was still coming."""
    found = steps_of(cell.meta)
    text = []
    if found.steps:
        text.append("\n" + table(COLUMNS, [_row(one) for one in found.steps]))
    if found.partial:
        text.append(f"\nso far: {found.partial}")
    return text


def as_data(cell: NodeState) -> dict[str, Any]:
    """The same for programs: `{"steps": […], "partial": …}`, what there is of it."""
    found: Steps = steps_of(cell.meta)
    told: dict[str, Any] = {}
    if found.steps:
        told["steps"] = [{
            "name": one.name, "kind": one.kind, "attempt": one.attempt, "started_at": iso(one.started_at),
            "ended_at": iso(one.ended_at), "value": None if one.error else plain(_result(one)),
            "error": one.error, "meta": one.meta} for one in found.steps]
    if found.partial:
        told["partial"] = found.partial
    return told


def _row(step: StepRecord) -> list[str]:
    tokens, cost = step.meta.get("tokens"), step.meta.get("cost")
    return [step.name, step.kind, str(step.attempt), seconds(max(0.0, step.ended_at - step.started_at)),
            "" if tokens is None else f"{tokens:,}", "" if not cost else f"${cost:.4f}", _remark(step)]


def _remark(step: StepRecord) -> str:
    """What a step came to, in a line."""
    if step.error is not None:
        return str(step.error)
    value = _result(step)
    if step.kind in ("model", "summary"):
        return _person(step.meta) + _answer(value)
    if step.kind == "tool":
        return f"{_brief(step.meta.get('arguments', {}))} → {_brief(value)}"
    return _brief(value)


def _result(step: StepRecord) -> Any:
    try:
        return step.result()
    except (OSError, NotDecodable) as error:  # its blob is gone, or its type is not known here
        return {"$unreadable": str(error)}


def _person(meta: Mapping[str, Any]) -> str:
    return f"{meta['person']}: " if meta.get("person") else ""


def _answer(value: Any) -> str:
    answer = value.get("answer") if isinstance(value, Mapping) else None
    if not isinstance(answer, Mapping):
        return _brief(value.get("text", value) if isinstance(value, Mapping) else value)
    calls: Sequence[Mapping[str, Any]] = answer.get("calls") or ()
    said = [str(answer["content"])] if answer.get("content") else []
    said += [f"calls {one.get('tool')} {_brief(one.get('arguments') or {})}" for one in calls]
    return " ".join(said)


def _brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(plain(value), ensure_ascii=False)
    return text if len(text) <= REMARK_CHARS_MAX else f"{text[:REMARK_CHARS_MAX]}… ({len(text):,} characters)"
