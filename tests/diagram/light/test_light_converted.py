"""The cases that users bring end the same in whichever form they are run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.formats.conversion.forms import convert

CASES = Path(__file__).parents[2] / "acceptance" / "light"
ELSEWHERE = ("06_barrier", "16_child", "19_kill9_resume",  # their nodes are compared in test_conversion
             "12_llm_decision_loop")  # needs a script: in test_cli_convert


def ran(light: Any, path: Path) -> Any:
    shutil.rmtree(light.folder / "files" / "results", ignore_errors=True)
    return light.runner.run(light._run(path, {}, {}))


@pytest.mark.parametrize("name", [
    path.name for path in sorted(CASES.glob("*.light.yaml"))
    if path.name.partition(".")[0] not in ELSEWHERE])
def test_a_case_ends_the_same_when_it_is_converted(light: Any, name: str) -> None:
    shutil.copytree(CASES, light.folder, dirs_exist_ok=True)
    file = str(light.folder / name)
    text = Path(file).read_text()
    ours = convert(text, "treadle", file=file)[0]
    (light.folder / "ours.yaml").write_text(ours)
    (light.folder / "native.json").write_text(convert(text, "native", file=file, written="json")[0])
    (light.folder / "back.light.yaml").write_text(convert(ours, "light", file=file)[0])
    first = ran(light, Path(file))
    assert first.states
    for form in ("ours.yaml", "native.json", "back.light.yaml"):
        assert ran(light, light.folder / form) == first
