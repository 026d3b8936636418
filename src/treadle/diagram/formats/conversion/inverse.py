"""Templates and expressions of ours as those of the light dialect, as far as it can say them.

    to_template("{% if who %}Dear {{ who.name }}{% endif %}")     # '{{#if who}}Dear {{who.name}}{{/if}}'
    to_expression("st.n >= 4 and who is not none")               # 'st.n >= 4 and who is not None'

What `treadle.diagram.formats.light` makes of the result means the same again. ExpressionError says what the
dialect has no words for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import jinja2
from jinja2 import nodes

from treadle.diagram.expression import FUNCTIONS
from treadle.errors import ExpressionError

_ENVIRONMENT = jinja2.Environment(keep_trailing_newline=True)  # it only parses
_DATA = {"index0": "@index", "first": "@first", "last": "@last"}
_INDEX = re.compile(r"[^\W\d][\w.-]*")
_BRACES = re.compile(r"\{(?=\{)")
_IF, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _SIGN, _POWER, _ATOM = range(10)
"""How strongly the parts of Python's expressions bind."""
_OPERATORS: dict[type[nodes.BinExpr], tuple[str, int, int, int]] = {  # with the least of what stands beside
    nodes.Add: ("+", _SUM, _SUM, _PRODUCT), nodes.Sub: ("-", _SUM, _SUM, _PRODUCT),
    nodes.Mul: ("*", _PRODUCT, _PRODUCT, _SIGN), nodes.Div: ("/", _PRODUCT, _PRODUCT, _SIGN),
    nodes.FloorDiv: ("//", _PRODUCT, _PRODUCT, _SIGN), nodes.Mod: ("%", _PRODUCT, _PRODUCT, _SIGN),
    nodes.Pow: ("**", _POWER, _ATOM, _SIGN),
    nodes.And: ("and", _AND, _AND, _NOT), nodes.Or: ("or", _OR, _OR, _AND)}
_COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "lteq": "<=", "gt": ">", "gteq": ">=", "in": "in",
                "notin": "not in"}


def to_template(text: str) -> str:
    """A template of ours as one of the dialect. ExpressionError names what it can't say."""
    return _Templates().parts(_parsed(text, "template").body)


def to_expression(text: str) -> str:
    """An expression of ours, with or without its braces, as one of the dialect. ExpressionError."""
    bare = text.strip()
    if bare.startswith("{{") and bare.endswith("}}"):
        bare = bare[2:-2].strip()
    (output,) = _parsed(f"{{{{ ({bare}\n) }}}}", "expression").body
    assert isinstance(output, nodes.Output)
    return _expression(output.nodes[0])


def _parsed(text: str, what: str) -> nodes.Template:
    try:
        return _ENVIRONMENT.parse(text)
    except (jinja2.TemplateSyntaxError, RecursionError) as error:
        raise ExpressionError(f"the {what} can't be read: {error}") from None


def _cannot(what: str) -> ExpressionError:
    return ExpressionError(f"the light dialect has no {what}")


