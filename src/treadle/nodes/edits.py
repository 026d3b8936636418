"""Changing one place of a JSON or YAML file, and keeping others from changing the file meanwhile."""

from __future__ import annotations

import fcntl
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.util import load_yaml_guess_indent

from treadle.nodes.base import cancelled
from treadle.nodes.files import plain, replaceable, why

LOCK_S_MAX = 30.0
"""Seconds that another may hold a file."""
_KEY = re.compile(r"[^.\[\]]+")
_INDEX = re.compile(r"\[(-?\d+)\]")
_WIDTH = 1 << 20  # the library would break long lines
_MISSING = object()


class FileBusy(TimeoutError):
    """Somebody else has held the lock of a file for too long."""


def steps_of(place: str) -> list[str | int]:
    """A place such as `rows[0].name` as keys and indexes. ValueError for what is no place."""
    found: list[str | int] = []
    at = 0
    while at < len(place):
        index = _INDEX.match(place, at)
        if index is not None:
            found.append(int(index[1]))
            at = index.end()
            continue
        at += bool(found) and place[at] == "."  # a dot stands between two steps
        key = _KEY.match(place, at)
        if key is None or (found and place[at - 1] != "."):
            found = []
            break
        found.append(key[0])
        at = key.end()
    if not found:
        raise ValueError(f"`key`: {place!r} is no place: write one such as a.b or rows[0].name")
    return found


def put(root: Any, place: str, value: Any, shared: frozenset[str] = frozenset()) -> Any:
    """Set one place of nested maps and lists, with maps on the way where nothing is; gives the root.

    A list takes an index that it has, or the next one, which makes it longer. `shared` names the anchors of
    YAML whose content stands in several places: there is no changing just one of them. ValueError says where
    the place ends.
    """
    steps = steps_of(place)
    top: dict[str, Any] = {"": root}
    holder: Any = top
    last: Any = ""
    done = ""
    for step in steps:
        inner = _child(holder, last)
        if inner is None or inner is _MISSING:
            inner = [] if isinstance(step, int) else {}
            holder = _set(holder, last, inner, place, done)
        elif getattr(getattr(inner, "anchor", None), "value", None) in shared:
            raise ValueError(f"`key: {place}`: {_named(done)} is shared: its anchor &{inner.anchor.value} "
                             "has aliases, which would change with it; write it out first")
        else:
            holder = inner
        last = _fitting(holder, step, place, done)
        done += f"[{step}]" if isinstance(step, int) else f".{step}" if done else step
    _set(holder, last, value, place, done)
    return top[""]


def _child(holder: Any, key: Any) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(key, _MISSING)
    return holder[key] if -len(holder) <= key < len(holder) else _MISSING


def _fitting(holder: Any, step: str | int, place: str, done: str) -> Any:
    """A step as the key that its map or list has for it. ValueError if there can't be any."""
    if isinstance(holder, MutableMapping):
        if step in holder:
            return step
        # Keys of YAML may be numbers, and a step in brackets may be meant for a map's text.
        near = [key for key in holder if not isinstance(key, str) and str(key) == str(step)]
        return near[0] if near else str(step)
    if not isinstance(holder, MutableSequence):
        raise ValueError(f"`key: {place}`: {_named(done)} is a {type(plain(holder)).__name__}, which can't "
                         f"have {step!r} in it")
    try:
        index = int(step)
    except ValueError:
        raise ValueError(f"`key: {place}`: {_named(done)} is a list, which has no {step!r}: its items are "
                         f"[0] and so on, as in {done}[0].{step}") from None
    if not -len(holder) <= index <= len(holder):
        raise ValueError(f"`key: {place}`: {_named(done)} has {len(holder)} items, and so no [{index}]; "
                         f"[{len(holder)}] would be a new one")
    return index


def _set(holder: Any, key: Any, value: Any, place: str, done: str) -> Any:
    """Put a value into a map or list; gives it as it stands there."""
    if isinstance(holder, MutableSequence) and key == len(holder):
        holder.append(value)
    else:
        holder[key] = value
    return holder[key]


