"""The one boundary around code that is not ours."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from treadle.foreign import attempt, attempt_async, foreign

ERRORS = [ValueError("no"), SystemExit(3), MemoryError(), asyncio.CancelledError(), RecursionError()]


def raising(error: BaseException) -> Any:
    raise error


async def raising_later(error: BaseException) -> Any:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("error", ERRORS, ids=lambda one: type(one).__name__)
def test_whatever_is_raised_comes_back_as_a_value(error: BaseException) -> None:
    assert attempt(raising, error) == (None, error)
    assert asyncio.run(attempt_async(raising_later, error)) == (None, error)
    with pytest.raises(LookupError) as told, foreign(lambda one: LookupError(type(one).__name__)):
        raise error
    assert str(told.value) == type(error).__name__ and told.value.__cause__ is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), GeneratorExit()], ids=lambda one: type(one).__name__)
def test_what_is_for_the_program_passes_unless_it_is_a_thread_s_own(error: BaseException) -> None:
    with pytest.raises(type(error)):
        attempt(raising, error)
    with pytest.raises(type(error)), foreign(lambda one: LookupError()):
        raise error
    coroutine = attempt_async(raising_later, error)
    coroutine.send(None)
    with pytest.raises(type(error)):
        coroutine.send(None)
    assert attempt(raising, error, interrupts=True) == (None, error)


def test_a_value_comes_back_with_no_error() -> None:
    async def later(value: int) -> int:
        return value

    assert attempt(int, "7") == (7, None)
    assert asyncio.run(attempt_async(later, 7)) == (7, None)
    with foreign(lambda one: LookupError()):
        pass
