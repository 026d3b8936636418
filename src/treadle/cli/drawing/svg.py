"""A diagram as a picture of its own: SVG without scripts or fonts from elsewhere, for light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from xml.sax.saxutils import escape, quoteattr

from treadle.cli.drawing.layers import Place, Plan, Size, laid_out
from treadle.cli.drawing.picture import Picture, Shape

PAD, HEAD = 24.0, 26.0
"""Pixels around a nested picture, and for the title above it."""
LETTER, LINE = 7.4, 18.0
"""Pixels that a letter of the names takes at most, and a line."""
WIDTH_MIN = 96.0
_STYLE = """
  svg { background: #fff; font: 13px ui-sans-serif, system-ui, sans-serif }
  text { fill: #1c2128 } .small { fill: #59636e; font-size: 11px }
  .label { paint-order: stroke; stroke: #fff; stroke-width: 4px; font-size: 11px }
  .box { fill: #f6f8fa; stroke: #8c959f } .loop { fill: #ddf4ff; stroke: #0969da }
  .inner { fill: none; stroke: #8c959f; stroke-dasharray: 6 3 }
  .line { fill: none; stroke: #59636e } .back { stroke-dasharray: 5 4 } .head { fill: #59636e }
  @media (prefers-color-scheme: dark) {
    svg { background: #0d1117 } text { fill: #e6edf3 } .small { fill: #9198a1 } .label { stroke: #0d1117 }
    .box { fill: #161b22; stroke: #6e7681 } .loop { fill: #12283f; stroke: #4493f8 }
    .line { stroke: #9198a1 } .head { fill: #9198a1 }
  }
"""


def text_of(picture: Picture) -> str:
    """The picture as an SVG document."""
    drawn = _Drawing(picture)
    width, height = drawn.plan.width + 2 * PAD, drawn.plan.height + 2 * PAD
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}" '
        f'viewBox="0 0 {width:g} {height:g}" role="img" aria-label={quoteattr(picture.name)}>',
        f"<title>{escape(picture.name)}</title>", f"<style>{_STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto-start-reverse"><path class="head" d="M0 0 8 4 0 8z"/></marker></defs>',
        *drawn.parts(PAD, PAD), "</svg>"]) + "\n"


class _Drawing:
    """A picture with the drawings in it, and the place of everything."""

    def __init__(self, picture: Picture) -> None:
        self.picture = picture
        self.children = {index: _Drawing(shape.child) for index, shape in enumerate(picture.shapes)
                         if shape.child is not None}
        self.sizes = [self._size(index, shape) for index, shape in enumerate(picture.shapes)]
        self.plan: Plan = laid_out(picture, self.sizes)

    def _size(self, index: int, shape: Shape) -> Size:
        lines = _lines(shape)
        width = max(WIDTH_MIN, *(LETTER * len(line) + 24 for line in lines))
        child = self.children.get(index)
        if child is None:
            return width, LINE * len(lines) + 14
        return max(width, child.plan.width + 2 * PAD), child.plan.height + 2 * PAD + HEAD

    def parts(self, left: float, top: float) -> Iterator[str]:
        """The elements, moved by so many pixels."""
        yield f'<g transform="translate({left:g} {top:g})">'
        for number in range(len(self.picture.edges)):
            yield from self._arrow(number)
        for index, shape in enumerate(self.picture.shapes):
            yield from self._shape(index, shape)
        yield "</g>"

    def _shape(self, index: int, shape: Shape) -> Iterator[str]:
        place, (width, height) = self.plan.places[index], self.sizes[index]
        x, y = place.x - width / 2, place.y - height / 2
        child = self.children.get(index)
        round_ = 18 if shape.type in ("start", "endpoint") else 3 if shape.type == "condition" else 7
        kind = "box" if child is None else "inner"
        told = ""
        if shape.loop >= 0:
            kind, told = f"{kind} loop", f"<title>{escape(self.picture.loops[shape.loop])}</title>"
        yield (f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
               f'rx="{round_}">{told}</rect>')
        lines = _lines(shape) if child is None else [" · ".join(_lines(shape))]
        for number, line in enumerate(lines):
            face = ' class="small"' if number else ' font-weight="600"'
            yield (f'<text{face} x="{place.x:g}" y="{y + 7 + LINE * (number + 0.75):g}" text-anchor="middle">'
                   f"{escape(line)}</text>")
        if child is not None:
            yield from child.parts(place.x - child.plan.width / 2, y + PAD + HEAD)

    def _arrow(self, number: int) -> Iterator[str]:
        edge = self.picture.edges[number]
        source, target = self.plan.places[edge.source], self.plan.places[edge.target]
        if edge.back or edge.source == edge.target:
            path, middle = self._around(edge.source, edge.target)
        else:
            start = Place(source.x, source.y + self.sizes[edge.source][1] / 2)
            end = Place(target.x, target.y - self.sizes[edge.target][1] / 2)
            points = [start, *self.plan.passed[number], end]
            path = f"M{start.x:g} {start.y:g}" + "".join(
                f"V{b.y:g}" if a.x == b.x else
                f"C{a.x:g} {(a.y + b.y) / 2:g} {b.x:g} {(a.y + b.y) / 2:g} {b.x:g} {b.y:g}"
                for a, b in pairwise(points) if a != b)  # a line of no length would turn the arrow's head
            middle = Place((points[1].x + points[2].x) / 2, (points[1].y + points[2].y) / 2)
        yield f'<path class="line{" back" if edge.back else ""}" d="{path}" marker-end="url(#head)"/>'
        if edge.label:
            yield (f'<text class="label" x="{middle.x:g}" y="{middle.y + 4:g}" text-anchor="middle">'
                   f"{escape(edge.label)}</text>")

    def _around(self, source: int, target: int) -> tuple[str, Place]:
        """An arrow that goes back: around the right side."""
        a, b = self.plan.places[source], self.plan.places[target]
        from_x, to_x = a.x + self.sizes[source][0] / 2, b.x + self.sizes[target][0] / 2
        out = max(from_x, to_x) + 40
        return (f"M{from_x:g} {a.y:g}C{out:g} {a.y:g} {out:g} {b.y:g} {to_x:g} {b.y:g}",
                Place(out - 12, (a.y + b.y) / 2))


def _lines(shape: Shape) -> list[str]:
    return [shape.id, *[text for text in (shape.type, shape.detail, ", ".join(shape.marks)) if text]]
