"""Who may come in, and what everybody gets with an answer: tokens, cookies, hosts, origins, limits, headers.

Every request passes the `Guard` first. A program shows its token in `Authorization: Bearer`. A browser comes
once with `/?token=…`, gets a cookie that no script can read and that no other site's page can send, and is
sent on to the same address without the token. Whoever comes by cookie writes, and opens WebSockets, only from
a page of this server: the Origin must be ours, and a write has the header `X-Treadle`, which forms of other
sites can't send. The Host must be a name of ours, so that no foreign name that was bent to this address
reaches us. Paths for probes are open, and say nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any, Literal
from urllib.parse import parse_qsl, urlencode

import msgspec

from treadle.monitor.settings import Settings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Right = Literal["write", "read"]

OPEN = ("/healthz", "/readyz")
"""Paths that need no token and no name: they say nothing but whether we are well."""
LOOPBACK = ("localhost", "127.0.0.1", "::1")
HEADER = "x-treadle"
ADDRESSES_MAX = 10_000
"""Clients whose requests are counted; those seen longest ago are forgotten."""
SAFE = ("GET", "HEAD", "OPTIONS")
FOREIGN = ("cross-site", "same-site")
"""What browsers say in Sec-Fetch-Site of requests that a page of another server made. Servers at other ports
of one machine are the same site, and get each other's cookies."""
CSP = ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
       "font-src 'self'; connect-src 'self'; worker-src 'self'; manifest-src 'self'; media-src 'self' blob:; "
       "base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
"""For the page: scripts and styles only from us, none inline."""
HEADERS = {"content-security-policy": CSP, "x-content-type-options": "nosniff", "x-frame-options": "DENY",
           "referrer-policy": "no-referrer", "cross-origin-opener-policy": "same-origin",
           "cross-origin-resource-policy": "same-origin", "cache-control": "no-store"}
"""What every answer has that doesn't say it itself."""


class Viewer(msgspec.Struct, frozen=True):
    """Who asks. `cookie`: a browser, whose pages may be anybody's."""

    may_write: bool
    cookie: bool = False


class Rate:
    """So many in a second for each key, and a burst at once."""

    def __init__(self, per_s: float, burst: float, now: Callable[[], float] = time.monotonic) -> None:
        self._per_s, self._burst, self._now = per_s, burst, now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, key: str, cost: float = 1.0) -> float:
        """Take one; 0.0, or the seconds until there is one again."""
        now = self._now()
        left, at = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - at) * self._per_s)
        short = cost - left
        self._left[key] = (left - cost if short <= 0 else left, now)
        if len(self._left) > ADDRESSES_MAX:
            self._left.popitem(last=False)
        return max(0.0, short / self._per_s)


