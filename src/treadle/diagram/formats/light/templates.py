"""The templates of the light dialect's prompts, as templates of ours.

    translate("{{#each rows}}{{this.name}} {{/each}}").text
    # '{% for key, this in rows | each %}{{ this.name }} {% endfor %}'

    {{a.b[0].c}} {{a[n]}} {{a.[first name]}}      a value; lists and maps print as JSON
    {{#if x}} … {{else if y}} … {{else}} … {{/if}}, {{#unless x}}
    {{#each xs}} {{this.name}} {{@index}} {{@key}} {{@first}} {{@last}} {{../this}} {{else}} {{/each}}
    {{! a comment }}, {{~x~}} (takes the white space away)

Inside `each` a plain name is still one from outside. What stands in double braces and can be none of these
(`style={{ width: 10 }}`) stays text, with a warning; single braces always do. Double braces that are meant as
text can be kept apart by a comment: `{{{!}}{name}}`.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Collection

import msgspec

from treadle.errors import Fault, Where

Spell = Callable[[str], str]
"""How an expression of ours writes a name of the dialect."""

_RESERVED = frozenset((
    "and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None",
    "loop", "self", "super", "caller", "varargs", "kwargs",
    "inputs", "nodes", "iteration", "attempt"))  # what every node sees, before its inputs
_NAME = r"[^\W\d][\w-]*"
_STEP = re.compile(r"""
    [./](?P<name>[\w-]+(?:[ ]+[\w-]+)*) | [./]?\[(?P<number>-?\d+)\] | \[(?P<slice>-?\d*:-?\d*)\]
    | \[(?P<quote>["'])(?P<quoted>[^"']*)(?P=quote)\] | \.\[(?P<literal>[^\]]+)\]
    | \[(?P<at>[^\W\d][\w.-]*)\]""", re.VERBOSE)
_HEAD = re.compile(r"(?P<up>(?:\.\./)*)(?:(?P<root>@root)[./])?"
                   r"(?:(?P<data>@\w+)|(?P<this>this(?![\w-])|\.(?=\Z))"
                   rf"|(?P<name>{_NAME})|\[(?P<literal>[^\]]+)\])")
_WORDS = re.compile(rf"{_NAME}(?: +[\w-]+)+\Z")  # `my name`, or the call of a helper
_INNER = r"(?:(?!\{\{).)*?"
_TAG = re.compile(rf"\{{\{{(?!\{{)(?:~?!{_INNER}|(?P<inner>{_INNER}))\}}\}}", re.DOTALL)
_TAG_OR_LONG = re.compile(rf"\{{\{{~?!--.*?--~?\}}\}}|{_TAG.pattern}", re.DOTALL)
_UNCLOSED = re.compile(r"\{\{(?P<rest>[^\n]*)")
_APART = "write {{{!}}{ for two braces of the text"
_DATA = {"@index": "index0", "@first": "first", "@last": "last"}
_CODE = re.compile(r"\{(?=[{%#\r]|\Z)|\r")


class Path(msgspec.Struct, frozen=True):
    """A name with what follows it. `up` counts the `../`; a step is a key, a number, a slice or a path."""

    head: str  # a name; "this", "@index" … are those of a loop
    steps: tuple[str | int | tuple[str, str] | Path, ...] = ()
    up: int = 0
    named: bool = True  # whether the head is a name from outside


class Block(msgspec.Struct):
    kind: str  # if, unless, each
    path: Path
    line: int
    body: list[Part] = []
    otherwise: list[Part] | None = None
    chained: bool = False  # stands for `{{else if …}}`: it ends with the block around it


Part = str | Path | Block


class Translated(msgspec.Struct, frozen=True):
    """A template of ours, the names from outside that it uses, and what is wrong with the original."""

    text: str
    names: frozenset[str] = frozenset()
    faults: tuple[Fault, ...] = ()


def spelled(name: str) -> str:
    """A name as our expressions can write it: `my name` and `my-name` become `my_name`; those that mean
    something else there get a `_` behind them."""
    plain = name if name.isidentifier() else re.sub(r"\W", "_", name) or "_"
    return f"_{plain}" if plain[0].isdigit() else f"{plain}_" if plain in _RESERVED else plain


def translate(text: str, *, known: Collection[str] | None = None, spell: Spell = spelled,
              where: Where | None = None, node: str | None = None, what: str = "template") -> Translated:
    """Translate a template; `what` it is stands in messages.

    `known` are the names that arrows bring: `{{#if x}}` over one of them is false while it is not there, as
    of a branch not taken; any other name that is not there is an error.

    With faults that are no warnings the text is not fit to be used.
    """
    reader = _Reader(text, known, lambda message, hint, warning: Fault(
        f"{what}: {message}", node=node, where=where, hint=hint, warning=warning))
    try:
        parts = reader.parts()
        names = frozenset(_names(parts))
        writer = _Writer(spell, known or (), {spell(name) for name in names})
        return Translated(writer.parts(parts), names, tuple(reader.faults))
    except RecursionError:
        return Translated("", frozenset(), (reader.make("its blocks are nested too deeply", None, False),))


class _Reader:
    """Takes a text apart. `open` are the blocks that are not closed yet, the innermost last."""

    def __init__(self, text: str, known: Collection[str] | None,
                 make: Callable[[str, str | None, bool], Fault]) -> None:
        self.text, self.known, self.make = text, known, make
        self.ends = [match.start() for match in re.finditer("\n", text)]  # of its lines
        self.faults: list[Fault] = []
        self.found: list[Part] = []
        self.open: list[Block] = []
        self.strip = False  # the text that comes begins without its white space

    def parts(self) -> list[Part]:
        end = 0
        # A long comment may hold tags. Where none ends, each look for its end would go through all the text.
        long = "--}}" in self.text or "--~}}" in self.text
        for match in (_TAG_OR_LONG if long else _TAG).finditer(self.text):
            self.plain(end, match.start())
            end = match.end()
            if match["inner"] is not None:
                self.tag(match["inner"], match)
        self.plain(end, len(self.text))
        for block in self.open:
            if not block.chained:
                self.mistake(block.line, f"{{{{#{block.kind}}}}} is never closed",
                             f"write {{{{/{block.kind}}}}}")
        return self.found

    def plain(self, begin: int, end: int) -> None:
        """What stands between two tags."""
        self.add(self.text[begin:end])
        for match in _UNCLOSED.finditer(self.text, begin, end):
            named = path_like(match["rest"].strip()) or match["rest"].lstrip()[:1] in ("#", "/")
            self.fault(match.start(),
                       f"{_short(match[0])} is never closed" + ("" if named else ", and stays text"),
                       "write }} behind it" if named else _APART, warning=not named)

    def fault(self, at: int, message: str, hint: str | None = None, *, warning: bool = False) -> None:
        self.mistake(self.line(at), message, hint, warning=warning)

    def line(self, at: int) -> int:
        return bisect_left(self.ends, at) + 1

    def mistake(self, line: int, message: str, hint: str | None = None, *, warning: bool = False) -> None:
        place = f"line {line}: " if "\n" in self.text.strip() else ""
        self.faults.append(self.make(f"{place}{message}", hint, warning))

    @property
    def here(self) -> list[Part]:
        """Where the next part goes."""
        if not self.open:
            return self.found
        block = self.open[-1]
        return block.body if block.otherwise is None else block.otherwise

    def add(self, part: Part) -> None:
        if isinstance(part, str):
            part = part.lstrip() if self.strip else part
            self.strip = self.strip and not part
        here = self.here
        if isinstance(part, str) and here and isinstance(here[-1], str):
            here[-1] += part
        elif part != "":
            here.append(part)

    def tag(self, inner: str, match: re.Match[str]) -> None:
        at = match.start()
        if inner.startswith("~"):
            here = self.here
            if here and isinstance(here[-1], str):
                here[-1] = here[-1].rstrip()
        bare = inner.removeprefix("~").removesuffix("~").strip()
        self.strip = False
        if bare.startswith("#"):
            self.begin(bare[1:].strip(), at)
        elif bare.startswith("/"):
            self.end(bare[1:].strip(), at)
        elif bare in ("else", "^") or bare.startswith("else "):
            self.turn(bare.removeprefix("else").removeprefix("^").strip(), at)
        elif (path := self.path(bare, at)) is not None:
            self.add(path)
        elif not path_like(bare):
            self.fault(at, f"{_short(match[0])} is no name, and stays text",
                       _APART if bare else None, warning=True)
            self.add(match[0])
        self.strip = inner.endswith("~")

    def begin(self, words: str, at: int, *, chained: bool = False) -> None:
        kind, _, rest = words.partition(" ")
        line = self.line(at)
        if kind not in ("if", "unless", "each"):
            self.fault(at, f"there is no block {{{{#{kind}}}}}", "there is: #if, #unless, #each")
            path: Path | None = None
        elif not rest.strip():
            self.fault(at, f"{{{{#{kind}}}}} needs a name", f"such as {{{{#{kind} rows}}}}")
            path = None
        else:
            path = self.path(rest.strip(), at)
            if path is None and not path_like(rest.strip()):
                self.fault(at, f"{{{{#{kind}}}}} takes a name, not {_short(rest.strip())}",
                           "compute it in a node before, and label the arrow")
        block = Block(kind, path or Path("_"), line, [], None, chained)
        self.here.append(block)
        self.open.append(block)

    def end(self, kind: str, at: int) -> None:
        while self.open and self.open[-1].chained:
            self.open.pop()
        if not self.open:
            self.fault(at, f"{{{{/{kind}}}}} closes nothing")
        elif self.open[-1].kind != kind:
            block = self.open.pop()
            self.fault(at, f"{{{{/{kind}}}}} where {{{{/{block.kind}}}}} was expected",
                       f"{{{{#{block.kind}}}}} began in line {block.line}")
        else:
            self.open.pop()

    def turn(self, words: str, at: int) -> None:
        if not self.open:
            self.fault(at, "{{else}} stands outside of a block")
        elif self.open[-1].otherwise is not None:
            self.fault(at, "a second {{else}}", f"the block began in line {self.open[-1].line}")
        else:
            self.open[-1].otherwise = []
            if words:
                self.begin(words, at, chained=True)

    def path(self, text: str, at: int) -> Path | None:
        """The path that a text is; None, with a fault if it looks like one, if it is none."""
        for name in self.known or ():  # which may have a space in it
            if text.startswith(name) and text[len(name):len(name) + 1] in ("", ".", "["):
                steps = self.steps(text, len(name), at)
                if steps is not None:
                    return Path(name, steps)
        head = _HEAD.match(text)
        if head is not None and (steps := self.steps(text, head.end(), at)) is not None:
            return self.placed(head, steps, at)
        if _WORDS.match(text):
            if self.known is None:
                return Path(text)
            word = text.split()[0]
            self.fault(at, f"{{{{{text}}}}}: there is no helper {word!r}",
                       f"if it is a name with spaces, write {{{{[{text}]}}}}")
        elif path_like(text):
            self.fault(at, f"{{{{{text}}}}} can't be read", "write a name such as a.b[0].c")
        return None

    def steps(self, text: str, end: int, at: int) -> tuple[str | int | tuple[str, str] | Path, ...] | None:
        steps: list[str | int | tuple[str, str] | Path] = []
        while end < len(text):
            match = _STEP.match(text, end)
            if match is None:
                return None
            end = match.end()
            if match["slice"] is not None:
                begin, _, stop = match["slice"].partition(":")
                steps.append((begin, stop))
            elif match["at"] is not None:
                index = self.path(match["at"], at)
                if index is None:
                    return None
                steps.append(index)
            elif match["number"] is not None or (match["name"] or "").isdigit():
                steps.append(int(match["number"] or match["name"]))
            else:
                steps.append(match["name"] or match["literal"] or match["quoted"] or "")
        return tuple(steps)

    def placed(self, head: re.Match[str], steps: tuple[str | int | tuple[str, str] | Path, ...],
               at: int) -> Path | None:
        """The path in the loops around it. A plain name is one from outside, wherever it stands."""
        up = head["up"].count("../")
        turns = sum(block.kind == "each" and block.otherwise is None for block in self.open)
        name = head["name"] or head["literal"]
        if name is not None:
            return Path(name, steps)
        word = head["data"] or "this"
        if word not in ("this", "@key", *_DATA):
            self.fault(at, f"there is no {{{{{word}}}}}", f"there is: {', '.join((*_DATA, '@key'))}, this")
        elif up >= turns:
            self.fault(at, f"{{{{{'../' * up}{word}}}}} stands outside of {{{{#each}}}}")
        else:
            return Path(word, steps, up, named=False)
        return Path("_", steps)


class _Writer:
    """Writes the parts as a template of ours. `loops`: the loops around, each with what is asked of it from
    inside another."""

    def __init__(self, spell: Spell, known: Collection[str], taken: set[str]) -> None:
        self.spell, self.known, self.taken = spell, known, taken
        self.loops: list[set[str]] = []

    def parts(self, parts: list[Part]) -> str:
        found = []
        for part in parts:
            if isinstance(part, str):
                found.append(_text(part))
            elif isinstance(part, Path):
                found.append(f"{{{{ {self.path(part)} }}}}")
            else:
                found.append(self.block(part))
        return "".join(found)

    def block(self, block: Block, word: str = "if") -> str:
        if block.kind == "each":
            begin, body, end = self.loop(block)
        else:
            begin, end = f"{{% {word} {self.test(block)} %}}", "{% endif %}" if word == "if" else ""
            body = self.parts(block.body)
        rest = block.otherwise
        if not rest:
            return f"{begin}{body}{end}"
        first = rest[0]
        if isinstance(first, Block) and first.chained and "each" not in (first.kind, block.kind):
            return f"{begin}{body}{self.block(first, 'elif')}{end}"
        return f"{begin}{body}{{% else %}}{self.parts(rest)}{end}"

    def test(self, block: Block) -> str:
        path = self.path(block.path)
        asked = block.path.named and block.path.head in self.known
        there = f"{self.spell(block.path.head)} is defined and {path}" if asked else path
        if block.kind == "if":
            return there
        return f"not ({there})" if asked else f"not {path}"

    def loop(self, block: Block) -> tuple[str, str, str]:
        over = self.path(block.path)
        self.loops.append(set())
        level = len(self.loops)
        body = self.parts(block.body)
        kept = "".join(f"{{% set {self.name(word, level)} = loop.{word} %}}"
                       for word in sorted(self.loops.pop()))
        names = f"{self.name('key', level)}, {self.name('this', level)}"
        return f"{{% for {names} in {over} | each %}}{kept}", body, "{% endfor %}"

    def name(self, word: str, level: int) -> str:
        """What a loop's `this`, `key` … is called: the deeper one differs from those around it."""
        name = word if level == 1 and word not in _DATA.values() else f"{word}_{level}"
        while name in self.taken:
            name += "_"
        return name

    def path(self, path: Path) -> str:
        text = self.spell(path.head) if path.named else self.inside(path)
        for step in path.steps:
            if isinstance(step, tuple):
                text += f"[{step[0]}:{step[1]}]"
            elif isinstance(step, Path):
                text += f"[{self.path(step)}]"
            else:
                plain = isinstance(step, str) and step.isidentifier()
                text += f".{step}" if plain else f"[{_quoted(step)}]"
        return text

    def inside(self, path: Path) -> str:
        level = len(self.loops) - path.up
        if path.head not in _DATA:
            return self.name(path.head.removeprefix("@"), level)
        word = _DATA[path.head]
        if path.up == 0:
            return f"loop.{word}"
        self.loops[level - 1].add(word)
        return self.name(word, level)


def path_like(text: str) -> bool:
    """Whether a text is the name of something, or the call of a helper, so that it can't be mere text."""
    return _HEAD.match(text) is not None and re.fullmatch(r"[\w .@/\[\]-]*", text) is not None


def _names(parts: list[Part]) -> list[str]:
    """The names from outside that parts use."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, Path):
            found += [part.head] if part.named else []
            found += _names([step for step in part.steps if isinstance(step, Path)])
        elif isinstance(part, Block):
            found += _names([part.path, *part.body, *(part.otherwise or ())])
    return found


def _text(text: str) -> str:
    """A text in which Jinja2 sees nothing to do."""
    return _CODE.sub(lambda match: "{{ '{' }}" if match[0] == "{" else "{{ '\\r' }}", text)


def _quoted(key: str | int) -> str:
    if isinstance(key, int):
        return str(key)
    return "'" + key.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n") + "'"


def _short(text: str) -> str:
    one = " ".join(text.split())
    return one if len(one) <= 60 else one[:59] + "…"
