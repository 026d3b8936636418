"""Keeping stores small and well: `prune` and `doctor`."""

from __future__ import annotations

import re
import shlex
import sys
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treadle import __version__
from treadle.cli.common import (
    COMPLETED,
    FAILED,
    INTERRUPTED,
    JsonOption,
    StoreOption,
    agreed,
    existing_store,
    readers_may_leave,
)
from treadle.cli.render import colored, counted, print_json, say, seconds
from treadle.config import Retention, parse_bytes, parse_seconds, read_retention, size_text
from treadle.errors import InvalidInput, StoreError

if TYPE_CHECKING:
    from treadle.store.retention import Pruned
    from treadle.store.sqlite.health import Finding

FAULTS_MAX = 20
"""Texts that can't be opened which `doctor` names."""
NAMED_MAX = 10
"""Ids of executions that `prune` prints before it says how many more there are."""


def prune(
    older: Annotated[str | None, typer.Option(
        metavar="AGE", show_default=False, help="Those that ended longer ago: 30d, 12h, 2w.")] = None,
    keep: Annotated[int | None, typer.Option(
        min=0, metavar="N", show_default=False, help="All but the newest N.")] = None,
    max_size: Annotated[str | None, typer.Option(
        metavar="SIZE", show_default=False,
        help="The oldest, until the store is no larger: 500MB, 2GB.")] = None,
    status: Annotated[list[str] | None, typer.Option(
        metavar="STATUS", show_default=False,
        help="Only these, as often as needed. [default: completed, failed, cancelled]")] = None,
    name: Annotated[str | None, typer.Option(
        metavar="NAME", show_default=False, help="Only executions of diagrams with this name.")] = None,
    collect: Annotated[bool, typer.Option(
        "--collect", help="Delete no execution: only what nothing names any more, and what a prune that was "
                          "ended has left.")] = False,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", "-n", help="Say what would go, and delete nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old executions with all that is theirs, and give the room back to the disk.

    Each limit holds on its own: what breaks one of them goes. What somebody runs never goes. Without options
    the policy of treadle.toml or pyproject.toml counts.
    """
    from treadle.cli.main import Interrupted

    given = _given(older, keep, max_size, tuple(status or ()), name)
    if collect and (given or dry_run):
        raise InvalidInput("--collect deletes no execution: leave the other options out")
    policy, whose = (given, "") if given or collect else _policy()
    yes = yes or collect  # nobody misses what nothing names
    found = existing_store(store)
    began = False
    try:
        if not (dry_run or yes) and not (sys.stdin.isatty() and not as_json):
            raise InvalidInput("prune deletes for good, and there is nobody to ask here: say --yes, or look "
                               "first with --dry-run")
        if dry_run or not yes:
            done = found.prune(policy, time.time(), dry_run=True)
            if not as_json:
                _foretell(done, whose)
        began = not dry_run and (yes or _agreed(done))
        if began:
            done = found.prune(policy, time.time())
            if not as_json:
                _tell(done, whose if yes else "")
    except Interrupted:
        say("interrupted: what was deleted is gone, the rest is whole; the next prune goes on" if began else
            "interrupted: nothing was deleted")
        raise typer.Exit(INTERRUPTED) from None
    finally:
        found.close()
    if as_json:
        print_json({"dry_run": dry_run, "policy": whose or None, "execution_ids": done.execution_ids,
                    "cells": done.cells, "blobs": done.blobs, "blobs_young": done.blobs_young,
                    "diagrams": done.diagrams, "bytes_freed": done.bytes_freed})


def _given(older: str | None, keep: int | None, max_size: str | None, status: tuple[str, ...],
           name: str | None) -> Retention:
    return Retention(
        older_s=None if older is None else parse_seconds(older, "--older"),
        keep=keep, name=name, status=status,
        size_bytes_max=None if max_size is None else parse_bytes(max_size, "--max-size"))


def _policy() -> tuple[Retention, str]:
    """What a file says of what to delete, and its name."""
    read = read_retention(Path.cwd())
    if read is None or not read[0]:
        raise InvalidInput("say what to delete: --older 30d, --keep 100, --max-size 1GB, --status failed or "
                           "--name NAME; or write a table [retention] into treadle.toml")
    return read[0], str(read[1])


def _foretell(done: Pruned, whose: str) -> None:
    count = len(done.execution_ids)
    if not count:
        say(f"there is no execution to delete{_by(whose)}")
        return
    say(f"{counted(count, 'execution')} would go, with {counted(done.cells, 'cell')}{_by(whose)}; that frees "
        f"at most about {size_text(done.bytes_freed)}:")
    for one in done.execution_ids[:NAMED_MAX]:
        say(f"  {one}")
    if count > NAMED_MAX:
        say(f"  … and {count - NAMED_MAX} more (--json names all)")


def _agreed(done: Pruned) -> bool:
    question = (f"delete {counted(len(done.execution_ids), 'execution')} for good?" if done.execution_ids else
                "collect what nothing uses any more?")
    if agreed(question, default=False):
        return True
    say("nothing was deleted")
    return False


def _tell(done: Pruned, whose: str) -> None:
    parts = [f"{counted(len(done.execution_ids), 'execution')} with {counted(done.cells, 'cell')}"]
    parts += [counted(number, what) for number, what in ((done.blobs, "blob"), (done.diagrams, "diagram"))
              if number]
    say(f"deleted {', '.join(parts)}{_by(whose)}; the store is smaller by {size_text(done.bytes_freed)}")
    if done.blobs_young:
        say(f"  left for the next prune, since somebody may be about to use what is so young: "
            f"{counted(done.blobs_young, 'blob file')}")


def _by(whose: str) -> str:
    return f" by {whose}" if whose else ""


# doctor

COLORS_AS = {"error": "failed", "warning": "suspended"}
EXTRAS = {"uvloop": "uvloop", "http": "httpx", "schemas": "jsonschema"}
"""What is used where it is installed, by what it is for."""


def doctor(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Look whether all is well: versions, the store's file, who runs what. Ends with 1 if there is an
    error."""
    readers_may_leave()
    found = []
    for one in chain(_program(), _store(store), _retention()):
        found.append(one)
        if not as_json:
            level = colored(one.level.ljust(7), COLORS_AS.get(one.level, ""))
            print(f"{level}  {one.what.ljust(11)}  {one.text}")
            if one.hint:
                print(f"{'':9}{'':13}→ {one.hint}")
    if as_json:
        print_json(found)
    raise typer.Exit(FAILED if any(one.level == "error" for one in found) else COMPLETED)


def _program() -> Iterator[Finding]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import apsw

    from treadle.store.sqlite.connection import check_library
    from treadle.store.sqlite.health import ERROR, OK, Finding

    yield Finding(OK, "treadle", __version__)
    yield Finding(OK, "python", f"{platform.python_version()} ({sys.platform})")
    try:
        check_library()
        yield Finding(OK, "SQLite", apsw.sqlite_lib_version())
    except StoreError as error:
        text, _, hint = str(error).partition(": ")
        yield Finding(ERROR, "SQLite", text, hint)
    extras = []
    for name, package in EXTRAS.items():
        try:
            extras.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            extras.append(f"{package} is not installed ({name})")
    yield Finding(OK, "extras", ", ".join(extras))


def _store(url: str | None) -> Iterator[Finding]:
    from treadle.store import default_store_url, given_key
    from treadle.store.sqlite.health import ERROR, OK, WARNING, Finding, examine

    where = url or default_store_url()
    if where == "memory:" or ("://" in where and not where.startswith("sqlite:///")):
        yield Finding(OK if where == "memory:" else ERROR, "store", f"{where} is no file to look at",
                      "name a SQLite store: --store PATH")
        return
    path = Path(where.removeprefix("sqlite:///")).expanduser().absolute()
    if not path.exists():
        try:
            existing_store(url)
        except StoreError as error:
            text, _, hint = str(error).partition(": ")
            yield Finding(ERROR if url else WARNING, "store", text, hint)
        return
    opened = None if given_key.get() is None else partial(_opened, path)
    yield from examine(path, time.time(), f" --store {shlex.quote(url)}" if url else "", opened)


def _opened(path: Path) -> Iterator[Finding]:
    """Whether every sealed text of an encrypted store can be opened. It changes nothing."""
    from treadle.store import open_store
    from treadle.store.sealing.sealed import SealedStore
    from treadle.store.sealing.verify import Look
    from treadle.store.sqlite.health import ERROR, OK, Finding

    store = open_store(path, read_only=True)
    try:
        assert isinstance(store, SealedStore)
        look, faults = Look(store), 0
        for fault in look.faults():
            faults += 1
            if faults <= FAULTS_MAX:
                text, restore, hint = re.split(r"[:;] (restore|$)", fault + "; ", maxsplit=1)
                yield Finding(ERROR, "sealed", text, (restore + hint).rstrip("; "))
        if faults > FAULTS_MAX:
            yield Finding(ERROR, "sealed", f"{faults - FAULTS_MAX} more can't be opened")
        forgotten = f"; {counted(look.forgotten, 'execution')} forgotten" if look.forgotten else ""
        if not faults:
            yield Finding(OK, "sealed", f"{counted(look.rows, 'row')} and {counted(look.blobs, 'blob')} "
                                        f"could be opened{forgotten}")
    finally:
        store.close()


def _retention() -> Iterator[Finding]:
    from treadle.store.sqlite.health import ERROR, OK, Finding

    try:
        read = read_retention(Path.cwd())
    except InvalidInput as error:
        yield Finding(ERROR, "retention", str(error), "correct the file: `treadle run` refuses it, too")
        return
    if read is None:
        yield Finding(OK, "retention", "no policy: everything is kept until `treadle prune`")
    else:
        yield Finding(OK, "retention", f"{read[1]}: {policy_text(read[0])}")


def policy_text(policy: Retention) -> str:
    """A policy in a few words."""
    parts = []
    if policy.older_s is not None:
        parts.append(f"older than {seconds(policy.older_s)}")
    if policy.keep is not None:
        parts.append(f"all but the newest {policy.keep}")
    if policy.size_bytes_max is not None:
        parts.append(f"the oldest over {size_text(policy.size_bytes_max)}")
    chosen = [*policy.status, *([] if policy.name is None else [f"named {policy.name!r}"])]
    of = f" of {', '.join(chosen)}" if chosen else ""
    return f"what goes is {' and '.join(parts) or 'all'}{of}"
