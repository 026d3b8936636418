"""`diff`: what differs between two executions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.common import (
    COMPLETED,
    FAILED,
    JsonOption,
    StoreOption,
    readers_may_leave,
    store_to_look_at,
)
from treadle.cli.render import colored, print_json, result_text, seconds, table

if TYPE_CHECKING:
    from treadle.engine.differences import Compared, NodeDifference, Recorded, Values

ROWS_MAX = 60
"""Lines of nodes that are printed without --all."""
PLACES_MAX = 5
"""Places of one value that are printed without --all."""
CHARS_MAX = 48
"""Of one value in a line."""
NONE = "(none)"

Row = tuple[str, str, str, str, str]


def diff(
    a: Annotated[str, typer.Argument(metavar="A", show_default=False,
                                     help="An execution's id, or its first characters.")],
    b: Annotated[str, typer.Argument(metavar="B", show_default=False, help="The other one's.")],
    other_store: Annotated[str | None, typer.Option(
        "--other-store", metavar="URL", show_default=False,
        help="Where B is, if it is in another store.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="Print every difference, however many.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two executions: diagram, inputs, shared context, and of each node status, output, error and
    attempts.

    What is equal is not printed. A time is printed where one is twice the other and 0.1 s more; times alone
    are no difference. Ends with 0 if the executions are the same, and with 1 if they differ.
    """
    readers_may_leave()
    from treadle.engine.differences import Recorded, compare, document

    first = store_to_look_at(store)
    second = first if other_store is None else store_to_look_at(other_store)
    try:
        left, right = Recorded.load(first, a), Recorded.load(second, b)
        found = compare(left, right)
    finally:
        second.close()
        first.close()
    if as_json:
        print_json(document(left, right, found))
    else:
        print("\n".join(_text(left, right, found, everything=all_)))
    raise typer.Exit(FAILED if found.differs else COMPLETED)


# As text

def _text(a: Recorded, b: Recorded, found: Compared, *, everything: bool) -> Iterator[str]:
    for name, one in (("A", a), ("B", b)):
        status = one.cell.status.value
        took = f", took {seconds(one.seconds)}" if one.seconds is not None else ""
        yield f"{name}: {one.cell.execution_id}  {one.cell.name}  {colored(status, status)}{took}"
    if found.error:
        yield from _block("error", [("", found.error[0] or NONE, found.error[1] or NONE)])
    drawn = found.diagram
    lines = [f"  {name}: {'added' if name in drawn.added else 'removed'}"
             for name in [*drawn.removed, *drawn.added]]
    lines += [f"  {name}: changed: {what}" for name, what in drawn.changed.items()]
    lines += [f"  changed: {what}" for what in drawn.other]
    if lines:
        yield ""
        yield "diagram"
        yield from _capped(lines, ROWS_MAX, everything)
    yield from _block("inputs", _places(found.inputs, everything))
    yield from _block("context", _places(found.context, everything))
    rows = [row for one in found.nodes for row in _rows(one, everything)]
    if rows:
        yield ""
        yield from _capped(table(("NODE", "ITERATION", "WHAT", "A", "B"), rows).splitlines(), ROWS_MAX + 1,
                           everything)
    yield from _block("result", _places(found.output, everything))
    yield ""
    if found.differs:
        yield f"{found.alike} node{'s are' if found.alike != 1 else ' is'} the same"
    else:
        yield f"no difference: diagram, inputs, context, {found.alike} nodes and the result are the same"


def _rows(one: NodeDifference, everything: bool) -> Iterator[Row]:
    at = (one.node, one.iteration)
    if one.only:
        yield (*at, "only in " + one.only.upper(), "", "")
    for name in ("status", "attempts", "port", "error"):
        pair = getattr(one, name)
        if pair:
            left, right = (NONE if said is None else _short(said) for said in pair)
            yield (*at, name, left, right)
    for place, left, right in _places(one.output, everything):
        yield (*at, f"output {place}".rstrip(), left, right)
    if one.seconds:
        was, now = one.seconds
        ratio = f"{now / was:.3g} ×" if was else "more"
        yield (*at, "time", seconds(was), f"{seconds(now)} ({ratio})")


def _places(values: Values, everything: bool) -> list[tuple[str, str, str]]:
    if values.note:
        return [("", values.note, "")]
    shown = values.places if everything else values.places[:PLACES_MAX]
    rows = [(_end(one.path), _short(one.a), _short(one.b)) for one in shown]
    if values.count > len(shown):
        rows.append((f"… {values.count - len(shown)} more", "", ""))
    return rows


def _block(title: str, rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    if rows:
        yield ""
        yield from table((title, "A", "B"), [(f"  {place}", left, right) for place, left, right in rows]
                         ).splitlines()


def _capped(lines: Sequence[str], most: int, everything: bool) -> Iterator[str]:
    yield from lines if everything else lines[:most]
    if not everything and len(lines) > most:
        yield f"… {len(lines) - most} more lines (--all prints them)"


def _short(value: Any) -> str:
    """A value in one short line."""
    from treadle.state.difference import ABSENT

    if value is ABSENT or value is None:
        return NONE if value is ABSENT else "null"
    text = " ".join(result_text(value).split())
    return text if len(text) <= CHARS_MAX else text[:CHARS_MAX - 1] + "…"


def _end(path: str) -> str:
    """A path, of a long one its end."""
    return path if len(path) <= CHARS_MAX else "…" + path[1 - CHARS_MAX:]
