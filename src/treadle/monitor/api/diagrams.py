"""Diagrams: the files that the server was given, those in the store, and what is wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
from starlette.responses import Response

from treadle.diagram import formats
from treadle.diagram.check import check as check_spec
from treadle.diagram.compile import compile_diagram
from treadle.diagram.diagram import DiagramSpec
from treadle.engine.edited import nearby
from treadle.engine.looking import outlined
from treadle.errors import Fault, InvalidDiagram, InvalidInput, TreadleError, did_you_mean
from treadle.monitor.api.executions import drawn_of, no_diagram
from treadle.monitor.api.routing import Ask, operation
from treadle.monitor.core import Monitor, Refused
from treadle.monitor.drawn import Drawn, drawn, fault, other_plugins
from treadle.nodes.modules import looking_once

FILES_MAX = 1000
"""Diagram files that are listed."""
STORED_MAX = 1000
"""Executions that are looked through for stored diagrams."""
SUFFIXES = (".yaml", ".yml", ".json")
UNCHECKED = Fault("what it names was not looked for: this server only looks on, and loads no code",
                  hint="`treadle check FILE` looks at all of it", warning=True)
HEAD_BYTES = 64 * 1024
"""Of a file in a folder, what is searched for the mark of a diagram."""


class Chosen(msgspec.Struct, forbid_unknown_fields=True):
    """A diagram: one of `file` (as `GET /api/diagrams` names it), `hash` (of the store) and `source`, a text
    in the `format` yaml or json."""

    file: str | None = None
    hash: str | None = None
    source: str | None = None
    format: Literal["yaml", "json"] = "yaml"


class DiagramFile(msgspec.Struct, frozen=True):
    """A diagram's file. `valid`: it can be started as it is; else `check` says what is wrong."""

    file: str
    name: str
    valid: bool


class DiagramStored(msgspec.Struct, frozen=True):
    """A diagram in the store, with the newest execution of it."""

    hash: str
    name: str
    executions: int
    last_id: str
    last_at: float | None


class DiagramList(msgspec.Struct, frozen=True):
    files: list[DiagramFile]
    stored: list[DiagramStored]


@operation("GET", "/api/diagrams")
def diagrams(ask: Ask[None, None]) -> DiagramList:
    """The diagrams that may be looked at and started: files that the server was given, and those of the
    newest executions."""
    with looking_once():
        files = [_listed(ask.monitor, name, path) for name, path in _files(ask.monitor).items()]
    stored: dict[str, DiagramStored] = {}
    for one in ask.monitor.store.executions(limit=STORED_MAX):
        cell = one.cell
        if not cell.diagram:
            continue
        known = stored.get(cell.diagram)
        stored[cell.diagram] = (
            DiagramStored(cell.diagram, cell.name, 1, cell.execution_id, cell.created_at) if known is None
            else msgspec.structs.replace(known, executions=known.executions + 1))
    return DiagramList(files, list(stored.values()))


def _listed(monitor: Monitor, name: str, path: Path) -> DiagramFile:
    try:
        spec, faults = formats.read(formats.read_text(path, config=monitor.config), file=str(path),
                                    base=str(path.parent), format=_format(path), config=monitor.config)
        if spec is None:
            return DiagramFile(name, path.stem, valid=False)
        if monitor.engine is None:  # no code is loaded for those who only look
            return DiagramFile(name, spec.name, not faults and outlined(spec)[0] is not None)
        found = check_spec(spec, monitor.engine.registry, config=monitor.config)
    except (TreadleError, OSError):
        return DiagramFile(name, path.stem, valid=False)
    return DiagramFile(name, spec.name, all(one.warning for one in (*faults, *found.faults)))


@operation("GET", "/api/diagrams/{hash}", answer=Drawn)
def diagram_stored(ask: Ask[None, None]) -> Response:
    """A stored diagram to draw."""
    return drawn_of(ask, ask.path["hash"])


