"""What is recorded of an exception."""

from __future__ import annotations

from typing import Any

from treadle.diagram.expression import Expression
from treadle.errors import ExpressionError, TreadleError
from treadle.nodes.failures import error_info
from treadle.state.cell import ErrorInfo


def raised(function: Any) -> BaseException:
    try:
        function()
    except Exception as error:  # whatever a test wants to raise
        return error
    raise AssertionError("it raised nothing")


def test_an_error_of_ours_has_no_traceback() -> None:
    """The frames of Treadle, and of the library behind its expressions, tell nobody anything."""
    error = raised(lambda: Expression.compile("begin.nope").evaluate({"begin": {"a": 1}}))
    assert isinstance(error, ExpressionError) and error.__cause__ is not None
    told = error_info(error.with_traceback(None), "n")
    assert told.traceback == "" and "no key 'nope'" in told.message


def test_the_frames_of_the_users_code_stay() -> None:
    def theirs() -> None:
        raise KeyError("column")

    def wrapped() -> None:
        try:
            theirs()
        except KeyError as error:
            raise ValueError("no table") from error

    told = error_info(raised(wrapped))
    assert "in theirs" in told.traceback and "direct cause" in told.traceback


def test_details_are_plain_data_or_nothing() -> None:
    error = TreadleError("no")
    error.details = {"at": (1, 2), "text": "\ud800"}
    assert error_info(error, "n") == ErrorInfo("TreadleError", "no", error_info(error).traceback, "n",
                                               {"at": [1, 2], "text": "?"})
    for wrong in ({"what": object()}, {"long": "x" * 5000}):
        error.details = wrong
        assert error_info(error, bytes_max=1000).details is None
    theirs = ValueError("theirs")
    theirs.details = {"a": 1}  # type: ignore[attr-defined]  # who knows what that is
    assert error_info(theirs).details is None
