"""Where shapes and arrows of a picture stand: from top to bottom in layers.

The four steps of Sugiyama, Tagawa and Toda ("Methods for visual understanding of hierarchical system
structures", 1981): layers by the longest path, points that arrows pass on their way through layers between,
an order in each layer by barycentres, and places that draw near to their neighbours.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from treadle.cli.drawing.picture import Picture

GAP, RISE = 28.0, 56.0
"""Pixels between shapes of a layer, and between layers."""
SWEEPS, SHIFTS = 6, 8
Size = tuple[float, float]
"""Width and height in pixels."""


class Place(msgspec.Struct, frozen=True):
    """The middle of a shape, in pixels from the left and the top."""

    x: float
    y: float


class Plan(msgspec.Struct, frozen=True):
    """Places of shapes by index, of the points that arrows pass (by the arrow's index: where it leaves its
    source's layer, enters and leaves those between, and enters its target's; back arrows have none), and how
    large it all is."""

    places: tuple[Place, ...]
    passed: dict[int, list[Place]]
    width: float
    height: float


class _Spot:
    """A shape, or a point that an arrow passes, in its layer."""

    __slots__ = ("above", "below", "height", "layer", "rank", "width", "x")

    def __init__(self, layer: int, size: Size) -> None:
        self.layer, (self.width, self.height) = layer, size
        self.above: list[_Spot] = []
        self.below: list[_Spot] = []
        self.rank = 0
        self.x = 0.0


def laid_out(picture: Picture, sizes: Sequence[Size]) -> Plan:
    """A plan for shapes of these sizes. Deterministic."""
    depth = [0] * len(picture.shapes)
    out: list[list[int]] = [[] for _ in picture.shapes]
    for number, edge in enumerate(picture.edges):
        if not edge.back and edge.source != edge.target:
            out[edge.source].append(number)
    for index in picture.order:
        for number in out[index]:
            target = picture.edges[number].target
            depth[target] = max(depth[target], depth[index] + 1)
    spots = [_Spot(layer, size) for layer, size in zip(depth, sizes, strict=True)]
    rows: list[list[_Spot]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for index in picture.order:
        rows[depth[index]].append(spots[index])
    points: dict[int, list[_Spot]] = {}
    for index in picture.order:
        for number in out[index]:
            points[number] = _lead(spots[index], spots[picture.edges[number].target], rows)
    _order(rows)
    _shift(rows)
    return _plan(rows, spots, points)


def _lead(source: _Spot, target: _Spot, rows: list[list[_Spot]]) -> list[_Spot]:
    """Take an arrow through the layers between; returns what it passes, from its source to its target."""
    passed = [source]
    for layer in range(source.layer + 1, target.layer):
        passed.append(_Spot(layer, (1.0, 0.0)))
        rows[layer].append(passed[-1])
    passed.append(target)
    for upper, lower in pairwise(passed):
        upper.below.append(lower)
        lower.above.append(upper)
    return passed


def _order(rows: list[list[_Spot]]) -> None:
    """Sort each layer by the mean rank of its neighbours, down and up again, as long as it sweeps."""
    _rank(rows)
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            middle = {id(spot): _mean([one.rank for one in (spot.above if down else spot.below)], spot.rank)
                      for spot in row}
            row.sort(key=lambda spot: middle[id(spot)])
            for rank, spot in enumerate(row):
                spot.rank = rank


def _rank(rows: list[list[_Spot]]) -> None:
    for row in rows:
        for rank, spot in enumerate(row):
            spot.rank = rank


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise


def _shift(rows: list[list[_Spot]]) -> None:
    """Move each layer towards its neighbours, without changing its order."""
    for row in rows:
        x = 0.0
        for spot in row:
            spot.x = x + spot.width / 2
            x += spot.width + GAP
    for turn in range(SHIFTS):
        down = turn % 2 == 0
        for row in rows if down else reversed(rows):
            _place(row, [_mean([one.x for one in (spot.above if down else spot.below)], spot.x)
                         for spot in row])


def _place(row: list[_Spot], wished: list[float]) -> None:
    """Put spots as near as can be to where they wish: those that would overlap form a block, which stands
    where the mean of its members' wishes is (isotonic regression by pooling neighbours)."""
    blocks: list[list[float]] = []  # sum of wishes less offsets, members, offset of the next from the first
    offset = 0.0
    offsets: list[float] = []
    for number, spot in enumerate(row):
        if number:
            offset += (row[number - 1].width + spot.width) / 2 + GAP
        offsets.append(offset)
        blocks.append([wished[number] - offset, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] >= blocks[-1][0] / blocks[-1][1]:
            total, members = blocks.pop()
            blocks[-1][0] += total
            blocks[-1][1] += members
    at = 0
    for total, members in blocks:
        for _ in range(int(members)):
            row[at].x = total / members + offsets[at]
            at += 1


def _plan(rows: list[list[_Spot]], spots: list[_Spot], points: dict[int, list[_Spot]]) -> Plan:
    every = [spot for row in rows for spot in row]
    left = min((spot.x - spot.width / 2 for spot in every), default=0.0)
    right = max((spot.x + spot.width / 2 for spot in every), default=0.0)
    spans: list[Size] = []  # of layers, from top to bottom
    y = 0.0
    for row in rows:
        height = max(spot.height for spot in row)
        spans.append((y, y + height))
        y += height + RISE

    def place(spot: _Spot, share: float = 0.5) -> Place:
        top, bottom = spans[spot.layer]
        return Place(round(spot.x - left, 1), round(top + (bottom - top) * share, 1))

    return Plan(tuple(map(place, spots)),
                {number: [place(passed[0], 1.0),
                          *(place(spot, share) for spot in passed[1:-1] for share in (0.0, 1.0)),
                          place(passed[-1], 0.0)] for number, passed in points.items()},
                round(right - left, 1), round(max(0.0, y - RISE), 1))
