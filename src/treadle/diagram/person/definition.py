"""A person: a model that talks, with a system prompt, a memory and settings."""

from __future__ import annotations

import os
from typing import Annotated, Any

import msgspec

from treadle.diagram.types import Template

_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=1)]


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a model chooses its words. What is not said is left to the provider."""

    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    """From 0 (nearly always the same words) to 2."""
    top_p: _Share | None = None
    """Only the likeliest words, whose chances add up to this."""
    top_k: _Count | None = None
    """Only so many of the likeliest words, with providers that know it."""
    max_tokens: _Count | None = None
    """How many tokens an answer may have."""
    seed: int | None = None
    """The same seed gives the same words, with providers that know it."""
    stop: str | list[str] = []
    """Texts at which an answer ends."""
    presence_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    """Above 0: less of what has been mentioned."""
    frequency_penalty: Annotated[float, msgspec.Meta(ge=-2, le=2)] | None = None
    """Above 0: less of what has been said often."""
    extra_body: dict[str, Any] = {}
    """More of the request's body, as the provider knows it."""


class Person(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Somebody who talks in a diagram: a model with a system prompt, a memory and settings."""

    model: str = ""
    """`openai:NAME`, `anthropic:NAME`, `google:NAME`, `ollama:NAME`, or `script`, which needs no provider."""
    system_prompt: Template = ""
    """What the model is told first; a template over `inputs`."""
    prompt_file: str | None = None
    """A file with the system prompt instead, relative to the diagram's folder."""
    base_url: str | None = None
    """Where the provider's API is; with `openai:` any server that speaks as OpenAI's does."""
    api_key: str | None = None
    """`secret://NAME` or `env:NAME`; else the variable that is usual for the provider."""
    memory: str = "own"
    """`none`, `own`, `all`, `window(n)` or `summary(tokens)`."""
    settings: Settings = Settings()
    """How the model chooses its words."""
    script: list[Any] | str | None = None
    """The answers of `model: script`: a list, or `module:function`. Without it r1, r2, …"""


class Defined(Person, frozen=True):
    """A person where it is used: with its name, the folder that its paths start from, and how many diagrams
    around that of the node it stands in."""

    name: str = ""
    base: str = "."
    level: int = 0

    def identity(self, node_path: str) -> str:
        """What tells it from others of its name, as one of a node with that path knows it: the name, behind
        the path of the sub-diagram that has it."""
        parts = node_path.split("/")
        return "/".join([*parts[:max(0, len(parts) - 1 - self.level)], self.name])

    @property
    def prompt_path(self) -> str | None:
        """The path of its prompt file."""
        return None if self.prompt_file is None else os.path.join(self.base, self.prompt_file)


def named(person: Person, name: str, base: str) -> Defined:
    """A definition with the name and the folder that it has in a diagram."""
    fields = {field: getattr(person, field) for field in Person.__struct_fields__}
    return Defined(**fields, name=name, base=base)
