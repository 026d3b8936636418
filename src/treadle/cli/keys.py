"""`keys`: the keys of an encrypted store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from treadle.cli.common import (
    FAILED,
    JsonOption,
    StoreOption,
    agreed,
    at_least_to_look,
    existing_store,
    keyed,
    readers_may_leave,
    somebody_to_ask,
)
from treadle.cli.render import counted, local, print_json, say
from treadle.errors import InvalidInput, NoSuchExecution, StoreError

if TYPE_CHECKING:
    from treadle.crypto.keys import MasterKey
    from treadle.store.sealing.sealed import SealedStore

keys = typer.Typer(help="Make keys, change the one of an encrypted store, destroy that of an execution.",
                   no_args_is_help=True, rich_markup_mode=None)


@keys.command()
def new(
    out: Annotated[Path | None, typer.Option(
        "--out", metavar="FILE", show_default=False,
        help="Write it to a new file that only you can read, instead of printing it.")] = None,
) -> None:
    """Make a key. Keep a copy where the store is not: without it nothing can be read."""
    from treadle.crypto.keys import new_key, read_key, write_key

    if out is None:
        text = new_key()
        print(text)
        say(f"key {read_key(text).id}")
        return
    say(f"wrote the key {write_key(out)} to {out}: give it as --state-encryption-key file:{out}")


@keys.command()
@keyed
def status(store: StoreOption = None, as_json: JsonOption = False) -> None:
    """Say which key a store has, and how many executions are forgotten. It needs no key."""
    from treadle.store import open_as_it_is

    readers_may_leave()
    found = existing_store(store, at_least_to_look(open_as_it_is))
    try:
        own, rows = found.keys.found(), found.keys.rows()
    finally:
        found.close()
    forgotten = [row for row in rows if row.wrapped is None]
    if as_json:
        print_json({"encrypted": own is not None, "key": None if own is None else own.master_id,
                    "executions": len(rows) - len(forgotten),
                    "forgotten": [row.execution_id for row in forgotten]})
    elif own is None:
        print(f"{found.url} is not encrypted")
    else:
        print(f"{found.url} is encrypted with the key {own.master_id}, since {local(own.at)}: "
              f"{counted(len(rows) - len(forgotten), 'execution')}, {len(forgotten)} forgotten")


@keys.command()
@keyed
def rotate(
    new_key: Annotated[str, typer.Option(
        "--new-key", metavar="KEY", show_default=False,
        help="The new one: file:PATH, env:NAME, or 32 bytes as base64 or hex.")],
    history: Annotated[Path | None, typer.Option(
        "--history", metavar="DIR", show_default=False,
        help="Give the histories that --state-history wrote there another key, instead of a store.")] = None,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Give a store another key. What is recorded is not written again, only the executions' keys are.

    Nobody may run an execution meanwhile. Killed half-way, the store has the old key. Histories have keys of
    their own: each folder wants a `keys rotate --history` too.
    """
    from treadle.crypto.keys import read_key
    from treadle.store.sealing.rotation import rotate

    after = read_key(new_key, what="--new-key")
    if history is not None:
        _rotate_histories(history, after, store, as_json=as_json)
        return
    found = _encrypted(store)
    try:
        before = found.master.id
        if after.id == before:
            raise InvalidInput(f"--new-key is the key that the store has ({before}): make another with "
                               "`treadle keys new`")
        count = rotate(found, after)
    finally:
        found.close()
    if as_json:
        print_json({"key": after.id, "former": before, "executions": count})
    else:
        say(f"the key is now {after.id}, no more {before}; {counted(count, 'execution')} kept. Copies of "
            "the store from before still open with the old one, and histories do: `treadle keys rotate "
            "--history DIR`")


def _rotate_histories(folder: Path, after: MasterKey, store: str | None, *, as_json: bool) -> None:
    from treadle.crypto.keys import read_key
    from treadle.store import given_key
    from treadle.store.history import histories_in
    from treadle.store.history.names import INIT
    from treadle.store.history.rotation import rotate_histories

    said = given_key.get()
    if store is not None:
        raise InvalidInput("--history is instead of --store: rotate each on its own")
    if said is None:
        raise InvalidInput("say the key that the histories have: --state-encryption-key file:PATH")
    if not (folder / INIT).is_file():
        histories_in(folder)  # says what is wrong with it
    before = read_key(said)
    if after.id == before.id:
        raise InvalidInput(f"--new-key is the key that is given ({before.id}): make another with `treadle "
                           "keys new`")
    done = rotate_histories(folder, before, after)
    if as_json:
        print_json({"key": after.id, "former": before.id, "folders": done.folders, "files": done.files,
                    "plain": done.plain, "failed": done.failed})
    else:
        say(f"{done.folders} histories have the key {after.id}, {done.files} files of them anew. Copies from "
            "before still open with the old one")
        for path in done.plain:
            say(f"  not encrypted, and left as it is: {path}")
        for one in done.failed:
            say(f"  not done: {one}")
    if done.failed:
        raise typer.Exit(FAILED)


@keys.command()
@keyed
def forget(
    execution_ids: Annotated[list[str], typer.Argument(
        metavar="ID...", show_default=False, help="Executions; whole ids.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Destroy the keys of executions: nothing of them can be read any more. They stay in lists.

    What others took over (forks, results from the cache) is theirs, and stays.
    """
    from treadle.store.sealing.rotation import forget

    found = _encrypted(store)
    try:
        for one in execution_ids:
            known = found.summary(one).cell.execution_id
            if known != one:
                raise NoSuchExecution(f"there is no execution {one!r}: write the whole id, {known!r}, since "
                                      "this can't be undone")
        if not yes:
            if as_json or not somebody_to_ask():
                raise InvalidInput("forgetting is for good, and there is nobody to ask here: say --yes")
            if not agreed(f"destroy the keys of {len(execution_ids)} executions for good?", default=False):
                say("nothing was destroyed")
                return
        done = forget(found, execution_ids)
    finally:
        found.close()
    if as_json:
        print_json({"forgotten": done})
    else:
        say(f"forgotten: {', '.join(done)}. Copies of the store from before can still be read")


def _encrypted(url: str | None) -> SealedStore:
    from treadle.store.sealing.sealed import SealedStore

    found = existing_store(url)
    if isinstance(found, SealedStore):
        return found
    found.close()
    raise StoreError(f"{found.url} is not encrypted: it has no keys")
