"""What a body records of its work: the text that still comes, calls of models and tools, an approval."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect


def test_the_steps_of_a_body_are_watched_and_its_call_allowed(server: Any, visit: Any) -> None:
    execution_id = server.start("talk")
    page = visit(f"executions/{execution_id}?node=ann")
    steps = page.locator(".steps")
    coming = steps.locator(".coming")
    expect(coming).to_contain_text("Boats are in the harbour, so a search")
    expect(page.locator('.box[data-path="ann"]')).to_contain_text("running")
    server.let_go(execution_id)
    first = steps.locator("li", has_text="model 1")
    expect(first).to_contain_text("I search for boats.")
    expect(first).to_contain_text(re.compile(r"Ann.*script.*120 tokens.*\$0\.0021", re.DOTALL))
    expect(first).to_contain_text('search(query: "boats")')
    expect(coming).to_have_count(0)
    head = page.locator(".execution-head")
    expect(head.locator(".figures")).to_contain_text(re.compile(r"tokens\s*120.*\$0\.0021"))
    first.get_by_text("1 message asked with").click()
    expect(first).to_contain_text("Where are the boats?")

    expect(head).to_contain_text("Ann wants to call search. Allow it?")
    page.locator(".inspector").get_by_role("button", name="Answer").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Allow").click()
    server.until_status(execution_id, "completed")
    expect(steps.locator("li", has_text="approve 1")).to_contain_text("true")
    tool = steps.locator("li", has_text="search 1").first
    expect(tool).to_contain_text("boats")
    expect(steps).to_contain_text("Jolly")
    expect(steps.locator("li", has_text="model 2")).to_contain_text("There are two.")
    expect(page.locator(".inspector")).to_contain_text(
        "2 calls of models, 1 call of a tool, 150 tokens, $0.0021")
    expect(head.locator(".figures")).to_contain_text(re.compile(r"tokens\s*150"))


def test_the_steps_of_an_instant_are_those_that_were_there(server: Any, visit: Any) -> None:
    execution_id = server.start("talk")
    server.let_go(execution_id)
    server.until_status(execution_id, "suspended")
    answer = {"node": "ann", "value": {"approve": True}}
    assert server.client.post(f"executions/{execution_id}/answer", json=answer).is_success
    server.until_status(execution_id, "completed")
    recorded = server.get(f"executions/{execution_id}/steps?path=ann")["items"]
    assert [one["name"] for one in recorded] == ["model 1", "approve 1", "search 1", "model 2"]
    at = (recorded[1]["ended_at"] + recorded[0]["ended_at"]) / 2
    page = visit(f"executions/{execution_id}?node=ann&at={at:.6f}")
    steps = page.locator(".steps li")
    expect(steps).to_have_count(1)
    page.get_by_role("button", name="Now").click()
    expect(steps).to_have_count(4)


def test_a_call_is_refused_with_a_reason(server: Any, visit: Any) -> None:
    execution_id = server.start("talk")
    server.let_go(execution_id)
    server.until_status(execution_id, "suspended")
    page = visit(f"executions/{execution_id}")
    page.locator(".execution-head").get_by_role("button", name="Answer").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Ann wants to call search. Allow it?")
    dialog.get_by_label("Why not, if you refuse").fill("there is fog")
    dialog.get_by_role("button", name="Refuse").click()
    server.until_status(execution_id, "completed")
    answer = server.get(f"executions/{execution_id}/steps?path=ann")["items"][1]
    assert answer["value"]["value"] == {"approve": False, "reason": "there is fog"}
