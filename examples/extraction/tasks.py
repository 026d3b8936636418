"""What the nodes of diagram.yaml do."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def letters(context: Any) -> list[dict[str, str]]:
    """The letters of the folder, by name."""
    folder = context.path(context.execution_inputs["folder"])
    return [{"name": path.stem, "text": path.read_text(encoding="utf-8")}
            for path in sorted(Path(folder).glob("*.txt"))]
