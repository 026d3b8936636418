"""What changes executions, done over HTTP, and the mistakes one would make."""

from __future__ import annotations

from typing import Any

import httpx

from treadle.state.cell import ExecutionCell, NodeState
from treadle.state.status import ExecutionStatus
from treadle.store import open_store
from treadle.store.base import Batch
from treadle.store.owner import this_owner

FLAKY = """
treadle: 1
name: flaky
nodes:
  first: {type: code_job, language: bash, code: "echo one"}
  second: {type: code_job, language: bash, code: "test -e FLAG", needs: first}
  done: {type: endpoint, needs: second}
"""


def post(client: httpx.Client, url: str, body: Any = None, status: int = 202) -> Any:
    answer = client.post(url, json={} if body is None else body)
    assert answer.status_code == status, answer.text
    return answer.json()


def refused(client: httpx.Client, url: str, body: Any, status: int) -> dict[str, Any]:
    error: dict[str, Any] = post(client, url, body, status)["error"]
    return error


def test_an_execution_is_started_from_a_text(client: httpx.Client, site: Any) -> None:
    text = (
        "treadle: 1\nname: hi\ninputs: {who: {type: string}}\nnodes:\n"
        '  hello: {type: template_job, text: "hi {{ inputs.who }}"}\n  done: {type: endpoint, needs: hello}\n'
    )
    begun = post(
        client,
        "/api/executions",
        {"diagram": {"source": text}, "inputs": {"who": "Ada"}, "execution_id": "my own/1"},
        201,
    )
    assert begun["id"] == "my own/1"
    whole = site.until_status(client, "my%20own%2F1", "completed")
    assert whole["output"]["value"] == "hi Ada"
    assert client.get(whole["output"]["url"]).json() == "hi Ada"
    again = post(
        client, "/api/executions", {"diagram": {"hash": whole["diagram"]}, "inputs": {"who": "Bo"}}, 201
    )
    assert site.until_status(client, again["id"], "completed")["output"]["value"] == "hi Bo"
    taken = refused(
        client,
        "/api/executions",
        {"diagram": {"source": text}, "inputs": {"who": "Cy"}, "execution_id": "my own/1"},
        409,
    )
    assert "choose another id" in taken["message"]


