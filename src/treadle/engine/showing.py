"""How values and errors look to those outside: on the command line, over HTTP."""

from __future__ import annotations

import math
from typing import Any

from treadle.errors import TreadleError

INT_BITS_MAX = 14_000
"""A number with more is written as hexadecimal text."""


def plain(value: Any) -> Any:
    """A value as JSON can hold it: dates as text, tuples as lists, blobs as maps; what has no such form as
    its `repr`."""
    from treadle.nodes.files import plain as written

    if type(value) is dict and all(type(key) is type(one) is str for key, one in value.items()):
        return value  # as are the properties of most nodes
    try:
        return _finite(written(blobs_as_maps(value)))
    except (ValueError, TypeError):
        pass
    try:
        return repr(value)
    except ValueError:  # a number of very many digits in it
        return f"a {type(value).__name__} that can't be written out"


def _finite(value: Any) -> Any:
    """JSON has no NaN and no infinity, and Python writes no number of more than 4300 digits but as hex."""
    if isinstance(value, float) and not math.isfinite(value):
        return repr(value)
    if isinstance(value, int) and value.bit_length() > INT_BITS_MAX:
        return hex(value)
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    return [_finite(one) for one in value] if isinstance(value, list | tuple) else value


def blobs_as_maps(value: Any) -> Any:
    from treadle.state.blob import Blob, fields_of

    if isinstance(value, dict):
        return {key: blobs_as_maps(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [blobs_as_maps(one) for one in value]
    if not isinstance(value, Blob):
        return value
    try:
        return {**fields_of(value), "path": str(value.path())}
    except FileNotFoundError:
        return {**fields_of(value), "path": None}


def message_of(error: BaseException) -> str:
    """What an error says, with the notes that were added to it."""
    if isinstance(error, OSError) and error.filename is not None and not isinstance(error, TreadleError):
        text = f"{error.filename}: {error.strerror}"
    else:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return "\n".join([text or type(error).__name__, *getattr(error, "__notes__", ())])
