"""What an edit of the diagram does to a recorded execution, said before it is done (`resume`, `fork`)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from treadle.cli.common import WRONG, existing_store
from treadle.cli.render import say
from treadle.errors import InvalidDiagram, InvalidInput

if TYPE_CHECKING:
    from treadle.diagram.diagram import ExecutableDiagram
    from treadle.engine.plan import Plan
    from treadle.engine.sources import Source
    from treadle.state.cell import ExecutionCell
    from treadle.store.base import Store

DiagramOption = Annotated[str | None, typer.Option(
    "--diagram", metavar="FILE", show_default=False,
    help="The diagram to go on with. [default: the file it was started from, as it is now]")]
RecordedOption = Annotated[bool, typer.Option(
    "--recorded", help="Go on with the diagram as it was recorded, whatever its file says now.")]
YesOption = Annotated[bool, typer.Option(
    "--yes", "-y", help="Don't ask before recorded results are given up.")]

LISTED_MAX = 20
"""Nodes of one kind that a plan lists."""


def planned(url: str | None, execution_id: str, file: str | None, *,
            recorded: bool) -> tuple[ExecutionCell, ExecutableDiagram, Plan]:
    """A recorded execution, the diagram that it goes on with, and what that does to what is recorded."""
    store = existing_store(url)
    try:
        cell = store.summary(execution_id).cell
        compiled = _drawn_anew(store, cell, file, recorded=recorded)
        return cell, compiled, _plan_for(store, cell, compiled)
    finally:
        store.close()


def _drawn_anew(store: Store, cell: ExecutionCell, file: str | None, *, recorded: bool) -> ExecutableDiagram:
    """The diagram that an execution goes on with. InvalidDiagram, InvalidInput."""
    from treadle.engine.sources import Source, compile_drawn, compile_stored
    from treadle.nodes.registry import default_registry

    if recorded and file is not None:
        raise InvalidInput("--recorded means the diagram as it was: leave --diagram out")
    text = store.source(cell.diagram)
    source = msgspec.json.decode(text, type=Source)
    path = Path(file) if file is not None else _file_of(source)
    try:
        if not recorded and path is not None and (file is not None or path.read_text("utf-8") != source.text):
            return compile_drawn(path, default_registry())
        return compile_stored(text, default_registry())
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}") from None
    except InvalidDiagram as error:
        if file is None and not recorded:
            error.add_note(f"That is the diagram of execution {cell.execution_id} as it is now; --recorded "
                           "goes on with it as it was.")
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
    from treadle.nodes.registry import default_registry

    before: ExecutableDiagram | None = compiled
    if key_of(compiled)[0] != cell.diagram:
        try:
            before = compile_stored(store.source(cell.diagram), default_registry())
        except (InvalidDiagram, OSError):  # what it named is gone: the plan says less
            before = None
    return plan_of(store.load(cell.execution_id)[1], compiled, before)


def agree(plan: Plan, cell: ExecutionCell, *, yes: bool, quiet: bool) -> None:
    """Show the plan; on a terminal, ask. Ends the command if the answer is no."""
    if not quiet:
        say_plan(plan, cell)
    if not yes and not quiet and sys.stdin.isatty() and sys.stderr.isatty() and not typer.confirm(
            "Go on so?", default=True, err=True):
        say("nothing was done; --recorded goes on with the diagram as it was")
        raise typer.Exit(WRONG)


def say_plan(plan: Plan, cell: ExecutionCell) -> None:
    """The plan, a line a node, the longest lists cut short."""
    say(f"the diagram has changed since execution {cell.execution_id} was recorded:")
    results = {one.path: f" ({counted(one.results)})" if one.results > 1 else "" for one in plan.changed}
    _list("changed", [f"{one.path}{results[one.path]}: {one.why}" for one in plan.changed])
    _list("new", list(plan.new))
    _list("removed", list(plan.removed))
    _list("again", [f"{path}: it had not ended well" for path in plan.again])
    kept = ", ".join(plan.kept[:5]) + (", …" if len(plan.kept) > 5 else "")
    say(f"  kept     {counted(plan.kept_results)}" + (f": {kept}" if kept else ""))


def counted(results: int) -> str:
    """A number of results, in words."""
    return f"{results:,} result{'s' * (results != 1)}"


def _list(word: str, lines: list[str]) -> None:
    for line in lines[:LISTED_MAX]:
        say(f"  {word:8} {line}")
    if len(lines) > LISTED_MAX:
        say(f"  {word:8} … and {len(lines) - LISTED_MAX:,} more")
