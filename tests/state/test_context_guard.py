"""Who guards the shared context is asked about what really is there."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from treadle.errors import MutationVetoed
from treadle.state.context import Mutation, SharedContext


def test_a_guard_is_asked_again_when_what_it_was_shown_has_changed() -> None:
    shown: list[Any] = []

    def other_body() -> None:
        context.variables["x"] = "theirs"

    def only_once(mutation: Mutation) -> str | None:
        shown.append(mutation.changes["variables.x"].old)
        if len(shown) == 1:  # another body is faster while the guard thinks
            contextvars.Context().run(other_body)
        return "it is set already" if shown[-1] is not None else None

    context = SharedContext("e", on_commit=only_once)
    with pytest.raises(MutationVetoed, match="set already"):
        context.variables["x"] = "mine"
    assert (context.variables["x"], shown) == ("theirs", [None, None, "theirs"])
