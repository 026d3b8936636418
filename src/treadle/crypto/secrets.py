"""Secrets by name: `secret://NAME` is looked up where it is used, and is written nowhere.

A store of secrets is one of

- `env:` – the environment variable NAME; `env:APP_` puts a prefix before the names;
- `file:PATH` – a folder with a file for each secret, or a TOML file with a key for each. Only their owner may
  read them (mode 0600);
- `vault://MOUNT/PATH` – HashiCorp Vault, secrets engine KV v2, at $VAULT_ADDR with $VAULT_TOKEN;
- `SCHEME:…` – what a plugin brings.

Part of a name before the last `/` is a table of the TOML file, a folder, or a path below PATH.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from treadle.crypto.private import read_private
from treadle.errors import InvalidInput, NoSuchSecret, SecretError, did_you_mean

SECRET = "secret://"
ENV = "env:"
FILE_BYTES_MAX = 1024 * 1024
"""A file of secrets that is larger is not read."""
_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)*", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
SCHEMES = ("env", "file", "vault")


class SecretStore(Protocol):
    """Where secrets are."""

    def get(self, name: str) -> str:
        """A secret; NoSuchSecret, SecretError."""


def is_reference(text: str) -> bool:
    """Whether a text is `secret://NAME` or `env:NAME` and nothing else."""
    if text.startswith(SECRET):
        return _NAME.fullmatch(text, len(SECRET)) is not None
    return text.startswith(ENV) and _VARIABLE.fullmatch(text, len(ENV)) is not None


class Secrets:
    """Resolves references, for one execution. `told` hears of every name and value before it is handed out:
    a `Redactor` does. `made` are stores that plugins bring, by scheme; `base` is the folder that relative
    paths begin at."""

    def __init__(self, url: str = ENV, *, told: Callable[[str, str], None] | None = None,
                 made: Mapping[str, Callable[[str], SecretStore]] | None = None, base: str = "") -> None:
        self.url = url
        self._told = told
        self._store = open_secrets(url, made, base)
        self._environment = EnvSecrets()

    def resolve(self, reference: str) -> str:
        """The value of `secret://NAME` or `env:NAME`. NoSuchSecret, SecretError; InvalidInput if it is
        neither. It may ask a server: call it in a thread."""
        if not is_reference(reference):
            raise InvalidInput(f"{reference!r} is no reference to a secret: write secret://NAME or env:NAME")
        if reference.startswith(SECRET):
            name = reference.removeprefix(SECRET)
            value = self._store.get(name)
        else:
            name = reference.removeprefix(ENV)
            value = self._environment.get(name)
        if self._told is not None:
            self._told(name, value)
        return value


def open_secrets(url: str, made: Mapping[str, Callable[[str], SecretStore]] | None = None,
                 base: str = "") -> SecretStore:
    """A store of secrets by its URL (see the module); nothing is read yet. InvalidInput."""
    scheme, colon, rest = url.partition(":")
    if made is not None and scheme in made:
        return made[scheme](url)
    if not colon or scheme not in SCHEMES:
        known = sorted({*SCHEMES, *(made or ())})
        hint = did_you_mean(scheme, known) or f"there is {', '.join(known)}"
        raise InvalidInput(f"there is no store of secrets {url!r}: {hint}; write env:, file:PATH or "
                           "vault://MOUNT/PATH")
    if scheme == "vault":
        from treadle.crypto.vault import VaultSecrets

        return VaultSecrets(url)
    if scheme == "file":
        if not rest.removeprefix("//"):
            raise InvalidInput(f"{url!r} names no file: write file:PATH")
        return FileSecrets(Path(base) / Path(rest.removeprefix("//")).expanduser())
    prefix = rest.removeprefix("//")
    if prefix and not _VARIABLE.fullmatch(prefix):
        raise InvalidInput(f"{url!r}: {prefix!r} can't be the beginning of an environment variable's name")
    return EnvSecrets(prefix)


class EnvSecrets:
    """Environment variables."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix

    def get(self, name: str) -> str:
        variable = self._prefix + name
        value = os.environ.get(variable)
        if not value:
            # Other names are not suggested: they would be those of somebody else's secrets.
            raise NoSuchSecret(f"secret {name!r}: the environment variable {variable!r} is "
                               f"{'not set' if value is None else 'empty'}: set it where the engine runs")
        return value


class FileSecrets:
    """A folder of files, or a TOML file. Read anew each time, so a secret that is changed is used at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str) -> str:
        try:
            return self._of_folder(name) if self._path.is_dir() else self._of_toml(name)
        except InvalidInput as error:
            raise SecretError(f"secret {name!r}: {error}") from None

    def _of_folder(self, name: str) -> str:
        path = self._path / name
        if not path.is_file():
            names = [one.name for one in path.parent.iterdir()] if path.parent.is_dir() else []
            raise self._missing(name, path.name, names)
        try:
            value = read_private(path, FILE_BYTES_MAX).decode()
        except UnicodeDecodeError:
            raise SecretError(f"secret {name!r}: {path} is no text") from None
        return value.removesuffix("\n").removesuffix("\r")

    def _of_toml(self, name: str) -> str:
        import tomllib  # for those who have such a file

        try:
            found: object = tomllib.loads(read_private(self._path, FILE_BYTES_MAX).decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError):  # its message may quote a secret
            raise SecretError(f"secret {name!r}: {self._path} is no TOML") from None
        for part in name.split("/"):
            known = list(found) if isinstance(found, dict) else []
            if part not in known:
                raise self._missing(name, part, known)
            found = found[part] if isinstance(found, dict) else None
        if not isinstance(found, str):
            raise SecretError(f"secret {name!r}: {self._path} has no text there: write it in quotes")
        return found

    def _missing(self, name: str, part: str, known: list[str]) -> NoSuchSecret:
        hint = did_you_mean(part, known)
        return NoSuchSecret(f"secret {name!r}: {self._path} has none of that name"
                            + (f": {hint}" if hint else ""))