class _Templates:
    """`loops`: the names of what the loops around hold, each with what the dialect calls it there."""

    def __init__(self) -> None:
        self.loops: list[dict[str, str]] = []

    def parts(self, parts: Sequence[nodes.Node]) -> str:
        return "".join(self.part(one) for one in parts)

    def part(self, part: nodes.Node) -> str:
        if isinstance(part, nodes.Output):
            return "".join(_BRACES.sub("{{{!}}", one.data) if isinstance(one, nodes.TemplateData) else
                           self.value(one) for one in part.nodes)
        if isinstance(part, nodes.If):
            return self.choice(part)
        if isinstance(part, nodes.For):
            return self.loop(part)
        raise _cannot(f"{{% {type(part).__name__.lower()} %}}")

    def value(self, value: nodes.Expr) -> str:
        if isinstance(value, nodes.Const) and isinstance(value.value, str):
            return _BRACES.sub("{{{!}}", value.value)
        return f"{{{{{self.path(value)}}}}}"

    def choice(self, part: nodes.If) -> str:
        kind, path = self.test(part.test)
        text = f"{{{{#{kind} {path}}}}}{self.parts(part.body)}"
        for other in part.elif_:
            word, path = self.test(other.test)
            text += f"{{{{else {word} {path}}}}}{self.parts(other.body)}"
        if part.else_:
            text += "{{else}}" + self.parts(part.else_)
        return f"{text}{{{{/{kind}}}}}"

    def test(self, test: nodes.Node) -> tuple[str, str]:
        if isinstance(test, nodes.Not):
            kind, path = self.test(test.node)
            if kind == "unless":
                raise _cannot("`not not`")
            return "unless", path
        if isinstance(test, nodes.And) and isinstance(test.left, nodes.Test) and test.left.name == "defined":
            path = self.path(test.right)
            if isinstance(test.left.node, nodes.Name) and _head(test.right) == test.left.node.name:
                return "if", path
        return "if", self.path(test)

    def loop(self, part: nodes.For) -> str:
        over = part.iter
        names = [one.name for one in getattr(part.target, "items", ()) if isinstance(one, nodes.Name)]
        if not (isinstance(over, nodes.Filter) and over.name == "each" and over.node is not None) or len(
                names) != 2 or part.test is not None or part.recursive:
            raise _cannot("loop but one over `… | each`, with two names")
        path = self.path(over.node)
        self.loops.append({names[0]: "@key", names[1]: "this"})
        body = list(part.body)
        while body and (kept := _kept(body[0])) is not None:
            self.loops[-1][kept[0]] = kept[1]
            body.pop(0)
        text = f"{{{{#each {path}}}}}{self.parts(body)}"
        self.loops.pop()
        return text + ("{{else}}" + self.parts(part.else_) if part.else_ else "") + "{{/each}}"

    def path(self, value: nodes.Node) -> str:
        """A name with what follows it."""
        if isinstance(value, nodes.Getattr):
            if isinstance(value.node, nodes.Name) and value.node.name == "loop" and self.loops:
                if value.attr not in _DATA:
                    raise _cannot(f"loop.{value.attr}")
                return _DATA[value.attr]
            return f"{self.path(value.node)}.{value.attr}"
        if isinstance(value, nodes.Getitem):
            return self.path(value.node) + self.step(value.arg)
        if not isinstance(value, nodes.Name):
            raise _cannot("computing in templates, only names such as a.b[0].c")
        for up, names in enumerate(reversed(self.loops)):
            if value.name in names:
                return "../" * up + names[value.name]
        return value.name

    def step(self, step: nodes.Expr) -> str:
        if isinstance(step, nodes.Slice):
            ends = [_number(one) for one in (step.start, step.stop)]
            if step.step is None and None not in ends:
                return f"[{ends[0]}:{ends[1]}]"
            raise _cannot("such a slice")
        if (number := _number(step)) is not None:
            return f"[{number}]"
        if isinstance(step, nodes.Const) and isinstance(step.value, str):
            quote = "'" if "'" not in step.value else '"'
            if quote in step.value or "}}" in step.value or "{{" in step.value or "\\" in step.value:
                raise _cannot(f"key {step.value!r}")
            return f"[{quote}{step.value}{quote}]"
        if not isinstance(step, nodes.Name | nodes.Getattr):
            raise _cannot("computing in templates, only names such as a.b[0].c")
        path = self.path(step)
        if not _INDEX.fullmatch(path):
            raise _cannot(f"index {path}")
        return f"[{path}]"


def _head(value: nodes.Node) -> str:
    while isinstance(value, nodes.Getattr | nodes.Getitem):
        value = value.node
    return value.name if isinstance(value, nodes.Name) else ""


def _number(value: nodes.Expr | None) -> str | None:
    """A whole number as it is written, "" for none at all, None for anything else."""
    if value is None:
        return ""
    sign = "-" if isinstance(value, nodes.Neg) else ""
    bare = value.node if isinstance(value, nodes.Neg) else value
    return f"{sign}{bare.value}" if isinstance(bare, nodes.Const) and type(bare.value) is int else None


def _kept(part: nodes.Node) -> tuple[str, str] | None:
    """The name that a loop's turn is kept under, for loops inside it."""
    if (isinstance(part, nodes.Assign) and isinstance(part.target, nodes.Name)
            and isinstance(part.node, nodes.Getattr) and isinstance(part.node.node, nodes.Name)
            and part.node.node.name == "loop" and part.node.attr in _DATA):
        return part.target.name, _DATA[part.node.attr]
    return None


