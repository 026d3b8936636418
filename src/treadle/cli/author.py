"""Commands for those who write diagrams: `check`, `convert`, `nodes`, `schema`, `init`."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from treadle.cli.common import COMPLETED, WRONG, JsonOption, readers_may_leave
from treadle.cli.render import print_json, say, table
from treadle.engine.edited import nearby, types_for
from treadle.errors import Fault, InvalidDiagram, InvalidInput, Where, did_you_mean

if TYPE_CHECKING:
    from treadle.diagram.formats import Format
    from treadle.diagram.formats.conversion.forms import Form
    from treadle.nodes.base import NodeKind

DIAGRAM = """\
treadle: 1
name: hello
inputs:
  names: {type: array, default: [Ada, Grace, Alan]}
nodes:
  greet: {type: code_job, call: "tasks:greet", for_each: "{{ inputs.names }}", retries: 2}
  several: {type: condition, when: "{{ greet | length > 1 }}", needs: greet}
  all: {type: template_job, text: "{{ several | join('\\n') }}", needs: several.true}
  one: {type: template_job, text: "Only {{ several | join }}", needs: several.false}
  done: {type: endpoint, join: any, needs: [all, one]}
"""
TASKS = '''\
"""What the nodes of diagram.yaml do."""

from __future__ import annotations

import asyncio


async def greet(item: str) -> str:
    """One greeting. The diagram runs this once for each name, at the same time."""
    await asyncio.sleep(0.1)
    return f"Hello {item}!"
'''


def check(
    files: Annotated[list[str], typer.Argument(metavar="FILE", help="Diagram files.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Find everything that is wrong with diagrams, without running them. Warnings alone are no failure."""
    readers_may_leave()
    from treadle.diagram.check import check_file

    types = {folder: types_for(folder) for folder in {Path(file).resolve().parent for file in files}}
    found: dict[str, tuple[Fault, ...]] = {}
    for file in files:
        try:
            found[file] = check_file(file, types[Path(file).resolve().parent]).faults
        except OSError as error:
            found[file] = (Fault(f"the file can't be read: {error.strerror or error}", where=Where(file),
                                 hint=nearby(Path(file))),)
    wrong = any(not fault.warning for faults in found.values() for fault in faults)
    if as_json:
        print_json([{"file": file, "valid": all(fault.warning for fault in faults),
                     "faults": [_fault(fault) for fault in faults]} for file, faults in found.items()])
    else:
        for file, faults in found.items():
            for fault in faults:
                print(fault)
            if not faults:
                print(f"{file}: no faults")
    raise typer.Exit(WRONG if wrong else COMPLETED)


def _fault(fault: Fault) -> dict[str, Any]:
    where = fault.where or Where()
    return {"file": where.file, "line": where.line, "column": where.column, "node": fault.node,
            "message": fault.message, "hint": fault.hint, "warning": fault.warning}


def convert(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A diagram file, of any form.",
                                        show_default=False)],
    output: Annotated[str | None, typer.Option(
        "--output", "-o", metavar="FILE", show_default=False,
        help="Write it to this file, instead of stdout.")] = None,
    to: Annotated[str, typer.Option(
        metavar="FORM", help="treadle, light (the light dialect), or native (that dialect's JSON).",
    )] = "treadle",
    format_: Annotated[str | None, typer.Option(
        "--format", metavar="FORMAT", show_default=False,
        help="yaml or json; without it by the name of the output, and json for native.")] = None,
) -> None:
    """Write a diagram in another form. What the form can't say is named, and nothing is written then."""
    from treadle.diagram.formats import read_text
    from treadle.diagram.formats.conversion.forms import convert
    from treadle.nodes.files import write_file

    form = _one_of("--to", to, ("treadle", "light", "native"))
    json_named = output is not None and output.lower().endswith(".json")
    usual = "json" if json_named or (output is None and form == "native") else "yaml"
    written = _one_of("--format", format_ or usual, ("yaml", "json"))
    if output is not None and Path(output).resolve() == Path(file).resolve():
        raise InvalidInput(f"--output {output} is the file itself: name another")
    try:
        text = read_text(file)
    except OSError as error:
        raise InvalidDiagram([Fault(f"the file can't be read: {error.strerror or error}", where=Where(file),
                                    hint=nearby(Path(file)))]) from None
    text, faults = convert(text, cast("Form", form), file=file, written=cast("Format", written),
                           format="json" if file.lower().endswith(".json") else "yaml")
    for fault in faults:
        say(str(fault))
    if output is None:
        readers_may_leave()
        print(text, end="")
        return
    if Path(output).is_dir():
        raise InvalidInput(f"--output {output} is a folder: name a file in it")
    write_file(Path(output), text)
    say(f"wrote {output}")
    if Path(output).resolve().parent != Path(file).resolve().parent:
        say(f"paths in it start from its own folder now, and were meant from {Path(file).parent}")


