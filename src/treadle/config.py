"""Every limit of Treadle by name, its unit in its name, in one place.

    config = TreadleConfig(concurrency=32, shutdown_s_max=3)
    async with Engine.open("sqlite:///runs.db", config=config) as engine: ...

A limit that is reached says so with its name here, and `LimitExceeded` tells how to raise it.

`Retention` says what a store keeps; a project writes it into a file, which `read_retention` finds:

    [retention]                  # treadle.toml; in pyproject.toml it is [tool.treadle.retention]
    older = "30d"
    keep = 1000
    max_size = "2GB"

    [limits]                     # what `read_limits` finds: fields of TreadleConfig
    output_bytes_max = "1GB"

    [plugins.StateLogger]        # what `read_plugins` finds: the settings of plugins by name
    path = "states.jsonl"
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from treadle.errors import InvalidInput, LimitExceeded, did_you_mean

KB = 1024
MB = 1024 * KB
GB = 1024 * MB
_MAY_BE_NONE = ("process_max", "memory_mb_max", "llm_tokens_max")


PROCESSES_MIN = 4
"""Process bodies that may run at once, however few cores there are."""


class TreadleConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The limits of one engine. Every number is larger than 0; InvalidInput names the first that is not."""

    # running
    concurrency: Annotated[int, "node bodies of one execution at once"] = 256
    turn_ms_max: Annotated[float, "what all actors together may take before the event loop breathes"] = 8.0
    map_chunk: Annotated[int, "items of a map, or of a wide fan-out or join, handled in one go"] = 1000
    items_max: Annotated[int, "items of one map"] = 1_000_000
    depth_max: Annotated[int, "sub-diagrams inside one another while running"] = 32
    claims_max: Annotated[int, "starts of one attempt's body that a crash may interrupt"] = 3
    cancel_s_max: Annotated[float, "how long a cancelled body may take to end before it is abandoned"] = 5.0
    shutdown_s_max: Annotated[float, "how long leaving `Engine.open` may take"] = 10.0
    resume_wait_s: Annotated[float, "how near the next wake must be for `treadle run` to wait for it"] = 60.0
    loop: Annotated[Literal["auto", "asyncio", "uvloop"], "auto is uvloop where installed"] = "auto"

    # bodies outside the event loop
    thread_max: Annotated[int, "bodies with isolation `thread` at once"] = 32
    process_max: Annotated[int | None, "isolated bodies at once; None: one a core, but 4 at least"] = None
    memory_mb_max: Annotated[int | None, "address space of one process body; None: no limit"] = 2048
    body_output_bytes_max: Annotated[int, "what a process body or a command may print or send back"] = 64 * MB

    # what bodies print and log
    log_bytes_max: Annotated[int, "of one attempt; of more the first and the last half are kept"] = 64 * KB
    log_line_chars_max: Annotated[int, "one line; a longer one is broken"] = 8 * KB

    # values
    output_inline_bytes_max: Annotated[int, "encoded output in its cell; a larger one is a blob"] = 16 * KB
    blob_file_bytes_max: Annotated[int, "blob in a row, compressed; a larger one is a file"] = 4 * MB
    output_bytes_max: Annotated[int, "encoded output of one attempt"] = 512 * MB
    blob_bytes_max: Annotated[int, "one `Blob`: of a file, of an answer, or made in a body"] = 64 * GB
    error_bytes_max: Annotated[int, "recorded text of one error, traceback included"] = 16 * KB
    signal_bytes_max: Annotated[int, "encoded payload of one signal or answer"] = 1 * MB
    context_value_bytes_max: Annotated[int, "encoded value of one key of the shared context"] = 1 * MB
    context_keys_max: Annotated[int, "keys of the shared context of one execution"] = 1_000_000
    context_tries_max: Annotated[int, "tries of `context.update` before its conflict is an error"] = 100

    # people
    llm_silence_s_max: Annotated[float, "how long a provider may be silent, also amid an answer"] = 300.0
    llm_tokens_max: Annotated[int | None, "what the models of one execution may take; None: no limit"] = None
    tool_result_bytes_max: Annotated[int, "result of one tool; of more the model gets the start"] = 256 * KB
    tool_idle_s: Annotated[float, "how long an MCP server runs on that no node uses"] = 30.0
    tool_s_max: Annotated[float, "one call of an MCP server's tool that says no `timeout`"] = 300.0
    tool_start_s_max: Annotated[float, "what an MCP server may take to start and to list its tools"] = 30.0

    # writing
    batch_size: Annotated[int, "cells in one batch"] = 2000
    batch_interval_s: Annotated[float, "the oldest cell of a batch waits at most this long"] = 0.1
    batch_bytes_max: Annotated[int, "encoded cells of one batch; encoding holds the GIL"] = 8 * MB
    backlog_cells_max: Annotated[int, "unwritten cells at which the engine is slowed down"] = 100_000
    backlog_bytes_max: Annotated[int, "unwritten outputs at which the engine is slowed down"] = 128 * MB
    lease_s: Annotated[float, "how long an owner keeps an execution after its last sign of life"] = 15.0
    write_retry_s_max: Annotated[float, "longest pause between tries while the store is locked or full"] = 1.0
    stop_s_max: Annotated[float, "how long `StateManager.stop` waits for the last flush"] = 10.0
    read_s_max: Annotated[float, "longest read transaction, so that checkpoints get through"] = 1.0
    watch_interval_s: Annotated[float, "how often a watcher asks whether another process has written"] = 0.05
    cache_ttl_s: Annotated[float, "how long the state of an ended execution stays in memory"] = 3600.0

    # reading
    diagram_bytes_max: Annotated[int, "one diagram file"] = 10 * MB
    diagram_depth_max: Annotated[int, "maps and lists inside one another in a diagram file"] = 64
    diagram_values_max: Annotated[int, "values in one diagram file, aliases counted again"] = 2_000_000
    template_chars_max: Annotated[int, "one expression or template"] = 1_000_000
    template_output_chars_max: Annotated[int, "the text that a template gives"] = 64 * MB
    template_turns_max: Annotated[int, "turns of a template's loops; a macro's call counts as 20"] = 5_000_000
    expression_result_max: Annotated[int, "items of a range or of a repetition in an expression"] = 1_000_000
    file_bytes_max: Annotated[int, "one file that a `db` node reads"] = 256 * MB
    import_bytes_max: Annotated[int, "what an export unpacks to, beside its blobs"] = 2048 * MB

    # events
    state_cache_ttl_s: Annotated[float, "without a read, after which an execution leaves the cache"] = 3600.0
    state_cache_executions_max: Annotated[int, "executions in the cache; those read longest ago go"] = 1000
    state_cache_cells_max: Annotated[int, "cells of all executions in the cache"] = 1_000_000
    event_backlog_max: Annotated[int, "cells that wait for one queued consumer; more are joined"] = 100_000
    consumer_errors_max: Annotated[int, "errors after which a consumer is switched off"] = 10

    progress_interval_s: Annotated[float, "a body shows its partial text at most so often"] = 0.25

    # plugins
    hook_errors_max: Annotated[int, "errors after which a hook of a plugin is switched off"] = 10
    hook_ms_max: Annotated[float, "one call of a hook; what takes longer is named in the report"] = 100.0
    hook_backlog_max: Annotated[int, "transitions that wait for hooks; more wait on the bus"] = 10_000

    def __post_init__(self) -> None:
        for field, default in zip(self.__struct_fields__, self.__struct_defaults__, strict=True):
            value = getattr(self, field)
            if field == "loop":
                if value not in ("auto", "asyncio", "uvloop"):
                    raise InvalidInput(f"loop={value!r}: choose auto, asyncio or uvloop")
            elif value is not None or field not in _MAY_BE_NONE:
                kinds = (int, float) if type(default) is float else (int,)
                if type(value) not in kinds or not (math.isfinite(value) and value > 0):
                    kind = "number" if type(default) is float else "whole number"
                    raise InvalidInput(f"{field}={value!r}: the limit must be a {kind} larger than 0")

    @property
    def config_hash(self) -> str:
        """16 hex digits that are equal for equal configurations, in every process."""
        return hashlib.blake2b(msgspec.json.encode(self, order="sorted"), digest_size=8).hexdigest()

    @property
    def processes(self) -> int:
        """How many process bodies may run at once: `process_max`, or the number of cores that we may use. If
        these are few there are more: bodies wait, too, and one that does must not hold up others."""
        if self.process_max is not None:
            return self.process_max
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(cores, PROCESSES_MIN)

    def exceeded(self, limit: str, what: str) -> LimitExceeded:
        """The error for a limit that was reached: what happened, and how to raise the limit."""
        return LimitExceeded(f"{what}: the limit {limit} is {getattr(self, limit)}; "
                             f"raise it with TreadleConfig({limit}=…), or in treadle.toml with "
                             f"`{limit} = …` under [limits]")


