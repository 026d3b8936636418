"""`test`: run the tests that stand beside diagrams."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treadle.cli.common import COMPLETED, FAILED, JsonOption
from treadle.cli.render import colored, counted, print_json, say, seconds
from treadle.errors import InvalidInput

if TYPE_CHECKING:
    from treadle.testing.cases import Outcome


def test(
    files: Annotated[list[Path] | None, typer.Argument(
        metavar="[FILE]...", show_default=False,
        help="Files of tests, diagrams with one beside them, or folders. [default: this folder]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Run the tests of diagrams: debate.test.yaml beside debate.yaml. No provider is asked, nothing is kept.

    Ends with 1 if one fails, and shows where it differs.
    """
    from treadle.testing.cases import read_cases, run_case

    found = [case for path in _paths(files or [Path()]) for case in read_cases(path)]
    outcomes = []
    for case in found:
        outcomes.append(run_case(case))
        if not as_json:
            _show(outcomes[-1])
    failed = sum(bool(one.differences) for one in outcomes)
    if as_json:
        print_json([{"file": one.found.where.file, "line": one.found.where.line, "name": one.found.case.name,
                     "diagram": str(one.found.path), "passed": not one.differences,
                     "differences": one.differences, "seconds": round(one.seconds, 6)} for one in outcomes])
    else:
        say(f"{counted(len(outcomes), 'test')}, {failed} failed" if failed
            else f"{counted(len(outcomes), 'test')} passed")
    raise typer.Exit(FAILED if failed else COMPLETED)


def _show(outcome: Outcome) -> None:
    found = outcome.found
    name = f"{found.where.file}: {found.case.name}" if found.case.name else str(found.where)
    if not outcome.differences:
        print(f"{colored('passed', 'completed', sys.stdout)}  {name}  ({seconds(outcome.seconds)})")
        return
    print(f"{colored('failed', 'failed', sys.stdout)}  {name}")
    for line in outcome.differences:
        print("  " + line.replace("\n", "\n    "))


def _paths(files: list[Path]) -> list[Path]:
    """The files of tests that are meant. InvalidInput names what isn't there."""
    from treadle.engine.edited import nearby
    from treadle.testing.cases import ENDS, MARK, is_ours, is_test

    found: dict[Path, None] = {}
    for file in files:
        if file.is_dir():
            inside = sorted(path for path in file.rglob(f"*{MARK}.*") if is_test(path) and is_ours(path)
                            and not any(part.startswith(".") for part in path.relative_to(file).parts))
            if not inside:
                raise InvalidInput(f"{file.absolute()}: there is no file of tests in it, NAME{MARK}.yaml")
            found |= dict.fromkeys(inside)
        elif not file.exists():
            hint = nearby(file)
            raise InvalidInput(f"{file}: there is no such file" + (f": {hint}" if hint else ""))
        elif is_test(file):
            found[file] = None
        else:
            beside = [one for end in ENDS if (one := file.with_name(f"{file.stem}{MARK}{end}")).is_file()]
            if not beside:
                raise InvalidInput(f"{file}: it has no tests: write {file.stem}{MARK}.yaml beside it")
            found |= dict.fromkeys(beside)
    return list(found)
