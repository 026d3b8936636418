"""What code sees of an execution's shared context: keys, snapshots, transactions, and maps of one kind of
names."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Protocol

import msgspec

from treadle.config import TreadleConfig
from treadle.errors import NotEncodable, TransactionError, did_you_mean
from treadle.state import codec

ARTIFACTS, VARIABLES, PLUGINS = "artifacts.", "variables.", "plugins."
KEY_CHARS_MAX = 300
_KEY = re.compile(r"(artifacts\.|variables\.|plugins\.[\w-]+\.).+", re.DOTALL)


@functools.lru_cache(maxsize=4096)
def space_of(key: str) -> str:
    """What a key begins with: `artifacts.`, `variables.` or `plugins.PLUGIN.`; ValueError if it is no key."""
    if not isinstance(key, str):
        raise TypeError(f"a key of the context is a text, 'variables.n', and {key!r:.80} is none")
    found = _KEY.fullmatch(key) if len(key) <= KEY_CHARS_MAX else None
    if found is None or not key.isprintable():
        hint = did_you_mean(key.partition(".")[0], ("artifacts", "variables", "plugins"))
        near = f" ({hint})" if hint and "." in key else ""
        raise ValueError(f"{key!r:.80} can't be a key of the context: write artifacts.NAME, variables.NAME "
                         f"or plugins.PLUGIN.NAME, at most {KEY_CHARS_MAX} printable characters{near}")
    return found[1]


class Draft(msgspec.Struct):
    """What a transaction asks to be committed. `since` is the moment that it read at; None: it read nothing,
    and nothing can contradict it."""

    writer: str
    since: Any
    reads: set[str]  # keys, found or not
    scans: set[str]  # spaces that were iterated over; "" for all
    writes: dict[str, bytes | None]  # encoded; None deletes


class Ground(Protocol):
    """What snapshots and transactions stand on: all of it may be called in any thread. One that has an `async
    def aside(function)`, too, is asked to call what ends an `async with`, which may take long."""

    @property
    def config(self) -> TreadleConfig: ...

    def moment(self) -> Any:
        """The state as of now. What it needs is kept as long as the object lives."""

    def raw(self, moment: Any, key: str) -> bytes | None:
        """An encoded value as of a moment (None: now), or None."""

    def keys(self, moment: Any, space: str) -> list[str]:
        """The keys of a space as of a moment (None: now), in the order in which they came; "" for all."""

    def commit(self, draft: Draft) -> None:
        """Write all of a draft or nothing. WriteConflict, MutationVetoed, TransactionError,
        LimitExceeded."""


class _Source(Protocol):
    """A mapping of whole keys that can list those of a space."""

    def __getitem__(self, key: str) -> Any: ...
    def __contains__(self, key: object) -> bool: ...
    def names(self, space: str) -> list[str]: ...


def key_in(space: str, name: object) -> str:
    """The whole key of a name in a space; TypeError for what is no text."""
    if not isinstance(name, str):
        raise TypeError(f"a name in the context is a text, and {name!r:.80} is none: write "
                        f"{space.removesuffix('.')}[{str(name)!r:.80}]")
    return space + name


class View(Mapping[str, Any]):
    """The names of one space in a snapshot or transaction, to read only. Values are decoded when asked
    for."""

    __slots__ = ("_source", "_space")

    def __init__(self, source: _Source, space: str) -> None:
        self._source, self._space = source, space

    def __getitem__(self, name: str) -> Any:
        try:
            return self._source[key_in(self._space, name)]
        except KeyError:
            raise KeyError(name) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._space + name in self._source

    def __iter__(self) -> Iterator[str]:
        start = len(self._space)
        return iter([key[start:] for key in self._source.names(self._space)])

    def __len__(self) -> int:
        return len(self._source.names(self._space))

    def __repr__(self) -> str:
        return f"{self._space.rstrip('.')}: {dict(self)!r}"


codec.register_encoder(View, "context", dict, lambda names: names)


class Snapshot(Mapping[str, Any]):
    """The whole context as it was at one moment: whatever is committed later, it stays as it is. Its keys
    are whole (`variables.n`); values are decoded when asked for, each time afresh."""

    __slots__ = ("_ground", "_moment")

    def __init__(self, ground: Ground) -> None:
        self._ground, self._moment = ground, ground.moment()

    def __getitem__(self, key: str) -> Any:
        raw = self._ground.raw(self._moment, key)
        if raw is None:
            space_of(key)
            raise KeyError(key)
        return codec.decode(raw)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._ground.raw(self._moment, key) is not None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names(""))

    def __len__(self) -> int:
        return len(self.names(""))

    def names(self, space: str) -> list[str]:
        """The keys of a space."""
        return self._ground.keys(self._moment, space)

    @property
    def artifacts(self) -> Mapping[str, Any]:
        return View(self, ARTIFACTS)

    @property
    def variables(self) -> Mapping[str, Any]:
        return View(self, VARIABLES)

    def plugin(self, name: str) -> Mapping[str, Any]:
        """The data of one plugin."""
        return View(self, plugin_space(name))


class Part(View, MutableMapping[str, Any]):
    """The names of one space within a transaction."""

    __slots__ = ()
    _source: Transaction

    def __setitem__(self, name: str, value: Any) -> None:
        self._source[key_in(self._space, name)] = value

    def __delitem__(self, name: str) -> None:
        try:
            del self._source[key_in(self._space, name)]
        except KeyError:
            raise KeyError(name) from None


_open: ContextVar[Transaction | None] = ContextVar("treadle_transaction", default=None)


class Transaction(MutableMapping[str, Any]):
    """A map of whole keys that reads as of its beginning, and its own writes. For one `with` or `async with`,
    at whose end all writes are committed, or, if the block raises, none.

    The first to commit wins: WriteConflict at the end of the block if a key that it read, wrote or found
    missing, or a space that it iterated over, was changed meanwhile. One that writes nothing never fails.
    """

    __slots__ = ("_draft", "_ground", "_state", "writer")

    def __init__(self, ground: Ground, writer: str) -> None:
        self._ground, self.writer = ground, writer
        self._draft = Draft(writer, None, set(), set(), {})
        self._state = "not begun"

    def __enter__(self) -> Transaction:
        if self._state != "not begun":
            raise TransactionError(f"this transaction is {self._state}: make a new one for each `with`")
        refuse_inside(self._ground, "a transaction")
        self._draft.since = self._ground.moment()
        self._state = "open"
        _open.set(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 traceback: TracebackType | None) -> None:
        _open.set(None)
        draft, self._draft = self._draft, Draft(self.writer, None, set(), set(), {})
        self._state = "over"
        if kind is None and draft.writes:
            self._ground.commit(draft)

    @property
    def is_open(self) -> bool:
        return self._state == "open"

    async def __aenter__(self) -> Transaction:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None,
                        traceback: TracebackType | None) -> None:
        """As `with`; but where others are asked before a commit, the event loop goes on meanwhile."""
        aside = getattr(self._ground, "aside", None)
        if aside is None:
            self.__exit__(kind, error, traceback)
            return
        _open.set(None)  # it may be done in another context
        await aside(functools.partial(self.__exit__, kind, error, traceback))

    def stands_on(self, ground: Ground) -> bool:
        """Whether it is a transaction of that context."""
        return self._ground is ground

    def __getitem__(self, key: str) -> Any:
        raw = self._raw(key)
        if raw is None:
            raise KeyError(key)
        return codec.decode(raw)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._raw(key) is not None

    def __setitem__(self, key: str, value: Any) -> None:
        self._check()
        self._draft.writes[key] = encoded(key, value, self._ground.config)

    def __delitem__(self, key: str) -> None:
        if self._raw(key) is None:
            raise KeyError(key)
        self._draft.writes[key] = None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names(""))

    def __len__(self) -> int:
        return len(self.names(""))

    def names(self, space: str) -> list[str]:
        """The keys of a space, its own writes included."""
        self._check()
        draft = self._draft
        draft.scans.add(space)
        found = dict.fromkeys(self._ground.keys(draft.since, space))
        for key, raw in draft.writes.items():
            if raw is None:
                found.pop(key, None)
            elif key.startswith(space):
                found[key] = None
        return list(found)

    @property
    def artifacts(self) -> MutableMapping[str, Any]:
        return Part(self, ARTIFACTS)

    @property
    def variables(self) -> MutableMapping[str, Any]:
        return Part(self, VARIABLES)

    def plugin(self, name: str) -> MutableMapping[str, Any]:
        """The data of one plugin."""
        return Part(self, plugin_space(name))

    def _raw(self, key: str) -> bytes | None:
        self._check()
        draft = self._draft
        if key in draft.writes:
            return draft.writes[key]
        space_of(key)
        draft.reads.add(key)
        return self._ground.raw(draft.since, key)

    def _check(self) -> None:
        if self._state != "open":
            raise TransactionError(f"this transaction is {self._state}: use it within its `with` block")


def plugin_space(name: str) -> str:
    """The space of a plugin; ValueError for a name that can't be one."""
    space_of(f"{PLUGINS}{name}.x")
    return f"{PLUGINS}{name}."