DEFAULT_CONFIG = TreadleConfig()


class Retention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a store keeps of executions. Each limit holds on its own: what breaks one of them goes. Without a
    limit, all that `status`, `name` and `execution_ids` choose goes, and nothing if they choose nothing
    either. InvalidInput for a limit that makes no sense."""

    older_s: float | None = None
    """Executions that ended longer ago than this go."""
    keep: int | None = None
    """So many stay, the newest; 0 is none."""
    size_bytes_max: int | None = None
    """The oldest go until the store, with the files of its blobs, is no larger."""
    status: tuple[str, ...] = ()
    """Only these are considered; () are those that ended: completed, failed, cancelled. What somebody runs
    never goes, whatever its status."""
    name: str | None = None
    """Only executions of diagrams with this name are considered."""
    execution_ids: tuple[str, ...] = ()
    """Only these are considered; () are all."""

    def __post_init__(self) -> None:
        for field in ("older_s", "keep", "size_bytes_max"):
            value = getattr(self, field)
            if value is not None and not 0 <= value < math.inf:
                raise InvalidInput(f"{field}={value!r}: it must be a number from 0")
        for one in self.status:
            if one not in STATUSES:
                hint = did_you_mean(one, STATUSES) or f"there is {', '.join(STATUSES)}"
                raise InvalidInput(f"there is no status {one!r}: {hint}")

    @property
    def limited(self) -> bool:
        """Whether it has a limit."""
        return (self.older_s, self.keep, self.size_bytes_max) != (None, None, None)

    def __bool__(self) -> bool:
        return self.limited or bool(self.status or self.execution_ids) or self.name is not None


STATUSES = ("pending", "running", "suspended", "completed", "failed", "cancelled")
"""What `Retention.status` may name; `treadle.state.status` says what they mean."""
_SECONDS = {
    "s": 1, "sec": 1, "second": 1, "m": 60, "min": 60, "minute": 60, "h": 3600, "hour": 3600, "d": 86400,
    "day": 86400, "w": 604800, "week": 604800, "month": 30 * 86400, "y": 365 * 86400, "year": 365 * 86400}
_BYTES = {"b": 1, "byte": 1, "k": KB, "kb": KB, "kib": KB, "m": MB, "mb": MB, "mib": MB, "g": GB, "gb": GB,
          "gib": GB, "t": 1024 * GB, "tb": 1024 * GB, "tib": 1024 * GB}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-z]*)", re.IGNORECASE)


def parse_seconds(text: str, what: str = "a duration") -> float:
    """`30d`, `12 h`, `1h 30min`, `2 weeks`, `45s` as seconds. InvalidInput that begins with `what`."""
    return _parse(text, _SECONDS, what, "write it as 30d, 12h, 1h 30min, 2w or 45s")


def parse_bytes(text: str, what: str = "a size") -> int:
    """`2GB`, `500 MB`, `1.5g`, or bytes alone; 1 KB is 1024 bytes. InvalidInput that begins with `what`."""
    return int(_parse(text, _BYTES | {"": 1}, what, "write it as 2GB, 500MB or 64KB"))


def size_text(number: float) -> str:
    """An amount of bytes: `12 KB`, `3.4 MB`."""
    for unit, factor in (("GB", GB), ("MB", MB), ("KB", KB)):
        if number >= factor:
            amount = number / factor
            return f"{amount:.3g} {unit}" if amount < 1000 else f"{amount:.0f} {unit}"
    return f"{number:.0f} bytes"


def _parse(text: str, units: dict[str, int], what: str, how: str) -> float:
    total, at = 0.0, 0
    while at < len(text.rstrip()) or not at:
        found = _AMOUNT.match(text, at)
        unit = "" if found is None else found[2].lower()
        factor = units.get(unit) or (units.get(unit[:-1]) if unit.endswith("s") else None)
        if found is None or factor is None:
            near = did_you_mean(unit, units) if len(unit) > 2 else None  # units are short: all are near
            raise InvalidInput(f"{what}: {text!r} can't be read: {near or how}")
        total, at = total + float(found[1]) * factor, found.end()
    return total


CONFIG_BYTES_MAX = MB
"""A `treadle.toml` or `pyproject.toml` that is larger is not read."""
_KEYS = ("older", "keep", "max_size", "status", "name")


def read_retention(folder: Path) -> tuple[Retention, Path] | None:
    """The policy of the nearest `treadle.toml`, or `pyproject.toml` with a table `tool.treadle`, in a folder
    or above it, and that file; None if there is none. InvalidInput names the file and what is wrong."""
    table, path, outer = _project(folder) or ({}, folder, "")
    known = table.get("retention")
    return None if known is None else (_retention(known, f"{path}: [{outer}retention]"), path)


def read_limits(folder: Path, config: TreadleConfig = DEFAULT_CONFIG) -> TreadleConfig:
    """A configuration with the limits of the same file, `[limits]`, in place of its own. Bytes may be a text
    as 2GB. InvalidInput names the file and what is wrong."""
    table, path, outer = _project(folder) or ({}, folder, "")
    known, where = table.get("limits", {}), f"{path}: [{outer}limits]"
    if not isinstance(known, dict):
        raise InvalidInput(f"{where} must be a table of limits")
    fields = TreadleConfig.__struct_fields__
    changed: dict[str, Any] = {}
    for name, value in known.items():
        if name not in fields:
            raise InvalidInput(f"{where} there is no limit {name!r}"
                               + (f": {hint}" if (hint := did_you_mean(name, fields)) else ""))
        if isinstance(value, str) and "_bytes_" in name:
            value = parse_bytes(value, f"{where} {name}")
        changed[name] = float(value) if type(value) is int and type(getattr(config, name)) is float else value
    try:
        return msgspec.structs.replace(config, **changed)
    except InvalidInput as error:
        raise InvalidInput(f"{where} {error}") from None


def read_plugins(folder: Path) -> tuple[dict[str, dict[str, Any]], Path] | None:
    """The settings of plugins by name, `[plugins.NAME]` in the same file, and that file; None if there are
    none. InvalidInput names the file and what is wrong."""
    table, path, outer = _project(folder) or ({}, folder, "")
    known = table.get("plugins")
    if known is None:
        return None
    for name, settings in known.items() if isinstance(known, dict) else (("NAME", None),):
        if not isinstance(settings, dict):
            raise InvalidInput(f"{path}: [{outer}plugins.{name}] must be a table of settings")
    return known, path


def _project(folder: Path) -> tuple[dict[str, Any], Path, str] | None:
    """The nearest project file's own table, that file, and what its names begin with."""
    for place in (folder, *folder.parents):
        for path, outer in ((place / "treadle.toml", ""), (place / "pyproject.toml", "tool.treadle.")):
            table = _table(path, outer) if path.is_file() else None
            if table is not None:
                return _only(table, ("retention", "limits", "plugins"), f"{path}: ", outer), path, outer
    return None


