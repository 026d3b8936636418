"""Write the pages that are drawn from the code: `python docs/generate.py states` (or `limits`, …, or `all`).

With `--check` nothing is written, and the exit code is 1 if a page is not current.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
import typing
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.types import Expression, PersonName, Template
from treadle.kernel.moves import EXECUTION_MOVES, MOVES
from treadle.nodes.registry import BUILT_IN
from treadle.state.status import ExecutionStatus, NodeStatus

DOCS = Path(__file__).resolve().parent
S = typing.TypeVar("S", bound=StrEnum)

NODE_WORDS = {
    NodeStatus.PENDING: "an arrow into it is undecided. Not stored: it follows from the rest",
    NodeStatus.SCHEDULED: "ready, and waits for its turn. Not stored: an instant of the running cell",
    NodeStatus.RUNNING: "its body runs; for a map or a sub-diagram, its inner nodes do",
    NodeStatus.SUSPENDED: "waits durably for an answer, a signal or a time; no process need be alive",
    NodeStatus.RETRYING: "this attempt failed, and another is due at `wake_at`",
    NodeStatus.COMPLETED: "its result is recorded",
    NodeStatus.FAILED: "its error is recorded; for an attempt that was retried, the next one has begun",
    NodeStatus.SKIPPED: "no arrow into it carried a value, or one that it needs failed",
    NodeStatus.CANCELLED: "stopped before its end",
}
EXECUTION_WORDS = {
    ExecutionStatus.PENDING: "created, and not begun",
    ExecutionStatus.RUNNING: "something runs, is ready or is due. *Stale*, if its owner's lease is lost",
    ExecutionStatus.SUSPENDED: "nothing runs; it waits for an answer, a signal or a time",
    ExecutionStatus.COMPLETED: "every node has ended, and no failure was left unhandled",
    ExecutionStatus.FAILED: "a failure was left unhandled; the error names the node. It can be resumed",
    ExecutionStatus.CANCELLED: "somebody stopped it. It can be resumed",
}


def _drawing(moves: Mapping[S, frozenset[S]], first: S) -> list[str]:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    for status, after in moves.items():
        lines += [f"    {status} --> {to}" for to in sorted(after)]
    lines += [f"    {status} --> [*]" for status, after in moves.items() if not after]
    return [*lines, "```"]


def _table(moves: Mapping[S, frozenset[S]], words: Mapping[S, str]) -> list[str]:
    rows = [f"| `{status}` | {words[status]} | {', '.join(f'`{to}`' for to in sorted(after)) or '(ended)'} |"
            for status, after in moves.items()]
    return ["| status | what it says | may be followed by |", "|---|---|---|", *rows]


def states() -> str:
    """The page of states, from the tables of moves."""
    return "\n".join([
        "# States", "",
        "Drawn from `treadle/kernel/moves.py` by `python docs/generate.py states`. A move that the tables",
        "lack raises `IllegalMove` with the node's story.", "",
        "## Of an attempt", "",
        "A retry is a new attempt, and starts at `pending` again.", "",
        *_drawing(MOVES, NodeStatus.PENDING), "", *_table(MOVES, NODE_WORDS), "",
        "## Of an execution", "",
        "An execution that has ended and is resumed runs again: what had completed stays as it is.",
        "",
        *_drawing(EXECUTION_MOVES, ExecutionStatus.PENDING), "",
        *_table(EXECUTION_MOVES, EXECUTION_WORDS), ""])


def limits() -> str:
    """The page of limits, from `TreadleConfig`."""
    hints = typing.get_type_hints(TreadleConfig, include_extras=True)
    rows = [f"| `{name}` | {getattr(DEFAULT_CONFIG, name)} | {hints[name].__metadata__[0]} |"
            for name in TreadleConfig.__struct_fields__]
    return "\n".join([
        "# Limits", "",
        "Drawn from `treadle/config.py` by `python docs/generate.py limits`. Every queue, batch, wait, file",
        "has a limit, its unit in its name: `_s` seconds, `_ms` milliseconds, `_mb` mebibytes.", "",
        "```python", "async with Engine.open(url, config=TreadleConfig(concurrency=32)) as engine: ...",
        "```", "",
        "| name | default | limits |", "|---|---|---|", *rows, ""])


def nodes() -> str:
    """The page of node types, from their structs."""
    lines = [
        "# Node types", "",
        "Drawn from `treadle/nodes/` by `python docs/generate.py nodes`. The keys that every node has",
        "(`needs`, `retries`, `timeout`, `for_each` …) are in [diagrams.md](diagrams.md). A *template* is a",
        "text with `{{ expressions }}` in it, an *expression* one of these, with or without the braces. File",
        "names are relative to the diagram's folder. Every node has the port `error` besides its own.", ""]
    for module in BUILT_IN:
        kind = module.KIND
        lines += [f"## {kind.name}", "", *inspect.cleandoc(kind.properties.__doc__ or "").splitlines(), ""]
        lines += [*_properties(kind.properties), ""]
    return "\n".join(lines)


def _properties(struct: type[msgspec.Struct]) -> list[str]:
    hints = typing.get_type_hints(struct, include_extras=True)
    words = _field_words(struct)
    rows = []
    for field in msgspec.structs.fields(struct):
        plain = isinstance(field.default, msgspec.Struct) or field.default in (None, "", msgspec.NODEFAULT)
        default = "" if plain else f"`{_shown(field.default)}`"
        if field.required:
            default = "required"
        rows.append(f"| `{field.name}` | {_type(hints[field.name])} | {default} | {words[field.name]} |")
    return ["| property | type | default | meaning |", "|---|---|---|---|", *rows] if rows else []


def _field_words(struct: type[msgspec.Struct]) -> dict[str, str]:
    """The text under each field."""
    body = ast.parse(inspect.getsource(struct)).body[0]
    assert isinstance(body, ast.ClassDef)
    words = {}
    for field, text in itertools.pairwise(body.body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant), ast.dump(field)
            words[field.target.id] = " ".join(str(text.value.value).split()).replace("|", "\\|")
    return words


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _type(hint: typing.Any) -> str:
    """A field's type in words."""
    if hint == Template:
        return "template"
    if hint == Expression:
        return "expression"
    if hint == PersonName:
        return "name of a person"
    if typing.get_origin(hint) is typing.Annotated:
        return _type(typing.get_args(hint)[0])
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return "map"
    arguments = typing.get_args(hint)
    origin = typing.get_origin(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin is list:
        return f"list of {_type(arguments[0])}s"
    if origin is dict:
        return "map"
    if arguments:
        return " or ".join(dict.fromkeys(_type(one) for one in arguments if one is not type(None)))
    return {str: "text", int: "integer", float: "number", bool: "boolean", typing.Any: "any"}[hint]


def options() -> str:
    """The page of every command with its options."""
    import typer

    from treadle.cli.main import _app

    lines = ["# Commands and options", "",
             "Drawn from the commands by `python docs/generate.py options`; the [command line](cli.md) says "
             "how they are used.", ""]

    def describe(name: str, command: typing.Any) -> None:
        inner = getattr(command, "commands", None)
        if inner is not None:
            for word, one in inner.items():
                describe(f"{name} {word}", one)
            return
        lines.extend([f"## {name}", "", _first(command.help), "", "| | |", "|---|---|"])
        for one in command.params:
            said = ", ".join([*one.opts, *one.secondary_opts]) if one.param_type_name == "option" else ""
            flag = said and getattr(one, "is_flag", False)
            shown = said if flag else f"{said} {one.metavar or str(one.name).upper()}".strip()
            lines.append(f"| `{shown}` | {_first(getattr(one, 'help', None))} |")
        lines.append("")

    describe("treadle", typer.main.get_command(_app(["run"])))
    return "\n".join(lines)


def names() -> str:
    """The page of what `import treadle` gives."""
    import treadle

    lines = ["# Public names", "",
             "What `from treadle import …` gives, with its home; `help(NAME)` says the rest. Drawn by "
             "`python docs/generate.py names`.", "", "| name | home | what it is |", "|---|---|---|"]
    for name in sorted(treadle.__all__, key=str.lower):
        if not name.startswith("__"):
            thing = getattr(treadle, name)
            words = _first(inspect.getdoc(thing)) if callable(thing) else f"`{thing!r}`"
            lines.append(f"| `{name}` | `treadle.{treadle._HOME_OF[name]}` | {words} |")
    given = ", ".join(f"`{one}`" for one in inspect.signature(treadle.Engine.open).parameters)
    words = (inspect.getdoc(treadle.Engine.open) or "").replace("\n\n", " ").replace("\n", " ")
    return "\n".join([*lines, "", "## Engine.open", "", f"Takes {given}. {words}", ""])


def _first(text: str | None) -> str:
    """The first paragraph on one line, fit for a table."""
    return (text or "").partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")


PAGES: dict[str, Callable[[], str]] = {"states": states, "limits": limits, "nodes": nodes, "options": options,
                                       "names": names}


def main(words: list[str]) -> int:
    """Write, or check, the pages that are named."""
    check = "--check" in words
    wanted = [word for word in words if word != "--check"] or ["all"]
    if wanted == ["all"]:
        wanted = list(PAGES)
    unknown = [page for page in wanted if page not in PAGES]
    if unknown:
        print(f"no page {', '.join(unknown)}: choose from {', '.join(PAGES)} or all", file=sys.stderr)
        return 2
    stale = 0
    for page in wanted:
        path, text = DOCS / f"{page}.md", PAGES[page]()
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            stale += 1
            if not check:
                path.write_text(text, encoding="utf-8")
            print(f"docs/{path.name} {'is not current' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
