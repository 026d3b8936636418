"""What an edit of the diagram does to a recorded execution, said before it is done (`resume`, `fork`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import msgspec
import typer

from treadle.cli.author import nearby
from treadle.cli.common import WRONG, agreed, existing_store, somebody_to_ask, types_for
from treadle.cli.render import print_json, say
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
    "--recorded", help="Go on with the diagram as it was recorded, whatever its file says now. (Code that it "
                       "names counts as that is now.)")]
YesOption = Annotated[bool, typer.Option(
    "--yes", "-y", help="Don't ask before recorded results are given up.")]

LISTED_MAX = 20
"""Nodes of one kind that a plan lists."""


class Planned(NamedTuple):
    """A recorded execution, the diagram that it goes on with, and what that does to what is recorded."""

    cell: ExecutionCell
    diagram: ExecutableDiagram
    plan: Plan
    redrawn: bool  # it is not the recorded diagram: its file was edited, or another one was named
    held: bool  # somebody runs the execution


def planned(url: str | None, execution_id: str, file: str | None, *, recorded: bool) -> Planned:
    """What a resume or a fork would do. NoSuchExecution, InvalidDiagram, InvalidInput, StoreError."""
    from treadle.engine.sources import key_of

    store = existing_store(url)
    try:
        summary = store.summary(execution_id)
        cell = summary.cell
        compiled = _drawn_anew(store, cell, file, recorded=recorded)
        return Planned(cell, compiled, _plan_for(store, cell, compiled), key_of(compiled)[0] != cell.diagram,
                       summary.owner is not None and not summary.stale)
    finally:
        store.close()


def _drawn_anew(store: Store, cell: ExecutionCell, file: str | None, *, recorded: bool) -> ExecutableDiagram:
    """The diagram that an execution goes on with. InvalidDiagram, InvalidInput."""
    from treadle.engine.sources import Source, compile_drawn, compile_stored

    if recorded and file is not None:
        raise InvalidInput("--recorded means the diagram as it was: leave --diagram out")
    text = store.source(cell.diagram)
    source = msgspec.json.decode(text, type=Source)
    path = Path(file) if file is not None else _file_of(source)
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


def agree(what: Planned, *, yes: bool, quiet: bool) -> None:
    """Show the plan; on a terminal, ask. Ends the command if the answer is no."""
    if quiet:
        return
    say_plan(what)
    if not yes and somebody_to_ask() and not agreed("Go on so?", default=True):
        say("nothing was done" + ("; --recorded goes on with the diagram as it was" if what.redrawn else ""))
        raise typer.Exit(WRONG)


def foretell(what: Planned, *, as_json: bool) -> None:
    """Show the plan, and do nothing (`--dry-run`)."""
    cell = what.cell
    if as_json:
        print_json({"execution_id": cell.execution_id, "name": cell.name, "status": cell.status.value,
                    "plan": what.plan})
    else:
        say_plan(what)


def say_plan(what: Planned, *, kept: bool = True) -> None:
    """The plan, a line a node, the longest lists cut short; nodes that have changed themselves come first.
    `kept`: what is kept, too."""
    plan = what.plan
    has = "has changed" if plan.changes else "has not changed"
    say(f"the diagram {has} since execution {what.cell.execution_id} was recorded"
        + (":" if plan.changes or plan.again or kept else ""))
    _list("changed", [
        f"{one.path}{f' ({counted(one.results)})' if one.results > 1 else ''}: {one.why}"
        for one in sorted(plan.changed, key=lambda one: not one.own)])
    _list("new", list(plan.new))
    _list("removed", list(plan.removed))
    _list("again", [f"{path}: it had not ended well" for path in plan.again])
    if kept:
        names = ", ".join(plan.kept[:5]) + (", …" if len(plan.kept) > 5 else "")
        say(f"  kept     {counted(plan.kept_results)}" + (f": {names}" if names else ""))


def counted(results: int) -> str:
    """A number of results, in words."""
    return f"{results:,} result{'s' * (results != 1)}"


def _list(word: str, lines: list[str]) -> None:
    for line in lines[:LISTED_MAX]:
        say(f"  {word:8} {line}")
    if len(lines) > LISTED_MAX:
        say(f"  {word:8} … and {len(lines) - LISTED_MAX:,} more")
