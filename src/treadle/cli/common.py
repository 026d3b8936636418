"""What several commands share: options, exit codes, finding a store, reading values from the command line."""

from __future__ import annotations

import functools
import inspect
import json
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, overload

import typer

from treadle import __version__
from treadle.errors import InvalidInput, NotAStore, StoreReadOnly, did_you_mean

if TYPE_CHECKING:
    from treadle.diagram.diagram import DiagramSpec
    from treadle.diagram.node import Input
    from treadle.store.base import Store

_S = TypeVar("_S")

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


KeyOption = Annotated[str | None, typer.Option(
    "--state-encryption-key", metavar="KEY", show_default=False,
    help="The key of an encrypted store: file:PATH, env:NAME, or 32 bytes as base64 or hex. [default: "
         "$TREADLE_STATE_ENCRYPTION_KEY]")]
_KEY = "state_encryption_key"


def keyed(function: Callable[..., None]) -> Callable[..., None]:
    """A command that has a store, with the option that gives its key."""
    signature = inspect.signature(function, eval_str=True)
    if "store" not in signature.parameters:
        return function

    @functools.wraps(function)
    def with_key(**given: Any) -> None:
        from treadle.crypto import hide
        from treadle.store import KEY_VARIABLE, encryption_key

        # Out of the environment, else every program that a node starts would have it.
        variable = os.environ.pop(KEY_VARIABLE, None)
        said = given.pop(_KEY) or variable
        if said is not None and said.startswith("env:"):
            hide(said[4:])
        with encryption_key(said):
            function(**given)

    parameters = list(signature.parameters.values())
    place = list(signature.parameters).index("store") + 1
    parameters.insert(place, inspect.Parameter(_KEY, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=None,
                                               annotation=KeyOption))
    with_key.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    with_key.__annotations__ = {one.name: one.annotation for one in parameters}
    return with_key


@overload
def existing_store(url: str | None) -> Store: ...
@overload
def existing_store(url: str | None, opener: Callable[[str], _S]) -> _S: ...
def existing_store(url: str | None, opener: Callable[[str], Any] | None = None) -> Any:
    """Open a store that must be there; StoreError if it isn't or can't be used."""
    from treadle.store import default_store_url, open_store

    where = url or default_store_url()
    if ("://" not in where and where != "memory:") or where.startswith("sqlite:///"):
        path = Path(where.removeprefix("sqlite:///")).expanduser()
        if path.is_dir():
            raise NotAStore(f"{path} is a folder: name the file in it")
        if not path.exists():
            folder = path.parent
            names = [one.name for one in folder.glob(f"*{path.suffix}")] if folder.is_dir() else []
            none = "name another with --store" if url else "nothing has been run yet, or name it with --store"
            hint = did_you_mean(path.name, names) or none
            raise NotAStore(f"there is no store {path}: {hint}")
    return (opener or open_store)(where)


def store_to_look_at(url: str | None) -> Store:
    """The same for a command that changes nothing: the right to read the store is enough."""
    from treadle.store import open_store

    return existing_store(url, at_least_to_look(open_store))


def at_least_to_look(opener: Callable[..., _S]) -> Callable[[str], _S]:
    """An opener that opens what can't be written to be read only."""
    def opened(where: str) -> _S:
        try:
            return opener(where)
        except StoreReadOnly:
            return opener(where, read_only=True)

    return opened


def load_diagram(file: str) -> DiagramSpec:
    """Read a diagram's file. InvalidInput with the nearest name if it can't be read; InvalidDiagram."""
    from treadle.diagram.formats import load
    from treadle.engine.edited import nearby

    try:
        return load(file)
    except OSError as error:
        hint = nearby(Path(file))
        raise InvalidInput(f"{file}: {error.strerror or error}" + (f": {hint}" if hint else "")) from None


YES = ("y", "yes")


def agreed(question: str, *, default: bool) -> bool:
    """Ask a person at the terminal; an empty line is the default, and the end of the input a no."""
    print(f"{question} [{'Y/n' if default else 'y/N'}] ", end="", file=sys.stderr, flush=True)
    line = ""
    try:
        line = sys.stdin.readline()
    finally:
        if not line:  # the cursor still stands behind the question
            print(file=sys.stderr)
    said = line.strip().lower()
    return said in YES if said else default and bool(line)


def somebody_to_ask() -> bool:
    """Whether a question would be seen, and could be answered."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def say_command(verb: str, *words: str, store: str | None) -> str:
    """A command as one would type it, with the store and the key that were named."""
    from treadle.store import given_key

    said = given_key.get()
    if said is not None and not said.startswith(("file:", "env:")):
        said = "KEY"  # a key is never shown
    key = ["--state-encryption-key", said] if said else []
    return shlex.join(["treadle", verb, *words, *(["--store", store] if store else []), *key])


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


def parse_environment(given: Iterable[str]) -> dict[str, str]:
    """The variables of `--env NAME=VALUE`. InvalidInput."""
    from treadle.crypto.secrets import is_reference

    found: dict[str, str] = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals or not name.isidentifier() or not name.isascii():
            # The value is not shown: it may be a secret.
            raise InvalidInput(f"--env {name}: write it as --env NAME=VALUE, with letters, digits and _ in "
                               "NAME")
        if name in found:
            raise InvalidInput(f"--env {name}: the variable is given twice")
        if "secret://" in value and not is_reference(value):
            raise InvalidInput(f"--env {name}: a secret is looked up only where the whole value is "
                               "secret://NAME")
        found[name] = value
    return found


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
