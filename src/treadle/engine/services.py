"""A registry of services by typed key, so that whoever embeds the engine can hand in their own.

    services = ServiceRegistry()
    services.register(EVENT_BUS, EventBus())
    bus = services.resolve(EVENT_BUS)        # an EventBus, for the type checker too
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from treadle.clock import Clock
    from treadle.engine.bus import EventBus
    from treadle.store.base import Store

T = TypeVar("T")


class ServiceKey(Generic[T]):
    """A name that knows the type of its service. Two keys are the same key if they are the same object."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"ServiceKey({self.name!r})"


EVENT_BUS: ServiceKey[EventBus] = ServiceKey("event_bus")
STORE: ServiceKey[Store] = ServiceKey("store")
CLOCK: ServiceKey[Clock] = ServiceKey("clock")


class ServiceRegistry:
    """Services by key."""

    def __init__(self) -> None:
        self._services: dict[ServiceKey[Any], Any] = {}

    def register(self, key: ServiceKey[T], service: T) -> None:
        """Set the service of a key, in place of the one before."""
        self._services[key] = service

    def get(self, key: ServiceKey[T]) -> T | None:
        """The service of a key, or None."""
        return cast("T | None", self._services.get(key))

    def resolve(self, key: ServiceKey[T]) -> T:
        """The service of a key; LookupError that says how to register one."""
        if key not in self._services:
            raise LookupError(
                f"no service is registered as {key.name!r}: registry.register({key!r}, …) first"
            )
        return cast(T, self._services[key])

    def __contains__(self, key: object) -> bool:
        return key in self._services
