"""An execution on the page while it runs, when it ended, and when the server went away for a while."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import Page, expect

from treadle.state.cell import ExecutionCell
from treadle.state.status import ExecutionStatus
from treadle.store import open_store


def row_of(page: Page, execution_id: str) -> Any:
    """An execution's row in the list."""
    return page.locator("table.list tbody tr", has_text=execution_id)


def node_of(page: Page, path: str) -> Any:
    """A node's box in the graph."""
    return page.locator(f'.box[data-path="{path}"]')


def test_an_execution_comes_into_the_list_and_ends_in_it(server: Any, visit: Any) -> None:
    page = visit()
    expect(page.get_by_role("heading", name="Executions", exact=True)).to_be_attached()
    execution_id = server.start("report", rows=5)
    row = row_of(page, execution_id)
    expect(row).to_contain_text("running")
    server.let_go(execution_id)
    expect(row).to_contain_text("completed")
    expect(row).not_to_contain_text("running")
    row.get_by_role("link", name="report").click()
    expect(page).to_have_url(re.compile(f"#/executions/{execution_id}$"))


def test_the_list_goes_on_when_its_end_comes_into_sight(server: Any, visit: Any) -> None:
    store, done = open_store(server.folder / "runs.db"), ExecutionStatus.COMPLETED
    for number in range(130):
        cell = ExecutionCell(f"paged{number:03}", 1, status=done, name="paged", created_at=1000.0 + number)
        store.adopt(cell, [], "")
    store.close()
    page = visit("executions?text=paged")
    rows = page.locator("table.list tbody tr")
    expect(rows).to_have_count(100)
    page.get_by_role("button", name="More").scroll_into_view_if_needed()
    expect(rows).to_have_count(130)
    expect(page.get_by_role("button", name="More")).to_have_count(0)


def test_a_person_watches_one_finish(server: Any, visit: Any) -> None:
    """Header, graph, table and log, without a reload."""
    execution_id = server.start("report")
    page = visit(f"executions/{execution_id}")
    expect(page.locator(".execution-head .status").first).to_have_text("running")
    expect(node_of(page, "hold")).to_have_attribute("aria-label", "hold: running")
    expect(node_of(page, "total")).to_have_attribute("aria-label", "total: pending")
    expect(node_of(page, "measure")).to_contain_text("4 / 4")
    node_of(page, "hold").click()
    expect(page.locator(".inspector")).to_contain_text("holding")
    server.let_go(execution_id)
    expect(page.locator(".execution-head .status").first).to_have_text("completed")
    expect(node_of(page, "hold")).to_have_attribute("aria-label", "hold: completed")
    expect(node_of(page, "done")).to_have_attribute("aria-label", "done: completed")
    expect(page.locator(".inspector")).to_contain_text("let go")
    expect(page).to_have_title(re.compile("completed"))
    page.get_by_role("tab", name="Table").click()
    expect(page.get_by_role("table", name="Nodes").get_by_role("row")).to_have_count(1 + 5)
    page.get_by_role("tab", name="Context").click()
    expect(page.locator(".view")).to_contain_text("total")
    page.get_by_role("tab", name="Inputs, result").click()
    expect(page.locator(".view")).to_contain_text("Weekly")


def test_who_comes_late_sees_the_same_clock(server: Any, visit: Any) -> None:
    """Also when nothing has changed for a while, and a snapshot is at hand that another got."""
    execution_id = server.start("report")
    clock = re.compile(r"running (\d+) s")
    first = node_of(visit(f"executions/{execution_id}"), "hold")
    expect(first).to_contain_text(re.compile(r"running ([4-9]|\d\d) s"))
    late = node_of(visit(f"executions/{execution_id}"), "hold")
    expect(late).to_contain_text(clock)
    found = clock.search(late.inner_text())
    assert found is not None and int(found[1]) >= 4
    server.let_go(execution_id)