def _expression(value: nodes.Expr, least: int = _IF) -> str:
    """The text of a part that stands where only parts of at least this strength may."""
    text, binds = _part(value)
    return text if binds >= least else f"({text})"


def _part(value: nodes.Expr) -> tuple[str, int]:
    match value:
        case nodes.Name():
            return value.name, _ATOM
        case nodes.Const():
            return repr(value.value), _ATOM
        case nodes.Getattr():
            return f"{_expression(value.node, _ATOM)}.{value.attr}", _ATOM
        case nodes.Getitem():
            return f"{_expression(value.node, _ATOM)}[{_index(value.arg)}]", _ATOM
        case nodes.Call():
            return _call(value), _ATOM
        case nodes.Compare():
            parts = [_expression(value.expr, _SUM)]
            parts += [f"{_COMPARISONS[one.op]} {_expression(one.expr, _SUM)}" for one in value.ops]
            return " ".join(parts), _COMPARE
        case nodes.Test():
            return _test(value), _COMPARE
        case nodes.Not(node=nodes.Test() as asked):
            return _test(asked, "is not"), _COMPARE
        case nodes.Not():
            return f"not {_expression(value.node, _NOT)}", _NOT
        case nodes.Neg() | nodes.Pos():
            return f"{'-' if isinstance(value, nodes.Neg) else '+'}{_expression(value.node, _SIGN)}", _SIGN
        case nodes.BinExpr() if type(value) in _OPERATORS:
            sign, binds, left, right = _OPERATORS[type(value)]
            return f"{_expression(value.left, left)} {sign} {_expression(value.right, right)}", binds
        case nodes.CondExpr() if value.expr2 is not None:
            body, test = (_expression(one, _OR) for one in (value.expr1, value.test))
            return f"{body} if {test} else {_expression(value.expr2)}", _IF
        case nodes.List():
            return f"[{_several(value.items)}]", _ATOM
        case nodes.Tuple():
            return f"({_several(value.items)}{',' * (len(value.items) == 1)})", _ATOM
        case nodes.Dict():
            pairs = (f"{_expression(one.key)}: {_expression(one.value)}" for one in value.items)
            return f"{{{', '.join(pairs)}}}", _ATOM
        case nodes.Filter():
            return _filter(value), _ATOM
    raise _cannot(f"{type(value).__name__.lower()} in an expression")


def _several(values: Sequence[nodes.Expr]) -> str:
    return ", ".join(_expression(one) for one in values)


def _index(value: nodes.Expr) -> str:
    if not isinstance(value, nodes.Slice):
        return _expression(value)
    ends = [_expression(one) if one is not None else "" for one in (value.start, value.stop)]
    return ":".join(ends if value.step is None else [*ends, _expression(value.step)])


def _call(value: nodes.Call) -> str:
    if value.dyn_args is not None or value.dyn_kwargs is not None:
        raise _cannot("call with * or **")
    if isinstance(value.node, nodes.Name) and value.node.name not in FUNCTIONS:
        raise _cannot(f"function {value.node.name}")
    arguments = [_expression(one) for one in value.args]
    arguments += [f"{one.key}={_expression(one.value)}" for one in value.kwargs]
    return f"{_expression(value.node, _ATOM)}({', '.join(arguments)})"


def _filter(value: nodes.Filter) -> str:
    if value.node is None or value.name not in ("length", "count", "unique") or value.args:
        raise _cannot(f"filter `{value.name}`")
    if value.name != "unique":
        return f"len({_expression(value.node)})"
    said = {one.key: getattr(one.value, "value", None) for one in value.kwargs}
    if said != {"case_sensitive": True}:
        raise _cannot("filter `unique` but with case_sensitive=true")
    return f"set({_expression(value.node)})"


def _test(value: nodes.Test, verb: str = "is") -> str:
    word = {"none": "None"}.get(value.name)
    if value.name == "sameas" and len(value.args) == 1:
        same = value.args[0]
        word = repr(same.value) if isinstance(same, nodes.Const) and isinstance(same.value, bool) else None
    if word is None:
        raise _cannot(f"test `is {value.name}`")
    return f"{_expression(value.node, _SUM)} {verb} {word}"
