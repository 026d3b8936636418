"""What a folder of `--state-history` tells: the list of its executions, and one as a store to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.render import ago, iso, print_json, seconds, table
from treadle.errors import StoreCorrupt

if TYPE_CHECKING:
    from treadle.store.history import HistoryStore

HistoryOption = Annotated[Path | None, typer.Option(
    "--history", metavar="DIR", show_default=False,
    help="Look into the folder that --state-history wrote, or one execution's folder in it, instead of a "
         "store; without ID it lists what is there.")]


def history_store(folder: Path, execution_id: str | None) -> HistoryStore:
    """The execution of a history, as a store that has nothing else. InvalidInput, StoreCorrupt."""
    from treadle.store.history import HistoryStore, read_history

    return HistoryStore(read_history(folder, execution_id))


def lists(folder: Path) -> bool:
    """Whether a folder holds those of several executions, and is not one itself."""
    from treadle.store.history.names import INIT

    return not (folder / INIT).is_file()


def list_histories(folder: Path, *, as_json: bool) -> None:
    """Print what executions there are, also those that are damaged."""
    from treadle.store.history import histories_in, summarized

    documents: list[dict[str, Any]] = []
    rows: list[tuple[str, ...]] = []
    for path in histories_in(folder):
        try:
            cell = summarized(path)
        except StoreCorrupt as error:
            documents.append({"folder": str(path), "status": "damaged", "error": str(error)})
            rows.append(("", "", "damaged", "", "", path.name))
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
        print(table(("ID", "DIAGRAM", "STATUS", "STARTED", "TOOK", "FOLDER"), rows, status=2))
