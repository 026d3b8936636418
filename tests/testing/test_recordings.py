"""Calls of models as files: what is in them, how they are found again, what a stranger's request is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from treadle.errors import InvalidInput
from treadle.nodes.people.messages import Answer, Answered, Call, Picture, Request, Said
from treadle.nodes.people.offline.playing import RecordedModel, ReplayedModel
from treadle.nodes.people.offline.recordings import NotRecorded, Recordings

REQUEST = Request("Ann", "openai:gpt-5-mini", "Be brief", (Said("What is tea?"),), settings={"seed": 1})


class Counting:
    """A model that counts its answers."""

    def __init__(self) -> None:
        self.asked = 0

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        self.asked += 1
        show("a drink")
        message = Answered(f"a drink {self.asked}", (Call("c1", "search", {"q": "tea"}),))
        return Answer(message, "gpt-5-mini-1", 12, 3, cost=0.25)


def as_it_is(value: Any) -> Any:
    return value


def record(folder: Path, *requests: Request, place: str = "talk",
           redacted: Callable[[Any], Any] = as_it_is) -> list[Answer]:
    async def main() -> list[Answer]:
        model, recordings = Counting(), Recordings(folder)
        return [await RecordedModel(model, recordings, place, redacted).ask(one, lambda text: None)
                for one in requests]

    return asyncio.run(main())


def replay(folder: Path, *requests: tuple[Request, str]) -> list[str]:
    async def main() -> list[str]:
        recordings, shown = Recordings(folder), []
        for one, place in requests:
            answer = await ReplayedModel(recordings, place, as_it_is).ask(one, shown.append)
            assert shown[-1] == answer.message.content
        return shown

    return asyncio.run(main())


def test_a_call_is_a_file_that_people_can_read_and_is_answered_from_it(tmp_path: Path) -> None:
    [answer] = record(tmp_path / "calls", REQUEST)
    [path] = (tmp_path / "calls").iterdir()
    assert path.name.startswith("Ann-") and path.name.endswith("-1.json")
    told = json.loads(path.read_text())
    assert (told["treadle_recording"], told["person"], told["place"]) == (1, "Ann", "talk")
    assert told["request"] == {
        "person": "Ann", "model": "openai:gpt-5-mini", "system": "Be brief",
        "messages": [{"role": "user", "content": "What is tea?"}], "settings": {"seed": 1}}
    assert told["response"]["message"]["content"] == "a drink 1"

    async def main() -> Answer:
        return await ReplayedModel(Recordings(tmp_path / "calls"), "talk", as_it_is).ask(
            REQUEST, lambda text: None)

    assert asyncio.run(main()) == answer


def test_of_equal_requests_each_has_its_own_answer(tmp_path: Path) -> None:
    record(tmp_path, REQUEST, place="one")
    record(tmp_path, REQUEST, REQUEST, place="two")  # the second replaces the first at its place
    texts = [json.loads(path.read_text())["response"]["message"]["content"] for path in tmp_path.iterdir()]
    assert sorted(texts) == ["a drink 1", "a drink 2"]
    assert replay(tmp_path, (REQUEST, "two"), (REQUEST, "one"), (REQUEST, "one")) == [
        "a drink 2", "a drink 1", "a drink 1"]
    assert replay(tmp_path, (REQUEST, "elsewhere"), (REQUEST, "there")) == ["a drink 1", "a drink 2"]
    with pytest.raises(NotRecorded, match=r"'Ann' asks the same once more than was recorded \(2 times\)"):
        replay(tmp_path, (REQUEST, "a"), (REQUEST, "b"), (REQUEST, "c"))


def test_an_unknown_request_is_told_how_the_nearest_one_differs(tmp_path: Path) -> None:
    record(tmp_path, REQUEST, msgspec.structs.replace(REQUEST, person="Bob"))
    other = msgspec.structs.replace(REQUEST, messages=(Said("What is coffee?"),))
    with pytest.raises(NotRecorded) as raised:
        replay(tmp_path, (other, "talk"))
    told = str(raised.value)
    assert "talk: person 'Ann' asks what was not recorded. The nearest recording differs:" in told
    assert "--- recorded: Ann-" in told
    assert '-   "content": "What is tea?",' in told
    assert '+   "content": "What is coffee?",' in told
    assert not raised.value.retryable
    with pytest.raises(NotRecorded, match="there are no recordings in this folder"):
        replay(tmp_path / "none", (REQUEST, "talk"))


def test_what_does_not_change_the_answer_does_not_count(tmp_path: Path) -> None:
    record(tmp_path, REQUEST)
    assert replay(tmp_path, (msgspec.structs.replace(REQUEST, timeout=3.0), "talk")) == ["a drink 1"]


def test_images_are_named_by_their_digests(tmp_path: Path) -> None:
    shown = msgspec.structs.replace(REQUEST, pictures={"cat": Picture("image/png", b"\x89PNG" * 1000)})
    record(tmp_path, shown)
    [path] = tmp_path.iterdir()
    assert set(json.loads(path.read_text())["request"]["pictures"]["cat"]) == {"media_type", "sha256"}
    other = msgspec.structs.replace(REQUEST, pictures={"cat": Picture("image/png", b"\x89PNG")})
    assert replay(tmp_path, (shown, "talk")) == ["a drink 1"]
    with pytest.raises(NotRecorded, match="sha256"):
        replay(tmp_path, (other, "talk"))


def test_secrets_are_left_out_of_both(tmp_path: Path) -> None:
    def redacted(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("tea", "[secret DRINK]"))

    record(tmp_path, REQUEST, redacted=redacted)
    [path] = tmp_path.iterdir()
    assert "tea" not in path.read_text()
    assert path.read_text().count("[secret DRINK]") == 2


def test_a_file_that_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"notes\.json is no recording of a model's call: .*`person`"):
        Recordings(tmp_path)
