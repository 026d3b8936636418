"""`export` and `import`: an execution leaves one store and goes on in another."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

HELD = """
treadle: 1
name: held
nodes:
  one: {type: code_job, call: "tasks:first"}
  large: {type: code_job, isolation: thread, code: "return 'x' * 100000"}
  hold: {type: code_job, call: "tasks:hold", needs: one}
  done: {type: endpoint, needs: hold}
"""
ASK = """
treadle: 1
name: ask
nodes:
  ask: {type: user_response, prompt: "Fine?"}
  done: {type: endpoint, needs: ask}
"""


@pytest.fixture
def asked(treadle: Any) -> Any:
    """A suspended execution `x`, with an answer that no run has taken up yet."""
    assert treadle.here("run", treadle.write(ASK), "--execution-id", "x").returncode == 3
    assert treadle.here("answer", "x", "ask", "yes").returncode == 0
    return treadle


def test_an_execution_goes_on_in_another_store_with_what_waits_for_it(asked: Any) -> None:
    done = asked.here("export", "x")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.startswith("wrote x.treadle.zip (")
    assert "execution x of 'ask', suspended, 1 cell" in done.stderr
    taken = asked.here("import", "x.treadle.zip", "--store", "other.db")
    assert taken.returncode == 0
    assert "imported execution x of 'ask', suspended, 1 cell" in taken.stderr
    assert "treadle resume x --store other.db" in taken.stderr
    assert asked.here("resume", "x", "--store", "other.db").stdout == "yes\n"
    assert asked.json("show", "x")["status"] == "suspended"  # what it came from stays as it is


def test_a_run_that_was_killed_is_exported_while_it_runs_and_after_and_ends_elsewhere(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HELD), "--execution-id", "x")
    treadle.until_held()
    treadle.until(lambda: treadle.json("show", "x")["node_states"], "the first batch was written")
    live = treadle.here("export", "x", "live.zip")
    assert f"a snapshot: process {child.pid} on" in live.stderr
    child.kill()
    child.communicate()
    treadle.children.clear()
    assert "snapshot" not in treadle.here("export", "x", "dead.zip").stderr
    assert "Go on with it in one place only" in treadle.here(
        "import", "live.zip", "--store", "live.db").stderr
    treadle.here("import", "dead.zip", "--store", "dead.db")
    assert treadle.json("list", "--store", "dead.db")[0]["status"] == "stale"
    treadle.let_go()
    treadle.write("", "log")
    for store in ("live.db", "dead.db"):
        assert treadle.here("resume", "x", "--store", store).stdout == "hold\n"
        assert treadle.json("diff", "x", "x", "--store", store, "--other-store", store)["same"]
    assert treadle.log == ["began hold", "ended hold"] * 2  # `one` was not run again
    assert treadle.json("show", "x", "--store", "dead.db", "--node", "large")["output"] == "x" * 100_000


def test_what_the_store_has_already_is_left_alone(asked: Any) -> None:
    asked.here("export", "x", "old.zip")
    assert asked.json("import", "old.zip")["outcome"] == "same"
    asked.here("resume", "x")
    again = asked.here("import", "old.zip")
    assert again.returncode == 0
    assert "nothing to do: the store has execution x already, and it is newer there" in again.stderr
    asked.here("export", "x", "new.zip")
    asked.here("import", "old.zip", "--store", "other.db")
    refused = asked.here("import", "new.zip", "--store", "other.db")
    assert refused.returncode == 2
    assert "and the file is newer (2 cells): nothing was written" in refused.stderr
    assert asked.json("show", "x", "--store", "other.db")["status"] == "suspended"


def test_the_document_of_an_export(asked: Any) -> None:
    document = asked.json("export", "x", "x.zip")
    assert document == {
        "execution_id": "x", "name": "ask", "status": "suspended", "cells": 1, "blobs": 0, "blob_bytes": 0,
        "file": "x.zip", "bytes": (asked.folder / "x.zip").stat().st_size}
    with zipfile.ZipFile(asked.folder / "x.zip") as archive:
        assert sorted(archive.namelist()) == [
            "cells.jsonl", "diagram.txt", "execution.json", "logs.jsonl", "signals.jsonl", "treadle.json"]


def test_an_export_goes_through_a_pipe(asked: Any) -> None:
    done = subprocess.run([sys.executable, "-m", "treadle", "export", "x", "-"], cwd=asked.folder,
                          env=asked.environment, capture_output=True, check=True)
    (asked.folder / "piped.zip").write_bytes(done.stdout)
    assert asked.json("import", "piped.zip", "--store", "other.db")["outcome"] == "new"


def test_a_diagram_whose_folder_is_gone_is_asked_for(asked: Any) -> None:
    folder = asked.folder / "elsewhere"
    folder.mkdir()
    (folder / "ask.yaml").write_text(ASK)
    assert asked.here("run", "elsewhere/ask.yaml", "--execution-id", "y").returncode == 3
    asked.here("export", "y")
    (folder / "ask.yaml").unlink()
    folder.rmdir()
    said = asked.here("import", "y.treadle.zip", "--store", "other.db").stderr
    assert "treadle resume y --diagram FILE --store other.db" in said
    assert f"were in {folder}, which isn't here" in said


@pytest.mark.parametrize(("words", "says"), [
    (("export", "y"), "has no execution 'y'"),
    (("export", "x", "there.zip"), "there.zip exists already: name another file, or replace it with --force"),
    (("export", "x", "."), ". is a folder: name a file in it"),
    (("export", "x", "no/such/x.zip"), "there is no folder no/such"),
    (("export", "x", "-", "--json"), "can't go to stdout"),
    (("import", "their.zip"), "their.zip: No such file or directory: did you mean 'there.zip'?"),
    (("import", "."), ". has no history"),
    (("import", "there.zip"), "there.zip is no export of an execution: `treadle export ID` writes one"),
    (("import", "cut.zip"), "cut.zip is damaged or cut off (File is not a zip file): nothing was imported"),
    (("import", "cut.zip", "--store", "fresh.db"), "cut.zip is damaged or cut off"),
])
def test_a_mistake_is_answered_in_a_line(asked: Any, words: tuple[str, ...], says: str) -> None:
    asked.write("something else", "there.zip")
    asked.here("export", "x", "whole.zip")
    whole = (asked.folder / "whole.zip").read_bytes()
    (asked.folder / "cut.zip").write_bytes(whole[:len(whole) // 2])
    done = asked.here(*words)
    assert done.returncode == 2
    assert says in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) <= 1
    assert (asked.folder / "there.zip").read_text() == "something else"
    assert not (asked.folder / "fresh.db").exists()
    assert [one for one in Path(asked.folder).iterdir() if one.name.startswith(".")] == []


def test_an_odd_id_makes_a_plain_name(treadle: Any) -> None:
    treadle.here("run", treadle.write(ASK), "--execution-id", "../a b/ü")
    assert treadle.json("export", "../a b/ü")["file"] == ".._a_b_ü.treadle.zip"
    assert treadle.json("import", ".._a_b_ü.treadle.zip", "--store", "o.db")["execution_id"] == "../a b/ü"