def test_a_map_is_one_box_that_opens(server: Any, visit: Any) -> None:
    execution_id = server.ran("report", rows=3)
    page = visit(f"executions/{execution_id}")
    expect(node_of(page, "measure")).to_contain_text("3 / 3")
    page.get_by_role("button", name="Open measure").click()
    for index in range(3):
        expect(node_of(page, f"measure[{index}]")).to_have_attribute("aria-label", re.compile("completed"))
    assert "open=measure" in page.url
    page.get_by_role("tab", name="Table").click()
    expect(page.get_by_role("table", name="Nodes").get_by_role("row")).to_have_count(1 + 5 + 3)
    page.locator(".table-row", has_text="[2]").click()
    expect(page.locator(".inspector")).to_contain_text("square")
    page.reload()
    expect(page.locator(".inspector h2")).to_have_text("measure[2]")


def test_an_error_is_shown_with_the_frame_of_the_users_own_code_first(server: Any, visit: Any) -> None:
    execution_id = server.start("fails", until="failed")
    page = visit(f"executions/{execution_id}?tab=table")
    expect(page.locator(".execution-head .why")).to_contain_text(re.compile("Error: (Expecting|division)"))
    page.locator(".table-row", has_text="parse").click()
    panel = page.locator(".error-panel")
    expect(panel.locator(".says")).to_contain_text("JSONDecodeError: Expecting value: line 1 column 10")
    frame = panel.locator(".frame")
    expect(frame).to_have_count(1)
    expect(frame).to_contain_text(re.compile(r"tasks\.py:\d+ in prices"))
    expect(frame).to_contain_text("json.loads(text)")
    panel.get_by_role("button", name="Whole traceback").click()
    expect(panel).to_contain_text("decoder.py")


def test_the_page_comes_back_with_the_server(server: Any, visit: Any) -> None:
    """What it showed stays; when the server is there again on the same port it goes on by itself."""
    visit.expects("ERR_CONNECTION|WebSocket|ERR_EMPTY_RESPONSE")
    execution_id = server.start("report")
    page = visit(f"executions/{execution_id}")
    expect(node_of(page, "hold")).to_have_attribute("aria-label", "hold: running")
    server.end()
    banner = page.get_by_text("The connection is lost")
    expect(banner).to_be_visible()
    expect(node_of(page, "hold")).to_be_visible()
    server.begin()
    expect(banner).to_be_hidden()
    assert server.client.post(f"executions/{execution_id}/resume", json={}).status_code < 300
    server.let_go(execution_id)
    expect(node_of(page, "done")).to_have_attribute("aria-label", "done: completed")


def test_a_server_with_other_tokens_lets_the_page_know(server: Any, visit: Any) -> None:
    """As one that was started again without a file of tokens."""
    visit.expects("ERR_CONNECTION|WebSocket|ERR_EMPTY_RESPONSE|401")
    execution_id = server.ran("steps")
    page = visit()
    expect(row_of(page, execution_id)).to_be_visible()
    server.end()
    server.tokens("another-token-to-write", "another-token-to-read")
    server.begin()
    expect(page.get_by_role("heading", name="The server doesn't know this browser")).to_be_visible()
    server.end()
    server.tokens("write-token-of-the-page", "read-token-of-the-page")
    server.begin()
    page.get_by_role("button", name="Try again").click()
    expect(row_of(page, execution_id)).to_be_visible()


def test_one_that_somebody_deletes_is_gone(server: Any, visit: Any) -> None:
    visit.expects("404|WebSocket")
    execution_id = server.ran("steps")
    page = visit(f"executions/{execution_id}")
    expect(node_of(page, "done")).to_be_visible()
    assert server.client.delete(f"executions/{execution_id}").status_code == 200
    expect(page.locator("body")).to_contain_text("This execution was deleted")


def test_an_execution_of_another_process_is_watched_as_well(server: Any, visit: Any, tmp_path: Any) -> None:
    page = visit()
    other = type(server)(server.folder)
    other.begin()
    try:
        execution_id = other.start("report")
        expect(row_of(page, execution_id)).to_contain_text("running")
        row_of(page, execution_id).get_by_role("link").click()
        expect(node_of(page, "hold")).to_have_attribute("aria-label", "hold: running")
        other.let_go(execution_id)
        expect(node_of(page, "done")).to_have_attribute("aria-label", "done: completed")
    finally:
        other.end()
