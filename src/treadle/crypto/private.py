"""Files that are nobody else's business."""

from __future__ import annotations

import os
from pathlib import Path

from treadle.errors import InvalidInput


def read_private(path: Path, bytes_max: int) -> bytes:
    """A file that only its owner may read. InvalidInput says why it can't be used."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            raw = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise InvalidInput(f"{path} can be read or written by others (mode {mode:04o}): chmod 600 {path}")
    if len(raw) > bytes_max:
        raise InvalidInput(f"{path} has more than {bytes_max} bytes: is it the right file?")
    return raw
