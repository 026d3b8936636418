"""Limits have names, defaults and bounds."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from treadle.config import DEFAULT_CONFIG, TreadleConfig, read_limits
from treadle.errors import InvalidInput, LimitExceeded


def test_a_configuration_is_frozen_and_equal_ones_have_one_hash() -> None:
    with pytest.raises(AttributeError):
        DEFAULT_CONFIG.concurrency = 1  # type: ignore[misc]
    assert TreadleConfig().config_hash == DEFAULT_CONFIG.config_hash
    assert TreadleConfig(concurrency=7).config_hash != DEFAULT_CONFIG.config_hash
    assert len(DEFAULT_CONFIG.config_hash) == 16


@pytest.mark.parametrize(("field", "value"), [
    ("concurrency", 0), ("concurrency", 2.5), ("concurrency", None),
    ("lease_s", -1.0), ("lease_s", float("inf")), ("lease_s", True), ("loop", "trio"), ("process_max", 0)])
def test_a_limit_that_makes_no_sense_is_named(field: str, value: object) -> None:
    with pytest.raises(InvalidInput, match=field):
        TreadleConfig(**{field: value})  # type: ignore[arg-type]


def test_process_max_defaults_to_the_cores_of_this_machine() -> None:
    assert DEFAULT_CONFIG.processes >= 1
    assert TreadleConfig(process_max=3).processes == 3


def test_a_reached_limit_says_how_to_raise_it() -> None:
    error = DEFAULT_CONFIG.exceeded("items_max", "map 'x' has 2000000 items")
    assert isinstance(error, LimitExceeded)
    assert "items_max is 1000000" in str(error) and "TreadleConfig(items_max=" in str(error)


def test_limits_come_from_the_project_s_file(tmp_path: Path) -> None:
    (tmp_path / "treadle.toml").write_text('[limits]\noutput_bytes_max = "2 MB"\nlease_s = 20\n')
    config = read_limits(tmp_path / "below")
    assert (config.output_bytes_max, config.lease_s) == (2 * 1024 * 1024, 20.0)
    assert read_limits(tmp_path.parent / "elsewhere") == DEFAULT_CONFIG
    for text, says in (("lease = 3", "did you mean 'lease_s'"),
                       ("concurrency = 0", r"\[limits\] concurrency=0"),
                       ('batch_size = "9"', "batch_size='9'"),
                       ('output_bytes_max = "much"', "can't be read")):
        (tmp_path / "treadle.toml").write_text(f"[limits]\n{text}\n")
        with pytest.raises(InvalidInput, match=says) as error:
            read_limits(tmp_path)
        assert str(tmp_path / "treadle.toml") in str(error.value)


def test_a_configuration_survives_json() -> None:
    config = TreadleConfig(batch_size=3, process_max=2)
    assert msgspec.json.decode(msgspec.json.encode(config), type=TreadleConfig) == config
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.json.decode(b'{"batchsize": 3}', type=TreadleConfig)
