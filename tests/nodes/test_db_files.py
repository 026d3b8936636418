"""What `db` does with files beyond reading and writing them whole: places, lines, several at once."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.check import check
from treadle.diagram.formats import load
from treadle.errors import InvalidDiagram, LimitExceeded
from treadle.nodes import edits
from treadle.nodes.edits import edited, put, steps_of
from treadle.nodes.registry import default_registry

Perform = Callable[..., Any]
Write = Callable[[str, str], Path]

YAML = """\
# who we are
team:
  - name: "Ann"   # the first
    age: 3
  - name: Bob

limits: {retries: 3, timeout: 1e3}  # of a call
on: 0o17
"""


def update(perform: Perform, file: str, key: str, value: Any, **more: Any) -> Any:
    return perform("db", {"default": value}, operation="update", file=file, key=key, **more)


# one place


def test_update_sets_one_place_of_json_and_keeps_its_looks(perform: Perform, write: Write) -> None:
    path = write("a.json", '{\n    "user": {"name": "Ann", "age": 3},\n    "rows": [{"n": 1}]\n}\n')
    assert update(perform, "a.json", "user.age", 4) == 4, "the input is passed on"
    update(perform, "a.json", "rows[0].tags.new", ["é"])
    update(perform, "a.json", "rows[1]", None)
    assert json.loads(path.read_text()) == {"user": {"name": "Ann", "age": 4},
                                            "rows": [{"n": 1, "tags": {"new": ["é"]}}, None]}
    assert path.read_text().startswith('{\n    "user": {\n        "name"') and "é" in path.read_text()
    write("line.json", '{"a": 1}')
    update(perform, "line.json", "b", 2)
    assert (path.parent / "line.json").read_text() == '{"a": 1, "b": 2}'


def test_update_keeps_comments_order_and_indents_of_yaml(perform: Perform, write: Write) -> None:
    path = write("a.yaml", YAML)
    update(perform, "a.yaml", "team[1].name", "Bert")
    update(perform, "a.yaml", "limits.retries", 5)
    update(perform, "a.yaml", "limits.deep.er", {"x": [1]})
    assert path.read_text() == YAML.replace("Bob", "Bert").replace(
        "retries: 3, timeout: 1e3}  #", "retries: 5, timeout: 1e3, deep: {er: {x: [1]}}} #")


@pytest.mark.parametrize("text", [
    "a:\n- 1\n- b: 2\nc: 3\n", "a:\n  - 1\n  - b: 2\nc: 3\n", "a:\n    - 1\n    - b: 2\nc: 3\n",
    "---\na: 1 # x\nc: 3\n", "a:\n    b:\n        d: 1\nc: 3\n", "c: 3\nlong: " + "word " * 60 + "end\n",
    "a: &x {k: 1}\nb: *x\nc: 3\n", "c: 3\ns: |\n  one\n  two\nt: 'q'\n"])
def test_the_rest_of_a_yaml_file_stays_as_it_was(text: str) -> None:
    assert edited(text, "yaml", "c", 4, "a.yaml") == text.replace("c: 3", "c: 4")


def test_a_key_may_be_a_template_and_read_takes_one_too(perform: Perform, write: Write) -> None:
    write("a.json", '{"users": {"ann": {"age": 3}}, "rows": [{"n": 1}, {"n": 2}]}')
    perform("db", {"who": "ann", "age": 5}, operation="update", file="a.json", key="users.{{ who }}.age")
    assert perform("db", operation="read", file="a.json", key="users.ann.age") == {"who": "ann", "age": 5}
    assert perform("db", operation="read", file="a.json", key="rows[-1].n") == 2
    with pytest.raises(LookupError, match=r"'a\.json': key 'users\.bob'.*it has ann"):
        perform("db", operation="read", file="a.json", key="users.bob")


def test_an_empty_yaml_file_becomes_a_map(perform: Perform, write: Write) -> None:
    path = write("a.yaml", "")
    update(perform, "a.yaml", "a.b", 1)
    assert path.read_text() == "a:\n  b: 1\n"


@pytest.mark.parametrize(("place", "steps"), [
    ("a.b", ["a", "b"]), ("rows[0].name", ["rows", 0, "name"]), ("[1][-2]", [1, -2]),
    ("a b.ü", ["a b", "ü"])])
def test_places(place: str, steps: list[str | int]) -> None:
    assert steps_of(place) == steps


@pytest.mark.parametrize("place", ["", ".", "a.", ".a", "a..b", "a[", "a[x]", "a]b", "a[0]b", "a.[0]"])
def test_what_is_no_place(perform: Perform, place: str) -> None:
    with pytest.raises(ValueError, match="is no place"):
        perform.ports("db", operation="update", file="a.json", key=place)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("root", "place", "message"), [
    ({"rows": [1]}, "rows.name", r"'rows' is a list, which has no 'name'.*rows\[0\]\.name"),
    ({"rows": [1]}, "rows[3]", r"'rows' has 1 items, and so no \[3\]; \[1\] would be a new one"),
    ({"a": "text"}, "a.b", r"'a' is a str, which can't have 'b'"),
    ([], "a", "the file is a list, which has no 'a'")])
def test_a_place_that_cannot_be(root: Any, place: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        put(root, place, 1)


def test_what_an_alias_shares_is_not_changed_by_half(perform: Perform, write: Write) -> None:
    path = write("a.yaml", text := "base: &b {n: 1}\nother: *b\nown: &c {n: 1}\n")
    with pytest.raises(ValueError, match="'other' is shared: its anchor &b has aliases"):
        update(perform, "a.yaml", "other.n", 2)
    assert path.read_text() == text
    update(perform, "a.yaml", "own.n", 2)
    assert path.read_text() == text.replace("&c {n: 1}", "&c {n: 2}")


def test_files_that_cannot_be_updated_stay_and_are_named(perform: Perform, write: Write) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file 'no\.json' in .*write it first"):
        update(perform, "no.json", "a", 1)
    write("dir.json/x", "")
    with pytest.raises(IsADirectoryError, match=r"'dir\.json' is a folder: name a file"):
        update(perform, "dir.json", "a", 1)
    for name, text in (("bad.json", "{"), ("bad.yaml", "a: [")):
        path = write(name, text)
        with pytest.raises(ValueError, match=name.replace(".", r"\.")):
            update(perform, name, "a", 1)
        assert path.read_text() == text
    path = write("good.json", "{}")
    with pytest.raises((ValueError, TypeError), match="object"):
        update(perform, "good.json", "a", object())
    assert path.read_text() == "{}" and sorted(os.listdir(path.parent)) == [
        "bad.json", "bad.yaml", "dir.json", "good.json"]


@pytest.mark.parametrize("operation", ["update", "write", "append"])
def test_a_read_only_file_is_respected(perform: Perform, write: Write, operation: str) -> None:
    path = write("a.json", "{}")
    path.chmod(0o444)
    key = {"key": "a"} if operation == "update" else {}
    with pytest.raises(PermissionError, match=r"'a\.json' is read-only: .*chmod u\+w"):
        perform("db", {"default": 1}, operation=operation, file="a.json", **key)
    assert path.read_text() == "{}"


def test_a_link_stays_a_link(perform: Perform, write: Write, tmp_path: Path) -> None:
    write("real.json", '{"a": 0}')
    (tmp_path / "link.json").symlink_to("real.json")
    update(perform, "link.json", "a", 1)
    perform("db", {"default": "x"}, operation="append", file="link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == '{"a": 1}"x"\n'


# at the same time

MANY = """\
treadle: 1
inputs: {name: {type: string}}
nodes:
  numbers: {type: code_job, code: "result = list(range(25))"}
  set:
    {type: db, operation: update, file: all.json, key: "{{ inputs.name }}.n{{ item }}", for_each: "numbers"}
