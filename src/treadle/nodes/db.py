"""`db`: reads and writes files, and asks SQL databases."""

from __future__ import annotations

import glob
import json
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from treadle.config import TreadleConfig
from treadle.crypto.secrets import is_reference
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.node import Node
from treadle.diagram.transform import TransformError, select
from treadle.diagram.types import Ports, Template
from treadle.nodes import sql
from treadle.nodes.base import BodyContext, NodeKind, bare
from treadle.nodes.edits import edited, heed, held, steps_of
from treadle.nodes.files import (
    append_file,
    format_of,
    line_range,
    parse,
    picked,
    plain,
    present,
    read_file,
    table,
    write_file,
)
from treadle.nodes.large import append_blob, blob_of_file, check_format, refuse_update
from treadle.state.blob import Blob
from treadle.state.envelope import Envelope, infer


class Db(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Reads, replaces, extends or changes files, which are UTF-8 text, or asks an SQL database.

    `read` gives the content of one file, of several (a list, or `glob`) a map by path. `write` replaces the
    file as a whole or not at all, `append` adds to its end, `update` sets one place of a JSON or YAML file,
    whose comments and order stay; these three write their input and pass it on. Nodes that change one file
    at the same time take turns, in other processes too, and wait 30 seconds for each other at most. A file
    that is missing fails the node with an error that names it.

    ```yaml
    treadle: 1
    nodes:
      begin: {type: start, custom_data: {user: {name: Ann, age: 3}}}
      save: {type: db, operation: write, file: out/user.json, needs: begin}
      older: {type: code_job, code: "result = 4", needs: save}
      change: {type: db, operation: update, file: out/user.json, key: user.age, needs: older}
      name: {type: db, operation: read, file: out/user.json, key: user.name, needs: change}
    ```

    `sql` performs one statement in a transaction of its own. A query that gives rows has them as a list of
    maps by column (see `rows`), any other has `{"rows": 3}`, how many it changed. The values of `params` are
    bound by the driver and never become part of the query; `?` or `:name` stands for one in SQLite, `%s` or
    `%(name)s` in PostgreSQL, where a `%` that is meant is written `%%` as soon as there are `params`.

    ```yaml
    treadle: 1
    inputs:
      users: {type: array, default: [{id: 1, name: Ann}, {id: 2, name: Bob}]}
    nodes:
      make:
        type: db
        operation: sql
        url: sqlite:///out/users.db
        query: CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, name TEXT)
      fill:
        type: db
        operation: sql
        url: sqlite:///out/users.db
        query: INSERT INTO users VALUES (:id, :name) ON CONFLICT DO NOTHING
        params: "{{ inputs.users }}"
        many: true
        needs: make
      find:
        type: db
        operation: sql
        url: sqlite:///out/users.db
        query: SELECT name FROM users WHERE id < ? ORDER BY id
        params: ["{{ inputs.users | length }}"]
        rows: value
        needs: fill
    ```

    PostgreSQL needs psycopg: `pip install treadle[postgres]`. A statement happens as a whole or not at all.
    What may go better next time (no connection, a lock, a deadlock, a full disk) is tried again if the node
    has `retries`; a wrong query, a missing table or a broken constraint is not. A SQLite database that others
    have locked is waited for, 10 seconds at most. A crash or a time-out in the instant between the commit and
    its record performs the statement once more: `ON CONFLICT` makes that harmless.

    Times, decimals, UUIDs, bytes and JSON come back as such from PostgreSQL. SQLite has numbers, texts and
    bytes; it takes times, decimals and UUIDs as texts, maps and lists as JSON.
    """

    operation: Literal["read", "write", "append", "update", "sql"]
    """What to do."""
    file: Template | list[Template] = ""
    """The file or files, relative to the diagram's folder."""
    glob: bool = False
    """For `read`: the names are patterns (`data/*.json`, `**` for folders in folders). Matching nothing is an
    error."""
    format: Literal["text", "json", "yaml", "csv", "blob"] | None = None
    """Unless said, what the file's name ends in, or else text. `csv` is a list of maps by the header's names;
    appending `json` adds a line. `blob` is for `read`: files of any size and content, as handles with
    `open()`, `chunks()`, `read()`, `path()`, `size` and `name`; `write` and `append` take such a
    handle's content as it is, whatever the format."""
    serialize: bool = False
    """For `read`: give the content as a text of JSON."""
    parse: bool = False
    """For `write`, `append` and `update` of JSON and YAML: a text that is a map or list in JSON is written as
    that, not as a text."""
    lines: str | int | list[str | int] | None = None
    """For `read` of text: some lines only, counted from 1, ends included: `"10:20"`, `"10:"`, `":20"`, `7`,
    or a list of these."""
    key: Template | list[Template] | None = None
    """A place such as `a.b` or `rows[0].name`: `update` sets it, with maps on the way where nothing is, and
    `read` gives just what is there; of a list of places, a map by place. The index after a list's last one
    makes the list longer. Without it `update` takes a map, and sets its keys."""
    url: Template | None = None
    """For `sql`: `sqlite:///file` (in the diagram's folder; four slashes begin an absolute path),
    `postgresql://user@host/database`, or `secret://NAME` or `env:NAME`, a secret or an environment variable
    that has one of these: a URL with a password has no place in a diagram. A file that is missing is made by
    a query that begins with CREATE, and an error for others."""
    query: str | None = None
    """For `sql`: one statement. It is no template; values are `params`."""
    params: Template | dict[str, Template | Any] | list[Template | Any] | None = None
    """For `sql`: the query's values, a list or a map by name, or one `{{ expression }}` that gives it. A text
    that is exactly one `{{ expression }}` gives the value itself."""
    many: bool = False
    """For `sql`: `params` is a list of such lists or maps; the query is performed with each of them, all in
    one transaction."""
    rows: Literal["list", "one", "column", "value", "none"] = "list"
    """For `sql`: what of the rows is the result. `list`: all, as maps; `column`: a list of the values of the
    only column; `one`: the only row, as a map; `value`: the only value of the only row; `none`: just how many
    there are, `{"rows": 3}`. Without any row, `one` and `value` are none; more than one row is an error."""
    rows_max: int = 100_000
    """For `sql`: rows that the result may have; more are an error."""
    bytes_max: int = 64 * 1024 * 1024
    """For `sql`: bytes of texts and binary values that the result may have, all rows together; more are an
    error."""


_TAKES = {
    "read": ("file", "glob", "format", "serialize", "lines", "key"),
    "write": ("file", "format", "parse"),
    "append": ("file", "format", "parse"),
    "update": ("file", "format", "key", "parse"),
    "sql": ("url", "query", "params", "many", "rows", "rows_max", "bytes_max"),
}
_NEEDS = {"sql": ("url", "query")}
_DEFAULTS = dict(zip(Db.__struct_fields__[1:], Db.__struct_defaults__, strict=True))


class DbStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: Db = node.spec
        if spec.operation == "sql":
            value = await sql.perform(_statement(spec, context, inputs), context, node.policy.timeout)
        else:
            value = await _files(spec, node, context, inputs)
        return Envelope(context.node_id, context.node_id, infer(value), value)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "db"


def _statement(spec: Db, context: BodyContext, inputs: dict[str, Any]) -> sql.Statement:
    assert spec.url is not None and spec.query is not None
    url = spec.url if is_reference(spec.url) else context.render(spec.url, inputs)
    return sql.Statement(url, spec.query, sql.sets_of(spec.params, spec.many, context, inputs), spec.many,
                         spec.rows, spec.rows_max, spec.bytes_max)


async def _files(spec: Db, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Any:
    said = [spec.file] if isinstance(spec.file, str) else spec.file
    files = [context.render(name, inputs) for name in said]
    key = [context.render(one, inputs) for one in _keys(spec)]
    thread = context.executor("thread")
    timeout, name = node.policy.timeout, context.node_id
    if spec.operation == "read":
        return await thread.run(_read, spec, files, key, context, timeout=timeout, name=name)
    value = bare(inputs, context)
    await thread.run(_write, spec, context.path(files[0]), files[0], key[0] if key else None, value,
                     context.config, timeout=timeout, name=name)
    return value


def _keys(spec: Db) -> list[str]:
    return [] if spec.key is None else [spec.key] if isinstance(spec.key, str) else spec.key


def _read(spec: Db, files: list[str], keys: list[str], context: BodyContext) -> Any:
    base = context.path(".")
    several = spec.glob or not isinstance(spec.file, str)
    contents = {}
    for name in _matching(files, base) if spec.glob else files:
        content = blob_of_file(base / name, name, context) if spec.format == "blob" else _content(
            spec, name, keys, base, context.config)
        contents[name] = json.dumps(plain(content), ensure_ascii=False) if spec.serialize else content
    return contents if several else contents[files[0]]


def _content(spec: Db, name: str, keys: list[str], base: Path, config: TreadleConfig) -> Any:
    form = format_of(name, spec.format)
    text = read_file(base / name, name, config)
    if spec.lines is not None:
        _require_text(form, name)
        text = picked(text, _ranges(spec))
    content = parse(text, form, name, config)
    if not keys:
        return content
    if form == "text":
        raise ValueError(f"file {name!r} is text, which has no {keys[0]!r}: say `format: json` or yaml")
    found = {}
    for key in keys:
        steps_of(key)
        try:
            found[key] = select(content, key)
        except TransformError as error:
            raise LookupError(f"file {name!r}: {str(error).replace('select', 'key', 1)}") from None
    return found if isinstance(spec.key, list) else found[keys[0]]


def _ranges(spec: Db) -> list[tuple[int, int | None]]:
    said = spec.lines if isinstance(spec.lines, list) else [spec.lines]
    return [line_range(one) for one in said if one is not None]


def _require_text(form: str, name: str) -> None:
    if form != "text":
        raise ValueError(f"`lines` is for text, and {name!r} is {form}: say `format: text` to read it so")


def _matching(patterns: list[str], base: Path) -> list[str]:
    names: dict[str, None] = {}
    for pattern in patterns:
        found = [name for name in sorted(glob.glob(pattern, root_dir=base, recursive=True))
                 if (base / name).is_file()]
        if not found:
            raise FileNotFoundError(f"no file matches {pattern!r} in {base.resolve()}")
        names.update(dict.fromkeys(found))
    return list(names)


def _write(spec: Db, path: Path, said: str, key: str | None, value: Any, config: TreadleConfig) -> None:
    form = format_of(said, spec.format)
    if spec.parse and isinstance(value, str) and form in ("json", "yaml"):
        value = _parsed(value)
    try:
        if spec.operation == "write":
            as_it_is = isinstance(value, Blob) or (isinstance(value, bytes) and form == "text")
            _replace(path, said, value if as_it_is else present(value, form))
        elif spec.operation == "append":
            _append(path, said, form, value)
        else:
            _update(path, said, form, key, value, config)
    except FileExistsError as error:
        raise NotADirectoryError(f"file {said!r}: {error.filename} is a file, not a folder") from error
    except OSError as error:
        if error.filename is not None and os.fspath(path) != error.filename:
            raise type(error)(error.errno, error.strerror, said) from error
        raise
    except ValueError as error:
        raise ValueError(str(error) if said in str(error) else f"file {said!r}: {error}") from None


def _parsed(text: str) -> Any:
    """A text that is a map or list in JSON as that; any other as it is."""
    if not text.lstrip().startswith(("{", "[")):
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text


def _replace(path: Path, said: str, content: str | bytes | Blob) -> None:
    try:
        with held(path, said) as real:
            heed(said)
            write_file(real, content)
    except FileNotFoundError:  # nothing to take turns about
        heed(said)
        write_file(path, content)


def _append(path: Path, said: str, form: str, value: Any) -> None:
    if not isinstance(value, Blob):
        _addition(value, form, empty=True)  # a value that won't do makes no file
    path.parent.mkdir(parents=True, exist_ok=True)
    with held(path, said, create=True) as real:
        heed(said)
        if isinstance(value, Blob):
            append_blob(real, value, said)
        else:
            append_file(real, _addition(value, form, empty=not real.stat().st_size))


def _addition(value: Any, form: str, *, empty: bool) -> str:
    if form == "json":
        return json.dumps(plain(value), ensure_ascii=False) + "\n"
    if form == "csv":
        return table(value if isinstance(value, list) else [value], header=empty)
    if form == "text" and isinstance(value, str):
        return value
    return present(value, form)


def _update(path: Path, said: str, form: str, key: str | None, value: Any, config: TreadleConfig) -> None:
    _require_tree(form, said)
    if isinstance(value, Blob):
        refuse_update(value, said)
    try:
        with held(path, said) as real:
            text = edited(read_file(real, said, config), form, key, value, said)
            heed(said)
            write_file(real, text)
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {said!r} in {path.parent}: `update` changes one that is there; "
                                "write it first") from None


def _require_tree(form: str, said: str) -> None:
    if form not in ("json", "yaml"):
        raise ValueError(f"update changes json and yaml, and {said!r} is {form}: say `format`, or write the "
                         "whole file")


class DbKind(NodeKind):
    def ports(self, spec: Db, node: Node, base: str) -> Ports:
        several = isinstance(spec.file, list) or isinstance(spec.key, list)
        if spec.operation in ("write", "append", "update") and (spec.glob or spec.serialize or several):
            raise ValueError(f"{spec.operation} takes one `file` and one `key`; lists, `glob` and "
                             "`serialize` are for read")
        for name, default in _DEFAULTS.items():
            if getattr(spec, name) != default and name not in _TAKES[spec.operation]:
                takers = [one for one, names in _TAKES.items() if name in names]
                raise ValueError(f"`{name}` is for {' and '.join(takers)}, not for {spec.operation}")
        for name in _NEEDS.get(spec.operation, ("file",)):
            if not getattr(spec, name):
                raise ValueError(f"{spec.operation} needs `{name}`")
        if spec.operation == "sql":
            assert spec.url is not None and spec.query is not None
            sql.check(spec.url, spec.query, spec.params, many=spec.many, rows=spec.rows,
                      limits={"rows_max": spec.rows_max, "bytes_max": spec.bytes_max}, base=base)
        else:
            _check_files(spec)
        return Ports()


def _check_files(spec: Db) -> None:
    check_format(spec.operation, spec.format, {
        "lines": spec.lines, "key": spec.key, "serialize": spec.serialize})
    files = [spec.file] if isinstance(spec.file, str) else spec.file
    # What a template gives, only the run knows.
    known = [name for name in files if "{{" not in name and "{%" not in name]
    if spec.operation == "append" and any(format_of(name, spec.format) == "yaml" for name in files):
        raise ValueError("yaml can't be appended to: use json (a line each), csv or text")
    if spec.operation == "update":
        for name in known:
            _require_tree(format_of(name, spec.format), name)
    for key in _keys(spec):
        if "{{" not in key:
            steps_of(key)
    if spec.lines is not None:
        if not _ranges(spec):
            raise ValueError("`lines` has no range: write one such as '10:20'")
        if spec.key is not None:
            raise ValueError("say either `lines` or `key`")
        for name in known:
            _require_text(format_of(name, spec.format), name)


KIND = DbKind("db", Db, DbStrategy(), secrets=("url",))
