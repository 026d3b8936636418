"""An execution on a terminal: how far it is, its graph with the state of each node, the last errors.

`Screen` is told what a viewer is told (a snapshot, then changed fields) and draws what fits the window: the
graph with its arrows where there is room, else the nodes that matter most.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from treadle.cli.drawing import lanes
from treadle.cli.render import per_second, seconds, spent, tame

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.text import Text

    from treadle.cli.drawing.picture import Picture

ICONS = {"pending": "·", "scheduled": "·", "running": "", "suspended": "‖", "retrying": "↻", "completed": "✓",
         "failed": "✗", "skipped": "-", "cancelled": "⊘", "stale": "?"}
PLAIN = {**ICONS, "pending": ".", "scheduled": ".", "suspended": "=", "retrying": "~", "completed": "+",
         "failed": "x", "cancelled": "/"}
STYLES = {"running": "cyan", "suspended": "yellow", "retrying": "yellow", "completed": "green",
          "failed": "bold red", "skipped": "dim", "cancelled": "magenta", "pending": "dim",
          "scheduled": "dim", "stale": "bold yellow"}
SPIN = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
SPINS_A_SECOND = 8
BAR, SMALL_BAR = 28, 16
"""Cells that the bars take."""
NARROW = 50
"""A window of fewer cells has no bars."""
NAME_MIN, FACTS = 8, 34
"""Cells that a name has in any case, and those that are kept for what is said behind it."""
ERRORS_SHOWN = 3
_MATTERS = ("failed", "retrying", "suspended", "stale", "running", "cancelled", "completed", "skipped",
            "scheduled", "pending")
"""Which nodes are shown first where not all fit."""


class Screen:
    """What is known of one execution, and how it looks now: a renderable of rich."""

    def __init__(self, picture: Picture | None = None, *, ascii_only: bool = False) -> None:
        self.execution: dict[str, Any] = {}
        self.nodes: dict[str, dict[str, Any]] = {}
        self.under_way = ""  # what runs, in words: shown where no nodes are known
        self.talking: list[tuple[str, str]] = []  # who says what at the moment: its end
        self.spent = ""  # tokens and cost, in words
        self._picture = picture
        self._rows = [] if picture is None else list(lanes.rows(picture, ascii_only=ascii_only))
        self._ascii = ascii_only
        self._width = 80  # of the window
        self._errors: deque[str] = deque(maxlen=ERRORS_SHOWN)
        self._began = time.monotonic()

    def take(self, payload: Mapping[str, Any]) -> None:
        """Merge a snapshot or an update into what is known."""
        self.execution.update(payload.get("execution") or {})
        for path, fields in (payload.get("nodes") or {}).items():
            if fields is None:
                self.nodes.pop(path, None)
                continue
            node = self.nodes.setdefault(path, {})
            node.update(fields)
            error = fields.get("error")
            if error:
                self.complain(f"{path}: {error['type']}: {error['message']}".partition("\n")[0])

    def take_text(self, message: str) -> None:
        """The same for a message as viewers get it."""
        self.take(msgspec.json.decode(message).get("payload") or {})

    def complain(self, text: str) -> None:
        """Show a line among the last errors."""
        text = tame(text)
        if text not in self._errors:
            self._errors.append(text)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height, self._width = max(3, (options.height or console.height) - 1), options.max_width
        head = [self._head()]
        talking = self.talking if self.execution.get("status") in (None, "running") else []
        tail = [self._said(who, text, options.max_width) for who, text in talking]
        tail += [self._text(f"  {'x' if self._ascii else '✗'} {error}", "red") for error in self._errors]
        room = max(1, height - len(head) - len(tail))
        for line in (*head, *self._body(room), *tail):
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line

    # Parts

    def _head(self) -> Text:
        one = self.execution
        done, total = one.get("done") or 0, max(one.get("total") or 0, one.get("done") or 0)
        rate, status = one.get("rate") or 0.0, str(one.get("status") or "pending")
        name = str(one.get("name") or "")
        text = self._text(status, STYLES.get(status, ""))
        text.append(f"{self._bar(done, total, BAR)} {done}/{total}")
        if rate and status == "running":
            text.append(f"  {per_second(rate)}")
            if total > done:
                text.append(f", {seconds((total - done) / rate)} to go", "dim")
        if one.get("retries"):
            text.append(f"  {one['retries']} retries", "yellow")
        elapsed = self._elapsed()
        if elapsed is not None:
            text.append(f"  {seconds(elapsed)}", "dim")
        taken = self.spent or spent({"tokens": one.get("tokens") or 0, "cost": one.get("cost") or 0})
        if taken:
            text.append(f"  {taken}", "dim")
        line = self._text(f"{self._icon(status)} ", STYLES.get(status, ""))
        line.append(f"{self._cut(name, self._width - 3 - text.cell_len)} ", "bold")
        return line.append_text(text)

    def _said(self, who: str, text: str, width: int) -> Text:
        """Who talks, and the end of what they have said so far, on one line."""
        line = self._text(f"  {who} ", "cyan")
        said, room = tame(" ".join(text.split())), max(10, width - len(who) - 4)
        line.append(said if len(said) <= room else f"…{said[1 - room:]}")
        return line

    def _elapsed(self) -> float | None:
        begun = self.execution.get("started_at") or self.execution.get("created_at")
        if begun is None:
            return None
        return max(0.0, (self.execution.get("ended_at") or time.time()) - float(begun))

    def _body(self, room: int) -> Iterator[Text]:
        if self._rows and len(self._rows) <= room:
            yield from self._graph()
        elif not self.nodes:
            yield self._text(self.under_way, "cyan")
        elif len(self.nodes) <= room:
            yield from (self._line(path) for path in self.nodes)
        else:
            yield from self._most(room)

    def _graph(self) -> Iterator[Text]:
        assert self._picture is not None
        from rich.cells import cell_len, set_cell_size

        longest = max((cell_len(shape.id) for shape in self._picture.shapes), default=0)
        beside = max((len(row.lanes) for row in self._rows), default=0)
        width = min(longest, max(NAME_MIN, self._width - beside - FACTS))
        for row in self._rows:
            if row.shape is None:
                yield self._text(row.lanes, "dim")
                continue
            path = self._picture.shapes[row.shape].id
            status = self._status(path)
            text = self._text(row.lanes[:row.column], "dim")
            text.append(self._icon(status), STYLES.get(status, ""))
            text.append(f"{row.lanes[row.column + 1:]} ", "dim")
            name = set_cell_size(self._cut(path, width), width)
            text.append(name, {"running": "bold", "pending": "dim"}.get(status, ""))
            text.append_text(self._facts(path))
            yield text

    def _line(self, path: str) -> Text:
        status, facts = self._status(path), self._facts(path)
        text = self._text(f"{self._icon(status)} ", STYLES.get(status, ""))
        text.append(self._cut(path, self._width - 2 - facts.cell_len))
        text.append_text(facts)
        return text

    def _cut(self, name: str, cells: int) -> str:
        """A name in so many cells, or as many as it has in any case: what is behind it says more than all of
        a long one."""
        from rich.cells import cell_len, set_cell_size

        cells, mark = max(NAME_MIN, cells), "." if self._ascii else "…"
        return name if cell_len(name) <= cells else f"{set_cell_size(name, cells - 1)}{mark}"

    def _most(self, room: int) -> Iterator[Text]:
        """The nodes that matter most, and of the rest how many there are."""
        by_status: dict[str, list[str]] = {}
        for path in self.nodes:
            by_status.setdefault(self._status(path), []).append(path)
        left = room - 1
        for status in _MATTERS:
            mine = by_status.get(status, [])
            if not mine or left <= 0 or (status in ("completed", "skipped", "scheduled", "pending")):
                continue
            for path in mine[-left:]:
                yield self._line(path)
            left -= min(left, len(mine))
        text = self._text("  ")
        for status in _MATTERS:
            if status in by_status:
                text.append(f"{self._icon(status)} {len(by_status[status])} {status}  ",
                            STYLES.get(status, ""))
        yield text

    def _facts(self, path: str) -> Text:
        """What is to be said of a node behind its name."""
        node = self.nodes.get(path, {})
        text = self._text("")
        group = node.get("group")
        if group:
            counts, total = Counter(group.get("counts") or {}), group.get("total") or 0
            ended = sum(counts[name] for name in ("completed", "failed", "skipped", "cancelled"))
            text.append(f"{self._bar(ended, total, SMALL_BAR)} {ended}/{total}")
            if counts["failed"]:
                text.append(f", {counts['failed']} failed", "red")
        if node.get("iteration") not in (None, "1"):
            text.append(f"  #{node['iteration']}", "dim")
        if (node.get("attempt") or 1) > 1:
            text.append(f"  attempt {node['attempt']}", "yellow")
        begun, ended_at = node.get("started_at"), node.get("ended_at")
        if begun is not None:
            took = (ended_at or time.time()) - begun
            if took >= 0.1:
                text.append(f"  {seconds(took)}", "dim")
        if node.get("status") == "running" and node.get("partial") and not self.talking:
            text.append(f"  {node['partial']:,} characters so far", "dim")
        request = node.get("request")
        if node.get("status") in ("suspended", "retrying"):
            what = (request or {}).get("name") or (request or {}).get("prompt")
            text.append(f"  waits for {what}" if what else "", "yellow")
            if node.get("wake_at"):
                text.append(f"  {seconds(max(0.0, node['wake_at'] - time.time()))} to wait", "dim")
        return text

    def _status(self, path: str) -> str:
        status = str(self.nodes.get(path, {}).get("status") or "pending")
        return "stale" if status == "running" and self.execution.get("status") == "stale" else status

    def _icon(self, status: str) -> str:
        if status == "running":
            turn = int((time.monotonic() - self._began) * SPINS_A_SECOND)
            return "|/-\\"[turn % 4] if self._ascii else SPIN[turn % len(SPIN)]
        return (PLAIN if self._ascii else ICONS).get(status, " ")

    def _bar(self, done: int, total: int, width: int) -> str:
        """A bar with room before it, where the window is wide enough."""
        if self._width < NARROW:
            return " "
        full = round(width * min(done, total) / total) if total else 0
        bar = ("#" * full + "." * (width - full)) if self._ascii else "━" * full + "╌" * (width - full)
        return f"  {bar}"

    def _text(self, text: str, style: str = "") -> Text:
        from rich.text import Text

        return Text(text, style)
