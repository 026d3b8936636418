"""What a person does with an execution on the page, and what the server then says of it."""

from __future__ import annotations

import re
from typing import Any

from playwright.sync_api import expect


def status_of(page: Any) -> Any:
    return page.locator(".execution-head .status").first


def act(page: Any, name: str) -> Any:
    """Press a button of the header; the dialog that it opens."""
    page.locator(".execution-head .acts").get_by_role("button", name=name, exact=True).click()
    return page.get_by_role("dialog")


def id_in(page: Any) -> str:
    found = re.search(r"#/executions/([^?]+)", page.url)
    assert found is not None, page.url
    return found[1]


def test_a_question_is_answered_in_a_form_of_its_schema_and_a_signal_is_sent(server: Any, visit: Any) -> None:
    execution_id = server.start("ask", until="suspended")
    page = visit(f"executions/{execution_id}")
    waiting = page.locator(".execution-head .waiting")
    expect(waiting).to_contain_text("Who pays, and how much?")
    waiting.get_by_role("button", name="Answer").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("as on the card")
    dialog.get_by_label("amount").fill("half")
    dialog.get_by_role("button", name="Send the answer").click()
    expect(dialog.get_by_role("alert")).to_have_text(
        ["This is needed.", "This is not a number.", "This is needed."])
    expect(dialog.get_by_label("name")).to_be_focused()
    dialog.get_by_label("name").fill("Ada")
    dialog.get_by_label("amount").fill("12")
    dialog.get_by_label("cash").check()
    dialog.get_by_label("urgent").check()
    dialog.get_by_role("button", name="Send the answer").click()
    expect(dialog).to_be_hidden()
    expect(waiting).to_contain_text("waits for the signal paid")
    answered = server.get(f"executions/{execution_id}/node?path=ask")["output"]["value"]
    assert answered == {"name": "Ada", "amount": 12, "way": "cash", "urgent": True}

    waiting.get_by_role("button", name="Send it").click()
    expect(dialog.get_by_label("Name")).to_have_value("paid")
    dialog.get_by_label("payload").fill('{"sum": 12}')
    dialog.get_by_role("button", name="Send", exact=True).click()
    expect(status_of(page)).to_have_text("completed")
    assert server.get(f"executions/{execution_id}/node?path=wait")["output"]["value"] == {"sum": 12}


def test_a_long_number_is_sent_and_shown_to_its_last_digit(server: Any, visit: Any) -> None:
    """Which a number of JavaScript would round; and who leaves a dialog is where they were."""
    execution_id, long = server.start("ask", until="suspended"), 12345678901234567891
    page = visit(f"executions/{execution_id}?node=ask")
    answer = page.locator(".inspector").get_by_role("button", name="Answer")
    dialog = page.get_by_role("dialog")
    answer.click()
    page.keyboard.press("Escape")
    expect(answer).to_be_focused()
    answer.click()
    dialog.get_by_label("name").fill("Ada")
    dialog.get_by_label("amount").fill(str(long))
    dialog.get_by_label("cash").check()
    dialog.get_by_role("button", name="Send the answer").click()
    expect(page.locator(".inspector")).to_contain_text(f"amount{long}")
    assert server.get(f"executions/{execution_id}/node?path=ask")["output"]["value"]["amount"] == long


def test_one_that_runs_is_cancelled(server: Any, visit: Any) -> None:
    execution_id = server.start("report")
    page = visit(f"executions/{execution_id}")
    dialog = act(page, "Cancel")
    expect(dialog).to_contain_text("it can be resumed")
    dialog.get_by_role("button", name="Cancel it").click()
    expect(status_of(page)).to_have_text("cancelled")
    expect(page.locator('.box[data-path="hold"]')).to_have_attribute("aria-label", re.compile("cancelled"))
    assert server.get(f"executions/{execution_id}")["status"] == "cancelled"


def test_a_failed_one_is_resumed_after_a_look_at_the_plan(server: Any, visit: Any) -> None:
    execution_id = server.start("deliver", until="failed")
    page = visit(f"executions/{execution_id}")
    expect(page.locator(".execution-head .why")).to_contain_text("no line to the warehouse")
    dialog = act(page, "Resume")
    expect(dialog).to_contain_text("1 recorded result kept")
    expect(dialog.locator("details", has_text="kept").last).to_contain_text("pack")
    server.repair(execution_id)
    dialog.get_by_role("button", name="Resume", exact=True).click()
    expect(status_of(page)).to_have_text("completed")
    expect(page.locator(".execution-head")).to_contain_text("round 2")
    page.get_by_role("tab", name="Table").click()
    page.locator(".table-row", has_text="send").click()
    expect(page.get_by_label("Iteration and attempt")).to_contain_text("attempt 2: completed")


