"""Models that write their calls down, and models that say what was written down."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from treadle.diagram.person import Defined
from treadle.nodes.base import BodyContext
from treadle.nodes.people.messages import Answer, Model, ModelError, Request
from treadle.nodes.people.offline.recordings import Recording, Recordings


async def standing_in(person: Defined, context: BodyContext,
                      make: Callable[[Defined, BodyContext], Awaitable[Model]]) -> Model:
    """What an engine with stand-ins uses for a model of a provider, which `make` gives. ModelError."""
    standins = context.standins
    recordings = standins.recordings
    place = context.node_id if context.iteration == "1" else f"{context.node_id} ({context.iteration})"
    if recordings is not None and standins.replay is not None:
        return ReplayedModel(recordings, place, context.redacted)
    if standins.offline:
        raise ModelError(f"person {person.name!r} has no script, and {person.model} is not asked in a test: "
                         "write one under `script`, or name a folder of recorded calls under `replay`")
    model = await make(person, context)
    return model if recordings is None else RecordedModel(model, recordings, place, context.redacted)


def plain_request(request: Request) -> dict[str, Any]:
    """A request as plain data, without what doesn't change the answer; images are named by their digests."""
    found: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(request, pictures={}))
    del found["timeout"]
    found["pictures"] = {
        name: {"media_type": one.media_type, "url": one.url} if one.url else
        {"media_type": one.media_type, "sha256": hashlib.sha256(one.data).hexdigest()}
        for name, one in request.pictures.items()}
    return {name: value for name, value in found.items() if value}


class RecordedModel:
    """A model whose calls are written down. `place` is where they are made; `redacted` leaves secrets
    out."""

    def __init__(self, model: Model, recordings: Recordings, place: str,
                 redacted: Callable[[Any], Any]) -> None:
        self._model, self._recordings, self._place, self._redacted = model, recordings, place, redacted

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        began = time.monotonic()
        answer = await self._model.ask(request, show)
        await self._recordings.write(Recording(
            person=request.person, place=self._place,
            at=datetime.now(UTC).isoformat(timespec="seconds"), seconds=round(time.monotonic() - began, 3),
            request=self._redacted(plain_request(request)),
            response=self._redacted(msgspec.to_builtins(answer))))
        return answer


class ReplayedModel:
    """A model that says what was written down of another."""

    def __init__(self, recordings: Recordings, place: str, redacted: Callable[[Any], Any]) -> None:
        self._recordings, self._place, self._redacted = recordings, place, redacted

    async def ask(self, request: Request, show: Callable[[str], None]) -> Answer:
        said = self._redacted(plain_request(request))
        found = self._recordings.find(request.person, said, self._place)
        answer = msgspec.convert(found.response, Answer)
        show(answer.message.content)
        return answer
