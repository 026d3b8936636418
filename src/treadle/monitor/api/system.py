"""What is not about one execution: comparison, plugins, figures, health."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle import __version__
from treadle.engine.differences import Recorded, compare, document
from treadle.engine.showing import plain
from treadle.errors import StoreError
from treadle.monitor.api.routing import Ask, operation
from treadle.monitor.core import Refused

BEGAN = time.time()


class DiffQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Two executions, by their ids or the first characters of these."""

    a: str
    b: str


class Side(msgspec.Struct, frozen=True):
    """One of the two executions. `seconds`: from its start to its end."""

    execution_id: str
    name: str
    status: str
    seconds: float | None


class Spot(msgspec.Struct, frozen=True):
    """A place in a value; `a` or `b` is missing where that one has nothing there."""

    path: str
    a: Any = msgspec.UNSET
    b: Any = msgspec.UNSET


class Spots(msgspec.Struct, frozen=True):
    """How two values differ: the first thousand places, and how many there are; or a `note` that stands for
    values that are too large, or can't be read."""

    count: int
    note: str | None
    places: list[Spot]


class DiagramDiff(msgspec.Struct, frozen=True):
    """How the diagrams differ: nodes, of the changed ones what, and what isn't about a node."""

    added: list[str]
    removed: list[str]
    changed: dict[str, str]
    other: list[str]


class NodeDiff(msgspec.Struct, frozen=True):
    """How the last attempts of a node in an iteration differ; null is the same on both sides. `only`: the
    other execution has no such node. `seconds`: where they are worth a word."""

    node: str
    iteration: str
    only: Literal["a", "b"] | None
    status: tuple[str, str] | None
    attempts: tuple[int, int] | None
    port: tuple[str, str] | None
    error: tuple[str | None, str | None] | None
    output: Spots | None
    seconds: tuple[float, float] | None


class Diff(msgspec.Struct, frozen=True):
    """What differs between `a` and `b`; `alike` counts the nodes that are the same."""

    same: bool
    a: Side
    b: Side
    status: tuple[str, str] | None
    error: tuple[str | None, str | None] | None
    inputs: Spots | None
    context: Spots | None
    output: Spots | None
    diagram: DiagramDiff
    nodes: list[NodeDiff]
    alike: int


@operation("GET", "/api/diff")
def diff(ask: Ask[DiffQuery, None]) -> Diff:
    """What differs between two executions: diagram, inputs, and of each node status, output, error, times."""
    store, query = ask.monitor.store, ask.query
    a, b = Recorded.load(store, query.a), Recorded.load(store, query.b)
    return msgspec.convert(plain(document(a, b, compare(a, b))), Diff)


class PluginView(msgspec.Struct, frozen=True):
    name: str
    version: str
    origin: str
    hooks: list[str]
    active: bool


class Plugins(msgspec.Struct, frozen=True):
    """The plugins of the server's working folder. `active`: of its engine."""

    plugins: list[PluginView]
    problems: list[str]
    notes: list[str]


@operation("GET", "/api/plugins")
def plugins(ask: Ask[None, None]) -> Plugins:
    """Which plugins there are, with their hooks, and what is wrong with them. Without an engine there are
    none: to know them is to load them."""
    from treadle.hooks.finding.discovery import find

    if ask.monitor.engine is None:
        return Plugins([], [], ["this server only looks on, and loads no plugins"])
    found, active = find(None), set(ask.monitor.engine.active_plugins)
    return Plugins([PluginView(one.name, one.version, one.origin, list(one.hooks), str(one) in active)
                    for one in found.plugins], found.problems, found.notes)


class StoreStats(msgspec.Struct, frozen=True):
    """`size_bytes`: of the file, its log, and its files of blobs; null for a store that is no file."""

    url: str
    size_bytes: int | None
    encrypted: bool


class EngineStats(msgspec.Struct, frozen=True):
    """The engine of this server. `queue`: updates that are not written yet; `trouble`: why the store can't be
    written at the moment."""

    running: list[str]
    queue: int
    trouble: str | None
    durability: str
    updates: dict[str, int]


class Stats(msgspec.Struct, frozen=True):
    version: str
    began_at: float
    rss_bytes: int
    may_write: bool
    store: StoreStats
    engine: EngineStats | None


@operation("GET", "/api/stats")
def stats(ask: Ask[None, None]) -> Stats:
    """Figures of this server: its store, its engine, and what one may do with the token that one has."""
    monitor = ask.monitor
    engine = monitor.engine
    figures = None
    if engine is not None:
        manager = engine.manager
        figures = EngineStats(list(engine.running), 0 if manager is None else manager.queue_depth,
                              None if manager is None else manager.trouble, engine.durability,
                              {} if manager is None else dict(manager.stats))
    url = monitor.store.url
    return Stats(__version__, BEGAN, _rss(), ask.viewer.may_write and engine is not None,
                 StoreStats(url, _size(url), monitor.store.place.cipher is not None), figures)


def _size(url: str) -> int | None:
    if not url.startswith("sqlite:///"):
        return None
    path = Path(url.removeprefix("sqlite:///"))
    total = 0
    for one in (path, Path(f"{path}-wal")):
        if one.exists():
            total += one.stat().st_size
    for folder, _, files in os.walk(f"{path}.blobs"):
        for name in files:
            try:
                total += os.stat(os.path.join(folder, name)).st_size
            except FileNotFoundError:  # it was pruned just now
                continue
    return total


def _rss() -> int:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used * 1024


class Health(msgspec.Struct, frozen=True):
    status: Literal["ok"]


@operation("GET", "/healthz", public=True)
async def healthz(ask: Ask[None, None]) -> Health:
    """Whether this process answers. It needs no token."""
    return Health("ok")


@operation("GET", "/readyz", public=True)
def readyz(ask: Ask[None, None]) -> Health:
    """Whether the store can be read, and the engine writes. It needs no token, and says no more."""
    try:
        ask.monitor.store.signals([])
    except StoreError:
        raise Refused(503, "NotReady", "the store can't be read") from None
    engine = ask.monitor.engine
    manager = None if engine is None else engine.manager
    if manager is not None and manager.trouble:
        raise Refused(503, "NotReady", "the store can't be written at the moment")
    return Health("ok")
