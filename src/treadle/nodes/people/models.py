"""Which model a person is, and how it comes to be asked."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import msgspec

from treadle.diagram.check.people import Wrong
from treadle.diagram.person import Defined
from treadle.errors import NoSuchNode, NoSuchSecret, SecretError, did_you_mean
from treadle.nodes.base import BodyContext
from treadle.nodes.modules import load_function
from treadle.nodes.people import script
from treadle.nodes.people.messages import Model, ModelError
from treadle.nodes.people.offline.playing import standing_in
from treadle.nodes.people.providers.clients import Clients, Place


class Provider(msgspec.Struct, frozen=True):
    """Who offers models: where they are asked, and the variables that usually have the key."""

    base_url: str
    keys: tuple[str, ...] = ()


PROVIDERS = {
    "openai": Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
    "anthropic": Provider("https://api.anthropic.com", ("ANTHROPIC_API_KEY",)),
    "google": Provider("https://generativelanguage.googleapis.com", ("GOOGLE_API_KEY", "GEMINI_API_KEY")),
    "ollama": Provider("http://localhost:11434/v1"),
}
_HOW = "write openai:NAME, anthropic:NAME, google:NAME, ollama:NAME or script"


def split(model: str) -> tuple[str, str]:
    """A model as its provider and name. ValueError says what to write."""
    provider, colon, name = model.partition(":")
    if model == script.MODEL:
        return model, ""
    if provider not in PROVIDERS:
        near = did_you_mean(provider, [*PROVIDERS, script.MODEL])
        raise ValueError(f"{model!r} names no provider that is known: {near or _HOW}")
    if not colon or not name.strip():
        raise ValueError(f"{model!r} has no name of a model: write {provider}:NAME")
    return provider, name.strip()


def person_faults(person: Defined) -> Iterator[Wrong]:
    """What `check` finds wrong with a person's model and script."""
    if person.model:
        try:
            split(person.model)
        except ValueError as error:
            yield Wrong("model", f"`model`: {error}")
        if person.settings.top_k is not None and person.model.startswith(("openai:", "ollama:")):
            yield Wrong("settings.top_k", f"`settings.top_k` means nothing to {person.model}", None, True)
    if isinstance(person.script, str):
        try:
            load_function(person.script, person.base)
        except ValueError as error:
            yield Wrong("script", f"`script`: {error}")


async def model_of(person: Defined, context: BodyContext) -> Model:
    """The model that a person is, or what stands in for it. ModelError if it can't be asked."""
    stand_in = context.standins.script_of(person.name) if context.standins.scripts else None
    if stand_in is not None:
        answers = stand_in.answers
        return script.ScriptModel(answers, _position(person.name, False, context, answers),
                                  None if callable(answers) else stand_in.answer)
    if person.model == script.MODEL:
        own = load_function(person.script, person.base) if isinstance(person.script, str) else person.script
        return script.ScriptModel(own, _position(person.identity(context.node_id), True, context, own))
    if context.standins:
        return await standing_in(person, context, _provided)
    return await _provided(person, context)


def _position(person: str, own: bool, context: BodyContext, answers: script.Answers) -> script.Number:
    """How far a script is: an `own` one is the person's, another is that of all who have the name."""
    def done() -> set[int]:
        return script.recorded(person, own, context.told(), context.steps.records)

    def number() -> int:
        try:
            positions = context.kept("positions in scripts", script.Positions)
        except NoSuchNode:  # no engine
            positions = script.Positions()
        return positions.take(context.execution_id, person, done,
                              lambda number: script.fails(answers, number))
    return number


async def _provided(person: Defined, context: BodyContext) -> Model:
    provider, name = split(person.model)
    known = PROVIDERS[provider]
    key = await _key(person, known, context)
    clients = context.kept("clients of models", Clients)
    model = await clients.model(Place(provider, person.base_url or known.base_url, key), name)
    from treadle.nodes.people.providers.wire import WiredModel

    return WiredModel(model, person.model, priced=person.base_url is None and provider != "ollama")


async def _key(person: Defined, known: Provider, context: BodyContext) -> str | None:
    """The key of a person. The variables that are usual for a provider count at its own address only: another
    server must not be sent them."""
    who = f"person {person.name!r} ({person.model})"
    reference = person.api_key
    if reference is None and person.base_url is None and known.keys:
        variable = next((one for one in known.keys if os.environ.get(one)), None)
        if variable is None:
            raise ModelError(f"{who} has no key: set {known.keys[0]}, or write api_key: secret://NAME")
        reference = f"env:{variable}"
    if reference is None:
        return None
    try:
        return await asyncio.to_thread(context.secret, reference)
    except (NoSuchSecret, SecretError) as error:
        raise ModelError(f"{who}: `api_key`: {error}", retryable=isinstance(error, SecretError)) from None
