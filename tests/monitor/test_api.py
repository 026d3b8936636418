"""What the API tells, asked of the real server over HTTP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from treadle.monitor import openapi


def get(client: httpx.Client, url: str, status: int = 200, /, **query: Any) -> Any:
    answer = client.get(url, params=query or None)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_the_description_is_current() -> None:
    assert openapi.FILE.read_text(encoding="utf-8") == openapi.text(), (
        "write it anew: python -m treadle.monitor.openapi"
    )


def test_the_list_and_its_filters(client: httpx.Client, worked: str) -> None:
    line = next(one for one in get(client, "/api/executions")["items"] if one["id"] == worked)
    assert (line["name"], line["status"], line["stale"], line["error"]) == ("work", "completed", False, None)
    assert (line["failed"], line["ended"]) == (1, line["nodes"])
    assert line["size_bytes"] == get(client, f"/api/executions/{worked}")["size_bytes"]
    for query, found in (
        ({"status": "completed,failed"}, True),
        ({"status": "failed"}, False),
        ({"status": "stale"}, False),
        ({"name": "work"}, True),
        ({"name": "wor"}, False),
        ({"text": "WOR"}, True),
        ({"text": worked[3:9]}, True),
        ({"text": "zzz"}, False),
        ({"since": line["created_at"]}, True),
        ({"since": line["created_at"] + 1}, False),
        ({"until": line["created_at"]}, True),
        ({"until": line["created_at"] - 1}, False),
    ):
        assert (worked in [one["id"] for one in get(client, "/api/executions", **query)["items"]]) is found, (
            query
        )


def test_pages_follow_each_other(client: httpx.Client, site: Any, worked: str) -> None:
    """Also where ids are not in the order of their times."""
    from treadle.state.cell import ExecutionCell
    from treadle.store.owner import this_owner

    names = ["zz", "aa", "mm", "cc", "yy"]
    for at, name in enumerate(names):
        site.monitor.store.create(
            ExecutionCell(f"{name}-paged", epoch=1, name="paged", created_at=1000.0 + at),
            "",
            this_owner(),
            0.0,
        )
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = get(client, "/api/executions", name="paged", limit=2, **cursor)
        seen += [one["id"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = {"cursor": page["next"]}
    assert seen == [f"{name}-paged" for name in reversed(names)]
    assert [one["id"] for one in get(client, "/api/executions", text="c-p", name="paged")["items"]] == [
        "cc-paged"
    ]


def test_one_execution(client: httpx.Client, worked: str) -> None:
    whole = get(client, f"/api/executions/{worked[:-1]}")
    assert whole["id"] == worked
    assert whole["inputs"]["value"] == {"n": 4}
    assert whole["output"]["value"][:3] == [0, 1, 2]
    assert whole["counts"]["failed"] == 1
    assert whole["total"] == 11
    assert whole["waiting"] == []
    assert whole["metrics"]["critical_path"][0] == "start"
    assert whole["options"]["durability"] == "batched"
    assert 256_000 < whole["size_bytes"] < 800_000  # the picture, too


def test_nodes_are_told_by_group(client: httpx.Client, worked: str) -> None:
    root = {one["id"]: one for one in get(client, f"/api/executions/{worked}/nodes")["items"]}
    assert set(root) == {"start", "first", "each", "large", "picture", "share", "done"}
    assert root["each"]["group"] == {"kind": "map", "total": 4, "counts": {"completed": 3, "failed": 1}}
    assert root["first"]["type"] == "code_job"
    assert "output" not in root["first"]
    items = get(client, f"/api/executions/{worked}/nodes", parent="each")
    assert (items["total"], items["next"]) == (4, None)
    failed = get(client, f"/api/executions/{worked}/nodes", parent="*", status="failed")["items"]
    assert [one["id"] for one in failed] == ["each[3]"]
    assert failed[0]["error"] == {"type": "ValueError", "message": "three is no good", "node": "each[3]"}
    page = get(client, f"/api/executions/{worked}/nodes", parent="*", limit=3)
    rest = get(client, f"/api/executions/{worked}/nodes", parent="*", cursor=page["next"])
    assert len(page["items"]) + len(rest["items"]) == page["total"] == 11
    assert get(client, f"/api/executions/{worked}/nodes", text="PICT")["total"] == 1
    wrong = get(client, f"/api/executions/{worked}/nodes", 400, status="faild")["error"]
    assert wrong["hint"] == "did you mean 'failed'?"


def test_one_node(client: httpx.Client, worked: str, site: Any) -> None:
    node = get(client, f"/api/executions/{worked}/node", path="first")
    assert node["inputs"]["value"] == {"default": {"n": 4}}
    assert node["output"]["value"] == 8
    assert node["upstream"] == ["start"]
    assert set(node["downstream"]) == {"each", "large", "picture", "share"}
    assert node["source"]["file"].endswith("work.yaml")
    assert node["source"]["line"] > 1
    assert node["properties"]["call"] == "tasks:double"
    assert [one["kept"] for one in node["attempts"]] == [True]
    item = get(client, f"/api/executions/{worked}/node", path="each[3]")
    assert item["inputs"]["value"]["item"] == 3
    assert "three is no good" in item["traceback"]
    assert "tasks.py" in item["traceback"]
    wrong = get(client, f"/api/executions/{worked}/node", 404, path="frist")["error"]
    assert wrong["hint"] == "did you mean 'first'?"
    wrong = get(client, f"/api/executions/{worked}/node", 404, path="first", attempt=7)["error"]
    assert wrong["hint"] == "it has no such iteration or attempt"


def test_large_values_are_cut_and_can_be_had_whole(client: httpx.Client, worked: str) -> None:
    value = get(client, f"/api/executions/{worked}/node", path="large")["output"]
    assert value["truncated"]
    assert value["size"] == 5000 * 103 + 1
    assert value["value"][-1] == {"$more": 4950}
    whole = client.get(value["url"])
    assert whole.json() == ["x" * 100] * 5000
    assert whole.headers["content-type"] == "application/json"
    part = client.get(value["url"], headers={"range": "bytes=2-5"})
    assert (part.status_code, part.text, part.headers["content-range"]) == (206, "xxxx", "bytes 2-5/515001")
    end = client.get(value["url"], headers={"range": "bytes=-2"})
    assert end.text == '"]'
    rest = client.get(value["url"], headers={"range": "bytes=514999-"})
    assert rest.text == '"]'
    behind = client.get(value["url"], headers={"range": "bytes=600000-"})
    assert (behind.status_code, behind.headers["content-range"]) == (416, "bytes */515001")


def test_blobs_come_with_their_kind_and_run_nothing(client: httpx.Client, worked: str) -> None:
    value = get(client, f"/api/executions/{worked}/node", path="picture")["output"]["value"]
    assert (value["name"], value["size"]) == ("p.png", 256_004)
    for url in (value["url"], f"/api/executions/{worked}/output?node=picture"):
        blob = client.get(url)
        assert blob.headers["content-type"] == "image/png"
        assert len(blob.content) == 256_004
        assert "sandbox" in blob.headers["content-security-policy"]
    page = client.get(value["url"].replace("p.png", "p.html"))
    assert page.headers["content-disposition"].startswith("attachment")
    part = client.get(value["url"], headers={"range": "bytes=1-3"})
    assert (part.status_code, part.content) == (206, b"PNG")
    assert get(client, f"/api/blobs/{'0' * 64}", 404)["error"]["type"] == "NoSuchBlob"
    assert get(client, "/api/blobs/..%2Fruns.db", 404)["error"]["type"] in ("NoSuchBlob", "NotFound")


def test_values_that_json_lacks(client: httpx.Client, worked: str) -> None:
    """A tuple is written with a tag; outside it is a list."""
    assert client.get(f"/api/executions/{worked}/output", params={"node": "share"}).json() == [1, 2]
    assert client.get(f"/api/executions/{worked}/inputs").json() == {"n": 4}
    assert client.get(f"/api/executions/{worked}/output").json()[0] == 0
    nothing = get(client, f"/api/executions/{worked}/output", 404, node="each[3]")
    assert nothing["error"]["type"] == "NoOutput"


def test_context_logs_timeline(client: httpx.Client, worked: str) -> None:
    context = get(client, f"/api/executions/{worked}/context")
    assert context["artifacts"] == {"report": {"pages": 3}}
    assert context["variables"] == {"long": {"$large": 9002}}
    assert context["versions"]["artifacts.report"]["writer"].startswith("share")
    log = get(client, f"/api/executions/{worked}/logs", node="first")
    assert [(one["node"], one["stream"], one["text"]) for one in log["items"]] == [
        ("first", "stdout", "doubling 4")
    ]
    assert get(client, f"/api/executions/{worked}/logs", after=log["last"], node="first")["items"] == []
    times = get(client, f"/api/executions/{worked}/timeline")
    rows = [dict(zip(times["fields"], row, strict=True)) for row in times["rows"]]
    assert len(rows) == 11
    assert rows[0]["node"] == "start"
    assert all(row["scheduled_at"] <= row["started_at"] <= row["ended_at"] for row in rows)


def test_a_diagram_to_draw(client: httpx.Client, worked: str) -> None:
    drawn = get(client, f"/api/executions/{worked}/diagram")
    assert drawn == get(client, f"/api/diagrams/{drawn['hash']}")
    assert drawn["inputs"]["n"] == {
        "type": "integer",
        "required": False,
        "default": 4,
        "description": "how many",
    }
    nodes = {one["id"]: one for one in drawn["nodes"]}
    assert nodes["each"]["group"] == "each"
    assert nodes["each"]["properties"]["on_item_error"] == "collect"
    assert drawn["groups"] == [{"id": "each", "kind": "map", "nodes": [], "drawn": None}]
    assert {
        "source": "first",
        "port": "default",
        "target": "each",
        "input": "default",
        "label": "",
        "back": False,
    } in drawn["arrows"]
    assert get(client, "/api/diagrams/0000", 404)["error"]["type"] == "NoSuchDiagram"


LOOPED = """
treadle: 1
name: looped
nodes:
  start: {type: template_job, text: "0"}
  turn: {type: template_job, text: turn, join: any}
  again: {type: condition, when: "{{ turn == 'x' }}", needs: turn}
  inner:
    type: sub_diagram
    diagram: {name: inside, nodes: {a: {type: template_job, text: hi}, e: {type: endpoint, needs: a}}}
  done: {type: endpoint}
