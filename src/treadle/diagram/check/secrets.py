"""Where `secret://NAME` stands in nodes, and nobody would look it up: it would be sent, or written, so."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from treadle.errors import did_you_mean

SECRET = "secret://"
_REFERENCE = re.compile(r"secret://[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_VARIABLE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
ALONE = "a secret is looked up only where the whole value is secret://NAME"
_PREFIXED = "with a word before it: auth: {bearer: …}, or {api_key: …, prefix: …}"
_HANDED_ON = frozenset({"code", "arguments", "custom_data", "inputs"})
"""Properties that reach code as they are, which may look a reference up."""
_SKIPPED = _HANDED_ON | {"diagram"}  # which is checked by itself


class Misplaced(NamedTuple):
    at: str  # the path of the property
    message: str
    hint: str
    warning: bool


def misplaced(properties: Mapping[str, Any], allowed: Sequence[str]) -> Iterator[Misplaced]:
    """The references in a node's properties that are not looked up; `allowed` are the properties in which
    they are, where they are the whole text. `name.*`: somewhere in this one, and its type knows where."""
    for name, value in properties.items():
        if name in _SKIPPED or f"{name}.*" in allowed:
            continue
        for text, at in _texts(value, name):
            if name not in allowed:
                yield Misplaced(at, f"{at}: a secret is not looked up here: 'secret://…' would stay a text",
                                _elsewhere(allowed), _REFERENCE.fullmatch(text.strip()) is None)
            elif "[" in at or broken(text):
                hint = _PREFIXED if "auth" in allowed else _elsewhere(allowed)
                yield Misplaced(at, f"{at}: {ALONE}", hint, False)


def unknown_store(url: str, schemes: Collection[str]) -> str:
    """What to do about the URL of a store of secrets that nothing opens; "" if its scheme is known."""
    scheme, colon, _ = url.partition(":")
    if colon and scheme in schemes:
        return ""
    return did_you_mean(scheme, schemes) or f"write {', '.join(f'{one}:…' for one in sorted(schemes))}"


def broken(text: str) -> bool:
    """Whether a text has a reference in it, and is none."""
    return SECRET in text and _REFERENCE.fullmatch(text) is None


def is_reference(text: str) -> bool:
    """Whether a text is `secret://NAME` or `env:NAME` and nothing else."""
    return (_REFERENCE.fullmatch(text) or _VARIABLE.fullmatch(text)) is not None


def _elsewhere(allowed: Sequence[str]) -> str:
    code = "in code by context.secret('secret://NAME')"
    names = ", ".join(one.removesuffix(".*") for one in allowed)
    return f"it is looked up in {names}, and {code}" if allowed else f"it is looked up {code}"


def _texts(value: Any, at: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        if SECRET in value:
            yield value, at
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _texts(one, f"{at}.{key}")
    elif isinstance(value, list):
        for index, one in enumerate(value):
            yield from _texts(one, f"{at}[{index}]")
