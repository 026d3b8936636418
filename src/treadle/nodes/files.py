"""Reading and writing the user's files: whole, in UTF-8, and never half a file."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.errors import LimitExceeded
from treadle.state import codec
from treadle.state.blob import Blob
from treadle.undo import undone

FORMATS = ("text", "json", "yaml", "csv", "blob")
_SUFFIXES = {".json": "json", ".yaml": "yaml", ".yml": "yaml", ".csv": "csv"}


def format_of(path: str, said: str | None) -> str:
    """The format that a node says, or the one that the file's name ends in; a text otherwise."""
    return said or _SUFFIXES.get(Path(path).suffix.lower(), "text")


def picked(text: str, ranges: list[tuple[int, int | None]]) -> str:
    """The lines of some ranges, counted from 1, ends included; where the text ends before, so do they."""
    lines = list(io.StringIO(text, newline="\n"))
    return "".join("".join(lines[first - 1:last]) for first, last in ranges)


def line_range(said: str | int) -> tuple[int, int | None]:
    """A range such as `10:20`, `10:`, `:20` or `10`; None is the end. ValueError for anything else."""
    match = re.fullmatch(r"(\d*)(:?)(\d*)", str(said).strip(), re.ASCII)
    if match is None or not (match[1] or match[3]):
        raise ValueError(f"`lines`: {said!r} is no range: write '10:20', '10:', ':20' or '10'")
    first = int(match[1] or 1)
    last = first if not match[2] else int(match[3]) if match[3] else None
    if first < 1:
        raise ValueError(f"`lines`: {said!r} begins before the first line, which is 1")
    if last is not None and last < first:
        raise ValueError(f"`lines`: {said!r} ends before it begins")
    return first, last


def read_bytes(path: Path, said: str, config: TreadleConfig = DEFAULT_CONFIG) -> bytes:
    """What a file has; errors name the file as the diagram does. LimitExceeded beyond `file_bytes_max`."""
    try:
        size = path.stat().st_size
        if size > config.file_bytes_max:
            raise config.exceeded("file_bytes_max", f"file {said!r} has {size} bytes")
        return path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"no file {said!r} in {path.parent}") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{said!r} is a folder: name a file, or set `glob: true` and write "
                                f"'{said}/*'") from None


def read_file(path: Path, said: str, config: TreadleConfig = DEFAULT_CONFIG) -> str:
    """A file's text; errors as those of `read_bytes`."""
    try:
        return read_bytes(path, said, config).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"file {said!r} is not UTF-8 text (byte {error.start})") from None


def parse(text: str, form: str, said: str, config: TreadleConfig = DEFAULT_CONFIG) -> Any:
    """The value of a file's text. ValueError names the file and the place; LimitExceeded for YAML whose
    aliases make it larger than `diagram_values_max`."""
    if form == "text":
        return text
    try:
        if form == "json":
            return json.loads(text)
        if form == "yaml":
            value = YAML(typ="safe", pure=True).load(text)
            if "*" in text and _values(value, {}) > config.diagram_values_max:
                what = f"file {said!r} has more values, those of aliases counted again"
                raise config.exceeded("diagram_values_max", what)
            return value
        rows = csv.DictReader(io.StringIO(text, newline=""), restkey="", strict=True)
        return [_row(row, rows.line_num) for row in rows]
    except LimitExceeded:
        raise
    except RecursionError:
        raise ValueError(f"file {said!r} is nested too deeply, or contains itself") from None
    except (ValueError, YAMLError, csv.Error) as error:
        raise ValueError(f"file {said!r} is not {form}: {why(error)}") from None


def why(error: Exception) -> str:
    """What is wrong with a file, in a line: YAML's own words are many."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return str(error) if mark is None or problem is None else f"line {mark.line + 1}: {problem}"


def _values(value: Any, known: dict[int, int]) -> int:
    """How many values there are in one, each counted wherever it stands. RecursionError for a circle."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = 0  # being counted
        known[id(value)] = 1 + sum(
            _values(one, known) for one in (value.values() if isinstance(value, dict) else value))
    elif not known[id(value)]:
        raise RecursionError
    return known[id(value)]


def _row(row: dict[str | Any, Any], line: int) -> dict[str, Any]:
    if ("" in row and isinstance(row[""], list)) or None in row.values():
        raise ValueError(f"line {line} has another number of columns than the header")
    return row


def present(value: Any, form: str) -> str:
    """A value as the text of a file. ValueError if the format can't hold it."""
    if form == "csv":
        return table(value)
    if form == "yaml":
        out = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False  # the library annotates its None
        yaml.allow_unicode = True
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        try:
            yaml.dump(plain(value), out)
        except YAMLError as error:
            raise ValueError(f"a {type(value).__name__} can't be written as yaml: {error}") from None
        return out.getvalue()
    if form == "json" or not isinstance(value, str):
        return json.dumps(plain(value), ensure_ascii=False, indent=2) + "\n"
    return value


def plain(value: Any) -> Any:
    """A value as other programs read it: dates as text, tuples and sets as lists. NotEncodable,
    ValueError."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=_other)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a {type(value).__name__} can't be written as plain data: {error}") from None


def _other(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    codec.encode(value)  # NotEncodable says what to do about it
    raise TypeError(f"{type(value).__name__} has no form in files")


def table(value: Any, *, header: bool = True) -> str:
    """Rows as csv: a list of maps (their keys are the columns) or of lists. ValueError for anything else."""
    if not isinstance(value, list) or not all(isinstance(row, (Mapping, list, tuple)) for row in value):
        raise ValueError(f"csv needs a list of maps or of lists, not a {type(value).__name__}")
    if len({isinstance(row, Mapping) for row in value}) > 1:
        raise ValueError("csv needs a list of maps or a list of lists, not of both")
    out = io.StringIO()
    if value and isinstance(value[0], Mapping):
        names = list(dict.fromkeys(name for row in value for name in row))
        writer = csv.DictWriter(out, names, lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(value)
    else:
        csv.writer(out, lineterminator="\n").writerows(value)
    return out.getvalue()


def replaceable(path: Path, said: str) -> None:
    """IsADirectoryError for a folder; PermissionError for a file that its owner made read-only, which a
    rename would replace all the same."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(f"{said!r} is a folder: name a file")
    if not mode & 0o222:
        raise PermissionError(f"file {said!r} is read-only: allow writing it (chmod u+w), or name another")


def write_file(path: Path, content: str | bytes | Blob) -> None:
    """Replace a file as a whole: readers see the old one or the new one, and a power cut leaves either.
    PermissionError for a file that is read-only."""
    replaceable(path, str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    pieces = content.chunks() if isinstance(content, Blob) else [
        content.encode() if isinstance(content, str) else content]
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.")
    with undone(Path(name).unlink, missing_ok=True):
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fchmod(file.fileno(), path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
            os.fsync(file.fileno())
        os.replace(name, path)
    _sync_folder(path.parent)


def append_file(path: Path, content: str) -> None:
    """Add to the end of a file with one write. Its folder must be there."""
    with open(path, "ab") as file:
        file.write(content.encode())
        file.flush()
        os.fsync(file.fileno())


def _umask() -> int:
    # There is no way to read it but to set it; the default of nearly every system is near enough where we
    # can't.
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    except OSError:
        pass
    return 0o022


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # some network file systems can't; the rename itself is done
        pass
    finally:
        os.close(handle)
