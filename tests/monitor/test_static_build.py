"""The page that is committed is the one that its sources make, and keeps to what its policy allows."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "web"
STATIC = ROOT / "src" / "treadle" / "monitor" / "static"
SINGLE = ("biome.json", "digest.mjs", "index.html", "package.json", "tsconfig.json", "types.mjs",
          "vite.config.ts")
BUILD_BYTES_MAX = 4_000_000
FIRST_BYTES_MAX = 500_000
"""What the browser needs before it shows the list, uncompressed."""


def digest() -> str:
    """As web/digest.mjs computes it."""
    folders = [path for folder in ("src", "public") for path in (WEB / folder).rglob("*") if path.is_file()]
    files = {path.relative_to(WEB).as_posix(): path for path in (*(WEB / name for name in SINGLE), *folders)
             if ".test." not in path.name}
    whole = hashlib.sha256()
    for name in sorted(files):
        whole.update(f"{name}\n{hashlib.sha256(files[name].read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def test_the_build_is_of_these_sources() -> None:
    built = (STATIC / "sources.sha256").read_text(encoding="utf-8").strip()
    assert built == digest(), "the page is older than its sources: say `make web`, and commit what it builds"


def test_the_types_of_the_page_are_those_of_the_api() -> None:
    drawn = (WEB / "src" / "api" / "schema.ts").read_text(encoding="utf-8").splitlines()[0]
    whole = hashlib.sha256((STATIC.parent / "openapi.json").read_bytes()).hexdigest()
    assert drawn.endswith(whole), "the API has changed since: say `make web`, and commit what it draws"


def test_the_page_has_no_inline_script_and_names_no_other_host() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    assert re.findall(r"<script(?![^>]*\bsrc=)[^>]*>", page) == []
    assert re.findall(r"\bon\w+=", page) == []
    links = re.findall(r"(?:src|href)=\"([^\"]+)\"", page)
    assert links != [] and [link for link in links if not link.startswith("./")] == []


def test_what_the_page_names_is_there() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    named = re.findall(r"(?:src|href)=\"\./([^\"]+)\"", page)
    assert [name for name in named if not (STATIC / name).is_file()] == []
    chunks = {path.name for path in (STATIC / "assets").iterdir()}
    scripts = [path for path in (STATIC / "assets").glob("*.js") if "elk-worker" not in path.name]
    imported = {name for path in scripts
                for name in re.findall(r"[\"'`](?:\./|assets/)([\w.-]+-[\w-]{8}\.(?:js|css))[\"'`]",
                                       path.read_text(encoding="utf-8"))}
    assert imported - chunks == set()


def test_the_page_asks_no_other_host() -> None:
    """Addresses in the code are names: XML name spaces, and where libraries explain their errors."""
    named = r"www\.w3\.org/|react\.dev/|reactflow\.dev|xyflow\.com|rolldown\.rs"
    names = re.compile(rf"https?://(?!{named})[\w.-]+")
    scripts = [path for path in (STATIC / "assets").iterdir() if "elk-worker" not in path.name]
    found = {match for path in scripts for match in names.findall(path.read_text(encoding="utf-8"))}
    assert found == set()


def test_the_page_is_small() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    first = [STATIC / name for name in re.findall(r"(?:src|href)=\"\./([^\"]+)\"", page)]
    assert sum(path.stat().st_size for path in first) < FIRST_BYTES_MAX
    assert sum(path.stat().st_size for path in STATIC.rglob("*") if path.is_file()) < BUILD_BYTES_MAX
