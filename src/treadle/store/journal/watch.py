"""What the writer thread does between two batches: it renews leases, and sees whether others sent signals."""

from __future__ import annotations

import time
from collections.abc import Callable

from treadle.config import TreadleConfig
from treadle.store.base import Lease, Owner, Store

UNWATCHED_S = 1.0
"""How often the thread wakes while nobody watches: to renew leases."""


class Watch:
    """`turn` runs on the writer thread; it tells `lost` which lease is gone and `heard` that there is a new
    signal. `wanted`: whether anybody listens to the latter."""

    def __init__(self, store: Store, owner: Owner, leases: dict[str, Lease], config: TreadleConfig, *,
                 lost: Callable[[Lease], None], heard: Callable[[], None]) -> None:
        self._store, self._owner, self._leases, self._config = store, owner, leases, config
        self._lost, self._heard = lost, heard
        self._version = self._signal = 0
        self._renewed = time.monotonic()
        self.wanted = False
        self.idle_s = min(UNWATCHED_S, config.lease_s / 3)

    def turn(self) -> float:
        """Do what is due. Returns the seconds until the next turn."""
        if time.monotonic() - self._renewed >= self._config.lease_s / 3:
            self._renew()
            self._renewed = time.monotonic()
        if not self.wanted:
            return self.idle_s
        version = self._store.version()
        if version != self._version:
            self._version = version
            signal = self._store.last_signal()
            if signal != self._signal:
                self._signal = signal
                self._heard()
        return self._config.watch_interval_s

    def _renew(self) -> None:
        leases = list(self._leases.values())
        if leases:
            lost = self._store.renew(leases, self._owner, self._config.lease_s)
            for lease in leases:
                if lease.execution_id in lost:
                    self._lost(lease)
