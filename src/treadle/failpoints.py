"""Named places at which a test can kill, delay or fail the process. Nothing happens unless one is armed.

A seam says `if failpoints.armed: failpoints.hit("commit.before")`, which costs one global load. Seams:
`seal.before seal.after statement.before statement.after commit.before commit.after lease.before lease.after
blob.before blob.after publish.before publish.after perform.before perform.after`.

A child process is armed by its environment: `TREADLE_FAILPOINT=commit.before:kill:3` kills it with SIGKILL at
the third hit.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

SEAMS = ("seal.before", "seal.after", "statement.before", "statement.after", "commit.before", "commit.after",
         "lease.before", "lease.after", "blob.before", "blob.after", "publish.before", "publish.after",
         "perform.before", "perform.after")
"""Every seam there is."""

armed = False
"""Whether any seam is armed; seams ask this before they call `hit`."""

_actions: dict[str, tuple[Callable[[], None], int]] = {}
_hits: dict[str, int] = {}


def arm(name: str, action: Callable[[], None], after: int = 1) -> None:
    """Run `action` at the `after`-th hit of a seam, and at every later one. ValueError for an unknown
    seam."""
    global armed
    if name not in SEAMS:
        raise ValueError(f"there is no seam {name!r}; seams are {', '.join(SEAMS)}")
    _actions[name] = (action, after)
    _hits[name] = 0
    armed = True


def disarm() -> None:
    """Forget everything that was armed."""
    global armed
    _actions.clear()
    _hits.clear()
    armed = False


def hit(name: str) -> None:
    """A seam is passed."""
    found = _actions.get(name)
    if found is not None:
        _hits[name] += 1
        if _hits[name] >= found[1]:
            found[0]()


def kill() -> None:
    """End this process as a power cut would: SIGKILL, no clean-up of any kind."""
    os.kill(os.getpid(), signal.SIGKILL)


def _arm_from_environment() -> None:
    wanted = os.environ.get("TREADLE_FAILPOINT")
    if wanted:
        name, _, rest = wanted.partition(":")
        action, _, after = rest.partition(":")
        if action != "kill":
            raise ValueError(f"TREADLE_FAILPOINT={wanted!r}: say NAME:kill or NAME:kill:N")
        arm(name, kill, int(after or 1))


_arm_from_environment()
