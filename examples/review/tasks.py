"""What the reviewer can use."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

FOLDER = Path(__file__).parent


def look_up(rule: Literal["money", "secrets", "style"]) -> str:
    """The house rules about a subject."""
    return {"money": "Amounts are positive; anything else raises ValueError.",
            "secrets": "Keys and tokens are never logged.",
            "style": "Functions are short and named by verbs."}[rule]


def comment(line: int, text: str) -> str:
    """Post a comment on a line of the change, for everybody to see.

    Args:
        line: The number of the line in the change, from 1.
        text: What should be different, and why.
    """
    file = FOLDER / "out" / "comments.md"
    file.parent.mkdir(exist_ok=True)
    known = file.read_text() if file.exists() else ""
    entry = f"- line {line}: {text}\n"
    if entry not in known:  # it may be called once more if the process died in its midst
        file.write_text(known + entry)
    return f"comment on line {line} is posted"
