"""Values as the API shows them: whole while they are small, else their beginning."""

from __future__ import annotations

import asyncio
import hashlib
import json

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from treadle.monitor.api import values
from treadle.monitor.api.routing import PIECE_BYTES, sent
from treadle.monitor.api.values import DECODED_BYTES_MAX, WHOLE_BYTES_MAX, preview, shown, value_of
from treadle.state import codec
from treadle.store.base import Batch
from treadle.store.memory import MemoryStore

URL = "/where/it/is"


def stored(store: MemoryStore, content: bytes) -> str:
    digest = hashlib.sha256(content).hexdigest()
    store.apply(Batch([], blobs=[(digest, content)]))
    return digest


@pytest.mark.parametrize("size", [0, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_an_answer_of_any_size_arrives_whole(size: int) -> None:
    text = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def main() -> None:
        app = Starlette(routes=[Route("/", lambda _: sent(text))])
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
            answer = await client.get("/")
        assert answer.content == text
        assert answer.headers["content-length"] == str(size)
        assert answer.headers["content-type"] == "application/json"

    asyncio.run(main())


def test_a_value_that_is_small_is_whole() -> None:
    store = MemoryStore()
    raw = codec.encode({"a": (1, b"x"), "b": float("nan")})
    found = value_of(store, raw, None, "object", URL)
    assert found.value == {"a": [1, "eA=="], "b": "nan"}
    assert (found.size, found.truncated, found.url, found.content_type) == (len(raw), False, URL, "object")
    assert value_of(store, None, None, None, URL).url is None
    digest = stored(store, raw)
    assert value_of(store, None, digest, None, URL) == value_of(store, raw, None, None, URL)


def test_bytes_are_cut_too() -> None:
    picture = b"\x89PNG\r\n\x1a\n" + bytes(100_000)
    found = value_of(MemoryStore(), codec.encode({"a": picture, "b": b"few"}), None, None, URL)
    assert found.truncated
    assert len(found.value["a"]) == 2001
    assert found.value["a"].startswith("iVBORw0KGgo") and found.value["a"].endswith("…")
    assert found.value["b"] == "ZmV3"


def test_a_large_one_is_cut_and_a_huge_one_not_even_read() -> None:
    store = MemoryStore()
    raw = codec.encode(["x" * 100] * 1000)
    assert WHOLE_BYTES_MAX < len(raw) < DECODED_BYTES_MAX
    found = value_of(store, None, stored(store, raw), None, URL)
    assert (found.truncated, found.size, found.value[-1]) == (True, len(raw), {"$more": 950})
    huge = codec.encode("y" * DECODED_BYTES_MAX)
    found = value_of(store, None, stored(store, huge), None, URL)
    assert found.truncated and found.value.startswith('"yyy') and found.value.endswith("…")
    assert len(found.value) < 3000


def test_what_can_not_be_read_says_why() -> None:
    store = MemoryStore()
    lost = value_of(store, None, "0" * 64, None, URL)
    assert (lost.value, lost.truncated) == ({"$lost": "0" * 64}, True)
    assert "$unreadable" in value_of(store, b"{no", None, None, URL).value


@pytest.mark.parametrize(
    ("value", "depth", "left"),
    [
        ("x" * 2000, 8, "x" * 2000),
        ("x" * 2001, 8, "x" * 2000 + "…"),
        (list(range(51)), 8, [*range(50), {"$more": 1}]),
        ({str(n): n for n in range(52)}, 8, {**{str(n): n for n in range(50)}, "$more": 2}),
        ([[1, 2], {"a": 1}, 3], 1, [{"$more": 2}, {"$more": 1}, 3]),
        (None, 0, None),
    ],
)
def test_a_preview_says_what_it_leaves_out(value: object, depth: int, left: object) -> None:
    assert preview(value, depth) == left


def test_what_is_too_deep_is_cut() -> None:
    deep: object = 1
    for _ in range(600):
        deep = [deep]
    text = json.dumps(shown({"a": deep, "t": (deep, {"b": deep})}))
    assert text.count("$more") == 3
    assert "[" * 99 + '{"$more": 1}' in text


def test_a_blob_is_of_the_kind_that_its_name_ends_with(client: httpx.Client, worked: str) -> None:
    found = client.get(f"/api/executions/{worked}/node", params={"path": "picture"}).json()
    address = found["output"]["value"]["url"].partition("?")[0]
    for name, kind in (
        ("a.png", "image/png"),
        ("A.PNG", "image/png"),
        ("data:text/html,x", "application/octet-stream"),
        ("data:x/y\r\nset-cookie: a,", "application/octet-stream"),
        ("data:text/中,.png", "image/png"),
        ("", "application/octet-stream"),
    ):
        answer = client.get(address, params={"name": name})
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind), name
        assert "set-cookie" not in answer.headers
    assert client.get(address, headers={"range": f"bytes=0-{'9' * 5000}"}).status_code == 200


def test_ranges_that_make_no_sense_give_the_whole(client: httpx.Client, worked: str) -> None:
    url = f"/api/executions/{worked}/output?node=large"
    for said in ("bytes=", "bytes=-", "lines=1-2", "bytes=a-b", "bytes=1-2,4-5", ""):
        assert client.get(url, headers={"range": said}).status_code == 200, said
    assert client.get(url, headers={"range": "bytes=5-2"}).status_code == 416
    assert client.get(url, headers={"range": "bytes=0-999999999"}).headers["content-length"] == "515001"
    assert client.get(url, headers={"range": "bytes=-999999999"}).status_code == 206
    assert client.get(url, headers={"range": "bytes=-0"}).status_code == 416
    assert client.head(url).headers["content-length"] == "515001"


def test_of_what_nobody_knows_the_end_a_part_says_what_it_is(
        client: httpx.Client, worked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such is the content of a large blob that is packed: it can only be read from its beginning."""
    monkeypatch.setattr(values, "DECODED_BYTES_MAX", 1000)
    url = f"/api/executions/{worked}/output?node=large"
    whole = client.get(url)
    size = len(whole.content)
    assert "content-length" not in whole.headers
    for said, first, last in (("2-5", 2, 5), (f"{size - 2}-{size + 9}", size - 2, size - 1)):
        part = client.get(url, headers={"range": f"bytes={said}"})
        assert part.status_code == 206 and part.content == whole.content[first:last + 1]
        assert part.headers["content-range"] == f"bytes {first}-{last}/*"
    for said in ("5-2", f"{size}-{size + 9}"):
        assert client.get(url, headers={"range": f"bytes={said}"}).status_code == 416
    for said in ("5-", "-5", f"0-{size + 9}"):
        assert client.get(url, headers={"range": f"bytes={said}"}).status_code == 200
