"""Results on their way into cells: as facts for the kernel, large ones aside as blobs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import msgspec

from treadle.engine.cleaning import clean
from treadle.engine.values import Reference
from treadle.kernel.facts import Finished
from treadle.state import codec
from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.envelope import Envelope
from treadle.state.status import ExecutionStatus

if TYPE_CHECKING:
    from treadle.engine.runner import WorkflowRunner


def finished(runner: WorkflowRunner, slot: int, started: float | None, raw: bytes,
             envelope: Envelope) -> Finished:
    """The fact that a body returned an envelope, whose encoded body is `raw`."""
    meta, kind = envelope.meta, envelope.content_type
    port = rest = None
    if meta:
        port = meta.get("port")
        kept = {key: value for key, value in meta.items() if key != "port" and key != "timestamp"}
        rest = codec.encode(kept) if kept else None
        if runner.redactor is not None:
            rest = None if rest is None else clean(runner.redactor, rest)
            port = None if port is None else runner.redactor.text(port)
    return aside(runner, Finished(slot, runner.now(), started, raw, port, None,
                                  None if kind == "object" else str(kind), rest))


def aside(runner: WorkflowRunner, fact: Finished) -> Finished:
    """The same fact, with a large output as a blob that is written with the fact's step."""
    if fact.output is None or len(fact.output) <= runner.config.output_inline_bytes_max:
        return fact
    digest = runner.values.aside(fact.output, runner.kernel.readers(fact.slot))
    if digest is None:
        return fact
    runner.blobs.append((digest, fact.output))
    return msgspec.structs.replace(fact, output=None, blob=digest)


def with_output(runner: WorkflowRunner, execution: ExecutionCell) -> ExecutionCell:
    """An execution's new cell; with its value, if it has just completed."""
    if execution.status is not ExecutionStatus.COMPLETED:
        return execution
    output = _output_of(runner.kernel.results())
    if output is None or type(output[0]) is Reference:
        return execution
    raw, blob = output
    if raw is not None and blob is None:
        blob = runner.values.aside(raw)
        if blob is not None:
            runner.blobs.append((blob, raw))
            raw = None
    runner.kernel.execution = msgspec.structs.replace(execution, output=raw, blob=blob)
    return runner.kernel.execution


def _output_of(results: Iterable[tuple[str, NodeState]]) -> tuple[bytes | None, str | None] | None:
    """The result of an execution as (output, blob), when it takes no decoding; None otherwise."""
    found = list(results)
    if not found:
        return b"null", None
    if len(found) == 1:
        return found[0][1].output, found[0][1].blob
    if all(
        cell.output is not None
        and not cell.output.startswith(codec.MARK)
        and type(cell.output) is not Reference
        for _, cell in found
    ):
        return b"{" + b",".join(
            codec.encode(name) + b":" + (cell.output or b"null") for name, cell in found
        ) + b"}", None
    return None
