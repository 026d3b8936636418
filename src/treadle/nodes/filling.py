"""Properties whose texts are templates, filled in: a text that is exactly one `{{ expression }}` gives the
value itself, so that a number stays a number."""

from __future__ import annotations

from typing import Any

from treadle.diagram.expression import Expression, Template
from treadle.errors import ExpressionError
from treadle.nodes.base import BodyContext


def is_expression(text: str) -> bool:
    """Whether a text is exactly one `{{ expression }}`."""
    bare = text.strip()
    if not (bare.startswith("{{") and bare.endswith("}}")):
        return False
    try:
        Expression.compile(bare)
    except ExpressionError:  # `{{ a }} and {{ b }}`
        return False
    return True


def filled(value: Any, context: BodyContext, inputs: dict[str, Any]) -> Any:
    """A structure with its templates filled in, however deep. ExpressionError for an unknown name."""
    if isinstance(value, str):
        if is_expression(value):
            return context.evaluate(value.strip(), inputs)
        return context.render(value, inputs)
    if isinstance(value, dict):
        return {key: filled(one, context, inputs) for key, one in value.items()}
    return [filled(one, context, inputs) for one in value] if isinstance(value, list) else value


def require_templates(value: Any, base: str) -> None:
    """ExpressionError for a template, however deep, that can't be compiled."""
    if isinstance(value, str):
        if not is_expression(value):
            Template.compile(value, base=base)
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            require_templates(one, base)
