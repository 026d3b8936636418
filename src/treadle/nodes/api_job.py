"""`api_job`: calls an HTTP API."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

import msgspec

from treadle.crypto.secrets import SECRET
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import Expression as Compiled
from treadle.diagram.node import Node
from treadle.diagram.types import Ports, Template
from treadle.errors import ExpressionError
from treadle.nodes import http
from treadle.nodes.auth import check_auth, secrets_of, struct_of, unsecret
from treadle.nodes.base import BodyContext, NodeKind
from treadle.nodes.files import plain
from treadle.nodes.filling import filled, is_expression, require_templates
from treadle.state.blob import Blob
from treadle.state.envelope import Envelope, infer

# Structures whose texts are templates. A type can't contain itself here, so `check` looks for unknown names
# this deep; below, it finds bad syntax alone.
_Deep4: TypeAlias = Template | dict[str, Template | Any] | list[Template | Any] | Any
_Deep3: TypeAlias = Template | dict[str, _Deep4] | list[_Deep4] | Any
_Deep2: TypeAlias = Template | dict[str, _Deep3] | list[_Deep3] | Any
_Deep1: TypeAlias = Template | dict[str, _Deep2] | list[_Deep2] | Any
_Values: TypeAlias = dict[str, Template | list[Template | Any] | Any]

_BODIES = ("json", "form", "text", "files", "content")
_PAGE_NAMES = ("body", "headers", "links", "status", "url", "page")
_ALWAYS = ("inputs", "nodes", "iteration", "attempt", "item", "index")


class ApiJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Calls an HTTP API; its result is the decoded body of the answer. It needs httpx:
    `pip install treadle[http]`.

    ```yaml
    treadle: 1
    inputs:
      server: {type: string, default: "https://api.github.com"}
      label: {type: string, default: bug}
    nodes:
      issues:
        type: api_job
        url: "{{ inputs.server }}/repos/pallets/jinja/issues"
        params: {labels: "{{ inputs.label }}", per_page: 50}
        headers: {Accept: application/json}
        retries: 3
        timeout: 30
    ```

    Where a value may be a template, a text that is exactly one `{{ expression }}` gives the value itself: a
    number stays a number, a list a list.

    Errors of the connection, timeouts and the statuses 408, 425, 429 and 5xx are tried again if the node has
    `retries`, no sooner than the server's `Retry-After` asks; any other failure ends the node at once.
    Without `timeout` a server may be silent for 60 seconds. The message of a failure has the method, the URL,
    the status and the start of the body, and never a secret. An `error` arrow has `details.status` and
    `details.body` (a text, 4096 characters at most) as well, if there was an answer.

    Secrets are named, never written: `secret://NAME` is looked up in the diagram's `secret_store`, `env:NAME`
    is the environment variable NAME (in `auth` only). They are sent to the host of `url` only, also when it
    redirects or its pages lead elsewhere.

    The envelope's meta has `status`, `url`, `headers` (names in small letters; without Set-Cookie and
    Authorization), `elapsed_s` (seconds, all pages together) and, with `paginate`, `pages`.
    """

    url: Template
    """Where to: `http://` or `https://`."""
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"] = "GET"
    """What to do there."""
    headers: _Values = {}
    """Headers by name; each value is a template, or `secret://NAME`. One that is none is left out."""
    params: _Values = {}
    """Parameters that the URL's query gets, by name; each value is a template, a list of them, which repeats
    the parameter, or `secret://NAME`. One that is none is left out."""
    json: Template | dict[str, _Deep1] | list[Template | dict[str, _Deep1]] | Any = None
    """A body to send as JSON: any structure, whose texts are templates."""
    form: _Values | None = None
    """A body to send as a form (`application/x-www-form-urlencoded`): fields by name, each like a
    parameter."""
    text: Template | None = None
    """A body to send as it is, in UTF-8; `text/plain` unless a header says otherwise."""
    files: dict[str, Template] | None = None
    """Files to send as `multipart/form-data`, by the name of their field: a path in the diagram's folder, or
    one `{{ expression }}` that gives a blob. The fields of `form` may go with them."""
    content: Template | None = None
    """A body to send as it is, of any size: one `{{ expression }}` that gives a blob or bytes;
    `application/octet-stream` unless a header says otherwise. Of `json`, `form`, `text`, `files` and
    `content` say one at most, but for `form` with `files`."""
    auth: str | dict[str, Any] | None = None
    """Who calls: `none`, `{bearer: secret://TOKEN}`, `{basic: {user: ann, password: env:PASSWORD}}`,
    `{api_key: env:KEY, header: X-API-Key}` (with `prefix: "Token "` before it, if need be) or
    `{api_key: env:KEY, query: key}`. Each may be `secret://NAME` or `env:NAME`, the user too."""
    expect: int | str | list[int | str] = "2xx"
    """The statuses that count as success: codes and classes, like `[2xx, 404]`."""
    response: Literal["auto", "json", "text", "bytes", "blob"] = "auto"
    """How the answer is decoded. `auto` goes by its Content-Type; what is neither JSON nor text is bytes. An
    empty body is none, unless `text`, `bytes` or `blob` is said. `blob` is for answers of any size: they go
    to the disk as they come, and the result is a handle with `open()`, `read()` and `path()`."""
    follow_redirects: bool = True
    """Whether to go where a redirect leads."""
    verify: bool = True
    """Whether the server must prove by its certificate who it is."""
    paginate: dict[str, str | int] | None = None
    """Calls again for further pages and joins their items into one list: `{next: …, items: …,
    pages_max: 100}`. `next` is an expression over `body`, `headers`, `links` (the URLs of the Link header by
    `rel`), `status`, `url` and `page` (from 1): it gives the next page's URL, or a map of parameters to
    change, or nothing (none, false, an empty text) at the last page. `items` gives a page's list (`body`
    unless said). `inputs` and `nodes` are there as well. More pages than `pages_max` are an error."""
    response_bytes_max: int = 64 * 1024 * 1024
    """Bytes that the answer may have, unpacked, all pages together; more are an error. Not for
    `response: blob`."""
    blob_bytes_max: int | None = None
    """The same for `response: blob`; without it the engine's limit holds (64 GB)."""
    idempotency: bool = True
    """Whether POST and PATCH send an `Idempotency-Key` (unless `headers` has one) that stays the same when
    the call is tried again, so that a server that knows it does the work once."""


