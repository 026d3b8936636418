"""Secrets in HashiCorp Vault, secrets engine KV v2."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from treadle.crypto.private import read_private
from treadle.errors import InvalidInput, NoSuchSecret, SecretError, did_you_mean

KEPT_S = 60.0
"""How long an answer of the server is used again."""
TIMEOUT_S = 10.0
_TOKEN_BYTES_MAX = 64 * 1024


class VaultSecrets:
    """`vault://MOUNT/PATH`: the secret NAME is the field NAME of what is at PATH; `a/b` is the field b at
    PATH/a. Without a PATH, `NAME` alone is the field `value` at NAME."""

    def __init__(self, url: str) -> None:
        mount, _, path = url.removeprefix("vault://").partition("/")
        if not url.startswith("vault://") or not mount:
            raise InvalidInput(f"{url!r} names no place in Vault: write vault://MOUNT/PATH")
        self._mount, self._path = mount, path.strip("/")
        self._kept: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def get(self, name: str) -> str:
        folder, _, field = name.rpartition("/")
        if not self._path and not folder:
            folder, field = field, "value"
        path = "/".join(part for part in (self._path, folder) if part)
        found = self._read(name, path)
        if field not in found:
            hint = did_you_mean(field, found)
            raise NoSuchSecret(f"secret {name!r}: Vault has no field {field!r} at {self._mount}/{path}"
                               + (f": {hint}" if hint else ""))
        value = found[field]
        if not isinstance(value, str):
            raise SecretError(f"secret {name!r}: the field {field!r} at {self._mount}/{path} is no text")
        return value

    def _read(self, name: str, path: str) -> Mapping[str, Any]:
        kept = self._kept.get(path)
        if kept is not None and time.monotonic() - kept[0] < KEPT_S:
            return kept[1]
        try:
            import hvac
            import requests
        except ModuleNotFoundError:
            raise SecretError(f"secret {name!r}: Vault needs hvac: pip install treadle[vault]") from None
        where = f"{self._mount}/{path}"
        with _translated(name, where), requests.Session() as session:
            client = hvac.Client(url=_address(name), token=_token(name), timeout=TIMEOUT_S, session=session,
                                 namespace=os.environ.get("VAULT_NAMESPACE"))
            answer = client.secrets.kv.v2.read_secret_version(
                path, mount_point=self._mount, raise_on_deleted_version=True)
        try:
            found: Mapping[str, Any] = answer["data"]["data"]
            found = dict(found)
        except (TypeError, KeyError, ValueError):
            raise SecretError(f"secret {name!r}: what Vault answers for {where} is not that of a secrets "
                              "engine KV v2: is the mount of version 1?") from None
        self._kept[path] = (time.monotonic(), found)
        return found


@contextmanager
def _translated(name: str, where: str) -> Iterator[None]:
    """hvac's errors as ours. None of them quotes what the server said: it may have a token in it."""
    import requests
    from hvac import exceptions

    address = os.environ.get("VAULT_ADDR")
    try:
        yield
    except exceptions.InvalidPath:
        raise NoSuchSecret(f"secret {name!r}: Vault has nothing at {where} (mount/path), or it was "
                           "deleted") from None
    except (exceptions.Forbidden, exceptions.Unauthorized):
        raise SecretError(f"secret {name!r}: Vault refuses {where} to the token of $VAULT_TOKEN: is it still "
                          "valid, and does its policy allow to read there?") from None
    except exceptions.VaultError as error:
        raise SecretError(f"secret {name!r}: Vault at {address} can't answer ({type(error).__name__}): is it "
                          "sealed, or overloaded?") from None
    except requests.RequestException as error:
        raise SecretError(f"secret {name!r}: there is no answer from Vault at {address} "
                          f"({type(error).__name__}): is VAULT_ADDR right, and the server up?") from None


def _address(name: str) -> str:
    address = os.environ.get("VAULT_ADDR")
    if not address:
        raise SecretError(f"secret {name!r}: VAULT_ADDR is not set: give Vault's address, "
                          "https://vault.example.org:8200")
    return address


def _token(name: str) -> str:
    token = os.environ.get("VAULT_TOKEN")
    if token:
        return token
    path = Path.home() / ".vault-token"
    if not path.is_file():
        raise SecretError(f"secret {name!r}: VAULT_TOKEN is not set, and there is no {path}: log in with "
                          "`vault login`, or set it")
    try:
        return read_private(path, _TOKEN_BYTES_MAX).decode("ascii", "replace").strip()
    except InvalidInput as error:
        raise SecretError(f"secret {name!r}: {error}") from None
