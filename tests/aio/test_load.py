"""Whether a loop is busy: sleeps of 30 ms, of which others compute for some, and wait for a processor."""

from __future__ import annotations

import time

import pytest

from treadle.aio import load
from treadle.aio.load import Load


class Clock:
    """Stands for `time` in there."""

    def __init__(self) -> None:
        self.now = self.computed = self.waited = 100.0

    def monotonic(self) -> float:
        return self.now

    def thread_time(self) -> float:
        return self.computed


@pytest.fixture(name="clock")
def _clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load, "time", clock)
    monkeypatch.setattr(load, "_waited", lambda: clock.waited)
    return clock


def sleep(one: Load, clock: Clock, took: float, computed: float, waited: float = 0.0) -> bool:
    one.sleeps()
    clock.now += took
    clock.computed += computed
    clock.waited += waited
    return one.slept(0.03)


def test_busy_at_once_and_idle_after_a_while(clock: Clock) -> None:
    one = Load()
    assert not sleep(one, clock, 0.03, 0.001)
    assert sleep(one, clock, 0.035, 0.033)
    assert sleep(one, clock, 0.03, 0.0)  # one quiet moment says little
    assert not any([sleep(one, clock, 0.03, 0.0) for _ in range(10)][-3:])


def test_half_of_the_time_is_busy_only_where_it_makes_us_late(clock: Clock) -> None:
    one = Load()
    assert not any(sleep(one, clock, 0.031, 0.015) for _ in range(10))
    assert sleep(one, clock, 0.045, 0.02)


def test_a_loop_without_a_processor_is_busy_however_little_it_computes(clock: Clock) -> None:
    one = Load()
    sleep(one, clock, 0.12, 0.024, waited=0.09)
    assert sleep(one, clock, 0.12, 0.024, waited=0.09)
    idle = Load()
    sleep(idle, clock, 0.12, 0.007, waited=0.02)
    assert not sleep(idle, clock, 0.12, 0.007, waited=0.02)


def test_a_moment_tells_nothing(clock: Clock) -> None:
    one = Load()
    assert not sleep(one, clock, 0.001, 0.001)


def test_the_real_clocks() -> None:
    one = Load()
    one.sleeps()
    until = time.thread_time() + 0.05
    while time.thread_time() < until:
        pass
    assert one.slept(0.03)
