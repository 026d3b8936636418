"""The expressions of the light dialect's `custom` conditions, as expressions of ours.

    translate_expression("d.x is not None and not done").text     # 'd.x is not none and not done'
    translate_expression("-x ** 2 < 0").text                      # '-(x ** 2) < 0': a sign binds more here

The dialect's are Python's, and are read as Python: names, keys and attributes, arithmetic, comparisons
(chained ones too), `and or not in is`, `a if b else c`, lists, maps, slices, methods of texts and maps, and
the functions that our expressions know. What Python has beyond that (comprehensions, lambdas, f-strings …)
and every way to its insides is a fault.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Collection, Sequence

from treadle.diagram.expression import FUNCTIONS
from treadle.diagram.formats.light.templates import Spell, Translated, spelled
from treadle.errors import Fault, Where, did_you_mean

_IF, _OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _POWER, _SIGN, _ATOM = range(10)
"""How strongly the parts of our expressions bind. A sign binds more than a power, unlike in Python."""
_OPERATORS: dict[type[ast.operator], tuple[str, int, int, int]] = {  # with the least of what stands beside
    ast.Add: ("+", _SUM, _SUM, _PRODUCT), ast.Sub: ("-", _SUM, _SUM, _PRODUCT),
    ast.Mult: ("*", _PRODUCT, _PRODUCT, _POWER), ast.Div: ("/", _PRODUCT, _PRODUCT, _POWER),
    ast.FloorDiv: ("//", _PRODUCT, _PRODUCT, _POWER), ast.Mod: ("%", _PRODUCT, _PRODUCT, _POWER),
    ast.Pow: ("**", _POWER, _ATOM, _SIGN)}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.In: "in", ast.NotIn: "not in"}
_OPPOSITES: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Is: ast.IsNot, ast.IsNot: ast.Is}
_WORDS = {"true": "True", "false": "False", "null": "None", "none": "None", "undefined": "None"}
_SIGNS = {"&&": "and", "||": "or", "===": "==", "!==": "!=", "!": "not",
          "?": "a if test else b"}
_MISUSED: dict[type[ast.AST], str] = {
    ast.ListComp: "a comprehension", ast.GeneratorExp: "a comprehension", ast.SetComp: "a comprehension",
    ast.DictComp: "a comprehension", ast.Lambda: "a function", ast.JoinedStr: "an f-string",
    ast.NamedExpr: "an assignment", ast.Await: "await", ast.Starred: "a star", ast.Set: "a set",
    ast.BitAnd: "the operator &", ast.BitOr: "the operator |", ast.BitXor: "the operator ^",
    ast.LShift: "the operator <<", ast.RShift: "the operator >>", ast.MatMult: "the operator @",
    ast.Invert: "the operator ~"}
_INSTEAD: dict[type[ast.AST], str] = {
    ast.BitAnd: "write: and", ast.BitOr: "write: or", ast.Invert: "write: not", ast.Set: "write a list: […]"}


class _Refused(Exception):
    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


def translate_expression(text: str, *, known: Collection[str] | None = None, spell: Spell = spelled,
                         where: Where | None = None, node: str | None = None,
                         what: str = "expression") -> Translated:
    """Translate an expression; `what` it is stands in messages. `known` are the names that arrows bring, for
    hints. Which names are there is found when it is evaluated: one that is not is an error then."""
    writer = _Writer(spell, known or ())
    try:
        written = writer.write(_parsed(text).body)
    except _Refused as error:
        hint = "write names without braces" if "{{" in text else error.hint
        fault = Fault(f"{what} {_short(text)}: {error}", node=node, where=where, hint=hint)
    except (RecursionError, MemoryError):
        fault = Fault(f"{what} {_short(text)}: it is nested too deeply", node=node, where=where)
    else:
        return Translated(written, frozenset(writer.names))
    return Translated("", frozenset(), (fault,))


def _parsed(text: str) -> ast.Expression:
    if not text.strip():
        raise _Refused("it is empty", "such as: score > 3")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an escape that means nothing in a text
            return ast.parse(text.strip() if "\n" not in text.strip() else f"({text}\n)", mode="eval")
    except (SyntaxError, ValueError) as error:
        said = error.msg if isinstance(error, SyntaxError) else str(error)
        sign = next((sign for sign in _SIGNS if sign in text), None)
        raise _Refused(said, f"write {_SIGNS[sign]} instead of {sign}" if sign else None) from None


class _Writer:
    """Writes Python's tree as an expression of ours, with the braces that its binding needs."""

    def __init__(self, spell: Spell, known: Collection[str]) -> None:
        self.spell, self.known = spell, known
        self.names: set[str] = set()

    def write(self, node: ast.expr, least: int = _IF) -> str:
        """The text of a part that stands where only parts of at least this strength may."""
        text, binds = self.part(node)
        return text if binds >= least else f"({text})"

    def part(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant():
                return self.constant(node.value)
            case ast.Name():
                return self.name(node.id), _ATOM
            case ast.Attribute():
                return f"{self.write(node.value, _ATOM)}.{_public(node.attr)}", _ATOM
            case ast.Subscript():
                return f"{self.write(node.value, _ATOM)}[{self.index(node.slice)}]", _ATOM
            case ast.Call():
                return self.call(node), _ATOM
            case ast.Compare():
                return self.compare(node), _COMPARE
            case ast.BoolOp():
                word, binds = ("and", _AND) if isinstance(node.op, ast.And) else ("or", _OR)
                parts = [self.write(one, binds + (k > 0)) for k, one in enumerate(node.values)]
                return f" {word} ".join(parts), binds
            case ast.UnaryOp():
                return self.unary(node)
            case ast.BinOp():
                return self.binary(node)
            case ast.IfExp():
                body, test, rest = (self.write(one, _SUM if one is node.body else _OR)
                                    for one in (node.body, node.test, node.orelse))
                return f"{body} if {test} else {rest}", _IF
            case ast.List():
                return f"[{self.several(node.elts)}]", _ATOM
            case ast.Tuple():
                return f"({self.several(node.elts)}{',' * (len(node.elts) == 1)})", _ATOM
            case ast.Dict():
                return self.map(node), _ATOM
        raise _cannot(node)

    def constant(self, value: object) -> tuple[str, int]:
        if value is None or isinstance(value, bool):
            return str(value).lower(), _ATOM
        if isinstance(value, float):
            return "1e999" if value == float("inf") else repr(value), _ATOM
        if isinstance(value, str | int):
            return repr(value), _ATOM
        raise _Refused(f"a {type(value).__name__} can't stand in an expression")

    def name(self, name: str) -> str:
        if name in _WORDS and name not in self.known:
            raise _Refused(f"unknown name {name!r}", f"write {_WORDS[name]}")
        self.names.add(_public(name))
        return self.spell(name)

    def index(self, node: ast.expr) -> str:
        if not isinstance(node, ast.Slice):
            return self.write(node)
        parts = [self.write(one) if one is not None else "" for one in (node.lower, node.upper)]
        return ":".join(parts if node.step is None else [*parts, self.write(node.step)])

    def call(self, node: ast.Call) -> str:
        arguments = self.several(node.args)
        for one in node.keywords:
            if one.arg is None:
                raise _Refused("** can't stand in an expression")
            arguments += f"{', ' * bool(arguments)}{one.arg}={self.write(one.value)}"
        if isinstance(node.func, ast.Attribute):
            return f"{self.write(node.func)}({arguments})"
        if not isinstance(node.func, ast.Name):
            raise _Refused("only functions and methods can be called")
        name = _public(node.func.id)
        if name == "set" and arguments:
            return f"({arguments} | unique(case_sensitive=true))"
        if name == "tuple" and arguments:
            name = "list"
        if name not in FUNCTIONS:
            raise _Refused(f"there is no function {name!r}", did_you_mean(name, FUNCTIONS) or
                           "call it in a code_job before, and label the arrow")
        return f"{name}({arguments})"

    def compare(self, node: ast.Compare) -> str:
        if len(node.ops) == 1 and isinstance(node.ops[0], ast.Is | ast.IsNot):
            return self.identity(node.left, node.ops[0], node.comparators[0])
        found = self.write(node.left, _SUM)
        for operator, right in zip(node.ops, node.comparators, strict=True):
            sign = _COMPARISONS.get(type(operator))
            if sign is None:
                raise _Refused("`is` can't stand in a chain of comparisons", "write: … and x is None")
            if isinstance(right, ast.Set) and sign in ("in", "not in"):
                right = ast.List(right.elts)
            found += f" {sign} {self.write(right, _SUM)}"
        return found

    def identity(self, left: ast.expr, operator: ast.cmpop, right: ast.expr) -> str:
        if not isinstance(right, ast.Constant) or not (right.value is None or isinstance(right.value, bool)):
            raise _Refused("`is` takes None, True or False", "compare values with ==")
        word = {None: "none", True: "sameas(true)", False: "sameas(false)"}[right.value]
        return f"{self.write(left, _ATOM)} is {'not ' * isinstance(operator, ast.IsNot)}{word}"

    def unary(self, node: ast.UnaryOp) -> tuple[str, int]:
        if isinstance(node.op, ast.Not):
            inner = node.operand
            if isinstance(inner, ast.Compare) and len(inner.ops) == 1 and type(inner.ops[0]) in _OPPOSITES:
                opposite = _OPPOSITES[type(inner.ops[0])]()  # as ours are read, too
                return self.identity(inner.left, opposite, inner.comparators[0]), _COMPARE
            return f"not {self.write(node.operand, _NOT)}", _NOT
        if isinstance(node.op, ast.USub | ast.UAdd):
            return f"{'-' if isinstance(node.op, ast.USub) else '+'}{self.write(node.operand, _ATOM)}", _SIGN
        raise _cannot(node.op)

    def binary(self, node: ast.BinOp) -> tuple[str, int]:
        if type(node.op) not in _OPERATORS:
            raise _cannot(node.op)
        sign, binds, left, right = _OPERATORS[type(node.op)]
        return f"{self.write(node.left, left)} {sign} {self.write(node.right, right)}", binds

    def several(self, nodes: Sequence[ast.expr]) -> str:
        return ", ".join(self.write(one) for one in nodes)

    def map(self, node: ast.Dict) -> str:
        if None in node.keys:
            raise _Refused("** can't stand in an expression")
        pairs = ", ".join(f"{self.write(key)}: {self.write(value)}"
                          for key, value in zip(node.keys, node.values, strict=True) if key is not None)
        return f"{{{pairs} }}" if pairs.endswith("}") else f"{{{pairs}}}"  # two would end the expression


def _public(name: str) -> str:
    if name.startswith("__"):
        raise _Refused(f"{name!r} leads to Python's insides")
    return name


def _cannot(node: ast.AST) -> _Refused:
    what = _MISUSED.get(type(node), type(node).__name__)
    return _Refused(f"{what} can't stand in an expression",
                    _INSTEAD.get(type(node), "compute it in a code_job before, and label the arrow"))


def _short(text: str) -> str:
    one = " ".join(text.split())
    return repr(one if len(one) <= 60 else one[:59] + "…")
