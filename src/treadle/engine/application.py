"""What an engine works with: built and configured at its start, taken down in reverse at its end.

    async with ApplicationContext("sqlite:///runs.db") as services:
        store, bus = services.resolve(STORE), services.resolve(EVENT_BUS)

A service that was handed in is used as it is, and stays open: it is its owner's. The others are built here
and belong to this context alone, so two of them in one process don't see each other.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Hashable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from treadle.aio.resources import AsyncResourceManager
from treadle.clock import Clock, SystemClock
from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.engine.bus import EventBus
from treadle.engine.services import CLOCK, CONFIG, EVENT_BUS, STATE_MANAGER, STORE, ServiceRegistry
from treadle.store import given_key, hide_key
from treadle.undo import undone_async

if TYPE_CHECKING:
    from treadle.engine.async_state import AsyncStateManager

T = TypeVar("T")
logger = logging.getLogger("treadle.engine")


class ApplicationContext:
    """Owns the services of one engine. `start` builds store, state manager and bus in this order and `stop`
    closes them in reverse, with whatever `resources` got in between.

    `url` is the store's (None: the default store), `key` encrypts it (`open_store`); with `durable=False`
    there is neither store nor state manager.
    """

    def __init__(self, url: str | None = None, *, config: TreadleConfig = DEFAULT_CONFIG,
                 clock: Clock | None = None, services: ServiceRegistry | None = None,
                 durable: bool = True, key: str | None = None) -> None:
        self.services = ServiceRegistry(services)
        self.resources = AsyncResourceManager("the engine")
        self._ends: list[Callable[[], object]] = []
        self._kept: dict[Hashable, Any] = {}
        self._shared = AsyncResourceManager("what bodies share")
        self._url, self._durable, self._key = url, durable, key
        if config is DEFAULT_CONFIG:
            config = self.services.get(CONFIG) or config
        self.config = config
        self.services.register(CONFIG, config)
        self.services.register(CLOCK, clock or self.services.get(CLOCK) or SystemClock())
        self._own_bus = EVENT_BUS not in self.services
        if self._own_bus:
            self.services.register(EVENT_BUS, EventBus(backlog_max=config.event_backlog_max,
                                                       errors_max=config.consumer_errors_max))

    def at_the_end(self, end: Callable[[], object]) -> None:
        """Call `end` when the bus is quiet and before the state manager stops. Say so before `start`."""
        self._ends.append(end)

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make()` gave to the first who asked with that key. It is closed when no body runs any more:
        see `AsyncResourceManager.register`."""
        if key not in self._kept:
            self._kept[key] = self._shared.register(make())
        found: T = self._kept[key]
        return found

    async def start(self) -> ServiceRegistry:
        """Build what is missing. What was built is closed again if something fails. The environment has no
        key of a store from here on."""
        hide_key(self._key or given_key.get())
        async with undone_async(self.stop):
            if self._durable and STATE_MANAGER not in self.services:
                self.services.register(STATE_MANAGER, await self._state_manager())
        self.resources.add_cleanup(self._shared.cleanup, self.config.shutdown_s_max)
        for end in self._ends:
            self.resources.add_cleanup(end)
        self.resources.add_cleanup(self._quiet, self.services.resolve(EVENT_BUS))
        return self.services

    async def _state_manager(self) -> AsyncStateManager:
        from treadle.engine.async_state import AsyncStateManager
        from treadle.store import default_store_url, open_store
        from treadle.store.manager import StateManager

        store = self.services.get(STORE)
        if store is None:
            store = await asyncio.to_thread(partial(open_store, self._url or default_store_url(),
                                                    key=self._key))
            self.services.register(STORE, store)
            self.resources.add_cleanup(asyncio.to_thread, store.close)
        state = AsyncStateManager(StateManager(store=store, config=self.config))
        await state.start()
        self.resources.add_cleanup(state.stop, self.config.shutdown_s_max)
        return state

    async def _quiet(self, bus: EventBus) -> None:
        """Let consumers read what was announced, within `shutdown_s_max`."""
        patience = self.config.shutdown_s_max
        try:
            async with asyncio.timeout(patience):
                await bus.drain()
        except TimeoutError:
            logger.warning("event consumers had not read everything within shutdown_s_max=%g s", patience)
        if self._own_bus:
            await bus.close()

    async def stop(self) -> None:
        """Close what was built, the last first: all of it is attempted, errors come as one ExceptionGroup."""
        await self.resources.cleanup(3 * self.config.shutdown_s_max)  # each part has its own patience

    async def __aenter__(self) -> ServiceRegistry:
        return await self.start()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        await self.stop()
