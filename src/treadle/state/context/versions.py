"""Many versions of every key: snapshots that cost nothing, transactions of which the first to commit wins.

Commits are numbered. A key holds its cells newest first, so a snapshot is a number: each key's newest cell
that is not younger. Readers take no lock: a key's cells are a tuple that a commit replaces, and a commit is
seen when, last of all, the current number changes. A cell is dropped when no living snapshot can ask for it.
"""

from __future__ import annotations

import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, Protocol

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import Conflict, MutationVetoed, TransactionError, WriteConflict
from treadle.state import codec
from treadle.state.cell import ContextCell, join_cells
from treadle.state.context.about import of_bodies
from treadle.state.context.access import Draft, Snapshot, Transaction, space_of
from treadle.state.context.spaces import Shares, changed

_FEW = 8
"""So many keys or moments may be looked through at a commit; more must be paid for by as many commits."""


class Change(NamedTuple):
    """What a transaction does to one key; None where there is no value."""

    old: Any
    new: Any


class Mutation(msgspec.Struct, frozen=True):
    """A transaction that is about to commit, to be looked at."""

    execution_id: str
    writer: str
    changes: Mapping[str, Change]

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(self.changes)


class Sink(Protocol):
    """Who writes commits down. Called within the commit, in their order."""

    def __call__(self, cells: Sequence[ContextCell], /) -> None: ...


