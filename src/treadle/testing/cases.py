"""A diagram's own tests, as a file beside it: `debate.test.yaml` for `debate.yaml`.

    script:                                   # what persons say
      Ann: [Tea., Coffee!]
      Judge: [{winner: Ann}]
    inputs: {topic: drinks}
    expect:
      result: Ann
      nodes: {judge: completed}

Several are a list under `tests`; what stands beside it holds for each that doesn't say otherwise, of inputs,
scripts, stubs, answers and signals name by name. They run in memory, without waiting, and no provider is
asked. `treadle test` runs them, and so does pytest.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config import read_limits
from treadle.diagram.formats.tree import Value
from treadle.diagram.formats.values import convert_struct
from treadle.engine.edited import nearby, types_for
from treadle.engine.showing import plain
from treadle.errors import Fault, InvalidDiagram, TreadleError, Where, did_you_mean
from treadle.nodes.people.offline.standins import Script, read_script, read_values, scripts_of
from treadle.state.difference import ABSENT, differences
from treadle.testing.clock import ToyClock
from treadle.testing.diagrams import RUN_S_MAX, Ran, WatchedEngine

MARK = ".test"
"""What stands before the end of such a file's name."""
ENDS = (".yaml", ".yml", ".json")
DIFFERENCES_MAX = 20
"""Differences of one value that are shown."""
_NAMES = re.compile(rb'^\s*(- )?"?diagram"?\s*:', re.MULTILINE)
_OURS = re.compile(rb'^[\s{]*"?(treadle"?\s*:|version"?\s*:\s*"?light|handles"?\s*:)', re.MULTILINE)
_MAPS = ("inputs", "script", "stubs", "answers", "signals")
VALUE_CHARS_MAX = 1000
"""Characters of one value that are shown."""