class _No(Exception):
    def __init__(self, status: int, kind: str, message: str, hint: str = "",
                 headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.kind, self.message, self.hint = status, kind, message, hint
        self.headers = headers or {}


class Guard:
    """The first to see a request. It lets through with `scope["viewer"]` (None where none is known: the page
    itself may be read by anybody who reaches us, for it holds nothing)."""

    def __init__(self, app: App, settings: Settings) -> None:
        self._app, self._settings = app, settings
        self._requests = Rate(settings.requests_per_s, settings.burst)
        self._refusals = Rate(settings.refused_per_minute / 60, settings.refused_per_minute)
        self._given = {one.lower().strip("[]") for one in settings.names}
        self._names = {*LOOPBACK, *self._given}
        if settings.host not in ("0.0.0.0", "::", ""):
            self._names.add(settings.host.lower().strip("[]"))
        tokens: dict[Right, str] = {"write": settings.write_token, "read": settings.read_token}
        self._tokens = {right: token for right, token in tokens.items() if token}
        self._cookies = {right: _cookie_of(token) for right, token in self._tokens.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("", 0))[0]
        try:
            if scope["type"] == "http" and scope["path"] in OPEN:
                self._check_rate(f"{address} probes")
                await self._app(scope, receive, with_headers(send))
                return
            headers = _headers(scope)
            # Whoever has no token can't use up what those have who come from the same address.
            self._check_rate(f"{address} known" if self._knows(scope, headers) else address)
            self._check_host(scope, headers)
            if scope["type"] == "http":
                if (moved := self._welcome(scope, headers, address)) is not None:
                    await _answer(with_headers(send), 303, b"", moved)
                    return
                receive = self._bounded(headers, receive)
            scope["viewer"] = viewer = self._viewer(headers, address)
            self._check_origin(scope, headers, viewer)
            if scope["path"].startswith("/api/") and "raw_path" in scope:
                scope["path"] = scope["raw_path"].decode("latin-1").partition("?")[0]  # `%2F` is no slash
        except _No as no:
            await self._refuse(scope, receive, send, no)
            return
        if scope["type"] == "websocket":
            await self._app(scope, receive, send)
            return
        try:
            await self._app(scope, receive, with_headers(send))
        except _No as no:  # of the body, while somebody reads it
            await self._refuse(scope, receive, send, no)

    # What is checked

    def _check_rate(self, key: str) -> None:
        wait = self._requests.wait(key)
        if wait:
            raise _No(429, "TooManyRequests", "too many requests", "slow down",
                      {"retry-after": str(int(wait) + 1)})

    def _knows(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        """Whether a request has a right token or cookie. A foreign page's request is not its viewer's."""
        if headers.get("sec-fetch-site") in FOREIGN:
            return False
        said = headers.get("authorization", "").partition(" ")[2].strip() or _token_in(scope)
        return (_compared(said, self._tokens) if said else self._by_cookie(headers)) is not None

    def _by_cookie(self, headers: Mapping[str, str]) -> Right | None:
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self._cookie_name(headers))
        except CookieError:
            return None
        return None if morsel is None else _compared(morsel.value, self._cookies)

    def _check_host(self, scope: Scope, headers: Mapping[str, str]) -> None:
        name = _host_name(headers.get("host", ""))
        # The very address that the connection came to is no name that somebody could bend.
        if name not in self._names and name != (scope.get("server") or ("", 0))[0]:
            raise _No(403, "ForeignHost", f"this server is not called {name!r}",
                      "open it by the address that it printed, or start it with --allow-host NAME")

    def _welcome(self, scope: Scope, headers: Mapping[str, str], address: str) -> dict[str, str] | None:
        """For a page's address with a token: where to go on, with a cookie if the token is right."""
        token = _token_in(scope)
        if token is None:
            return None
        rest = urlencode([(name, value) for name, value in _pairs(scope) if name != "token"])
        path = scope.get("raw_path", scope["path"].encode()).decode("latin-1").partition("?")[0]
        path = "/" + path.lstrip("/\\")  # two slashes would begin another server's name
        moved = {"location": path + (f"?{rest}" if rest else "")}
        found = self._right_of(token, address)
        if found is None:
            return moved  # the page says that it is not let in
        flags = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if self._settings.secure else "")
        return {**moved, "set-cookie": f"{self._cookie_name(headers)}={self._cookies[found]}{flags}"}

    def _cookie_name(self, headers: Mapping[str, str]) -> str:
        # Browsers keep cookies by host and not by port: two monitors on one machine need two names.
        port = headers.get("host", "").rpartition(":")[2]
        return f"treadle_{port}" if port.isdecimal() else "treadle"

    def _right_of(self, token: str, address: str) -> Right | None:
        """What a token allows. What is wrong is counted."""
        found = _compared(token, self._tokens)
        if found is None and (wait := self._refusals.wait(address)):
            raise _No(429, "TooManyRequests", "too many wrong tokens", "wait a minute",
                      {"retry-after": str(int(wait) + 1)})
        return found

    def _viewer(self, headers: Mapping[str, str], address: str) -> Viewer | None:
        said = headers.get("authorization")
        if said is not None:
            kind, _, token = said.partition(" ")
            found = self._right_of(token.strip(), address) if kind.lower() == "bearer" else None
            if found is None:
                raise _No(401, "WrongToken", "the token is not right",
                          "use the one that the server printed, or of its token file",
                          {"www-authenticate": "Bearer"})
            return Viewer(found == "write")
        # A cookie that was right before a restart is no attack: it isn't counted.
        found = self._by_cookie(headers)
        return None if found is None else Viewer(found == "write", cookie=True)

    def _check_origin(self, scope: Scope, headers: Mapping[str, str], viewer: Viewer | None) -> None:
        socket = scope["type"] == "websocket"
        if socket and viewer is None:
            raise _No(401, "NoToken", "this needs a token", "open the link that the server printed")
        by_cookie = viewer is not None and viewer.cookie
        if not socket and scope["method"] in SAFE:
            if by_cookie and scope["path"].startswith("/api/") and headers.get("sec-fetch-site") in FOREIGN:
                raise _No(403, "CrossSite", "another site's page asks for this", "open it from our own page")
            return
        origin = headers.get("origin")
        ours = f"{'https' if self._settings.secure else 'http'}://{headers.get('host', '')}"
        if origin is None and not by_cookie:
            return  # a program: its token is its right
        theirs = None if origin is None else origin.lower()
        named = _host_name(headers.get("host", "")) in self._given
        # Behind a proxy that speaks TLS for us a page of ours says https.
        if theirs != ours.lower() and not (named and theirs == ours.lower().replace("http:", "https:", 1)):
            raise _No(403, "CrossSite", f"the request comes from {origin or 'nowhere that it says'}, and not "
                                        f"from {ours}", "programs show a token in `Authorization: Bearer`")
        if by_cookie and not socket and HEADER not in headers:
            raise _No(403, "CrossSite", "a write by cookie needs the header `X-Treadle: 1`",
                      "programs show a token in `Authorization: Bearer`")

    def _bounded(self, headers: Mapping[str, str], receive: Receive) -> Receive:
        most = self._settings.body_bytes_max
        too_large = _No(413, "TooLarge", f"the body has more than {most} bytes",
                        "name a file that the server has, or raise Settings(body_bytes_max=…)",
                        {"connection": "close"})
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > most:
            raise too_large
        seen = 0

        async def bounded() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > most:
                raise too_large
            return message

        return bounded

    async def _refuse(self, scope: Scope, receive: Receive, send: Send, no: _No) -> None:
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            if "websocket.http.response" in scope.get("extensions", {}):
                start: Message = {"type": "websocket.http.response.start", "status": no.status,
                                  "headers": [(b"content-type", b"application/json")]}
                await send(start)
                body = problem(no.kind, no.message, no.hint)
                await send({"type": "websocket.http.response.body", "body": body})
            else:
                await send({"type": "websocket.close", "code": 1008, "reason": no.message[:120]})
            return
        await _answer(with_headers(send), no.status, problem(no.kind, no.message, no.hint),
                      {"content-type": "application/json", **no.headers})


