"""An engine with a retention policy prunes its store, seldom and out of the way."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from treadle import Engine
from treadle.config import Retention
from treadle.diagram.builder import Diagram, node
from treadle.engine import retention
from treadle.store import open_store
from treadle.testing.contract.pruning import ended, left


@node
def one() -> int:
    return 1


def drawn() -> Any:
    with Diagram("count") as diagram:
        one()
    return diagram


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "runs.db")


def ids(url: str) -> list[str]:
    store = open_store(url)
    try:
        return left(store)
    finally:
        store.close()


async def runs(url: str, policy: Retention | None, *names: str, wait: bool = False) -> None:
    async with Engine.open(url, retention=policy) as engine:
        for name in names:
            await (await engine.start(drawn(), execution_id=name)).result()
        while wait and len(ids(url)) > 1:
            await asyncio.to_thread(time.sleep, 0.01)


def test_it_prunes_after_executions_have_ended(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(runs(url, None, "a", "b"))
    monkeypatch.setattr(retention, "SOON_S", 0.01)  # the only end of this engine: a prune is due once an hour
    asyncio.run(asyncio.wait_for(runs(url, Retention(keep=1), "c", wait=True), 30))
    assert ids(url) == ["c"]


def test_an_engine_that_closes_at_once_prunes_on_its_way_out(url: str) -> None:
    asyncio.run(runs(url, Retention(keep=1), "a", "b", "c"))
    assert ids(url) == ["c"]


def test_a_store_is_pruned_once_an_hour_by_whoever(url: str) -> None:
    asyncio.run(runs(url, Retention(keep=1), "a", "b"))
    asyncio.run(runs(url, Retention(keep=1), "c", "d"))
    assert ids(url) == ["b", "c", "d"]
    an_hour_ago = time.time() - retention.EVERY_S - 1
    os.utime(url + "-pruned", (an_hour_ago, an_hour_ago))
    asyncio.run(runs(url, Retention(keep=1), "e"))
    assert ids(url) == ["e"]


def test_without_a_policy_nothing_goes(url: str) -> None:
    asyncio.run(runs(url, None, "a", "b"))
    asyncio.run(runs(url, Retention(), "c"))
    assert ids(url) == ["a", "b", "c"]


def test_a_prune_that_is_under_way_ends_with_the_engine(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(url)
    for number in range(50):
        ended(store, f"old{number}", more=300)
    store.close()
    monkeypatch.setattr(retention, "CLOSING_S_MAX", 0.0)
    asyncio.run(runs(url, Retention(keep=1), "new"))
    assert 1 < len(ids(url)) < 51  # some went; the next prune goes on


def test_what_keeps_it_from_pruning_is_no_failure(
        url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    from treadle.errors import StoreFull
    from treadle.store.sqlite import pruning

    def full(path: str) -> None:
        raise StoreFull("the disk is full")

    monkeypatch.setattr(pruning, "_alone", full)
    with caplog.at_level("INFO", "treadle.engine"):
        asyncio.run(runs(url, Retention(keep=1), "a", "b"))
    assert ids(url) == ["a", "b"]
    assert "not pruned: the disk is full" in caplog.text
