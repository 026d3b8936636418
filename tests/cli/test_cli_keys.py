"""`keys`, and the option that gives a store's key."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from treadle.crypto.keys import new_key, read_key, write_key

DIAGRAM = """
treadle: 1
name: hello
nodes:
  say: {type: code_job, isolation: thread, code: "return 'the ' + 'marker'"}
  wait: {type: wait_for, signal: go, needs: say}
"""


@pytest.fixture(name="treadle")
def _treadle(treadle: Any) -> Any:
    """With an encrypted store that has a suspended execution `one`."""
    write_key(treadle.folder / "key")
    treadle.write(DIAGRAM)
    done = treadle("run", "diagram.yaml", "--execution-id", "one", *KEY)
    assert done.returncode == 3, done.stderr
    assert "treadle resume one --state-encryption-key file:key" in done.stderr
    return treadle


KEY = ("--state-encryption-key", "file:key")


def test_every_command_with_a_store_takes_its_key(treadle: Any) -> None:
    assert treadle("show", "one", "--node", "say", *KEY).stdout.count("the marker") == 1
    assert [one["execution_id"] for one in treadle.json("list", *KEY)] == ["one"]
    assert treadle("signal", "one", "go", "1", *KEY).returncode == 0
    assert treadle("resume", "one", *KEY).returncode == 0
    assert treadle("fork", "one", "--from", "say", *KEY).returncode == 3
    done = treadle("export", "one", "out.zip", *KEY)
    assert done.returncode == 0 and "not encrypted, as the store is: only you can read it" in done.stderr
    assert (treadle.folder / "out.zip").stat().st_mode & 0o777 == 0o600
    assert treadle("import", "out.zip", "--store", "other.db").returncode == 0
    assert b"the marker" not in treadle.store.read_bytes()


def test_without_the_key_or_with_another_a_store_says_which_it_wants(treadle: Any) -> None:
    mine = read_key(f"file:{treadle.folder}/key").id
    for words in (("list",), ("resume", "one"), ("run", "diagram.yaml")):
        done = treadle(*words)
        assert done.returncode == 2
        assert f"is encrypted with the key {mine}: give it with --state-encryption-key" in done.stderr
    other = new_key()
    done = treadle("list", "--state-encryption-key", other)
    assert done.returncode == 2
    assert f"is encrypted with the key {mine}, and --state-encryption-key gives" in done.stderr
    assert other not in done.stderr
    done = treadle("list", "--state-encryption-key", "key")
    assert done.returncode == 2 and "for a key in a file write file:key" in done.stderr


def test_the_variable_gives_the_key_and_bodies_do_not_see_it(treadle: Any,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TREADLE_STATE_ENCRYPTION_KEY", f"file:{treadle.folder}/key")
    treadle.write("treadle: 1\nnodes:\n  say: {type: code_job, language: bash, code: env}\n", "env.yaml")
    done = treadle("run", "env.yaml")
    assert done.returncode == 0, done.stderr
    assert "PATH=" in done.stdout and "TREADLE_STATE" not in done.stdout
    assert "TREADLE_STATE_ENCRYPTION_KEY" not in os.environ


def test_a_key_that_was_typed_is_not_printed(treadle: Any) -> None:
    key = new_key()
    done = treadle("run", "diagram.yaml", "--store", "typed.db", "--state-encryption-key", key)
    assert done.returncode == 3
    assert "--state-encryption-key KEY" in done.stderr and key not in done.stderr


def test_a_rotation_changes_the_key(treadle: Any) -> None:
    assert treadle("keys", "new", "--out", "new").returncode == 0
    before, after = (read_key(f"file:{treadle.folder}/{name}").id for name in ("key", "new"))
    done = treadle("keys", "rotate", *KEY, "--new-key", "file:new")
    assert done.returncode == 0
    assert f"the key is now {after}, no more {before}; 1 execution kept" in done.stderr
    assert treadle("list", *KEY).returncode == 2
    assert treadle("show", "one", "--state-encryption-key", "file:new").returncode == 0
    done = treadle("keys", "rotate", "--state-encryption-key", "file:new", "--new-key", "file:new")
    assert done.returncode == 2 and "is the key that the store has" in done.stderr


def test_a_forgotten_execution_stays_in_the_list(treadle: Any) -> None:
    assert treadle("keys", "forget", "one", *KEY).returncode == 2  # nobody to ask
    assert treadle("keys", "forget", "on", "--yes", *KEY).returncode == 2
    assert treadle("keys", "forget", "two", "--yes", *KEY).returncode == 2
    assert "forgotten: one" in treadle("keys", "forget", "one", "--yes", *KEY).stderr
    for words in (("show", "one"), ("resume", "one"), ("logs", "one"), ("export", "one")):
        done = treadle(*words, *KEY)
        assert done.returncode == 2
        assert re.search("execution one was forgotten on .*nothing of it can be read any more", done.stderr)
    [listed] = treadle.json("list", *KEY)
    assert listed["error"]["type"] == "KeyForgotten"
    assert treadle.json("keys", "status")["forgotten"] == ["one"]


def test_status_needs_no_key(treadle: Any) -> None:
    mine = read_key(f"file:{treadle.folder}/key").id
    assert f"is encrypted with the key {mine}" in treadle("keys", "status").stdout
    assert f"with the key {mine}" in treadle("doctor").stdout
    treadle("run", "diagram.yaml", "--store", "plain.db")
    assert "plain.db is not encrypted" in treadle("keys", "status", "--store", "plain.db").stdout
    for words in (("rotate", "--new-key", "file:key"), ("forget", "x", "--yes")):
        done = treadle("keys", *words, "--store", "plain.db")
        assert done.returncode == 2 and "plain.db is not encrypted: it has no keys" in done.stderr
    done = treadle("list", "--store", "plain.db", *KEY)
    assert done.returncode == 2 and "is not encrypted, and holds executions" in done.stderr


def test_a_new_key_is_printed_or_written(treadle: Any) -> None:
    done = treadle("keys", "new")
    assert read_key(done.stdout.strip()).id in done.stderr
    done = treadle("keys", "new", "--out", "key")
    assert done.returncode == 2 and "is there already" in done.stderr
