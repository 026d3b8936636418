"""Data keys in SQLite."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import apsw
import msgspec

from treadle.store.base import Owner
from treadle.store.owner import is_dead
from treadle.store.sealing.table import OWN, KeyRow, check_master, has_plaintext, refuse_running
from treadle.store.sqlite.connection import all_rows, first_row, queries
from treadle.store.sqlite.sweep import Lend
from treadle.store.sqlite.writing import BatchWriter

_json = msgspec.json.Encoder().encode


class SqliteKeys:
    """See `treadle.store.sealing.table.Keys`. `writer` gives the one that writes, `lend` calls with a
    reader's connection."""

    def __init__(self, path: str, writer: Callable[[], BatchWriter], lend: Lend) -> None:
        self._path, self._writer, self._lend = path, writer, lend
        self._sql = queries()

    def get(self, execution_id: str) -> KeyRow | None:
        return self._lend(lambda connection: self._get(connection, execution_id))

    def _get(self, connection: apsw.Connection, execution_id: str) -> KeyRow | None:
        row = first_row(connection, self._sql["get_key"], (execution_id,))
        return None if row is None else KeyRow(*row)

    def found(self) -> KeyRow | None:
        return self.get(OWN)

    def begin(self, own: KeyRow) -> KeyRow:
        with self._writer().transaction(patient=True) as connection:
            known = self._get(connection, OWN)
            if known is not None:
                return known
            if connection.execute("SELECT EXISTS (SELECT 1 FROM executions)").get:
                raise has_plaintext(self._path)
            self._put(connection, [own])
            return own

    def put(self, rows: Sequence[KeyRow]) -> dict[str, KeyRow]:
        # Not fsynced: the commit of the executions comes after it in the same WAL. Nor patient: a batch is
        # tried again.
        with self._writer().transaction(sync=False) as connection:
            check_master(self._get(connection, OWN), rows)
            if self._put(connection, rows) == len(rows):
                return {row.execution_id: row for row in rows}
            wanted = _json([row.execution_id for row in rows]).decode()
            return {row[0]: KeyRow(*row) for row in all_rows(connection, self._sql["get_keys"], (wanted,))}

    def _put(self, connection: apsw.Connection, rows: Sequence[KeyRow]) -> int:
        """Write keys where there is none, in one statement; returns how many."""
        text = _json([(row.execution_id, row.master_id, (row.wrapped or b"").hex(), row.at) for row in rows])
        connection.execute(self._sql["put_keys"], (text.decode(),))
        return connection.changes()

    def rewrap(self, wrap: Callable[[KeyRow], KeyRow]) -> int:
        with self._writer().transaction(patient=True) as connection:
            refuse_running(self._running(connection))
            live: list[Any] = connection.execute(self._sql["live_keys"]).fetchall()
            for row in live:
                new = wrap(KeyRow(*row))
                connection.execute(self._sql["change_key"], (
                    new.execution_id, new.master_id, new.wrapped, new.at))
        self._writer().empty_wal()  # pages from before are in it, too
        return len(live)

    def destroy(self, execution_ids: Iterable[str]) -> list[str]:
        wanted = _json([one for one in execution_ids if one != OWN]).decode()
        with self._writer().transaction(patient=True) as connection:
            there = [str(row[0]) for row in all_rows(connection, self._sql["get_keys"], (wanted,))]
            refuse_running(set(there).intersection(self._running(connection)))
            connection.execute(self._sql["destroy_keys"], (wanted, time.time()))
        self._writer().empty_wal()  # pages from before are in it, too
        return there

    def _running(self, connection: apsw.Connection) -> list[str]:
        """Executions that are run by somebody who lives."""
        held: list[Any] = connection.execute(self._sql["held_executions"], (time.time(),)).fetchall()
        return [execution_id for execution_id, owner in held
                if not is_dead(msgspec.json.decode(owner, type=Owner))]

    def rows(self) -> list[KeyRow]:
        found: list[Any] = self._lend(lambda connection: connection.execute(
            self._sql["all_keys"]).fetchall())
        return [KeyRow(*row) for row in found]

    def erase(self) -> None:
        writer = self._writer()
        writer.erase()
        writer.empty_wal()
