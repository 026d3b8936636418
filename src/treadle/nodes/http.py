"""One HTTP call at a time, with httpx: secrets stay out of sight, bodies are bounded, failures say whether to
try again.

httpx is an extra (`treadle[http]`): it is imported where a call is made, never with this module, and so is
whatever else takes long to import: every program imports this module.
"""

from __future__ import annotations

import asyncio
import base64
import codecs
import functools
import json
import re
import types
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import quote, quote_plus, unquote

import msgspec

from treadle.errors import NoSuchSecret, SecretError, TreadleError
from treadle.nodes.files import plain
from treadle.state.blob import CHUNK_BYTES, Blob, Place, Writer

if TYPE_CHECKING:
    import ssl

    import httpx

HIDDEN = "***"
SHOWN_CHARS = 200
"""Characters of a failed answer's body that its error shows."""
KEPT_CHARS = 4096
"""Characters of it that the error's details keep."""
SILENCE_S = 60.0
"""Seconds that a server may be silent if the node has no `timeout`."""
_CONNECT_S = 10.0
_FAILED_BYTES = 64 * 1024  # of a failed answer's body
_RETRYABLE = frozenset((408, 425, 429))
_UNKEPT_HEADERS = frozenset(("set-cookie", "authorization", "proxy-authorization"))
_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|auth|sig|credential|session|code", re.IGNORECASE)


class ApiError(TreadleError, RuntimeError):
    """A call that failed. `status` is the answer's (None: there was none), `retryable` whether it may go
    better next time, `retry_after` the seconds that the server asks to wait. `details` has the `status` and
    the start of the `body`, as text, if there was an answer."""

    def __init__(self, message: str, *, retryable: bool = False, status: int | None = None,
                 retry_after: float | None = None, body: str = "") -> None:
        super().__init__(message)
        if status is not None:
            self.details = {"status": status, "body": body}
        self.retryable, self.status, self.retry_after = retryable, status, retry_after


