"""`plugins`: which plugins a run here would have, and what is wrong with them. And the commands they add."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from treadle.cli.common import COMPLETED, WRONG, JsonOption, readers_may_leave
from treadle.cli.render import prefixed, print_json, say, table
from treadle.errors import InvalidInput, PluginError

if TYPE_CHECKING:
    from treadle.hooks.finding.discovery import Found


def plugins(
    folder: Annotated[str | None, typer.Option(
        "--folder", metavar="DIR", show_default=False,
        help="The folder of the diagram. [default: the working folder]")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the plugins that a run would have, with their hooks, and what is wrong with them (exit code 2)."""
    readers_may_leave()
    from treadle.hooks.finding.discovery import find
    from treadle.hooks.finding.making import put_in_order

    if folder is not None and not Path(folder).is_dir():
        raise InvalidInput(f"--folder {folder}: there is no such folder")
    found = find(None if folder is None else Path(folder))
    made = put_in_order(found)
    active = {one.name: _row(one, "active") for one in made}
    for one in found.plugins:
        if one.name not in active:
            active[one.name] = _row(one, "unusable" if one.enabled else "off")
    if as_json:
        print_json({"plugins": list(active.values()), "problems": found.problems, "notes": found.notes,
                    "settings": found.settings_file, "folder": found.folder})
    else:
        if active:
            print(table(("PLUGIN", "STATE", "FROM", "HOOKS", "REQUIRES"), [
                (f"{one['name']}@{one['version']}", one["state"], one["origin"], " ".join(one["hooks"]),
                 ", ".join(one["requires"])) for one in active.values()]))
        elif not found.problems:
            say("there is no plugin: treadle looks for files in a folder `plugins` beside the diagram, and "
                "for installed ones")
        for text in found.problems:
            say(f"error: {text}")
        for text in found.notes:
            say(f"note: {text}")
    raise typer.Exit(WRONG if found.problems else COMPLETED)


def _row(plugin: Found, state: str) -> dict[str, Any]:
    return {"name": plugin.name, "version": plugin.version, "state": state, "origin": plugin.origin,
            "hooks": list(plugin.hooks), "requires": list(plugin.requires)}


def added_commands(taken: set[str]) -> dict[str, Callable[..., Any]]:
    """The commands of the working folder's plugins by name. What is wrong with plugins is said, and leaves
    none: it must not hide what is wrong with a command."""
    from treadle.hooks.manager import PluginManager

    try:
        found = PluginManager.discover().commands()
        for name in found:
            if name in taken:
                raise PluginError(f"a plugin adds the command {name!r}, which Treadle has itself: choose "
                                  "another name")
    except (PluginError, InvalidInput) as error:
        say(prefixed(f"the commands of plugins are left out: {error}"))
        return {}
    return found
