"""What `doctor` says of an encrypted store, with its key and without."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import apsw
import pytest

from treadle.crypto.keys import new_key, write_key

KEY = ("--state-encryption-key", "file:key")
DIAGRAM = """
treadle: 1
name: hello
nodes:
  say: {type: code_job, isolation: thread, code: "print('said'); return 'the ' + 'marker'"}
  large: {type: code_job, isolation: thread, code: "return 'x' * 50_000", cache: true}
  huge:
    {type: code_job, isolation: thread,
     code: "import random; return random.Random(1).randbytes(6_000_000).hex()"}
  wait: {type: wait_for, signal: go, needs: [say, large, huge]}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what the first test makes is kept for the others."""
    return tmp_path_factory.mktemp("made") / "all"


@pytest.fixture(name="treadle")
def _treadle(treadle: Any, made: Path) -> Any:
    """With an encrypted store that has a suspended execution `one`."""
    if not made.exists():
        write_key(treadle.folder / "key")
        treadle.write(DIAGRAM)
        done = treadle("run", "diagram.yaml", "--execution-id", "one", *KEY)
        assert done.returncode == 3, done.stderr
        shutil.copytree(treadle.folder, made)
    shutil.copytree(made, treadle.folder, dirs_exist_ok=True)
    return treadle


def sql(treadle: Any, text: str) -> None:
    connection = apsw.Connection(str(treadle.store))
    connection.execute(text)
    connection.close()


def findings(treadle: Any, *words: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for one in treadle.json("doctor", *words):
        found.setdefault(one["what"], []).append(f"{one['level']} {one['text']} → {one['hint']}")
    return found


def test_with_the_key_it_opens_all_there_is(treadle: Any) -> None:
    done = treadle("doctor", *KEY)
    assert done.returncode == 0, done.stdout
    assert "blobs could be opened" in done.stdout
    [said] = findings(treadle, *KEY)["sealed"]
    assert said.startswith("OK ") and "2 blobs" in said
    treadle("keys", "forget", "one", "--yes", *KEY)
    assert "1 execution forgotten" in findings(treadle, *KEY)["sealed"][0]


def test_without_the_key_it_says_how_much_there_is(treadle: Any) -> None:
    found = findings(treadle)
    assert "with the key" in found["encryption"][0] and found["encryption"][0].endswith("rows → ")
    assert found["sealed"] == ["OK whether all can be opened is looked at with the key → "
                               "treadle doctor --state-encryption-key KEY"]
    sql(treadle, "DELETE FROM keys WHERE execution_id = ''")
    for words in ((), KEY):
        done = treadle("doctor", *words)
        assert done.returncode == 1 and "the store's own key was deleted" in done.stdout


def test_another_key_is_an_error(treadle: Any) -> None:
    done = treadle("doctor", "--state-encryption-key", new_key())
    assert done.returncode == 1
    assert "is encrypted with the key" in done.stdout and "give the other one" in done.stdout
    done = treadle("doctor", "--state-encryption-key", "file:none")
    assert done.returncode == 2 and "No such file" in done.stderr


CHANGES = {
    "UPDATE node_states SET status = 'completed' WHERE node_id = 'wait'":
        "output of node 'wait' (attempt 1) of execution one can't be decrypted",
    "UPDATE node_states SET status = 'odd' WHERE node_id = 'say'":
        "a cell of node 'say' of execution one can't be read (KeyError: 'odd'); somebody changed it",
    "UPDATE node_states SET error = 'odd' WHERE node_id = 'say'":
        "a cell of node 'say' of execution one can't be read (DecodeError",
    "UPDATE logs SET text = 'odd'": "line 1 of the logs of execution one can't be read (JSONDecodeError",
    "UPDATE logs SET text = '\"~b2Rk\"'": "a line of stdout of node 'say' (attempt 1) of execution one",
    "UPDATE diagrams SET source = '~b2Rk'": "the source of the diagram",
    "UPDATE blobs SET content = zeroblob(99)": "the blob",
    "UPDATE cache SET port = 'x'": "cached key of 'large' of execution one can't be decrypted",
    "UPDATE executions SET inputs = '{}'": "inputs of execution one is not encrypted",
    "UPDATE node_states SET output = CAST(x'ff' AS TEXT) WHERE node_id = 'say'":
        "holds a text that is not UTF-8",
    "DELETE FROM blobs": "execution one lacks the blob",
}


def test_each_text_that_cannot_be_opened_is_named(treadle: Any) -> None:
    for change, said in CHANGES.items():
        before = treadle.store.read_bytes()
        sql(treadle, change)
        done = treadle("doctor", *KEY)
        assert done.returncode == 1, change
        [first, *_] = [line for line in done.stdout.splitlines() if line.startswith("error    sealed")]
        assert said in first, change
        assert "restore the store from a copy" in done.stdout, change
        for end in ("", "-wal", "-shm"):
            treadle.store.with_name(treadle.store.name + end).unlink(missing_ok=True)
        treadle.store.write_bytes(before)


def test_a_file_of_a_blob_that_was_changed_is_named(treadle: Any) -> None:
    [file] = (treadle.folder / "runs.db.blobs").glob("??/*")
    raw = bytearray(file.read_bytes())
    raw[3_000_000] ^= 1
    file.write_bytes(raw)
    [said] = findings(treadle, *KEY)["sealed"]
    assert said.startswith("error a blob of execution one: the blob file") and "can't be decrypted" in said


def test_a_line_of_the_logs_that_is_no_line_is_named(treadle: Any) -> None:
    sql(treadle, "UPDATE logs SET text = 'odd'")
    done = treadle("logs", "one", *KEY)
    assert done.returncode == 2
    assert "line 1 of the logs of execution one can't be read" in done.stderr
    assert "somebody changed it: restore the store from a copy" in done.stderr


def test_copies_that_a_killed_process_left_are_found_and_go(treadle: Any) -> None:
    left = treadle.folder / "runs.db.blobs" / "plain" / "left"
    left.mkdir(parents=True)
    (left / "x.txt").write_text("plain")
    [said] = findings(treadle)["copies"]
    assert "1 processes that were killed left copies" in said and "treadle prune --collect" in said
    findings(treadle, *KEY)
    assert left.exists(), "doctor changes nothing"
    assert treadle("list", *KEY).returncode == 0
    assert not left.exists()
    assert "copies" not in findings(treadle)
