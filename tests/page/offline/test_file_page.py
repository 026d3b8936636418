"""A page from a file: what `treadle export --html` writes, in a browser, without a server."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import treadle
from treadle.monitor.offline import page as page_of
from treadle.store import open_store

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DIAGRAM = """
treadle: 1
name: filed
nodes:
  words: {type: code_job, code: "print('hello'); return '# Title\\\\n\\\\n**bold** <img src=x>'"}
  each: {type: code_job, code: "return 1 / item", for_each: "{{ [1, 0, 2] }}", on_item_error: collect,
         needs: words}
  done: {type: endpoint, needs: each}
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with ThreadPoolExecutor(1) as thread:  # Playwright has a loop in this one
        return thread.submit(written, tmp_path_factory.mktemp("filed")).result()


def written(folder: Path) -> Path:
    (folder / "filed.yaml").write_text(DIAGRAM)
    treadle.run(folder / "filed.yaml", store=str(folder / "runs.db"))
    store = open_store(folder / "runs.db")
    try:
        [only] = store.executions()
        made = page_of(store, only.cell.execution_id)
    finally:
        store.close()
    path = folder / "filed.html"
    path.write_text(made.html, encoding="utf-8")
    return path


@pytest.fixture
def opened(chromium: Browser, file: Path) -> Iterator[Page]:
    """The file in a browser that may not go anywhere else, and in which nothing may break."""
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    page.set_default_timeout(15_000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type == "error" else None)
    page.on("request", lambda asked: wrong.append(asked.url) if asked.url.startswith("http") else None)
    page.goto(file.as_uri())
    yield page
    page.close()
    assert wrong == []


def test_it_draws_the_graph_and_shows_a_node(opened: Page) -> None:
    opened.get_by_text("filed", exact=True).wait_for()
    opened.locator(".graph").get_by_text("words").click()
    inspector = opened.locator(".inspector")
    inspector.get_by_role("heading", name="Title").wait_for()
    assert inspector.locator("img").count() == 0
    inspector.get_by_text("hello").wait_for()
    assert opened.get_by_role("button", name="Resume").is_visible() is False


def test_an_error_is_found_in_the_table_and_time_goes_back(opened: Page) -> None:
    opened.get_by_role("tab", name="Table").click()
    opened.get_by_role("button", name="failed 1").click()
    opened.get_by_role("row", name="each[1]").click()
    opened.locator(".error-panel").get_by_text("ZeroDivisionError").first.wait_for()
    opened.get_by_role("button", name="failed 1").click()
    opened.keyboard.press("Escape")
    for _ in range(20):
        opened.keyboard.press("[")
    opened.get_by_role("row", name="pending done").wait_for()
    opened.get_by_role("button", name="Now").click()
    opened.get_by_role("row", name="completed done").wait_for()