@operation("POST", "/api/check", writes=False)
def check(ask: Ask[None, Chosen]) -> Drawn:
    """A diagram to draw with all that is wrong with it, before it runs; a server without an engine looks at
    its text alone. A text of one's own needs the right to write, since a diagram names files of the
    server."""
    body = ask.body
    if body.source is not None and not ask.viewer.may_write:
        raise Refused(403, "ReadOnly", "this token may only read", "check a file of the server's")
    if body.hash is not None:
        stored = ask.monitor.drawings.drawn(ask.monitor.store, body.hash, anew=True)
        if stored is None:
            raise no_diagram(body.hash)
        return stored
    text, file, base, form = _text(ask.monitor, body)
    spec, faults = formats.read(text, file=file, base=base, format=form, config=ask.monitor.config)
    if spec is None:
        return Drawn("", faults=list(map(fault, faults)))
    engine = ask.monitor.engine
    if engine is None:
        shape, loose = outlined(spec)
        return drawn(spec, shape, faults=[*faults, *loose, UNCHECKED])
    types = engine.registry  # it would run it
    found = check_spec(spec, types)
    all_faults: list[Fault] = list(dict.fromkeys([*faults, *found.faults]))
    compiled = None if any(not one.warning for one in all_faults) else compile_diagram(spec, types)
    if hint := other_plugins(all_faults):
        all_faults.append(Fault(hint, warning=True))
    return drawn(spec, compiled, faults=all_faults)


def chosen(ask: Ask[Any, Any], body: Chosen) -> DiagramSpec:
    """What an engine can start. Refused, InvalidDiagram, OSError."""
    if body.hash is not None:
        if body.file is not None or body.source is not None:
            raise InvalidInput("say one of `file`, `hash` and `source`")
        known = ask.monitor.drawings.of(ask.monitor.store, body.hash)
        if known is None:
            raise no_diagram(body.hash)
        if known.compiled is None:
            raise InvalidDiagram(known.faults)
        return known.spec
    text, file, base, form = _text(ask.monitor, body)
    return formats.loads(text, file=file, base=base, format=form, config=ask.monitor.config)


def _text(monitor: Monitor, body: Chosen) -> tuple[str, str, str, formats.Format]:
    """A diagram's text, the file and the folder that it is from, and its format."""
    if (body.file is None) == (body.source is None):
        raise InvalidInput("say one of `file`, `hash` and `source`")
    if body.source is not None:
        return body.source, "<text>", ".", body.format
    path = file_of(monitor, body.file or "")
    try:
        text = formats.read_text(path, config=monitor.config)
    except OSError as error:
        hint = nearby(path)
        raise InvalidInput(f"{body.file}: {error.strerror}" + (f": {hint}" if hint else "")) from None
    return text, str(path), str(path.parent), _format(path)


def _format(path: Path) -> formats.Format:
    return "json" if path.suffix.lower() == ".json" else "yaml"


def file_of(monitor: Monitor, name: str) -> Path:
    """The file by its name in the list: no other file is ever opened. Refused if there is none."""
    known = _files(monitor)
    if name not in known:
        raise Refused(404, "NoSuchFile", f"the server was not given the file {name!r}",
                      did_you_mean(name, known) or "name it when you start the server: treadle serve FILE")
    return known[name]


def _files(monitor: Monitor) -> dict[str, Path]:
    """The diagram files by name."""
    found: dict[str, Path] = {}
    for given in monitor.files:
        for path in [given] if given.is_file() else _in_folder(given):
            if len(found) >= FILES_MAX:
                return found
            found.setdefault(str(path), path)
    return found


def _in_folder(folder: Path) -> Iterator[Path]:
    """The diagrams of a folder and of those in it. Links that lead out of it are left out."""
    root = folder.resolve()
    for path in sorted(folder.glob("*")) + sorted(folder.glob("*/*")):
        if path.suffix.lower() in SUFFIXES and path.is_file() and path.resolve().is_relative_to(root):
            try:
                with path.open("rb") as file:
                    head = file.read(HEAD_BYTES)
            except OSError:
                continue
            if b"treadle" in head and b"nodes" in head:
                yield path


