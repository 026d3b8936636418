"""What several commands share: options, exit codes, finding a store, reading values from the command line."""

from __future__ import annotations

import json
import shlex
import signal
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle import __version__
from treadle.errors import InvalidInput, NotAStore, did_you_mean

if TYPE_CHECKING:
    from treadle.diagram.node import Input
    from treadle.store.base import Store

COMPLETED, FAILED, WRONG, SUSPENDED, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes."""

StoreOption = Annotated[str | None, typer.Option(
    "--store", metavar="URL", show_default=False,
    help="Where the state lives: a path or sqlite:///path. [default: $TREADLE_STORE, else in the user's data "
         "folder]")]
JsonOption = Annotated[bool, typer.Option(
    "--json", help="Print one JSON document on stdout, and nothing else there.")]
ExecutionArgument = Annotated[str, typer.Argument(
    metavar="ID", show_default=False,
    help="An execution's id; its first characters are enough when no other begins so.")]
VersionOption = Annotated[bool, typer.Option("--version", "-V", help="Say which Treadle this is.")]


def options(version: VersionOption = False) -> None:
    """What stands before a command. `treadle --version` alone never comes here: see `main`."""
    if version:
        typer.echo(f"treadle {__version__}")
        raise typer.Exit(COMPLETED)


def readers_may_leave() -> None:
    """Let `treadle list | head` end like any other filter, by SIGPIPE. For commands that only print."""
    if hasattr(signal, "SIGPIPE") and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def existing_store(url: str | None) -> Store:
    """Open a store that must be there; StoreError if it isn't or can't be used."""
    from treadle.store import default_store_url, open_store

    where = url or default_store_url()
    if ("://" not in where and where != "memory:") or where.startswith("sqlite:///"):
        path = Path(where.removeprefix("sqlite:///")).expanduser()
        if not path.exists():
            folder = path.parent
            names = [one.name for one in folder.glob(f"*{path.suffix}")] if folder.is_dir() else []
            none = "name another with --store" if url else "nothing has been run yet, or name it with --store"
            hint = did_you_mean(path.name, names) or none
            raise NotAStore(f"there is no store {path}: {hint}")
    return open_store(where)


def say_command(verb: str, *words: str, store: str | None) -> str:
    """A command as one would type it, with the store that was named."""
    return shlex.join(["treadle", verb, *words, *(["--store", store] if store else [])])


def parse_inputs(given: Iterable[str], declared: Mapping[str, Input]) -> dict[str, Any]:
    """The inputs of `-i name=value`. InvalidInput.

    A value is a text, which the engine reads as the declared type; `name=@file` is a file's content. Where
    any type will do, a text that is JSON is read as JSON.
    """
    inputs: dict[str, Any] = {}
    for one in given:
        name, equals, text = one.partition("=")
        if not equals or not name:
            raise InvalidInput(f"-i {one}: write it as -i name=value")
        if name in inputs:
            raise InvalidInput(f"-i {one}: the input {name!r} is given twice")
        kind = declared[name].type if name in declared else "any"
        inputs[name] = parse_value(text) if kind == "any" or text.startswith("@") else text
    return inputs


def parse_value(text: str) -> Any:
    """A value from the command line: JSON if it is JSON, else a text. `@file` is a file's content: JSON, YAML
    and CSV by its name's end, else its text; `@@…` is a text that begins with one @. InvalidInput."""
    if text.startswith("@@"):
        return text[1:]
    if text.startswith("@"):
        return _content(Path(text[1:]).expanduser())
    try:
        return json.loads(text)
    except ValueError:
        return text


def _content(path: Path) -> Any:
    from treadle.nodes.files import format_of, parse

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"@{path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        return parse(text, format_of(str(path), None), str(path))
    except ValueError as error:
        raise InvalidInput(f"@{path}: {error}") from None
