"""A diagram in the language of Mermaid, which many sites and editors draw."""

from __future__ import annotations

from collections.abc import Iterator

from treadle.cli.drawing.picture import Picture, Shape

_FRAMES = {"condition": ("{{", "}}"), "endpoint": ("([", "])"), "start": ("([", "])"),
           "user_response": ("[/", "/]"), "db": ("[(", ")]")}


def text_of(picture: Picture) -> str:
    """The picture as a Mermaid flowchart, with a newline at its end."""
    return "\n".join(["flowchart TD", *_body(picture, "n", "  ")]) + "\n"


def _body(picture: Picture, prefix: str, indent: str) -> Iterator[str]:
    """Names are numbers, since Mermaid has reserved words; what a person reads is quoted."""
    for index, shape in enumerate(picture.shapes):
        name = f"{prefix}{index}"
        if shape.child is not None:
            yield f"{indent}subgraph {name}[{_quoted(_label(shape))}]"
            yield from _body(shape.child, f"{name}_", indent + "  ")
            yield f"{indent}end"
        else:
            left, right = _FRAMES.get(shape.type, ("[", "]"))
            yield f"{indent}{name}{left}{_quoted(_label(shape))}{right}"
    for edge in picture.edges:
        line = "-.->" if edge.back else "-->"
        label = f"|{_quoted(edge.label)}|" if edge.label else ""
        yield f"{indent}{prefix}{edge.source} {line}{label} {prefix}{edge.target}"


def _label(shape: Shape) -> str:
    return "\n".join([shape.id, shape.type, *([", ".join(shape.marks)] if shape.marks else [])])


def _quoted(text: str) -> str:
    """Mermaid's own entities begin with #; a text is Markdown between backticks, so none of these."""
    for mark, entity in (("#", "#35;"), ('"', "#quot;"), ("`", "#96;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(mark, entity)
    return '"' + text.replace("\n", "<br/>") + '"'
