"""The examples, run as their READMEs say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sysconfig
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from .. import forked

EXAMPLES = Path(__file__).parents[2] / "examples"
REPORT = str(EXAMPLES / "stdlib_report" / "diagram.yaml")
APPROVAL = str(EXAMPLES / "approval" / "diagram.yaml")


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return forked.command(folder, *words, TREADLE_STORE=str(folder / "runs.db"))


def function(name: str, lines: int) -> str:
    return f"def {name}():\n" + "    pass\n" * (lines - 1)


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A library: a package, forty files with functions of 41 to 80 lines, one file that is no Python."""
    root = tmp_path / "lib"
    (root / "pack").mkdir(parents=True)
    (root / "site-packages").mkdir()
    (root / "site-packages" / "not_ours.py").write_text(function("huge", 500))
    (root / "pack" / "__init__.py").write_text("import os, sys.path\nfrom . import inner\n")
    (root / "pack" / "inner.py").write_text(
        "class A:\n    def b(self):\n        def c():\n            pass\n")
    for number in range(40):
        (root / f"m{number:02}.py").write_text("import os\n" + function("long", 41 + number))
    (root / "bad.py").write_text("print 'old'\n")
    return root


def report(tmp_path: Path, root: Path, *inputs: str, out: str = "out") -> tuple[str, str]:
    done = command(tmp_path, "run", REPORT, "-i", f"root={root}", "-i", f"out={out}",
                   *(word for one in inputs for word in ("-i", one)))
    assert done.returncode == 0, done.stderr
    return (tmp_path / out / "report.md").read_text(), done.stdout


def test_every_diagram_of_the_examples_is_without_faults() -> None:
    found = [str(path) for path in sorted(EXAMPLES.glob("*/diagram.yaml"))]
    assert len(found) >= 2
    done = command(EXAMPLES, "check", *found)
    assert done.stdout.splitlines() == [f"{path}: no faults" for path in found]


def test_the_report_measures_every_file_and_collects_the_unreadable(tmp_path: Path, modules: Path) -> None:
    text, said = report(tmp_path, modules, "limit=75", "page=45")
    assert said == f"43 files measured, 1 of them unreadable; the report is {tmp_path}/out/report.md\n"
    assert "43 files, 2,466 lines, 42 functions; in 5 files" in text
    rows = re.findall(r"^\| (m\d\d)\.py \| `long` \| 2 \| (\d+) \|$", text, re.M)
    assert rows == [("m39", "80"), ("m38", "79"), ("m37", "78"), ("m36", "77"), ("m35", "76")]
    assert "- bad.py: SyntaxError: Missing parentheses" in text
    assert "1. `os`, by 41 files" in text
    assert "not_ours" not in text


def test_the_report_is_refined_until_its_table_fits_the_page(tmp_path: Path, modules: Path) -> None:
    text, _ = report(tmp_path, modules, "limit=40", "page=20")
    table = text.partition("## The longest functions\n\n")[2].partition("## What is imported")[0].strip()
    assert len(table.splitlines()) <= 20
    assert re.search(r"\d+ more between 40 and \d+ lines are left out", table)
    assert "| m39.py |" in table and "| m00.py |" not in table


def test_without_long_functions_there_is_nothing_to_refine(tmp_path: Path, modules: Path) -> None:
    text, _ = report(tmp_path, modules, "limit=1000")
    assert "No function has more than 1000 lines." in text


def test_two_runs_write_the_same_report_and_a_chart(tmp_path: Path) -> None:
    """On real files: a package of the standard library."""
    root = Path(sysconfig.get_paths()["stdlib"]) / "email"
    first, _ = report(tmp_path, root, "limit=30", out="one")
    second, _ = report(tmp_path, root, "limit=30", out="two")
    assert first == second
    chart = (tmp_path / "one" / "chart.svg").read_bytes()
    assert chart == (tmp_path / "two" / "chart.svg").read_bytes()
    svg = ElementTree.fromstring(chart)
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    assert {one.text for one in svg.iter("{http://www.w3.org/2000/svg}text")} >= {"(single files)", "mime"}


def test_what_the_report_can_not_work_with_is_said(tmp_path: Path, modules: Path) -> None:
    for given, says in ((f"root={modules}/nothing", "there is no such folder"),
                        ("page=3", "a table needs at least")):
        done = command(tmp_path, "run", REPORT, "-i", given)
        assert done.returncode == 1
        assert says in done.stderr and "node 'find'" in done.stderr


def test_an_approval_is_finished_by_an_answer_in_another_process(tmp_path: Path) -> None:
    first = command(tmp_path, "run", APPROVAL, "-i", "amount=99", "--execution-id", "desk")
    assert first.returncode == 3
    assert "waits for an answer: Shall we buy a standing desk for 99 €? (yes, no)" in first.stderr
    assert command(tmp_path, "resume", "desk").returncode == 3  # nobody has answered
    assert command(tmp_path, "answer", "desk", "approve", "perhaps").returncode == 2
    assert command(tmp_path, "answer", "desk", "approve", "yes").returncode == 0
    last = command(tmp_path, "resume", "desk")
    assert (last.returncode, last.stdout) == (0, "Ordered: a standing desk for 99 € (order desk).\n")


def test_an_approval_may_be_declined(tmp_path: Path) -> None:
    command(tmp_path, "run", APPROVAL, "--execution-id", "desk")
    command(tmp_path, "answer", "desk", "approve", "no")
    assert command(tmp_path, "resume", "desk").stdout == "Declined: a standing desk.\n"


def test_orders_are_loaded_and_an_edit_of_a_query_keeps_the_rest(tmp_path: Path) -> None:
    folder = tmp_path / "etl"
    shutil.copytree(EXAMPLES / "etl", folder)
    done = command(folder, "run", "diagram.yaml", "--execution-id", "orders")
    assert done.returncode == 0, done.stderr
    report = (folder / "out" / "report.md").read_text()
    assert "| US | 4 | 509.00 |" in report
    assert [line.split(":")[0] for line in report.splitlines() if line.startswith("- line")] == [
        "- line 5", "- line 7", "- line 11"]
    text = (folder / "diagram.yaml").read_text()
    for old, new in (("SELECT country", "SELECT customer AS country"),
                     ("GROUP BY country", "GROUP BY customer")):
        assert old in text
        text = text.replace(old, new)
    (folder / "diagram.yaml").write_text(text)
    done = command(folder, "resume", "orders")
    shown = re.search(r"```\n(the diagram has changed.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert shown is not None and shown[1] in done.stderr, "the README shows what is printed"
    assert "| Grace | 2 | 155.00 |" in (folder / "out" / "report.md").read_text()


def test_orders_can_be_forked_with_another_file(tmp_path: Path) -> None:
    folder = tmp_path / "etl"
    shutil.copytree(EXAMPLES / "etl", folder)
    assert command(folder, "run", "diagram.yaml", "--execution-id", "orders").returncode == 0
    (folder / "april.csv").write_text("id,day,customer,country,quantity,price\n1,2026-04-01,Ada,GB,1,2.50\n")
    done = command(folder, "fork", "orders", "-i", "orders=april.csv", "-i", "out=april")
    assert done.returncode == 0, done.stderr
    assert "| GB | 1 | 2.50 |" in (folder / "april" / "report.md").read_text()
    assert "| US | 4 | 509.00 |" in (folder / "out" / "report.md").read_text()
