"""An execution as one HTML file: the page with its answers in it, to look at without a server or a network.

It is the page that the server shows, and what the server would answer. Modules become `data:` URLs that an
import map names, so a file works as it lies on a disk; its policy allows no connection anywhere.
"""

from __future__ import annotations

import base64
import json
import mimetypes
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import msgspec

from treadle.errors import TreadleError
from treadle.ids import parse_iteration
from treadle.monitor.api.executions import LogQuery, context, execution, logs, timeline
from treadle.monitor.api.nodes import NodeQuery, mirrored, node
from treadle.monitor.api.routing import Ask
from treadle.monitor.api.seen import Seen
from treadle.monitor.app import STATIC
from treadle.monitor.auth import Viewer
from treadle.monitor.core import Monitor
from treadle.monitor.views import parent_of
from treadle.state.cell import ExecutionCell, NodeState, turn_of
from treadle.state.status import NodeStatus
from treadle.store.base import Store

DETAILS_MAX = 1000
"""Attempts whose inputs and outputs are in the file; failed ones come first."""
WORK_MAX = 600_000
"""Such attempts by all attempts: what each got is worked out from all of them."""
DETAILS_BYTES_MAX = 16 * 1024 * 1024
"""What those take together; the rest is left out."""
ATTEMPTS_MAX = 20
"""Of one node."""
LINES_MAX = 20_000
"""Lines of logs in the file, the oldest."""
PICTURE_BYTES_MAX = 1024 * 1024
"""A picture that is larger is not in the file."""
WORKER_NODES_MAX = 1200
"""Larger diagrams are laid out without it."""
PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
ENTRY = re.compile(r'<script type="module"[^>]*src="\./assets/([\w.-]+)"')
NEIGHBOUR = re.compile(r"""(["'`])\./([\w.-]+\.js)\1""")
LOADED_FIRST = re.compile(r"__vite__mapDeps\(\[[\d,]*\]\)")
NAMED_WORKER = re.compile(r"""new URL\((["'`])(?:\./)?elk-worker[\w.-]+\1,\s*import\.meta\.url\)""")
WORKER = ('new URL(URL.createObjectURL(new Blob([document.getElementById("treadle-worker").textContent],'
          '{type:"text/javascript"})))')
POLICY = ("default-src 'none'; script-src 'unsafe-inline' data:; style-src 'unsafe-inline'; img-src data:; "
          "worker-src blob:; font-src data:; base-uri 'none'; form-action 'none'")


class Page(msgspec.Struct, frozen=True):
    """The file's text. `left_out`: attempts without their inputs and outputs, lines of logs that are not in
    it."""

    html: str
    attempts_left_out: int
    lines_left_out: bool


class _Still(Monitor):
    """Reads an execution once, even if it goes on."""

    def __init__(self, store: Store, cell: ExecutionCell, cells: list[NodeState]) -> None:
        super().__init__(store)
        self._read = Seen.of(cell, cells)

    def seen(self, execution_id: str, own: ExecutionCell | None = None) -> Seen:
        return self._read


def page(store: Store, execution_id: str) -> Page:
    """An execution as one HTML file. NoSuchExecution; TreadleError where the page is not built."""
    cell, cells = store.load(store.summary(execution_id).cell.execution_id)
    monitor, name = _Still(store, cell, cells), cell.execution_id

    def ask(operation: Any, query: Any = None) -> Any:
        asked = Ask(monitor, Viewer(may_write=False), {"id": name}, query, None, cast(Any, None))
        return msgspec.to_builtins(operation(asked), str_keys=True)

    of = f"executions/{quote(name, safe='')}"
    summary = store.summary(name)
    answers = {of: ask(execution), f"{of}/timeline": ask(timeline), f"{of}/context": ask(context)}
    shared = answers[f"{of}/context"]
    snapshot = {**mirrored(monitor, cell, cells, summary).payload,
                "context": {space: shared[space] for space in ("artifacts", "variables", "plugins")}}
    diagram = monitor.drawings.drawn(store, cell.diagram)
    if diagram is not None:  # else the table and the timeline have to do
        answers[f"{of}/diagram"] = msgspec.to_builtins(diagram, str_keys=True)
    nodes: dict[str, list[Any]] = {}
    room = DETAILS_BYTES_MAX
    told = 0
    for one in _chosen(cells):
        detail = _with_pictures(ask(node, NodeQuery(one.node_id, one.iteration, one.attempt)), store)
        room -= len(msgspec.json.encode(detail))
        if room < 0:
            break
        nodes.setdefault(one.node_id, []).append(detail)
        told += 1
    for mine in nodes.values():
        mine.sort(key=lambda detail: (parse_iteration(detail["iteration"]), detail["attempt"]))
    said = ask(logs, LogQuery(limit=10_000))["items"]
    if len(said) == 10_000:
        said += ask(logs, LogQuery(after=said[-1]["id"], limit=LINES_MAX - 10_000))["items"]
    recorded = {"id": name, "at": time.time(), "snapshot": snapshot,
                "answers": _with_pictures(answers, store), "nodes": nodes, "logs": said}
    drawn = answers.get(f"{of}/diagram", {}).get("nodes", ())
    html = assembled(STATIC, recorded, cell.name or name, draws=0 < len(drawn) <= WORKER_NODES_MAX)
    return Page(html, len(cells) - told, len(said) >= LINES_MAX)


