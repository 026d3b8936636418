"""Collecting blobs and diagrams that nothing names, while others write.

Looking through all cells takes longer than a transaction may, and meanwhile somebody can name what was found
to be unused. So a blob's row is first *doomed* (`size` becomes its complement, which nobody reads), then all
names are looked through, and at the end only what is still doomed is deleted. Whoever puts a blob together
with the cell that names it, in one transaction, thereby saves a doomed row; whoever names it within an
execution that names it already is seen by the look. Before the deletion the row is saved, after it the row
and its file are written anew: no instant lies between. A prune that was killed leaves doomed rows, which work
like others, for the next one.

A blob's file is written before its row. `BlobFiles.put` makes a file that is there look new again, and files
that are younger than `YOUNG_S`, or than any body that runs now (it may have made the file for its result),
are left for the next prune. So a file is deleted only if nobody needed it to be there since before we looked.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol, TypeVar

import apsw
import msgspec

from treadle.errors import StoreCorrupt
from treadle.state import codec
from treadle.state.blob import named_in
from treadle.store.blobs import SETTLE_S, YOUNG_S, BlobFiles
from treadle.store.retention import Pruned, names_in
from treadle.store.sqlite.connection import queries

_T = TypeVar("_T")
_json = msgspec.json.Encoder().encode

WINDOW = 2000
"""Rows that are looked through in one read transaction."""
WEIGHED = 100
"""Executions whose sizes one statement tells."""
BYTES = 4 * 1024 * 1024
"""Contents of blobs that one transaction dooms or deletes."""


class Lend(Protocol):
    """Calls with a reader's connection."""

    def __call__(self, use: Callable[[apsw.Connection], _T]) -> _T: ...


class Questions:
    """Queries that answer with one row, on a reader's connection."""

    def __init__(self, lend: Lend, content: Callable[[str], bytes]) -> None:
        self._lend, self.content = lend, content
        self.sql = queries()

    def json(self, name: str, *values: object, type: type[_T]) -> _T:
        return msgspec.json.decode(self.text(name, *values) or "null", type=type)

    def text(self, name: str, *values: object) -> str | None:
        text: str | None = self._lend(lambda connection: connection.execute(self.sql[name], values).get)
        return text

    def pragma(self, *names: str) -> int:
        """The product of some pragmas."""
        def use(connection: apsw.Connection) -> int:
            product = 1
            for name in names:
                product *= int(connection.pragma(name))
            return product

        return self._lend(use)


class Weight(NamedTuple):
    """What an execution takes: its cells, and about how many bytes with its logs, its context, and the blobs
    that it names."""

    cells: int
    size: int


def weights(ask: Questions, files: BlobFiles, ids: Sequence[str]) -> dict[str, Weight]:
    """What these executions take, in their order, those that are there. A blob counts once for every
    execution that names it; what a large output names in its turn isn't looked for."""
    found: dict[str, Weight] = {}
    for at in range(0, len(ids), WEIGHED):
        rows = ask.json("weigh", _text(ids[at:at + WEIGHED]), type=list[tuple[str, int, int, str]])
        named = {name: names_in(texts) for name, _, _, texts in rows}
        blobs = ask.json("some_blobs", _text(set().union(*named.values())), type=list[_Blob])
        sizes = {one.digest: max(one.size, ~one.size) for one in blobs}
        for name, cells, size, _ in rows:
            shares = (sizes[one] if one in sizes else files.size_of(one) for one in named[name])
            found[name] = Weight(cells, size + sum(shares))
    return {name: found[name] for name in ids if name in found}


class _Blob(msgspec.Struct, frozen=True, array_like=True):
    """A row of `blobs`."""

    id: int
    digest: str
    size: int


class _Texts(msgspec.Struct, frozen=True, array_like=True):
    """Digests in the column `blob`, and texts that may name others."""

    column: str | None
    others: str | None


