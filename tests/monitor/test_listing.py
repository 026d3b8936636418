"""The live list while executions come and go."""

from __future__ import annotations

import asyncio
from typing import Any

from treadle.config import STATUSES, Retention
from treadle.monitor import Monitor
from treadle.monitor.live.listing import Listing, ListSource
from treadle.store.base import Summary
from treadle.store.memory import MemoryStore
from treadle.store.owner import this_owner
from treadle.testing.contract import an_execution


class Deleting(MemoryStore):
    """A store in which somebody deletes executions right after they were listed."""

    doomed: tuple[str, ...] = ()

    def executions(self, **asked: Any) -> list[Summary]:
        found = super().executions(**asked)
        if self.doomed:
            self.prune(Retention(status=STATUSES, execution_ids=self.doomed), 9e9)
        return found


def test_one_that_is_deleted_while_the_list_is_read_is_left_out() -> None:
    async def main() -> None:
        store, listing = Deleting(), Listing()
        for name in ("a", "b", "c"):
            store.create(an_execution(name), "", this_owner(), 0.0)
        async with Monitor(store) as monitor:
            source = ListSource(monitor, listing)
            await source.read(0)
            assert listing.snapshot().payload["executions"].keys() == {"a", "b", "c"}
            since, store.doomed = listing.settle(), ("b",)
            await source.read(1)
            assert listing.diff(since).payload == {"executions": {"b": None}}

    asyncio.run(main())
