"""Recorded calls of models: written by `--record`, read by `--replay`, whatever the provider.

Each call is a file, `Ann-3f2a9c01d4-1.json`, that people can read. It is found again by the digest of its
request: person, model, messages, settings, tools. Of equal requests each has its own recording; the one that
was made at the same place (node, iteration, number of the call) goes before. Keys are no part of a request,
and of secrets that a text holds only their names are written. Failed calls are not recorded.
"""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from treadle.errors import InvalidInput, TreadleError

VERSION = 1
DIFFERENCE_LINES_MAX = 40
"""Lines of a difference between requests that an error shows."""
COMPARED_MAX, COMPARED_LINES_MAX = 200, 1000
"""Recordings that are looked at for the nearest one, the newest, and lines of each."""
FILE_BYTES_MAX = 64 * 1024 * 1024
"""A file that is larger is no recording of ours."""
_DIGEST_CHARS = 10


class NotRecorded(TreadleError, LookupError):
    """A model is asked what it was not asked when the calls were recorded."""

    retryable = False


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """A file: a request in plain words, and the response as pydantic-ai writes it."""

    treadle_recording: int = VERSION
    person: str
    place: str = ""
    """Where it was made: `judge (2): model 1`."""
    at: str = ""
    seconds: float = 0.0
    request: dict[str, Any]
    response: dict[str, Any]

    @property
    def digest(self) -> str:
        return digest_of(self.request)


def digest_of(request: Mapping[str, Any]) -> str:
    """What equal requests have in common."""
    raw = json.dumps(request, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(raw.encode("utf-8", "replace")).hexdigest()


class Recordings:
    """A folder of recordings; those that are in it are read at once. InvalidInput names a file that is none,
    OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._known: dict[str, list[tuple[Recording, Path]]] = {}  # by digest, the oldest first
        for path, one in _read_all(folder):
            self._known.setdefault(one.digest, []).append((one, path))
        self._used: set[Path] = set()
        self._writing = asyncio.Lock()

    async def write(self, recording: Recording) -> None:
        """Add a recording; one of the same request at the same place is replaced."""
        async with self._writing:
            equal = self._known.setdefault(recording.digest, [])
            here = next((path for one, path in equal if one.place == recording.place), None)
            path = here or self._free(recording, len(equal) + 1)
            equal[:] = [(one, place) for one, place in equal if place != path]
            equal.append((recording, path))
            await asyncio.to_thread(_write, path, recording)

    def find(self, person: str, request: Mapping[str, Any], place: str) -> Recording:
        """The recording of a request. NotRecorded shows how the nearest one differs."""
        equal = self._known.get(digest_of(request), [])
        found = next((pair for pair in equal if pair[0].place == place), None) or next(
            (pair for pair in equal if pair[1] not in self._used), None)
        if found is None:
            raise NotRecorded(self._unknown(person, request, place, len(equal)))
        self._used.add(found[1])
        return found[0]

    def _free(self, recording: Recording, number: int) -> Path:
        name = re.sub(r"\W+", "_", recording.person) or "person"
        while True:
            path = self.folder / f"{name}-{recording.digest[:_DIGEST_CHARS]}-{number}.json"
            if not path.exists():
                return path
            number += 1

    def _unknown(self, person: str, request: Mapping[str, Any], place: str, equal: int) -> str:
        where = f"{self.folder}: {place}: person {person!r} asks"
        if equal:
            return (f"{where} the same once more than was recorded ({equal} times): record it again with "
                    "--record")
        others = [found for known in self._known.values() for found in known]
        if not others:
            return f"{where}, and there are no recordings in this folder"
        mine = _lines(request)
        alike = [one for one in others if one[0].person == person] or others
        here = [one for one in alike if one[0].place == place]
        nearest, path = max((here or alike)[-COMPARED_MAX:], key=lambda one: difflib.SequenceMatcher(
            None, _lines(one[0].request)[:COMPARED_LINES_MAX], mine[:COMPARED_LINES_MAX]).ratio())
        shown = list(difflib.unified_diff(_lines(nearest.request), mine, f"recorded: {path.name}",
                                          "asked now", lineterm="", n=1))
        if len(shown) > DIFFERENCE_LINES_MAX:
            shown = [*shown[:DIFFERENCE_LINES_MAX], f"… {len(shown) - DIFFERENCE_LINES_MAX} more lines"]
        return (f"{where} what was not recorded. The nearest recording differs:\n" + "\n".join(shown)
                + "\nRecord the calls again with --record, if it is meant")


def _lines(request: Mapping[str, Any]) -> list[str]:
    """A request as lines of text, a text of several lines as several."""
    return json.dumps(request, indent=1, ensure_ascii=False, sort_keys=True).replace("\\n", "\n").splitlines()


def _read_all(folder: Path) -> Iterable[tuple[Path, Recording]]:
    found = []
    for path in sorted(folder.glob("*.json"), key=lambda one: (one.stat().st_mtime_ns, one.name)):
        try:
            if path.stat().st_size > FILE_BYTES_MAX:
                raise InvalidInput(f"{path}: it has more than FILE_BYTES_MAX={FILE_BYTES_MAX} bytes")
            found.append((path, msgspec.json.decode(path.read_bytes(), type=Recording)))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidInput(f"{path} is no recording of a model's call: {error}") from None
    return found


def _write(path: Path, recording: Recording) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(msgspec.to_builtins(recording), indent=2, ensure_ascii=False)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(text + "\n", encoding="utf-8", errors="replace")
    part.replace(path)