class _Pages(msgspec.Struct, frozen=True):
    next: str
    items: str = "body"
    pages_max: int = 100


class _Filler:
    """Fills in the templates of one node's properties."""

    def __init__(self, context: BodyContext, inputs: dict[str, Any]) -> None:
        self.context, self.inputs = context, inputs

    def value(self, value: Any) -> Any:
        return filled(value, self.context, self.inputs)

    def fields(self, values: Mapping[str, Any]) -> dict[str, str | list[str]]:
        """Values as the texts of a query or form; none is left out."""
        filled = {name: self.value(value) for name, value in values.items()}
        return http.fields_of(filled)

    def headers(self, values: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for name, value in self.fields(values).items():
            text = ", ".join(value) if isinstance(value, list) else value
            http.require_header(text, f"header {name!r}")
            found[name] = text
        return found


class ApiJobStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        httpx = http.load()
        spec: ApiJob = node.spec
        fill = _Filler(context, inputs)
        secrets = await secrets_of(spec.auth, context, spec.headers, spec.params)
        started = time.monotonic()
        try:
            url = httpx.URL(context.render(spec.url, inputs).strip())
        except httpx.InvalidURL as error:
            raise http.ApiError(f"`url: {spec.url}` gave no URL: {error}") from None
        if url.scheme not in ("http", "https") or not url.host:
            raise http.ApiError(f"`url: {spec.url}` gave no URL that begins with http:// or https://")
        if url.userinfo:
            raise http.ApiError(f"`url: {spec.url}` gave a URL with a user in it: use `auth`")
        params = fill.fields(unsecret(spec.params))
        with ExitStack() as opened:
            call = _call(spec, context, fill, opened)
            call.url = url.copy_merge_params(params) if params else url
            async with http.client(secrets, url, verify=spec.verify, follow=spec.follow_redirects,
                                   timeout=node.policy.timeout) as client:
                reader = _Reader(spec, context, inputs, client, secrets)
                if spec.paginate is None:
                    answer = await reader.ask(call)
                    value, more = reader.body(answer), {}
                else:
                    value, answer, pages = await reader.pages(call)
                    more = {"pages": pages}
        meta = {"status": answer.status, "url": answer.url, "headers": answer.headers,
                "elapsed_s": round(time.monotonic() - started, 6), **more}
        return Envelope(context.node_id, context.node_id, infer(value), value, meta)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "api_job"


def _call(spec: ApiJob, context: BodyContext, fill: _Filler, opened: ExitStack) -> http.Call:
    """The request without its URL."""
    headers = fill.headers(unsecret(spec.headers))
    given = {name.lower() for name in headers}
    call = http.Call(spec.method, None, headers)
    if spec.idempotency and spec.method in ("POST", "PATCH") and "idempotency-key" not in given:
        headers["Idempotency-Key"] = quote(context.idempotency_key)
    kind = None
    if spec.json is not None:
        kind = "application/json"
        try:
            call.content = json.dumps(plain(fill.value(spec.json)), ensure_ascii=False,
                                      allow_nan=False).encode()
        except ValueError as error:
            if isinstance(error, ExpressionError):
                raise
            raise http.ApiError(f"`json` can't be sent as JSON: {error}") from None
    elif spec.text is not None:
        kind = "text/plain; charset=utf-8"
        call.content = context.render(spec.text, fill.inputs).encode()
    elif spec.content is not None:
        kind = "application/octet-stream"
        call.content, size = _content(spec.content, fill.value(spec.content))
        if "content-length" not in given:
            headers["Content-Length"] = str(size)
    if spec.form is not None:
        call.data = fill.fields(spec.form)
    if spec.files is not None:
        call.files = {name: _file(context, fill.value(said), opened) for name, said in spec.files.items()}
    if kind is not None and "content-type" not in given:
        headers["Content-Type"] = kind
    return call


def _content(said: str, value: Any) -> tuple[bytes | AsyncIterator[bytes], int]:
    """A body and its size in bytes."""
    if isinstance(value, Blob):
        return http.pieces(value.path()), value.size
    if isinstance(value, bytes):
        return value, len(value)
    raise http.ApiError(f"`content: {said}` gave a {type(value).__name__}, not a blob or bytes: use `text` "
                        "or `json`")


def _file(context: BodyContext, said: Any, opened: ExitStack) -> Any:
    """A file of a multipart body as httpx takes it."""
    if isinstance(said, Blob):
        return said.name or said.digest, opened.enter_context(said.open())
    if not isinstance(said, str):
        raise http.ApiError(f"`files` got a {type(said).__name__}, not a path or a blob")
    path, base = context.path(said).resolve(), context.path(".").resolve()
    if not path.is_relative_to(base):
        raise http.ApiError(f"`files`: {said!r} is outside the diagram's folder")
    try:
        return opened.enter_context(open(path, "rb"))
    except OSError as error:
        raise http.ApiError(f"`files`: {said!r} can't be read: {error.strerror}") from None


class _Reader:
    """Asks, decodes, and turns the pages."""

    def __init__(self, spec: ApiJob, context: BodyContext, inputs: dict[str, Any], client: Any,
                 secrets: http.Secrets) -> None:
        self.spec, self.context, self.inputs = spec, context, inputs
        self.client, self.secrets = client, secrets
        self.left = spec.response_bytes_max
        said = spec.expect
        self.expected = http.status_test(said if isinstance(said, list) else [said])

    async def ask(self, call: http.Call) -> http.Answer:
        large = self.spec.response == "blob"
        answer = await http.perform(self.client, call, self.secrets,
                                    bytes_max=self.spec.blob_bytes_max if large else self.left,
                                    expected=self.expected, now=self.context.now,
                                    place=self.context.place if large else None)
        self.left -= len(answer.body)
        return answer

    def body(self, answer: http.Answer) -> Any:
        """The body, decoded as the node says."""
        form = self.spec.response
        if form == "blob":
            return answer.blob
        if form == "auto":
            if not answer.body:
                return None
            form = http.form_of(answer.kind)
        if form == "bytes":
            return answer.body
        if form == "text":
            return http.decode(answer.body, answer.charset)
        if not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError) as error:
            # Redacted before it is cut.
            start = self.secrets.redact(http.decode(answer.body[:4096], answer.charset))[:http.SHOWN_CHARS]
            why = "nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise http.ApiError(f"{self.spec.method} {answer.url}: the answer is not JSON ({why}): {start}",
                                status=answer.status) from None

    async def pages(self, call: http.Call) -> tuple[list[Any], http.Answer, int]:
        """The items of all pages, the last answer, and how many pages there were."""
        assert self.spec.paginate is not None
        pages: _Pages = struct_of(self.spec.paginate, _Pages, "paginate")
        first, key = call.url, call.headers.get("Idempotency-Key")
        items: list[Any] = []
        seen = {str(first)}
        for number in range(1, pages.pages_max + 1):
            answer = await self.ask(call)
            names = {"body": self.body(answer), "headers": answer.headers, "links": answer.links,
                     "status": answer.status, "url": answer.url, "page": number}
            found = self._evaluate(pages.items, names)
            if not isinstance(found, list | tuple):
                raise http.ApiError(f"`paginate.items: {pages.items}` gave a {type(found).__name__} for page "
                                    f"{number}, not a list")
            items += found
            onward = self._evaluate(pages.next, names)
            if onward is None or onward is False or onward == "" or onward == {}:
                return items, answer, number
            call.url = self._onward(onward, first, answer, pages)
            if str(call.url) in seen:
                raise http.ApiError(f"`paginate.next: {pages.next}` leads from page {number} to one that was "
                                    f"there before: {self.secrets.url(call.url)}")
            seen.add(str(call.url))
            if key is not None and "Idempotency-Key" not in self.spec.headers:
                call.headers["Idempotency-Key"] = f"{key}/page-{number + 1}"  # another request, another key
        raise http.ApiError(f"there are more than {pages.pages_max} pages: raise `paginate.pages_max`, or "
                            "let `next` end earlier")

    def _onward(self, onward: Any, first: Any, answer: http.Answer, pages: _Pages) -> Any:
        import httpx
        if isinstance(onward, Mapping):
            return first.copy_merge_params(http.fields_of(onward))
        if isinstance(onward, str):
            try:
                url = answer.place.join(onward)
            except httpx.InvalidURL:
                url = None
            if url is not None and url.scheme in ("http", "https") and not url.userinfo:
                return url
        raise http.ApiError(f"`paginate.next: {pages.next}` gave a {type(onward).__name__} that is no URL "
                            "and no map of parameters")

    def _evaluate(self, expression: str, names: dict[str, Any]) -> Any:
        try:
            return self.context.evaluate(expression, {**self.inputs, **names})
        except ExpressionError as error:
            raise ExpressionError(self.secrets.redact(f"`paginate`: {error}")) from None


