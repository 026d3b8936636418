"""How a monitor is reached, and by whom."""

from __future__ import annotations

import ipaddress
import secrets
from pathlib import Path

import msgspec

from treadle.config import MB
from treadle.crypto.private import read_private
from treadle.errors import InvalidInput

TOKEN_BYTES_MAX, TOKEN_CHARS_MIN = 4096, 16
"""A file of tokens, and one token."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a monitor is reached, and by whom."""

    host: str = "127.0.0.1"
    port: int = 0
    """0: any that is free."""
    write_token: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(32))
    """Who has it may do everything. "" is none: nobody may write."""
    read_token: str = msgspec.field(default_factory=lambda: secrets.token_urlsafe(32))
    """Who has it may look at everything. "" is none."""
    names: tuple[str, ...] = ()
    """What the server is called besides `host` and the names of this machine's loopback."""
    certificate: Path | None = None
    key: Path | None = None
    """Files for TLS, in PEM."""
    body_bytes_max: int = 11 * MB
    """One request's body: a little more than a diagram's file may have."""
    requests_per_s: float = 100.0
    burst: int = 400
    """Requests that one address may make in a second, and at once."""
    refused_per_minute: int = 20
    """Wrong tokens that one address may try in a minute; what more is wrong is told to wait. A right one is
    let in all the same, else others could lock us out."""

    @property
    def secure(self) -> bool:
        return self.certificate is not None

    @property
    def local(self) -> bool:
        """Whether only this machine can come in."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def read_tokens(path: Path) -> tuple[str, str]:
    """The tokens of a file, for writing and for reading ("" where it has none): lines `write TOKEN` and
    `read TOKEN`; a line with a token alone is for writing. InvalidInput, without showing any."""
    found = {"write": "", "read": ""}
    text = read_private(path, TOKEN_BYTES_MAX).decode("ascii", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        scope, token = ("write", words[0]) if len(words) == 1 else (words[0], words[1])
        if scope not in found or len(words) > 2:
            raise InvalidInput(f"{path}:{number}: write it as `write TOKEN` or `read TOKEN`")
        if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.isprintable():
            raise InvalidInput(f"{path}:{number}: a token needs at least {TOKEN_CHARS_MIN} printable "
                               "characters: make one with  python -c 'import secrets; "
                               "print(secrets.token_urlsafe(32))'")
        if found[scope]:
            raise InvalidInput(f"{path}:{number}: a second token for {scope}")
        found[scope] = token
    if not any(found.values()):
        raise InvalidInput(f"{path} holds no token")
    if found["write"] == found["read"]:
        raise InvalidInput(f"{path}: the tokens for reading and for writing must not be the same")
    return found["write"], found["read"]
