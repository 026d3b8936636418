"""The one boundary around code that is not ours: bodies, hooks, consumers, transforms, encoders, tools.

Whatever such code raises, `SystemExit` and the end of a task of its own too, comes back as a value: its
caller says what follows from it. `KeyboardInterrupt` and `GeneratorExit` are for the program and pass, unless
the code runs in a thread, where nobody but itself can have raised them (`interrupts`).

Where a node's hot path can't afford the call, an `except` of its own stands there; tests/test_style.py lists
these.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

Attempt = tuple[Any, BaseException | None]
"""What the work gave and None, or None and what it raised."""
_THE_PROGRAM_S = (KeyboardInterrupt, GeneratorExit)


def attempt(work: Callable[..., Any], *given: Any, interrupts: bool = False) -> Attempt:
    """Call somebody's code."""
    try:
        return work(*given), None
    except BaseException as error:
        if isinstance(error, _THE_PROGRAM_S) and not interrupts:
            raise
        return None, error


async def attempt_async(work: Callable[..., Awaitable[Any]], *given: Any) -> Attempt:
    """Call it, and await what it gives. Who may be cancelled looks at the error: it may be that."""
    try:
        return await work(*given), None
    except _THE_PROGRAM_S:
        raise
    except BaseException as error:
        return None, error


@contextmanager
def foreign(told: Callable[[BaseException], BaseException]) -> Iterator[None]:
    """What is raised inside of this is raised as what `told` makes of it."""
    try:
        yield
    except _THE_PROGRAM_S:
        raise
    except BaseException as error:
        raise told(error) from error
