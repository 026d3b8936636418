"""`--state-history`: the states of a run as files."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from treadle.errors import InvalidInput

if TYPE_CHECKING:
    from treadle.engine.engine import Engine


def check_folder(folder: Path) -> None:
    """Make the folder of histories before anything runs; InvalidInput if that can't be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InvalidInput(f"--state-history {folder}: this is a file; name a folder") from None
    except OSError as error:
        raise InvalidInput(f"--state-history {folder}: it can't be made: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InvalidInput(f"--state-history {folder}: nothing can be written there; name another folder, or "
                           "change its permissions")


@asynccontextmanager
async def recorded(engine: Engine, folder: Path | None) -> AsyncIterator[None]:
    """What runs in this block is written to files as well; all of it is there when the block is left."""
    if folder is None or engine.manager is None:
        yield
        return
    from treadle.store.history import HistoryWriter

    writer = HistoryWriter(folder, engine.manager, config=engine.config)
    subscription = engine.bus.subscribe(writer)
    try:
        yield
    finally:
        await engine.bus.drain()
        await writer.close()
        subscription.close()
