"""What the order does."""

import asyncio
import os


async def price(context) -> int:
    """Ask the shop, which takes its time."""
    await asyncio.sleep(float(os.environ.get("SHOP_S", "2")))
    return 10 * len(context.execution_inputs["what"])