def problem(kind: str, message: str, hint: str | None = None, **more: Any) -> bytes:
    """The body of every answer that is no success."""
    return msgspec.json.encode({"error": {"type": kind, "message": message, "hint": hint or None, **more}})


def _token_in(scope: Scope) -> str | None:
    """The token in a page's address."""
    if scope.get("method") != "GET" or scope["path"].startswith("/api/"):
        return None
    return next((value for name, value in _pairs(scope) if name == "token"), None)


def _pairs(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)


def _compared(said: str, known: Mapping[Right, str]) -> Right | None:
    """Whose it is. All are compared, each in a time that tells nothing."""
    raw, found = said.encode("utf-8", "replace"), None
    for right, token in known.items():
        if hmac.compare_digest(raw, token.encode()):
            found = found or right
    return found


def _cookie_of(token: str) -> str:
    """What the cookie holds: not the token itself, and the same after a restart with the same token."""
    return hmac.new(token.encode(), b"the cookie of treadle's monitor", hashlib.sha256).hexdigest()


def _headers(scope: Scope) -> dict[str, str]:
    found: dict[str, str] = {}
    for raw, value in scope["headers"]:
        name = raw.decode("latin-1").lower()
        if name in ("host", "origin", "authorization", "content-length") and name in found:
            raise _No(400, "BadRequest", f"the header {name} is given twice")
        # Browsers with HTTP/2 may send several.
        text = value.decode("latin-1")
        found[name] = f"{found[name]}; {text}" if name in found else text
    return found


def _host_name(host: str) -> str:
    """The name in a Host header, without port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower().rstrip(".")


def with_headers(send: Send) -> Send:
    """Sends answers with what each has."""
    async def more(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message.get("headers", [])}
            message = {**message, "headers": [*message.get("headers", []), *(
                (name.encode(), value.encode()) for name, value in HEADERS.items()
                if name.encode() not in given)]}
        await send(message)

    return more


async def _answer(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [
        *((name.encode(), value.encode("latin-1")) for name, value in headers.items()),
        (b"content-length", str(len(body)).encode())]})
    await send({"type": "http.response.body", "body": body})
