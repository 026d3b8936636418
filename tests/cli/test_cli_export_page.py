"""`export --html`: an execution as one page that needs no server."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from treadle.errors import TreadleError
from treadle.monitor.offline import assembled, page
from treadle.store import open_store

MIXED = """
treadle: 1
name: "mixed <b>"
nodes:
  tag:
    {type: code_job, isolation: thread,
     code: "print('said </script>'); return '</script><script>alert(1)</script>'"}
  picture:
    {type: code_job, isolation: thread,
     code: "return context.blob(b'\\\\x89PNG' + bytes(64), 'p.png')"}
  letter: {type: code_job, isolation: thread, code: "return context.blob(b'words', 'a.txt')"}
  each: {type: code_job, isolation: thread, code: "return 1 / item", for_each: "{{ [1, 0, 2] }}",
         on_item_error: collect, needs: tag}
  done: {type: endpoint, needs: each}
"""


@pytest.fixture
def mixed(treadle: Any) -> Any:
    done = treadle.here("run", treadle.write(MIXED), "--execution-id", "x")
    assert done.returncode == 0, done.stderr
    return treadle


def recorded(html: str) -> Any:
    """What the page holds instead of a server."""
    found = re.search(r'<script type="application/json" id="treadle-recorded">(.*?)</script>', html)
    assert found is not None
    return json.loads(found[1])


def test_a_page_has_all_that_the_server_would_answer(mixed: Any) -> None:
    done = mixed.here("export", "x", "--html")
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"wrote x\.html \(.* MB\): open it in a browser\n", done.stderr)
    html = (mixed.folder / "x.html").read_text(encoding="utf-8")
    assert "<title>mixed &lt;b></title>" in html
    found = recorded(html)
    assert found["id"] == "x"
    assert found["answers"]["executions/x"]["status"] == "completed"
    drawn = found["answers"]["executions/x/diagram"]["nodes"]
    assert {node["id"] for node in drawn} >= {"tag", "each", "done"}
    assert "each[1]" in found["snapshot"]["nodes"]
    assert found["snapshot"]["execution"]["status"] == "completed"
    [item] = found["nodes"]["each[1]"]
    assert item["error"]["type"] == "ZeroDivisionError"
    assert "1 / item" in item["traceback"]
    assert [line["text"] for line in found["logs"]] == ["said </script>"]


def test_no_value_breaks_out_of_its_tag_and_nothing_is_loaded_from_elsewhere(mixed: Any) -> None:
    mixed.here("export", "x", "p.html", "--html")
    html = (mixed.folder / "p.html").read_text(encoding="utf-8")
    assert html.count("<script") == html.count("</script>") == 4
    assert recorded(html)["nodes"]["tag"][0]["output"]["value"] == "</script><script>alert(1)</script>"
    assert "default-src 'none'" in html
    assert re.findall(r'(?:src|href)="(?!data:)', html.partition("<style>")[0]) == []


def test_pictures_are_in_it_and_other_blobs_are_named(mixed: Any) -> None:
    mixed.here("export", "x", "p.html", "--html")
    found = recorded((mixed.folder / "p.html").read_text(encoding="utf-8"))["nodes"]
    kind, _, content = found["picture"][0]["output"]["value"]["url"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    letter = found["letter"][0]["output"]["value"]
    assert (letter["url"], letter["name"], letter["size"]) == (None, "a.txt", 5)


def test_modules_are_named_by_the_import_map_and_no_neighbour_is_missing(mixed: Any) -> None:
    mixed.here("export", "x", "p.html", "--html")
    html = (mixed.folder / "p.html").read_text(encoding="utf-8")
    mapped = re.search(r'<script type="importmap">(.*?)</script>', html)
    assert mapped is not None
    imports = json.loads(mapped[1])["imports"]
    for name, url in imports.items():
        text = base64.b64decode(url.partition(",")[2]).decode()
        assert re.findall(r"""(?:from|import\()["'`]\./[\w-]+\.js["'`]""", text) == [], name
        assert set(re.findall(r'"(treadle/[\w.-]+\.js)"', text)) <= set(imports), name
        assert "import.meta.url" not in text, name
    entry = re.search(r'<script type="module">import "([^"]+)";', html)
    assert entry is not None
    assert entry[1] in imports


def test_json_says_what_it_wrote_and_files_are_not_replaced(mixed: Any) -> None:
    told = mixed.json("export", "x", "p.html", "--html")
    assert told == {"execution_id": "x", "file": "p.html", "bytes": (mixed.folder / "p.html").stat().st_size,
                    "attempts_left_out": 0, "lines_left_out": False}
    again = mixed.here("export", "x", "p.html", "--html")
    assert again.returncode == 2
    assert "p.html exists already: name another file, or replace it with --force" in again.stderr
    assert mixed.here("export", "x", "p.html", "--html", "--force").returncode == 0
    assert mixed.here("export", "y", "--html").returncode == 2


def test_a_large_one_leaves_details_out_and_says_so(mixed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("treadle.monitor.offline.DETAILS_MAX", 2)
    done = mixed.here("export", "x", "p.html", "--html")
    assert "Inputs and outputs of 6 attempts are not in it" in done.stderr
    found = recorded((mixed.folder / "p.html").read_text(encoding="utf-8"))
    assert len(found["nodes"]) == 2
    assert "each[1]" in found["nodes"]  # what failed comes first
    assert len(found["answers"]["executions/x/timeline"]["rows"]) == 8


def test_a_page_that_is_not_built_says_what_to_do(mixed: Any, tmp_path: Path) -> None:
    with pytest.raises(TreadleError, match="make web"):
        assembled(tmp_path, {}, "x", draws=True)
    (tmp_path / "index.html").write_text("<html></html>")
    with pytest.raises(TreadleError, match="names no script"):
        assembled(tmp_path, {}, "x", draws=True)


def test_one_that_waits_can_be_written_too(treadle: Any) -> None:
    asks = 'treadle: 1\nname: ask\nnodes:\n  ask: {type: user_response, prompt: "Fine?"}\n'
    assert treadle.here("run", treadle.write(asks), "--execution-id", "w").returncode == 3
    store = open_store(treadle.store)
    try:
        found = recorded(page(store, "w").html)
    finally:
        store.close()
    assert found["snapshot"]["nodes"]["ask"]["request"]["prompt"] == "Fine?"
    assert found["nodes"]["ask"][0]["status"] == "suspended"
