"""Services by typed key."""

from __future__ import annotations

import pytest

from treadle.clock import SystemClock
from treadle.engine.bus import EventBus
from treadle.engine.services import CLOCK, EVENT_BUS, STORE, ServiceKey, ServiceRegistry


def test_a_service_is_found_by_its_key() -> None:
    services, bus = ServiceRegistry(), EventBus()
    services.register(EVENT_BUS, bus)
    assert services.resolve(EVENT_BUS) is bus and services.get(EVENT_BUS) is bus
    assert EVENT_BUS in services and STORE not in services and services.get(STORE) is None


def test_a_later_service_takes_the_place_of_the_earlier() -> None:
    services, first, second = ServiceRegistry(), SystemClock(), SystemClock()
    services.register(CLOCK, first)
    services.register(CLOCK, second)
    assert services.resolve(CLOCK) is second


def test_a_missing_service_says_how_to_register_it() -> None:
    with pytest.raises(LookupError, match=r"no service is registered as 'event_bus': registry\.register"):
        ServiceRegistry().resolve(EVENT_BUS)


def test_keys_of_one_name_are_two_keys() -> None:
    mine: ServiceKey[int] = ServiceKey("clock")
    services = ServiceRegistry()
    services.register(mine, 1)
    assert CLOCK not in services