class Secrets:
    """What proves who calls: header and query values that join a request at the last moment, and what hides
    them in texts."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.params: dict[str, str] = {}
        self._hidden: set[str] = set()

    def hide(self, value: str) -> None:
        """Never show a value, nor its usual encodings."""
        raw = base64.b64encode(value.encode()).decode()
        self._hidden |= {value, quote(value), quote(value, safe=""), quote_plus(value), raw,
                         repr(value)[1:-1], msgspec.json.encode(value).decode()[1:-1]}

    def redact(self, text: str) -> str:
        for one in sorted(self._hidden, key=len, reverse=True):
            text = text.replace(one, HIDDEN)
        return text

    def url(self, url: httpx.URL) -> str:
        """A URL as it may be shown: without a user, and without the values of parameters that sound
        secret."""
        shown = [(name, HIDDEN if _SECRET_NAME.search(name) else value)
                 for name, value in url.params.multi_items()]
        place = f"{url.scheme}://{url.netloc.decode('ascii')}{url.raw_path.decode('ascii').partition('?')[0]}"
        query = "&".join(f"{quote(name)}={quote(value, safe='/:,*')}" for name, value in shown)
        return self.redact(f"{place}?{query}" if query else place)


class Call(msgspec.Struct):
    """One request. `content`, `data` and `files` are its body; `data` may go with `files`."""

    method: str
    url: Any  # httpx.URL
    headers: dict[str, str]
    content: bytes | AsyncIterator[bytes] | None = None
    data: Mapping[str, Any] | None = None
    files: Mapping[str, Any] | None = None


class Answer(msgspec.Struct):
    """What came back, whole."""

    status: int
    url: str
    headers: dict[str, str]  # without what must not be kept
    links: dict[str, str]
    kind: str  # the media type, without parameters
    charset: str | None
    body: bytes
    place: Any  # httpx.URL, for what is relative to it
    blob: Blob | None = None  # the body, if that was wished


def load() -> types.ModuleType:
    """httpx, or an error that says how to install it."""
    try:
        import httpx
    except ImportError:
        raise ApiError("api_job needs httpx, which is not installed: pip install treadle[http]") from None
    return httpx


@functools.lru_cache(maxsize=2)
def tls(verify: bool) -> ssl.SSLContext:
    """How certificates are checked."""
    # Reading the authorities takes 20 ms; the context may be shared.
    import httpx
    return httpx.create_ssl_context(verify=verify)


def proxy_of(url: httpx.URL) -> str | None:
    """The proxy that the environment names for a URL."""
    import urllib.request

    proxies = urllib.request.getproxies()
    proxy = proxies.get(url.scheme, proxies.get("all"))
    return None if proxy is not None and urllib.request.proxy_bypass(url.host) else proxy


class _Transport:
    """httpx's transport, which adds the secrets below the client: its logs, redirects and errors never have
    them. They go to the origin of the first URL only."""

    def __init__(self, secrets: Secrets, home: httpx.URL, verify: bool) -> None:
        self.secrets, self.home, self.verify = secrets, home, verify
        self.open: dict[str | None, httpx.AsyncHTTPTransport] = {}  # by proxy

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        import httpx
        transport = self._transport(request.url)
        if (self.secrets.headers or self.secrets.params) and _same_place(self.home, request.url):
            headers = httpx.Headers(request.headers)
            headers.update(self.secrets.headers)
            url = request.url.copy_merge_params(self.secrets.params) if self.secrets.params else request.url
            request = httpx.Request(request.method, url, headers=headers, stream=request.stream,
                                    extensions=request.extensions)
        return await transport.handle_async_request(request)

    def _transport(self, url: httpx.URL) -> httpx.AsyncHTTPTransport:
        import httpx
        proxy = proxy_of(url)
        if proxy not in self.open:
            self.open[proxy] = httpx.AsyncHTTPTransport(verify=tls(self.verify), proxy=proxy)
        return self.open[proxy]

    async def __aenter__(self) -> _Transport:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        for transport in self.open.values():
            await transport.aclose()


def _same_place(home: httpx.URL, other: httpx.URL) -> bool:
    """Whether secrets for one may go to the other: the same origin, or the same host made safer."""
    if home.host != other.host:
        return False
    if (home.scheme, home.port) == (other.scheme, other.port):
        return True
    return (home.scheme, other.scheme, home.port, other.port) == ("http", "https", None, None)


def client(secrets: Secrets, home: httpx.URL, *, verify: bool, follow: bool,
           timeout: float | None) -> httpx.AsyncClient:
    """A client for the calls of one attempt; close it."""
    import httpx
    silence = timeout if timeout is not None else SILENCE_S
    return httpx.AsyncClient(
        transport=_Transport(secrets, home, verify),  # type: ignore[arg-type]  # it has all that is used
        follow_redirects=follow, timeout=httpx.Timeout(silence, connect=min(_CONNECT_S, silence)))


async def perform(calls: httpx.AsyncClient, call: Call, secrets: Secrets, *, bytes_max: int | None,
                  expected: Callable[[int], bool], now: Callable[[], float],
                  place: Place | None = None) -> Answer:
    """Make a call and read its answer; with `place` its body becomes a blob there. ApiError for anything but
    an expected status."""
    import httpx
    said = f"{call.method} {secrets.url(call.url)}"
    try:
        async with calls.stream(call.method, call.url, headers=call.headers, content=call.content,
                                data=call.data, files=call.files) as response:
            if not expected(response.status_code):
                raise await _refused(response, said, secrets, now)
            body, blob = b"", None
            if place is None:
                body = b"".join([part async for part in _parts(response, said, bytes_max)])
            else:
                name = unquote(response.url.path).rpartition("/")[2]
                blob = await _stream(_parts(response, said, bytes_max, "blob_bytes_max"),
                                     Writer(place, secrets.redact(name)))
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        final = isinstance(error, httpx.UnsupportedProtocol | httpx.LocalProtocolError)
        retryable = isinstance(error, httpx.TransportError) and not final
        # Its own words may quote what was sent.
        why = secrets.redact(f"{type(error).__name__}: {error}".rstrip(": "))
        raise ApiError(f"{said}: {why}", retryable=retryable) from None
    kept = {name: secrets.redact(value) for name, value in response.headers.items()
            if name not in _UNKEPT_HEADERS}
    links = {rel: str(response.url.join(link["url"])) for rel, link in response.links.items()
             if rel and "url" in link}
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    return Answer(response.status_code, secrets.url(response.url), kept, links, kind,
                  response.charset_encoding, body, response.url, blob)


async def pieces(path: Path) -> AsyncIterator[bytes]:
    """What a file has, a megabyte at a time."""
    with await asyncio.to_thread(path.open, "rb") as file:
        while part := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield part


async def _parts(response: httpx.Response, said: str, bytes_max: int | None,
                 limit: str = "response_bytes_max") -> AsyncIterator[bytes]:
    if "," in response.headers.get("content-encoding", ""):
        # A few bytes could grow a million times.
        raise ApiError(f"{said}: the answer is compressed more than once")
    size = 0
    async for part in response.aiter_bytes():
        size += len(part)
        if bytes_max is not None and size > bytes_max:
            raise ApiError(f"{said}: the answer has more than {bytes_max} bytes: raise `{limit}`, "
                           "or ask for less", status=response.status_code)
        yield part


async def _stream(parts: AsyncIterator[bytes], writer: Writer) -> Blob:
    """A blob of what comes, a megabyte at a time. Hashing and writing are a thread's."""
    with writer:
        waiting = bytearray()
        async for part in parts:
            waiting += part
            if len(waiting) >= CHUNK_BYTES:
                await asyncio.to_thread(writer.write, waiting)
                waiting = bytearray()
        await asyncio.to_thread(writer.write, waiting)
        return await asyncio.to_thread(writer.finish)


