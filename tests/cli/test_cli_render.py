"""`render`: a diagram as text, as SVG and for Mermaid."""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.cli.drawing import lanes, mermaid, svg
from treadle.cli.drawing.layers import GAP, laid_out
from treadle.cli.drawing.picture import Edge, Picture, Shape

INNER = """
treadle: 1
name: refine
nodes:
  begin: {type: start}
  draft: {type: code_job, code: "return", needs: begin, retries: 2}
  check: {type: condition, when: "{{ draft > 3 }}", needs: draft}
  done: {type: endpoint, needs: check.true}
arrows:
  - check.false -> draft
"""
OUTER = """
treadle: 1
name: outer
nodes:
  a: {type: code_job, code: "return '<&>'"}
  sub: {type: sub_diagram, diagram: refine.yaml, needs: a}
  b: {type: code_job, code: "return 1", needs: a}
  c: {type: endpoint, needs: [sub, b]}
"""
TEXT = """\
●  a    code_job  return '<&>'
├─╮
● │  sub  sub_diagram
│ │     ●  begin  start
│ │     ●  draft  code_job  return  [retries: 2]  (loop at draft, at most 100 times)  ← again from check.false
│ │     ●  check  condition  {{ draft > 3 }}  (loop at draft, at most 100 times)
│ │     ●  done   endpoint  ← on check.true
│ ●  b    code_job  return 1
├─╯
●  c    endpoint
"""


@pytest.fixture
def drawn(treadle: Any) -> Any:
    treadle.write(INNER, "refine.yaml")
    treadle.write(OUTER)
    return treadle


def test_a_diagram_as_text(drawn: Any) -> None:
    done = drawn.here("render", "diagram.yaml")
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")
    assert "begin" not in drawn.here("render", "diagram.yaml", "--depth", "0").stdout


def test_a_terminal_that_knows_only_ascii() -> None:
    text = list(lanes.lines(picture(4, [(0, 1), (0, 2), (1, 3), (2, 3)]), ascii_only=True))
    assert text == ["*  n0  code_job", "+-+", "* |  n1  code_job", "| *  n2  code_job", "+-+",
                    "*  n3  code_job"]


def test_a_picture(drawn: Any) -> None:
    done = drawn.here("render", "diagram.yaml", "-o", "out.svg")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "outer: 4 nodes drawn to out.svg\n")
    root = ElementTree.fromstring((drawn.folder / "out.svg").read_text(encoding="utf-8"))
    texts = {one.text for one in root.iter() if one.tag.endswith("}text")}
    assert {"a", "sub · sub_diagram", "draft", "retries: 2", "return '<&>'", "true", "false"} <= texts
    assert not [one for one in root.iter() if one.tag.endswith(("}script", "}image"))]


def test_for_mermaid(drawn: Any) -> None:
    text = drawn.here("render", "diagram.yaml", "--format", "mermaid").stdout
    assert text.splitlines()[:3] == ["flowchart TD", '  n0["a<br/>code_job"]',
                                     '  subgraph n1["sub<br/>sub_diagram"]']
    assert '    n1_2 -.->|"false"| n1_1' in text.splitlines()
    assert mermaid.text_of(Picture("p", (Shape('say "hi"', "x"),), (), (), (0,))).count("#quot;") == 2


@pytest.mark.parametrize(("words", "says"), [
    (("render", "diagram.yml"), "diagram.yml: No such file or directory: did you mean 'diagram.yaml'?"),
    (("render", "bad.yaml"), "there is no node type 'code_jb'"),
    (("render", "diagram.yaml", "--format", "png"), "png"),
    (("render", "diagram.yaml", "-o", "no/such/folder.svg"), "no/such/folder.svg"),
])
def test_a_mistake_is_named(drawn: Any, words: tuple[str, ...], says: str) -> None:
    drawn.write(OUTER.replace("code_job", "code_jb", 1), "bad.yaml")
    done = drawn.here(*words)
    assert done.returncode == 2 and says in done.stderr and "own" not in done.stderr


def picture(count: int, arrows: list[tuple[int, int]]) -> Picture:
    return Picture("p", tuple(Shape(f"n{number}", "code_job") for number in range(count)),
                   tuple(Edge(*arrow) for arrow in arrows), (), tuple(range(count)))


@st.composite
def pictures(draw: st.DrawFn) -> Picture:
    """Any graph whose arrows lead on."""
    count = draw(st.integers(1, 12))
    pairs = [(a, b) for b in range(count) for a in range(b)]
    return picture(count, draw(st.lists(st.sampled_from(pairs), unique=True)) if pairs else [])


@given(pictures())
def test_no_shape_stands_on_another_and_all_arrows_lead_down(drawn: Picture) -> None:
    sizes = [(60.0 + 10 * index, 30.0 + index) for index in range(len(drawn.shapes))]
    plan = laid_out(drawn, sizes)
    rows: dict[float, list[tuple[float, float]]] = {}
    for place, (width, height) in zip(plan.places, sizes, strict=True):
        assert place.x - width / 2 >= -0.1 and place.x + width / 2 <= plan.width + 0.1
        assert place.y - height / 2 >= -0.1 and place.y + height / 2 <= plan.height + 0.1
        rows.setdefault(place.y, []).append((place.x, width))
    for row in rows.values():
        for (left, wide), (right, width) in pairwise(sorted(row)):
            assert right - left >= (wide + width) / 2 + GAP - 0.2
    for number, edge in enumerate(drawn.edges):
        ys = [plan.places[edge.source].y, *(one.y for one in plan.passed[number]), plan.places[edge.target].y]
        assert ys == sorted(ys)
    ElementTree.fromstring(svg.text_of(drawn))


@given(pictures())
def test_lanes_lead_every_arrow_from_its_source_to_its_target(drawn: Picture) -> None:
    """Follow the lines as an eye does: down, and along a row where they join."""
    reached: list[set[int]] = []  # by lane, the sources whose arrows may be in it
    seen: dict[int, set[int]] = {}
    for line in lanes.lines(drawn):
        cells = {place // 2: mark for place, mark in enumerate(line)
                 if place % 2 == 0 and mark in "●│─╭╮╰╯├┤┬┴┼"}
        across = [place // 2 for place, mark in enumerate(line) if place % 2 == 1 and mark == "─"]
        node = int(line.split("n", 1)[1].split()[0]) if "●" in line else None
        width = max(cells, default=-1) + 1
        above = [*reached, *(set() for _ in range(width - len(reached)))]
        if node is not None:
            column = line.index("●") // 2
            cells = {lane: mark for lane, mark in cells.items() if lane * 2 < line.index("n")}
            seen[node] = above[column]
            above[column] = {node}
        joined: set[int] = set()
        if across:
            ends = [lane for lane in range(min(across), max(across) + 2) if cells.get(lane) != "│"]
            joined = set().union(*(above[lane] for lane in ends if cells.get(lane) in tuple("├┤┴╰╯┼│")))
        reached = [set() if lane not in cells or cells[lane] in "╰╯┴─"
                   else above[lane] | joined if across and min(across) <= lane <= max(across) + 1
                   and cells[lane] != "│" else above[lane] for lane in range(len(above))]
    for edge in drawn.edges:
        assert edge.source in seen[edge.target]
