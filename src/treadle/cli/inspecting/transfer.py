"""An execution as a file: `export` and `import`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from treadle.cli.common import ExecutionArgument, JsonOption, StoreOption, say_command, store_to_look_at
from treadle.cli.render import print_json, say
from treadle.engine.edited import nearby
from treadle.errors import InvalidInput
from treadle.undo import undone

if TYPE_CHECKING:
    from treadle.store.base import Store
    from treadle.store.transfer import Header, Imported
    from treadle.store.transfer.incoming import Found

SUFFIX = ".treadle.zip"
STDOUT = "-"
PLAIN = "  It is not encrypted, as the store is: only you can read it, so keep it where that is enough."


def export(
    execution_id: ExecutionArgument,
    file: Annotated[str | None, typer.Argument(
        metavar="FILE", show_default=False,
        help="Where to write it; - is stdout. [default: ID.treadle.zip, or ID.html, in this folder]")] = None,
    as_page: Annotated[bool, typer.Option(
        "--html", help="Write a page to look at instead: the monitor's, in one file that needs no "
                       "server.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write an execution to one file: its cells, diagram, blobs, signals and logs, as they are now."""
    from treadle.config import size_text
    from treadle.store.transfer import export_execution

    found = store_to_look_at(store)
    try:
        name = found.summary(execution_id).cell.execution_id
        if as_page:
            _export_page(found, name, file, force=force, as_json=as_json)
            return
        if file == STDOUT:
            if as_json or sys.stdout.isatty():
                raise InvalidInput("the file can't go to stdout here: name a file, or leave --json out and "
                                   "send stdout to a file or a program")
            export_execution(found, name, sys.stdout.buffer)
            return
        path, sealed = _path(file, name, SUFFIX), _is_sealed(found)
        with _written(path, force=force) as out:
            if sealed:
                os.fchmod(out.fileno(), 0o600)
            header = export_execution(found, name, out)
    finally:
        found.close()
    if as_json:
        print_json({**_document(header), "file": str(path), "bytes": path.stat().st_size})
        return
    say(f"wrote {path} ({size_text(path.stat().st_size)}): {_told(header)}")
    if sealed:
        say(PLAIN)
    if header.owner:
        say(f"  It is a snapshot: {header.owner} goes on with the execution.")


def _path(file: str | None, name: str, suffix: str) -> Path:
    return Path(file if file is not None else re.sub(r"[^\w.-]", "_", name) + suffix)


def _is_sealed(store: Store) -> bool:
    return getattr(store, "master", None) is not None