async def _refused(response: httpx.Response, said: str, secrets: Secrets,
                   now: Callable[[], float]) -> ApiError:
    """The error for a status that doesn't count as success, with the start of the body."""
    import httpx
    parts = bytearray()
    try:
        if "," not in response.headers.get("content-encoding", ""):
            async for part in response.aiter_bytes():
                parts += part
                if len(parts) >= _FAILED_BYTES:
                    break
    except (httpx.HTTPError, httpx.StreamError):
        pass  # the status is what counts
    status = response.status_code
    # Redacted before it is cut: half a secret is one too.
    text = secrets.redact(decode(bytes(parts[:_FAILED_BYTES]), response.charset_encoding))
    body = " ".join(text.split())
    shown = body if len(body) <= SHOWN_CHARS else body[:SHOWN_CHARS] + "…"
    reason = secrets.redact(f" {response.reason_phrase}".rstrip())
    return ApiError(f"{said}: status {status}{reason}" + (f": {shown}" if shown else ""), status=status,
                    body=text[:KEPT_CHARS],
                    retryable=status in _RETRYABLE or 500 <= status <= 599,
                    retry_after=retry_after(response.headers.get("retry-after"), now()))


def retry_after(said: str | None, now: float) -> float | None:
    """The seconds that a Retry-After header asks for; None if it is missing or means nothing."""
    if said is None:
        return None
    from email.utils import parsedate_to_datetime

    if re.fullmatch(r"[0-9]{1,9}", said.strip()):
        return float(said)
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def decode(body: bytes, charset: str | None) -> str:
    """A body's text; bytes that are none stand as U+FFFD."""
    try:
        return body.decode(codecs.lookup(charset or "utf-8").name, errors="replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", errors="replace")


def status_test(expected: Iterable[int | str]) -> Callable[[int], bool]:
    """Whether a status is one of some codes and classes (`2xx`). ValueError for what is neither."""
    codes: set[int] = set()
    for one in expected:
        if isinstance(one, str) and re.fullmatch(r"[1-5]xx", one.lower()):
            codes |= set(range(int(one[0]) * 100, int(one[0]) * 100 + 100))
        elif re.fullmatch(r"[1-5][0-9][0-9]", str(one)):
            codes.add(int(one))
        else:
            raise ValueError(f"`expect`: {one!r} is no status: write a code (404) or a class ('2xx')")
    return codes.__contains__


def form_of(kind: str) -> Literal["json", "text", "bytes"]:
    """How a media type is decoded."""
    if kind == "application/json" or kind.endswith("+json"):
        return "json"
    texts = ("application/xml", "application/javascript", "application/yaml", "application/x-ndjson",
             "application/x-www-form-urlencoded")
    return "text" if kind.startswith("text/") or kind.endswith("+xml") or kind in texts else "bytes"


def require_header(text: str, what: str) -> None:
    """ApiError for a text that no header may have."""
    # httpx would quote the value in its error.
    if not text.isascii() or not text.isprintable():
        raise ApiError(f"{what} has a line break or a character that is not ASCII, which no header may "
                            "have")


def resolve(reference: str, secrets: Secrets, lookup: Callable[[str], str], what: str = "`auth`") -> str:
    """The value of a reference, hidden from now on. ApiError names the secret that is missing or unfit, and
    `what` names it."""
    try:
        value = lookup(reference)
    except (NoSuchSecret, SecretError) as error:
        raise ApiError(f"{what}: {error}", retryable=isinstance(error, SecretError)) from None
    secrets.hide(value)
    require_header(value, f"{what}: the secret {reference}")
    return value


def text_of(value: Any) -> str:
    """A value as it stands in a query, form or header."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(plain(value), ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def fields_of(values: Mapping[Any, Any]) -> dict[str, str | list[str]]:
    """Values as the texts of a query, form or head; none is left out, a list repeats its name."""
    return {str(name): [text_of(one) for one in value] if isinstance(value, list | tuple) else text_of(value)
            for name, value in values.items() if value is not None}
