"""What the researcher can do. A tool's signature is what the model may ask of it, its docstring what it is
told."""

from __future__ import annotations

from pathlib import Path

from treadle.nodes.base import BodyContext

LIBRARY = Path(__file__).with_name("library")


def files() -> list[str]:
    """Name all texts of the library."""
    return sorted(path.name for path in LIBRARY.glob("*.md"))


def search(words: list[str]) -> dict[str, list[int]]:
    """Find texts that have all of some words. Gives the numbers of the lines with any of them, by text.

    Args:
        words: What to look for, in any case. A part of a word is enough.
    """
    found = {}
    for name in files():
        lines = (LIBRARY / name).read_text(encoding="utf-8").lower().splitlines()
        if all(any(word.lower() in line for line in lines) for word in words):
            found[name] = [number for number, line in enumerate(lines, 1)
                           if any(word.lower() in line for word in words)]
    return found


def read(file: str, first: int = 1, last: int | None = None) -> str:
    """Read a text of the library, or some lines of it.

    Args:
        file: Its name, as `files` gives it.
        first: The first line, from 1.
        last: The last line. Without it, all from the first on.
    """
    if file not in files():  # a model may ask for any path of this machine
        raise ValueError(f"there is no text {file!r}: there are {', '.join(files())}")
    lines = (LIBRARY / file).read_text(encoding="utf-8").splitlines()
    return "\n".join(lines[first - 1:last])


def keep(context: BodyContext, title: str, text: str, sources: list[str]) -> str:
    """Keep an answer among the notes, for later.

    Args:
        title: A few words that say what it is about.
        text: The answer.
        sources: The names of the texts that it rests on.
    """
    notes = dict(context.variables.get("notes", {}))
    notes[title] = {"text": text, "sources": sources}
    context.variables["notes"] = notes  # what a crash repeats is the same note
    return f"kept as {title!r}"