class ApiJobKind(NodeKind):
    def ports(self, spec: ApiJob, node: Node, base: str) -> Ports:
        said = [name for name in _BODIES if getattr(spec, name) is not None]
        if len(said) > 1 and said != ["form", "files"]:
            raise ValueError(f"say one body at most, not {' and '.join(f'`{name}`' for name in said)}")
        if "{" not in spec.url[:2] and not re.match(r"https?://[^/]", spec.url, re.IGNORECASE):
            raise ValueError(f"`url` must begin with http:// or https://, not {spec.url!r:.80}")
        if re.match(r"[a-z]+://[^/?#]*@", spec.url, re.IGNORECASE):
            raise ValueError("`url` has a user in it: use `auth: {basic: {user: …, password: env:NAME}}`")
        for name, value in spec.headers.items():
            if name.lower() in ("authorization", "proxy-authorization") and (
                    "{{" not in str(value) and SECRET not in str(value)):
                raise ValueError(f"`headers.{name}` is a secret in the diagram: use `auth` with env:NAME")
        if spec.response_bytes_max < 1:
            raise ValueError(f"`response_bytes_max` must be at least 1, not {spec.response_bytes_max}")
        _check_blob(spec)
        http.status_test(spec.expect if isinstance(spec.expect, list) else [spec.expect])
        for value in (spec.headers, spec.params, spec.json, spec.form, spec.files):
            require_templates(value, base)
        if spec.content is not None and not is_expression(spec.content):
            raise ValueError(f"`content` takes one expression, as in '{{{{ fetch }}}}', not "
                             f"{spec.content!r:.80}; a text is `text`")
        check_auth(spec.auth)
        if spec.paginate is not None:
            _check_pages(struct_of(spec.paginate, _Pages, "paginate"))
        return Ports()


def _check_blob(spec: ApiJob) -> None:
    if spec.response != "blob":
        if spec.blob_bytes_max is not None:
            raise ValueError("`blob_bytes_max` is for `response: blob`; others have `response_bytes_max`")
        return
    if spec.paginate is not None:
        raise ValueError("`paginate` looks into the answer, and `response: blob` doesn't: leave one out")
    if spec.blob_bytes_max is not None and spec.blob_bytes_max < 1:
        raise ValueError(f"`blob_bytes_max` must be at least 1, not {spec.blob_bytes_max}")


def _check_pages(pages: _Pages) -> None:
    if pages.pages_max < 1:
        raise ValueError(f"`paginate.pages_max` must be at least 1, not {pages.pages_max}")
    known = {*_PAGE_NAMES, *_ALWAYS}
    for key, text in (("next", pages.next), ("items", pages.items)):
        unknown = sorted(Compiled.compile(text).names - known)
        if unknown:
            raise ValueError(f"`paginate.{key}`: unknown name {unknown[0]!r}; there is: "
                             f"{', '.join((*_PAGE_NAMES, *_ALWAYS))}")


KIND = ApiJobKind("api_job", ApiJob, ApiJobStrategy(), secrets=("auth", "headers", "params"))
