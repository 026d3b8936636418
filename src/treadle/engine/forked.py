"""What becomes of an engine in a process that was forked from its own, by an inline body for instance.

The copy has the event loop and the open files, but neither the writer thread nor the right to write: going
on would perform nodes twice. Code in the copy may run to its own end (`os._exit`, `exec`, the target of a
`multiprocessing.Process`); where it would come back to the engine the copy ends.
"""

from __future__ import annotations

import asyncio
import os
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner

_open: weakref.WeakSet[Guard] = weakref.WeakSet()
_TOLD = (b"treadle: this process is a copy that was forked while an engine was open (by an inline body?); it "
         b"ends here, where it would have gone on with the engine's work. Leave a forked copy with "
         b"os._exit(), or use subprocess.\n")


class Guard:
    """Ends copies of this process where they come back to an engine: from its making until `close`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, runners: Mapping[str, WorkflowRunner]) -> None:
        self._loop, self._runners = loop, runners
        _open.add(self)

    def close(self) -> None:
        _open.discard(self)

    def strike(self) -> None:
        """This is a copy: let it end as soon as a body is over or the loop turns."""
        for runner in self._runners.values():
            # Not in the runner's class, where asking "am I a copy?" would cost each node something.
            vars(runner).update(returned=_end, raised=_end)
        if not self._loop.is_closed():
            self._loop.call_soon(_end)


def _end(*_: Any) -> None:
    os.write(2, _TOLD)
    os._exit(0)


def _in_the_copy() -> None:
    for guard in list(_open):
        guard.strike()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_the_copy)
