"""Who calls: what `auth` of a node says. Secrets are named there, and looked up when a call is made."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec

from treadle.diagram.formats.values import convert_struct
from treadle.nodes import http

Said: TypeAlias = str | Mapping[str, Any] | None
_REFERENCE = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*")


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
        raise ValueError("`auth` must be `none`, or a map such as `{bearer: env:NAME}`")
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
        if auth.basic.user.startswith("env:"):
            secrets["basic.user"] = auth.basic.user
    else:
        secrets = {ways[0]: getattr(auth, ways[0])}
    for key, reference in secrets.items():
        if not _REFERENCE.fullmatch(reference):  # not quoted either
            raise ValueError(f"`auth.{key}` must name an environment variable, as in `env:NAME`: a secret "
                             "has no place in a diagram")


def secrets_of(said: Said) -> http.Secrets:
    """The secrets that `auth` names. ApiError names a variable that is missing or unfit."""
    secrets = http.Secrets()
    if said is None or isinstance(said, str):
        return secrets
    auth: _Auth = struct_of(said, _Auth, "auth")
    if auth.bearer is not None:
        secrets.headers["Authorization"] = f"Bearer {http.resolve(auth.bearer, secrets)}"
    elif auth.basic is not None:
        user = auth.basic.user
        user = http.resolve(user, secrets) if user.startswith("env:") else user
        pair = f"{user}:{http.resolve(auth.basic.password, secrets)}"
        secrets.hide(pair)
        secrets.headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
    elif auth.api_key is not None:
        value = auth.prefix + http.resolve(auth.api_key, secrets)
        if auth.query is not None:
            secrets.params[auth.query] = value
        else:
            secrets.headers[auth.header or "X-API-Key"] = value
    return secrets
