"""Who calls: what `auth` of a node says. Secrets are named there, and looked up when a call is made."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar

import msgspec

from treadle.crypto.secrets import SECRET, Secrets, is_reference
from treadle.diagram.formats.values import convert_struct
from treadle.nodes import http
from treadle.nodes.base import BodyContext

Said: TypeAlias = str | Mapping[str, Any] | None
_T = TypeVar("_T")


class _Basic(msgspec.Struct, frozen=True):
    user: str
    password: str


class _Auth(msgspec.Struct, frozen=True):
    bearer: str | None = None
    basic: _Basic | None = None
    api_key: str | None = None
    header: str | None = None
    query: str | None = None
    prefix: str = ""


def struct_of(data: Mapping[str, Any], kind: type[msgspec.Struct], key: str) -> Any:
    """A property's map as a struct; ValueError names what is wrong in it."""
    found, wrong = convert_struct(data, kind)
    if wrong:
        said = "; ".join(f"{one.path}: {one.message}" if one.path else one.message for one in wrong)
        raise ValueError(f"`{key}`: {said}" + (f" ({wrong[0].hint})" if wrong[0].hint else ""))
    return found


def check_auth(said: Said) -> None:
    """ValueError for what names no secret, or says who calls in two ways."""
    if said is None or said == "none":
        return
    if isinstance(said, str):  # the message doesn't quote it: it may be a secret
        raise ValueError("`auth` must be `none`, or a map such as `{bearer: secret://NAME}`")
    auth: _Auth = struct_of(said, _Auth, "auth")
    ways = [name for name in ("bearer", "basic", "api_key") if getattr(auth, name) is not None]
    if len(ways) != 1:
        raise ValueError("`auth` needs one of `bearer`, `basic` and `api_key`")
    if ways != ["api_key"] and (auth.header is not None or auth.query is not None or auth.prefix):
        raise ValueError(f"`auth`: `header`, `query` and `prefix` belong to `api_key`, not to `{ways[0]}`")
    if auth.header is not None and auth.query is not None:
        raise ValueError("`auth`: say where the key goes: either `header` or `query`")
    if auth.basic is not None:
        secrets = {"basic.password": auth.basic.password}
        if is_reference(auth.basic.user):
            secrets["basic.user"] = auth.basic.user
    else:
        secrets = {ways[0]: getattr(auth, ways[0])}
    for key, reference in secrets.items():
        if not is_reference(reference):  # not quoted either
            raise ValueError(f"`auth.{key}` must name a secret, as in `secret://NAME` or `env:NAME`: a "
                             "secret itself has no place in a diagram")


def is_secret(value: Any) -> bool:
    """Whether a header or parameter is `secret://NAME`. `env:NAME` may be any text there."""
    return isinstance(value, str) and value.startswith(SECRET) and is_reference(value)


def unsecret(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Headers or parameters without those that are secrets."""
    if any(map(is_secret, values.values())):
        return {name: value for name, value in values.items() if not is_secret(value)}
    return values


async def secrets_of(said: Said, context: BodyContext, headers: Mapping[str, Any],
                     params: Mapping[str, Any]) -> http.Secrets:
    """The secrets that `auth`, headers and parameters name. ApiError names one that is missing or unfit."""
    auth = _Auth() if said is None or isinstance(said, str) else struct_of(said, _Auth, "auth")
    named = [one for one in (*headers.values(), *params.values()) if is_secret(one)]

    def look() -> http.Secrets:
        secrets = _resolved(auth, context)
        for values, into, what in (headers, secrets.headers, "headers"), (params, secrets.params, "params"):
            into.update({name: http.resolve(value, secrets, context.secret, f"`{what}.{name}`")
                         for name, value in values.items() if is_secret(value)})
        return secrets

    return await asked(look, *_references(auth), *named)


def _references(auth: _Auth) -> list[str]:
    said = [auth.bearer, auth.api_key]
    if auth.basic is not None:
        said += [auth.basic.user, auth.basic.password]
    return [one for one in said if one is not None]


def _resolved(auth: _Auth, context: BodyContext) -> http.Secrets:
    secrets = http.Secrets()
    if auth.bearer is not None:
        secrets.headers["Authorization"] = f"Bearer {http.resolve(auth.bearer, secrets, context.secret)}"
    elif auth.basic is not None:
        user = auth.basic.user
        if is_reference(user):
            # A user's name is hidden in errors, but no secret: results may be full of it.
            lookup = context.secret if user.startswith(SECRET) else Secrets().resolve
            user = http.resolve(user, secrets, lookup)
        pair = f"{user}:{http.resolve(auth.basic.password, secrets, context.secret)}"
        secrets.hide(pair)
        secrets.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif auth.api_key is not None:
        value = auth.prefix + http.resolve(auth.api_key, secrets, context.secret)
        if auth.query is not None:
            secrets.params[auth.query] = value
        else:
            secrets.headers[auth.header or "X-API-Key"] = value
    return secrets


async def environment_of(context: BodyContext) -> dict[str, str]:
    """What a program that a node starts gets beside our own environment: the variables of the execution, with
    their secrets looked up."""
    given = context.environment_vars
    return await asked(lambda: {name: context.variable(name) for name in given}, *given.values())


async def asked(look: Callable[[], _T], *references: str) -> _T:
    """What a function gives that looks up these references: in a thread, if a server may have to be asked."""
    if any(one.startswith(SECRET) for one in references):
        return await asyncio.to_thread(look)
    return look()
