"""What a careless program or an ill-meaning neighbour may do, asked of the real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from treadle.cli.serve import announce, settings_of
from treadle.errors import InvalidInput
from treadle.monitor.serving import Served
from treadle.monitor.settings import Settings
from treadle.state.cell import ExecutionCell
from treadle.store.owner import this_owner

OUGHT = ("content-security-policy", "x-content-type-options", "x-frame-options", "referrer-policy")


@pytest.fixture
def client(site: Any) -> Iterator[httpx.Client]:
    with site.client() as client:
        yield client


def recorded(site: Any, name: str, *ids: str) -> None:
    """Executions with the same name, the last is the newest."""
    for at, one in enumerate(ids):
        cell = ExecutionCell(one, epoch=1, name=name, created_at=2000.0 + at)
        site.monitor.store.create(cell, "", this_owner(), 0.0)


def page(client: httpx.Client, **query: Any) -> dict[str, Any]:
    answer = client.get("/api/executions", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("gone", [["cut-3"], ["cut-3", "cut-2"], ["cut-5", "cut-4", "cut-3"]])
def test_pages_go_on_though_what_the_last_one_ended_with_was_deleted(
    site: Any, client: httpx.Client, gone: list[str]
) -> None:
    name = "-".join(gone)
    ids = [f"{name}/cut-{number}" for number in range(6)]
    recorded(site, name, *ids)
    first = page(client, name=name, limit=3)
    assert [one["id"] for one in first["items"]] == [ids[5], ids[4], ids[3]]
    for one in gone:
        assert client.delete(f"/api/executions/{name}%2F{one}").status_code == 200
    rest = page(client, name=name, limit=10, cursor=first["next"])
    left = [one for one in (ids[2], ids[1], ids[0]) if one.rpartition("/")[2] not in gone]
    assert ([one["id"] for one in rest["items"]], rest["next"]) == (left, None)


def test_of_several_who_delete_at_once_each_is_told_what_became_of_it(site: Any) -> None:
    ids = [f"at-once-{number}" for number in range(4)]
    recorded(site, "at once", *ids)

    def delete(one: str) -> int:
        with site.client() as client:
            return client.delete(f"/api/executions/{one}").status_code

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(delete, [*ids, *ids]))
    assert sorted(statuses) == [200] * 4 + [404] * 4
    assert [{one, two} for one, two in zip(statuses[:4], statuses[4:], strict=True)] == [{200, 404}] * 4


@pytest.mark.parametrize("cursor", ["", "bogus", "' OR 1=1", "one two", "0", "nan x", "inf x"])
def test_a_cursor_that_never_was_is_said(client: httpx.Client, cursor: str) -> None:
    answer = client.get("/api/executions", params={"cursor": cursor})
    assert (answer.status_code, answer.json()["error"]["hint"]) == (400, "give `next` of the page before")


def test_what_is_deleted_is_named_in_full(site: Any, client: httpx.Client) -> None:
    recorded(site, "whole", "whole-id-1")
    answer = client.delete("/api/executions/whole-id")
    assert (answer.status_code, answer.json()["error"]["hint"]) == (
        404,
        "to delete 'whole-id-1' give the whole id",
    )
    assert client.delete("/api/executions/whole-id-1").status_code == 200


def test_a_link_holds_any_token(site: Any) -> None:
    settings = Settings(write_token="a&b#c+d%41-sixteen", read_token="")
    served = Served(settings, 1, site.served._task)
    assert served.link == "http://127.0.0.1:1/?token=a%26b%23c%2Bd%2541-sixteen"
    assert served.link_to("x/y") == f"{served.link}#/executions/x%2Fy"


def test_tokens_of_a_file_are_not_said(site: Any, capsys: pytest.CaptureFixture[str]) -> None:
    announce(site.served, Path("tokens"))
    said = capsys.readouterr().err
    assert f"{site.served.url}/?token=…  with a token of tokens" in said
    assert "token-of-the-tests" not in said


@pytest.mark.parametrize("name", ["https://runs.example.com", "runs.example.com:8443", "", "[]", "a/b"])
def test_a_name_that_no_host_can_have_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="the name alone"):
        settings_of("127.0.0.1", 0, None, [name], None, None, read_only=False)
    right = settings_of("127.0.0.1", 0, None, ["runs.example.com", "[::2]"], None, None, read_only=False)
    assert right.names == ("runs.example.com", "[::2]")


@pytest.mark.parametrize("path", ["/" + "a" * 300, "/" + "a/" * 2000, "/%00", "/..%2f..%2fapp.py", "/\udcff"])
def test_no_address_of_the_page_is_a_fault(site: Any, path: str) -> None:
    with site.client(None) as nobody:
        answer = nobody.get(path.encode("utf-8", "replace").decode())
        assert answer.status_code in (200, 404)
        assert all(name in answer.headers for name in OUGHT)


def test_a_place_of_the_page_is_found_without_its_hash(site: Any) -> None:
    with site.client(None) as nobody:
        answer = nobody.get("/executions/x y?a=b", follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (307, "/?a=b#/executions/x%20y")
        assert nobody.get("//executions", follow_redirects=False).status_code in (200, 404)


def test_probes_are_counted_for_themselves(site: Any, tmp_path: Path) -> None:
    with (
        type(site)(tmp_path, settings={"requests_per_s": 0.5, "burst": 4}) as strict,
        strict.client() as client,
    ):
        codes = [client.get(path).status_code for path in ("/readyz", "/healthz") * 3]
        assert codes == [200] * 4 + [429] * 2
        assert client.get("/api/stats").status_code == 200


def test_a_socket_that_is_not_there_says_so(site: Any) -> None:
    url = f"ws://127.0.0.1:{site.served.port}/api/executions/x/alive"
    headers = {"authorization": f"Bearer {site._settings.read_token}"}
    with pytest.raises(InvalidStatus) as caught, connect(url, additional_headers=headers):
        pass
    assert caught.value.response.status_code == 404
    assert b"/api/executions/{id}/live" in (caught.value.response.body or b"")


def test_one_id_is_made_once(site: Any) -> None:
    async def main() -> list[int]:
        headers = {"authorization": f"Bearer {site._settings.write_token}"}
        async with httpx.AsyncClient(base_url=site.served.url, headers=headers) as client:
            body = {"diagram": {"file": site.file("ask")}, "execution_id": "only one/of me"}
            answers = [client.post("/api/executions", json=body) for _ in range(8)]
            return [one.status_code for one in await asyncio.gather(*answers)]

    assert sorted(asyncio.run(main())) == [201] + [409] * 7


def test_what_is_opened_and_closed_over_and_over_is_told_once(site: Any) -> None:
    """And a viewer has no more groups open than a page ever needs."""
    with site.client() as client:
        execution_id = site.start(client, "work")
    url = f"ws://127.0.0.1:{site.served.port}/api/executions/{execution_id}/live"
    with connect(url, additional_headers={"authorization": f"Bearer {site._settings.read_token}"}) as viewer:
        assert json.loads(viewer.recv())["event_type"] == "snapshot"
        for _ in range(200):
            viewer.send('{"type": "open", "groups": ["each"]}')
            viewer.send('{"type": "close", "groups": ["each"]}')
        for number in range(3):
            viewer.send(json.dumps({"type": "open", "groups": [f"{number}-{one}" for one in range(400)]}))
        viewer.send('{"type": "open", "groups": ["each"]}')
        said: list[Any] = []
        while not (
            said
            and any(path.startswith("nodes.each[") for path in said[-1].get("update_mask", ()))
            and "error" in [one["event_type"] for one in said]
        ):
            said.append(json.loads(viewer.recv(10)))
        errors = [one["message"] for one in said if one["event_type"] == "error"]
        assert errors == ["so many groups are too many: at most 1000"]
        assert len(said) < 100
