"""`prune` and `doctor`."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any

import apsw
import pytest

from treadle.cli.main import Interrupted
from treadle.store import open_store
from treadle.store.owner import this_owner
from treadle.store.sqlite import health
from treadle.store.sqlite.pruning import Pruner
from treadle.testing.contract import an_execution
from treadle.testing.contract.pruning import blob_of, ended, left
from treadle.testing.faults import dead_owner

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2  # of linux/prctl.h, linux/capability.h
DIAGRAM = """
treadle: 1
name: hello
nodes:
  big: {type: code_job, isolation: thread, code: "return 'x' * 20000"}
  done: {type: endpoint, needs: big}
"""


@pytest.fixture(name="treadle")
def _treadle(treadle: Any) -> Any:
    (treadle.folder / "treadle.toml").write_text("")  # whatever lies above the folder of the tests
    return treadle


@pytest.fixture
def three(treadle: Any) -> Any:
    """A store with r1, r2 and r3, which ended one, two and three days ago."""
    store = open_store(treadle.store)
    for number in (3, 2, 1):
        ended(store, f"r{number}", time.time() - number * 86400,
              blobs=[blob_of(Random(number).randbytes(50_000))])
    store.close()
    return treadle


def there(treadle: Any) -> list[str]:
    store = open_store(treadle.store)
    try:
        return left(store)
    finally:
        store.close()


# prune


def test_prune_by_age_says_what_it_freed(three: Any) -> None:
    done = three.here("prune", "--older", "36h", "--yes")
    assert (done.returncode, done.stdout) == (0, "")
    assert "deleted 2 executions with 4 cells, 2 blobs; the store is smaller by" in done.stderr
    assert there(three) == ["r1"]


def test_a_dry_run_names_what_would_go(three: Any) -> None:
    said = three.here("prune", "--keep", "1", "--dry-run").stderr
    assert "2 executions would go, with 4 cells; that frees at most about" in said
    assert said.splitlines()[1:] == ["  r3", "  r2"]
    assert there(three) == ["r1", "r2", "r3"]
    assert three.json("prune", "--older", "1h", "-n")["execution_ids"] == ["r3", "r2", "r1"]


def test_by_size_the_oldest_go(three: Any) -> None:
    size = three.store.stat().st_size
    done = three.json("prune", "--max-size", f"{size - 40_000}", "--yes")
    assert done["execution_ids"] == ["r3"]
    assert done["bytes_freed"] > 40_000
    assert (done["dry_run"], done["policy"], done["blobs"], done["diagrams"]) == (False, None, 1, 0)


def test_on_a_terminal_it_asks(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Person:
        def __init__(self, answer: str | Interrupted) -> None:
            self.answer = answer

        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            if isinstance(self.answer, Interrupted):
                raise self.answer
            return self.answer

    monkeypatch.setattr(sys, "stdin", Person("\n"))
    said = three.here("prune", "--keep", "0").stderr
    assert "delete 3 executions for good? [y/N] nothing was deleted" in said
    assert len(there(three)) == 3
    monkeypatch.setattr(sys, "stdin", Person(""))
    assert "[y/N] \nnothing was deleted" in three.here("prune", "--keep", "0").stderr, "the input has ended"
    monkeypatch.setattr(sys, "stdin", Person(Interrupted()))
    done = three.here("prune", "--keep", "0")
    assert (done.returncode, done.stderr.splitlines()[-1]) == (130, "interrupted: nothing was deleted")
    monkeypatch.setattr(sys, "stdin", Person("yes\n"))
    assert "deleted 3 executions" in three.here("prune", "--keep", "0").stderr
    assert there(three) == []


def test_a_file_says_what_to_keep_and_is_named(three: Any) -> None:
    file = three.folder / "treadle.toml"
    file.write_text('[retention]\nkeep = 1\nolder = "60h"\n')
    done = three.here("prune", "--yes")
    assert f"by {file}" in done.stderr
    assert there(three) == ["r1"]
    assert three.json("prune", "--yes")["policy"] == str(file)


def test_a_run_applies_the_policy(three: Any) -> None:
    (three.folder / "treadle.toml").write_text("[retention]\nkeep = 1\n")
    done = three("run", three.write(DIAGRAM), "--execution-id", "new")
    assert done.returncode == 0
    assert f"by {three.folder / 'treadle.toml'}, 3 old executions were deleted" in done.stderr
    assert there(three) == ["new"]


def test_an_interrupt_says_how_things_are(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    delete = Pruner._delete

    def interrupted(self: Pruner, ids: list[str], **options: bool) -> None:
        delete(self, ids[:1], **options)
        if ids:
            raise Interrupted

    monkeypatch.setattr(Pruner, "_delete", interrupted)
    done = three.here("prune", "--keep", "0", "--yes")
    assert (done.returncode, done.stdout) == (130, "")
    assert "interrupted: what was deleted is gone, the rest is whole" in done.stderr
    assert there(three) == ["r1", "r2"]


@pytest.mark.parametrize(("words", "said"), [
    (("--yes",), "say what to delete: --older 30d"),
    (("--keep", "1"), "there is nobody to ask here: say --yes"),
    (("--older", "3 dayz", "--yes"), "--older: '3 dayz' can't be read"),
    (("--max-size", "2XB", "--yes"), "--max-size: '2XB' can't be read: write it as 2GB"),
    (("--max-size", "much", "--yes"), "--max-size: 'much' can't be read: write it as 2GB"),
    (("--status", "done", "--yes"), "there is no status 'done'"),
    (("--keep", "-1", "--yes"), "--keep"),
    (("--keep", "1", "--collect"), "--collect deletes no execution: leave the other options out"),
    (("--keep", "1", "--yes", "--store", "nowhere.db"), "there is no store nowhere.db"),
])
def test_mistakes_delete_nothing(three: Any, words: tuple[str, ...], said: str) -> None:
    done = three.here("prune", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(there(three)) == 3


def test_a_wrong_file_stops_a_run_before_it_begins(treadle: Any) -> None:
    (treadle.folder / "treadle.toml").write_text("[retention]\nolder = 30\n")
    done = treadle.here("run", treadle.write(DIAGRAM))
    assert done.returncode == 2
    assert "treadle.toml: [retention] older = 30: it must be a text as 30d" in done.stderr
    assert not treadle.store.exists()


# doctor


def findings(treadle: Any, *words: str) -> tuple[int, dict[str, list[tuple[str, str, str]]]]:
    """The exit code of `doctor`, and what it found by what it looked at: level, text, hint."""
    done = treadle.here("doctor", *words)
    found: dict[str, list[tuple[str, str, str]]] = {}
    for one in treadle.json("doctor", *words):
        found.setdefault(one["what"], []).append((one["level"], one["text"], one["hint"]))
        assert one["text"] in done.stdout or one["what"] == "disk"  # which others fill meanwhile
    return done.returncode, found


def test_all_is_well(three: Any) -> None:
    code, found = findings(three)
    assert code == 0
    assert found["integrity"] == [("OK", "no fault was found", "")]
    assert found["executions"] == [("OK", "3 completed", "")]
    assert found["blobs"] == [("OK", "each is in use", "")]
    assert found["retention"] == [("OK", "no policy: everything is kept until `treadle prune`", "")]
    assert {"treadle", "python", "SQLite", "extras", "store", "disk", "schema", "size"} <= found.keys()
    assert {level for lines in found.values() for level, _, _ in lines} <= {"OK", "warning"}


def test_who_runs_what_and_what_to_do_about_the_dead(three: Any) -> None:
    store = open_store(three.store)
    store.create(an_execution("live"), "", this_owner(), 100)
    store.create(an_execution("left"), "", dead_owner(), 100)
    code, found = findings(three)
    store.close()
    assert code == 0
    assert found["lease"][0][:2] == ("OK", f"live is run by {this_owner()}")
    level, text, hint = found["lease"][1]
    assert level == "warning" and "left says running, and nobody runs it" in text and "is gone" in text
    assert hint == "treadle resume left, or treadle cancel left"


def test_what_nothing_uses_and_what_is_missing(three: Any) -> None:
    store = open_store(three.store)
    large = blob_of(Random(1).randbytes(5_000_000))
    ended(store, "large", blobs=[large])
    store.close()
    connection = apsw.Connection(str(three.store))
    connection.execute("DELETE FROM node_states WHERE execution_id = 'r1'")
    connection.close()
    code, found = findings(three)
    assert (code, found["blobs"][0][1:]) == (0, ("nothing names 1 of them", "treadle prune --collect"))
    hint = findings(three, "--store", "runs.db")[1]["blobs"][0][2]
    assert hint == "treadle prune --collect --store runs.db"
    collected = three.here(*hint.split()[1:]).stderr
    assert "deleted 0 executions with 0 cells, 1 blob; the store is smaller by" in collected
    assert findings(three)[1]["blobs"][0][1:] == ("each is in use", "")
    shutil.rmtree(f"{three.store}.blobs")
    code, found = findings(three)
    assert code == 1
    assert found["blobs"][1][0] == "error" and large[0] in found["blobs"][1][1]


def test_no_store_yet(treadle: Any) -> None:
    code, found = findings(treadle)
    assert (code, found["store"][0][0]) == (0, "warning")
    code, found = findings(treadle, "--store", "nowhere.db")
    assert code == 1
    assert found["store"] == [("error", "there is no store nowhere.db", "name another with --store")]
    assert not treadle.store.exists()


def damaged(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096:4096 * 6] = os.urandom(4096 * 5)
    path.write_bytes(content)


def foreign(path: Path) -> None:
    path.unlink()
    connection = apsw.Connection(str(path))
    connection.execute("CREATE TABLE theirs (a)")
    connection.close()


def newer(path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO schema_version VALUES (99)")
    connection.close()


@pytest.mark.parametrize(("spoil", "what", "said"), [
    (damaged, "integrity", "sqlite3"),
    (foreign, "store", "choose another path"),
    (newer, "schema", "upgrade Treadle"),
    (lambda path: path.write_text("just a text, not a database" * 10), "store", "choose another path"),
    (lambda path: path.write_bytes(b"SQLite format 3\0"), "store", "choose another path"),
    (lambda path: path.write_bytes(b""), "store", "makes a store of it"),
    (lambda path: (path.unlink(), path.mkdir()), "store", "name the file in it"),
], ids=["damaged", "foreign", "newer", "text", "short", "empty", "folder"])
def test_a_file_that_can_not_be_used_is_told_in_a_line(three: Any, spoil: Any, what: str, said: str) -> None:
    spoil(three.store)
    before = three.store.read_bytes() if three.store.is_file() else None
    code, found = findings(three)
    assert code == 1
    assert any(level == "error" and said in hint for level, _, hint in found[what]), found
    assert (three.store.read_bytes() if three.store.is_file() else None) == before


def test_a_file_that_can_only_be_read(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and access(path, mode))
    code, found = findings(three)
    assert code == 1
    assert found["rights"][0][0] == "error" and "can't be written" in found["rights"][0][1]
    assert found["executions"] == [("OK", "3 completed", "")]


def lose_the_rights_of_root() -> None:
    """In a child, before it becomes another program: as root, be like any other owner of files from there on.
    Linux alone has such rights one by one; elsewhere these tests want another user than root."""
    libc = ctypes.CDLL(None, use_errno=True)
    for right in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        assert libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0) == 0, os.strerror(ctypes.get_errno())


def test_a_store_that_really_can_not_be_written(three: Any) -> None:
    """The right to read is enough to look. A state that is partly in a WAL needs the index beside it, too."""
    looks = ["list", "show r1", "logs r1", "logs -f r1", "diff r1 r1", "cache",
             "keys status", "export r1 -"]
    refused = ["cancel r1", "resume r1", "prune --keep 1", "cache --clear", "run diagram.yaml"]
    words = [sys.executable, "-c", "import sys; from treadle.cli.main import main\n"
             "for words in sys.argv[1:]: print('rc', main(words.split()), words)", "doctor", *looks, *refused,
             "export r1", "list --store torn.db", "list --store whole.db"]
    three.write(DIAGRAM)
    store = open_store(three.store)
    store.create(an_execution("late"), "", this_owner(), 15)
    for name, ends in (("torn", ("", "-wal")), ("whole", ("", "-wal", "-shm"))):
        for end in ends:
            shutil.copy(f"{three.store}{end}", three.folder / f"{name}.db{end}")
    store.close()
    three.store.chmod(0o444)
    three.folder.chmod(0o555)
    try:
        done = subprocess.run(words, cwd=three.folder, env=three.environment, capture_output=True, text=True,
                              errors="replace", check=False,
                              preexec_fn=lose_the_rights_of_root if os.geteuid() == 0 else None)
    finally:
        three.folder.chmod(0o755)
    codes = {words: int(code) for code, words in re.findall(r"rc (\d) (.*)", done.stdout)}
    assert codes == {"doctor": 1, **dict.fromkeys(looks, 0), **dict.fromkeys(refused, 2), "export r1": 2,
                     "list --store torn.db": 2, "list --store whole.db": 0}, done.stderr
    found = re.sub(r"^(\w+) +(\w+) +", r"\1 \2 ", done.stdout, flags=re.MULTILINE)
    assert f"error rights {three.store}, {three.folder} can't be written" in found
    assert "OK integrity no fault was found" in found and "OK executions 3 completed, 1 running" in found
    assert done.stderr.count(f"{three.store} can't be written: check the rights") == len(refused)
    assert re.search(r"torn\.db can't be read .* there is no .*torn\.db-shm: copy the first two", done.stderr)
    assert "r1.treadle.zip can't be" in done.stderr


def test_a_file_that_another_program_has_locked(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "BUSY_MS", 50)
    connection = apsw.Connection(str(three.store))
    connection.pragma("locking_mode", "exclusive")
    connection.execute("BEGIN EXCLUSIVE")
    code, found = findings(three)
    connection.close()
    assert code == 1
    level, text, hint = found["store"][-1]
    assert (level, hint) == ("error", "end that program, or try again")
    assert "is locked by another program" in text


def test_a_file_that_may_not_be_read(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(health, "_check_kind", refused)
    assert findings(three)[1]["store"][-1][1:] == (
        f"{three.store} can't be read: Permission denied", "check your rights to it")


def test_many_leases_are_counted(three: Any) -> None:
    store = open_store(three.store)
    for number in range(health.NAMED_MAX + 2):
        store.create(an_execution(f"live{number}"), "", this_owner(), 100)
        store.create(an_execution(f"dead{number}"), "", dead_owner(), 100)
    found = findings(three)[1]["lease"]
    store.close()
    assert len(found) == 2 * (health.NAMED_MAX + 1)
    assert ("OK", "2 more are run", "") in found
    assert ("warning", "2 more say running, and nobody runs them", "treadle list --status stale") in found


def test_an_older_file_and_a_prune_that_was_ended(three: Any) -> None:
    connection = apsw.Connection(str(three.store))
    connection.execute("DELETE FROM schema_version WHERE version > 1")
    connection.execute("UPDATE executions SET diagram = '(pruned)' WHERE execution_id = 'r1'")
    connection.close()
    code, found = findings(three)
    assert code == 0
    assert "version 1; it becomes" in found["schema"][0][1]
    assert found["prune"][0][0] == "warning" and found["prune"][0][2] == "treadle prune --collect"


def test_other_stores_have_nothing_to_look_at(treadle: Any) -> None:
    assert findings(treadle, "--store", "memory:")[0] == 0
    assert findings(treadle, "--store", "mysql://host/db")[0] == 1


def test_a_full_disk_and_a_network_are_worth_a_word(three: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1))
    monkeypatch.setattr(health, "_file_system", lambda path: "nfs4")
    code, found = findings(three)
    assert code == 1
    assert found["disk"][0][:2] == ("error", "1 bytes are free")
    assert found["file system"][0][0] == "warning"


def test_a_wrong_policy_is_an_error(treadle: Any) -> None:
    (treadle.folder / "treadle.toml").write_text("[retention]\nkeeps = 3\n")
    code, found = findings(treadle)
    assert code == 1
    assert "unknown key `keeps`: did you mean 'keep'?" in found["retention"][0][1]
    (treadle.folder / "treadle.toml").write_text('[retention]\nkeep = 3\nmax_size = "1GB"\n')
    assert "all but the newest 3 and the oldest over 1 GB" in findings(treadle)[1]["retention"][0][1]


# cache


def test_results_that_are_kept_are_listed_and_forgotten(treadle: Any) -> None:
    treadle.write("""
treadle: 1
name: keep
nodes:
  one: {type: code_job, isolation: thread, code: "return [1, 2]", cache: true}
  each: {type: code_job, isolation: thread, code: "return item", for_each: "{{ one }}", needs: one,
         cache: true}
""")
    done = treadle.here("run", "diagram.yaml", "--execution-id", "first")
    assert done.returncode == 0, done.stderr
    listed = treadle.here("cache").stdout.splitlines()
    assert listed[0].split() == ["NODE", "DIAGRAM", "EXECUTION", "MADE"]
    assert sorted(line.split()[0] for line in listed[1:]) == ["each[0]", "each[1]", "one"]
    assert [one["node"] for one in treadle.json("cache", "--node", "one")["results"]] == ["one"]
    said = treadle.here("cache", "--node", "eech").stderr
    assert "no result is kept of node 'eech': did you mean 'each'?" in said
    assert treadle.here("cache", "--clear", "--node", "one").stderr == "1 result is forgotten\n"
    assert treadle.here("cache", "--clear").stderr == "2 results are forgotten\n"
    assert treadle.here("cache", "--clear").stderr == (
        "no result is kept: nodes with `cache: true` keep theirs\n")