class Expected(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What must be true in the end. What is not said may be as it likes."""

    status: Literal["completed", "failed", "cancelled", "suspended"] = "completed"
    result: Any = ABSENT
    """The value of the execution."""
    error: str | None = None
    """A part of the message of what failed."""
    nodes: dict[str, str] = {}
    """The status of each of these nodes at its end: `judge: completed`."""
    outputs: dict[str, Any] = {}
    """The value of each of these nodes."""
    order: list[str] | None = None
    """All nodes as they completed, an entry for each turn."""
    calls: dict[str, int] = {}
    """How often the body of each of these nodes was called."""
    said: list[dict[str, Any]] | None = None
    """All that persons said, in order: `- Ann: Tea.`"""


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One test of a diagram."""

    name: str = ""
    diagram: str | None = None
    """The diagram's file, relative to this one; else the one beside it."""
    inputs: dict[str, Any] = {}
    script: dict[str, list[Any] | str] | str = {}
    """What persons say: lists of answers or `module:function`, or the path of a script file."""
    replay: str | None = None
    """A folder with recorded calls of models, relative to this file."""
    stubs: dict[str, Any] = {}
    """Values of nodes that are not performed."""
    answers: dict[str, Any] = {}
    """What those are answered that wait for a person."""
    signals: dict[str, Any] = {}
    """Signals that are sent at the start."""
    expect: Expected = Expected()


class Found(msgspec.Struct, frozen=True):
    """A case as it stands in a file."""

    case: Case
    where: Where
    path: Path
    """Of its diagram."""
    scripts: dict[str, Script]
    places: dict[str, Where]
    """Where parts of it stand: `expect.result`."""


class Outcome(msgspec.Struct, frozen=True):
    """What became of a case: no differences, if it holds."""

    found: Found
    differences: tuple[str, ...]
    seconds: float

    @property
    def text(self) -> str:
        """The differences, a line each."""
        return "\n".join(self.differences)


def is_test(path: Path) -> bool:
    """Whether a file's name is that of diagram tests."""
    return path.suffix in ENDS and path.stem.endswith(MARK)


def diagram_beside(path: Path) -> Path | None:
    """The diagram that a file of tests is for by its name, if it is there."""
    stem = path.stem.removesuffix(MARK)
    return next((one for end in ENDS if (one := path.with_name(stem + end)).is_file()), None)


def is_ours(path: Path) -> bool:
    """Whether a file with such a name is for a diagram, and not somebody else's: one is beside it, or it
    names one."""
    beside = diagram_beside(path)
    return bool(_NAMES.search(_head(path))) if beside is None else bool(_OURS.search(_head(beside)))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(64 * 1024)


def read_cases(path: str | Path) -> list[Found]:
    """The tests in a file. InvalidDiagram with its faults, OSError."""
    path = Path(path)
    root, faults = read_values(path)
    if not isinstance(root.data, dict):
        raise InvalidDiagram([*faults, Fault("a file of tests is a map: script, inputs, expect …",
                                             where=root.where)])
    listed = root.data.get("tests")
    if listed is None:
        values = [root.data]
        starts = [Value(root.data, Where(str(path), 1), root.keys)]
    elif isinstance(listed.data, list) and all(isinstance(one.data, dict) for one in listed.data):
        shared = {key: one for key, one in root.data.items() if key != "tests"}
        values, starts = [_joined(shared, one.data) for one in listed.data], listed.data
    else:
        raise InvalidDiagram([*faults, Fault("`tests` is a list of maps", where=listed.where)])
    if not values:
        faults.append(Fault("there is no test in it", where=root.where))
    found = [_case(path, data, start.where, faults) for data, start in zip(values, starts, strict=True)]
    if faults:
        raise InvalidDiagram(faults)
    return [one for one in found if one is not None]


def _joined(shared: dict[str, Value], own: dict[str, Value]) -> dict[str, Value]:
    """The parts of a test: what is shared, and its own before it; maps name by name."""
    joined = {**shared, **own}
    for key in _MAPS:
        a, b = shared.get(key), own.get(key)
        if a is not None and b is not None and isinstance(a.data, dict) and isinstance(b.data, dict):
            joined[key] = Value({**a.data, **b.data}, b.where, {**a.keys, **b.keys})
    return joined


def _case(path: Path, data: dict[str, Value], where: Where, faults: list[Fault]) -> Found | None:
    places: dict[str, Where] = {}
    for key, value in data.items():
        value.places(key, places)
    given = {key: value.plain() for key, value in data.items()}
    wrong = []
    if isinstance(given.get("expect"), dict):
        expect, unfit = convert_struct(given["expect"], Expected)
        wrong += [msgspec.structs.replace(one, path=f"expect.{one.path}") for one in unfit]
        given["expect"] = {} if expect is None else given["expect"]
    case, unfit = convert_struct(given, Case)
    for one in wrong + unfit:
        said = one.message if "unknown" in one.message or not one.path else f"{one.path}: {one.message}"
        faults.append(Fault(said, where=_nearest(places, one.path, where), hint=one.hint))
    if case is None:
        return None
    diagram = diagram_beside(path) if case.diagram is None else path.parent / case.diagram
    if diagram is None or not diagram.is_file():
        named = case.diagram or f"{path.stem.removesuffix(MARK)}.yaml beside it"
        hint = None if diagram is None else nearby(diagram)
        faults.append(Fault(f"there is no diagram {named}", where=places.get("diagram", where),
                            hint=hint or "say `diagram: FILE`"))
        return None
    scripts: dict[str, Script] = {}
    if isinstance(case.script, str):
        try:
            scripts = read_script(path.parent / case.script)
        except OSError as error:
            faults.append(Fault(f"the script {case.script!r} can't be read: {error.strerror or error}",
                                where=places["script"], hint=nearby(path.parent / case.script)))
    elif "script" in data:
        scripts = scripts_of(data["script"], faults)
    return Found(case, where, diagram, scripts, places)


def run_case(found: Found, *, seconds_max: float = RUN_S_MAX) -> Outcome:
    """Run a case. One that can't be run differs by what is wrong with it."""
    case, began = found.case, time.monotonic()
    folder = Path(found.where.file).parent
    try:
        config = read_limits(found.path.parent.absolute())
        engine = WatchedEngine(config, dict(case.stubs), ToyClock(), script=found.scripts,
                               replay=None if case.replay is None else folder / case.replay,
                               registry=types_for(found.path.parent))
        engine.standins = msgspec.structs.replace(engine.standins, offline=True)
        ran = asyncio.run(engine.tried(found.path, case.inputs, answers=case.answers, signals=case.signals,
                                       seconds_max=seconds_max))
    except (TreadleError, TimeoutError) as error:
        said = f"{found.where}: it can't be run: {error}"
        return Outcome(found, (said,), time.monotonic() - began)
    return Outcome(found, tuple(_differences(found, ran)), time.monotonic() - began)


def _differences(found: Found, ran: Ran) -> Iterable[str]:
    expect = found.case.expect
    if ran.status.value != expect.status:
        why = f": {ran.error}" if ran.error else ""
        yield f"{_at(found, 'status')}: it {_ended(ran.status.value)}, not {expect.status}{why}"
        if expect.error is None:
            return  # the rest follows from it
    if expect.error is not None and expect.error not in (ran.error or ""):
        yield f"{_at(found, 'error')}: the error is {ran.error!r}, without {expect.error!r}"
    if expect.result is not ABSENT:
        yield from _unlike("result", expect.result, ran.result, found)
    for path, status in expect.nodes.items():
        cell = ran.cells.get(path)
        if cell is None:
            near = f" ({near})" if (near := did_you_mean(path, ran.cells)) else ""
            yield f"{_at(found, f'nodes.{path}')}: node {path!r} was not reached{near}"
        elif cell.status.value != status:
            yield f"{_at(found, f'nodes.{path}')}: node {path!r} is {cell.status.value}, not {status}"
    for path, value in expect.outputs.items():
        yield from _unlike(f"outputs.{path}", value, ran.outputs.get(path, ABSENT), found)
    if expect.order is not None:
        yield from _unlike("order", expect.order, ran.order, found)
    for path, times in expect.calls.items():
        yield from _unlike(f"calls.{path}", times, len(ran.calls.get(path, ())), found)
    if expect.said is not None:
        yield from _unlike("said", expect.said, _said(ran, expect.said), found)


def _said(ran: Ran, expected: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that was said; what is JSON is decoded where an object is expected."""
    told = []
    for one, wanted in zip_longest(ran.said, expected):
        if one is None:
            break
        said = one.said
        if isinstance(said, str) and wanted is not None and not isinstance(wanted.get(one.person, ""), str):
            try:
                said = msgspec.json.decode(said)
            except msgspec.DecodeError:
                pass  # the difference shows it
        told.append({one.person: said})
    return told


def _unlike(name: str, expected: Any, value: Any, found: Found) -> Iterable[str]:
    if value is ABSENT:
        yield f"{_at(found, name)}: {name} is not there"
        return
    unlike, count = differences(expected, plain(value), DIFFERENCES_MAX)
    for one in unlike:
        path = f"{name}{'' if one.path[:1] in ('', '[') else '.'}{one.path}"
        if one.b is ABSENT:
            yield f"{_at(found, path)}: {path} is missing, and should be {_brief(one.a)}"
        elif one.a is ABSENT:
            yield f"{_at(found, path)}: {path} is {_brief(one.b)}, and should not be there"
        elif isinstance(one.a, str) and isinstance(one.b, str) and "\n" in one.a.strip() + one.b.strip():
            lines = unified_diff(one.a.splitlines(), one.b.splitlines(), "expected", "found", lineterm="")
            yield "\n".join([f"{_at(found, path)}: {path} differs:", *lines])
        else:
            yield f"{_at(found, path)}: {path} is {_brief(one.b)}, and should be {_brief(one.a)}"
    if count > len(unlike):
        yield f"{_at(found, name)}: {name} has {count - len(unlike)} more differences"


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= VALUE_CHARS_MAX else f"{text[:VALUE_CHARS_MAX]}… ({len(text)} characters)"


def _at(found: Found, part: str) -> Where:
    return _nearest(found.places, f"expect.{part}", found.where)


def _ended(status: str) -> str:
    return {"suspended": "is suspended", "cancelled": "was cancelled"}.get(status, status)


def _nearest(places: dict[str, Where], path: str, default: Where) -> Where:
    """Where a part stands, or what it is in."""
    while path and path not in places:
        path = path[:max(path.rfind("."), path.rfind("["), 0)]
    return places.get(path, default)