def test_one_is_forked_from_a_node_and_compared(server: Any, visit: Any) -> None:
    execution_id = server.ran("steps", who="Ada")
    page = visit(f"executions/{execution_id}?tab=table&node=two")
    page.locator(".inspector").get_by_role("button", name="Fork from here").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Node")).to_have_value("two")
    dialog.get_by_role("button", name="Fork", exact=True).click()
    expect(page.locator(".execution-head")).to_contain_text(f"fork of {execution_id}")
    expect(status_of(page)).to_have_text("completed")
    made = server.get(f"executions/{id_in(page)}")
    assert (made["parent"], made["status"]) == (execution_id, "completed")
    place = page.url
    page.get_by_role("link", name="Compare").click()
    expect(page.locator(".diff")).to_contain_text("They are the same")
    page.goto(place)
    expect(status_of(page)).to_have_text("completed")
    page.keyboard.press("d")
    page.get_by_role("dialog", name="Compare with").get_by_text(execution_id).click()
    expect(page.locator(".diff")).to_contain_text("They are the same")


def test_a_diagram_is_looked_at_and_started_with_a_form_of_its_inputs(server: Any, visit: Any) -> None:
    page = visit("diagrams")
    page.get_by_role("link", name=re.compile("^report")).first.click()
    expect(page.locator(".box")).to_have_count(5)
    expect(page.get_by_text("checked, no fault")).to_be_visible()
    page.get_by_role("button", name="Start").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("rows")).to_have_value("4")
    dialog.get_by_label("rows").fill("two")
    dialog.locator("button[type=submit]").click()
    expect(dialog.get_by_role("alert")).to_have_text("This is not a number.")
    dialog.get_by_label("rows").fill("2")
    dialog.get_by_label("title").fill("Two of them")
    dialog.locator("button[type=submit]").click()
    expect(status_of(page)).to_have_text("running")
    server.let_go(id_in(page))
    expect(status_of(page)).to_have_text("completed")
    total = server.get(f"executions/{id_in(page)}/node?path=total")
    assert total["output"]["value"]["title"] == "Two of them"


def test_a_diagram_with_a_fault_says_where(server: Any, visit: Any) -> None:
    page = visit("diagrams")
    for name, says in (("wrong.yaml", "faults"), ("report.yaml", "no fault")):
        expect(page.locator("tr", has_text=name).locator(".status")).to_have_text(says)
    page.get_by_role("link", name=re.compile("^wrong")).first.click()
    fault = page.locator(".faults li")
    expect(fault).to_contain_text("wrong.yaml:5")
    expect(fault).to_contain_text("did you mean 'code_job'?")
    fault.get_by_role("button", name="second").click()
    expect(page).to_have_url(re.compile("node=second"))


def test_many_are_deleted_at_once(server: Any, visit: Any) -> None:
    ids = [server.ran("steps", who=f"number {turn}") for turn in range(2)]
    page = visit()
    for execution_id in ids:
        page.locator("tr", has_text=execution_id).get_by_role("checkbox").check()
    page.get_by_role("toolbar").get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete 2 executions")
    for execution_id in ids:
        expect(dialog).to_contain_text(execution_id)
    dialog.get_by_role("button", name="Delete 2").click()
    expect(dialog).to_be_hidden()
    for execution_id in ids:
        expect(page.locator("tr", has_text=execution_id)).to_have_count(0)
        assert server.client.get(f"executions/{execution_id}").status_code == 404


def test_one_that_looks_on_has_no_buttons(server: Any, visit: Any) -> None:
    execution_id = server.start("ask", until="suspended")
    page = visit(f"executions/{execution_id}?node=ask", token="read-token-of-the-page")
    expect(page.locator(".execution-head .waiting")).to_contain_text("Who pays")
    expect(page.locator(".inspector")).to_contain_text("Properties")
    expect(page.get_by_role("button", name="Fork from here")).to_have_count(0)
    expect(page.locator(".execution-head .acts").get_by_role("button")).to_have_count(0)
    expect(page.get_by_role("button", name="Answer")).to_have_count(0)
