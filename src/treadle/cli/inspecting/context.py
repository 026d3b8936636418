"""The shared context of an execution, and what it runs with, as `show` says them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from treadle.cli.render import ago, iso, table
from treadle.engine.showing import plain

if TYPE_CHECKING:
    from treadle.state.cell import ContextCell, ExecutionCell

KEYS_SHOWN = 20
"""Keys that `show` names without `--all`."""
VALUE_CHARS_MAX = 60
"""What it shows of a value."""


def as_data(cell: ExecutionCell, context: Sequence[ContextCell]) -> dict[str, Any]:
    """For --json: what never changes of the execution, and its context."""
    from treadle.engine.lifecycle import slow_hooks_in
    from treadle.state.context import About, of_bodies, snapshot_of, tree_of

    about, slow, context = About.of(cell), slow_hooks_in(context), of_bodies(context)
    return {"pipeline": about.pipeline,
            "context": {"environment_vars": dict(about.environment_vars), "secret_store": about.secret_store,
                        "active_plugins": list(about.active_plugins), "slow_hooks": slow,
                        **tree_of({key: plain(value) for key, value in snapshot_of(context).items()}),
                        "versions": {one.key: {"version": one.version, "writer": one.writer,
                                               "at": iso(one.at)}
                                     for one in context if one.value is not None}}}


def lines(cell: ExecutionCell, context: Sequence[ContextCell], *, all_: bool) -> list[str]:
    """For people: what there is of it, if anything."""
    from treadle.engine.lifecycle import slow_hooks_in
    from treadle.state import codec
    from treadle.state.context import About, of_bodies

    def text(raw: bytes) -> str:
        said = json.dumps(plain(codec.decode(raw)), ensure_ascii=False)
        return said if len(said) <= VALUE_CHARS_MAX else f"{said[:VALUE_CHARS_MAX]}…"

    about = About.of(cell)
    said = []
    if about.environment_vars:
        said.append("environment: " + ", ".join(f"{name}={value}" for name, value in
                                                about.environment_vars.items()))
    if about.secret_store:
        said.append(f"secrets: {about.secret_store}")
    if about.active_plugins:
        said.append(f"plugins: {', '.join(about.active_plugins)}")
    said += [f"slow hook: {one}" for one in slow_hooks_in(context)]
    if said:
        said.insert(0, "")
    found = [one for one in of_bodies(context) if one.value is not None]
    if found:
        shown = found if all_ else found[:KEYS_SHOWN]
        rows = [(one.key, text(one.value or b"null"), one.writer, ago(one.at)) for one in shown]
        said += ["", table(("CONTEXT", "VALUE", "BY", "SET"), rows)]
        if len(shown) < len(found):
            said.append(f"and {len(found) - len(shown)} more: --all")
    return said
