"""`render`: draws a diagram."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from treadle.cli.common import load_diagram, readers_may_leave
from treadle.cli.render import say


def render(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A diagram file.", show_default=False)],
    format: Annotated[Literal["ascii", "svg", "mermaid"] | None, typer.Option(
        metavar="FORMAT", show_default=False,
        help="ascii (for a terminal, the default), svg or mermaid. Without it the name of --out tells.")]
        = None,
    out: Annotated[Path | None, typer.Option(
        "--out", "-o", metavar="FILE", show_default=False, help="Write it here instead of to the terminal.")]
        = None,
    depth: Annotated[int, typer.Option(min=0, help="Draw sub-diagrams so many levels down.")] = 1,
) -> None:
    """Draw a diagram: as text, as a picture, or for Mermaid."""
    readers_may_leave()
    from treadle.cli.drawing import lanes, mermaid, svg
    from treadle.cli.drawing.picture import picture_of
    from treadle.diagram.compile import compile_diagram
    from treadle.engine.edited import types_for

    picture = picture_of(compile_diagram(load_diagram(file), types_for(Path(file).resolve().parent)), depth)
    match format or _told_by(out):
        case "svg":
            text = svg.text_of(picture)
        case "mermaid":
            text = mermaid.text_of(picture)
        case _:
            plain = out is None and not _can_show("│●╭←")
            text = "".join(f"{line}\n" for line in lanes.lines(picture, ascii_only=plain))
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")
        say(f"{picture.name}: {len(picture.shapes)} nodes drawn to {out}")


def _told_by(out: Path | None) -> str:
    suffix = "" if out is None else out.suffix.lower()
    return {".svg": "svg", ".mmd": "mermaid", ".mermaid": "mermaid"}.get(suffix, "ascii")


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True
