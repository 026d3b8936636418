"""A policy: how it is written, where it is found, what is said of mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from treadle.config import GB, Retention, parse_bytes, parse_seconds, read_retention, size_text
from treadle.errors import InvalidInput

DAY = 86400.0


@pytest.mark.parametrize(("text", "seconds"), [
    ("30d", 30 * DAY), ("12h", DAY / 2), ("1h 30min", 5400), ("2 weeks", 14 * DAY), ("1.5 H", 5400),
    ("45s", 45), ("5m", 300), ("1 month", 30 * DAY), ("1y", 365 * DAY), ("0s", 0)])
def test_durations_are_read_as_people_write_them(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(("text", "size"), [
    ("2GB", 2 * GB), ("500 mb", 500 * 1024 ** 2), ("1.5g", 3 * GB // 2), ("64KiB", 65536), ("1000", 1000)])
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "30", "d", "30 dags", "-3d", "3d!", "1e9 s"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"^--older: .* can't be read: (write it as 30d|did you mean)"):
        parse_seconds(text, "--older")


def test_sizes_are_told_as_people_read_them() -> None:
    assert [size_text(number) for number in (0, 1023, 1536, 5 * 1024 ** 2, 1023 * 1024, 1.5 * GB)] == [
        "0 bytes", "1023 bytes", "1.5 KB", "5 MB", "1023 KB", "1.5 GB"]


def test_limits_that_make_no_sense_are_refused() -> None:
    for wrong in ({"keep": -1}, {"older_s": float("nan")}, {"size_bytes_max": -5}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            Retention(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="did you mean 'completed'"):
        Retention(status=("complete",))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "project" / "flows"
    made.mkdir(parents=True)
    (tmp_path / "treadle.toml").write_text("")  # the search ends here, whatever is above
    return made


def test_the_nearest_file_counts(folder: Path) -> None:
    assert read_retention(folder) is None
    project = folder.parent / "pyproject.toml"
    project.write_text('[tool.ruff]\nline-length = 100\n')
    assert read_retention(folder) is None
    project.write_text('[tool.treadle.retention]\nkeep = 7\n')
    assert read_retention(folder) == (Retention(keep=7), project)
    nearer = folder / "treadle.toml"
    nearer.write_text('[retention]\nolder = "30d"\nkeep = 1000\nmax_size = "2GB"\nstatus = "failed"\n')
    assert read_retention(folder) == (Retention(
        older_s=30 * DAY, keep=1000, size_bytes_max=2 * GB, status=("failed",)), nearer)


def test_in_one_folder_treadle_toml_comes_first_and_a_table_without_a_policy_ends_the_search(
        folder: Path) -> None:
    (folder.parent / "treadle.toml").write_text("[retention]\nkeep = 1\n")
    own, project = folder / "treadle.toml", folder / "pyproject.toml"
    project.write_text("[tool.treadle.retention]\nkeep = 2\n")
    assert read_retention(folder) == (Retention(keep=2), project)
    own.write_text("[retention]\nkeep = 3\n")
    assert read_retention(folder) == (Retention(keep=3), own)
    own.write_text("")
    assert read_retention(folder) is None, "a project of its own, which keeps everything"


@pytest.mark.parametrize(("text", "said"), [
    ("[retention]\nolde = '3d'", r"treadle\.toml: \[retention\] unknown key `olde`: did you mean 'older'\?"),
    ("[retentoin]\nkeep = 1", r"treadle\.toml: unknown key `retentoin`: did you mean 'retention'\?"),
    ("[retention]\nolder = 30", r"older = 30: it must be a text as 30d"),
    ("[retention]\nolder = '30'", r"\[retention\] older: '30' can't be read: write it as 30d"),
    ("[retention]\nkeep = true", r"keep = True: it must be a whole number"),
    ("[retention]\nmax_size = '2 gigas'", r"max_size: '2 gigas' can't be read"),
    ("[retention]\nstatus = ['done']", r"\[retention\] there is no status 'done'"),
    ("retention = 3", r"\[retention\] must be a table, with older, keep"),
    ("[retention\n", r"treadle\.toml: it is no TOML: .*line 1"),
])
def test_a_mistake_is_named_with_its_file(folder: Path, text: str, said: str) -> None:
    (folder / "treadle.toml").write_text(text)
    with pytest.raises(InvalidInput, match=said):
        read_retention(folder)


def test_mistakes_in_a_project_file_count_only_where_it_is_about_us(folder: Path) -> None:
    project = folder / "pyproject.toml"
    project.write_text("[tool.other\n")
    assert read_retention(folder) is None
    project.write_text("[tool.treadle]\nretention = {kepe = 3}\n")
    with pytest.raises(InvalidInput, match=r"project\.toml: \[tool\.treadle\.retention\] unknown key `kepe`"):
        read_retention(folder)
    project.write_text("[tool]\ntreadle = 3\n")
    with pytest.raises(InvalidInput, match=r"`tool\.treadle` must be a table"):
        read_retention(folder)
