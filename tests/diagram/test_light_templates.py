"""The light dialect's templates mean the same as ours that they become."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.diagram.expression import Template
from treadle.diagram.formats.conversion.inverse import to_template
from treadle.diagram.formats.light.templates import spelled, translate
from treadle.errors import ExpressionError, Where

NAMES: dict[str, Any] = {
    "who": "Ann", "n": 1, "zero": 0, "yes": True, "no": False, "xs": [3, 4], "empty": [],
    "deep": {"a": {"b": [{"c": 7}]}},
    "rows": [{"name": "A", "tags": ["x", "y"]}, {"name": "B", "tags": []}], "point": {"x": 1, "y": 2},
    "my_name": "Bo", "user": {"first name": "Cy", "e-mail": "c@d", "items": 5}, "key": "K", "loop_": "L"}


def rendered(text: str, known: list[str] | None = None, names: dict[str, Any] = NAMES) -> str:
    found = translate(text, known=known)
    assert not found.faults, found.faults
    return Template.compile(found.text).render(names)


@pytest.mark.parametrize(("text", "result"), [
    ("Dear {{who}}, {{ who }}!", "Dear Ann, Ann!"),
    ("{{deep.a.b[0].c}} {{deep.a.b[zero].c}} {{deep.a.b.0.c}} {{deep.a.b[-1]['c']}} {{xs[:1]}}",
     "7 7 7 7 [3]"),
    ("{{my name}} {{my-name}} {{[my name]}}", "Bo Bo Bo"),
    ("{{user.[first name]}} {{user.first name}} {{user.e-mail}} {{user.items}}", "Cy Cy c@d 5"),
    ("{{point}} {{xs}} {{yes}}", '{"x": 1, "y": 2} [3, 4] True'),
    ('{"who": {{who}}} {{{n}}} {who} {% if %} {# x #} {', '{"who": Ann} {1} {who} {% if %} {# x #} {'),
    ("{{#if yes}}a{{else}}b{{/if}}{{#if empty}}a{{else}}b{{/if}}{{#unless no}}c{{/unless}}", "abc"),
    ("{{#if zero}}0{{else if no}}no{{else if n}}n{{else}}-{{/if}}", "n"),
    ("{{#each rows}}{{@index}}{{this.name}}{{#if @first}}!{{/if}}{{#unless @last}}, {{/unless}}{{/each}}",
     "0A!, 1B"),
    ("{{#each point}}{{@key}}={{this}};{{/each}}{{#each xs}}{{@key}}{{.}} {{/each}}", "x=1;y=2;03 14 "),
    ("{{#each empty}}x{{else}}none{{/each}}", "none"),
    ("{{#each rows}}{{#each this.tags}}{{../@index}}{{@index}}{{this}}{{../this.name}}{{who}},{{/each}}"
     "{{/each}}", "00xAAnn,01yAAnn,"),
    ("{{#each xs}}{{key}}{{loop}}{{/each}}", "KLKL"),
    ("a {{~who~}} b{{! no }} c{{!-- {{who}} --}}", "aAnnb c"),
    ("{{{!}}{who}} {{{!}}{{{!}}{ \\{{who}}", "{{who}} {{{ \\Ann"),
    ("one\r\ntwo\n", "one\r\ntwo\n"),
])
def test_a_template_of_the_dialect_renders(text: str, result: str) -> None:
    found = translate(text)
    assert not [fault for fault in found.faults if not fault.warning]
    assert Template.compile(found.text).render(NAMES) == result


def test_a_name_with_spaces_is_known_by_its_arrow() -> None:
    names = {"my_user": NAMES["user"], "a_b": 1}
    text = "{{my user.first name}} {{my user['e-mail']}} {{a b}}{{#if my user.items}}!{{/if}}"
    assert rendered(text, ["my user", "a b"], names) == "Cy c@d 1!"


def test_what_an_arrow_may_bring_can_be_asked_for() -> None:
    """A label that brings nothing this time (a dead branch, the first iteration) is false in `#if`."""
    text = "{{#if draft}}{{draft.text}}{{else}}begin{{/if}}{{#unless draft.ok}}!{{/unless}}"
    assert rendered(text, ["draft"], {}) == "begin!"
    assert rendered(text, ["draft"], {"draft": {"text": "t", "ok": True}}) == "t"
    with pytest.raises(ExpressionError, match="unknown name 'draft'"):
        rendered(text, ["other"], {})
    with pytest.raises(ExpressionError, match="unknown name 'draft'"):
        rendered("{{draft}}", ["draft"], {})


@pytest.mark.parametrize(("text", "message"), [
    ("{{nobody}}", "unknown name 'nobody'"),
    ("{{point.z}}", "no key 'z'"),
    ("{{#if nobody}}{{/if}}", "unknown name 'nobody'"),
    ("{{#each who}}{{this}}{{/each}}", "each goes over a list or a map, not over a str"),
    ("{{user.__class__}}", "unsafe"),
])
def test_what_is_not_there_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match=message):
        rendered(text)


@pytest.mark.parametrize(("text", "message"), [
    ("{{#if who}}", "{{#if}} is never closed"),
    ("a\n{{#each xs}}\n{{#if who}}\n{{/each}}{{/if}}", "line 4: {{/each}} where {{/if}} was expected"),
    ("{{/if}}", "{{/if}} closes nothing"),
    ("{{else}}", "{{else}} stands outside of a block"),
    ("{{#if who}}{{else}}{{else}}{{/if}}", "a second {{else}}"),
    ("{{#with who}}{{/with}}", "there is no block {{#with}}"),
    ("{{#each}}{{/each}}", "{{#each}} needs a name"),
    ("{{#if n > 3}}{{/if}}", "{{#if}} takes a name, not n > 3"),
    ("{{upper who}}", "{{upper who}}: there is no helper 'upper'"),
    ("{{a..b}}", "{{a..b}} can't be read"),
    ("{{a b.c}}", "{{a b.c}} can't be read"),
    ("{{this}}", "{{this}} stands outside of {{#each}}"),
    ("{{#each xs}}{{../@index}}{{/each}}", "{{../@index}} stands outside of {{#each}}"),
    ("{{#each xs}}{{@odd}}{{/each}}", "there is no {{@odd}}"),
    ("so {{who", "{{who is never closed"),
    ("{{#if who}}" * 5000 + "{{/if}}" * 5000, "its blocks are nested too deeply"),
])
def test_a_mistake_is_a_fault_with_its_place(text: str, message: str) -> None:
    where = Where("x.light.yaml", 7)
    faults = translate(text, known=["who", "xs"], where=where, node="w", what="default_prompt").faults
    assert [str(fault).partition(" (")[0] for fault in faults if not fault.warning][:1] == [
        f"x.light.yaml:7: node 'w': default_prompt: {message}"]


@pytest.mark.parametrize("text", ["style={{ width: 10 }}", "{{ who | upper }}", "{{person:id}}", "{{> part}}",
                                  "{{ a: {{who}} }}", "{{}}"])
def test_what_is_no_name_stays_text_with_a_warning(text: str) -> None:
    found = translate(text)
    assert [fault.warning for fault in found.faults] == [True]
    assert "stays text" in found.faults[0].message
    assert Template.compile(found.text).render(NAMES) == text.replace("{{who}}", "Ann")


@pytest.mark.parametrize(("name", "written"), [
    ("topic", "topic"), ("my topic", "my_topic"), ("2nd", "_2nd"), ("inputs", "inputs_"), ("not", "not_"),
    ("größe", "größe"), ("a/b", "a_b"), ("", "_")])
def test_names_are_spelled_as_expressions_can_write_them(name: str, written: str) -> None:
    assert spelled(name) == written


# A tiny interpreter: a template is a list of parts, a part a text, a path or a block.
VALUES = st.recursive(st.sampled_from(["", "t", 0, 1, True, False, 2.5, "ü{{"]),
                      lambda inner: (st.lists(inner, max_size=3)
                                     | st.dictionaries(st.sampled_from("kxy"), inner, max_size=3)),
                      max_leaves=8)
TEXTS = st.text("ab {}%#-\n\r'\"~", max_size=6).filter(lambda text: "{{" not in text and text[:1] != "{")
PATHS = st.tuples(st.just("path"), st.sampled_from(["a", "b", "this", "@index", "@key", "@first", "@last"]),
                  st.integers(0, 1), st.lists(st.sampled_from(["k", "x", 0]), max_size=2))
PARTS = st.recursive(
    st.lists(TEXTS | PATHS, max_size=3),
    lambda inner: st.lists(TEXTS | PATHS | st.tuples(
        st.sampled_from(["if", "unless", "each"]), PATHS, inner, st.none() | inner), max_size=3),
    max_leaves=8)


class Missing(Exception):
    pass


def written(parts: list[Any], depth: int = 0) -> str:
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif part[0] == "path":
            text += "{{" + name(part, depth) + "}}"
        else:
            kind, path, body, rest = part
            text += f"{{{{#{kind} {name(path, depth)}}}}}{written(body, depth + (kind == 'each'))}"
            text += ("" if rest is None else "{{else}}" + written(rest, depth)) + f"{{{{/{kind}}}}}"
    return text


def name(path: Any, depth: int) -> str:
    _, head, up, steps = path
    if head not in "ab":
        head = head if depth else "a"
        head = "../" * (up if depth > 1 and head not in "ab" else 0) + head
    return head + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def value(path: Any, names: dict[str, Any], loops: list[dict[str, Any]]) -> Any:
    _, head, up, steps = path
    if head in "ab" or not loops:
        found = names[head if head in "ab" else "a"]
    else:
        found = loops[-1 - (up if len(loops) > 1 else 0)][head]
    for step in steps:
        try:
            found = found[step] if isinstance(step, int) or isinstance(found, dict) else {}[step]
        except (LookupError, TypeError):
            raise Missing from None
    return found


def interpreted(parts: list[Any], names: dict[str, Any], loops: list[dict[str, Any]]) -> str:
    text = ""
    for part in parts:
        if isinstance(part, str):
            text += part
        elif part[0] == "path":
            one = value(part, names, loops)
            text += json.dumps(one, ensure_ascii=False) if isinstance(one, list | dict) else str(one)
        elif part[0] == "each":
            many = value(part[1], names, loops)
            if not isinstance(many, list | dict):
                raise Missing
            pairs = list(many.items() if isinstance(many, dict) else enumerate(many))
            for index, (key, one) in enumerate(pairs):
                turn = {"this": one, "@index": index, "@key": key, "@first": index == 0,
                        "@last": index == len(pairs) - 1}
                text += interpreted(part[2], names, [*loops, turn])
            if not pairs:
                text += interpreted(part[3] or [], names, loops)
        else:
            true = bool(value(part[1], names, loops)) == (part[0] == "if")
            text += interpreted(part[2] if true else part[3] or [], names, loops)
    return text


@given(PARTS, VALUES, VALUES)
def test_a_translation_renders_as_a_tiny_interpreter_does(parts: list[Any], a: Any, b: Any) -> None:
    names = {"a": a, "b": b}
    try:
        expected: str | None = interpreted(parts, names, [])
    except Missing:
        expected = None
    found = translate(written(parts))
    assert not found.faults
    compiled = Template.compile(found.text)
    if expected is None:
        with pytest.raises(ExpressionError):
            compiled.render(names)
    else:
        assert compiled.render(names) == expected


@given(PARTS)
def test_there_and_back_is_the_same_template(parts: list[Any]) -> None:
    ours = translate(written(parts)).text
    back = translate(to_template(ours))
    assert (back.text, back.faults) == (ours, ())


@pytest.mark.parametrize(("text", "light"), [
    ("Dear {{ who.name }},", "Dear {{who.name}},"),
    ("{% if a %}x{% elif not b %}y{% else %}z{% endif %}", "{{#if a}}x{{else unless b}}y{{else}}z{{/if}}"),
    ("{% if a is defined and a.b %}x{% endif %}", "{{#if a.b}}x{{/if}}"),
    ("{% for k, one in rows | each %}{{ loop.index0 }}{{ one.x }}{{ k }}{% endfor %}",
     "{{#each rows}}{{@index}}{{this.x}}{{@key}}{{/each}}"),
    ("{{ '{{' }} {% raw %}{{ x }}{% endraw %}", "{{{!}}{ {{{!}}{ x }}")])
def test_what_the_dialect_can_say_it_says(text: str, light: str) -> None:
    assert to_template(text) == light
    names = {"who": {"name": "Ann"}, "a": {"b": 1}, "b": 0, "rows": [{"x": 5}]}
    back = translate(light, known=["a"])
    assert Template.compile(back.text).render(names) == Template.compile(text).render(names)


@pytest.mark.parametrize(("text", "message"), [
    ("{{ who | upper }}", "computing in templates"), ("{{ a + 1 }}", "computing in templates"),
    ("{% for x in xs %}{{ x }}{% endfor %}", "loop but one over `… | each`"),
    ("{% set x = 1 %}", "{% assign %}"), ("{% include 'a.txt' %}", "{% include %}"),
    ("{% if a > 3 %}{% endif %}", "computing in templates"),
    ("{% for k, x in xs | each %}{{ loop.revindex }}{% endfor %}", "loop.revindex")])
def test_what_it_has_no_words_for_is_an_error(text: str, message: str) -> None:
    with pytest.raises(ExpressionError, match="the light dialect has no ") as caught:
        to_template(text)
    assert message in str(caught.value)
