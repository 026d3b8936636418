"""`db`: reads and writes files."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.types import Ports, Template
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.nodes.files import append_file, format_of, parse, plain, present, read_file, table, write_file
from treadle.state.envelope import Envelope, infer


class Db(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reads, replaces or extends files; they are UTF-8 text.

    `read` gives the content of one file, of several (a list, or `glob`) a map by path. `write` replaces the
    file as a whole or not at all, `append` adds to its end; both write their input and pass it on. A file
    that is missing fails the node with an error that names it.
    """

    operation: Literal["read", "write", "append"]
    """What to do."""
    file: Template | list[Template]
    """The file or files, relative to the diagram's folder."""
    glob: bool = False
    """For `read`: the names are patterns (`data/*.json`, `**` for folders in folders). Matching nothing is an
    error."""
    format: Literal["text", "json", "yaml", "csv"] | None = None
    """Unless said, what the file's name ends in, or else text. `csv` is a list of maps by the header's names;
    appending `json` adds a line."""
    serialize: bool = False
    """For `read`: give the content as a text of JSON."""


class DbStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: Db = node.spec
        said = [spec.file] if isinstance(spec.file, str) else spec.file
        files = [context.render(name, inputs) for name in said]
        thread = context.executor("thread")
        timeout = node.policy.timeout
        if spec.operation == "read":
            value = await thread.run(_read, spec, files, context.path("."), timeout=timeout,
                                     name=context.node_id)
        else:
            value = bare(inputs, context)
            await thread.run(_write, spec, context.path(files[0]), files[0], value, timeout=timeout,
                             name=context.node_id)
        return Envelope(context.node_id, context.node_id, infer(value), value)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "db"


def _read(spec: Db, files: list[str], base: Path) -> Any:
    several = spec.glob or not isinstance(spec.file, str)
    names = _matching(files, base) if spec.glob else files
    contents = {}
    for name in names:
        content = parse(read_file(base / name, name), format_of(name, spec.format), name)
        contents[name] = json.dumps(plain(content), ensure_ascii=False) if spec.serialize else content
    return contents if several else contents[names[0]]


def _matching(patterns: list[str], base: Path) -> list[str]:
    names: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))
                 if (base / name).is_file()]
        if not found:
            raise FileNotFoundError(f"no file matches {pattern!r} in {base.resolve()}")
        names.update(dict.fromkeys(found))
    return list(names)


def _write(spec: Db, path: Path, said: str, value: Any) -> None:
    form = format_of(said, spec.format)
    try:
        if spec.operation == "write":
            write_file(path, value if isinstance(value, bytes) and form == "text" else present(value, form))
        else:
            append_file(path, _addition(value, form, empty=not path.exists() or not path.stat().st_size))
    except OSError as error:
        if error.filename is not None and os.fspath(path) != error.filename:
            raise type(error)(error.errno, error.strerror, said) from error
        raise
    except ValueError as error:
        raise ValueError(f"file {said!r}: {error}") from error


def _addition(value: Any, form: str, *, empty: bool) -> str:
    if form == "json":
        return json.dumps(plain(value), ensure_ascii=False) + "\n"
    if form == "csv":
        return table(value if isinstance(value, list) else [value], header=empty)
    if form == "text" and isinstance(value, str):
        return value
    return present(value, form)


class DbKind(NodeKind):
    def ports(self, spec: Db, node: Node, base: str) -> Ports:
        if not spec.file:
            raise ValueError("`file` needs a name")
        if spec.operation != "read":
            if spec.glob or spec.serialize or not isinstance(spec.file, str):
                raise ValueError(f"{spec.operation} takes one `file`; lists, `glob` and `serialize` are for "
                                 "read")
            if spec.operation == "append" and format_of(spec.file, spec.format) == "yaml":
                raise ValueError("yaml can't be appended to: use json (a line each), csv or text")
        return Ports()


KIND = DbKind("db", Db, DbStrategy())