def _one_of(option: str, word: str, known: tuple[str, ...]) -> str:
    if word.lower() not in known:
        hint = did_you_mean(word, known) or f"there is {', '.join(known)}"
        raise InvalidInput(f"{option} {word}: {hint}")
    return word.lower()


def nodes(
    name: Annotated[str | None, typer.Argument(metavar="TYPE", help="Show this type's properties.",
                                               show_default=False)] = None,
    as_json: JsonOption = False,
) -> None:
    """List the types of nodes, or show one: its properties, and a diagram that runs."""
    readers_may_leave()
    registry = types_for(Path())
    if name is None:
        kinds = [_kind(registry.kind(one)) for one in registry.names()]
        print_json(kinds) if as_json else print(table(
            ("TYPE", "DOES"), [(one["type"], one["does"].partition(". ")[0].rstrip(".")) for one in kinds]))
        return
    if registry.get(name) is None:
        hint = did_you_mean(name, registry.names()) or f"there is {', '.join(registry.names())}"
        raise InvalidInput(f"there is no node type {name!r}: {hint}")
    kind = _kind(registry.kind(name))
    if as_json:
        print_json(kind)
        return
    print(f"{kind['type']}: {kind['does']}\n")
    print(table(("PROPERTY", "TYPE", "DEFAULT", "DOES"), [
        (one["name"], one["type"], "(required)" if one["required"] else one["default"],
         re.split(r"[.;] ", one["does"])[0].rstrip("."))
        for one in kind["properties"]]))
    if kind["example"]:
        print(f"\n{kind['example']}")


def _kind(kind: NodeKind) -> dict[str, Any]:
    import msgspec

    from treadle.diagram.formats.schema import field_words

    properties, words = [], field_words(kind.properties)
    for field in msgspec.structs.fields(kind.properties):
        default = field.default if field.default is not msgspec.NODEFAULT else (
            field.default_factory() if field.default_factory is not msgspec.NODEFAULT else None)
        properties.append({
            "name": field.encode_name, "type": _type_text(field.type), "required": field.required,
            "default": "" if field.required else msgspec.json.encode(default).decode(),
            "does": words.get(field.name, "")})
    example = re.search(r"```yaml\n(.*?)```", inspect.cleandoc(kind.properties.__doc__ or ""), re.DOTALL)
    does = " ".join(inspect.cleandoc(kind.properties.__doc__ or "").partition("\n\n")[0].split())
    return {"type": kind.name, "does": does, "properties": properties,
            "example": example[1] if example else ""}


def _type_text(kind: Any) -> str:
    """A property's type in the words of diagram files."""
    import typing
    from types import NoneType, UnionType

    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        return str((inner[1].extra or {}).get("treadle") or _type_text(inner[0]))
    if origin in (typing.Union, UnionType):
        return " or ".join(dict.fromkeys(_type_text(one) for one in inner if one is not NoneType))
    if origin is typing.Literal:
        return " | ".join(map(str, inner))
    if origin is list:
        return f"list of {_type_text(inner[0])}"
    if origin is dict:
        return "map"
    return {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any"}.get(kind, str(kind))


def schema(
    output: Annotated[str | None, typer.Option(
        "--output", "-o", metavar="FILE", show_default=False,
        help="Write it to this file, instead of stdout.")] = None,
) -> None:
    """Print the JSON Schema of diagram files: editors complete and check with it."""
    import json

    from treadle.diagram.formats.schema import schema_of
    from treadle.nodes.files import write_file

    text = json.dumps(schema_of(types_for(Path())), ensure_ascii=False, indent=2) + "\n"
    if output is None:
        readers_may_leave()
        print(text, end="")
        return
    if Path(output).is_dir():
        raise InvalidInput(f"--output {output} is a folder: name a file in it")
    write_file(Path(output), text)
    say(f"wrote {output}. Begin a diagram with:  # yaml-language-server: $schema={output}")


def init(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder to write to; it is made.")] = ".",
) -> None:
    """Write a small diagram that works, with its tasks, to begin with."""
    home = Path(folder)
    files = {home / "diagram.yaml": DIAGRAM, home / "tasks.py": TASKS}
    taken = [str(path) for path in files if path.exists()]
    if taken:
        there = "exist" if len(taken) > 1 else "exists"
        raise InvalidInput(f"{' and '.join(taken)} {there} already: nothing was written. Name another "
                           "folder: treadle init DIR")
    home.mkdir(parents=True, exist_ok=True)
    for path, text in files.items():
        path.write_text(text, encoding="utf-8")
        say(f"wrote {path}")
    say(f"Run it:  treadle run {home / 'diagram.yaml'}")
