"""Seed known faults into a copy of the source and see that the suites catch them.

    python tests/mutants.py            all of them
    python tests/mutants.py fence      those whose name contains a word

Each mutant is one small edit that a person could make; a suite that still passes with it has a hole. Exits
with 1 if a mutant survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Mutant(NamedTuple):
    """Replace `old` by `new` in `file` (under src/treadle); one of `tests` must fail then."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


LAWS = ("tests/kernel/test_kernel_laws.py",)

MUTANTS = (
    Mutant(
        "an arrow is left pending",
        "kernel/flow.py",
        "        if carry is DEAD or carry is FAILED:\n            frame.bad[target] = 1\n",
        "        if carry is FAILED and frame.pending[target]:\n            frame.pending[target] += 1\n"
        "        if carry is DEAD or carry is FAILED:\n            frame.bad[target] = 1\n",
        LAWS,
    ),
    Mutant(
        "an iteration off by one", "kernel/flow.py", "turn.turn < loop.max_iterations",
        "turn.turn <= loop.max_iterations", ("tests/kernel/test_kernel_semantics.py",)),
    Mutant(
        "a loop restarts a turn too far", "kernel/control.py", "self._set_turn(turn, turn.turn + 1)",
        "self._set_turn(turn, turn.turn + 2)", ("tests/kernel/test_kernel_semantics.py",)),
    Mutant(
        "a retry is history before its successor exists",
        "kernel/execution.py",
        "            frame.tries[i] = frame.tries.get(i, 1) + 1\n",
        "            self._emit(frame, i, self._ended_cell(before, _FAILED, before.error), before)\n"
        "            frame.tries[i] = frame.tries.get(i, 1) + 1\n",
        ("tests/kernel/test_kernel_semantics.py", *LAWS),
    ),
    Mutant(
        "a resume performs a completed node again", "kernel/retry.py",
        "        if status is _COMPLETED:\n            frame.status[i] = status\n",
        "        if status is _COMPLETED and recorded.attempt > 1:\n            frame.status[i] = status\n",
        LAWS),
    Mutant(
        "no fence", "store/sqlite/writing.py",
        "refused = {pair for pair in owned if held.get(pair[0]) != pair[1]}",
        "refused = {pair for pair in owned if pair[0] not in held}", ("tests/store/test_store_contract.py",)),
    Mutant(
        "no fence where a batch is one statement", "store/sqlite/batch.sql",
        "<> NEW.owned_count", "> NEW.owned_count", ("tests/store/test_store_contract.py",)),
    Mutant(
        "a fenced owner consumes a signal", "store/sqlite/queries.sql",
        "  AND execution_id NOT IN (SELECT value FROM json_each(?2))", "  AND ?2 IS NOT NULL",
        ("tests/store/test_store_contract.py",)),
    Mutant(
        "acknowledgement before fsync", "store/sqlite/writing.py", '"FULL" if sync else "NORMAL"',
        '"NORMAL" if sync else "OFF"', ("tests/store/test_power_loss.py",)),
    Mutant(
        "acknowledgement before the commit", "store/journal/journal.py",
        "        self._writer.put(Job(batch, None, self._written))\n",
        "        self._writer.put(Job(batch, None, self._written))\n        self._arrived(self._ticket)\n",
        ("tests/store/test_journal.py",)),
    Mutant(
        "a lost update at stop", "store/journal/journal.py",
        "            self.leases.clear()\n            await self._soon()\n",
        "            self.leases.clear()\n            self._dirty.clear()\n            await self._soon()\n",
        ("tests/store/test_acceptance_state_manager.py",)),
    Mutant(
        "an older cell replaces a newer one", "store/sqlite/queries.sql",
        " > (node_states.epoch, node_states.seq)", " > (0, 0)",
        ("tests/store/test_store_laws.py",)),
    Mutant(
        "a batch after a gap is written", "store/journal/writer.py",
        "                    self._broken = error\n", "                    pass\n",
        ("tests/store/test_journal.py",)),
)


def survives(mutant: Mutant) -> bool:
    """Whether every test passes with the mutant in place."""
    with tempfile.TemporaryDirectory(prefix="treadle-mutant-") as folder:
        copy = Path(folder)
        for name in ("src", "tests", "examples"):
            if (ROOT / name).exists():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        path = copy / "src" / "treadle" / mutant.file
        text = path.read_text()
        if text.count(mutant.old) != 1:
            sys.exit(
                f"mutant {mutant.name!r}: {mutant.file} has its text {text.count(mutant.old)} times, not "
                "once: the source moved on, bring tests/mutants.py along"
            )
        path.write_text(text.replace(mutant.old, mutant.new))
        environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests], cwd=copy,
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode not in (0, 1):
            sys.exit(f"mutant {mutant.name!r}: the tests could not run:\n{done.stdout[-2000:]}")
        return done.returncode == 0


def main() -> None:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    survivors = 0
    for mutant in MUTANTS:
        if word in mutant.name:
            alive = survives(mutant)
            survivors += alive
            print(f"{'SURVIVES' if alive else 'caught  '}  {mutant.name}  ({mutant.file})", flush=True)
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