def _chosen(cells: list[NodeState]) -> list[NodeState]:
    """Whose inputs and outputs are in the file, as long as there is room: the newest of each node first, of
    these those that failed or wait, and nodes of the diagram itself before those inside groups."""
    by_node: dict[str, list[NodeState]] = {}
    for cell in sorted(cells, key=turn_of, reverse=True):
        by_node.setdefault(cell.node_id, []).append(cell)
    ranked = [(age, cell) for mine in by_node.values() for age, cell in enumerate(mine[:ATTEMPTS_MAX])]
    urgent = (NodeStatus.FAILED, NodeStatus.SUSPENDED)
    ranked.sort(key=lambda one: (one[0], one[1].status not in urgent, parent_of(one[1].node_id) != ""))
    most = max(1, min(DETAILS_MAX, WORK_MAX // max(1, len(cells))))
    return [cell for _, cell in ranked[:most]]


def _with_pictures(value: Any, store: Store) -> Any:
    """The value with its pictures in it; other blobs lose the address at which the server has them."""
    if isinstance(value, list):
        return [_with_pictures(one, store) for one in value]
    if not isinstance(value, dict):
        return value
    if "$blob" in value and "url" in value:
        return {**value, "url": _picture(value, store)}
    return {key: _with_pictures(one, store) for key, one in value.items()}


def _picture(blob: Mapping[str, Any], store: Store) -> str | None:
    kind = mimetypes.guess_type(str(blob.get("name")))[0]
    if kind not in PICTURES or (blob.get("size") or 0) > PICTURE_BYTES_MAX:
        return None
    try:
        with store.open_blob(str(blob["$blob"])) as file:
            content = file.read(PICTURE_BYTES_MAX + 1)
    except (KeyError, FileNotFoundError):
        return None
    return None if len(content) > PICTURE_BYTES_MAX else _data(kind, content)


def assembled(static: Path, recorded: Mapping[str, Any], title: str, *, draws: bool) -> str:
    """The built page in `static` as one file, with what was recorded; `draws`: with what lays out a graph.
    TreadleError where it is not built."""
    index = static / "index.html"
    if not index.is_file():
        raise TreadleError("the page is not built: say `make web` in Treadle's sources")
    entry = ENTRY.search(index.read_text(encoding="utf-8"))
    if entry is None:
        raise TreadleError(f"{index} names no script: build the page again, with `make web`")
    modules = {path.name: path.read_text(encoding="utf-8") for path in sorted(static.glob("assets/*.js"))}
    icon = _data("image/svg+xml", (static / "icon.svg").read_bytes())
    worker = "".join([modules.pop(name) for name in list(modules) if name.startswith("elk-worker")])
    imports = {f"treadle/{name}": _data("text/javascript", _module(text, modules, icon).encode())
               for name, text in modules.items()}
    styles = "\n".join(path.read_text(encoding="utf-8")
                       for path in sorted(static.glob("assets/*.css"), key=_order(entry[1])))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}</title>
<link rel="icon" href="{icon}">
<style>{styles}</style>
<script type="application/json" id="treadle-recorded">{_json(recorded)}</script>
<script type="text/plain" id="treadle-worker">{worker if draws and "</" not in worker else ""}</script>
<script type="importmap">{_json({"imports": imports})}</script>
<script type="module">import "treadle/{entry[1]}";</script>
</head>
<body><div id="root"></div></body>
</html>
"""


def _order(entry: str) -> Any:
    """Styles of the whole page come before those of its parts."""
    first = entry.partition("-")[0]
    return lambda path: (path.name.partition("-")[0] != first, path.name)


def _module(text: str, modules: Mapping[str, str], icon: str) -> str:
    """A module whose imports are names of the import map. It finds the worker in the page, and has no
    neighbours to load first."""
    text = NEIGHBOUR.sub(lambda found: f'"treadle/{found[2]}"' if found[2] in modules else found[0], text)
    text = NAMED_WORKER.sub(WORKER, text).replace("./icon.svg", icon)
    return LOADED_FIRST.sub("[]", text).replace("import.meta.url", "document.baseURI")


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _json(value: Any) -> str:
    """JSON in which no tag ends or begins. Halves of surrogate pairs are escaped."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def _text(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")