def test_what_can_not_be_started_says_why(client: httpx.Client, site: Any) -> None:
    work = {"file": site.file("work")}
    for body, status, said in (
        ({}, 400, "required field `diagram`"),
        ({"diagram": {}}, 422, "say one of"),
        ({"diagram": {**work, "source": "x"}}, 422, "say one of"),
        ({"diagram": work, "input": {}}, 400, "unknown field `input`"),
        ({"diagram": work, "inputs": {"m": 1}}, 422, "'m'"),
        ({"diagram": work, "inputs": {"n": "many"}}, 422, "n"),
        ({"diagram": work, "execution_id": ""}, 422, "printable"),
        ({"diagram": {"source": "nodes: ["}}, 422, ""),
        ({"diagram": {"hash": "f00"}}, 404, "no diagram 'f00'"),
        ({"diagram": {"file": site.file("wrok")}}, 404, "was not given the file"),
    ):
        error = refused(client, "/api/executions", body, status)
        assert said in error["message"], error
    assert refused(client, "/api/executions", {"diagram": {"file": site.file("wrok")}}, 404)[
        "hint"
    ].startswith("did you mean")
    wrong = client.post("/api/executions", content="{", headers={"content-type": "application/json"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (400, "BadBody")
    wrong = client.post("/api/executions", content="{}", headers={"content-type": "text/plain"})
    assert (wrong.status_code, wrong.json()["error"]["type"]) == (415, "BadBody")


def test_an_answer_and_a_signal_wake_what_waits(client: httpx.Client, site: Any) -> None:
    name = site.start(client, "ask", "suspended")
    waiting = client.get(f"/api/executions/{name}").json()["waiting"]
    assert waiting == [
        {
            "node": "ask",
            "iteration": "1",
            "kind": "answer",
            "prompt": "Shall we?",
            "name": None,
            "schema": {"enum": ["yes", "no"]},
            "wake_at": None,
            "step": None,
        }
    ]
    url = f"/api/executions/{name}"
    assert (
        "does not fit" in refused(client, f"{url}/answer", {"node": "ask", "value": "maybe"}, 422)["message"]
    )
    assert "did you mean 'ask'?" in refused(client, f"{url}/answer", {"node": "aks"}, 404)["message"]
    assert "iteration" in refused(client, f"{url}/answer", {"node": "ask", "iteration": "x"}, 422)["message"]
    assert "needs a name" in refused(client, f"{url}/signal", {"name": " "}, 422)["message"]
    sent = post(client, f"{url}/answer", {"node": "ask", "value": "yes"})
    assert sent["running"] or sent["resumed"]
    site.until(
        lambda: [one["kind"] for one in client.get(url).json()["waiting"]] == ["signal"], "the signal's turn"
    )
    post(client, f"{url}/signal", {"name": "go", "value": {"n": 1}})
    assert site.until_status(client, name, "completed")["output"]["value"] == {"n": 1}
    assert "has completed" in refused(client, f"{url}/signal", {"name": "go"}, 422)["message"]
    assert refused(client, f"{url}/cancel", {}, 409)["type"] == "Ended"


def test_a_cancelled_execution_is_resumed(client: httpx.Client, site: Any) -> None:
    name = site.start(client, "ask", "suspended")
    post(client, f"/api/executions/{name}/cancel", {"reason": "not now"})
    whole = site.until_status(client, name, "cancelled")
    assert "not now" in whole["error"]["message"]
    line = next(one for one in client.get("/api/executions").json()["items"] if one["id"] == name)
    assert (line["ended"], line["nodes"]) == (1, whole["total"]) == (1, 3), "two were not come to"
    assert whole["nodes"] == whole["total"]
    plan = client.get(f"/api/executions/{name}/plan").json()
    assert [(one["node"], one["what"]) for one in plan["changes"]] == [("ask", "again")]
    assert not plan["held"]
    post(client, f"/api/executions/{name}/resume")
    site.until_status(client, name, "suspended")
    post(client, f"/api/executions/{name}/cancel")
    site.until_status(client, name, "cancelled")


def test_an_edited_file_is_planned_resumed_and_forked(client: httpx.Client, site: Any) -> None:
    flag, file = site.folder / "flag", site.folder / "diagrams" / "flaky.yaml"
    file.write_text(FLAKY.replace("FLAG", str(flag)))
    name = site.start(client, "flaky", "failed")
    url = f"/api/executions/{name}"
    assert client.get(url).json()["error"]["node"] == "second"
    file.write_text(FLAKY.replace("FLAG", str(flag)).replace("echo one", "echo two"))
    plan = client.get(f"{url}/plan").json()
    assert plan["redrawn"] and plan["changed"]
    assert (plan["changes"][0]["node"], plan["changes"][0]["what"]) == ("first", "changed")
    as_it_was = client.get(f"{url}/plan", params={"diagram": "recorded"}).json()
    assert not as_it_was["changed"]
    assert {"node": "first", "what": "kept", "why": "", "results": 0} in as_it_was["changes"]
    strict = refused(client, f"{url}/resume", {"strict": True}, 422)
    assert strict["type"] == "DiagramChanged"
    flag.touch()
    post(client, f"{url}/resume", {"diagram": "recorded"})
    site.until_status(client, name, "completed")
    fork = post(client, f"{url}/fork", {"at": "second", "execution_id": "my-fork"}, 201)["id"]
    assert site.until_status(client, fork, "completed")["parent"] == name
    assert refused(client, f"{url}/fork", {"at": "secnd"}, 404)["message"].endswith("did you mean 'second'?")
    assert refused(client, f"{url}/fork", {"diagram": "recorded"}, 422)["type"] == "InvalidInput"
    assert refused(client, f"{url}/resume", {"diagram": "nowhere.yaml"}, 404)["type"] == "NoSuchFile"
    file.unlink()


def test_what_somebody_else_runs_gets_words_and_nothing_more(client: httpx.Client, site: Any) -> None:
    """Another process's execution: a cancel is left in the store, a resume and a delete are refused."""
    other = open_store(site.folder / "runs.db")
    owner = this_owner()
    try:
        other.create(
            ExecutionCell(
                "elsewhere",
                epoch=1,
                status=ExecutionStatus.RUNNING,
                name="e",
                created_at=1.0,
                diagram=client.get("/api/diagrams").json()["stored"][0]["hash"],
            ),
            "",
            owner,
            60.0,
        )
        line = client.get("/api/executions/elsewhere").json()
        assert line["status"] == "running" and line["owner"].startswith("process ")
        assert post(client, "/api/executions/elsewhere/cancel", {"reason": "x"}) == {
            "id": "elsewhere",
            "running": True,
            "resumed": False,
            "trouble": None,
        }
        assert [one.kind for one in other.signals(["elsewhere"])] == ["cancel"]
        held = refused(client, "/api/executions/elsewhere/resume", {"diagram": "recorded"}, 409)
        assert held["type"] == "LeaseHeld" and "is run by process" in held["message"]
        gone = client.delete("/api/executions/elsewhere")
        assert (gone.status_code, gone.json()["error"]["hint"]) == (409, "cancel it first")
        ended = ExecutionCell(
            "elsewhere",
            epoch=1,
            seq=2,
            status=ExecutionStatus.CANCELLED,
            name="e",
            created_at=1.0,
            ended_at=2.0,
        )
        other.apply(Batch([NodeState("elsewhere", "a", epoch=1)], [ended]))
        from treadle.store.base import Lease

        other.release([Lease("elsewhere", 1)])
    finally:
        other.close()
    gone = client.delete("/api/executions/elsewhere")
    assert gone.status_code == 200, gone.text
    assert gone.json()["execution_ids"] == ["elsewhere"]
    assert client.get("/api/executions/elsewhere").status_code == 404
    assert client.delete("/api/executions/elsewhere").status_code == 404


def test_prune_says_first_what_goes(client: httpx.Client, site: Any) -> None:
    text = "treadle: 1\nname: short\nnodes: {done: {type: endpoint}}\n"
    names = [post(client, "/api/executions", {"diagram": {"source": text}}, 201)["id"] for _ in range(3)]
    for name in names:
        site.until_status(client, name, "completed")
    foretold = post(client, "/api/prune", {"name": "short", "keep": 1}, 200)
    assert (foretold["execution_ids"], foretold["dry_run"]) == (names[:2], True)
    assert client.get(f"/api/executions/{names[0]}").status_code == 200
    done = post(client, "/api/prune", {"name": "short", "keep": 1, "dry_run": False}, 200)
    assert (done["execution_ids"], done["dry_run"]) == (names[:2], False)
    assert client.get(f"/api/executions/{names[0]}").status_code == 404
    assert "say what to delete" in refused(client, "/api/prune", {}, 422)["message"]
    assert "no status 'faild'" in refused(client, "/api/prune", {"status": ["faild"]}, 422)["message"]


def test_words_may_not_be_too_long(client: httpx.Client, site: Any) -> None:
    name = site.start(client, "ask", "suspended")
    error = refused(client, f"/api/executions/{name}/signal", {"name": "go", "value": "x" * 1_100_000}, 413)
    assert "signal_bytes_max" in error["message"]
    post(client, f"/api/executions/{name}/cancel")


def test_an_execution_without_its_diagram_can_still_be_looked_at(client: httpx.Client, site: Any) -> None:
    """As after a prune that was ended, or of one that came from elsewhere."""
    store = site.monitor.store
    cell = ExecutionCell("bare", epoch=1, status=ExecutionStatus.SUSPENDED, name="bare", diagram="f00d")
    lease = store.create(cell, "", this_owner(), 60.0)
    store.apply(Batch([NodeState("bare", "a", epoch=1)], released=[lease]))
    url = "/api/executions/bare"
    for path in ("", "/nodes", "/node?path=a", "/timeline", "/context", "/logs"):
        assert client.get(url + path).status_code == 200, path
    assert client.get(f"{url}/node?path=a").json()["inputs_error"]
    for path in ("/diagram", "/plan"):
        answer = client.get(url + path)
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NoSuchDiagram"), path
    assert refused(client, f"{url}/resume", {}, 404)["type"] == "NoSuchDiagram"
    assert refused(client, f"{url}/answer", {"node": "b"}, 404)["type"] == "NoSuchNode"
    sent = post(client, f"{url}/signal", {"name": "go"})
    assert "no diagram f00d" in sent["trouble"]
    assert client.delete(url).status_code == 200


def test_what_counts_is_told_after_an_edit_of_a_sub_diagram(client: httpx.Client, site: Any) -> None:
    inner = site.folder / "diagrams" / "inner.yaml"
    text = (
        "treadle: 1\nname: inner\nnodes:\n"
        "  same: {type: code_job, language: bash, code: 'echo a'}\n"
        "  edited: {type: code_job, language: bash, code: 'echo b', needs: same}\n"
        "  done: {type: endpoint, needs: edited}\n"
    )
    inner.write_text(text)
    flag = site.folder / "outer.flag"
    (site.folder / "diagrams" / "outer.yaml").write_text(
        "treadle: 1\nname: outer\nnodes:\n  sub: {type: sub_diagram, diagram: inner.yaml}\n"
        f"  stop: {{type: code_job, language: bash, code: 'test -e {flag}', needs: sub}}\n"
    )

    def kept(name: str) -> list[bool]:
        node = client.get(f"/api/executions/{name}/node", params={"path": path}).json()
        return [one["kept"] for one in node["attempts"]]

    name = site.start(client, "outer", "failed")
    for path in ("sub", "sub/same", "sub/edited"):
        assert kept(name) == [True], path
    inner.write_text(text.replace("echo b", "echo c"))
    for path, counts in (("sub/same", True), ("sub/edited", False)):
        assert kept(name) == [counts], path
    flag.touch()
    post(client, f"/api/executions/{name}/resume")
    site.until_status(client, name, "completed")
    for path, counted in (("sub/same", [True]), ("sub/edited", [False, True])):
        assert kept(name) == counted, path


def test_a_diagram_that_needs_other_plugins_says_where_to_run_it(client: httpx.Client, site: Any) -> None:
    folder = site.folder / "diagrams" / "budget"
    (folder / "plugins").mkdir(parents=True)
    (folder / "own.yaml").write_text("treadle: 1\nname: own\nnodes:\n  a: {type: of_a_plugin}\n")
    file = {"file": str(folder / "own.yaml")}
    error = refused(client, "/api/executions", {"diagram": file}, 422)
    assert "of_a_plugin" in error["message"]
    assert str(folder) in error["hint"]
    assert "start a server there" in error["hint"]
    faults = post(client, "/api/check", file, 200)["faults"]
    assert [one["severity"] for one in faults] == ["error", "warning"]
    assert faults[1]["message"] == error["hint"]
