"""One execution on its way into its folder. All of it belongs to the writer's thread."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from treadle.config import TreadleConfig
from treadle.errors import StoreCorrupt
from treadle.state.blob import named_in
from treadle.state.cell import ContextCell, ExecutionCell, NodeState, join_cells, turn_of
from treadle.store.base import Store
from treadle.store.history import documents, names
from treadle.store.history.folder import Folder, Seal, folder_of
from treadle.store.transfer.layout import MARKED, Names

logger = logging.getLogger("treadle.history")
Turn = tuple[tuple[int, ...], int]


class Recording:
    """Writes what is known of an execution. Every method may raise OSError, and may be called again then."""

    def __init__(self, folder: Folder, cell: ExecutionCell, store: Store) -> None:
        self.folder, self.cell, self.store = folder, cell, store
        self._stems: dict[str, str] = {}  # what a name without its case stands for
        self._last: dict[str, tuple[Turn, str]] = {}  # by path: the newest that ended, and its file
        self._unlinked: dict[str, None] = {}  # paths whose final file is older
        self._blobs: set[str] = set()
        self._counts: dict[tuple[str, str], str] = {}  # how each node ended, by path and iteration
        self._context: list[ContextCell] = []

    @classmethod
    def begin(cls, parent: Path, cell: ExecutionCell, store: Store, seal: Seal,
              config: TreadleConfig) -> Recording:
        """That of a new execution, of which nothing is recorded yet."""
        raw = documents.of_init(cell, _source(store, cell.diagram))
        folder = Folder.make(parent / names.of_folder(cell), names.INIT, raw, seal, config)
        recording = cls(folder, cell, store)
        recording._bring_blobs(cell)
        return recording

    @classmethod
    def go_on(cls, parent: Path, execution_id: str, store: Store, seal: Seal,
              config: TreadleConfig) -> Recording:
        """That of one that the store has, in its folder if there is one, which gets what it lacks."""
        cell, cells = store.load(execution_id)
        found = folder_of(parent, execution_id, cell.created_at, seal, config)
        if found is None:
            recording = cls.begin(parent, cell, store, seal, config)
        else:
            found.tidy()
            recording = cls(found, cell, store)
        recording.complete(cell, cells)
        return recording

    def complete(self, cell: ExecutionCell, cells: Iterable[NodeState]) -> None:
        """Write what the files lack of what the store has."""
        there: dict[object, NodeState] = {}
        for name in self.folder.attempts():
            try:
                known = self.folder.node(name)
            except StoreCorrupt as error:
                logger.warning("%s: it is written again", error)
                continue
            there[known.key] = known
            self._stems[name.rpartition("_attempt")[0].removeprefix(names.NODE).casefold()] = _exact(known)
        for one in sorted(cells, key=turn_of):
            known_one = there.get(one.key)
            if known_one is None or known_one.version < one.version:
                self.put(one)
            else:
                self._note(one, self._stem(one))
        self.put_execution(cell)

    # Cells

    def put(self, cell: NodeState, inputs: bytes | None = None) -> None:
        """Write an attempt's file."""
        stem = self._stem(cell)
        self._bring_blobs(cell)
        self.folder.write(f"{names.NODE}{stem}_attempt{cell.attempt}.json", documents.of_node(cell, inputs))
        self._note(cell, stem)

    def _note(self, cell: NodeState, stem: str) -> None:
        self._counts[cell.node_id, cell.iteration] = cell.status.value
        if not cell.status.terminal:
            return
        turn, known = turn_of(cell), self._last.get(cell.node_id)
        if known is None or turn >= known[0]:
            self._last[cell.node_id] = (turn, f"{names.NODE}{stem}_attempt{cell.attempt}.json")
            self._unlinked[cell.node_id] = None

    def put_execution(self, cell: ExecutionCell) -> None:
        """Write an execution's own file: the first one while it goes on, the last one when it has ended."""
        self.cell = cell
        self._bring_blobs(cell)
        if cell.status.terminal:
            self.put_finals()
            self.put_context()
            self.folder.write(names.FINAL, documents.of_final(
                cell, Counter(self._counts.values()), self._context))
        elif self._recorded() != cell:
            self.folder.write(names.INIT, documents.of_init(cell, _source(self.store, cell.diagram)))
            self.folder.remove(names.FINAL)

    def _recorded(self) -> ExecutionCell:
        """What the files say of the execution."""
        cell = self.folder.execution(names.INIT)
        return join_cells(cell, self.folder.execution(names.FINAL)) if self.folder.has(names.FINAL) else cell

    def put_finals(self, limit: int | None = None) -> bool:
        """Let nodes' final files be those of their newest attempts that ended, `limit` of them; whether there
        are more."""
        for path in list(islice(self._unlinked, limit)):
            stem = self._own(names.of_node(path), path)
            self.folder.same(self._last[path][1], f"{names.NODE}{stem}{names.NODE_FINAL}")
            del self._unlinked[path]
        return bool(self._unlinked)

    def put_context(self) -> None:
        """Write what is shared in the execution, if that has changed."""
        found = self.store.context(self.cell.execution_id)
        if found == self._context:
            return
        for one in found:
            self._bring(named_in(one.value or b""))
        self.folder.write(names.CONTEXT, documents.of_context(self.cell, found))
        self._context = found

    # Names

    def _stem(self, cell: NodeState) -> str:
        return self._own(names.of_attempt(cell.node_id, cell.iteration), _exact(cell))

    def _own(self, stem: str, exact: str) -> str:
        """A name that nothing else has, where case does not count either."""
        fitted = names.fitted(stem, exact)
        if self._stems.setdefault(fitted.casefold(), exact) == exact:
            return fitted
        return names.apart(stem[:names.STEM_CHARS_MAX - 30], exact)

    # Blobs

    def _bring_blobs(self, cell: NodeState | ExecutionCell) -> None:
        if cell.blob is not None:
            self._bring({cell.blob})
        inner = (cell.output, cell.items, cell.meta, cell.request) if isinstance(cell, NodeState) else (
            cell.inputs, cell.output)
        for raw in inner:
            if raw is not None and MARKED in raw:
                self._bring(named_in(raw))

    def _bring(self, digests: set[str]) -> None:
        """Copy blobs, and those that they name."""
        todo, certain = sorted(digests - self._blobs), set(digests)
        while todo:
            digest = todo.pop()
            if not self.folder.has_blob(digest):
                names_of = Names(set())
                try:
                    content = self.store.open_blob(digest)
                except KeyError:
                    if digest in certain:
                        raise StoreCorrupt(f"{self.store.url} has no blob {digest}, which execution "
                                         f"{self.cell.execution_id} names") from None
                    continue  # it only looks like one
                with content:
                    self.folder.put_blob(digest, content, names_of.see)
                todo += names_of.found - self._blobs
            self._blobs.add(digest)


def _exact(cell: NodeState) -> str:
    """What a name stands for."""
    return cell.node_id if cell.iteration == "1" else f"{cell.node_id}\0{cell.iteration}"


def _source(store: Store, digest: str) -> str:
    try:
        return store.source(digest)
    except KeyError:
        return ""  # made without a diagram, by a state manager
