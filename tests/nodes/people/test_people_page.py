"""The diagrams of docs/people.md run as they stand there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).resolve().parents[3] / "docs" / "people.md"
BLOCKS = re.findall(r"```yaml\n(treadle: 1\n.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


RESULTS = ["Rain falls.", {"title": "Rain", "words": 3}, "Two days in bed."]


@pytest.mark.parametrize(("block", "result"), list(zip(BLOCKS, RESULTS, strict=True)))
def test_the_page_s_diagrams_run(run: Any, block: str, result: Any) -> None:
    ran = run(block)
    assert ran.result == result, ran.error
