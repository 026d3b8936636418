"""A guard: nobody spends more than `limit` (treadle.toml)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from treadle import PluginError, StateHook


class Budget(StateHook):
    version = "1.0.0"

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def pre_state_initialize(self, pipeline: Any, diagram: Any, inputs: Mapping[str, Any]) -> None:
        """Initialisation: a list of which nothing can be bought isn't even begun with."""
        if all(wish["price"] > self.limit for wish in inputs.get("wishes", ())):
            raise PluginError(f"nothing on the list costs less than {self.limit:g} €")

    def pre_state_mutation(self, transaction: Any) -> str | None:
        """Mutation: refuse the purchase that would go beyond the limit."""
        spent = transaction.changes.get("variables.spent")
        if spent is None or spent.new <= self.limit:
            return None
        return f"{spent.new} € would be spent, and the budget is {self.limit:g} €"

    def post_state_finalize(self, state: Any, report: Any) -> None:
        """Finalisation: say how often it was needed."""
        if report.metrics.failed:
            self.logger.warning("%d of the list refused", report.metrics.failed)
