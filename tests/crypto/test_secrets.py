"""Stores of secrets: environment, files, and Vault as a real server that speaks KV v2."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from treadle.crypto.redaction import Redactor
from treadle.crypto.secrets import FileSecrets, Secrets, is_reference, open_secrets
from treadle.errors import InvalidInput, NoSuchSecret, SecretError


def private(path: Path, text: str) -> Path:
    path.touch(0o600)
    path.write_text(text)
    return path


# References


def test_a_reference_is_told_from_any_other_text() -> None:
    for text in ("secret://DB", "secret://db/pass-word.1", "env:DB_PASSWORD"):
        assert is_reference(text)
    for text in ("secret://", "secret://../etc", "secret://a/../b", "secret:// a", "secret://a//b", "env:1A",
                 "env:", "a secret://b", "SECRET://a", "secret://ä", "password"):
        assert not is_reference(text)
    with pytest.raises(InvalidInput, match="'hunter2' is no reference to a secret: write secret://NAME"):
        Secrets().resolve("hunter2")


def test_whoever_redacts_is_told_before_a_secret_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_DB", "value-of-db")
    monkeypatch.setenv("PLAIN", "value-of-plain")
    redactor = Redactor()
    secrets = Secrets("env:APP_", told=redactor.know)
    assert secrets.resolve("secret://DB") == "value-of-db"
    assert secrets.resolve("env:PLAIN") == "value-of-plain"
    assert redactor.text("value-of-db value-of-plain") == "[secret DB] [secret PLAIN]"


@pytest.mark.parametrize(("url", "message"), [
    ("valt://a", "did you mean 'vault'"),
    ("nothing", "there is env, file, vault"),
    ("vault://", "names no place in Vault: write vault://MOUNT/PATH"),
    ("vault:mount", "names no place in Vault"),
    ("file:", "names no file"),
    ("env:A-B", "'A-B' can't be the beginning"),
])
def test_a_wrong_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        open_secrets(url)


def test_a_plugin_brings_a_store() -> None:
    class Mine:
        def get(self, name: str) -> str:
            return f"my {name}"

    made = {"mine": lambda url: Mine()}
    assert Secrets("mine:anything", made=made).resolve("secret://a") == "my a"
    with pytest.raises(InvalidInput, match="did you mean 'mine'"):
        Secrets("mien:anything", made=made)


# Environment and files


def test_a_variable_that_is_missing_or_empty_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMPTY", "")
    with pytest.raises(NoSuchSecret, match="secret 'EMPTY': the environment variable 'EMPTY' is empty"):
        Secrets().resolve("secret://EMPTY")
    with pytest.raises(NoSuchSecret, match="'MISSING_ONE' is not set: set it where the engine runs"):
        Secrets().resolve("secret://MISSING_ONE")


def test_secrets_in_a_folder(tmp_path: Path) -> None:
    (tmp_path / "db").mkdir()
    private(tmp_path / "db" / "password", "from a file\n")
    private(tmp_path / "token", "two\nlines\n")
    store = open_secrets(f"file:{tmp_path}")
    assert store.get("db/password") == "from a file"
    assert store.get("token") == "two\nlines"
    with pytest.raises(NoSuchSecret, match="has none of that name: did you mean 'token'"):
        store.get("tokne")
    (tmp_path / "token").chmod(0o640)
    with pytest.raises(SecretError, match=r"token can be read or written by others \(mode 0640\): chmod 600"):
        store.get("token")
    private(tmp_path / "token", "").chmod(0o600)
    (tmp_path / "token").write_bytes(b"\xff\xfe")
    with pytest.raises(SecretError, match="is no text"):
        store.get("token")


def test_secrets_in_a_toml_file(tmp_path: Path) -> None:
    path = private(tmp_path / "secrets.toml", 'token = "t"\nport = 5432\n[db]\npassword = "p"\n')
    store = FileSecrets(path)
    assert (store.get("token"), store.get("db/password")) == ("t", "p")
    for name, message in (("db/pasword", "did you mean 'password'"), ("token/x", "has none of that name"),
                          ("nothing", "has none of that name")):
        with pytest.raises(NoSuchSecret, match=message):
            store.get(name)
    for name in ("port", "db"):
        with pytest.raises(SecretError, match="has no text there: write it in quotes"):
            store.get(name)
    path.write_text('token = "changed"')
    assert store.get("token") == "changed", "a new secret is used at once"
    path.write_text("token = hunter2")
    with pytest.raises(SecretError, match="is no TOML") as refused:
        store.get("token")
    assert "hunter2" not in str(refused.value)
    path.chmod(0o604)
    with pytest.raises(SecretError, match="chmod 600"):
        store.get("token")
    with pytest.raises(SecretError, match="No such file"):
        FileSecrets(tmp_path / "none.toml").get("token")


# Vault


TOKEN = "hvs.the-token"
DATA: dict[str, object] = {
    "/v1/prod/data/app": {"password": "from vault", "port": 5432},
    "/v1/prod/data/app/db": {"password": "deeper"},
    "/v1/prod/data/alone": {"value": "by itself"},
}


class FakeVault(BaseHTTPRequestHandler):
    """The KV v2 API of Vault, as far as reading goes."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if self.headers.get("X-Vault-Token") != TOKEN:
            self._answer(403, {"errors": [f"permission denied for {self.headers.get('X-Vault-Token')}"]})
        elif path.startswith("/v1/broken/"):
            self._answer(500, {"errors": ["internal error"]})
        elif path.startswith("/v1/sealed/"):
            self._answer(503, {"errors": ["Vault is sealed"]})
        elif path.startswith("/v1/kv1/"):
            self._answer(200, {"data": {"password": "version 1"}})
        elif path == "/v1/prod/data/deleted":
            self._answer(404, {"data": {"data": None, "metadata": {"deletion_time": "2026-01-01T00:00:00Z"}}})
        elif path in DATA:
            self._answer(200, {"data": {"data": DATA[path], "metadata": {"version": 3}}})
        else:
            self._answer(404, {"errors": []})

    def _answer(self, status: int, document: object) -> None:
        raw = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []
    handler = type("Handler", (FakeVault,), {"asked": asked})
    running = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=running.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture
