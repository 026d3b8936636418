"""Deleting executions by a policy, in portions so short that no writer notices.

Portions are transactions of some 20 ms, and others get the file for as long in between. A small execution
goes whole, together with others. A large one is first marked in a transaction of its own as cancelled, its
lease raised and its diagram gone, so that nobody can go on with it; then its cells go, then the rest. A prune
that was killed leaves at most one such mark, and the next one begins with it.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import apsw
import msgspec

from treadle.config import Retention
from treadle.errors import StoreError
from treadle.state.cell import ErrorInfo
from treadle.store.base import Owner
from treadle.store.blobs import BlobFiles
from treadle.store.owner import is_dead
from treadle.store.retention import (
    HALF_GONE,
    Between,
    Candidate,
    Pruned,
    between_portions,
    considered,
    names_in,
    overdue,
)
from treadle.store.sqlite.sweep import Lend, Questions, Sweep, Weight, weights
from treadle.store.sqlite.writing import BatchWriter, patiently

_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode

TABLES = ("keys", "node_states", "signals", "logs", "context")
"""What belongs to an execution: tables with a column `execution_id`. A new one is added here."""
PORTION_S = 0.02
"""How long a transaction should take; it may take twice as long."""
ROWS_MIN, ROWS_MAX = 50, 20_000
"""Rows that one transaction deletes: it begins with few, and finds out how many it can."""
PAGES = 200
"""Pages that the first incremental vacuum of a prune moves."""
LISTED, COUNTED = 2000, 100
"""Executions that are read at once, and whose cells are counted at once."""
MARK = "-pruned"
"""The end of the name of a file beside the store; its time is that of the last prune by a policy. It is
empty, unless that prune was ended: then the next one is thorough."""
_UNFINISHED = "unfinished\n"


class _Row(NamedTuple):
    """A row of the query `prunable`."""

    id: int
    execution_id: str
    status: str
    name: str
    created_at: float | None
    ended_at: float | None
    diagram: str
    parent: str | None
    lease_epoch: int
    epoch: int
    seq: int
    owner: str | None
    expires_at: float | None


class _Stopped(Exception):
    """Whoever asked for the prune wants it to end."""


class Pruner:
    """One prune of one file. `lend` calls with a reader's connection, `content` reads a blob."""

    def __init__(self, path: str, writer: BatchWriter, lend: Lend, content: Callable[[str], bytes],
                 files: BlobFiles, between: Between | None) -> None:
        self._path, self._writer, self._files, self._between = path, writer, files, between
        self._ask = Questions(lend, content)
        self._sql = self._ask.sql
        self._rows: dict[str, _Row] = {}
        self._dead: list[str] = []  # owners that are, as the store writes them
        self._portion = 500
        self._names: set[str] = set()  # blobs that what was deleted had named
        self._diagrams: set[str] = set()
        self._young: dict[str, int] = {}  # files of blobs that will go, but not yet, and their sizes
        self._done = Pruned()

    def prune(self, policy: Retention, now: float, *, thorough: bool, dry_run: bool,
              every_s: float) -> Pruned:
        """See `treadle.store.base.Store.prune`."""
        mark = Path(self._path + MARK)
        if every_s and mark.exists() and time.time() - mark.stat().st_mtime < every_s:
            return self._done
        found = self._candidates()
        scope = considered(found, policy)
        gone = overdue(scope, policy, now)
        chosen = {one.execution_id for one in gone}
        rest = [one for one in scope if one.execution_id not in chosen]
        if dry_run:
            return self._foretold(gone, rest, policy)
        with _alone(self._path):
            before = self._size()
            if every_s:
                thorough = thorough or not mark.exists() or mark.stat().st_size > 0
                mark.write_text(_UNFINISHED)
            try:
                self._delete([one.execution_id for one in found if one.begun], began=True)
                self._delete([one.execution_id for one in gone])
                self._sweep(thorough)
                self._shrink_to(policy, rest)
                self._vacuum()
                if every_s:
                    mark.write_text("")
            except _Stopped:
                pass
            self._done.bytes_freed = max(0, before - self._size())
        return self._done

    # Choosing

    def _candidates(self) -> list[Candidate]:
        last = 0
        while rows := self._ask.json("prunable", last, LISTED, type=list[_Row]):
            last = rows[-1].id
            self._rows.update((row.execution_id, row) for row in rows)
        alive = {}
        for text in {row.owner for row in self._rows.values() if row.owner is not None}:
            alive[text] = not is_dead(msgspec.json.decode(text, type=Owner))
        self._dead = [text for text, lives in alive.items() if not lives]
        at = time.time()  # leases are judged by the store's clock
        held = {row.execution_id for row in self._rows.values()
                if row.owner is not None and (row.expires_at or 0.0) > at and alive[row.owner]}
        parents = {row.parent for row in self._rows.values() if row.parent is not None
                   and (row.execution_id in held or row.status in ("pending", "running", "suspended"))}
        return [Candidate(row.execution_id, row.status, row.name, row.created_at or 0.0, row.ended_at or 0.0,
                          row.execution_id in held or row.execution_id in parents, row.diagram == HALF_GONE)
                for row in self._rows.values()]

    def _foretold(self, gone: Sequence[Candidate], rest: Sequence[Candidate], policy: Retention) -> Pruned:
        weighed = self._weigh([one.execution_id for one in gone])
        done = Pruned(execution_ids=[one.execution_id for one in gone],
                      cells=sum(cells for cells, _ in weighed.values()),
                      bytes_freed=sum(size for _, size in weighed.values()))
        if policy.size_bytes_max is not None:
            over = self._size() - done.bytes_freed - policy.size_bytes_max
            for execution_id, cells, size in self._until_freed(rest, over):
                done.execution_ids.append(execution_id)
                done.cells += cells
                done.bytes_freed += size
        return done

    def _weigh(self, ids: Sequence[str]) -> dict[str, Weight]:
        return weights(self._ask, self._files, ids)

    def _until_freed(self, rest: Sequence[Candidate], over: int) -> Iterator[tuple[str, int, int]]:
        """The oldest executions that free so many bytes together."""
        for at in range(0, len(rest), 100):
            if over <= 0:
                return
            weighed = self._weigh([one.execution_id for one in rest[at:at + 100]])
            for name, (cells, size) in weighed.items():
                if over > 0:
                    over -= size
                    yield name, cells, size

    def _shrink_to(self, policy: Retention, rest: Sequence[Candidate]) -> None:
        """What an execution takes is an estimate, since executions share blobs; so delete, and look again."""
        left = list(rest)
        while policy.size_bytes_max is not None and left:
            unused = self._ask.pragma("freelist_count", "page_size") + sum(self._young.values())
            over = self._size() - unused - policy.size_bytes_max
            if over <= 0:
                return
            gone = [name for name, _, _ in self._until_freed(left, over)]
            self._delete(gone)
            self._sweep(thorough=False)
            left = left[len(gone):]

    # Deleting

    def _delete(self, ids: Sequence[str], *, began: bool = False) -> None:
        """Delete executions, as many in one transaction as go into a portion."""
        for at in range(0, len(ids), COUNTED):
            group: list[str] = []
            weight = 0
            for name, cells, others, pages in self._ask.json("count_rows", _text(ids[at:at + COUNTED]),
                                                           type=list[tuple[str, int, int, int]]):
                own = cells + others + pages
                if own > self._portion or began:
                    self._delete_large(name, began, cells / max(1, cells + pages))
                    continue
                if group and weight + own > self._portion:
                    self._delete_whole(group)
                    group, weight = [], 0
                group.append(name)
                weight += own + 5
            self._delete_whole(group)

    def _delete_whole(self, ids: Sequence[str]) -> None:
        if not ids:
            return
        self._note_names(ids, -1)
        with self._transaction() as connection:
            self._delete_rest(connection, self._still_prunable(connection, ids))

    def _delete_large(self, execution_id: str, began: bool, share: float) -> None:
        """`share`: how much of what is to be deleted are the cells themselves, and not their outputs."""
        if not began:
            with self._transaction() as connection:
                if not self._still_prunable(connection, [execution_id]):
                    return
                self._note(connection.execute(
                    self._sql["names_pruned_with_them"], (_text([execution_id]),)).get)
                self._diagrams.add(self._rows[execution_id].diagram)
                error = ErrorInfo("Pruned", "a prune that was ended has deleted a part of this execution; "
                                            "the next `treadle prune` deletes the rest")
                connection.execute(self._sql["begin_pruning"], (
                    execution_id, HALF_GONE, _json(error).decode()))
        for table in TABLES:
            rows = f"SELECT rowid FROM {table} WHERE execution_id = ? LIMIT ?"
            deleted = asked = 1
            while deleted >= asked:
                asked = max(ROWS_MIN, int(self._portion * (share if table == "node_states" else 1)))
                if table == "node_states":
                    self._note_names([execution_id], asked)
                with self._transaction() as connection:
                    connection.execute(f"DELETE FROM {table} WHERE rowid IN ({rows})", (execution_id, asked))
                    deleted = connection.changes()
                    self._done.cells += deleted if table == "node_states" else 0
        with self._transaction() as connection:
            self._delete_rest(connection, [execution_id])

    def _still_prunable(self, connection: apsw.Connection, ids: Sequence[str]) -> list[str]:
        """Those that nobody has claimed or changed since they were chosen."""
        victims = [(row.execution_id, row.lease_epoch, row.epoch, row.seq)
                   for row in map(self._rows.__getitem__, ids)]
        found = connection.execute(self._sql["still_prunable"], {
            "victims": _text(victims), "now": time.time(), "dead": _text(self._dead)}).get
        return msgspec.json.decode(found, type=list[str])

    def _delete_rest(self, connection: apsw.Connection, ids: Sequence[str]) -> None:
        text = _text(ids)
        self._note(connection.execute(self._sql["names_pruned_with_them"], (text,)).get)
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE execution_id IN (SELECT value FROM json_each(?))",
                               (text,))
            self._done.cells += connection.changes() if table == "node_states" else 0
        connection.execute(self._sql["prune_executions"], (text,))
        self._done.execution_ids += ids
        self._diagrams.update(self._rows[one].diagram for one in ids)

    def _note_names(self, ids: Sequence[str], cells: int) -> None:
        """Note what the next so many cells name (-1: all). Long outputs take long to look through, so it is
        done before the transaction: nobody writes these cells, or else their execution stays."""
        self._note(self._ask.text("names_pruned", _text(ids), cells))

    def _note(self, text: str | None) -> None:
        self._names |= names_in(text or "")

    @contextmanager
    def _transaction(self) -> Iterator[apsw.Connection]:
        """A portion. Learns how much goes into one, and then lets the others have the file."""
        with ExitStack() as stack:
            connection = stack.enter_context(self._writer.transaction(sync=False, patient=True))
            began = time.monotonic()
            yield connection
        took = time.monotonic() - began
        self._writer.checkpoint()  # left to itself it comes at 16 MB, and takes twice a portion
        if took > PORTION_S:
            self._portion = max(ROWS_MIN, self._portion // 2)
        elif took < PORTION_S / 3:
            self._portion = min(ROWS_MAX, self._portion * 2)
        self._breathe(took)

    def _breathe(self, took: float) -> None:
        between_portions(took)
        self._go_on()

    def _go_on(self) -> None:
        if self._between is not None and not self._between():
            raise _Stopped

    # Blobs, diagrams, pages

    def _sweep(self, thorough: bool) -> None:
        sweep = Sweep(self._ask, self._transaction, self._go_on, self._files, self._done, self._young)
        if thorough or self._diagrams:
            sweep.cache()
        sweep.blobs(self._names, thorough=thorough)
        sweep.diagrams(self._diagrams - {HALF_GONE}, thorough=thorough)
        self._names, self._diagrams = set(), set()

    def _vacuum(self) -> None:
        """Give what is free back to the disk."""
        pages, left = PAGES, -1
        while (free := self._free()) and free != left:
            left, began = free, time.monotonic()
            patiently(partial(self._writer.vacuum, pages), self._path)
            took = time.monotonic() - began
            pages = max(50, pages // 2) if took > PORTION_S else pages if took > PORTION_S / 3 else pages * 2
            self._breathe(took)
        self._writer.checkpoint()

    def _free(self) -> int:
        return self._ask.pragma("freelist_count")

    def _size(self) -> int:
        return self._ask.pragma("page_count", "page_size") + self._files.size()


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """Only one prune at a time: what one is about to save, another may be about to delete. The lock is on the
    folder, since closing the file itself would take SQLite's own locks away. StoreError."""
    folder = os.open(os.path.dirname(path) or ".", os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{path}, or another store in its folder, is being pruned by somebody else: try "
                             "again when that is done") from None
        except OSError:
            pass  # a file system without such locks
        yield
    finally:
        os.close(folder)


def _text(value: Iterable[object]) -> str:
    return _json(list(value)).decode()