arrows:
  - {from: numbers, to: set}
"""


def test_no_update_is_lost_within_and_between_processes(write: Write, tmp_path: Path) -> None:
    write("all.json", "{}")
    write("many.yaml", MANY)
    runs = [subprocess.Popen([sys.executable, "-m", "treadle", "run", "many.yaml", "-i", f"name={name}",
                              "--store", f"{name}.db"], cwd=tmp_path, stdout=subprocess.PIPE,
                             stderr=subprocess.STDOUT, text=True) for name in "ab"]
    said = [run.communicate(timeout=60)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    found = json.loads((tmp_path / "all.json").read_text())
    assert found == {name: {f"n{n}": n for n in range(25)} for name in "ab"}
    assert [name for name in os.listdir(tmp_path) if "all.json" in name] == ["all.json"], "no lock is left"


def test_a_file_that_others_hold_is_waited_for_so_long(perform: Perform, write: Write,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.json", "{}")
    monkeypatch.setattr(edits, "LOCK_S_MAX", 0.05)
    with open(path) as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"'a\.json' has been locked by others for 0\.05 s"):
            update(perform, "a.json", "a", 1)
    update(perform, "a.json", "a", 1)


# lines


@pytest.mark.parametrize(("lines", "found"), [
    ("2:3", "two\nthree\n"), ("4:", "four\nfive"), (":1", "one\n"), (2, "two\n"), ("5", "five"),
    (["1", "4:4"], "one\nfour\n"), ("4:99", "four\nfive"), ("9:", ""), (["2:3", "3"], "two\nthree\nthree\n")])
def test_lines(perform: Perform, write: Write, lines: Any, found: str) -> None:
    write("a.txt", "one\ntwo\nthree\nfour\nfive")
    assert perform("db", operation="read", file="a.txt", lines=lines) == found


def test_lines_end_where_editors_end_them(perform: Perform, write: Write) -> None:
    write("a.csv", "").write_bytes("a\x0b\u2028b\r\nc\n".encode())
    assert perform("db", operation="read", file="a.csv", format="text", lines="1") == "a\x0b\u2028b\r\n"
    assert perform("db", operation="read", file=["a.csv"], format="text", lines="2:") == {"a.csv": "c\n"}


@pytest.mark.parametrize(("lines", "message"), [
    ("20:10", "ends before it begins"), ("0:5", "begins before the first line"), ("a:b", "is no range"),
    ("-1:", "is no range"), (":", "is no range"), ([], "has no range"), (["1:2", "1:2:3"], "'1:2:3' is no")])
def test_ranges_that_are_wrong_are_found_beforehand(perform: Perform, lines: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform.ports("db", operation="read", file="a.txt", lines=lines)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("properties", "message"), [
    ({"operation": "read", "file": "a.json", "lines": "1"}, r"`lines` is for text, and 'a\.json' is json"),
    ({"operation": "read", "file": "a.txt", "lines": "1", "key": "a"}, "either `lines` or `key`"),
    ({"operation": "read"}, "read needs `file`"), ({"operation": "write"}, "write needs `file`"),
    ({"operation": "update", "file": "a.csv", "key": "a"}, r"changes json and yaml, and 'a\.csv' is csv"),
    ({"operation": "write", "file": "a", "lines": "1"}, "`lines` is for read, not for write"),
    ({"operation": "append", "file": "a", "key": "x"}, "`key` is for read and update, not for append"),
    ({"operation": "read", "file": "a", "query": "SELECT 1"}, "`query` is for sql, not for read")])
def test_properties_that_do_not_go_together(perform: Perform, properties: dict[str, Any],
                                            message: str) -> None:
    with pytest.raises(ValueError, match=message):
        perform.ports("db", **properties)  # type: ignore[attr-defined]


def test_a_mistyped_property_is_told_with_its_place(write: Write) -> None:
    path = write("d.yaml", "treadle: 1\nnodes:\n  n:\n    type: db\n    operation: read\n    fille: a\n")
    checked = check(load(path), default_registry())
    with pytest.raises(InvalidDiagram, match=r"d\.yaml:6.*'n'.*unknown property 'fille' \(.*'file'"):
        checked.raise_if_invalid()


# several files


def test_lists_and_patterns_mix(perform: Perform, write: Write) -> None:
    for name, text in (("in/a.txt", "A"), ("in/b.json", "[1]"), ("c.yaml", "x: 1"), ("d.csv", "n\n1\n")):
        write(name, text)
    found = perform("db", operation="read", file=["c.yaml", "in/*", "in/a.txt", "d.csv"], glob=True)
    assert found == {"c.yaml": {"x": 1}, "in/a.txt": "A", "in/b.json": [1], "d.csv": [{"n": "1"}]}
    assert list(found) == ["c.yaml", "in/a.txt", "in/b.json", "d.csv"]
    keyed = perform("db", operation="read", file="in/*.json", glob=True, key="[0]", serialize=True)
    assert keyed == {"in/b.json": "1"}


def test_of_several_files_the_bad_one_is_named(perform: Perform, write: Write) -> None:
    write("a.txt", "A")
    write("b.txt", "").write_bytes(b"ok \xff")
    with pytest.raises(ValueError, match=r"file 'b\.txt' is not UTF-8 text \(byte 3\)"):
        perform("db", operation="read", file=["a.txt", "b.txt"])
    with pytest.raises(FileNotFoundError, match=r"no file 'c\.txt'"):
        perform("db", operation="read", file=["a.txt", "c.txt"])


@pytest.mark.parametrize(("name", "text", "said"), [
    ("deep.json", "[" * 100_000, "nested too deeply"), ("deep.yaml", "[" * 1_500, "nested too deeply"),
    ("self.yaml", "a: &a [*a]", "contains itself"),
    ("tag.yaml", "!!python/object/apply:os.system [ls]", "not yaml: line 1: could not determine"),
    ("twice.yaml", "a: 1\na: 2\n", 'not yaml: line 2: found duplicate key "a"')])
def test_a_file_that_is_no_data_says_so_in_a_line(
        perform: Perform, write: Write, name: str, text: str, said: str) -> None:
    write(name, text)
    with pytest.raises(ValueError, match=said) as caught:
        perform("db", operation="read", file=name)
    assert "\n" not in str(caught.value) and name in str(caught.value)
    assert caught.value.__cause__ is None  # a library's traceback helps nobody


def test_yaml_that_explodes_is_refused(perform: Perform, write: Write) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    write("bomb.yaml", "\n".join(lines))
    with pytest.raises(LimitExceeded, match=r"'bomb.yaml' has more values.*raise it with"):
        perform("db", operation="read", file="bomb.yaml")
    write("fine.yaml", "a: &a [1, 2]\nb: [*a, *a]\n")
    assert perform("db", operation="read", file="fine.yaml") == {"a": [1, 2], "b": [[1, 2], [1, 2]]}
