"""Read JSON with the place of every value.

The standard library's reader knows no places and recurses; YAML's could do it, but JSON is not quite a
subset of it (tabs, surrogate pairs). So: a small scanner of our own, with the standard library's for
strings.
"""

from __future__ import annotations

import json.decoder
import re
from bisect import bisect_right

from treadle.diagram.formats.tree import TreeBuilder, Unreadable
from treadle.errors import Fault, Where

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_WORD = re.compile(r"[A-Za-z_]+")
_WORDS = {"null": None, "true": True, "false": False}


def read_json(text: str, file: str, builder: TreeBuilder) -> None:
    """Feed a text to the builder. Raises Unreadable at the first syntax error."""
    _Scanner(text, file, builder).run()


class _Scanner:
    def __init__(self, text: str, file: str, builder: TreeBuilder) -> None:
        self.text, self.file, self.builder = text, file, builder
        self.at = 0
        self.lines = [0, *(match.end() for match in re.finditer("\n", text))]

    def run(self) -> None:
        """A value is expected, or after one a comma or an end; `closers` are the brackets that are open."""
        builder = self.builder
        closers: list[str] = []
        value_due, fresh = True, False  # fresh: just inside a bracket, where it may end at once
        while True:
            self.space()
            char = self.text[self.at:self.at + 1]
            if closers and char == closers[-1] and (not value_due or fresh):
                closers.pop()
                self.at += 1
                builder.close()
                value_due = fresh = False
            elif not value_due:
                if not closers:
                    if char:
                        raise self.error("the end of the text was expected")
                    return
                self.expect(",", closers[-1])
                value_due = True
            else:
                if closers and closers[-1] == "}":
                    self.member()
                opened = self.value()
                if opened:
                    closers.append(opened)
                value_due = fresh = bool(opened)

    def member(self) -> None:
        if self.text[self.at:self.at + 1] != '"':
            raise self.error("a key in double quotes was expected")
        where = self.where()
        self.builder.key(self.string(), where)
        self.space()
        self.expect(":")
        self.space()

    def value(self) -> str:
        """Read a scalar, or the opening bracket of something larger; gives the bracket that will close it."""
        where, char = self.where(), self.text[self.at:self.at + 1]
        if char in ("{", "["):
            self.at += 1
            self.builder.open({} if char == "{" else [], where)
            return "}" if char == "{" else "]"
        if char == '"':
            self.builder.scalar(self.string(), where)
        elif char == "-" or char.isdigit():
            match = _NUMBER.match(self.text, self.at)
            if match is None:
                raise self.error("a number was expected")
            try:
                self.builder.scalar(float(match[0]) if match[1] or match[2] else int(match[0]), where)
            except ValueError:
                raise self.error("the number has too many digits") from None
            self.at = match.end()
        else:
            word = _WORD.match(self.text, self.at)
            if word is None or word[0] not in _WORDS:
                raise self.error("a value was expected")
            self.builder.scalar(_WORDS[word[0]], where)
            self.at = word.end()
        return ""

    def string(self) -> str:
        try:
            text: str
            scan = json.decoder.scanstring  # type: ignore[attr-defined]
            text, self.at = scan(self.text, self.at + 1, True)
        except json.JSONDecodeError as error:
            self.at = error.pos
            raise self.error(error.msg) from None
        return text

    def space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        assert match is not None
        self.at = match.end()

    def expect(self, char: str, other: str = "") -> None:
        if self.text[self.at:self.at + 1] != char:
            raise self.error(f"{char!r}" + (f" or {other!r}" if other else "") + " was expected")
        self.at += 1

    def where(self) -> Where:
        line = bisect_right(self.lines, self.at)
        return Where(self.file, line, self.at - self.lines[line - 1] + 1)

    def error(self, message: str) -> Unreadable:
        found = self.text[self.at:self.at + 1]
        what = f"found {found!r}" if found else "the text ends here"
        return Unreadable(Fault(f"not JSON: {message}, {what}", where=self.where()))