arrows: [start -> turn.first, again.true -> turn, again.false -> inner, inner -> done]
loops: [{entry: turn, max_iterations: 3}]
"""


def test_loops_and_sub_diagrams_are_drawn(client: httpx.Client) -> None:
    answer = client.post("/api/check", json={"source": LOOPED})
    assert answer.status_code == 200, answer.text
    drawn = answer.json()
    assert [one["message"] for one in drawn["faults"] if one["severity"] == "error"] == []
    groups = {one["id"]: one for one in drawn["groups"]}
    assert groups["turn"]["kind"] == "loop"
    assert set(groups["turn"]["nodes"]) == {"turn", "again"}
    assert groups["inner"]["kind"] == "sub"
    assert [one["id"] for one in groups["inner"]["drawn"]["nodes"]] == ["a", "e"]
    nodes = {one["id"]: one for one in drawn["nodes"]}
    assert (nodes["turn"]["loop"], nodes["start"]["loop"], nodes["inner"]["group"]) == ("turn", None, "inner")
    back = [(one["source"], one["target"], one["label"]) for one in drawn["arrows"] if one["back"]]
    assert back == [("again", "turn", "true")]


def test_files_and_their_faults(client: httpx.Client, site: Any, worked: str) -> None:
    found = get(client, "/api/diagrams")
    files = {Path(one["file"]).name: one for one in found["files"]}
    assert {name: one["valid"] for name, one in files.items()} == {
        "work.yaml": True,
        "ask.yaml": True,
        "broken.yaml": False,  # it can be read, but its node's type is not known
    }
    assert worked in {one["last_id"] for one in found["stored"]} or found["stored"]
    drawn = client.post("/api/check", json={"file": files["broken.yaml"]["file"]}).json()
    fault = next(one for one in drawn["faults"] if "code_jb" in one["message"])
    assert (fault["severity"], fault["line"], fault["node"]) == ("error", 4, "a")
    refused = client.post("/api/executions", json={"diagram": {"file": files["broken.yaml"]["file"]}})
    assert refused.status_code == 422
    assert refused.json()["error"]["faults"][0]["line"] == 4


def test_other_files_are_never_opened(client: httpx.Client, site: Any) -> None:
    outside = site.folder / "outside.yaml"
    outside.write_text("treadle: 1\nname: secret\nnodes: {a: {type: endpoint}}\n")
    listed = str(site.folder / "diagrams")
    for name in (str(outside), f"{listed}/../outside.yaml", "/etc/passwd", f"{listed}/tasks.py", "", "\0"):
        for path, body in (("check", {"file": name}), ("executions", {"diagram": {"file": name}})):
            answer = client.post(f"/api/{path}", json=body)
            assert answer.status_code == 404, (name, answer.text)
            assert answer.json()["error"]["type"] == "NoSuchFile"
    (site.folder / "diagrams" / "link.yaml").symlink_to(outside)
    assert "link.yaml" not in json.dumps(get(client, "/api/diagrams")["files"])


def test_two_executions_are_compared(client: httpx.Client, worked: str, site: Any) -> None:
    same = get(client, "/api/diff", a=worked, b=worked)
    assert same["same"]
    fork = client.post(f"/api/executions/{worked}/fork", json={"inputs": {"n": 3}}).json()["id"]
    site.until_status(client, fork, "completed")
    found = get(client, "/api/diff", a=worked, b=fork)
    assert not found["same"]
    assert found["inputs"]["places"] == [{"path": "n", "a": 4, "b": 3}]
    only = [one["node"] for one in found["nodes"] if one["only"] == "a"]
    assert only == ["each[3]"]


def test_the_rest(client: httpx.Client) -> None:
    stats = get(client, "/api/stats")
    assert stats["may_write"]
    assert stats["store"]["size_bytes"] > 10_000
    assert not stats["store"]["encrypted"]
    assert stats["engine"]["durability"] == "batched"
    assert get(client, "/api/plugins")["problems"] == []
    assert get(client, "/healthz") == get(client, "/readyz") == {"status": "ok"}
    assert get(client, "/api/nothing", 404)["error"]["message"] == "there is nothing at /api/nothing"
    wrong = client.put("/api/executions", json={})
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET, POST")


def test_mistakes_in_a_query_are_named(client: httpx.Client, worked: str) -> None:
    for path, said in (
        ("executions?stat=x", "unknown field `stat`"),
        ("executions?limit=0", "`int` >= 1"),
        ("executions?limit=many", "Expected `int`"),
        ("executions?limit=1&limit=2", "given twice"),
        ("executions?status=runing", "no status 'runing'"),
        ("diff?a=1", "missing required field `b`"),
        (f"executions/{worked}/logs?attempt=0", ">= 1"),
    ):
        error = get(client, f"/api/{path}", 400)["error"]
        assert said in error["message"], error
    assert "has no execution 'nobody'" in get(client, "/api/executions/nobody", 404)["error"]["message"]
