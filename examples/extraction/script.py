"""What the clerk would say, without a provider: `--script examples/extraction/script.py`."""

from __future__ import annotations

import re
from typing import Any


def Clerk(prompt: str) -> dict[str, Any]:
    order = re.search(r"order (\d+)", prompt)
    kind = "complaint" if "leaks" in prompt else "order" if "please send" in prompt else "other"
    sender = re.search(r"(Grace|Ada|Alan) [A-Z]\w+", prompt)
    return {"sender": sender[0] if sender else "", "kind": kind,
            "order_number": int(order[1]) if order else None,
            "wants": {"complaint": "another kettle, or the money back", "order": "two pounds of Assam",
                      "other": "nothing"}[kind]}
