"""What the diagram does in code: buying one thing, and the bill."""

from __future__ import annotations

from typing import Any

from treadle import ItemError


def buy(item: dict[str, Any], context: Any) -> str:
    """Buy one thing. What is spent is shared by all; a plugin looks at it before it is written."""
    with context.transaction() as tx:
        tx["variables.spent"] = tx.get("variables.spent", 0) + item["price"]
        tx[f"artifacts.receipt of the {item['what']}"] = f"{item['what']}: {item['price']} €"
    return f"a {item['what']} for {item['price']} €"


def bill(default: list[Any], context: Any) -> str:
    """What was bought, what was not and why, and what is spent in all."""
    lines = [f"not bought: {one.message}" if isinstance(one, ItemError) else f"bought {one}"
             for one in default]
    return "\n".join([*lines, f"spent: {context.variables['spent']} €"])
