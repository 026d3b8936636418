"""What an edit of the diagram does to a recorded execution, said before it is done (`resume`, `fork`)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from treadle.cli.common import WRONG, agreed, existing_store, somebody_to_ask
from treadle.cli.render import counted, print_json, say
from treadle.engine.edited import Planned, foreseen
from treadle.errors import InvalidInput

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


def planned(url: str | None, execution_id: str, file: str | None, *, recorded: bool) -> Planned:
    """What a resume or a fork would do. NoSuchExecution, InvalidDiagram, InvalidInput, StoreError."""
    if recorded and file is not None:
        raise InvalidInput("--recorded means the diagram as it was: leave --diagram out")
    store = existing_store(url)
    try:
        return foreseen(store, execution_id, None if file is None else Path(file), recorded=recorded)
    finally:
        store.close()


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
        one.path + (f" ({counted(one.results, 'result')})" if one.results > 1 else "") + f": {one.why}"
        for one in sorted(plan.changed, key=lambda one: not one.own)])
    _list("new", list(plan.new))
    _list("removed", list(plan.removed))
    _list("again", [f"{path}: it had not ended well" for path in plan.again])
    if kept:
        names = ", ".join(plan.kept[:5]) + (", …" if len(plan.kept) > 5 else "")
        say(f"  kept     {counted(plan.kept_results, 'result')}" + (f": {names}" if names else ""))


def _list(word: str, lines: list[str]) -> None:
    for line in lines[:LISTED_MAX]:
        say(f"  {word:8} {line}")
    if len(lines) > LISTED_MAX:
        say(f"  {word:8} … and {len(lines) - LISTED_MAX:,} more")
