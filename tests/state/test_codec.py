"""The law of the codec: what is written comes back as it was, or is refused with a message that helps."""

from __future__ import annotations

import enum
import math
import subprocess
import sys
from collections import OrderedDict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from treadle.errors import NotDecodable, NotEncodable
from treadle.state import codec
from treadle.state._tags import NESTING_MAX
from treadle.state.cell import ErrorInfo, ItemError
from treadle.state.codec import decode, encode, register_encoder


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(enum.StrEnum):
    ANN = "ann"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


Point = namedtuple("Point", "x y")


@dataclass(frozen=True, slots=True)
class Frozen:
    a: Any


@dataclass
class Parsed:
    path: Path
    sizes: dict[str, int]
    inner: Frozen | None = None
    total: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = sum(self.sizes.values())


class Row(msgspec.Struct):
    a: Any
    b: int | msgspec.UnsetType = msgspec.UNSET


class Model(pydantic.BaseModel):
    when: datetime
    label: str = pydantic.Field(alias="Label", default="x")
    _hits: int = pydantic.PrivateAttr(default=4)


@dataclass
class Grown:
    """A class that has got fields since its values were recorded."""

    a: int
    tags: list[str] = field(default_factory=lambda: ["new"])
    level: int = 5
    seen: int = field(init=False)


class Settings(pydantic.BaseModel):
    name: str
    tags: list[str] = pydantic.Field(default_factory=lambda: ["new"])


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and other.cents == self.cents

    __hash__ = None  # type: ignore[assignment]


class Opaque:
    pass


