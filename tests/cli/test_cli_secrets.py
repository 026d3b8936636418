"""`--env`, `--secret-store`, and what a person sees of secrets."""

from __future__ import annotations

from typing import Any

import pytest

DIAGRAM = """
treadle: 1
name: envs
environment_vars: {GREETING: hello, TOKEN: "secret://api"}
nodes:
  script: {type: code_job, language: bash, code: 'echo "$GREETING ${#TOKEN} $TOKEN $MORE"'}
  program: {type: hook, kind: shell, command: 'echo "$T $GREETING"', env: {T: "secret://api"}, result: output}
  body: {type: code_job, code: "import os; return [os.environ['GREETING'], len(os.environ['TOKEN'])]"}
"""
SECRET = "hunter2-hunter2"


@pytest.fixture(name="treadle")
def _treadle(treadle: Any) -> Any:
    path = treadle.folder / "secrets.toml"
    path.touch(0o600)
    path.write_text(f'api = "{SECRET}"\n')
    treadle.write(DIAGRAM)
    return treadle


def test_variables_and_secrets_reach_what_nodes_start(treadle: Any) -> None:
    done = treadle.json("run", "diagram.yaml", "--secret-store", "file:secrets.toml", "--env", "MORE=x",
                        "--env", "GREETING=hi")
    assert done["output"] == {"script": "hi 15 [secret api] x", "program": "[secret api] hi",
                              "body": ["hi", 15]}
    shown = treadle("show", done["execution_id"], "--node", "script")
    assert "[secret api]" in shown.stdout and SECRET not in shown.stdout + shown.stderr
    assert SECRET not in treadle("logs", done["execution_id"]).stdout
    files = treadle.folder.glob(treadle.store.name + "*")
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_a_secret_that_is_missing_fails_its_node_at_once(treadle: Any) -> None:
    treadle.write(DIAGRAM.replace("secret://api", "secret://apy"))
    done = treadle("run", "diagram.yaml", "--secret-store", "file:secrets.toml")
    assert done.returncode == 1
    assert "NoSuchSecret: secret 'apy'" in done.stderr and "did you mean 'api'?" in done.stderr


@pytest.mark.parametrize(("words", "message"), [
    (("--env", "A-B=1"), "--env A-B: write it as --env NAME=VALUE"),
    (("--env", "A"), "--env A: write it as --env NAME=VALUE"),
    (("--env", "A=1", "--env", "A=2"), "--env A: the variable is given twice"),
    (("--env", "A=Bearer secret://x"), "--env A: a secret is looked up only where the whole value is secret"),
    (("--secret-store", "valt://x"), "there is no store of secrets 'valt://x': did you mean 'vault'?"),
    (("--secret-store", "vault://"), "'vault://' names no place in Vault"),
])
def test_mistakes_are_told_before_anything_runs(treadle: Any, words: tuple[str, ...], message: str) -> None:
    done = treadle("run", "diagram.yaml", *words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not treadle.store.exists()
