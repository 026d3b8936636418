"""`--state-history`, `show --history`, and the way back when the store is lost."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

HELD = """
treadle: 1
name: held
nodes:
  one: {type: code_job, call: "tasks:first"}
  each: {type: code_job, isolation: thread, code: "return item * 2", for_each: "{{ [1, 2, 3] }}", needs: one}
  large: {type: code_job, isolation: thread, code: "return 'x' * 100000"}
  hold: {type: code_job, call: "tasks:hold", needs: [each, large]}
  done: {type: endpoint, needs: hold}
"""
SHORT = """
treadle: 1
name: short
nodes:
  one: {type: code_job, call: "tasks:first"}
  done: {type: endpoint, needs: one}
"""


def folders(treadle: Any) -> list[Path]:
    return sorted((treadle.folder / "h").glob("*_*"))


def test_a_run_that_was_killed_and_whose_store_is_lost_goes_on_from_its_history(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HELD), "--execution-id", "x", "--state-history", "h")
    treadle.until_held()
    treadle.until(lambda: [path for path in (treadle.folder / "h").glob("*_x/state_node_hold_attempt1.json")],
                  "the start of hold was written")
    child.kill()
    child.communicate()
    treadle.children.clear()
    for path in treadle.folder.glob("runs.db*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    [folder] = folders(treadle)
    shown = treadle.here("show", "--history", str(folder))
    assert "x  held  running" in shown.stdout
    assert f"treadle import {folder}" in shown.stderr
    taken = treadle.here("import", str(folder))
    assert taken.returncode == 0, taken.stderr
    assert "imported execution x of 'held', running, 7 cells, 1 blob of 97.7 KB" in taken.stderr
    treadle.let_go()
    done = treadle("resume", "x", "--state-history", "h")
    assert (done.returncode, done.stdout) == (0, "hold\n"), done.stderr
    assert treadle.log == ["first", "began hold", "began hold", "ended hold"]
    assert folders(treadle) == [folder]
    states = treadle.json("show", "--history", "h")
    assert [(one["execution_id"], one["status"]) for one in states] == [("x", "completed")]
    mine, theirs = treadle.json("show", "x"), treadle.json("show", "--history", str(folder))
    assert mine["node_states"] == theirs["node_states"]
    assert theirs["output"] == "hold"


def test_show_looks_into_a_history_as_into_a_store(treadle: Any) -> None:
    ran = treadle("run", treadle.write(SHORT), "--execution-id", "x", "--state-history", "h")
    assert ran.returncode == 0
    assert "its history in h" in ran.stderr
    assert treadle("run", treadle.write(SHORT), "--execution-id", "y", "--state-history", "h").returncode == 0
    stored = treadle.json("show", "x")
    treadle.store.unlink()
    listed = treadle.here("show", "--history", "h").stdout.splitlines()
    assert sorted(line.split()[:3] for line in listed[1:]) == [["x", "short", "completed"],
                                                               ["y", "short", "completed"]]
    found = treadle.json("show", "x", "--history", "h")
    assert found == stored
    node = treadle.here("show", "x", "--history", "h", "--node", "done")
    assert "input default: one" in node.stdout
    [folder] = [path for path in folders(treadle) if path.name.endswith("_x")]
    (folder / "state_init.json").write_text("{")
    listed = treadle.here("show", "--history", "h")
    assert (listed.returncode, "damaged" in listed.stdout) == (0, True)
    refused = treadle.here("show", "--history", str(folder))
    assert refused.returncode == 2
    assert "state_init.json is damaged" in refused.stderr


def test_a_resume_of_what_has_completed_completes_its_files(treadle: Any) -> None:
    treadle.here("run", treadle.write(SHORT), "--execution-id", "x", "--state-history", "h")
    [folder] = folders(treadle)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for name in ("state_final.json", "state_node_one_attempt1.json", "state_node_done_final.json"):
        (folder / name).unlink()
    done = treadle.here("resume", "x", "--state-history", "h")
    assert (done.returncode, done.stdout) == (0, "one\n")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert set(after) == set(before)
    assert after["state_final.json"] == before["state_final.json"]


def test_an_interrupted_run_has_what_ran(treadle: Any) -> None:
    child = treadle.begin("run", treadle.write(HELD), "--execution-id", "x", "--state-history", "h")
    treadle.until_held()
    child.send_signal(signal.SIGTERM)
    assert child.wait(30) == 130
    child.communicate()
    treadle.children.clear()
    [folder] = folders(treadle)
    shown, stored = treadle.json("show", "--history", str(folder)), treadle.json("show", "x")
    assert shown["node_states"] == stored["node_states"]


@pytest.mark.parametrize(("words", "says"), [
    (("run", "diagram.yaml", "--state-history", "diagram.yaml"), "diagram.yaml: this is a file"),
    (("run", "diagram.yaml", "--state-history", "diagram.yaml/h"), "can't be made"),
    (("run", "diagram.yaml", "--state-history", "h", "--durability", "memory"), "leave --state-history out"),
    (("show",), "name the execution"),
    (("show", "--history", "nowhere"), "nowhere does not exist"),
    (("show", "x", "--history", "empty"), "empty has no history of an execution"),
    (("import", "empty"), "empty has no history of an execution"),
])
def test_mistakes_say_what_to_do(treadle: Any, words: tuple[str, ...], says: str) -> None:
    treadle.write(SHORT)
    (treadle.folder / "empty").mkdir()
    done = treadle.here(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert not treadle.store.exists()


def test_an_execution_that_is_not_there_is_named(treadle: Any) -> None:
    treadle.here("run", treadle.write(SHORT), "--execution-id", "x", "--state-history", "h")
    missed = treadle.here("show", "y", "--history", "h")
    assert (missed.returncode, "no history of an execution 'y'" in missed.stderr) == (2, True)


def test_with_a_key_the_files_are_encrypted(treadle: Any) -> None:
    assert treadle.here("keys", "new", "--out", "key").returncode == 0
    key = ("--state-encryption-key", "file:key")
    ran = treadle.here("run", treadle.write(HELD.replace("tasks:hold", "tasks:first")), "--execution-id", "x",
                       "--state-history", "h", *key)
    assert ran.returncode == 0, ran.stderr
    [folder] = folders(treadle)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 12
    assert not any(word in path.read_bytes() for path in files for word in (b"treadle", b"node_id", b"x" * 8))
    treadle.store.unlink()
    for command in (("show", "--history", str(folder)), ("import", str(folder))):
        refused = treadle.here(*command)
        assert refused.returncode == 2
        assert "state_init.json is encrypted with the key" in refused.stderr
    assert treadle.here("import", str(folder), *key).returncode == 0
    stored = treadle.json("show", "x", *key)
    assert treadle.json("show", "--history", str(folder), *key) == stored
    assert treadle.here("keys", "new", "--out", "other").returncode == 0
    refused = treadle.here("show", "--history", str(folder), "--state-encryption-key", "file:other")
    assert (refused.returncode, "give the other one" in refused.stderr) == (2, True)
    (folder / "state_node_one_attempt1.json").rename(folder / "state_node_two_attempt1.json")
    moved = treadle.here("show", "--history", str(folder), *key)
    assert (moved.returncode, "can't be decrypted" in moved.stderr) == (2, True)
