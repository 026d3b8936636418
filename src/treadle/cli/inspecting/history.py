"""What a folder of `--state-history` tells: the list of its executions, and one as a store to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.render import ago, iso, print_json, say, seconds, table
from treadle.errors import PlaintextFound, StoreCorrupt, StoreError, WrongKey

if TYPE_CHECKING:
    from treadle.store.history import HistoryStore

HistoryOption = Annotated[Path | None, typer.Option(
    "--history", metavar="DIR", show_default=False,
    help="Look into the folder that --state-history wrote, or one execution's folder in it, instead of a "
         "store; without ID it lists what is there.")]


UNREAD: dict[type[StoreError], str] = {WrongKey: "sealed", PlaintextFound: "plain", StoreCorrupt: "damaged"}
"""What is said of a folder that can't be read, by the error."""
NAMED_MAX = 5
"""Folders of which it is said why."""


def history_store(folder: Path, execution_id: str | None) -> HistoryStore:
    """The execution of a history, as a store that has nothing else. InvalidInput, StoreCorrupt."""
    from treadle.store.history import HistoryStore, read_history

    return HistoryStore(read_history(folder, execution_id))


def lists(folder: Path) -> bool:
    """Whether a folder holds those of several executions, and is not one itself."""
    from treadle.store.history.names import INIT

    return not (folder / INIT).is_file()


def list_histories(folder: Path, *, as_json: bool) -> None:
    """Print what executions there are, also those that can't be read."""
    from treadle.store.history import histories_in, summarized

    documents: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    unread: list[str] = []
    for path in histories_in(folder):
        try:
            cell = summarized(path)
        except (StoreCorrupt, WrongKey) as error:
            status = next(name for kind, name in UNREAD.items() if isinstance(error, kind))
            documents.append({"folder": str(path), "status": status, "error": str(error)})
            rows.append(("", "", status, "", "", path.name))
            unread.append(f"{status}: {error}")
            continue
        took = None if cell.started_at is None or cell.ended_at is None else cell.ended_at - cell.started_at
        documents.append({"folder": str(path), "execution_id": cell.execution_id, "name": cell.name,
                          "status": cell.status.value, "created_at": iso(cell.created_at),
                          "started_at": iso(cell.started_at), "ended_at": iso(cell.ended_at),
                          "error": cell.error})
        rows.append((cell.execution_id, cell.name, cell.status.value, ago(cell.created_at), seconds(took),
                     path.name))
    if as_json:
        print_json(documents)
    else:
        for one in unread[:NAMED_MAX]:
            say(one)
        print(table(("ID", "DIAGRAM", "STATUS", "STARTED", "TOOK", "FOLDER"), rows, status=2))
