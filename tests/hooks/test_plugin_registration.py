"""What plugins add is there for diagrams: types of nodes, transforms, content types, stores of secrets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from treadle.diagram.formats import loads
from treadle.diagram.transform import default_transforms
from treadle.engine.engine import Engine
from treadle.errors import ExecutionFailed, InvalidDiagram, PluginError
from treadle.hooks.manager import PluginManager
from treadle.hooks.sdk import StateHook
from treadle.hooks.specs import PluginTransform
from treadle.nodes.registry import NodeRegistry, default_registry
from treadle.state.envelope import ContentHandler, ContentType, Envelope, EnvelopeFactory

Write = Callable[[str, str], Path]

SHOUT = '''
import msgspec
from treadle import EnvelopeFactory, StateHook
from treadle.nodes.base import NodeKind
from treadle.state.envelope import ContentHandler

class Shout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Shouts."""
    text: str
    """What."""

class ShoutStrategy:
    async def execute(self, node, context, inputs):
        return EnvelopeFactory.text(node.spec.text.upper(), context.node_id)

    def can_handle(self, node_type):
        return node_type == "shout"

class Shouting(StateHook):
    version = "1.0"

    def treadle_strategies(self):
        return [NodeKind("shout", Shout, ShoutStrategy())]

    def treadle_transforms(self):
        return {"exclaim": lambda value, argument: value + argument}

    def treadle_content_types(self):
        return {"shouted": ContentHandler(str.encode, bytes.decode, lambda body: isinstance(body, str))}

    def treadle_secret_stores(self):
        return {"memory": dict}
'''


def test_a_diagram_uses_what_a_plugin_adds(write: Write) -> None:
    write("plugins/shouting.py", SHOUT)

    async def script() -> Any:
        async with Engine.open(durability="memory", plugins=PluginManager.discover()) as engine:
            handle = await engine.start(loads(
                "treadle: 1\nnodes:\n  a: {type: shout, text: hey}\n  b: {type: endpoint}\n"
                "arrows:\n  - {from: a, to: b, transform: [{exclaim: '!'}], content_type: shouted}\n"))
            return await handle.result()

    assert asyncio.run(script()) == "HEY!"


def test_a_second_engine_may_have_the_same_plugin(write: Write) -> None:
    write("plugins/shouting.py", SHOUT)
    for _ in range(2):
        manager, registry = PluginManager.discover(), default_registry()
        manager.install(registry)
        assert "shouted" in registry.content_types()
    assert manager.secret_stores() == {"memory": dict}


class Numbers(StateHook):
    """A content type `mine` that takes numbers."""

    def treadle_content_types(self) -> Any:
        return {"mine": ContentHandler(lambda body: str(body).encode(), int, lambda body: type(body) is int)}


class Words(StateHook):
    """Another one of that name, which takes texts."""

    def treadle_content_types(self) -> Any:
        return {"mine": ContentHandler(str.encode, bytes.decode, lambda body: isinstance(body, str))}


MINE = """
treadle: 1
nodes:
  a: {type: code_job, code: "return 3", isolation: inline}
  b: {type: endpoint}
arrows:
  - {from: a, to: b, content_type: mine}
"""


def test_engines_of_one_process_do_not_see_each_other_s_content_types() -> None:
    async def script() -> None:
        async with Engine.open(durability="memory", plugins=[Numbers]) as one, \
                Engine.open(durability="memory", plugins=[Words]) as two, \
                Engine.open(durability="memory") as bare:
            mine, theirs = one.registry.content_type("mine"), two.registry.content_type("mine")
            assert (mine.decode(b"3"), theirs.decode(b"3")) == (3, "3")
            assert mine.validate(3) and not theirs.validate(3)
            with pytest.raises(LookupError, match="no content type 'mine'"):
                bare.registry.content_type("mine")
            with pytest.raises(InvalidDiagram, match="mine"):
                await bare.start(loads(MINE))
            assert await (await one.start(loads(MINE))).result() == 3
            with pytest.raises(ExecutionFailed, match="content_type mine: a int is none"):
                await (await two.start(loads(MINE))).result()
            envelope = EnvelopeFactory.make("mine", 3, "a", {}, one.registry.content_type)
            data = envelope.to_dict(one.registry.content_type)
            assert Envelope.from_dict(data, one.registry.content_type).body == 3
            assert Envelope.from_dict(data, two.registry.content_type).body == "3"

    asyncio.run(script())
    assert "mine" not in ContentType.names()


def test_two_plugins_of_one_engine_can_not_have_one_content_type() -> None:
    with pytest.raises(PluginError, match="plugin Words@0: the content type 'mine' is that of plugin Numb"):
        PluginManager([Numbers, Words]).install(default_registry())


def handler() -> ContentHandler:
    return ContentHandler(str.encode, bytes.decode, lambda body: True)


def command() -> None: ...


@pytest.mark.parametrize(("hook", "given", "said"), [
    ("treadle_strategies", [default_registry().kind("start")], "there is a node type 'start' already"),
    ("treadle_strategies", ["start"], r"gave 'start', which has no `name`: it wants NodeKind"),
    ("treadle_strategies", "start", "treadle_strategies must give a list, not a str"),
    ("treadle_strategies", None, "treadle_strategies must give a list, not a NoneType"),
    ("treadle_transforms", {"select": print}, "there is a transform 'select' already: choose another"),
    ("treadle_transforms", {"mine": 3}, "the transform 'mine' is 3, not a function"),
    ("treadle_transforms", [print], "treadle_transforms must give a map by name, not a list"),
    ("treadle_content_types", {"object": handler()}, "the content type 'object' is registered already"),
    ("treadle_content_types", {"mine": print}, r"'mine' must be a ContentHandler\(encode, "),
    ("treadle_content_types", {"": handler()}, "a content type wants a name, not ''"),
])
def test_what_can_not_be_registered_is_said_with_the_plugin(hook: str, given: Any, said: str) -> None:
    adds = type("Adds", (StateHook,), {hook: lambda self: given})
    with pytest.raises(PluginError, match=rf"plugin Adds@0: .*{said}"):
        PluginManager([adds]).install(default_registry())


def test_two_stores_of_one_scheme_and_two_commands_of_one_name_are_refused() -> None:
    class One(StateHook):
        def treadle_secret_stores(self) -> Any:
            return {"a": dict}

        def treadle_commands(self) -> Any:
            return [command]

    class Two(One):
        pass

    assert PluginManager([One]).commands() == {"command": command}
    manager = PluginManager([One, Two])
    with pytest.raises(PluginError, match=r"plugin Two@0: there is a store of secrets 'a' already"):
        manager.secret_stores()
    with pytest.raises(PluginError, match=r"plugin Two@0: there is a command 'command' already"):
        manager.commands()


def test_a_transform_may_say_its_place_and_check_its_argument() -> None:
    class Adds(StateHook):
        def treadle_transforms(self) -> Any:
            return {"plus": PluginTransform(lambda value, more: value + more, precedence=5,
                                            check=lambda more: None if isinstance(more, int) else "a number")}

    registry = NodeRegistry()
    PluginManager([Adds]).install(registry)
    assert registry.transforms.names()[0] == "plus"
    assert registry.transforms.apply(1, [{"plus": 2}]) == 3
    assert list(registry.transforms.faults([{"plus": "x"}])) == [("transform plus: a number", None)]
    assert "plus" not in default_transforms().names()