def same(a: Any, b: Any) -> bool:
    """Equal, of the same type all the way down, NaN equal to itself and -0.0 different from 0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(type(x) is type(y) for x, y in zip(a, b)) \
            and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a == b and math.copysign(1, a) == math.copysign(1, b))
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Frozen):
        return same(a.a, b.a)
    if isinstance(a, Decimal):
        return str(a) == str(b)
    return bool(a == b)


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
keys = texts | st.sampled_from(["$treadle", "$", "v"])
plain = st.none() | st.booleans() | st.integers() | st.floats() | texts
scalars = (plain | st.binary(max_size=8) | st.datetimes() | st.datetimes(timezones=st.just(UTC))
           | st.datetimes(timezones=st.timezones()) | st.dates() | st.times() | st.timedeltas()
           | st.decimals()
           | st.uuids() | st.complex_numbers() | st.sampled_from([Colour.RED, Rights.READ | Rights.WRITE])
           | st.just(Path("/a/b")) | st.just(ItemError(3, ErrorInfo("ValueError", "boom"))))
hashable = st.none() | st.booleans() | st.integers() | texts | st.binary(max_size=4) | st.dates()
values = st.recursive(
    scalars | st.sets(hashable, max_size=3) | st.frozensets(hashable, max_size=3),
    lambda inner: (st.lists(inner, max_size=4) | st.lists(inner, max_size=3).map(tuple)
                   | st.dictionaries(keys, inner, max_size=3)
                   | st.dictionaries(hashable | st.tuples(hashable), inner, max_size=3)
                   | st.builds(Frozen, inner)),
    max_leaves=12)


@given(values)
def test_what_is_written_comes_back_as_it_was(value: Any) -> None:
    assert same(value, decode(encode(value)))


@given(st.recursive(plain, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8))
def test_plain_values_are_plain_json(value: Any) -> None:
    if "nan" not in repr(value) and "inf" not in repr(value) and "$treadle" not in repr(value):
        assert encode(value) == msgspec.json.encode(value)


@given(values)
def test_equal_values_are_equal_bytes_each_time(value: Any) -> None:
    assert encode(value) == encode(decode(encode(value)))


@pytest.mark.parametrize("value", [
    2**63, -2**64, 10**40, True, 1.0, -0.0, 1e22, 5e-324, "", "\0", [], {}, [[]],
    (1, (2,)), {"$treadle": 1}, {"$treadle": (1,)}, {"$": "tuple", "v": [1]}, {"a": {"$": ()}},
    {1: "int", "1": "str"},
    {True: 1, None: 2, 1.5: 3}, {(1, 2): 3}, {b"k": 1}, b"", {"s": {3, "x", None}},
    frozenset({frozenset({1})}),
    datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=ZoneInfo("Europe/Berlin")),
    datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=-3, seconds=1))), date.max,
    time(1, 2, 3, 4, tzinfo=ZoneInfo("Asia/Tokyo")), timedelta.min, Decimal("1.50"),
    Decimal("sNaN"), UUID(int=7),
    1j, PurePosixPath("a"), PureWindowsPath("c:\\x"), Path("a/../b"), Colour.RED, Rights.READ | Rights.WRITE,
    Point(1, b"y"), Frozen((1,)), Parsed(Path("x"), {"a": 3}, Frozen({1})), ErrorInfo("E", "m", "t", "n"),
    [ItemError(0, ErrorInfo("E", "m"))],
])
def test_single_values(value: Any) -> None:
    assert same(decode(encode(value)), value)


def test_integers_longer_than_python_prints() -> None:
    assert decode(encode(10**5000)) == 10**5000


def test_structs_and_models_come_back_whole() -> None:
    assert decode(encode(Row((1,)))) == Row((1,))
    model = Model(when=datetime(2026, 1, 1), Label="y")
    back = decode(encode({"m": model}))["m"]
    assert back == model and back.model_fields_set == {"when", "label"} and back._hits == 4


@pytest.mark.parametrize("value", [
    numpy.float64(1.5), numpy.float64("nan"), numpy.float32(0.1), numpy.int8(-3), numpy.uint64(2**64 - 1),
    numpy.bool_(True), numpy.complex128(1 + 2j), numpy.datetime64("2026-01-01"), numpy.longdouble("0.1"),
])
def test_numpy_scalars_keep_their_type(value: Any) -> None:
    back = decode(encode([value]))[0]
    assert type(back) is type(value) and back.tobytes() == value.tobytes()


def test_numpy_arrays() -> None:
    value = numpy.arange(6, dtype="<i2").reshape(2, 3)
    back = decode(encode({"a": value}))["a"]
    assert back.dtype == value.dtype and back.shape == (2, 3) and (back == value).all()
    back[0, 0] = 9  # a copy of its own


@pytest.mark.parametrize(("value", "back"), [
    (Level.HIGH, 3), (Name.ANN, "ann"), ([Name.ANN, (1,)], ["ann", (1,)]),
    (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
    (bytearray(b"x"), b"x"), (numpy.str_("s"), "s"), ({Name.ANN: (1,)}, {"ann": (1,)}),
])
def test_subclasses_of_plain_types_come_back_plain(value: Any, back: Any) -> None:
    assert same(decode(encode(value)), back)


def test_a_local_named_tuple_is_a_tuple() -> None:
    local = namedtuple("local", "a")
    assert same(decode(encode(local(1))), (1,))


# what can't be written


@pytest.mark.parametrize(("value", "place", "kind"), [
    ({"rows": [1, 2, 3, Opaque()]}, "result['rows'][3]", "Opaque"),
    (Frozen({"x": (print,)}), "result.a['x'][0]", "builtin_function_or_method"),
    (iter([]), "result ", "list_iterator"),
    ({(1,): Opaque()}, "result[(1,)]", "Opaque"),
    ({"s": {Opaque()}}, "result['s']{…}", "Opaque"),
    (numpy.array([object()]), "result ", "numpy.ndarray"),
])
def test_what_cannot_be_written_is_named_with_its_place(value: Any, place: str, kind: str) -> None:
    with pytest.raises(NotEncodable) as caught:
        encode(value)
    message = str(caught.value)
    assert message.startswith(place) and kind in message and "treadle.register_encoder(" in message


@pytest.mark.parametrize("value", [{"k": ["\ud800"]}, {"\ud800": 1}, ("a\udcff",), Path("a\udcff")])
def test_a_lone_surrogate_says_what_it_is(value: Any) -> None:
    with pytest.raises(NotEncodable, match="lone surrogate"):
        encode(value)


def test_what_contains_itself_or_is_too_deep() -> None:
    loop: list[Any] = []
    loop.append(loop)
    deep: Any = ()
    for _ in range(5000):
        deep = (deep,)
    for value in (loop, deep, {"a": loop}):
        with pytest.raises(NotEncodable, match="contains itself"):
            encode(value)


def test_values_nest_as_deep_as_is_said() -> None:
    class Box:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

    def boxed(levels: int) -> Any:
        return Box(boxed(levels - 1)) if levels else "inmost"

    register_encoder(Box, "box", lambda box: box.inner, Box)
    found = decode(encode(boxed(NESTING_MAX)))
    for _ in range(NESTING_MAX):
        found = found.inner
    assert found == "inmost"
    with pytest.raises(NotEncodable, match=f"nested deeper than {NESTING_MAX} levels"):
        encode(boxed(NESTING_MAX + 1))


def test_a_class_in_a_function_must_move_or_be_registered() -> None:
    @dataclass
    class Local:
        a: int

    with pytest.raises(NotEncodable, match="top level of its module"):
        encode(Local(1))


def test_an_equality_that_raises_does_no_harm() -> None:
    @dataclass
    class Touchy:
        a: int

        def __eq__(self, other: object) -> bool:
            raise RuntimeError("don't compare me")

    with pytest.raises(NotEncodable):
        encode([Touchy(1)])


# what can't be read


@pytest.mark.parametrize("raw", [
    b"", b"{", b"\xff", b'{"$treadle":{"$":"no such tag"}}', b'{"$treadle":{"$":[]}}',
    b'{"$treadle":{"$":"tuple"}}',
    b'{"$treadle":{"$":"datetime","v":"yesterday"}}', b'{"$treadle":{"$":"registered","t":"nobody","v":1}}',
])
def test_damaged_bytes(raw: bytes) -> None:
    with pytest.raises(NotDecodable):
        decode(raw)


def test_bytes_that_are_nested_deeply_are_read_or_refused() -> None:
    """Which of the two is the interpreter's choice; it must not fall over."""
    try:
        found = decode(b"[" * 5000 + b"]" * 5000)
    except NotDecodable:
        return
    assert len(found) == 1