def encoded(key: str, value: Any, config: TreadleConfig) -> bytes:
    """A value as it is kept. ValueError for a bad key, NotEncodable, LimitExceeded."""
    space_of(key)
    try:
        raw = codec.encode(value)
    except NotEncodable as error:
        raise NotEncodable(f"the value of {key!r} can't be written down: {error}") from None
    if len(raw) > config.context_value_bytes_max:
        raise config.exceeded("context_value_bytes_max", f"the value of {key!r} has {len(raw)} bytes: put it "
                              "into a blob, context.blob(…), and keep that here")
    return raw


def refuse_inside(ground: Ground, what: str) -> None:
    """TransactionError if this code is within a transaction of the same context."""
    outer = _open.get()
    if outer is not None and outer.is_open and outer.stands_on(ground):
        raise TransactionError(f"{what} within an open transaction: write to that one instead "
                               "(tx.variables[…] = …), or end it before")


def tree_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """Whole keys as a tree: `{"artifacts": {…}, "variables": {…}, "plugins": {PLUGIN: {…}}}`."""
    tree: dict[str, Any] = {"artifacts": {}, "variables": {}, "plugins": {}}
    for key, value in values.items():
        space = space_of(key)
        place = tree[space.partition(".")[0]]
        if space.startswith(PLUGINS):
            place = place.setdefault(space[len(PLUGINS):-1], {})
        place[key[len(space):]] = value
    return tree
