"""`db` given a blob: its content goes into files as it is, a piece at a time."""

from __future__ import annotations

import json
import re
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from treadle.state.blob import Blob, Place

Perform = Callable[..., Any]


@pytest.fixture
def blob(tmp_path: Path) -> Blob:
    return Place(tmp_path / "blobs").put([b"a,1\n" * 500_000] * 2, "rows.csv")


@pytest.mark.parametrize("file", ["out.txt", "out.csv", "new/out.json"])
def test_append_adds_the_content_as_it_is(tmp_path: Path, perform: Perform, blob: Blob, file: str) -> None:
    for _ in range(2):
        assert perform("db", {"default": blob}, operation="append", file=file) == blob
    assert (tmp_path / file).read_bytes() == b"a,1\n" * 2_000_000


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path: Path, perform: Perform, blob: Blob) -> None:
    out = tmp_path / "out.txt"
    out.write_text("before")
    blob.path().unlink()
    with pytest.raises(FileNotFoundError, match="no open store has the blob"):
        perform("db", {"default": blob}, operation="append", file="out.txt")
    assert out.read_text() == "before"


@pytest.fixture
def little_room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_an_append_for_which_there_is_no_room_takes_back_what_it_wrote(
        tmp_path: Path, perform: Perform, blob: Blob, little_room: None) -> None:
    out = tmp_path / "out.txt"
    out.write_text("before")
    with pytest.raises(OSError, match="File too large"):
        perform("db", {"default": blob}, operation="append", file="out.txt")
    assert out.read_text() == "before"


def test_update_says_that_a_blob_is_no_value(tmp_path: Path, perform: Perform, blob: Blob) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ValueError, match=re.escape(
            "`update` puts a value into 'a.json', and a blob is none (rows.csv, 4000000 bytes): give it the "
            "blob's text, `.read().decode()`, or its `name`")):
        perform("db", {"default": blob}, operation="update", file="a.json", key="rows")
    assert (tmp_path / "a.json").read_text() == "{}"


def test_a_list_of_blobs_is_written_as_what_they_are_called(
        tmp_path: Path, perform: Perform, blob: Blob) -> None:
    perform("db", {"default": [blob]}, operation="write", file="list.json")
    assert json.loads((tmp_path / "list.json").read_text()) == [
        {"digest": blob.digest, "size": 4_000_000, "name": "rows.csv"}]