def vault(server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("VAULT_ADDR", server[0])
    monkeypatch.setenv("VAULT_TOKEN", TOKEN)
    for name in ("http_proxy", "HTTP_PROXY", "VAULT_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    server[1].clear()
    return server[1]


def test_vault_is_asked_once_for_what_lies_together(vault: list[str]) -> None:
    store = open_secrets("vault://prod/app")
    assert store.get("password") == store.get("password") == "from vault"
    assert len(vault) == 1
    assert store.get("db/password") == "deeper"
    assert open_secrets("vault://prod").get("alone") == "by itself"
    assert open_secrets("vault://prod").get("app/password") == "from vault"


@pytest.mark.parametrize(("url", "name", "kind", "message"), [
    ("vault://prod/app", "pasword", NoSuchSecret, "no field 'pasword' at prod/app: did you mean 'password'"),
    ("vault://prod/app", "port", SecretError, "the field 'port' at prod/app is no text"),
    ("vault://prod/none", "x", NoSuchSecret, "Vault has nothing at prod/none"),
    ("vault://prod/deleted", "x", NoSuchSecret, "Vault has nothing at prod/deleted .* or it was deleted"),
    ("vault://kv1/app", "password", SecretError, "is the mount of version 1"),
    ("vault://broken/app", "x", SecretError, r"can't answer \(InternalServerError\)"),
    ("vault://sealed/app", "x", SecretError, r"can't answer \(VaultDown\): is it sealed"),
])
def test_what_vault_does_not_give_is_said(vault: list[str], url: str, name: str, kind: type[Exception],
                                          message: str) -> None:
    with pytest.raises(kind, match=message) as refused:
        open_secrets(url).get(name)
    assert TOKEN not in str(refused.value)


def test_a_token_that_is_refused_is_not_shown(vault: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "an-old-token")
    with pytest.raises(SecretError, match="Vault refuses prod/app to the token") as refused:
        open_secrets("vault://prod/app").get("password")
    assert "an-old-token" not in str(refused.value)


def test_a_vault_that_is_away_is_said(vault: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    with pytest.raises(SecretError, match=r"no answer from Vault at http://127.0.0.1:1 \(ConnectionError\)"):
        open_secrets("vault://prod/app").get("password")
    monkeypatch.delenv("VAULT_ADDR")
    with pytest.raises(SecretError, match="VAULT_ADDR is not set"):
        open_secrets("vault://prod/app").get("password")


def test_the_token_may_be_in_vaults_own_file(vault: list[str], monkeypatch: pytest.MonkeyPatch,
                                             tmp_path: Path) -> None:
    monkeypatch.delenv("VAULT_TOKEN")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SecretError, match=r"VAULT_TOKEN is not set, and there is no .*vault-token: log"):
        open_secrets("vault://prod/app").get("password")
    private(tmp_path / ".vault-token", TOKEN + "\n")
    assert open_secrets("vault://prod/app").get("password") == "from vault"
    (tmp_path / ".vault-token").chmod(0o644)
    with pytest.raises(SecretError, match="chmod 600"):
        open_secrets("vault://prod/app").get("password")