class _Moment:
    """The state after a commit. As long as it lives, what it needs is kept."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int) -> None:
        self.number = number


class SharedContext(Shares):
    """The shared state of one execution. Any thread may read and write; `lock` (a `threading.Lock`, say) is
    held for the instant of a commit only.

    `cells` are those recorded before; new ones get `epoch`, or theirs, and numbers above all of them. `sink`
    gets the cells of each commit; `on_commit` sees each transaction before, in the thread that commits, and
    refuses it with a reason; `refuse` says why nobody may write at the moment, or None.
    """

    __slots__ = ("_changed", "_closed", "_crowded", "_keys", "_lock", "_look_at", "_moment", "_now",
                 "_numbers", "_older", "_refuse", "_sink", "_sweep_at", "_versions", "config", "epoch",
                 "execution_id", "on_commit", "writer")

    def __init__(self, execution_id: str, *, epoch: int = 1, cells: Iterable[ContextCell] = (),
                 lock: AbstractContextManager[Any] | None = None, now: Callable[[], float] = lambda: 0.0,
                 sink: Sink | None = None, on_commit: Callable[[Mutation], str | None] | None = None,
                 refuse: Callable[[], str | None] | None = None, writer: str = "",
                 config: TreadleConfig = DEFAULT_CONFIG) -> None:
        self.execution_id, self.epoch, self.config, self.writer = execution_id, epoch, config, writer
        self.on_commit = on_commit
        self._lock: AbstractContextManager[Any] = nullcontext() if lock is None else lock
        self._now, self._sink, self._refuse = now, sink, refuse
        self._closed = ""
        self._versions: dict[str, tuple[ContextCell, ...]] = {}
        self._keys: dict[str, dict[str, None]] = {}  # by space
        self._changed: dict[str, int] = {}  # by space, "" for all: the last commit that changed it
        self._older: list[weakref.ref[_Moment]] = []  # moments before the current one that may be held
        self._numbers: list[int] = []  # theirs, ascending
        self._look_at = _FEW
        self._crowded: set[str] = set()  # keys that hold more than their newest value
        self._sweep_at = _FEW
        self._moment = _Moment(0)
        self.load(cells)

    def load(self, cells: Iterable[ContextCell]) -> None:
        """Begin with recorded cells: the join of them and of what is there."""
        with self._lock:
            number = self._moment.number
            for cell in cells:
                number, self.epoch = max(number, cell.seq), max(self.epoch, cell.epoch)
                known = self._versions.get(cell.key)
                newest = cell if known is None else join_cells(known[0], cell)
                self._versions[cell.key] = (newest,)
                if newest.value is not None:
                    self._keys.setdefault(space_of(cell.key), {})[cell.key] = None
            self._moment = _Moment(number)

    def close(self, why: str) -> None:
        """Refuse every later commit with this reason. The sink is called once more, with nothing: all that
        was committed is with it."""
        with self._lock:
            self._closed = why
            if self._sink is not None:
                self._sink(())

    def cells(self) -> dict[str, ContextCell]:
        """The newest cell of every key that is there."""
        return {key: cells[0] for key, cells in list(self._versions.items()) if cells[0].value is not None}

    def transaction(self, *, writer: str = "") -> Transaction:
        """See `Shares.transaction`; `writer` is recorded with what it writes."""
        return Transaction(self, writer or self.writer)

    def update(self, key: str, function: Callable[[Any], Any], default: Any = None, *,
               writer: str = "") -> Any:
        """See `Shares.update`."""
        return changed(self, writer or self.writer, key, function, default)

    def _sharing(self) -> tuple[SharedContext, str]:
        return self, self.writer

    # Reading, without a lock

    def moment(self) -> _Moment:
        """See `treadle.state.context.access.Ground`, here and below."""
        return self._moment

    def raw(self, moment: _Moment | None, key: str) -> bytes | None:
        moment = moment or self._moment  # held until we are done: else a commit might drop what we look for
        number = moment.number
        for cell in self._versions.get(key, ()):
            if cell.seq <= number:
                return cell.value
        return None

    def keys(self, moment: _Moment | None, space: str) -> list[str]:
        moment = moment or self._moment
        wanted = list(self._versions) if space == "" else list(self._keys.get(space, ()))
        return [key for key in wanted if self.raw(moment, key) is not None]

    # Writing

    def commit(self, draft: Draft) -> None:
        while not self._committed(draft):
            pass

    def _committed(self, draft: Draft) -> bool:
        """Commit, unless what the guard was shown has changed meanwhile: then it is to be asked again."""
        seen = -1
        if self.on_commit is not None:
            shown = self._moment if draft.since is None else draft.since
            self._ask(draft, shown)
            seen = shown.number
            del shown  # or what it needs would be kept
        at = self._now()
        with self._lock:
            why = self._closed or (self._refuse() if self._refuse is not None else None)
            if why:
                raise TransactionError(f"{draft.writer or 'somebody'} can't write to the context of "
                                       f"execution {self.execution_id}: {why}")
            if draft.since is not None:
                self._validate(draft)
            elif self.on_commit is not None and any(
                    (found := self._versions.get(key)) is not None and found[0].seq > seen
                    for key in draft.writes):
                return False
            limit = self.config.context_keys_max
            if len(self._versions) + len(draft.writes) > limit and (
                    len(self._versions.keys() | draft.writes.keys()) > limit):
                raise self.config.exceeded("context_keys_max", f"more than {limit} keys")
            self._write(draft, at)
        return True

    def _ask(self, draft: Draft, since: _Moment) -> None:
        assert self.on_commit is not None
        mutation = Mutation(self.execution_id, draft.writer, {
            key: Change(_decoded(self.raw(since, key)), _decoded(raw)) for key, raw in draft.writes.items()})
        reason = self.on_commit(mutation)
        if reason:
            raise MutationVetoed(reason, writer=draft.writer, keys=mutation.keys)

    def _validate(self, draft: Draft) -> None:
        """The first to commit wins: whoever read, or would overwrite, what has changed since has lost."""
        since: int = draft.since.number
        versions = self._versions
        lost = [key for key in (draft.reads | draft.writes.keys())
                if (found := versions.get(key)) is not None and found[0].seq > since]
        for space in draft.scans:
            if self._changed.get(space, 0) > since:
                lost += [key for key, cells in versions.items()
                         if key.startswith(space) and cells[0].seq > since and key not in lost]
        if lost:
            raise WriteConflict(draft.writer, [self._conflict(key, draft.since) for key in sorted(lost)])

    def _conflict(self, key: str, since: _Moment) -> Conflict:
        cells = self._versions[key]
        read = next((cell for cell in cells if cell.seq <= since.number), None)
        return Conflict(key, None if read is None else read.version, cells[0].writer, cells[0].version)

    def _write(self, draft: Draft, at: float) -> None:
        number = self._moment.number + 1
        cells = [ContextCell(self.execution_id, key, self.epoch, number, value, draft.writer, at)
                 for key, value in draft.writes.items()]
        for cell in cells:
            key = cell.key
            self._versions[key] = (cell, *self._versions.get(key, ()))
            space = space_of(key)
            self._changed[space] = number
            self._keys.setdefault(space, {})[key] = None
        self._changed[""] = number
        draft.since = None  # it needs no old versions any more
        old = weakref.ref(self._moment)
        self._moment = _Moment(number)
        if (held := old()) is not None:
            self._older.append(old)
            self._numbers.append(held.number)
            del held
        self._forget(draft.writes)
        if self._sink is not None:
            self._sink(cells)

    # Forgetting

    def _forget(self, keys: Iterable[str]) -> None:
        """Drop what nobody can ask for any more. The commits before have paid for each look at
        everything."""
        older = self._older
        dead = 0
        while dead < len(older) and older[dead]() is None:
            dead += 1
        del older[:dead], self._numbers[:dead]
        if len(older) > self._look_at:  # some in the middle may be dead, too
            held = [(ref, one.number) for ref in older if (one := ref()) is not None]
            self._older, self._numbers = [ref for ref, _ in held], [number for _, number in held]
            self._look_at = max(_FEW, 2 * len(held))
        if dead and self._numbers and len(self._crowded) <= _FEW:
            for key in self._crowded:
                self._trim_oldest(key)
        if self._numbers and len(self._crowded) < self._sweep_at:
            self._crowded.update([key for key in keys if self._trim(key, 1)])
            return
        # A new set: the table of an old one stays as large as it ever was, and is walked through whole.
        self._crowded = {key for key in {*keys, *self._crowded} if self._trim(key, None)}
        self._sweep_at = max(_FEW, 2 * len(self._crowded))

    def _trim_oldest(self, key: str) -> None:
        versions, oldest = self._versions[key], self._numbers[0]
        count = len(versions)
        while count > 1 and versions[count - 2].seq <= oldest:
            count -= 1
        self._versions[key] = versions[:count]

    def _trim(self, key: str, depth: int | None) -> bool:
        """Drop of the versions of a key that are older than the newest, the first so many, those that nobody
        can ask for. Whether anything is left to be dropped later."""
        versions = self._versions[key]
        newest, others = versions[0], versions[1:]
        younger, numbers, kept = newest.seq, self._numbers, []
        for cell in others if depth is None else others[:depth]:
            at = bisect_left(numbers, cell.seq)
            if at < len(numbers) and numbers[at] < younger:  # somebody is between this one and the next
                kept.append(cell)
            younger = cell.seq
        rest = others[len(others) if depth is None else depth:]
        if len(kept) + len(rest) != len(others):
            self._versions[key] = (newest, *kept, *rest)
        if kept or rest:
            return True
        if newest.value is not None:
            return False
        if numbers and numbers[0] < newest.seq:  # a transaction may have found it missing, or there
            return True
        del self._versions[key]
        del self._keys[space_of(key)][key]
        return False


def snapshot_of(cells: Iterable[ContextCell]) -> Snapshot:
    """A snapshot of recorded cells, without the engine's own."""
    found = of_bodies(cells)
    return Snapshot(SharedContext(found[0].execution_id if found else "", cells=found))


def _decoded(raw: bytes | None) -> Any:
    return None if raw is None else codec.decode(raw)
