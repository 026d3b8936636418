"""Every limit of Treadle by name, its unit in its name, in one place.

    config = TreadleConfig(concurrency=32, shutdown_s_max=3)
    async with Engine.open("sqlite:///runs.db", config=config) as engine: ...

A limit that is reached says so with its name here, and `LimitExceeded` tells how to raise it.
"""

from __future__ import annotations

import hashlib
import math
import os
from typing import Annotated, Literal

import msgspec

from treadle.errors import InvalidInput, LimitExceeded

KB = 1024
MB = 1024 * KB
_MAY_BE_NONE = ("process_max", "memory_mb_max")


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
    process_max: Annotated[int | None, "bodies with isolation `process` at once; None: one a core"] = None
    memory_mb_max: Annotated[int | None, "address space of one process body; None: no limit"] = 2048
    body_output_bytes_max: Annotated[int, "what a process body or a command may print or send back"] = 64 * MB

    # values
    output_inline_bytes_max: Annotated[int, "encoded output in its cell; a larger one is a blob"] = 16 * KB
    blob_file_bytes_max: Annotated[int, "blob in a row; a larger one is a file beside the store"] = 4 * MB
    output_bytes_max: Annotated[int, "encoded output of one attempt"] = 512 * MB
    error_bytes_max: Annotated[int, "recorded text of one error, traceback included"] = 16 * KB
    signal_bytes_max: Annotated[int, "encoded payload of one signal or answer"] = 1 * MB

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
    expression_result_max: Annotated[int, "items of a range or of a repetition in an expression"] = 1_000_000
    file_bytes_max: Annotated[int, "one file that a `db` node reads"] = 256 * MB

    # events
    event_backlog_max: Annotated[int, "cells that wait for one queued consumer; more are joined"] = 100_000
    consumer_errors_max: Annotated[int, "errors after which a consumer is switched off"] = 10

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
        """How many process bodies may run at once: `process_max`, or the number of cores that we may use."""
        if self.process_max is not None:
            return self.process_max
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def exceeded(self, limit: str, what: str) -> LimitExceeded:
        """The error for a limit that was reached: what happened, and how to raise the limit."""
        return LimitExceeded(f"{what}: the limit {limit} is {getattr(self, limit)}; "
                             f"raise it with TreadleConfig({limit}=…)")


DEFAULT_CONFIG = TreadleConfig()