def _export_page(store: Store, name: str, file: str | None, *, force: bool, as_json: bool) -> None:
    from treadle.config import size_text

    try:
        from treadle.monitor.offline import page
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "starlette":
            raise
        raise InvalidInput("a page needs the monitor: pip install 'treadle[monitor]'") from None
    if file == STDOUT and (as_json or sys.stdout.isatty()):
        raise InvalidInput("the page can't go to stdout here: name a file, or leave --json out and "
                           "send stdout to a file or a program")
    made = page(store, name)
    content = made.html.encode()
    if file == STDOUT:
        sys.stdout.buffer.write(content)
        return
    path, sealed = _path(file, name, ".html"), _is_sealed(store)
    with _written(path, force=force) as out:
        if sealed:
            os.fchmod(out.fileno(), 0o600)
        out.write(content)
    if as_json:
        print_json({"execution_id": name, "file": str(path), "bytes": len(content),
                    "attempts_left_out": made.attempts_left_out, "lines_left_out": made.lines_left_out})
        return
    say(f"wrote {path} ({size_text(len(content))}): open it in a browser")
    if made.attempts_left_out:
        say(f"  Inputs and outputs of {made.attempts_left_out} attempts are not in it: it would be too "
            "large.")
    if made.lines_left_out:
        say("  The newest lines of its log are not in it: it would be too large.")
    if sealed:
        say(PLAIN)


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", show_default=False,
                                        help="A file that `treadle export` wrote, or the folder of an "
                                             "execution under --state-history.")],
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take an execution from a file or a history into a store, under its own id; all of it or nothing.

    It can be looked at and resumed there. If the store has it already, and nothing in the file is newer,
    there is nothing to do; if something is, the import is refused.
    """
    from treadle.store import default_store_url, open_store
    from treadle.store.transfer import bring_in

    try:
        with _opened(Path(file)) as archive:  # before the store is made, if it has to be
            found = open_store(store or default_store_url())
            try:
                imported = bring_in(found, archive)
            finally:
                found.close()
    except (FileNotFoundError, IsADirectoryError) as error:
        if error.filename != file:
            raise
        hint = nearby(Path(file))
        raise InvalidInput(f"{file}: {error.strerror}" + (f": {hint}" if hint else "")) from None
    if as_json:
        print_json({**_document(imported.header), "outcome": imported.outcome})
    else:
        _say_imported(imported, archive.source, store)


def _opened(path: Path) -> AbstractContextManager[Found]:
    """An execution that was read from a file, or from a folder of its history."""
    if path.is_dir():
        from treadle.store.history import read_history

        return nullcontext(read_history(path))
    from treadle.store.transfer import open_export

    return open_export(path)


def _say_imported(imported: Imported, source: str, store: str | None) -> None:
    header = imported.header
    if imported.outcome == "new":
        say(f"imported {_told(header)}")
    else:
        state = "is the same there" if imported.outcome == "same" else "is newer there"
        say(f"nothing to do: the store has execution {header.execution_id} already, and it {state}")
    say(f"  look at it:  {say_command('show', header.execution_id, store=store)}")
    if imported.outcome != "new" or header.status == "completed":
        return
    folder = _folder_of(source)
    named = ("--diagram", "FILE") if folder is not None and not Path(folder).is_dir() else ()
    say(f"  go on with:  {say_command('resume', header.execution_id, *named, store=store)}")
    if named:
        say(f"  The files of its diagram were in {folder}, which isn't here: say where the diagram is now.")
    if header.owner:
        say(f"  When it was exported it was run by {header.owner}. Go on with it in one place only, or what "
            "is left is done twice.")


def _folder_of(source: str) -> str | None:
    """The folder that a diagram's paths start from, if it has one."""
    import msgspec

    from treadle.engine.sources import Source

    try:
        return msgspec.json.decode(source, type=Source).base
    except msgspec.DecodeError:
        return None


def _document(header: Header) -> dict[str, object]:
    blobs = _blobs(header)
    return {"execution_id": header.execution_id, "name": header.name, "status": header.status,
            "cells": header.cells, "blobs": len(blobs), "blob_bytes": sum(blobs)}


def _told(header: Header) -> str:
    from treadle.config import size_text

    blobs = _blobs(header)
    large = f", {len(blobs)} blob{'s' if len(blobs) != 1 else ''} of {size_text(sum(blobs))}" if blobs else ""
    cells = f"{header.cells} cell{'s' if header.cells != 1 else ''}"
    return f"execution {header.execution_id} of {header.name!r}, {header.status}, {cells}{large}"


def _blobs(header: Header) -> list[int]:
    return [entry.bytes for name, entry in header.entries.items() if name.startswith("blobs/")]


@contextmanager
def _written(path: Path, *, force: bool) -> Iterator[IO[bytes]]:
    """A file that is there only when all of it was written."""
    if path.is_dir():
        raise InvalidInput(f"{path} is a folder: name a file in it")
    if path.exists() and not force:
        raise InvalidInput(f"{path} exists already: name another file, or replace it with --force")
    if not path.parent.is_dir():
        raise InvalidInput(f"{path}: there is no folder {path.parent}")
    unfinished = path.with_name(f".{path.name[:100]}.{os.getpid()}")
    try:
        out = unfinished.open("xb")
    except OSError as error:
        raise InvalidInput(f"{path} can't be written: {error.strerror or error}") from None
    with undone(unfinished.unlink, missing_ok=True):
        with out as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
