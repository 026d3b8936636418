"""The Python in the documentation runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", ["events.md"])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    blocks = BLOCK.findall((DOCS / page).read_text())
    assert blocks
    for number, text in enumerate(blocks):
        path = tmp_path / f"block_{number}.py"
        path.write_text(text)
        done = subprocess.run([sys.executable, "-W", "error", str(path)], cwd=tmp_path, capture_output=True,
                              text=True, timeout=60, env=os.environ, check=False)
        assert done.returncode == 0, done.stderr
