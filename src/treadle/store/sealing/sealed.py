"""An encrypted store: any store, with a layer in front that seals and opens."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import IO, NamedTuple

import msgspec

from treadle.config import DEFAULT_CONFIG, Retention
from treadle.crypto.keys import MasterKey
from treadle.crypto.seal import MARK, Sealer
from treadle.errors import KeyForgotten, NoSuchExecution, StoreCorrupt, StoreError, WrongKey
from treadle.state import codec
from treadle.state.blob import CHUNK_BYTES, Place
from treadle.state.cell import ContextCell, ErrorInfo, ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
from treadle.store.base import (
    LOG_LINES,
    Arriving,
    Batch,
    Cached,
    Changes,
    Lease,
    LogLine,
    Mark,
    Owner,
    Signal,
    Summary,
    Tally,
    Written,
)
from treadle.store.base import bare as bared
from treadle.store.packing import open_packed, pack
from treadle.store.retention import HALF_GONE, Between, Pruned, names_in
from treadle.store.sealing.fields import (
    named,
    open_cached,
    open_cell,
    open_execution,
    open_head,
    open_line,
    open_shared,
    open_signal,
    seal_cached,
    seal_cells,
    seal_execution,
    seal_line,
    seal_shared,
    seal_signal,
)
from treadle.store.sealing.files import AnyExecutions, has_file, open_file, place_of, put_file
from treadle.store.sealing.ring import KEPT_MAX, KeyRing
from treadle.store.sealing.table import KeyedStore, Keys

_replace = msgspec.structs.replace


class Found(NamedTuple):
    """Blobs for a batch: rows to write, and the addresses of all that were looked for and are there."""

    rows: list[tuple[str, bytes]]
    addresses: set[str]


class SealedStore:
    """See `treadle.store.base.Store`. `own` is the store's own data key. Opening anything may raise
    KeyForgotten, StoreCorrupt (it was changed) and PlaintextFound."""

    def __init__(self, inner: KeyedStore, master: MasterKey, own: bytes) -> None:
        self.inner, self.url = inner, inner.url
        steady = inner.url == "memory:"  # it compares cells
        self._own = Sealer(own, "", steady=steady)
        self._ring = KeyRing(inner.keys, master, inner.url, inner.summary, steady=steady)
        self._holders: dict[str, str] = {}  # an execution that has a blob, by digest
        self._inside: dict[str, set[str]] = {}  # the blobs that a blob names
        # Here the blobs of all executions are found, and none is made: see `place_of`.
        self.place = Place(inner.place.folder, cipher=AnyExecutions(self._holder))
        self._brought: set[str] = set()  # addresses of blobs that were looked after

    @property
    def keys(self) -> Keys:
        return self.inner.keys

    def place_of(self, execution_id: str) -> Place:
        return place_of(self.inner.place, self.sealer(execution_id))

    # Keys

    @property
    def master(self) -> MasterKey:
        """The master key; another after it was changed."""
        return self._ring.master

    @master.setter
    def master(self, new: MasterKey) -> None:
        self._ring.master = new

    def sealer(self, execution_id: str) -> Sealer:
        """What seals an execution's texts: see `KeyRing`."""
        return self._ring.sealer(execution_id)

    def _writing(self, execution_id: str) -> Sealer:
        """The same for what is to be written; of an execution that isn't there nothing will be."""
        try:
            return self.sealer(execution_id)
        except NoSuchExecution:
            return self._own

    def _making(self, execution_id: str) -> Sealer:
        """The same for what is to be made; of one that was forgotten nothing will be: its id is taken."""
        try:
            return self._writing(execution_id)
        except KeyForgotten:
            return self._own

    def drop(self, execution_ids: Iterable[str]) -> None:
        """Keep the keys of these executions in memory no more."""
        self._ring.drop(execution_ids)

    # Writing

    def create(self, cell: ExecutionCell, source: str, owner: Owner, lease_s: float) -> Lease:
        done = self.apply(Batch([], created=[(cell, source)], owner=owner, lease_s=lease_s, sync=True))
        for error in done.not_created().values():
            raise error
        return Lease(cell.execution_id, 1)

    def claim(self, execution_id: str, owner: Owner, lease_s: float) -> Lease:
        self._ring.looked_up(execution_id)
        return self.inner.claim(execution_id, owner, lease_s)

    def redraw(self, lease: Lease, cell: ExecutionCell, source: str) -> None:
        self._bring_now(cell.execution_id, named(cell.inputs))
        self.inner.redraw(lease, seal_execution(cell, self.sealer(cell.execution_id), self._names),
                          self._hidden(cell.diagram, source))

    def adopt(self, cell: ExecutionCell, cells: Sequence[NodeState], source: str, *,
              signals: Sequence[Signal] = (), blobs: Sequence[Arriving] = (),
              logs: Sequence[LogLine] = (), context: Sequence[ContextCell] = ()) -> None:
        self._ring.begin([cell.execution_id])
        sealer = self.sealer(cell.execution_id)
        outputs = {cell.blob, *(one.blob for one in cells)}
        for blob in blobs:
            if blob.digest in outputs and blob.size <= DEFAULT_CONFIG.output_bytes_max:
                self._learn(cell.execution_id, blob.digest, blob.read())
            put_file(self.inner.place, sealer, blob.digest, blob.pieces())
        self.inner.adopt(
            seal_execution(cell, sealer, self._names), seal_cells(cells, self.sealer, self._names),
            self._hidden(cell.diagram, source),
            signals=[seal_signal(one, sealer) for one in signals],
            logs=[seal_line(one, sealer) for one in logs],
            context=[seal_shared(one, sealer) for one in context])

    def renew(self, leases: Sequence[Lease], owner: Owner, lease_s: float) -> set[str]:
        return self.inner.renew(leases, owner, lease_s)

    def release(self, leases: Sequence[Lease]) -> None:
        self.inner.release(leases)

    def seal(self, batch: Batch) -> None:
        pass  # on the writer's thread: see `apply`

    def apply(self, batch: Batch) -> Written:
        if batch.document is None:  # else it is tried again
            batch.document = self._sealed(batch)
        written = self.inner.apply(batch.document)
        written.unmade = batch.document.unmade
        return written

    def _sealed(self, batch: Batch) -> Batch:
        """The batch as the inner store gets it: without new executions, where the master key is another by
        now, since what others wait for in it can be written all the same."""
        if batch.created:
            names = [cell.execution_id for cell, _ in batch.created]
            try:
                self._ring.begin(names)
            except WrongKey as error:
                batch = _replace(batch, created=[], begun=[], begun_context=[],
                                 unmade=dict.fromkeys(names, error))
        found = self._blobs_of(batch)
        key, inside = self._writing, self._names
        sealed = _replace(
            batch, cells=seal_cells(batch.cells, key, inside),
            executions=[seal_execution(one, key(one.execution_id), inside) for one in batch.executions],
            context={one: seal_shared(cell, key(one[0])) for one, cell in batch.context.items()},
            blobs=found.rows,
            cached=[seal_cached(one, self._mask(one.key), key(one.execution_id), inside)
                    for one in batch.cached],
            logs=[seal_line(one, key(one.execution_id)) for one in batch.logs],
            created=[(seal_execution(one, self._making(one.execution_id), inside),
                      self._hidden(one.diagram, source)) for one, source in batch.created],
            begun=seal_cells(batch.begun, self._making, inside),
            begun_context=[seal_shared(one, self._making(one.execution_id))
                           for one in batch.begun_context])
        self.inner.seal(sealed)
        self._kept(found)  # only now: until here it may fail, and is done again
        return sealed

    def _blobs_of(self, batch: Batch) -> Found:
        """The rows of the batch's blobs, each for the executions that name it; larger ones become files."""
        contents = dict(batch.blobs)
        wanted: dict[str, set[str]] = {}  # digests by execution
        for c in (*batch.cells, *batch.begun):
            if c.blob is not None or c.items is not None or c.request is not None or c.meta is not None or (
                    c.output is not None and b"$treadle" in c.output):
                found = wanted.setdefault(c.execution_id, set())
                found.update(*map(named, (c.output, c.items, c.meta, c.request)))
                if c.blob is not None:
                    found.add(c.blob)
        for e in (*batch.executions, *(cell for cell, _ in batch.created)):
            found = wanted.setdefault(e.execution_id, set())
            found.update(*map(named, (e.inputs, e.output)))
            if e.blob is not None:
                found.add(e.blob)
        for shared in (*batch.context.values(), *batch.begun_context):
            wanted.setdefault(shared.execution_id, set()).update(named(shared.value))
        for one in batch.cached:
            wanted.setdefault(one.execution_id, set()).update(
                {one.blob} - {None}, named(one.output), named(one.meta))  # type: ignore[arg-type]
        nobody = set(contents).difference(*wanted.values())
        if nobody and batch.cells:
            wanted.setdefault(batch.cells[0].execution_id, set()).update(nobody)
        result = Found([], set())
        for execution_id, digests in wanted.items():
            self._bring(execution_id, digests, contents, result)
        return result

    def _bring(self, execution_id: str, digests: set[str], contents: dict[str, bytes], found: Found) -> None:
        """Have an execution keep these blobs: what others have is sealed anew, under its own key."""
        sealer = self._writing(execution_id) if digests else self._own
        todo = [] if sealer is self._own else list(digests)
        while todo:
            digest = todo.pop()
            address = sealer.address(digest)
            if address in self._brought or address in found.addresses:
                continue
            content = contents.get(digest)
            if content is not None:
                self._learn(execution_id, digest, content)
                self._put(sealer, digest, content, found)
            elif self._has(sealer, digest):
                self._holders.setdefault(digest, execution_id)
            elif not self._copy(execution_id, sealer, digest, found):
                continue  # it only looks like the name of one
            found.addresses.add(address)
            todo += self._names(digest)

    def _copy(self, execution_id: str, sealer: Sealer, digest: str, found: Found) -> bool:
        """Whether another execution had it."""
        holder = self._holder(digest)
        if holder is None:
            return False
        if has_file(self.inner.place, holder, digest):
            with open_file(self.inner.place, holder, digest) as file:
                put_file(self.inner.place, sealer, digest, iter(lambda: file.read(CHUNK_BYTES), b""))
        else:
            content = self._content(holder, digest)
            self._learn(execution_id, digest, content)
            self._put(sealer, digest, content, found)
        return True

    def _kept(self, found: Found) -> None:
        """What was looked for is on its way in a batch, and need not be looked for again."""
        if len(self._brought) >= KEPT_MAX:
            self._brought.clear()
        self._brought |= found.addresses

    def _put(self, sealer: Sealer, digest: str, content: bytes, found: Found) -> None:
        packed = pack(content)
        if len(packed) > DEFAULT_CONFIG.blob_file_bytes_max:
            put_file(self.inner.place, sealer, digest, [content])
        else:
            found.rows.append((sealer.address(digest), MARK + sealer.raw(packed, _of_blob(digest))))

    def _bring_now(self, execution_id: str, digests: set[str]) -> None:
        """The same for what is written without a batch."""
        found = Found([], set())
        self._bring(execution_id, digests, {}, found)
        if found.rows:
            self.inner.apply(Batch([], blobs=found.rows))
        self._kept(found)

    def _learn(self, execution_id: str, digest: str, content: bytes) -> None:
        inner = names_in(content.decode("latin-1")) if content.startswith(codec.MARK) else set()
        self._tell(execution_id, digest, inner - {digest})

    def _tell(self, execution_id: str, digest: str, inner: set[str]) -> None:
        if len(self._holders) >= KEPT_MAX:
            self._holders.clear()
            self._inside.clear()
        self._holders[digest] = execution_id
        if inner:
            self._inside[digest] = inner

    def _names(self, digest: str) -> set[str]:
        return self._inside.get(digest, set())

    def send(self, signal: Signal) -> int:
        sealer = self._ring.looked_up(signal.execution_id)
        self._bring_now(signal.execution_id, named(signal.payload))
        return self.inner.send(seal_signal(signal, sealer))

    def forget(self, keys: Iterable[str]) -> None:
        self.inner.forget(map(self._mask, keys))

    def prune(self, policy: Retention, now: float, *, thorough: bool = True, dry_run: bool = False,
              every_s: float = 0.0, between: Between | None = None) -> Pruned:
        done = self.inner.prune(policy, now, thorough=thorough, dry_run=dry_run, every_s=every_s,
                                between=between)
        if done.execution_ids and not dry_run:
            self.inner.keys.erase()
            self.drop(done.execution_ids)
        return done

    def close(self) -> None:
        self._ring.clear()
        self.place.clear()
        self.inner.close()

    # Reading

    def load(self, execution_id: str) -> tuple[ExecutionCell, list[NodeState]]:
        found, cells = self.inner.load(execution_id)
        cell, sealer, tell = self._whole(found), self.sealer(execution_id), self._telling(execution_id)
        return cell, [open_cell(one, sealer, tell) for one in cells]

    def _whole(self, cell: ExecutionCell) -> ExecutionCell:
        if cell.diagram == HALF_GONE:  # a prune writes without a key
            raise StoreError(f"a prune that was ended has deleted a part of execution {cell.execution_id}: "
                             "`treadle prune --collect` deletes the rest")
        execution_id = cell.execution_id
        return open_execution(cell, self.sealer(execution_id), self._telling(execution_id))

    def _telling(self, execution_id: str) -> Callable[[str, set[str]], None]:
        return lambda digest, inner: self._tell(execution_id, digest, inner)

    def changes(self, execution_id: str, since: Mark | None = None, *, cells: bool = True,
                whole: bool = False, counted: Tally | None = None) -> Changes:
        found = self.inner.changes(execution_id, since, cells=cells, whole=True, counted=counted)
        sealer, tell = self.sealer(execution_id), self._telling(execution_id)
        opened = [open_cell(one, sealer, tell) for one in found.cells]
        return _replace(found, own=open_head(found.own, sealer),
                        cells=opened if whole else list(map(bared, opened)),
                        context=[open_shared(one, sealer) for one in found.context])

    def executions(self, *, status: ExecutionStatus | None = None, name: str | None = None, limit: int = 100,
                   before: str | None = None, bare: bool = False) -> list[Summary]:
        found = self.inner.executions(status=status, name=name, limit=limit, before=before, bare=bare)
        return [self._shown(one, bare) for one in found]

    def summary(self, execution_id: str) -> Summary:
        return self._shown(self.inner.summary(execution_id))

    def sizes(self, execution_ids: Sequence[str]) -> dict[str, int]:
        return self.inner.sizes(execution_ids)

    def _shown(self, summary: Summary, bare: bool = False) -> Summary:
        """Where an execution can't be read, why, instead of its error: a list shows the others."""
        cell = summary.cell
        try:
            cell = open_head(cell, self.sealer(cell.execution_id)) if bare else self._whole(cell)
        except StoreError as error:
            cell = _replace(cell, inputs=b"{}", options=b"{}", output=None, blob=None,
                            error=ErrorInfo(type(error).__name__, str(error)))
        return _replace(summary, cell=cell)

    def source(self, diagram: str) -> str:
        raw = self._own.open(self.inner.source(diagram).encode(), _of_source(diagram))
        return zlib.decompress(raw).decode()

    def _hidden(self, diagram: str, source: str) -> str:
        """A source as it is kept: diagrams are shared by executions, so it is the store's own key that seals
        it."""
        if not source:
            return ""
        return self._own.seal(zlib.compress(source.encode(), 1), _of_source(diagram)).decode()

    def context(self, execution_id: str) -> list[ContextCell]:
        found = self.inner.context(execution_id)
        return [open_shared(one, self.sealer(execution_id)) for one in found]

    def signals(self, execution_ids: Iterable[str]) -> list[Signal]:
        return [open_signal(one, self.sealer(one.execution_id)) for one in self.inner.signals(execution_ids)]

    def version(self) -> int:
        return self.inner.version()

    def last_signal(self) -> int:
        return self.inner.last_signal()

    def cached(self, key: str) -> Cached | None:
        return self.opened_result(self._mask(key))

    def opened_result(self, mask: str) -> Cached | None:
        """A result by the name under which it is kept."""
        found = self.inner.cached(mask)
        return None if found is None else self._opened(found)

    def cached_results(self, node: str | None = None) -> list[Cached]:
        found = [self._opened(one, whole=False) for one in self.inner.cached_results(node)]
        return [one for one in found if one is not None]

    def _opened(self, one: Cached, *, whole: bool = True) -> Cached | None:
        try:
            return open_cached(one, self.sealer(one.execution_id), self._telling(one.execution_id),
                               whole=whole)
        except (KeyForgotten, NoSuchExecution):
            return None

    def _mask(self, key: str) -> str:
        return self._own.address(f"cached {key}")

    def logs(self, execution_id: str, *, node: str | None = None, attempt: int | None = None,
             since: tuple[float, int] | None = None, limit: int = LOG_LINES) -> list[LogLine]:
        found = self.inner.logs(execution_id, node=node, attempt=attempt, since=since, limit=limit)
        return self._lines(execution_id, found)

    def new_logs(self, execution_id: str, after: int, *, node: str | None = None, attempt: int | None = None,
                 limit: int = LOG_LINES) -> list[LogLine]:
        found = self.inner.new_logs(execution_id, after, node=node, attempt=attempt, limit=limit)
        return self._lines(execution_id, found)

    def _lines(self, execution_id: str, lines: list[LogLine]) -> list[LogLine]:
        try:
            sealer = self.sealer(execution_id)  # also where there is no line: it may be forgotten
        except NoSuchExecution:
            return []
        return [open_line(one, sealer) for one in lines]

    # Blobs

    def blob(self, digest: str) -> bytes:
        with self.open_blob(digest) as file:
            return file.read()

    def open_blob(self, digest: str) -> IO[bytes]:
        holder = self._holder(digest)
        if holder is None:
            raise KeyError(digest)
        return self._open(holder, digest)

    def open_own(self, execution_id: str, digest: str) -> IO[bytes]:
        """The same as one execution has it."""
        return self._open(self.sealer(execution_id), digest)

    def _open(self, holder: Sealer, digest: str) -> IO[bytes]:
        if has_file(self.inner.place, holder, digest):
            return open_file(self.inner.place, holder, digest)
        return io.BytesIO(self._content(holder, digest))

    def _has(self, sealer: Sealer, digest: str) -> bool:
        if has_file(self.inner.place, sealer, digest):
            return True
        try:
            self.inner.open_blob(sealer.address(digest)).close()
        except (KeyError, StoreCorrupt):
            return False
        return True

    def _holder(self, digest: str) -> Sealer | None:
        """The sealer of an execution that has a blob."""
        known = self._holders.get(digest)
        if known is not None:
            with contextlib.suppress(KeyForgotten, NoSuchExecution):
                sealer = self.sealer(known)
                if self._has(sealer, digest):
                    return sealer
        for sealer in self._ring.all():
            if self._has(sealer, digest):
                self._tell(sealer.execution_id, digest, set())
                return sealer
        return None

    def _content(self, sealer: Sealer, digest: str) -> bytes:
        """The content of a row; StoreCorrupt if it was changed."""
        stored = self.inner.blob(sealer.address(digest))
        with open_packed(sealer.open_raw(stored[len(MARK):], _of_blob(digest))) as file:
            return file.read()


def _of_source(diagram: str) -> str:
    return f"the source of the diagram {diagram}"


def _of_blob(digest: str) -> str:
    return f"the blob {digest}"
