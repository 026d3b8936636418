"""Sealing texts and files: what comes back, and what is not read."""

from __future__ import annotations

import io
import os
import re
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.crypto import seal
from treadle.crypto.keys import MasterKey, new_key, read_key, write_key
from treadle.crypto.seal import Sealer, place
from treadle.crypto.stream import CHUNK_BYTES, Opened, Sealing, open_sealed, plain_size
from treadle.errors import InvalidInput, LimitExceeded, PlaintextFound, StoreCorrupt, WrongKey

KEY = bytes(range(32))
HERE = place("run", "node", "1", 1, "output")


@given(st.binary(max_size=300), st.text(st.characters(codec="utf-8"), max_size=40))
def test_a_sealed_text_opens_where_it_was_sealed_and_nowhere_else(plain: bytes, bound: str) -> None:
    sealer = Sealer(KEY, "run")
    token = sealer.seal(plain, bound)
    assert token.startswith(b"~") and token.isascii()
    assert sealer.open(token, bound) == plain
    with pytest.raises(StoreCorrupt):
        sealer.open(token, bound + "x")
    with pytest.raises(StoreCorrupt):
        Sealer(KEY[::-1], "run").open(token, bound)


def test_no_byte_of_it_can_be_changed_or_left_out() -> None:
    sealer = Sealer(KEY, "run")
    raw = b64decode(sealer.seal(b"text", HERE)[1:])
    for at in range(len(raw)):
        changed = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:]
        for wrong in (changed, raw[:at], raw[:at] + raw[at + 1:]):
            with pytest.raises(StoreCorrupt, match=r"output of node 'node' \(attempt 1\) of execution run"):
                sealer.open(b"~" + b64encode(wrong), HERE)
    with pytest.raises(StoreCorrupt):
        sealer.open(b"~no base64", HERE)


def test_what_is_not_sealed_is_refused() -> None:
    for plain in (b"", b"{}", b'"text"', b64encode(KEY)):
        with pytest.raises(PlaintextFound, match="is not encrypted"):
            Sealer(KEY, "run").open(plain, HERE)


def test_the_places_of_different_cells_are_different() -> None:
    """Though ids may look like parts of one another."""
    places = [place(e, n, i, a, f) for e in ("a", "a b") for n in ("", "n", "n\0", "1") for i in ("1", "1.1")
              for a in (1, 11) for f in ("output", "meta")]
    assert len(set(places)) == len(places)


def test_equal_texts_are_sealed_differently_unless_they_must_not_be() -> None:
    sealer, steady = Sealer(KEY, "run"), Sealer(KEY, "run", steady=True)
    assert len({sealer.seal(b"text", HERE) for _ in range(2000)}) == 2000
    assert steady.seal(b"text", HERE) == steady.seal(b"text", HERE)
    nonces = [steady.raw(text, HERE + more)[:12]
              for text, more in ((b"text", ""), (b"text", "x"), (b"texT", ""))]
    assert len(set(nonces)) == 3
    assert sealer.open(steady.seal(b"text", HERE), HERE) == b"text"


def test_a_forked_process_draws_nonces_of_its_own() -> None:
    seal.nonce()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.write(write, b"".join(seal.nonce() for _ in range(20)))
        os._exit(0)
    os.waitpid(child, 0)
    theirs, mine = os.read(read, 1000), b"".join(seal.nonce() for _ in range(20))
    os.close(read)
    os.close(write)
    drawn = {raw[at:at + 12] for raw in (theirs, mine) for at in range(0, 240, 12)}
    assert len(drawn) == 40


def test_a_key_seals_only_so_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seal, "SEALS_MAX", 3)
    sealer = Sealer(KEY, "run")
    for _ in range(3):
        sealer.seal(b"", HERE)
    with pytest.raises(LimitExceeded, match=r"execution run has had 3 texts .* go on in a new one"):
        sealer.seal(b"", HERE)


def test_the_address_of_a_blob_tells_nothing_and_is_each_executions_own() -> None:
    digest = "ab" * 32
    one, two = Sealer(KEY, "one"), Sealer(KEY[::-1], "two")
    assert re.fullmatch("[0-9a-f]{64}", one.address(digest))
    assert one.address(digest) == Sealer(KEY, "one").address(digest) != two.address(digest)


# Master keys


def test_a_key_may_be_given_in_many_ways(tmp_path: Path) -> None:
    path = tmp_path / "key"
    said = [b64encode(KEY).decode(), b64encode(KEY).decode().rstrip("="), KEY.hex(), KEY.hex().upper(),
            f" {KEY.hex()}\n", "env:K", f"file:{path}"]
    path.touch(0o600)
    ids = set()
    for content in (b64encode(KEY), KEY.hex().encode() + b"\n", bytes([200]) * 32):
        path.write_bytes(content)
        ids.add(read_key(f"file:{path}").id)
    assert len(ids) == 2
    path.write_bytes(KEY.hex().encode())
    assert {read_key(one, environment={"K": KEY.hex()}).id for one in said} == {MasterKey(KEY).id}
    urlsafe = bytes([251, 255] * 16)
    assert read_key(b64encode(urlsafe, b"-_").decode()).id == MasterKey(urlsafe).id


def test_a_new_key_is_written_once_and_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "key"
    name = write_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_key(f"file:{path}").id == name
    with pytest.raises(InvalidInput, match="is there already, and a key that is overwritten is lost"):
        write_key(path)
    with pytest.raises(InvalidInput, match="No such file"):
        write_key(tmp_path / "no" / "key")
    assert new_key() != new_key()


