"""What the nodes of diagram.yaml do."""

from __future__ import annotations

from treadle.nodes.base import BodyContext


def order(context: BodyContext) -> str:
    """Place the order. A crash may repeat this; a supplier who is told `context.idempotency_key` takes it
    once all the same."""
    inputs = context.execution_inputs
    return f"Ordered: {inputs['what']} for {inputs['amount']} € (order {context.execution_id})."
