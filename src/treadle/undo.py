"""What is begun and can't be finished is undone: the one place where everything is caught to be raised on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import ParamSpec

P = ParamSpec("P")


@contextmanager
def undone(undo: Callable[P, object], *given: P.args, **named: P.kwargs) -> Iterator[None]:
    """Call `undo` with the other arguments if the block is left by an error, a cancellation or an interrupt,
    which goes on then."""
    try:
        yield
    except BaseException:
        undo(*given, **named)
        raise


@asynccontextmanager
async def undone_async(undo: Callable[P, Awaitable[object]], *given: P.args, **named: P.kwargs
                       ) -> AsyncIterator[None]:
    """The same with what is awaited."""
    try:
        yield
    except BaseException:
        await undo(*given, **named)
        raise
