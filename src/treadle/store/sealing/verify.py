"""Looking through an encrypted store: whether every sealed text can be opened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import msgspec

from treadle.crypto.seal import Sealer
from treadle.errors import NoSuchExecution, StoreCorrupt, StoreError
from treadle.state.blob import CHUNK_BYTES
from treadle.state.cell import NodeState
from treadle.store.base import LOG_LINES
from treadle.store.retention import HALF_GONE
from treadle.store.sealing.fields import open_cell, open_execution, open_line
from treadle.store.sealing.sealed import SealedStore

LISTED_MAX = 1_000_000
"""Executions without a key that are found."""
UNREADABLE = (StoreError, ValueError, TypeError, LookupError, AttributeError, msgspec.MsgspecError)
"""What rows that somebody else wrote lead to."""


class Look:
    """A look through a store. `faults` says what is wrong, sentence by sentence; the counts are of what was
    looked at."""

    def __init__(self, store: SealedStore) -> None:
        self._store, self._inner = store, store.inner
        self.rows = self.blobs = self.forgotten = 0
        self._diagrams: set[str] = set()

    def faults(self) -> Iterator[str]:
        """Open every sealed text; a sentence for each that can't be opened."""
        for execution_id in self._executions():
            row = self._store.keys.get(execution_id)
            if row is not None and row.wrapped is None:
                self.forgotten += 1
            else:
                yield from self._several(f"execution {execution_id}", partial(self._execution, execution_id))
        for digest in sorted(self._diagrams - {"", HALF_GONE}):
            yield from self._one(f"the diagram {digest}", partial(self._source, digest))
        yield from self._several("results for other executions", self._results)

    def _executions(self) -> list[str]:
        """Their ids, also of those whose rows can't be read: these have keys."""
        found = dict.fromkeys(row.execution_id for row in self._store.keys.rows())
        try:
            listed = self._inner.executions(limit=LISTED_MAX)
        except UNREADABLE:
            return list(found)
        found.update(dict.fromkeys(one.cell.execution_id for one in listed))
        return list(found)

    def _execution(self, execution_id: str) -> Iterator[str]:
        whose = f"of execution {execution_id}"
        try:
            cell, cells = self._inner.load(execution_id)
        except NoSuchExecution:
            return  # it is deleted, or was never made
        if cell.diagram == HALF_GONE:
            return
        self._diagrams.add(cell.diagram)
        sealer = self._store.sealer(execution_id)
        named: set[str] = set()
        held: set[str | None] = set()

        def tell(digest: str, inner: set[str]) -> None:
            named.add(digest)

        yield from self._one(f"execution {execution_id}",
                             lambda: held.add(open_execution(cell, sealer, tell).blob))
        for node in cells:
            yield from self._one(f"node {node.node_id!r} {whose}", partial(_open, node, sealer, tell, held))
        yield from self._one(f"the context {whose}", partial(self._store.context, execution_id))
        yield from self._one(f"the signals {whose}", partial(self._store.signals, [execution_id]))
        after = -1
        while after:
            lines = self._inner.new_logs(execution_id, max(after, 0))
            for line in lines:
                yield from self._one(f"line {line.id} of the logs {whose}", partial(open_line, line, sealer))
            after = lines[-1].id if len(lines) == LOG_LINES else 0
        for digest in sorted(named):
            yield from self._one(f"a blob {whose}",
                                 partial(self._blob, execution_id, digest, certain=digest in held))

    def _source(self, digest: str) -> None:
        try:
            self._store.source(digest)
        except KeyError:
            pass  # executions that a program makes by itself may have none

    def _blob(self, execution_id: str, digest: str, *, certain: bool) -> None:
        self.rows -= 1
        try:
            with self._store.open_own(execution_id, digest) as file:
                while file.read(CHUNK_BYTES):
                    pass
        except KeyError:
            if certain:  # else it may only look like the name of one
                raise StoreCorrupt(f"execution {execution_id} lacks the blob {digest}: restore the store "
                                   "from a copy") from None
        else:
            self.blobs += 1

    def _results(self) -> Iterator[str]:
        for one in self._inner.cached_results():
            yield from self._one(f"a result of node {one.node_id!r} of execution {one.execution_id}",
                                 partial(self._store.opened_result, one.key))

    def _one(self, what: str, look: Callable[[], object]) -> Iterator[str]:
        self.rows += 1
        try:
            look()
        except UNREADABLE as error:
            yield _said(what, error)

    def _several(self, what: str, look: Callable[[], Iterator[str]]) -> Iterator[str]:
        try:
            yield from look()
        except UNREADABLE as error:
            yield _said(what, error)


def _open(node: NodeState, sealer: Sealer, tell: Callable[[str, set[str]], None],
          held: set[str | None]) -> None:
    held.add(open_cell(node, sealer, tell).blob)


def _said(what: str, error: Exception) -> str:
    if isinstance(error, StoreError):
        text = str(error)
        return text if what.rpartition(" ")[2] in text else f"{what}: {text}"
    return f"{what} can't be read ({type(error).__name__}: {error}): restore the store from a copy"
