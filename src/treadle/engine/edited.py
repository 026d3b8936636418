"""The diagram that a recorded execution goes on with, and what that does to what is recorded.

A file that was edited since counts, unless one says otherwise: `treadle resume` and the monitor ask here
first what a resume or a fork would do.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from treadle.errors import InvalidDiagram, InvalidInput, did_you_mean

if TYPE_CHECKING:
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.engine.plan import Plan
    from treadle.engine.sources import Source
    from treadle.nodes.registry import NodeRegistry
    from treadle.state.cell import ExecutionCell
    from treadle.store.base import Store


class Planned(NamedTuple):
    """A recorded execution, the diagram that it goes on with, and what that does to what is recorded."""

    cell: ExecutionCell
    diagram: ExecutableDiagram
    plan: Plan
    redrawn: bool  # it is not the recorded diagram: its file was edited, or another one was named
    held: bool  # somebody runs the execution


def types_for(folder: Path) -> NodeRegistry:
    """The types of nodes for diagrams of a folder, with those that plugins add. PluginError, InvalidInput."""
    from treadle.hooks.manager import PluginManager
    from treadle.nodes.registry import default_registry

    registry = default_registry()
    PluginManager.discover(folder).install(registry)
    return registry


def nearby(path: Path) -> str | None:
    """A hint for a file that isn't there: the one whose name is nearest."""
    if os.path.lexists(path) or not path.parent.is_dir():
        return None
    return did_you_mean(path.name, [one.name for one in path.parent.iterdir() if one.is_file()])


def foreseen(store: Store, execution_id: str, file: Path | None = None, *, recorded: bool = False) -> Planned:
    """What a resume or a fork would do: with `file`, with the diagram as it was `recorded`, else with the
    file that it was started from, as it is now. NoSuchExecution, InvalidDiagram, InvalidInput, StoreError."""
    from treadle.engine.sources import key_of

    summary = store.summary(execution_id)
    cell = summary.cell
    compiled = _drawn_anew(store, cell, file, recorded=recorded)
    return Planned(cell, compiled, _plan_for(store, cell, compiled), key_of(compiled)[0] != cell.diagram,
                   summary.owner is not None and not summary.stale)


def _drawn_anew(store: Store, cell: ExecutionCell, file: Path | None, *, recorded: bool) -> ExecutableDiagram:
    """The diagram that an execution goes on with. InvalidDiagram, InvalidInput."""
    from treadle.engine.sources import Source, compile_drawn, compile_stored

    text = store.source(cell.diagram)
    source = msgspec.json.decode(text, type=Source)
    path = file if file is not None else _file_of(source)
    anew: Path | None = None
    try:
        if path is not None and not recorded and (
                file is not None or path.read_text("utf-8") != source.text):
            anew = path
        types = types_for(Path(source.base) if anew is None else anew.parent)
        return compile_stored(text, types) if anew is None else compile_drawn(anew, types)
    except OSError as error:
        hint = None if path is None else nearby(path)
        raise InvalidInput(f"{path}: {error.strerror or error}" + (f": {hint}" if hint else "")) from None
    except InvalidDiagram as error:
        if anew is not None and file is None:
            error.add_note(f"That is the diagram of execution {cell.execution_id} as it is now; --recorded "
                           "goes on with it as it was.")
        elif file is None:
            error.add_note(f"That is the diagram of execution {cell.execution_id} as it was recorded: put "
                           "back what it names, or say with --diagram FILE where it is now.")
        raise


def _file_of(source: Source) -> Path | None:
    """The file that a diagram was read from, if it is still there."""
    if source.python or not source.text:
        return None
    path = Path(source.base) / Path(source.file).name
    return path if path.is_file() else None


def _plan_for(store: Store, cell: ExecutionCell, compiled: ExecutableDiagram) -> Plan:
    """What going on with this diagram does to what is recorded."""
    from treadle.engine.plan import plan_of
    from treadle.engine.sources import compile_stored, key_of

    before: ExecutableDiagram | None = compiled
    if key_of(compiled)[0] != cell.diagram:
        try:
            before = compile_stored(store.source(cell.diagram), types_for(Path(compiled.spec.base)))
        except (InvalidDiagram, OSError):  # what it named is gone: the plan says less
            before = None
    return plan_of(store.load(cell.execution_id)[1], compiled, before)