def _named(done: str) -> str:
    return repr(done) if done else "the file"


def edited(text: str, form: str, place: str | None, value: Any, said: str) -> str:
    """The text of a JSON or YAML file with one place set, or the keys of a map. Indents stay, in YAML
    comments too. ValueError names the file."""
    value = plain(value)
    try:
        return _edited_json(text, place, value) if form == "json" else _edited_yaml(text, place, value)
    except (ValueError, YAMLError, RecursionError) as error:
        raise ValueError(f"file {said!r}: {why(error)}") from None


def _merged(root: Any, value: Any) -> Any:
    """A map with the keys of another, those of the other winning."""
    for what, one in ("the file", root), ("the value", value):
        if not isinstance(one, Mapping):
            raise ValueError(f"without `key` its keys are set, and {what} is a {type(plain(one)).__name__}, "
                             "not a map")
    for name, one in value.items():
        root[name] = one
    return root


def _edited_json(text: str, place: str | None, value: Any) -> str:
    try:
        root = json.loads(text)
    except ValueError as error:
        raise ValueError(f"it is not json: {error}") from None
    indent = re.match(r"\s*[\[{]\r?\n([ \t]+)", text)
    lines = "\n" in text.strip()
    root = _merged(root, value) if place is None else put(root, place, value)
    changed = json.dumps(root, ensure_ascii=False,
                         indent=(indent[1] if indent else 2) if lines or not text.strip("[{}] \n") else None)
    return changed + "\n" if text.endswith("\n") else changed


def _edited_yaml(text: str, place: str | None, value: Any) -> str:
    yaml = YAML(typ="rt", pure=True)
    yaml.preserve_quotes = True
    yaml.width = _WIDTH
    yaml.allow_unicode = True
    yaml.explicit_start = bool(re.match(r"(#.*\n|\s*\n)*---\s", text))
    root, indent, offset = load_yaml_guess_indent(text, yaml=yaml)
    offset = offset or 0
    yaml.indent(mapping=max(2, (indent or 2) - offset), sequence=max(indent or 2, offset + 2), offset=offset)
    _keep_anchors(root, set())
    used = frozenset(re.findall(r"\*([^\s,\[\]{}]+)", text))
    out = io.StringIO()
    yaml.dump(_merged(root, value) if place is None else put(root, place, value, used), out)
    return out.getvalue()


def _keep_anchors(value: Any, seen: set[int]) -> None:
    """Let the anchors stay that have no alias: the library leaves them out."""
    anchor = getattr(value, "anchor", None)
    if id(value) in seen:
        return
    seen.add(id(value))
    if anchor is not None and anchor.value:
        anchor.always_dump = True
    if isinstance(value, Mapping | MutableSequence):
        for one in value.values() if isinstance(value, Mapping) else value:
            _keep_anchors(one, seen)


@contextmanager
def held(path: Path, said: str, *, create: bool = False) -> Iterator[Path]:
    """Keep every other writer of Treadle out of a file, in this process and others; gives its real path.

    The file itself is locked (flock), so a process that dies leaves nothing behind. Who replaces it holds the
    lock of the file that was there; whoever waited for that one finds another in its place, and locks anew.
    FileNotFoundError, unless it may `create` the file; FileBusy; PermissionError.
    """
    real = Path(os.path.realpath(path))
    until = time.monotonic() + LOCK_S_MAX
    while True:
        replaceable(real, said)
        handle = os.open(real, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
        try:
            _lock(handle, said, until)
            if _is_still(handle, real):
                yield real
                return
        finally:
            os.close(handle)


def _lock(handle: int, said: str, until: float) -> None:
    wait = 0.001
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise FileBusy(f"file {said!r} has been locked by others for {LOCK_S_MAX:g} s") from None
        heed(said)
        time.sleep(wait)
        wait = min(0.02, wait * 2)


def _is_still(handle: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def heed(said: str) -> None:
    """Go no further in a thread that was told to stop: its node may be tried again already."""
    if cancelled():
        raise InterruptedError(f"file {said!r} is left as it was: the node was stopped")
