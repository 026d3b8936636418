"""Certificates, addresses and files of tokens."""

from __future__ import annotations

import asyncio
import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from treadle.errors import InvalidInput
from treadle.monitor import Monitor, Settings, serve
from treadle.monitor.settings import read_tokens

WRITE = "write-token-of-the-tests"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for this machine, signed by itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "cert.pem", folder / "key.pem"
    paths[0].write_bytes(made.public_bytes(Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return paths


def test_with_a_certificate_it_is_https(site: Any, tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    settings = {"host": "localhost", "certificate": cert, "key": key}
    trust = ssl.create_default_context(cafile=str(cert))
    with type(site)(tmp_path, settings=settings) as safe, safe.client(None, verify=trust) as browser:
        assert safe.served.link.startswith(f"https://localhost:{safe.served.port}/?token=")
        welcome = browser.get("/", params={"token": WRITE})
        assert "; Secure" in welcome.headers["set-cookie"]
        ours = {"x-treadle": "1", "origin": safe.served.url}
        assert browser.post("/api/prune", json={"keep": 9}, headers=ours).status_code == 200
        plain = ours | {"origin": safe.served.url.replace("https", "http")}
        assert browser.post("/api/prune", json={"keep": 9}, headers=plain).status_code == 403
    with pytest.raises(InvalidInput, match="TLS"):
        asyncio.run(_served(tmp_path, Settings(certificate=key, key=key)))


def test_a_cookie_lives_through_a_restart_with_the_same_token(site: Any, tmp_path: Path) -> None:
    """So a page that was open goes on; with another token it has to be opened anew."""
    with type(site)(tmp_path) as first, first.client(None) as browser:
        browser.get("/", params={"token": WRITE})
        port, cookies = first.served.port, dict(browser.cookies)
        assert browser.get("/api/stats").status_code == 200
    for token, status in ((WRITE, 200), ("another" + WRITE, 401)):
        settings = {"port": port, "write_token": token}
        with type(site)(tmp_path, settings=settings) as again, again.client(None, cookies=cookies) as browser:
            assert browser.get("/api/stats").status_code == status


async def _served(folder: Path, settings: Settings) -> None:
    async with Monitor("memory:") as monitor, serve(monitor, settings):
        pass


def test_an_address_that_is_not_ours_can_not_be_served(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such address"):
        asyncio.run(_served(tmp_path, Settings(host="no such name")))
    with pytest.raises(OSError, match="ssign"):
        asyncio.run(_served(tmp_path, Settings(host="192.0.2.1")))


def private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def test_a_file_of_tokens(tmp_path: Path) -> None:
    write, read = "w" * 20, "r" * 20
    assert read_tokens(private(tmp_path / "a", f"# ours\nwrite {write}\n\nread {read}\n")) == (write, read)
    assert read_tokens(private(tmp_path / "b", write)) == (write, "")
    assert read_tokens(private(tmp_path / "c", f"read {read}")) == ("", read)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "holds no token"),
        ("write short", "at least 16"),
        (f"wirte {'x' * 20}", "write it as"),
        (f"write {'x' * 20} y", "write it as"),
        (f"write {'x' * 20}\nwrite {'y' * 20}", "a second token"),
        (f"write {'x' * 20}\nread {'x' * 20}", "must not be the same"),
        ("x" * 5000, "more than 4096 bytes"),
    ],
)
def test_what_is_wrong_with_a_file_of_tokens(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InvalidInput, match=what) as caught:
        read_tokens(private(tmp_path / "tokens", text))
    assert "xxxx" not in str(caught.value)


def test_a_file_of_tokens_is_private(tmp_path: Path) -> None:
    path = private(tmp_path / "tokens", "write " + "x" * 20)
    path.chmod(0o644)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o644
    with pytest.raises(InvalidInput, match="chmod 600"):
        read_tokens(path)
    with pytest.raises(InvalidInput, match="No such file"):
        read_tokens(tmp_path / "nowhere")
