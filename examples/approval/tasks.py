"""What the nodes of diagram.yaml do."""

from __future__ import annotations

from treadle.nodes.base import BodyContext


def order(context: BodyContext) -> str:
    """Place the order. A crash may repeat this; the key makes the supplier's system take it once all the same."""
    inputs = context.execution_inputs
    return f"Ordered: {inputs['what']} for {inputs['amount']} € (key {context.idempotency_key.partition('/')[0]})."
