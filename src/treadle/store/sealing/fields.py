"""Cells, lines, signals and results as an encrypted store keeps them, and back.

A text is replaced by its sealed text (see `treadle.crypto.seal`). Behind one that names blobs stand
` $treadle` and the addresses of these, so that a prune sees who names what without a key. A cell whose output
is a blob has its address there, and as output the sealed digest with those of the blobs that the blob names.

A row is written whole, so its texts are bound to what stands beside them in the clear: who changes a status,
a port or a version, or deletes a text, is found out when the row is read. Where there is no output an empty
text is sealed in its place: no value is encoded as one. Instants are not bound, since SQLite doesn't promise
to give every bit of a fraction back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from treadle.crypto.seal import MARK, Sealer, place, plainly, said
from treadle.errors import PlaintextFound, StoreCorrupt
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.store.base import Cached, LogLine, Signal
from treadle.store.retention import names_in

KeyOf = Callable[[str], Sealer]
"""The sealer of an execution."""
SEALED = "$sealed"
"""The type of a sealed error; its message is the error."""
_NAMES = b" $treadle "
_BLOB = "the name of the blob"
_encode = msgspec.json.Encoder().encode
_error = msgspec.json.Decoder(ErrorInfo).decode
_replace = msgspec.structs.replace


class _Known(msgspec.Struct, frozen=True, array_like=True):
    """What of a result for other executions is read without its output."""

    key: str
    content_type: str | None
    names: str | None  # the digests of its blob, and of those which that names
    output: bool  # whether there is one, and a meta
    meta: bool


_known = msgspec.json.Decoder(_Known).decode


def named(raw: bytes | None) -> set[str]:
    """The digests of blobs that an encoded value may hold."""
    return names_in(raw.decode("latin-1")) if raw is not None and b"$treadle" in raw else set()


def _seal(sealer: Sealer, raw: bytes, bound: str) -> bytes:
    token = sealer.seal(raw, bound)
    if b"$treadle" in raw:
        token += _addresses(sealer, named(raw))
    return token


def _addresses(sealer: Sealer, digests: Iterable[str]) -> bytes:
    found = sorted(map(sealer.address, digests))
    return _NAMES + " ".join(found).encode() if found else b""


def _open(sealer: Sealer, token: bytes | None, bound: str) -> bytes:
    if token is None:
        raise StoreCorrupt(f"{said(bound, sealer.execution_id)} was deleted: restore the store from a copy")
    end = token.find(b" ")
    return sealer.open(token if end < 0 else token[:end], bound)


def _heard(raw: bytes, tell: Callable[[str, set[str]], None]) -> bytes:
    """An opened value; `tell` hears of the blobs that it names."""
    if b"$treadle" in raw:
        for digest in named(raw):
            tell(digest, set())
    return raw


def _seal_error(sealer: Sealer, error: ErrorInfo, bound: str) -> ErrorInfo:
    try:
        raw = _encode(error)
    except UnicodeEncodeError:  # half of a surrogate pair, as names of files have
        raw = _encode(_replace(error, message=_escaped(error.message), traceback=_escaped(error.traceback)))
    return ErrorInfo(SEALED, sealer.seal(raw, bound).decode())


def _escaped(text: str) -> str:
    return text.encode(errors="backslashreplace").decode()


def _open_error(sealer: Sealer, error: ErrorInfo, bound: str) -> ErrorInfo:
    if error.type != SEALED:
        raise PlaintextFound(f"{said(bound, sealer.execution_id)} is not encrypted, and everything in this "
                             "store is: somebody else wrote it; restore the store from a copy")
    return _error(sealer.open(error.message.encode(), bound))


def _seal_output(sealer: Sealer, output: bytes | None, blob: str, inner: set[str], bound: str) -> bytes:
    """What stands as output of a cell whose output is a blob."""
    raw = " ".join([blob, *inner]).encode()
    if output is not None:
        raw += b"\n" + output
    return sealer.seal(raw, bound) + _addresses(sealer, inner | named(output))


# Cells of nodes: the hot path

def seal_cells(cells: Sequence[NodeState], key: KeyOf, inside: Callable[[str], set[str]]) -> list[NodeState]:
    """Cells as they are kept. `inside` gives the digests that a blob names."""
    out = []
    last, sealer = None, None
    for c in cells:
        if c.execution_id != last:
            last, sealer = c.execution_id, key(c.execution_id)
        assert sealer is not None
        if c.blob is None and c.error is None and c.meta is None and c.request is None and c.items is None:
            # As `_bound` has it.
            values = (c.epoch, c.seq, c.status, c.port, c.content_type, c.retryable, c.lineage, c.claims,
                      c.worker, c.winner, c.round, 0)
            try:
                beside = _encode(values)
            except UnicodeEncodeError:
                beside = plainly(values).encode()
            where = f"output\0{c.iteration}\0{c.attempt}\0{c.execution_id}\0{c.node_id}\0".encode()
            token = sealer.seal_at(c.output or b"", where + beside)
            if c.output is not None and b"$treadle" in c.output:
                token += _addresses(sealer, named(c.output))
            out.append(_replace(c, output=token))
        else:
            out.append(_seal_cell(c, sealer, inside))
    return out


def _bound(c: NodeState) -> Callable[[str], str]:
    """What the texts of a cell are bound to, by field: all that is in the clear but the instants, and which
    texts there are."""
    texts = (c.meta is not None) + 2 * (c.error is not None) + 4 * (c.request is not None) \
        + 8 * (c.items is not None)
    beside = (c.epoch, c.seq, c.status, c.port, c.content_type, c.retryable, c.lineage, c.claims, c.worker,
              c.winner, c.round, texts)
    return lambda field: place(c.execution_id, c.node_id, c.iteration, c.attempt, field, beside)


def _seal_cell(c: NodeState, sealer: Sealer, inside: Callable[[str], set[str]]) -> NodeState:
    bound = _bound(c)

    def seal(field: str, raw: bytes | None) -> bytes | None:
        return None if raw is None else _seal(sealer, raw, bound(field))

    output, blob = _seal_result(c, sealer, inside, bound)
    return _replace(c, output=output, blob=blob, meta=seal("meta", c.meta), items=seal("items", c.items),
                    request=seal("request", c.request),
                    error=None if c.error is None else _seal_error(sealer, c.error, bound("error")))


def _seal_result(c: NodeState | ExecutionCell, sealer: Sealer, inside: Callable[[str], set[str]],
                 bound: Callable[[str], str]) -> tuple[bytes, str | None]:
    """Output and blob of a cell as they are kept."""
    if c.blob is None:
        return _seal(sealer, c.output or b"", bound("output")), None
    return _seal_output(sealer, c.output, c.blob, inside(c.blob), bound(_BLOB)), sealer.address(c.blob)


def open_cell(c: NodeState, sealer: Sealer, tell: Callable[[str, set[str]], None]) -> NodeState:
    """The cell again. `tell` hears of the digest of its blob, and of those which that names; StoreCorrupt,
    PlaintextFound."""
    bound = _bound(c)

    def opened(field: str, token: bytes | None) -> bytes | None:
        return None if token is None else _heard(_open(sealer, token, bound(field)), tell)

    output, blob = _open_result(c, sealer, tell, bound)
    return _replace(c, output=output, blob=blob, meta=opened("meta", c.meta), items=opened("items", c.items),
                    request=opened("request", c.request),
                    error=None if c.error is None else _open_error(sealer, c.error, bound("error")))


def _open_result(c: NodeState | ExecutionCell, sealer: Sealer, tell: Callable[[str, set[str]], None],
                 bound: Callable[[str], str]) -> tuple[bytes | None, str | None]:
    if c.blob is not None:
        return _open_output(sealer, c.output, c.blob, bound(_BLOB), tell)
    return _heard(_open(sealer, c.output, bound("output")), tell) or None, None


def _open_output(sealer: Sealer, token: bytes | None, address: str, bound: str,
                 tell: Callable[[str, set[str]], None]) -> tuple[bytes | None, str]:
    names, newline, output = _open(sealer, token, bound).partition(b"\n")
    digest, *inner = names.decode().split(" ")
    if sealer.address(digest) != address:
        raise StoreCorrupt(f"{said(bound, sealer.execution_id)} was changed: restore the store from a copy")
    tell(digest, set(inner))
    return output if newline else None, digest


# Executions

def _bound_execution(c: ExecutionCell) -> Callable[[str], str]:
    """The same for an execution. Its row isn't written whole: inputs come with the diagram, options once with
    the name, and output and error with the status. The version is bound by none."""
    ended = (c.status, c.round, c.error is not None)
    beside = {"inputs": (c.diagram,), "options": (c.name, c.parent)}
    return lambda field: place(c.execution_id, "", "", 0, field, beside.get(field, ended))


def seal_execution(c: ExecutionCell, sealer: Sealer, inside: Callable[[str], set[str]]) -> ExecutionCell:
    """See `seal_cells`."""
    bound = _bound_execution(c)
    output, blob = _seal_result(c, sealer, inside, bound)
    return _replace(c, inputs=_seal(sealer, c.inputs, bound("inputs")), output=output, blob=blob,
                    options=sealer.seal(c.options, bound("options")),
                    error=None if c.error is None else _seal_error(sealer, c.error, bound("error")))


def open_execution(c: ExecutionCell, sealer: Sealer, tell: Callable[[str, set[str]], None]) -> ExecutionCell:
    """See `open_cell`."""
    bound = _bound_execution(c)
    output, blob = _open_result(c, sealer, tell, bound)
    inputs = _heard(_open(sealer, c.inputs, bound("inputs")), tell)
    return _replace(c, inputs=inputs, output=output, blob=blob,
                    options=sealer.open(c.options, bound("options")),
                    error=None if c.error is None else _open_error(sealer, c.error, bound("error")))


def open_head(c: ExecutionCell, sealer: Sealer) -> ExecutionCell:
    """The same for one that was read without inputs, options and output."""
    return c if c.error is None else _replace(
        c, error=_open_error(sealer, c.error, _bound_execution(c)("error")))


# Results for other executions, lines, signals, the shared context

def seal_cached(one: Cached, mask: str, sealer: Sealer, inside: Callable[[str], set[str]]) -> Cached:
    """A result as it is kept, under the `mask` of its key, which is a digest of inputs. The content type is
    the sealed `_Known`, since that is read without the output."""
    def bound(field: str) -> str:
        return place(one.execution_id, one.node_id, mask, 0, f"cached {field}", (one.name, one.port))

    names = None if one.blob is None else " ".join([one.blob, *inside(one.blob)])
    output = None if one.output is None else _seal(sealer, one.output, bound("output"))
    if one.blob is not None:  # nothing to read, but those who prune look for names here
        output = MARK + _addresses(sealer, inside(one.blob))
    known = _Known(one.key, one.content_type, names, one.output is not None, one.meta is not None)
    return _replace(
        one, key=mask, output=output, blob=None if one.blob is None else sealer.address(one.blob),
        content_type=sealer.seal(_encode(known), bound("key")).decode(),
        meta=None if one.meta is None else _seal(sealer, one.meta, bound("meta")))


def open_cached(one: Cached, sealer: Sealer, tell: Callable[[str, set[str]], None], *,
                whole: bool = True) -> Cached:
    """See `open_cell`. `whole`: it was read with output and meta."""
    def bound(field: str) -> str:
        return place(one.execution_id, one.node_id, one.key, 0, f"cached {field}", (one.name, one.port))

    known = _known(sealer.open((one.content_type or "").encode(), bound("key")))
    blob = output = meta = None
    if known.names is not None:
        blob, *inner = known.names.split(" ")
        tell(blob, set(inner))
    elif whole and known.output:
        output = _heard(_open(sealer, one.output, bound("output")), tell)
    if whole and known.meta:
        meta = _open(sealer, one.meta, bound("meta"))
    return _replace(one, key=known.key, content_type=known.content_type, blob=blob, output=output, meta=meta)


def seal_line(line: LogLine, sealer: Sealer) -> LogLine:
    raw = line.text.encode("utf-8", "surrogatepass")
    return _replace(line, text=sealer.seal(raw, _of_line(line)).decode())


def open_line(line: LogLine, sealer: Sealer) -> LogLine:
    raw = sealer.open(line.text.encode("utf-8", "surrogatepass"), _of_line(line))
    return _replace(line, text=raw.decode("utf-8", "surrogatepass"))


def _of_line(line: LogLine) -> str:
    return place(line.execution_id, line.node_id, line.iteration, line.attempt, f"a line of {line.stream}",
                 (line.level, line.logger))


def seal_signal(signal: Signal, sealer: Sealer) -> Signal:
    return _replace(signal, payload=_seal(sealer, signal.payload, _of_signal(signal)))


def open_signal(signal: Signal, sealer: Sealer) -> Signal:
    return _replace(signal, payload=_open(sealer, signal.payload, _of_signal(signal)))


def _of_signal(signal: Signal) -> str:
    return place(signal.execution_id, signal.node_id, signal.iteration, 0,
                 f"{signal.kind} {signal.name}".strip())


def seal_shared(cell: ContextCell, sealer: Sealer) -> ContextCell:
    return _replace(cell, value=_seal(sealer, cell.value or b"", _of_shared(cell)))


def open_shared(cell: ContextCell, sealer: Sealer) -> ContextCell:
    return _replace(cell, value=_open(sealer, cell.value, _of_shared(cell)) or None)


def _of_shared(cell: ContextCell) -> str:
    return place(cell.execution_id, cell.key, "", 0, "the value in the context",
                 (cell.epoch, cell.seq, cell.writer))
