"""The slider, its keys, the timeline, and two executions side by side."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect


def test_one_travels_by_keys_and_by_the_slider(server: Any, visit: Any) -> None:
    """Graph, table and inspector show the instant; the URL holds it; `Now` comes back."""
    execution_id = server.ran("steps")
    page = visit(f"executions/{execution_id}")
    three = page.locator('.box[data-path="three"]')
    expect(three).to_have_attribute("aria-label", "three: completed")
    slider = page.get_by_role("slider", name="Instant")
    instants = [slider.input_value()]
    while page.locator('.box[data-path="one"]').get_attribute("aria-label") == "one: completed":
        page.keyboard.press("[")
        expect(slider).not_to_have_value(instants[-1])
        instants.append(slider.input_value())
    assert len(instants) > 4
    assert instants == sorted(instants, key=float, reverse=True)
    expect(three).to_have_attribute("aria-label", "three: pending")
    expect(page).to_have_url(re.compile(r"at=\d+\.\d+"))
    page.keyboard.press("]")
    expect(slider).to_have_value(instants[-2])
    began = server.get(f"executions/{execution_id}/node?path=two")["started_at"]
    page = visit(f"executions/{execution_id}?at={began + 0.001:.6f}")  # as somebody's link
    expect(page.locator('.box[data-path="two"]')).to_have_attribute("aria-label", "two: running")
    expect(page.locator('.box[data-path="three"]')).to_have_attribute("aria-label", "three: pending")
    head = page.locator(".execution-head")
    expect(head.locator(".figures")).to_contain_text("1 of 4")  # the header is of that instant, too
    expect(head).to_contain_text(re.compile(r"running.*at \d\d:\d\d:\d\d, now completed"))
    page.get_by_role("tab", name="Table").click()
    page.locator(".table-row", has_text="three").click()
    expect(page.locator(".inspector")).to_contain_text("pending")
    page.get_by_role("button", name="Now").click()
    expect(page.locator(".inspector")).to_contain_text("Hello Ada")
    expect(head.locator(".figures")).to_contain_text("4 of 4")
    expect(page).not_to_have_url(re.compile("at="))

    slider = page.get_by_role("slider", name="Instant")
    box = slider.bounding_box()
    slider.click(position={"x": box["width"] * 0.5, "y": box["height"] / 2})
    expect(page).to_have_url(re.compile("at="))
    expect(page.locator(".table-row", has_text="three")).not_to_contain_text("completed")
    slider.focus()
    slider.press("ArrowRight")
    expect(slider).to_have_attribute("aria-valuetext", re.compile(r"\d\d:\d\d:\d\d"))


def test_it_plays(server: Any, visit: Any) -> None:
    page = visit(f"executions/{server.ran('steps')}")
    three = page.locator('.box[data-path="three"]')
    page.get_by_role("button", name="Play from the beginning").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(three).to_have_attribute("aria-label", "three: pending")
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Now").click()
    expect(three).to_have_attribute("aria-label", "three: completed")


def test_the_timeline_selects(server: Any, visit: Any) -> None:
    page = visit(f"executions/{server.ran('steps')}?tab=timeline")
    view = page.locator(".view")
    expect(view.locator("canvas")).to_be_visible()
    view.click(position={"x": 40, "y": 60})
    expect(page).to_have_url(re.compile("node="))
    expect(page.locator(".inspector h2")).to_be_visible()


def test_the_timeline_is_brushed(server: Any, visit: Any) -> None:
    """What the mouse is drawn over fills the view, and the URL holds it; a double click shows all again."""
    page = visit(f"executions/{server.ran('steps')}?tab=timeline")
    canvas = page.locator(".view canvas")
    expect(canvas).to_be_visible()
    box = canvas.bounding_box()
    names = 220
    room = box["width"] - names

    def draw(start: float, end: float) -> tuple[float, float]:
        before = page.url
        for k, part in enumerate((start, (start + end) / 2, end)):
            page.mouse.move(box["x"] + names + part * room, box["y"] + 70)
            if not k:
                page.mouse.down()
        page.mouse.up()
        expect(page).not_to_have_url(before)
        found = re.search(r"zoom=([\d.]+)-([\d.]+)", page.url)
        assert found is not None
        return float(found[1]), float(found[2])

    first, last = draw(0.25, 0.75)
    assert 0 < first < last
    assert "node=" not in page.url  # it is no click
    inner = draw(0.75, 0.5)  # from right to left, within what is in sight
    assert first < inner[0] < inner[1] < last
    assert inner[1] - inner[0] < (last - first) / 2
    page.reload()
    expect(page.get_by_role("button", name="Whole time")).to_be_visible()
    canvas.dblclick(position={"x": names + room / 2, "y": 70})
    expect(page).not_to_have_url(re.compile("zoom="))
    expect(page.get_by_role("button", name="Whole time")).to_have_count(0)


def test_two_executions_differ_in_inputs_and_results(server: Any, visit: Any) -> None:
    """Marked in the list, compared by a key; the older one is A."""
    older, newer = server.ran("steps", who="Ada"), server.ran("steps", who="Grace")
    page = visit()
    for execution_id in (newer, older):
        page.locator("tr", has_text=execution_id).get_by_role("checkbox").check()
    page.keyboard.press("d")
    expect(page).to_have_url(re.compile(f"#/diff/{older}/{newer}"))
    diff = page.locator(".diff")
    expect(diff.locator("section", has_text="Inputs")).to_contain_text("Ada")
    expect(diff.locator("section", has_text="Inputs")).to_contain_text("Grace")
    page.keyboard.press("j")
    expect(page).to_have_url(re.compile("node="))
    diff.get_by_role("button", name=re.compile("three")).click()
    expect(diff).to_contain_text("Hello Grace")
    page.get_by_role("button", name="Swap the sides").click()
    expect(page).to_have_url(re.compile(f"#/diff/{newer}/{older}"))


def test_two_fingers_zoom_the_timeline(server: Any, visit: Any) -> None:
    """They part and it is wider, then one moves it; the page itself stays as large as it is."""
    page = visit(f"executions/{server.ran('steps')}?tab=timeline", has_touch=True, is_mobile=True,
                 viewport={"width": 390, "height": 844})
    canvas = page.locator(".view canvas").first
    expect(canvas).to_be_visible()
    box = canvas.bounding_box()
    touch = page.context.new_cdp_session(page)

    def fingers(kind: str, *places: float) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [
            {"x": box["x"] + x, "y": box["y"] + 60, "id": n} for n, x in enumerate(places)]})

    fingers("touchStart", 200, 240)
    for apart in (20, 40, 60):
        fingers("touchMove", 200 - apart, 240 + apart)
    fingers("touchEnd")
    expect(page).to_have_url(re.compile("zoom="))
    zoomed = page.url
    fingers("touchStart", 300)
    for moved in (40, 80, 120):
        fingers("touchMove", 300 - moved)
    fingers("touchEnd")
    expect(page).not_to_have_url(zoomed)
    expect(page).to_have_url(re.compile("zoom="))
    assert page.evaluate("visualViewport.scale") == 1
