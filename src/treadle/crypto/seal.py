"""Sealing: AES-256-GCM under the data key of one execution, bound to the place where it is kept.

A *sealed text* is `~` and base64 of nonce, ciphertext and tag; no JSON begins so. What it is *bound* to, its
execution, node, iteration, attempt and field, and what stands beside it in the clear, is the additional data:
elsewhere, or beside anything else, it can't be opened.

Nonces are random, 96 bits. A counter would have to survive crashes, forks and several processes that seal
under one key (an engine, and whoever sends it signals); random nonces need no memory. Their limit is the
number of messages: after 2^32 under one key a nonce has come twice with a probability of 2^-33 (NIST SP
800-38D asks for no more than 2^-32), and a `Sealer` refuses to go on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from binascii import Error as NotBase64
from binascii import a2b_base64, b2a_base64
from collections import deque
from functools import cached_property

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from treadle.errors import LimitExceeded, PlaintextFound, StoreCorrupt

KEY_BYTES = 32
NONCE_BYTES = 12
SEALS_MAX = 2**32
"""Messages under one data key in one process."""
MARK = b"~"
_DRAWN = 512
"""Nonces that are drawn at once: each call of the system costs as much as sealing a small text."""

_encode = msgspec.json.Encoder().encode
_nonces: deque[bytes] = deque()
_next = _nonces.popleft
os.register_at_fork(after_in_child=_nonces.clear)  # else parent and child would use the same ones


def nonce() -> bytes:
    """Random, never given twice; safe in every thread."""
    try:
        return _next()
    except IndexError:
        raw = os.urandom(NONCE_BYTES * _DRAWN)
        _nonces.extend(raw[at:at + NONCE_BYTES] for at in range(NONCE_BYTES, len(raw), NONCE_BYTES))
        return raw[:NONCE_BYTES]


class Sealer:
    """Seals and opens what belongs to one execution. `steady`: the nonce is made of the text, so equal texts
    in one place are sealed equally; slower, for stores that compare what they have."""


    def __init__(self, key: bytes, execution_id: str, *, steady: bool = False) -> None:
        gcm = AESGCM(derived(key, b"fields"))
        self._encrypt, self._decrypt = gcm.encrypt, gcm.decrypt
        self._steady = derived(key, b"nonces") if steady else None
        self._left = SEALS_MAX
        self._key = key
        self.execution_id = execution_id

    def has(self, key: bytes) -> bool:
        """Whether this is the data key that it seals with."""
        return hmac.compare_digest(self._key, key)

    def raw(self, plain: bytes, bound: str) -> bytes:
        """Nonce, ciphertext and tag."""
        return self._raw(plain, bound.encode())

    def _raw(self, plain: bytes, data: bytes) -> bytes:
        self._left -= 1
        if self._left < 0:
            raise LimitExceeded(f"execution {self.execution_id} has had {SEALS_MAX} texts sealed under its "
                                "key: go on in a new one (`treadle fork`)")
        number = nonce() if self._steady is None else self._made_of(plain, data)
        return number + self._encrypt(number, plain, data)

    def seal(self, plain: bytes, bound: str) -> bytes:
        """A text for this place."""
        return self.seal_at(plain, bound.encode())

    def seal_at(self, plain: bytes, data: bytes) -> bytes:
        """The same for a place that is encoded already."""
        if self._steady is None and self._left > 0:  # the same as `raw`, for a third less
            self._left -= 1
            try:
                number = _next()
            except IndexError:
                number = nonce()
            return MARK + b2a_base64(number + self._encrypt(number, plain, data), newline=False)
        return MARK + b2a_base64(self._raw(plain, data), newline=False)

    def _made_of(self, plain: bytes, data: bytes) -> bytes:
        assert self._steady is not None
        size = len(data).to_bytes(8, "big")
        return hashlib.blake2b(size + data + plain, digest_size=NONCE_BYTES, key=self._steady).digest()

    def open_raw(self, sealed: bytes, bound: str) -> bytes:
        """The text; StoreCorrupt if it was changed, or sealed for another place."""
        data = bound.encode()
        try:
            return self._decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], data)
        except (InvalidTag, ValueError):
            raise StoreCorrupt(f"{said(bound, self.execution_id)} can't be decrypted: it was changed, or "
                               "what stands beside it was, or it was moved here from another place; "
                               "restore the store from a copy") from None

    def open(self, sealed: bytes, bound: str) -> bytes:
        """The text that `seal` made. PlaintextFound if it isn't sealed, StoreCorrupt if it was changed."""
        if not sealed.startswith(MARK):
            raise PlaintextFound(f"{said(bound, self.execution_id)} is not encrypted, and everything in this "
                                 "store is: somebody else wrote it; restore the store from a copy")
        try:
            raw = a2b_base64(sealed[1:], strict_mode=True)
        except NotBase64:
            raw = b""
        return self.open_raw(raw, bound)

    @cached_property
    def files(self) -> bytes:
        """The key of the keys of files: see `treadle.crypto.stream`."""
        return derived(self._key, b"files")

    @cached_property
    def names(self) -> bytes:
        """The key of the addresses of blobs."""
        return derived(self._key, b"addresses")

    def address(self, digest: str) -> str:
        """The name under which this execution keeps the blob with a digest: it tells nothing of its
        content."""
        return hmac.digest(self.names, digest.encode(), "sha256").hex()


def derived(key: bytes, purpose: bytes) -> bytes:
    """A key for one purpose, made of another."""
    return hmac.digest(key, b"treadle " + purpose, "sha256")


def place(execution_id: str, node_id: str, iteration: str, attempt: int, field: str,
          beside: tuple[object, ...] = ()) -> str:
    """What a text is bound to; `beside` are values in the clear that must not change. Nothing but the node's
    id can hold a null, so no two places read alike."""
    return f"{field}\0{iteration}\0{attempt}\0{execution_id}\0{node_id}\0{plainly(beside)}"


def plainly(values: tuple[object, ...]) -> str:
    """Numbers, texts and None as one text without a null."""
    try:
        return _encode(values).decode()
    except UnicodeEncodeError:  # half of a surrogate pair; such a row is refused later, on its own
        return json.dumps(values)


def said(bound: str, execution_id: str) -> str:
    """A place in words."""
    field, _, rest = bound.partition("\0")
    iteration, _, rest = rest.partition("\0")
    attempt, _, rest = rest.partition("\0")
    node = rest.partition("\0")[2].partition("\0")[0]
    if not node:
        return f"{field} of execution {execution_id}"
    if attempt == "0":  # no cell: a key of the context, a result, a signal
        return f"{field} of {node!r} of execution {execution_id}"
    turn = "" if iteration == "1" else f", iteration {iteration}"
    return f"{field} of node {node!r} (attempt {attempt}{turn}) of execution {execution_id}"