@pytest.mark.parametrize(("said", "message"), [
    ("hunter2!", "--state-encryption-key: it is no key: 32 bytes as base64 or hex; `treadle keys new"),
    (b64encode(KEY[:31]).decode(), "the key has 31 bytes, and must have 32"),
    ("env:NOPE", "--state-encryption-key env:NOPE: the environment has no NOPE"),
    ("file:nope", "nope: No such file or directory"),
    ("", "the key has 0 bytes"),
])
def test_what_is_no_key_is_refused_and_not_shown(said: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=re.escape(message)) as refused:
        read_key(said, environment={})
    assert not said or said.startswith(("env:", "file:")) or said not in str(refused.value)


def test_a_file_that_others_can_read_is_no_place_for_a_key(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(new_key())
    path.chmod(0o644)
    with pytest.raises(InvalidInput, match=r"can be read or written by others \(mode 0644\): chmod 600"):
        read_key(f"file:{path}")
    path.chmod(0o600)
    with pytest.raises(InvalidInput, match=f"for a key in a file write file:{path}"):
        read_key(str(path))
    path.write_text("x" * 5000)
    with pytest.raises(InvalidInput, match="more than 4096 bytes: is it the right file"):
        read_key(f"file:{path}")


def test_a_wrapped_key_opens_with_its_master_for_its_execution() -> None:
    master, other = read_key(new_key()), read_key(new_key())
    key, wrapped = master.fresh("run")
    assert len(key) == 32 and key not in wrapped
    assert master.unwrap(wrapped, "run", master.id) == key
    with pytest.raises(WrongKey, match=f"execution run is encrypted with the key {master.id}, and .* gives "
                                       f"{other.id}"):
        other.unwrap(wrapped, "run", master.id)
    with pytest.raises(StoreCorrupt, match="the key of execution two can't be unwrapped"):
        master.unwrap(wrapped, "two", master.id)
    with pytest.raises(StoreCorrupt):
        other.unwrap(wrapped, "run", other.id)


# Files


def sealed(path: Path, content: bytes, piece: int = 10_000) -> Path:
    with path.open("wb") as file:
        sealing = Sealing(file, KEY)
        for at in range(0, len(content), piece):
            sealing.write(content[at:at + piece])
        sealing.finish("address")
    return path


def opened(path: Path, key: bytes = KEY, address: str = "address") -> io.BufferedReader:
    file = open_sealed(path.open("rb"), key, address)
    assert isinstance(file, io.BufferedReader)
    return file


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES,
                                  3 * CHUNK_BYTES + 7])
@pytest.mark.parametrize("piece", [1_000, CHUNK_BYTES, 10**6])
def test_a_sealed_file_is_read_as_it_was_written(tmp_path: Path, size: int, piece: int) -> None:
    content = os.urandom(size)
    path = sealed(tmp_path / "file", content, piece)
    assert plain_size(path.stat().st_size) == size
    with opened(path) as file:
        assert file.read() == content
        assert file.seek(0, io.SEEK_END) == size
        for at in (0, size // 2, max(0, size - 3), size + 5):
            file.seek(at)
            assert file.read(100) == content[at:at + 100]


def test_a_sealed_file_cannot_be_cut_exchanged_or_changed(tmp_path: Path) -> None:
    path = sealed(tmp_path / "file", os.urandom(3 * CHUNK_BYTES))
    raw = path.read_bytes()
    head, whole = raw[:24], CHUNK_BYTES + 16
    chunks = [raw[24 + at * whole:24 + (at + 1) * whole] for at in range(3)]
    forged = {
        "cut off": head + chunks[0] + chunks[1],
        "cut within": raw[:-5],
        "only the head": head,
        "exchanged": head + chunks[1] + chunks[0] + chunks[2],
        "repeated": head + chunks[0] + chunks[0] + chunks[2],
        "longer": raw + b"x",
        "changed": raw[:-20] + bytes([raw[-20] ^ 1]) + raw[-19:],
        "of another": sealed(tmp_path / "other", os.urandom(3 * CHUNK_BYTES)).read_bytes()[:-5],
        "another salt": raw[:10] + bytes([raw[10] ^ 1]) + raw[11:],
    }
    for what, wrong in forged.items():
        path.write_bytes(wrong)
        with pytest.raises(StoreCorrupt, match="the blob file address can't be decrypted"):
            opened(path).read()
            raise AssertionError(what)
    path.write_bytes(b"plain text")
    with pytest.raises(PlaintextFound, match="is not encrypted"):
        opened(path)


def test_a_sealed_file_is_bound_to_its_address_and_key(tmp_path: Path) -> None:
    path = sealed(tmp_path / "file", b"content")
    for key, address in ((KEY, "another"), (KEY[::-1], "address")):
        with pytest.raises(StoreCorrupt, match="was changed, moved, or is not whole"):
            opened(path, key, address)  # before a byte of it was read


def test_no_place_before_the_beginning(tmp_path: Path) -> None:
    with Opened(sealed(tmp_path / "file", b"content").open("rb"), KEY, "address") as file:
        with pytest.raises(ValueError, match="before its beginning"):
            file.seek(-1)
        assert file.readable() and file.seekable() and file.tell() == 0
