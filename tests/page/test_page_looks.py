"""Keys, both themes, contrast, and a phone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
CONTRAST = (Path(__file__).parent / "contrast.js").read_text(encoding="utf-8")
WIDER = """() => [...document.querySelectorAll("body *")]
    .filter((one) => one.getBoundingClientRect().right > screen.width + 1)
    .map((one) => `${one.tagName} ${one.className}`)"""
"""What reaches beyond the right edge."""
COLUMNS = """() => [...document.querySelectorAll("table.list tr")].map(
    (row) => [...row.children].map((cell) => cell.getBoundingClientRect().toJSON()))"""
WIDTH = """(path) => document.querySelector(`[data-path="${path}"]`)?.getBoundingClientRect().width ?? NaN"""


@pytest.fixture(scope="module")
def executions(server: Any) -> dict[str, str]:
    """One of each kind: they stay as they are."""
    talks = server.start("talk")
    server.let_go(talks)
    server.until_status(talks, "suspended")
    return {"failed": server.start("fails", until="failed"), "asks": server.start("ask", until="suspended"),
            "running": server.start("report"), "ended": server.ran("steps"), "talks": talks,
            "many": server.ran("report", rows=12), "other": server.ran("steps", who="Grace")}


def places(executions: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Every view: its place, and a selector of what is there when it is drawn."""
    failed = f"executions/{executions['failed']}"
    return {
        "list": ("executions", "table.list tbody tr"),
        "graph": (failed, ".box"),
        "error": (f"{failed}?node=parse", ".error-panel .frame"),
        "timeline": (f"{failed}?tab=timeline", ".view canvas"),
        "table": (f"{failed}?tab=table", ".table-row.table-head"),
        "context": (f"executions/{executions['ended']}?tab=context", ".view"),
        "about": (f"executions/{executions['many']}?tab=about", ".throughput .u-legend"),
        "steps": (f"executions/{executions['talks']}?node=ann", ".inspector .step"),
        "earlier": (f"{failed}?at=1700000000", ".at-instant"),
        "asks": (f"executions/{executions['asks']}", ".waiting"),
        "running": (f"executions/{executions['running']}?node=hold", ".inspector .facts"),
        "diff": (f"diff/{executions['ended']}/{executions['other']}", ".diff .nodes"),
        "diagrams": ("diagrams", "table.list"),
        "diagram": ("diagrams/file?file=wrong.yaml", ".faults li"),
    }


def show(page: Page, server: Any, place: str, ready: str) -> None:
    page.goto(f"{server.url}/#/{place}")
    expect(page.locator(ready).first).to_be_visible()
    page.evaluate("document.fonts.ready")


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_is_read_on_what_is_behind_it(
        server: Any, visit: Any, executions: dict[str, str], theme: str) -> None:
    """WCAG AA: 4.5, and 3 for large text."""
    page = visit(color_scheme=theme)
    faint = {}
    for name, (place, ready) in places(executions).items():
        show(page, server, place, ready)
        faint[name] = page.evaluate(CONTRAST)
    assert {name: found for name, found in faint.items() if found} == {}


def test_a_phone_shows_every_view_without_scrolling_sideways(
        server: Any, visit: Any, executions: dict[str, str]) -> None:
    page = visit(**PHONE)
    wide = {}
    for name, (place, ready) in places(executions).items():
        show(page, server, place, ready)
        if page.evaluate("document.documentElement.scrollWidth") > PHONE["viewport"]["width"]:
            wide[name] = page.evaluate(WIDER)
    assert wide == {}


def test_no_view_styles_another(server: Any, visit: Any, executions: dict[str, str]) -> None:
    """The style sheets of views that were seen stay: the list's columns still stand below their heads."""
    page = visit()
    all_places = places(executions)
    for name in ("table", "timeline", "error", "diff", "diagrams", "list"):
        show(page, server, *all_places[name])
    columns = [[(round(one["x"]), round(one["width"])) for one in row] for row in page.evaluate(COLUMNS)]
    assert all(row == columns[0] for row in columns)


