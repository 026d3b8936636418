"""Who owns an execution, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import uuid
from functools import cache
from pathlib import Path

from treadle.store.base import Owner


def this_owner() -> Owner:
    """A fresh owner in this process."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _boot_id(), pid, _started(pid) or 0.0, uuid.uuid4().hex)


def is_dead(owner: Owner) -> bool:
    """Whether an owner on this host has certainly ended. False for another host: only its lease can tell."""
    if owner.host != socket.gethostname():
        return False
    if owner.boot_id != _boot_id():
        return True
    started = _started(owner.pid)
    if started is None:
        return not _exists(owner.pid)
    return started != owner.started


@cache
def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""  # not Linux: the pid and its start time must do


def _started(pid: int) -> float | None:
    """A process's start in clock ticks since boot, None if it isn't there or the system doesn't say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else float(fields[19])  # a zombie runs nothing any more


def _exists(pid: int) -> bool:
    if Path("/proc/self/stat").exists():
        return False  # /proc would have told
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
