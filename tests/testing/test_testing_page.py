"""docs/testing.md: its files are written out as they stand there, and run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from treadle.cli.main import main

pytest_plugins = ["pytester"]
PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
_FILE = re.compile(r"```(?:yaml|python)\n# (\S+)\n(.*?)```", re.DOTALL)


def files() -> dict[str, str]:
    return dict(_FILE.findall(PAGE.read_text(encoding="utf-8")))


def test_the_page_s_tests_pass(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    found = files()
    assert {"debate.yaml", "debate.test.yaml", "drinks.yaml", "drinks.py", "test_debate.py",
            "test_client.py"} <= set(found)
    for name, text in found.items():
        (pytester.path / name).write_text(text)
    done = pytester.runpytest_subprocess("-p", "treadle.testing.plugin")
    done.assert_outcomes(passed=7)


@pytest.mark.parametrize(("script", "said"), [("drinks.yaml", '"winner": "Ann"'),
                                              ("drinks.py", '"winner": "Ann"')])
def test_the_page_s_scripts_run(script: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in files().items():
        (tmp_path / name).write_text(text)
    assert main(["run", "debate.yaml", "-i", "topic=drinks", "--script", script, "--store", "r.db"]) == 0
    assert said in capsys.readouterr().out
