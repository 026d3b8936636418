"""A registry of services by typed key, so that whoever embeds the engine can hand in their own.

    services = ServiceRegistry()
    services.register(EVENT_BUS, EventBus())
    bus = services.resolve(EVENT_BUS)        # an EventBus, for the type checker too
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

if TYPE_CHECKING:
    from treadle.clock import Clock
    from treadle.config import TreadleConfig
    from treadle.engine.async_state import AsyncStateManager
    from treadle.engine.bus import EventBus
    from treadle.nodes.registry import NodeRegistry
    from treadle.store.base import Store

T = TypeVar("T")


class ServiceKey(Generic[T]):
    """A name that knows the type of its service. Two keys are the same key if they are the same object."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"ServiceKey({self.name!r})"


CONFIG: ServiceKey[TreadleConfig] = ServiceKey("config")
CLOCK: ServiceKey[Clock] = ServiceKey("clock")
STORE: ServiceKey[Store] = ServiceKey("store")
STATE_MANAGER: ServiceKey[AsyncStateManager] = ServiceKey("state_manager")
EVENT_BUS: ServiceKey[EventBus] = ServiceKey("event_bus")
NODES: ServiceKey[NodeRegistry] = ServiceKey("nodes")


class ServiceRegistry:
    """Services by key. One with a `parent` finds there what it doesn't have; what is registered in it, the
    parent does not see."""

    def __init__(self, parent: ServiceRegistry | None = None) -> None:
        self._parent = parent
        self._services: dict[ServiceKey[Any], Any] = {}

    def register(self, key: ServiceKey[T], service: T) -> None:
        """Set the service of a key, in place of the one before."""
        self._services[key] = service

    def get(self, key: ServiceKey[T]) -> T | None:
        """The service of a key, or None."""
        if key in self._services:
            return cast("T | None", self._services[key])
        return None if self._parent is None else self._parent.get(key)

    def resolve(self, key: ServiceKey[T]) -> T:
        """The service of a key; LookupError that says how to register one."""
        if key not in self:
            raise LookupError(
                f"no service is registered as {key.name!r}: registry.register({key!r}, …) first"
            )
        return cast(T, self.get(key))

    def __contains__(self, key: object) -> bool:
        return key in self._services or (self._parent is not None and key in self._parent)
