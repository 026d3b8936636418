"""The master key: where it comes from, and how it wraps data keys."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from binascii import Error as NotBase64
from binascii import a2b_base64
from collections.abc import Mapping
from pathlib import Path

from treadle.crypto import hidden
from treadle.crypto.private import read_private
from treadle.crypto.seal import KEY_BYTES, Sealer, derived
from treadle.errors import InvalidInput, StoreCorrupt, StoreError, WrongKey

OPTION = "--state-encryption-key"
VARIABLE = "TREADLE_STATE_ENCRYPTION_KEY"
"""The environment variable that says what the option says."""
_HOW = "`treadle keys new --out FILE` makes one, to be given as file:FILE"
_KEY_FILE_BYTES_MAX = 4096
_PATH_CHARS_MAX = 255
_FIRST = "key\0"
_OWN = "key\0\0rows"  # the store's own key; its name changes with what rows are bound to


class MasterKey:
    """32 bytes that wrap data keys. `id` names it, and tells nothing of it; `source` says where it came from
    (`file:…`, `env:…`, or nothing)."""

    def __init__(self, raw: bytes, source: str = "") -> None:
        if len(raw) != KEY_BYTES:
            raise InvalidInput(f"a key has {KEY_BYTES} bytes, not {len(raw)}: {_HOW}")
        self.id = derived(raw, b"key id").hex()[:8]
        self.source = source
        self._sealer = Sealer(raw, "")

    def __repr__(self) -> str:
        return f"MasterKey({self.id!r})"

    def fresh(self, execution_id: str) -> tuple[bytes, bytes]:
        """A new data key: itself, and wrapped."""
        key = os.urandom(KEY_BYTES)
        return key, self.wrap(key, execution_id)

    def wrap(self, data_key: bytes, execution_id: str) -> bytes:
        """A data key as the store keeps it, bound to its execution."""
        return self._sealer.raw(data_key, _bound(execution_id))

    def unwrap(self, wrapped: bytes, execution_id: str, master_id: str) -> bytes:
        """The data key again. WrongKey if another master key wrapped it, StoreCorrupt if it was changed."""
        if master_id != self.id:
            raise WrongKey(f"{_whose(execution_id)} is encrypted with the key {master_id}, and {OPTION} "
                           f"gives {self.id}: give the other one")
        try:
            return self._sealer.open_raw(wrapped, _bound(execution_id))
        except StoreCorrupt:
            if not execution_id and self._opens(wrapped, _FIRST):
                raise StoreError("this store was encrypted by a development version of Treadle, which bound "
                                 "less: export its executions with that version (`treadle export`), and "
                                 "import them into a new store") from None
            raise StoreCorrupt(f"the key of {_whose(execution_id)} can't be unwrapped: it was changed, or "
                               "moved here from another execution; restore the store from a copy") from None

    def _opens(self, wrapped: bytes, bound: str) -> bool:
        try:
            self._sealer.open_raw(wrapped, bound)
        except StoreCorrupt:
            return False
        return True


def _bound(execution_id: str) -> str:
    return f"key\0{execution_id}" if execution_id else _OWN


def _whose(execution_id: str) -> str:
    return f"execution {execution_id}" if execution_id else "this store"


def read_key(said: str, *, what: str = OPTION, environment: Mapping[str, str] = os.environ) -> MasterKey:
    """The master key that a text gives: 32 bytes as base64 or hex, `file:PATH`, or `env:NAME`. InvalidInput,
    which never quotes a key."""
    if said.startswith("file:"):
        return MasterKey(_decoded(_read(Path(said[5:]).expanduser(), what), f"{what} {said}"), said)
    if said.startswith("env:"):
        name = said[4:]
        value = environment.get(name) or (hidden.get(name) if environment is os.environ else None)
        if not value:
            raise InvalidInput(f"{what} {said}: the environment has no {name}: set it, or use file:PATH")
        return MasterKey(_decoded(value.encode(), f"{what} {said}"), said)
    if len(said) < _PATH_CHARS_MAX and Path(said).is_file():
        raise InvalidInput(f"{what}: for a key in a file write file:{said}")
    return MasterKey(_decoded(said.encode(), what))


def new_key() -> str:
    """A fresh key, as base64."""
    return b64encode(os.urandom(KEY_BYTES)).decode()


def write_key(path: Path) -> str:
    """Write a fresh key to a new file that nobody else may read; returns its id. InvalidInput if there is a
    file."""
    text = new_key()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{path} is there already, and a key that is overwritten is lost with all that it "
                           "protects: choose another name") from None
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from None
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(file.fileno())
    return MasterKey(a2b_base64(text)).id


def _read(path: Path, what: str) -> bytes:
    try:
        return read_private(path, _KEY_FILE_BYTES_MAX)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from None


def _decoded(text: bytes, what: str) -> bytes:
    if len(text) == KEY_BYTES and not text.isascii():
        return text  # the bytes themselves
    text = text.strip()
    if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
        return bytes.fromhex(text.decode())
    try:
        raw = a2b_base64(text.translate(bytes.maketrans(b"-_", b"+/")) + b"=" * (-len(text) % 4),
                         strict_mode=True)
    except (NotBase64, ValueError):
        raise InvalidInput(f"{what}: it is no key: 32 bytes as base64 or hex; {_HOW}") from None
    if len(raw) != KEY_BYTES:
        raise InvalidInput(f"{what}: the key has {len(raw)} bytes, and must have {KEY_BYTES}: {_HOW}")
    return raw