class Sweep:
    """One look for what nothing names. `go_on` is called between two looks, and raises to end them; `done` is
    told what was deleted, `young` of each file that was left its size."""

    def __init__(self, ask: Questions, transaction: Callable[[], AbstractContextManager[apsw.Connection]],
                 go_on: Callable[[], None], files: BlobFiles, done: Pruned, young: dict[str, int]) -> None:
        self._ask, self._transaction, self._go_on = ask, transaction, go_on
        self._files, self._done, self._young = files, done, young
        self._inside: dict[str, set[str]] = {}  # by the digest of an output: the blobs that it names

    def blobs(self, names: set[str], *, thorough: bool) -> None:
        """Delete those of these blobs that nothing names any more; with `thorough` all such blobs."""
        if not (names or thorough):
            return
        writes, running = self._ask.json("who_writes", type=list[float | None])
        before = min(time.time() - YOUNG_S, math.inf if running is None else running)
        rows = {one.digest: one for one in (self._all() if thorough else self._some(names))}
        if thorough:
            self._files.clean(before)
        filed = set(self._files.digests()) if thorough else {one for one in names if self._files.has(one)}
        suspects = set(rows) | filed
        if thorough:
            suspects -= self._named(suspects)
            self._write("save_blobs", [one for one in rows.values()
                                       if one.size < 0 and one.digest not in suspects])
        if not suspects:
            return
        doomed = [rows[one] for one in suspects if one in rows]
        self._write("doom_blobs", doomed)
        if writes:
            time.sleep(SETTLE_S)
        named = self._named(suspects)
        self._write("save_blobs", [one for one in doomed if one.digest in named])
        gone = {one for one in suspects - named if one not in rows}
        gone |= self._delete([one for one in doomed if one.digest not in named])
        self._unlink(gone & filed, rows, before)

    def unused(self) -> set[str]:
        """The blobs that nothing names at the moment."""
        suspects = {one.digest for one in self._all()}.union(self._files.digests())
        return suspects - self._named(suspects)

    def missing(self) -> set[str]:
        """The blobs in values whose files are gone."""
        found: set[str] = set()
        outputs: set[str] = set()
        for texts in self._places():
            outputs |= names_in(texts.column or "")
            found |= named_in((texts.others or "").encode())
        for digest in outputs:
            found |= named_in(self._content(digest))
        return {digest for digest in found if not self._files.has(digest)}

    def _delete(self, blobs: list[_Blob]) -> set[str]:
        gone: set[str] = set()
        for part in _parts(blobs):
            text = _text(one.digest for one in part)
            with self._transaction() as connection:
                found = connection.execute(self._ask.sql["doomed_blobs"], (text,)).get
                connection.execute(self._ask.sql["prune_blobs"], (text,))
            gone.update(msgspec.json.decode(found, type=list[str]))
        self._done.blobs += len(gone)
        return gone

    def _unlink(self, digests: set[str], rows: dict[str, _Blob], before: float) -> None:
        for digest in digests:
            if self._files.remove(digest, before):
                self._done.blobs += digest not in rows
            else:
                self._young[digest] = self._files.size_of(digest)
        self._done.blobs_young = len(self._young)

    def _write(self, name: str, blobs: list[_Blob]) -> None:
        for part in _parts(blobs):
            with self._transaction() as connection:
                connection.execute(self._ask.sql[name], (_text(one.digest for one in part),))

    def _all(self) -> Iterator[_Blob]:
        last = 0
        while found := self._ask.json("list_blobs", last, WINDOW, type=list[_Blob]):
            last = found[-1].id
            yield from found

    def _some(self, names: set[str]) -> list[_Blob]:
        return self._ask.json("some_blobs", _text(names), type=list[_Blob])

    # Who names what

    def _named(self, suspects: set[str]) -> set[str]:
        """Which of these something names."""
        named: set[str] = set()
        outputs: set[str] = set()
        for texts in self._places() if suspects else ():
            self._go_on()
            own = names_in(texts.column or "")
            outputs |= own
            named |= (own | names_in(texts.others or "")) & suspects
        for digest in outputs if len(named) < len(suspects) else ():
            self._go_on()
            if digest not in self._inside:
                self._inside[digest] = self._look_inside(digest)
            named |= self._inside[digest] & suspects
        return named

    def _places(self) -> Iterator[_Texts]:
        lasts = self._ask.json("last_rows", type=list[int | None])
        names = ("names_in_cells", "names_in_executions", "names_in_cache", "names_in_context")
        for name, last in zip(names, lasts, strict=True):
            for first in range(1, (last or 0) + 1, WINDOW):
                yield self._ask.json(name, first, first + WINDOW - 1, type=_Texts)
        yield self._ask.json("names_in_signals", type=_Texts)

    def _look_inside(self, digest: str) -> set[str]:
        """What a large output names."""
        return names_in(self._content(digest).decode("latin-1"))

    def _content(self, digest: str) -> bytes:
        """A large output that may name blobs. StoreError if it can't be read here: then that is not known."""
        content = b""
        with contextlib.suppress(KeyError, StoreCorrupt):  # what is lost or damaged can't be used any more
            content = self._ask.content(digest)
        return content if content.startswith(codec.MARK) else b""

    def cache(self) -> None:
        """Delete results that were kept for others by executions that are gone."""
        last = self._ask.json("last_rows", type=list[int | None])[2]
        for first in range(1, (last or 0) + 1, WINDOW):
            with self._transaction() as connection:
                connection.execute(self._ask.sql["prune_cache"], (first, first + WINDOW - 1))

    def diagrams(self, hashes: set[str], *, thorough: bool) -> None:
        """Delete those of these diagrams that no execution has any more; with `thorough` all such."""
        unused = self._ask.json("unused_diagrams", type=list[str])
        gone = [one for one in unused if thorough or one in hashes]
        if gone:
            with self._transaction() as connection:
                connection.execute(self._ask.sql["prune_diagrams"], (_text(gone),))
                self._done.diagrams += connection.changes()


def _parts(blobs: list[_Blob]) -> Iterator[list[_Blob]]:
    """Blobs for one transaction each."""
    part: list[_Blob] = []
    size = 0
    for one in blobs:
        own = max(one.size, ~one.size)
        if part and (size + own > BYTES or len(part) == WINDOW):
            yield part
            part, size = [], 0
        part.append(one)
        size += own
    if part:
        yield part


def _text(value: Iterable[object]) -> str:
    return _json(list(value)).decode()
