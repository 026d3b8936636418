"""A diagram as text for terminals: a line a node, and the arrows as lanes beside them, as version control
shows branches. So a diagram of any width fits, and one of 10,000 nodes can be paged through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from treadle.cli.drawing.picture import Picture, Shape

UP, DOWN, LEFT, RIGHT = 1, 2, 4, 8
_UNICODE = {0: " ", UP | DOWN: "│", UP: "│", DOWN: "│", LEFT | RIGHT: "─", LEFT: "─", RIGHT: "─",
            DOWN | RIGHT: "╭", DOWN | LEFT: "╮", UP | RIGHT: "╰", UP | LEFT: "╯", UP | DOWN | RIGHT: "├",
            UP | DOWN | LEFT: "┤", DOWN | LEFT | RIGHT: "┬", UP | LEFT | RIGHT: "┴",
            UP | DOWN | LEFT | RIGHT: "┼"}
_ASCII = {0: " ", UP | DOWN: "|", UP: "|", DOWN: "|", LEFT | RIGHT: "-", LEFT: "-", RIGHT: "-"}  # others: +


class _Row:
    """One line of lanes: the directions in which each goes on. A lane that only passes is not joined by what
    crosses it."""

    def __init__(self, lanes: list[int | None]) -> None:
        self.cells = [0 if target is None else UP | DOWN for target in lanes]
        self.passing = [target is not None for target in lanes]
        self.between: set[int] = set()  # gaps, each to the right of its lane, with a line across

    def join(self, one: int, other: int) -> None:
        """Draw a line across from lane to lane."""
        low, high = min(one, other), max(one, other)
        self.between.update(range(low, high))
        self.cells[low] |= RIGHT
        self.cells[high] |= LEFT
        for lane in range(low + 1, high):
            if not self.passing[lane]:
                self.cells[lane] |= LEFT | RIGHT

    def text(self, ascii_only: bool) -> str:
        marks, other = (_ASCII, "+") if ascii_only else (_UNICODE, "?")
        across = "-" if ascii_only else "─"
        parts: list[str] = []
        for lane, cell in enumerate(self.cells):
            parts += marks.get(cell, other), across if lane in self.between else " "
        return "".join(parts).rstrip()


class Line(NamedTuple):
    """One line: its lanes, and the shape that stands in one of them, if any."""

    lanes: str
    shape: int | None = None
    column: int = 0  # where in the lanes the shape's mark is to stand
    below: str = ""  # what goes on beside lines that are put below the shape


def lines(picture: Picture, *, ascii_only: bool = False, indent: str = "") -> Iterator[str]:
    """The picture line by line, nested diagrams below the node that runs them."""
    into: dict[int, list[str]] = {}
    for edge in picture.edges:
        name = picture.shapes[edge.source].id + (f".{edge.label}" if edge.label else "")
        if edge.back or edge.label:
            into.setdefault(edge.target, []).append(f"again from {name}" if edge.back else f"on {name}")
    width = max((len(shape.id) for shape in picture.shapes), default=0)
    dot, arrow = ("*", "<-") if ascii_only else ("●", "←")
    for line in rows(picture, ascii_only=ascii_only):
        if line.shape is None:
            yield indent + line.lanes
            continue
        shape = picture.shapes[line.shape]
        words = [shape.id.ljust(width), *_words(shape)]
        if shape.loop >= 0:
            words.append(f"({picture.loops[shape.loop]})")
        if line.shape in into:
            words.append(f"{arrow} {', '.join(into[line.shape])}")
        yield f"{indent}{_marked(line.lanes, line.column, dot)} {'  '.join(words)}".rstrip()
        if shape.child is not None:
            yield from lines(shape.child, ascii_only=ascii_only, indent=f"{indent}{line.below}    ")


def rows(picture: Picture, *, ascii_only: bool = False) -> Iterator[Line]:
    """The lanes line by line, each shape after those that it has arrows from."""
    out: dict[int, list[int]] = {}
    for edge in picture.edges:
        if not edge.back:
            out.setdefault(edge.source, []).append(edge.target)
    lanes: list[int | None] = []  # the shape that each leads to
    for index in picture.order:
        column, merged = _arrive(lanes, index)
        if merged is not None:
            yield Line(merged.text(ascii_only))
        text = _Row(lanes).text(ascii_only).ljust(2 * len(lanes))
        on = (_ASCII if ascii_only else _UNICODE)[UP | DOWN] if index in out else " "
        yield Line(text, index, 2 * column, _marked(text, 2 * column, on))
        branched = _leave(lanes, column, list(dict.fromkeys(out.get(index, []))))
        if branched is not None:
            yield Line(branched.text(ascii_only))


def _arrive(lanes: list[int | None], index: int) -> tuple[int, _Row | None]:
    """Lead all lanes to a shape together. Returns its lane, and the row of lines that it takes."""
    mine = [lane for lane, target in enumerate(lanes) if target == index]
    if not mine:
        return _free(lanes, index), None
    column, row = mine[0], None
    if len(mine) > 1:
        row = _Row(lanes)
        for lane in mine[1:]:
            row.cells[lane] = UP
            row.passing[lane] = False
        for lane in mine[1:]:
            row.join(column, lane)
            lanes[lane] = None
    return column, row


def _leave(lanes: list[int | None], column: int, targets: list[int]) -> _Row | None:
    """Let a shape's arrows begin. Returns the row of lines that it takes, if any."""
    lanes[column] = None
    leads = {target: lane for lane, target in enumerate(lanes) if target is not None}
    known = [leads[target] for target in targets if target in leads]
    new = [target for target in targets if target not in leads]
    before = list(lanes)
    if new:
        lanes[column] = new[0]
    opened = [_free(lanes, target) for target in new[1:]]
    row = None
    if known or opened:
        row = _Row([*before, *[None] * (len(lanes) - len(before))])
        row.cells[column] = UP | DOWN if new else UP
        for lane in known:
            row.join(column, lane)
        for lane in opened:
            row.cells[lane] |= DOWN
        for lane in opened:
            row.join(column, lane)
    while lanes and lanes[-1] is None:
        lanes.pop()
    return row


def _free(lanes: list[int | None], target: int) -> int:
    """A lane for a shape: the first that leads nowhere."""
    for lane, other in enumerate(lanes):
        if other is None:
            lanes[lane] = target
            return lane
    lanes.append(target)
    return len(lanes) - 1


def _marked(lanes: str, column: int, mark: str) -> str:
    return f"{lanes[:column]}{mark}{lanes[column + 1:]}"


def _words(shape: Shape) -> list[str]:
    marks = f"[{', '.join(shape.marks)}]" if shape.marks else ""
    return [word for word in (shape.type, shape.detail, marks) if word]
