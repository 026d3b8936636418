"""`--state-history`: the states of a run as files."""

from __future__ import annotations

import os
from pathlib import Path

from treadle.errors import InvalidInput


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
