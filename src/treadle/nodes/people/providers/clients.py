"""The clients of providers: one for each place and key, shared by all who ask there, closed with the engine.

The SDKs are imported in a thread, when the first asks: that takes seconds. They retry nothing: the policy of
the node does. Nothing goes anywhere but to the address that a person says, or to its provider's own.
"""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

from treadle.nodes.people.messages import ModelError

MISSING = "needs pydantic-ai, which is not installed: pip install 'treadle[llm]'"
_NO_KEY = "none"  # the SDKs want one


class Place(NamedTuple):
    """Where a model is asked, and who asks."""

    provider: str  # openai, anthropic, google, ollama
    base_url: str
    key: str | None


class Clients:
    """The open clients of one engine."""

    def __init__(self) -> None:
        self._open: dict[Place, asyncio.Future[_Client]] = {}
        self._models: dict[tuple[Place, str], Any] = {}

    async def model(self, place: Place, name: str) -> Any:
        """A pydantic-ai model. ModelError if its packages are missing."""
        found = self._models.get((place, name))
        if found is None:
            client = await self._client(place)
            found = self._models[(place, name)] = client.model(name)
        return found

    async def _client(self, place: Place) -> _Client:
        opening = self._open.get(place)
        if opening is None or (opening.done() and not _is_good(opening)):
            opening = self._open[place] = asyncio.ensure_future(asyncio.to_thread(_Client, place))
        return await asyncio.shield(opening)

    async def aclose(self) -> None:
        """Close all of them. None is used any more."""
        opened, self._open = self._open, {}
        self._models.clear()
        for client in await asyncio.gather(*opened.values(), return_exceptions=True):
            if isinstance(client, _Client):
                await client.aclose()


def _is_good(opening: asyncio.Future[_Client]) -> bool:
    return not opening.cancelled() and opening.exception() is None


class _Client:
    """One HTTP client, and the SDK's object around it."""

    def __init__(self, place: Place) -> None:
        try:
            self._model = _models(place)
            from pydantic_ai.models import create_async_httpx2_client
        except ImportError as error:
            raise ModelError(f"a person of {place.provider} {MISSING} ({error})") from None
        self._http = create_async_httpx2_client()
        self._provider = _provider(place, self._http)

    def model(self, name: str) -> Any:
        return self._model(name, provider=self._provider)

    async def aclose(self) -> None:
        await self._http.aclose()


def _models(place: Place) -> Any:
    """The class of a provider's models. ImportError if its packages are missing."""
    if place.provider == "anthropic":
        from pydantic_ai.models.anthropic import AnthropicModel

        return AnthropicModel
    if place.provider == "google":
        from pydantic_ai.models.google import GoogleModel

        return GoogleModel
    if place.provider == "ollama":
        from pydantic_ai.models.ollama import OllamaModel

        return OllamaModel
    from pydantic_ai.models.openai import OpenAIChatModel

    return OpenAIChatModel


def _provider(place: Place, http: Any) -> Any:
    """The provider's object. Everything is said, so that no variable of the environment changes it."""
    key = place.key or _NO_KEY
    if place.provider == "anthropic":
        from anthropic import AsyncAnthropic
        from pydantic_ai.providers.anthropic import AnthropicProvider

        return AnthropicProvider(anthropic_client=AsyncAnthropic(
            api_key=key, base_url=place.base_url, http_client=http, max_retries=0))
    if place.provider == "google":
        from google.genai.types import HttpRetryOptions
        from pydantic_ai.providers.google import GoogleProvider

        return GoogleProvider(api_key=key, http_client=http, base_url=place.base_url,
                              retry_options=HttpRetryOptions(attempts=1))
    from openai import AsyncOpenAI

    client = AsyncOpenAI(api_key=key, base_url=place.base_url, http_client=http, max_retries=0)
    if place.provider == "ollama":  # it speaks as OpenAI's does, and knows less
        from pydantic_ai.providers.ollama import OllamaProvider

        return OllamaProvider(openai_client=client)
    from pydantic_ai.providers.openai import OpenAIProvider

    return OpenAIProvider(openai_client=client)