def test_the_theme_follows_the_system_until_one_is_picked(visit: Any) -> None:
    page = visit(color_scheme="dark")
    ground = "getComputedStyle(document.body).backgroundColor"
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    dark = page.evaluate(ground)
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert dark != light
    page.get_by_role("button", name=re.compile("^Theme")).click()  # the system's, light, dark
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(ground) == light
    page.reload()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    assert page.evaluate(ground) == light


def test_the_list_is_used_by_keys_alone(server: Any, visit: Any, executions: dict[str, str]) -> None:
    page = visit()
    expect(page.locator("tr", has_text=executions["other"])).to_be_visible()
    press(page, "j", "j", "k")
    rows = page.locator("table.list tbody tr")
    expect(rows.first).to_have_attribute("aria-selected", "true")
    press(page, "/")
    search = page.get_by_role("searchbox", name="Search by name or id")
    expect(search).to_be_focused()
    page.keyboard.type("fails")
    expect(page).to_have_url(re.compile("text=fails"))
    press(page, "Escape")
    expect(search).not_to_be_focused()
    expect(rows).to_have_count(1)
    press(page, "j", "Enter")
    expect(page).to_have_url(re.compile(f"#/executions/{executions['failed']}"))
    expect(page.locator(".box").first).to_be_visible()
    press(page, "Escape")
    expect(rows.first).to_be_visible()


def test_an_execution_is_used_by_keys_alone(server: Any, visit: Any, executions: dict[str, str]) -> None:
    page = visit(f"executions/{executions['failed']}")
    expect(page.locator(".box")).to_have_count(4)
    press(page, "j")
    expect(page.locator(".inspector h2")).to_have_text("fine")
    failed = set()
    for _ in range(2):
        press(page, "e")
        failed.add(page.locator(".box.selected").get_attribute("data-path"))
    assert failed == {"parse", "divide"}
    press(page, "Escape")
    expect(page.locator(".inspector")).to_have_count(0)
    tabs = page.get_by_role("tab", selected=True)
    for name in ("Timeline", "Table", "Graph"):
        press(page, "g")
        expect(tabs).to_have_text(name)
    expect(page.locator(".box").first).to_be_visible()
    box = page.locator('.box[data-path="fine"]')
    before = box.bounding_box()
    press(page, "+", "+")
    page.wait_for_function(f"(fit) => ({WIDTH})('fine') > fit + 1", arg=before["width"])
    press(page, ".")
    page.wait_for_function(f"(fit) => Math.abs(({WIDTH})('fine') - fit) < 1", arg=before["width"])


def test_help_lists_the_keys_and_the_palette_goes_anywhere(
        server: Any, visit: Any, executions: dict[str, str]) -> None:
    page = visit(f"executions/{executions['failed']}")
    expect(page.locator(".box").first).to_be_visible()
    press(page, "?")
    dialog = page.get_by_role("dialog", name="Keyboard")
    for key in ("j", "k", "e", "g", "[", "]", ".", "?", "Esc", "Ctrl K"):
        expect(dialog.locator("kbd", has_text=re.compile(f"^{re.escape(key)}$"))).to_have_count(1)
    press(page, "Escape")
    expect(dialog).to_have_count(0)
    press(page, "Control+k")
    page.keyboard.type("divide")
    expect(page.get_by_role("option", name="divide")).to_be_visible()
    press(page, "Enter")
    expect(page.locator(".inspector h2")).to_have_text("divide")
    press(page, "Control+k", "d")  # in a field keys are letters
    page.keyboard.press("Backspace")
    page.keyboard.type(executions["asks"])
    option = page.get_by_role("option", name=re.compile(executions["asks"]))
    expect(option).to_have_attribute("aria-selected", "true")
    press(page, "Enter")
    expect(page.locator(".execution-head h1")).to_have_text("ask")