def test_a_class_that_has_changed() -> None:
    raw = encode(Frozen(1))
    with pytest.raises(NotDecodable, match=r"Frozen can't be made again: .* has no 'b'"):
        decode(raw.replace(b'"a":1', b'"a":1,"b":2'))
    with pytest.raises(NotDecodable, match="no 'a'"):
        decode(raw.replace(b'"a":1', b""))


def test_a_dataclass_that_has_grown_gets_its_defaults() -> None:
    raw = encode(Grown(1, ["old"], 6))
    first, second = (decode(raw.replace(b',"tags":["old"],"level":6', b"")) for _ in range(2))
    assert (first.a, first.tags, first.level) == (1, ["new"], 5) and first.tags is not second.tags
    assert not hasattr(first, "seen"), "what `__init__` doesn't take and nobody had set stays unset"
    with pytest.raises(NotDecodable, match="the recorded value has no 'a'"):
        decode(raw.replace(b'"a":1,', b""))


def test_a_model_that_has_changed() -> None:
    raw = encode(Settings(name="x", tags=["old"]))
    assert decode(raw) == Settings(name="x", tags=["old"])
    grown = decode(raw.replace(b',"tags":["old"]', b""))
    assert (grown.name, grown.tags) == ("x", ["new"])
    with pytest.raises(NotDecodable, match=r"Settings can't be made again: .* has no 'name'"):
        decode(raw.replace(b'"name":"x",', b""))
    with pytest.raises(NotDecodable, match="the class has no 'other'"):
        decode(raw.replace(b'"name":"x"', b'"name":"x","other":1'))


@pytest.mark.parametrize(("value", "back"), [
    (Colour.RED, "red"), (Frozen((1,)), {"a": (1,)}), (Row(5), {"a": 5}), (Point(1, 2), (1, 2)),
    (Settings(name="x"), {"name": "x", "tags": ["new"]}),
])
def test_a_class_whose_module_is_not_loaded_comes_back_as_plain_data(value: Any, back: Any) -> None:
    raw = encode([value]).replace(__name__.encode(), b"antigravity")
    assert same(decode(raw), [back]) and "antigravity" not in sys.modules


def test_numpy_values_come_back_plain_where_numpy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = encode([numpy.int8(-3), numpy.arange(3, dtype="u1")])
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert same(decode(raw), [-3, b"\x00\x01\x02"])


def test_data_never_imports_a_module() -> None:
    """In a process that has not loaded the module, the value is plain data; the module stays unloaded."""
    raw = encode([Frozen((1,)), Point(1, 2), Colour.RED, Row(5), Model(when=datetime(2026, 1, 1))])
    raw = raw.replace(__name__.encode(), b"antigravity")
    script = ("import sys; from treadle.state.codec import decode; print(decode(sys.stdin.buffer.read())); "
              "assert 'antigravity' not in sys.modules and 'pydantic' not in sys.modules")
    done = subprocess.run([sys.executable, "-c", script], input=raw, capture_output=True, check=True)
    assert done.stdout.decode().strip() == (
        "[{'a': (1,)}, (1, 2), 'red', {'a': 5}, {'when': datetime.datetime(2026, 1, 1, 0, 0), 'label': 'x'}]")


# registered types


def test_registered_types_and_their_subclasses() -> None:
    class Euro(Money):
        pass

    register_encoder(Money, "money", lambda money: money.cents, Money)
    register_encoder(Money, "money", lambda money: money.cents, Money)  # a module that is loaded again
    assert decode(encode({"price": Money(250)})) == {"price": Money(250)}
    assert type(decode(encode(Euro(1)))) is Money
    with pytest.raises(ValueError, match="taken by"):
        register_encoder(Opaque, "money", repr, eval)
    with pytest.raises(TypeError, match="wrap it in a dataclass"):
        register_encoder(OrderedDict, "ordered", list, OrderedDict)


def test_an_encoder_that_fails_is_named() -> None:
    class Broken:
        pass

    register_encoder(Broken, "broken", lambda value: 1 / 0, lambda data: Broken())
    with pytest.raises(NotEncodable, match=r"'broken' of .*Broken failed at result\[0\]: ZeroDivisionError"):
        encode([Broken()])


def test_an_importer_may_be_given_to_a_child() -> None:
    raw = encode(Frozen(1)).replace(__name__.encode(), b"elsewhere")
    try:
        codec.import_classes_with(lambda name: sys.modules[__name__] if name == "elsewhere" else None)
        assert decode(raw) == Frozen(1)
    finally:
        codec.import_classes_with(None)
    assert decode(raw) == {"a": 1}
