"""The key of a store is in no environment once an engine has it: what bodies start must not have it."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from treadle import Engine
from treadle.crypto import hidden
from treadle.crypto.keys import new_key
from treadle.store import KEY_VARIABLE, encryption_key, open_store
from treadle.store.sealing.sealed import SealedStore

NAME = "STORES_KEY_OF_THIS_TEST"
DIAGRAM = """
treadle: 1
nodes:
  bash: {type: code_job, language: bash, code: env}
  code: {type: code_job, isolation: process, code: "import os; return dict(os.environ)", needs: bash}
  all: {type: endpoint, needs: [bash, code]}
"""


@pytest.mark.parametrize("how", ["option", "block", "variable"])
def test_what_bodies_start_has_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    key, (variable, said) = new_key(), {
        "option": (NAME, f"env:{NAME}"), "block": (NAME, None), "variable": (KEY_VARIABLE, None)}[how]
    for name in (NAME, KEY_VARIABLE):
        monkeypatch.setitem(hidden, name, "")  # and forgotten afterwards
    monkeypatch.setenv(variable, key)
    (tmp_path / "demo.yaml").write_text(DIAGRAM)

    async def run() -> str:
        async with Engine.open(str(tmp_path / "state.db"), state_encryption_key=said) as engine:
            assert variable not in os.environ
            return repr(await (await engine.start(str(tmp_path / "demo.yaml"))).result())

    with encryption_key(f"env:{NAME}" if how == "block" else None):
        shown = asyncio.run(run())
        assert "PATH" in shown and key not in shown and variable not in shown
        asyncio.run(run())  # and the next one finds it
        store = open_store(tmp_path / "state.db", key=said)
    assert isinstance(store, SealedStore)
    store.close()
