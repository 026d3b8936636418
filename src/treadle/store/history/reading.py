"""From a folder to a store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import Corruption, InvalidInput, StoreCorrupt, WrongKey, did_you_mean
from treadle.ids import check_execution_id, parse_iteration, parse_path
from treadle.state.blob import named_in
from treadle.state.cell import CellKey, ContextCell, ExecutionCell, NodeState, join
from treadle.state.context import space_of
from treadle.store.base import Arriving, LogLine, Signal, Summary
from treadle.store.history import names
from treadle.store.history.folder import Folder, Seal, find_histories
from treadle.store.history.sealing import seal_for_reading
from treadle.store.memory import MemoryStore
from treadle.store.transfer.layout import Entry, Header, blobs_of, names_in_values


class History:
    """A folder that was read and looked through: an execution as a store would take it. Blobs are read when
    they are asked for, and compared with their names then."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self.path = folder.path
        self.cell = _execution(folder)
        self.source = folder.source()
        self.cells = list(self._cells())
        self.context = self._context()
        self.signals: list[Signal] = []
        self.logs: list[LogLine] = []
        self._check()
        sizes = {digest: folder.blob_size(digest) for digest in folder.blobs()}
        self.header = Header(
            1, self.cell.execution_id, self.cell.name, self.cell.status.value, len(self.cells), 0.0, "", "",
            {f"blobs/{digest}": Entry(size, digest) for digest, size in sizes.items()})

    def _cells(self) -> Iterator[NodeState]:
        seen: dict[CellKey, str] = {}
        for name in self._folder.attempts():
            cell = self._folder.node(name)
            try:
                parse_path(cell.node_id)
                parse_iteration(cell.iteration)
            except ValueError as error:
                raise self._damaged(name, str(error)) from None
            if cell.execution_id != self.cell.execution_id:
                raise self._damaged(name, f"it is of execution {cell.execution_id}")
            if seen.setdefault(cell.key, name) != name:
                raise self._damaged(name, f"it says that it is the same attempt as {seen[cell.key]}")
            yield cell

    def _context(self) -> list[ContextCell]:
        found = self._folder.context()
        for one in found:
            try:
                space_of(one.key)
            except ValueError as error:
                raise self._damaged(names.CONTEXT, str(error)) from None
            if one.execution_id != self.cell.execution_id:
                raise self._damaged(names.CONTEXT, f"it is of execution {one.execution_id}")
        return found

    def _check(self) -> None:
        drawn = hashlib.blake2b(self.source.encode(), digest_size=16).hexdigest()
        if self.source and drawn != self.cell.diagram:
            raise self._damaged(names.INIT, "its diagram is not the one that its execution names")
        _, certain = names_in_values(self.cell, self.cells, (), self.context)
        missing = sorted((blobs_of(self.cell, self.cells) | certain) - set(self._folder.blobs()))
        if missing:
            holder = next((f"node {one.node_id!r}" for one in self.cells
                           if one.blob in missing or missing[0] in named_in(one.output or b"")), "it")
            raise StoreCorrupt(f"{self.path / names.BLOBS} lacks the blob {missing[0]}, which {holder} names")

    def _damaged(self, name: str, why: str) -> StoreCorrupt:
        return _damaged(self._folder, name, why)

    def blobs(self) -> list[Arriving]:
        """The blobs, each with a way to open it."""
        return [Arriving(name.removeprefix("blobs/"), entry.bytes, partial(self.open_blob, entry.sha256))
                for name, entry in self.header.entries.items()]

    def open_blob(self, digest: str) -> IO[bytes]:
        """A blob to read; KeyError if it isn't there."""
        if not self._folder.has_blob(digest):
            raise KeyError(digest)
        return self._folder.open_blob(digest)


class HistoryStore(MemoryStore):
    """The one execution of a history as a store, to be read. Its blobs stay where they are."""

    def __init__(self, history: History) -> None:
        super().__init__()
        self.execution_id, self.path = history.cell.execution_id, history.path
        self._history = history
        self.adopt(history.cell, history.cells, history.source, context=history.context)

    def summary(self, execution_id: str) -> Summary:
        # Whether somebody runs it is the store's to know.
        return msgspec.structs.replace(super().summary(execution_id), stale=False)

    def open_blob(self, digest: str) -> IO[bytes]:
        return self._history.open_blob(digest)

    def blob(self, digest: str) -> bytes:
        with self.open_blob(digest) as file:
            return file.read()


def read_history(path: str | Path, execution_id: str | None = None, *, seal: Seal | None = None,
                 config: TreadleConfig = DEFAULT_CONFIG) -> History:
    """Read the history of one execution: its own folder, or one of those in a folder.

    InvalidInput if it is no such folder, or if it isn't clear which; StoreCorrupt names the file that is
    damaged; WrongKey if it is encrypted, and the key that is given as for a store (or `seal`) is another
    one; LimitExceeded, OSError.
    """
    where, seal = Path(path), seal or seal_for_reading()
    folders = [where] if (where / names.INIT).is_file() else histories_in(where)
    if execution_id is not None:
        folders = _chosen(where, folders, execution_id, seal, config)
    if len(folders) > 1:
        listed = "".join(f"\n{one}" for one in folders[:10])
        raise InvalidInput(f"{where} has the histories of several executions: name one of them{listed}")
    return History(Folder(folders[0], seal, config))


def _chosen(where: Path, folders: list[Path], execution_id: str, seal: Seal,
            config: TreadleConfig) -> list[Path]:
    """The folders of executions whose ids begin so; only the one whose id is just that, if there is one."""
    known: dict[Path, str] = {}
    for path in folders:
        try:
            known[path] = Folder(path, seal, config).execution(names.INIT).execution_id
        except (StoreCorrupt, WrongKey):
            if f"_{names.of_execution(execution_id)}" in path.name:
                raise
    found = [path for path, one in known.items() if one.startswith(execution_id)]
    if not found:
        listed = list(known.values())
        raise InvalidInput(f"{where} has no history of an execution {execution_id!r}: "
                           f"{did_you_mean(execution_id, listed) or 'it has ' + ', '.join(listed[:5])}")
    return [path for path in found if known[path] == execution_id] or found


def histories_in(path: Path) -> list[Path]:
    """The folders of executions in a folder; InvalidInput if there are none, or no folder."""
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise InvalidInput(f"{path} {what}: name the folder of --state-history, or one in it")
    found = find_histories(path)
    if not found:
        raise InvalidInput(f"{path} has no history of an execution: a folder with {names.INIT}, as "
                           "`treadle run --state-history` writes it")
    return found


def summarized(path: Path, *, seal: Seal | None = None, config: TreadleConfig = DEFAULT_CONFIG
               ) -> ExecutionCell:
    """What a folder says of its execution as a whole. StoreCorrupt names the file."""
    return _execution(Folder(path, seal or seal_for_reading(), config))


def _execution(folder: Folder) -> ExecutionCell:
    cell = folder.execution(names.INIT)
    try:
        check_execution_id(cell.execution_id)
        if folder.has(names.FINAL):
            final = folder.execution(names.FINAL)
            if final.execution_id != cell.execution_id:
                raise ValueError(f"it is of execution {final.execution_id}")
            cell = join(cell, final)
    except (ValueError, Corruption) as error:  # Corruption: two states under one version
        raise _damaged(folder, names.FINAL, str(error)) from None
    return cell


def _damaged(folder: Folder, name: str, why: str) -> StoreCorrupt:
    return StoreCorrupt(f"{folder.path / name} is damaged, or belongs elsewhere: {why}")