def _table(path: Path, outer: str) -> dict[str, Any] | None:
    """A file's own table; None if it has none."""
    import tomllib  # for those who have such a file

    try:
        with path.open("rb") as file:
            raw = file.read(CONFIG_BYTES_MAX + 1)
        if len(raw) > CONFIG_BYTES_MAX:
            raise InvalidInput(f"{path}: it has more than CONFIG_BYTES_MAX={CONFIG_BYTES_MAX} bytes")
        found: Any = tomllib.loads(raw.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        if outer and b"treadle" not in raw:
            return None  # somebody else's file, and somebody else's fault
        raise InvalidInput(f"{path}: it is no TOML: {error}") from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror or error}") from None
    for name in outer.split(".")[:-1]:
        found = found.get(name) if isinstance(found, dict) else None
    if found is not None and not isinstance(found, dict):
        raise InvalidInput(f"{path}: `{outer.rstrip('.')}` must be a table")
    return found


def _only(table: dict[str, Any], known: tuple[str, ...], where: str, outer: str = "") -> dict[str, Any]:
    for key in table:
        if key not in known:
            hint = did_you_mean(key, known) or f"there is {', '.join(known)}"
            raise InvalidInput(f"{where}unknown key `{outer}{key}`: {hint}")
    return table


def _retention(table: Any, where: str) -> Retention:
    if not isinstance(table, dict):
        raise InvalidInput(f"{where} must be a table, with {', '.join(_KEYS)}")
    _only(table, _KEYS, where + " ")
    for key, kinds, kind in (("older", str, "a text as 30d"), ("keep", int, "a whole number"),
                             ("max_size", (str, int), "a text as 2GB"), ("name", str, "a text"),
                             ("status", (str, list), "a status or a list of them")):
        if key in table and (not isinstance(table[key], kinds) or isinstance(table[key], bool)):
            raise InvalidInput(f"{where} {key} = {table[key]!r}: it must be {kind}")
    status = table.get("status", [])
    try:
        return Retention(
            older_s=None if "older" not in table else parse_seconds(table["older"], "older"),
            keep=table.get("keep"), name=table.get("name"),
            size_bytes_max=(None if "max_size" not in table
                            else parse_bytes(str(table["max_size"]), "max_size")),
            status=(status,) if isinstance(status, str) else tuple(map(str, status)))
    except InvalidInput as error:
        raise InvalidInput(f"{where} {error}") from None
