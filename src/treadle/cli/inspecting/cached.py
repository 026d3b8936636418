"""`cache`: the results that are kept for other executions (`cache: true`)."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import typer

from treadle.cli.common import (
    JsonOption,
    StoreOption,
    existing_store,
    readers_may_leave,
    store_to_look_at,
)
from treadle.cli.render import ago, iso, print_json, say, table
from treadle.errors import did_you_mean

LISTED_MAX = 50
"""Results that are listed one by one."""


def cache(
    node: Annotated[str | None, typer.Option(
        "--node", metavar="PATH", show_default=False, help="Only this node's (and its items').")] = None,
    clear: Annotated[bool, typer.Option(
        "--clear", help="Forget them: the next execution performs the nodes again.")] = False,
    store: StoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the results that nodes with `cache` have kept for other executions, or forget them."""
    readers_may_leave()
    found = existing_store(store) if clear else store_to_look_at(store)
    try:
        kept = found.cached_results(node)
        known = [] if kept or node is None else [
            one.node_id.split("[")[0] for one in found.cached_results(None)]
        if clear:
            found.forget([one.key for one in kept])
    finally:
        found.close()
    if as_json:
        print_json({"cleared": clear, "results": [
            {"key": one.key, "node": one.node_id, "name": one.name, "execution_id": one.execution_id,
             "at": iso(one.at)} for one in kept]})
    elif not kept:
        hint = did_you_mean(node or "", known) or "nodes with `cache: true` keep theirs"
        say(f"no result is kept{f' of node {node!r}' if node else ''}: {hint}")
    elif clear:
        say(f"{len(kept):,} result{'s are' if len(kept) != 1 else ' is'} forgotten")
    else:
        print(table(("NODE", "DIAGRAM", "EXECUTION", "MADE"), [
            (one.node_id, one.name, one.execution_id, ago(one.at)) for one in kept[:LISTED_MAX]]))
        if len(kept) > LISTED_MAX:
            counts = Counter(one.name for one in kept)
            say(f"… {len(kept):,} in all: " + ", ".join(f"{name} {n:,}" for name, n in counts.items()))
