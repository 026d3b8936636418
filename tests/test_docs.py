"""The pages that are drawn from the code are current, and no page links to nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def generate(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "docs" / "generate.py"), *words],
                          capture_output=True, text=True, check=False)


def test_drawn_pages_are_current() -> None:
    done = generate("all", "--check")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: run `python docs/generate.py all`"


def test_an_unknown_page_is_refused() -> None:
    done = generate("statse")
    assert done.returncode == 2
    assert "choose from states" in done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    broken = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text)
              if "://" not in link and not (page.parent / link).exists()]
    assert broken == []
