"""`template_job`: renders a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from treadle.config import DEFAULT_CONFIG, TreadleConfig
from treadle.diagram.diagram import ExecutableNode
from treadle.diagram.expression import Template as Compiled
from treadle.diagram.node import Node
from treadle.diagram.types import Ports, Template
from treadle.nodes.base import BodyContext, NodeKind
from treadle.nodes.files import write_file
from treadle.nodes.filling import filled, require_templates
from treadle.state.envelope import Envelope


class TemplateJob(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Renders a template over its inputs by name and the nodes they come from. Its result is the text.

    Say either `template` or `text`.

    ```yaml
    treadle: 1
    nodes:
      begin: {type: start, custom_data: {names: [Ann, Bo]}}
      letter:
        type: template_job
        text: "Dear {{ begin.names | join(' and ') }},"
        output_path: out/letter.txt
        needs: begin
    ```
    """

    template: str | None = None
    """A template file, relative to the diagram's folder; it may include and extend others of that folder."""
    text: Template | None = None
    """The template itself."""
    variables: dict[str, Template | Any] = {}
    """More names for it; an input of the same name wins. Each text is a template over the inputs; one that is
    exactly one `{{ expression }}` gives the value itself."""
    output_path: Template | None = None
    """A file to write the text to as well, as a whole or not at all."""


class TemplateJobStrategy:
    async def execute(self, node: ExecutableNode, context: BodyContext, inputs: dict[str, Any]) -> Envelope:
        spec: TemplateJob = node.spec
        names = context.names({**filled(spec.variables, context, inputs), **inputs})
        if spec.text is not None:
            text = Compiled.compile(spec.text, base=node.base, config=context.config).render(names)
        else:
            assert spec.template is not None
            text = load_template(spec.template, node.base, context.config).render(names)
        if spec.output_path is not None:
            path = context.path(context.render(spec.output_path, inputs))
            await context.executor("thread", timed=False).run(write_file, path, text,
                                                              name=context.node_id)
        return Envelope(context.node_id, context.node_id, "raw_text", text)

    def can_handle(self, node_type: str) -> bool:
        return node_type == "template_job"


class TemplateJobKind(NodeKind):
    def ports(self, spec: TemplateJob, node: Node, base: str) -> Ports:
        if (spec.template is None) == (spec.text is None):
            raise ValueError("say either `template` (a file) or `text`")
        if spec.template is not None:
            load_template(spec.template, base, DEFAULT_CONFIG)
        require_templates(spec.variables, base)
        return Ports()

    def sources(self, spec: TemplateJob, node: Node, base: str) -> list[str]:
        if spec.template is None:
            return []
        return template_texts(spec.template, base)


def load_template(path: str, base: str, config: TreadleConfig, what: str = "template") -> Compiled:
    """A file that is rendered; `what` it is for messages. OSError, ExpressionError."""
    try:
        return Compiled.load(path, base=base, config=config)
    except FileNotFoundError:
        raise FileNotFoundError(f"no {what} file {path!r} in {Path(base).resolve()}") from None


def template_texts(path: str, base: str) -> list[str]:
    """The text of a template file and of those that it names in turn."""
    import jinja2
    import jinja2.meta

    texts: list[str] = []
    seen: set[str] = set()
    todo = [path]
    while todo:
        name = todo.pop()
        file = Path(base) / name
        if name in seen or not file.is_file():
            continue
        seen.add(name)
        texts.append(file.read_text(encoding="utf-8"))
        tree = jinja2.Environment().parse(texts[-1])
        todo.extend(sorted(other for other in jinja2.meta.find_referenced_templates(tree) if other))
    return texts


KIND = TemplateJobKind("template_job", TemplateJob, TemplateJobStrategy(), secrets=())
