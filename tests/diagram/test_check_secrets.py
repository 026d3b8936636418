"""A reference to a secret that nobody would look up is refused where it stands."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from treadle.crypto.secrets import is_reference
from treadle.diagram.check import check
from treadle.diagram.check.secrets import broken
from treadle.diagram.formats import loads
from treadle.errors import InvalidDiagram
from treadle.nodes.base import NodeKind
from treadle.nodes.registry import default_registry

_CODE = "in code by context.secret('secret://NAME')"
_CALL = f"it is looked up in auth, headers, params, and {_CODE}"
_ALONE = "a secret is looked up only where the whole value is secret://NAME"
_TEXT = "a secret is not looked up here: 'secret://…' would stay a text"


def said(node: str, registry: Any = None) -> list[str]:
    spec = loads(f"treadle: 1\nnodes:\n  n: {{{node}}}\n", file="d.yaml")
    return [str(fault) for fault in check(spec, registry or default_registry()).faults]


@pytest.mark.parametrize(("node", "at", "message", "hint"), [
    ("type: api_job, url: 'http://h', json: {a: [{token: secret://T}]}", "json.a[0].token", _TEXT, _CALL),
    ("type: api_job, url: 'http://h', method: POST, form: {t: secret://T}", "form.t", _TEXT, _CALL),
    ("type: hook, kind: http, url: 'http://h', body: secret://T", "body", _TEXT,
     f"it is looked up in auth, env, headers, params, and {_CODE}"),
    ("type: hook, kind: shell, command: run, args: [secret://T]", "args[0]", _TEXT,
     f"it is looked up in auth, env, headers, params, and {_CODE}"),
    ("type: db, operation: sql, url: 'sqlite:///d.db', query: SELECT ?, params: [secret://T]", "params[0]",
     _TEXT, f"it is looked up in url, and {_CODE}"),
    ("type: db, operation: write, file: secret://T", "file", _TEXT, f"it is looked up in url, and {_CODE}"),
    ("type: template_job, text: ' secret://T '", "text", _TEXT, f"it is looked up {_CODE}"),
    ("type: user_response, prompt: secret://T", "prompt", _TEXT, f"it is looked up {_CODE}"),
    ("type: api_job, url: 'http://h', headers: {X: 'Token secret://T'}", "headers.X", _ALONE,
     "with a word before it: auth: {bearer: …}, or {api_key: …, prefix: …}"),
    ("type: api_job, url: 'http://h', params: {x: [a, secret://T]}", "params.x[1]", _ALONE,
     "with a word before it: auth: {bearer: …}, or {api_key: …, prefix: …}"),
    ("type: hook, kind: shell, command: run, env: {X: 'a secret://T'}", "env.X", _ALONE,
     "with a word before it: auth: {bearer: …}, or {api_key: …, prefix: …}"),
])
def test_a_reference_in_the_wrong_place_is_an_error(node: str, at: str, message: str, hint: str) -> None:
    assert said(node) == [f"d.yaml:3: node 'n': {at}: {message} ({hint})"]


def test_a_variable_is_a_reference_or_has_none() -> None:
    spec = loads("treadle: 1\nnodes: {n: {type: start}}\n"
                 "environment_vars: {A: 'secret://a', B: 'x secret://b', C: 'secret://bad name'}\n")
    assert [fault.message for fault in check(spec, default_registry()).faults] == [
        f"environment_vars.{name}: {_ALONE}" for name in "BC"]


@pytest.mark.parametrize(("url", "hint"), [
    ("vualt://kv/app", "did you mean 'vault'?"), ("secrets.toml", "write env:…, file:…, mine:…, vault:…"),
    ("env:", None), ("file:secrets.toml", None), ("vault://kv/app", None), ("mine:x", None)])
def test_a_store_of_secrets_that_nothing_opens_is_warned_of(url: str, hint: str | None) -> None:
    registry = default_registry()
    registry.secret_schemes.add("mine")
    spec = loads(f"treadle: 1\nsecret_store: {url!r}\nnodes: {{n: {{type: start}}}}\n")
    faults = check(spec, registry).faults
    assert [(fault.message, fault.hint, fault.warning) for fault in faults] == [
        (f"secret_store: there is no store of secrets {url!r}", hint, True)] * (hint is not None)


def test_a_variable_that_is_no_text_is_named_with_its_line() -> None:
    with pytest.raises(InvalidDiagram) as caught:
        loads("treadle: 1\nenvironment_vars:\n  A: x\n  B: 3\nnodes: {n: {type: start}}\n", file="d.yaml")
    assert "d.yaml:4: environment_vars.B: expected a text, not an integer" in str(caught.value)


@pytest.mark.parametrize("name", ["a", "a/b.c-d", "_", "-a", "a//b", "/a", "a/", "ä", "a b", "a\n", ""])
def test_check_and_the_bodies_agree_on_what_a_reference_is(name: str) -> None:
    assert broken(f"secret://{name}") is not is_reference(f"secret://{name}")


def test_one_within_a_longer_text_is_a_warning() -> None:
    [found] = said("type: template_job, text: 'Write secret://NAME for a secret.'")
    assert found.startswith("d.yaml:3: warning: node 'n': text: a secret is not looked up here")


@pytest.mark.parametrize("node", [
    "type: api_job, url: 'http://h', headers: {X: secret://T, Authorization: secret://T}, "
    "params: {k: secret://a/b}, auth: {bearer: secret://T}",
    "type: hook, kind: shell, command: run, env: {X: secret://T}",
    "type: db, operation: sql, url: secret://db/url, query: SELECT 1",
    "type: code_job, code: 'context.secret(\"secret://T\")', arguments: {which: secret://T}",
    "type: start, custom_data: {which: secret://T}",
    "type: template_job, text: 'env:NAME'",
])
def test_where_they_are_looked_up_or_handed_to_code_they_may_stand(node: str) -> None:
    assert said(node) == []


def test_those_in_a_sub_diagram_are_found_and_a_type_of_a_plugin_looks_after_its_own() -> None:
    [found] = said("type: sub_diagram, diagram: {nodes: {a: {type: template_job, text: secret://T}}}")
    assert "node 'a': text: a secret is not looked up here" in found

    class Own(msgspec.Struct, frozen=True):
        token: str

    registry = default_registry()
    registry.register(NodeKind("own", Own, registry.get_strategy("start")))
    assert said("type: own, token: secret://T", registry) == []
    registry.register(NodeKind("other", Own, registry.get_strategy("start"), secrets=("key",)))
    assert "it is looked up in key, and in code by" in said("type: other, token: secret://T", registry)[0]
