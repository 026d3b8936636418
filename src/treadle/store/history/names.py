"""Names of files and folders for any execution, node and iteration, on any file system.

Letters, digits, `_`, `-`, `[` and `]` of a path stay, `/` becomes `+`, and every other character `%XX` for
each byte of its UTF-8. A path that ends like an iteration (`a_iter2`) has its last underscore written as
`%5F`. So two paths never have one name. What would be too long is cut, and what differs from another name of
the folder in its case only is kept apart: both get `%~` and a part of the SHA-256 of what they stand for. No
name has to be read back: every file says whose it is.
"""

from __future__ import annotations

import hashlib
import re
from datetime import datetime

from treadle.state.cell import ExecutionCell

INIT, FINAL, CONTEXT, BLOBS = "state_init.json", "state_final.json", "state_context.json", "blobs"
NODE, NODE_FINAL = "state_node_", "_final.json"
STEM_CHARS_MAX = 180
"""Of what stands for a node and its iteration, so that no name has more than 255 bytes."""
NAME_CHARS_MAX, ID_CHARS_MAX = 60, 120
"""Of a diagram's name and an execution's id in the name of a folder."""
_DIGEST_CHARS = 24
_ATTEMPT = re.compile(r"state_node_.+_attempt[0-9]+\.json\Z")
_LIKE_A_TURN = re.compile(r"_(?=iter[\d.]+\Z)")


def of_node(path: str) -> str:
    """What stands for a node in the names of its files."""
    return _LIKE_A_TURN.sub("%5F", _escaped(path, "_-[]/").replace("/", "+"))


def of_attempt(path: str, iteration: str) -> str:
    """What stands for a node in an iteration."""
    return of_node(path) if iteration == "1" else f"{of_node(path)}_iter{iteration}"


def of_execution(execution_id: str) -> str:
    """What stands for an execution at the end of its folder's name."""
    return fitted(_escaped(execution_id, "_-"), execution_id, ID_CHARS_MAX)


def of_folder(cell: ExecutionCell) -> str:
    """`2023-07-20_133452_pipeline_01H3XYZ9`: when an execution was created, in local time, its diagram's name
    and its id."""
    at = datetime.fromtimestamp(cell.created_at or cell.started_at or 0.0).strftime("%Y-%m-%d_%H%M%S")
    name = fitted(_escaped(cell.name, "_-"), cell.name, NAME_CHARS_MAX) or "diagram"
    return f"{at}_{name}_{of_execution(cell.execution_id)}"


def is_attempt(name: str) -> bool:
    """Whether a file is that of an attempt, by its name."""
    return _ATTEMPT.match(name) is not None


def fitted(stem: str, exact: str, chars_max: int = STEM_CHARS_MAX) -> str:
    """A name that is short enough, as it is or cut."""
    return stem if len(stem) <= chars_max else apart(stem[:chars_max - _DIGEST_CHARS - 2], exact)


def apart(stem: str, exact: str) -> str:
    """A name that no other thing has, whatever `stem` is."""
    return f"{stem}%~{hashlib.sha256(_bytes(exact)).hexdigest()[:_DIGEST_CHARS]}"


def _escaped(text: str, kept: str) -> str:
    return "".join(
        c if c.isascii() and (c.isalnum() or c in kept) else "".join(f"%{byte:02X}" for byte in _bytes(c))
        for c in text)


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")
