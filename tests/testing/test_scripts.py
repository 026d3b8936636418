"""Files with what persons say: how they are read, and what slips in them are told."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.errors import InvalidDiagram, InvalidInput
from treadle.nodes.people.offline.standins import Script, read_script, standins


def test_yaml_json_and_python(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("# what they say\nAnn: [Tea., {winner: Bob}]\n\nDr. Who:\n  - Hm\n")
    scripts = read_script(tmp_path / "a.yaml")
    assert scripts["Ann"].answers == ["Tea.", {"winner": "Bob"}]
    assert str(scripts["Dr. Who"].where).endswith("a.yaml:4")
    (tmp_path / "a.json").write_text('{"Ann": ["Tea."]}')
    assert read_script(tmp_path / "a.json")["Ann"].answers == ["Tea."]
    (tmp_path / "a.py").write_text(
        "from json import dumps\n\nBob = ['Yes']\n_HIDDEN = ['no']\n\n\n"
        "def Dr_Who(*args):\n    return _hm()\n\n\ndef _hm():\n    return 'Hm'\n")
    scripts = read_script(tmp_path / "a.py")
    assert sorted(scripts) == ["Bob", "Dr_Who"]
    assert callable(scripts["Dr_Who"].answers)
    assert str(scripts["Dr_Who"].where).endswith("a.py:7")
    assert standins(scripts).script_of("Dr. Who") is scripts["Dr_Who"]


def test_a_function_may_be_named_in_a_map(tmp_path: Path) -> None:
    (tmp_path / "voices.py").write_text("def ann(prompt):\n    return prompt.upper()\n")
    (tmp_path / "a.yaml").write_text('Ann: "voices:ann"\n')
    found = read_script(tmp_path / "a.yaml")["Ann"].answers
    assert callable(found) and found("tea") == "TEA"
    (tmp_path / "a.yaml").write_text('Ann: "voices:anne"\n')
    with pytest.raises(InvalidDiagram, match=r"a\.yaml:1: the script of person 'Ann': .*did you mean 'ann'"):
        read_script(tmp_path / "a.yaml")


def test_one_that_is_used_up_names_person_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("Bob: [x]\nAnn: [Tea., Coffee.]\n")
    script = read_script(tmp_path / "a.yaml")["Ann"]
    assert (script.answer(0), script.answer(1)) == ("Tea.", "Coffee.")
    with pytest.raises(InvalidInput, match=r"person 'Ann' is asked for the 3rd time, and the script "
                                           r".*a\.yaml:2 has 2 answers: add one"):
        script.answer(2)
    with pytest.raises(InvalidInput, match=r"'Bob' is asked for the 1st time, and its script has 0 answers"):
        Script("Bob", []).answer(0)


def test_slips(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("Ann: Tea.\nBob: {a: 1}\n")
    with pytest.raises(InvalidDiagram) as raised:
        read_script(tmp_path / "a.yaml")
    assert [str(fault).partition("a.yaml:")[2] for fault in raised.value.faults] == [
        "1: the script of person 'Ann': it must be a list of answers, or module:function",
        "2: the script of person 'Bob': it must be a list of answers, or module:function"]
    (tmp_path / "a.yaml").write_text("- Tea.\n")
    with pytest.raises(InvalidDiagram, match=r"a\.yaml:1: a script is a map of persons to lists of answers"):
        read_script(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("Ann: [\n")
    with pytest.raises(InvalidDiagram, match=r"a\.yaml:2: not YAML"):
        read_script(tmp_path / "a.yaml")
    (tmp_path / "my-script.py").write_text("")
    with pytest.raises(InvalidInput, match=r"its name must be an identifier that ends in \.py"):
        read_script(tmp_path / "my-script.py")
    (tmp_path / "broken.py").write_text("import nothing_of_the_kind\n")
    with pytest.raises(InvalidInput, match=r"broken\.py: importing 'broken'.* failed: No module named"):
        read_script(tmp_path / "broken.py")
    with pytest.raises(FileNotFoundError):
        read_script(tmp_path / "none.yaml")


def test_options_that_fit_nowhere(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the script of person 'Ann' must be a list of answers or a fun"):
        standins({"Ann": "Tea."})
    with pytest.raises(InvalidInput, match="record and replay exclude each other"):
        standins(record=tmp_path, replay=tmp_path)
    with pytest.raises(InvalidInput, match=r"replay: there is no folder '.*none'"):
        standins(replay=tmp_path / "none")
    assert not standins()
