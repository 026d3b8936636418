"""What is begun and can't be finished is undone: the one place where everything is caught to be raised on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager


@contextmanager
def undone(undo: Callable[..., object], *given: object) -> Iterator[None]:
    """Call `undo` if the block is left by an error, a cancellation or an interrupt, which goes on then."""
    try:
        yield
    except BaseException:
        undo(*given)
        raise


@asynccontextmanager
async def undone_async(undo: Callable[..., Awaitable[object]], *given: object) -> AsyncIterator[None]:
    """The same with what is awaited."""
    try:
        yield
    except BaseException:
        await undo(*given)
        raise
