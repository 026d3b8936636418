"""What the diagram does in code: reading texts as numbers, and telling good rows from bad ones."""

from __future__ import annotations

from typing import Any

NUMBERS = {"id": int, "quantity": int, "price": float}


def typed(row: dict[str, str]) -> dict[str, Any]:
    """A row of the file with its numbers as numbers. What is none stays a text: the schema says so."""
    return {name: _number(NUMBERS[name], text) if name in NUMBERS else text for name, text in row.items()}


def _number(kind: Any, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        return text


def good(checked: list[Any]) -> list[dict[str, Any]]:
    """The rows that the schema allows."""
    return [row for row in checked if isinstance(row, dict)]


def bad(checked: list[Any]) -> list[dict[str, Any]]:
    """The others: the line of the file that each stood in, and what is wrong with it."""
    return [{"line": row.index + 2, "message": row.message} for row in checked if not isinstance(row, dict)]
